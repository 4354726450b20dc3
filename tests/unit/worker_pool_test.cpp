#include <algorithm>
#include <latch>
#include <optional>
#include <semaphore>
#include <set>

#include "tests/catch.h"
#include "worker/pool/fixed_pool.h"

using namespace millrace;
using namespace millrace::worker;
using namespace std::chrono_literals;

namespace {

constexpr auto kDeadline = 30s;  // of waits that only a bug lets run out

class CallHandler : public Handler {
 public:
  explicit CallHandler(std::function<void(const Job&)> call) : call_(std::move(call)) {}
  Completion run(const JobContext& context) override {
    call_(context.job);
    return Completion::done(std::string(context.job.payload));
  }

 private:
  std::function<void(const Job&)> call_;
};

Job job_number(uint64_t number, uint16_t queue = 0) {
  Job job;
  job.lease = {{number}, {number}};
  job.queue = queue;
  return job;
}

std::vector<Job> jobs_between(uint64_t first, uint64_t last) {
  std::vector<Job> jobs;
  for (uint64_t i = first; i <= last; ++i) jobs.push_back(job_number(i));
  return jobs;
}

// Lets a blocked job end when a test does, however it does.
class OpenAtEnd {
 public:
  explicit OpenAtEnd(std::latch& latch) : latch_(latch) {}
  ~OpenAtEnd() {
    if (!latch_.try_wait()) latch_.count_down();
  }

 private:
  std::latch& latch_;
};

// A pool whose jobs run a function, and that counts what its listener is told.
class PoolUnderTest {
 public:
  PoolUnderTest(size_t threads, std::function<void(const Job&)> call) {
    handlers_.push_back({"q", std::make_unique<CallHandler>(std::move(call))});
    pool.emplace(threads, handlers_, stop, [this] {
      ++told;
      heard_.release();
    });
  }
  ~PoolUnderTest() { stop.set(); }

  // The ends of so many jobs.
  std::vector<Finished> collect(size_t count) {
    std::vector<Finished> all;
    while (all.size() < count) {
      REQUIRE(heard_.try_acquire_for(kDeadline));
      for (Finished& end : pool->collect()) all.push_back(std::move(end));
    }
    return all;
  }

  StopSignal stop;
  std::atomic<int> told{0};

 private:
  std::vector<QueueHandler> handlers_;
  std::counting_semaphore<> heard_{0};

 public:
  std::optional<FixedPool> pool;
};

}  // namespace

TEST_CASE("every job runs once, and its end is collected once", "[pool]") {
  constexpr uint64_t kJobs = 20'000;
  std::atomic<uint64_t> sum{0};
  PoolUnderTest it(4, [&sum](const Job& job) { sum += job.lease.job.value; });
  for (uint64_t first = 1; first <= kJobs; first += 100)
    it.pool->submit(jobs_between(first, first + 99));
  std::set<uint64_t> ended;
  for (const Finished& end : it.collect(kJobs)) ended.insert(end.lease.job.value);
  CHECK(ended.size() == kJobs);
  CHECK(sum == kJobs * (kJobs + 1) / 2);
  CHECK(it.pool->collect().empty());
}

TEST_CASE("one thread runs jobs in their order, and measures each", "[pool]") {
  std::vector<uint64_t> order;
  PoolUnderTest it(1, [&order](const Job& job) { order.push_back(job.lease.job.value); });
  it.pool->submit(jobs_between(1, 500));
  uint64_t next = 1;
  for (const Finished& end : it.collect(500)) {
    CHECK(end.lease.job.value == next++);
    CHECK(end.run.count() >= 0);
  }
  CHECK(order.size() == 500);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("each queue has its own handler", "[pool]") {
  std::atomic<int> first{0}, second{0};
  StopSignal stop;
  std::vector<QueueHandler> handlers;
  handlers.push_back({"a", std::make_unique<CallHandler>([&](const Job&) { ++first; })});
  handlers.push_back({"b", std::make_unique<CallHandler>([&](const Job&) { ++second; })});
  std::counting_semaphore<> heard{0};
  FixedPool pool(2, handlers, stop, [&heard] { heard.release(); });
  pool.submit({job_number(1, 0), job_number(2, 1), job_number(3, 1)});
  for (size_t ended = 0; ended < 3; ended += pool.collect().size())
    REQUIRE(heard.try_acquire_for(kDeadline));
  CHECK(first == 1);
  CHECK(second == 2);
}

TEST_CASE("the listener is told once for all that it has not collected", "[pool]") {
  std::latch third_runs(1), go_on(1);
  PoolUnderTest it(1, [&](const Job& job) {
    if (job.lease.job.value != 3) return;
    third_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 3));
  third_runs.wait();
  CHECK(it.told == 1);
  CHECK(it.collect(2).size() == 2);
  go_on.count_down();
  CHECK(it.collect(1).size() == 1);
  CHECK(it.told == 2);
}

TEST_CASE("a slow job holds up nothing that was taken together with it", "[pool]") {
  constexpr uint64_t kWarmUp = 2'000;  // until the threads know that their jobs are tiny
  constexpr uint64_t kSlowJob = kWarmUp + 1;
  constexpr uint64_t kJobs = 640;
  std::latch go_on(1);
  PoolUnderTest it(2, [&](const Job& job) {
    if (job.lease.job.value == kSlowJob) go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, kWarmUp));
  it.collect(kWarmUp);
  it.pool->submit(jobs_between(kSlowJob, kSlowJob + kJobs));
  CHECK(it.collect(kJobs).size() == kJobs);  // all but the slow one
  go_on.count_down();
  auto last = it.collect(1);
  CHECK(last.at(0).lease.job.value == kSlowJob);
}

TEST_CASE("what stands behind a slow job does not wait for the end of a backlog", "[pool]") {
  constexpr uint64_t kWarmUp = 2'000, kGate = kWarmUp + 1, kSlowJob = kGate + 1, kBehind = 31;
  constexpr uint64_t kBacklog = 5'000;  // of 5 us: 25 times as long as a job may hold others up
  std::latch gate_runs(1), gate_open(1), slow_runs(1), go_on(1);
  std::atomic<uint64_t> backlog_ran{0}, backlog_before{kBacklog};
  PoolUnderTest it(2, [&](const Job& job) {
    uint64_t number = job.lease.job.value;
    if (number == kGate) gate_runs.count_down(), gate_open.wait();
    if (number == kSlowJob) slow_runs.count_down(), go_on.wait();
    if (number == kSlowJob + 1) backlog_before = backlog_ran.load();
    if (number <= kSlowJob + kBehind) return;
    ++backlog_ran;
    for (auto end = std::chrono::steady_clock::now() + 5us;
         std::chrono::steady_clock::now() < end;) {
    }
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, kWarmUp));
  it.collect(kWarmUp);
  it.pool->submit(jobs_between(kGate, kGate));
  gate_runs.wait();
  it.pool->submit(jobs_between(kSlowJob, kSlowJob + kBehind));
  slow_runs.wait();
  it.pool->submit(jobs_between(kSlowJob + kBehind + 1, kSlowJob + kBehind + kBacklog));
  gate_open.count_down();
  it.collect(1 + kBehind + kBacklog);
  CHECK(backlog_before < kBacklog);
  go_on.count_down();
}

TEST_CASE("what is forgotten does not start, and only that", "[pool]") {
  std::latch first_runs(1), go_on(1);
  std::vector<uint64_t> ran;
  PoolUnderTest it(1, [&](const Job& job) {
    ran.push_back(job.lease.job.value);
    if (job.lease.job.value != 1) return;
    first_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 1));
  first_runs.wait();
  it.pool->submit(jobs_between(2, 5));
  it.pool->forget({{{1}, {1}}, {{2}, {2}}, {{4}, {3}}, {{5}, {5}}});
  go_on.count_down();
  it.collect(3);
  CHECK(ran == std::vector<uint64_t>{1, 3, 4});
}

TEST_CASE("what waits can be taken out, and does not start", "[pool]") {
  std::latch first_runs(1), go_on(1);
  std::atomic<int> ran{0};
  PoolUnderTest it(1, [&](const Job&) {
    ++ran;
    first_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 1));
  first_runs.wait();
  it.pool->submit(jobs_between(2, 4));
  auto waiting = it.pool->take_waiting();
  REQUIRE(waiting.size() == 3);
  CHECK(waiting[0] == protocol::Lease{{2}, {2}});
  CHECK(waiting[2] == protocol::Lease{{4}, {4}});
  go_on.count_down();
  it.collect(1);
  CHECK(it.pool->take_waiting().empty());
  CHECK(ran == 1);
}

TEST_CASE("nothing starts that waits on a bench when everything is taken out", "[pool]") {
  constexpr uint64_t kWarmUp = 2'000, kSlowJob = kWarmUp + 1;
  std::latch slow_runs(1), go_on(1);
  std::atomic<int> late{0};
  PoolUnderTest it(1, [&](const Job& job) {
    if (job.lease.job.value > kSlowJob) ++late;
    if (job.lease.job.value != kSlowJob) return;
    slow_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, kWarmUp));
  it.collect(kWarmUp);
  it.pool->submit(jobs_between(kSlowJob, kSlowJob + 30));
  slow_runs.wait();
  CHECK(it.pool->take_waiting().size() == 30);
  go_on.count_down();
  it.collect(1);
  CHECK(late == 0);
}

TEST_CASE("a pool ends without running what waits", "[pool]") {
  std::latch first_runs(1);
  std::atomic<int> ran{0};
  std::optional<PoolUnderTest> it;
  it.emplace(1, [&](const Job&) {
    ++ran;
    first_runs.count_down();
    it->stop.sleep_for(1h);
  });
  it->pool->submit(jobs_between(1, 10));
  first_runs.wait();
  it->stop.set();
  it->pool.reset();
  CHECK(ran <= 10);
  CHECK(ran >= 1);
}

TEST_CASE("a payload's frame is let go once its jobs have run", "[pool]") {
  auto frame = std::make_shared<std::string>("payload");
  std::weak_ptr<std::string> watch = frame;
  PoolUnderTest it(2, [](const Job&) {});
  Job job = job_number(1);
  job.payload = *frame;
  job.frame = std::move(frame);
  std::vector<Job> jobs;
  jobs.push_back(job);
  jobs.push_back(std::move(job));
  it.pool->submit(std::move(jobs));
  auto ends = it.collect(2);
  CHECK(ends[0].completion.text == "payload");
  it.pool.reset();
  CHECK(watch.expired());
}
