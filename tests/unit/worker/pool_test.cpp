// The pool with a fixed number of threads: order, benches, what a slow job must not hold up.
#include <set>

#include "tests/unit/worker/pool_harness.h"
#include "worker/pool/fixed_pool.h"

using namespace millrace;
using namespace millrace::worker;
using namespace std::chrono_literals;

TEST_CASE("every job runs once, and its end is collected once", "[pool]") {
  constexpr uint64_t kJobs = 20'000;
  std::atomic<uint64_t> sum{0};
  PoolUnderTest it("fixed:4",
                   [&sum](const JobContext& context) { sum += context.job.lease.job.value; });
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
  PoolUnderTest it("fixed:1", [&order](const JobContext& context) {
    order.push_back(context.job.lease.job.value);
  });
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
  std::vector<QueueHandler> handlers;
  handlers.push_back({"a", std::make_unique<CallHandler>([&](const JobContext&) { ++first; })});
  handlers.push_back({"b", std::make_unique<CallHandler>([&](const JobContext&) { ++second; })});
  std::counting_semaphore<> heard{0};
  FixedPool pool({handlers, [&heard] { heard.release(); }, {}}, 2);
  pool.submit({job_number(1, 0), job_number(2, 1), job_number(3, 1)});
  for (size_t ended = 0; ended < 3; ended += pool.collect().size())
    REQUIRE(heard.try_acquire_for(kPoolDeadline));
  CHECK(first == 1);
  CHECK(second == 2);
}

TEST_CASE("the listener is told once for all that it has not collected", "[pool]") {
  std::latch third_runs(1), go_on(1);
  PoolUnderTest it("fixed:1", [&](const JobContext& context) {
    if (context.job.lease.job.value != 3) return;
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
  PoolUnderTest it("fixed:2", [&](const JobContext& context) {
    if (context.job.lease.job.value == kSlowJob) go_on.wait();
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
  PoolUnderTest it("fixed:2", [&](const JobContext& context) {
    uint64_t number = context.job.lease.job.value;
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
  PoolUnderTest it("fixed:1", [&](const JobContext& context) {
    ran.push_back(context.job.lease.job.value);
    if (context.job.lease.job.value != 1) return;
    first_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 1));
  first_runs.wait();
  it.pool->submit(jobs_between(2, 5));
  it.pool->forget({{{1}, {1}}, {{2}, {2}}, {{4}, {3}}, {{5}, {5}}}, 0);
  go_on.count_down();
  it.collect(3);
  CHECK(ran == std::vector<uint64_t>{1, 3, 4});
}

TEST_CASE("of the jobs asked for, those that wait are taken out", "[pool]") {
  std::latch first_runs(1), go_on(1);
  std::vector<uint64_t> ran;
  PoolUnderTest it("fixed:1", [&](const JobContext& context) {
    ran.push_back(context.job.lease.job.value);
    if (context.job.lease.job.value != 1) return;
    first_runs.count_down();
    go_on.wait();
    CHECK_FALSE(context.stop.is_set());
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 1));
  first_runs.wait();
  it.pool->submit(jobs_between(2, 5));
  const std::vector<protocol::Lease> asked{{{4}, {4}}, {{1}, {1}}, {{5}, {9}}, {{2}, {2}}};
  CHECK(it.pool->take(asked, 1).empty());  // another broker's
  CHECK(it.pool->take(asked, 0) == std::vector<protocol::Lease>{{{2}, {2}}, {{4}, {4}}});
  CHECK(it.pool->stats().waiting == 2);
  go_on.count_down();
  it.collect(3);
  CHECK(ran == std::vector<uint64_t>{1, 3, 5});
}

TEST_CASE("what waits can be taken out, and does not start", "[pool]") {
  std::latch first_runs(1), go_on(1);
  std::atomic<int> ran{0};
  PoolUnderTest it("fixed:1", [&](const JobContext&) {
    ++ran;
    first_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 1));
  first_runs.wait();
  it.pool->submit(jobs_between(2, 4));
  auto waiting = it.pool->take_waiting(0);
  REQUIRE(waiting.size() == 3);
  CHECK(waiting[0] == protocol::Lease{{2}, {2}});
  CHECK(waiting[2] == protocol::Lease{{4}, {4}});
  go_on.count_down();
  it.collect(1);
  CHECK(it.pool->take_waiting(0).empty());
  CHECK(ran == 1);
}

TEST_CASE("jobs of two brokers with the same numbers are told apart", "[pool]") {
  std::latch first_runs(1), go_on(1);
  std::atomic<bool> told{false};
  PoolUnderTest it("fixed:1", [&](const JobContext& context) {
    if (context.job.lease.job.value != 1) return;
    first_runs.count_down();
    go_on.wait();
    told = context.stop.is_set();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 1));
  first_runs.wait();
  auto others = jobs_between(1, 3);
  for (Job& job : others) job.source = 1;
  it.pool->submit(jobs_between(2, 3));
  it.pool->submit(others);
  it.pool->forget({{{1}, {1}}, {{2}, {2}}}, 1);  // one runs under this number, another broker's
  auto waiting = it.pool->take_waiting(1);
  CHECK(waiting == std::vector<protocol::Lease>{{{3}, {3}}});
  go_on.count_down();
  auto ends = it.collect(3);
  CHECK(!told);
  for (const Finished& end : ends) CHECK(end.source == 0);
}

TEST_CASE("nothing starts that waits on a bench when everything is taken out", "[pool]") {
  constexpr uint64_t kWarmUp = 2'000, kSlowJob = kWarmUp + 1;
  std::latch slow_runs(1), go_on(1);
  std::atomic<int> late{0};
  PoolUnderTest it("fixed:1", [&](const JobContext& context) {
    if (context.job.lease.job.value > kSlowJob) ++late;
    if (context.job.lease.job.value != kSlowJob) return;
    slow_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, kWarmUp));
  it.collect(kWarmUp);
  it.pool->submit(jobs_between(kSlowJob, kSlowJob + 30));
  slow_runs.wait();
  CHECK(it.pool->take_waiting(0).size() == 30);
  go_on.count_down();
  it.collect(1);
  CHECK(late == 0);
}

TEST_CASE("a pool ends without running what waits", "[pool]") {
  std::latch first_runs(1);
  std::atomic<int> ran{0};
  std::optional<PoolUnderTest> it;
  it.emplace("fixed:1", [&](const JobContext& context) {
    ++ran;
    first_runs.count_down();
    context.stop.sleep_for(1h);
  });
  it->pool->submit(jobs_between(1, 10));
  first_runs.wait();
  it->pool->stop();
  it->pool.reset();
  CHECK(ran <= 10);
  CHECK(ran >= 1);
}

TEST_CASE("a payload's frame is let go once its jobs have run", "[pool]") {
  auto frame = std::make_shared<std::string>("payload");
  std::weak_ptr<std::string> watch = frame;
  PoolUnderTest it("fixed:2", [](const JobContext&) {});
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
