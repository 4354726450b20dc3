// What holds for all pools, and what tells them apart.
#include <set>
#include <stdexcept>
#include <thread>

#include "tests/unit/worker/pool_harness.h"
#include "worker/pool/auto_pool.h"

using namespace millrace;
using namespace millrace::worker;
using namespace std::chrono_literals;

namespace {

std::string any_pool() { return GENERATE("single", "per-job", "per-job:3", "fixed:3", "auto:1-4"); }
std::string many_threads() { return GENERATE("per-job", "per-job:3", "fixed:3", "auto:2-4"); }

Mono now() { return std::chrono::steady_clock::now(); }

// Waits for the threads, not for time: what it waits for happens by itself.
template <typename Condition>
bool soon(Condition condition) {
  for (Mono end = now() + kPoolDeadline; !condition(); std::this_thread::yield()) {
    if (now() > end) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("in every pool each job runs once and comes back once", "[pool]") {
  constexpr uint64_t kJobs = 2'000;
  std::atomic<uint64_t> sum{0};
  PoolUnderTest it(any_pool(),
                   [&](const JobContext& context) { sum += context.job.lease.job.value; });
  for (uint64_t first = 1; first <= kJobs; first += 100)
    it.pool->submit(jobs_between(first, first + 99));
  std::set<uint64_t> ended;
  for (const Finished& end : it.collect(kJobs)) {
    ended.insert(end.lease.job.value);
    CHECK(end.run >= 0ns);
    CHECK(end.wait >= 0ns);
  }
  CHECK(ended.size() == kJobs);
  CHECK(sum == kJobs * (kJobs + 1) / 2);
  CHECK(it.pool->collect().empty());
}

TEST_CASE("one slow job delays all behind it in a single thread, and none in a pool", "[pool]") {
  constexpr uint64_t kJobs = 300, kSlow = 1;
  auto spec = any_pool();
  std::latch slow_runs(1), go_on(1);
  PoolUnderTest it(spec, [&](const JobContext& context) {
    if (context.job.lease.job.value != kSlow) return;
    slow_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(kSlow, kSlow));
  slow_runs.wait();
  it.pool->submit(jobs_between(kSlow + 1, kJobs));
  if (spec == "single") {
    CHECK(it.pool->collect().empty());
    CHECK(it.pool->stats().waiting == kJobs - 1);
    go_on.count_down();
    CHECK(it.collect(kJobs).at(0).lease.job.value == kSlow);
  } else {
    CHECK(it.collect(kJobs - 1).size() == kJobs - 1);
    CHECK(it.pool->stats().busy == 1);
    go_on.count_down();
    CHECK(it.collect(1).at(0).lease.job.value == kSlow);
  }
}

TEST_CASE("a thread for each job: as many threads as jobs, up to the limit", "[pool]") {
  std::mutex lock;
  std::set<std::thread::id> threads;
  std::latch all_run(8), go_on(1);
  PoolUnderTest it("per-job:8", [&](const JobContext&) {
    {
      std::lock_guard guard(lock);
      threads.insert(std::this_thread::get_id());
    }
    if (!all_run.try_wait()) all_run.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 12));
  all_run.wait();
  PoolStats stats = it.pool->stats();
  CHECK(threads.size() == 8);
  CHECK(stats.threads == 8);
  CHECK(stats.waiting == 4);
  go_on.count_down();
  CHECK(it.collect(12).size() == 12);
  CHECK(soon([&] { return it.pool->stats().threads == 0; }));
}

TEST_CASE("threads that end at the same time each make the next one", "[pool]") {
  constexpr uint64_t kJobs = 20'000;
  PoolUnderTest it("per-job:2", [](const JobContext&) {});
  it.pool->submit(jobs_between(1, kJobs));
  CHECK(it.collect(kJobs).size() == kJobs);
}

TEST_CASE("what is forgotten while it waits does not run; what runs is told to stop", "[pool]") {
  std::latch first_runs(1);
  std::vector<uint64_t> ran;
  PoolUnderTest it("single", [&](const JobContext& context) {
    ran.push_back(context.job.lease.job.value);
    if (context.job.lease.job.value != 1) return;
    first_runs.count_down();
    context.stop.sleep_for(1h);
  });
  it.pool->submit(jobs_between(1, 3));
  first_runs.wait();
  it.pool->forget({{{2}, {2}}, {{1}, {1}}}, 0);
  it.collect(2);
  CHECK(ran == std::vector<uint64_t>{1, 3});
}

TEST_CASE("a stop is for its job, and not for the one behind it", "[pool]") {
  std::latch first_runs(1);
  std::atomic<bool> second_stopped{false};
  PoolUnderTest it("single", [&](const JobContext& context) {
    if (context.job.lease.job.value == 1) {
      first_runs.count_down();
      context.stop.sleep_for(1h);
    } else {
      second_stopped = context.stop.is_set();
    }
  });
  it.pool->submit(jobs_between(1, 2));
  first_runs.wait();
  it.pool->forget({{{1}, {1}}}, 0);
  it.collect(2);
  CHECK_FALSE(second_stopped);
}

TEST_CASE("once the time to start jobs is over, the next one waits until it is set anew",
          "[pool]") {
  std::latch first_runs(1), go_on(1);
  std::atomic<int> ran{0};
  PoolUnderTest it(GENERATE("single", "per-job:1", "fixed:1", "auto:1-1"), [&](const JobContext&) {
    if (++ran > 1) return;
    first_runs.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->allow_starts_until(std::chrono::steady_clock::now() + kPoolDeadline);
  it.pool->submit(jobs_between(1, 3));
  first_runs.wait();
  CHECK(it.pool->may_start());
  it.pool->allow_starts_until(std::chrono::steady_clock::now());
  CHECK_FALSE(it.pool->may_start());
  go_on.count_down();
  it.collect(1);
  REQUIRE(soon([&] { return it.pool->stats().busy == 0; }));
  CHECK(it.pool->stats().waiting == 2);
  it.pool->allow_starts_until(std::chrono::steady_clock::now() + kPoolDeadline);
  it.collect(2);
  CHECK(ran == 3);
}

TEST_CASE("of tiny jobs that a thread has taken, those behind a standstill wait too", "[pool]") {
  std::atomic<uint64_t> last{0};
  Pool* pool = nullptr;
  PoolUnderTest it("fixed:1", [&](const JobContext& context) {
    last = context.job.lease.job.value;
    if (last == 120) pool->allow_starts_until(std::chrono::steady_clock::now());
  });
  pool = it.pool.get();
  pool->allow_starts_until(std::chrono::steady_clock::now() + kPoolDeadline);
  pool->submit(jobs_between(1, 200));
  it.collect(120);
  REQUIRE(soon([&] { return pool->stats().waiting == 80; }));
  CHECK(last == 120);
  pool->allow_starts_until(Mono::max());
  it.collect(80);
  CHECK(last == 200);
}

TEST_CASE("a job over its time has failed, and its handler is told to stop", "[pool]") {
  std::latch runs(1);
  std::atomic<bool> stopped{false};
  auto begin = now();
  PoolUnderTest it(
      any_pool(),
      [&](const JobContext& context) {
        runs.count_down();
        stopped = !context.stop.sleep_for(1h);
      },
      5s);
  it.pool->submit(jobs_between(1, 1));
  runs.wait();
  it.pool->tick(begin + 4s);
  CHECK(it.pool->collect().empty());
  it.pool->tick(now() + 5s);
  auto end = it.collect(1);
  CHECK(end[0].completion.kind == Completion::Kind::retryable);
  CHECK(end[0].completion.text.find("timed out: still running after 5s") == 0);
  CHECK(soon([&] { return stopped.load() && it.pool->stats().busy == 0; }));
  CHECK(it.pool->collect().empty());
  CHECK(it.pool->stats().stuck == 0);
}

TEST_CASE("a job whose handler ends when it is stopped has timed out once that has returned",
          "[pool]") {
  std::latch runs(1), stopped(1), go_on(1);
  PoolUnderTest it(
      any_pool(),
      [&](const JobContext& context) {
        runs.count_down();
        context.stop.sleep_for(1h);
        stopped.count_down();
        go_on.wait();  // as a command that takes its time to end
      },
      5s, true);
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 1));
  runs.wait();
  const Mono later = now() + 5s;
  it.pool->tick(later);
  stopped.wait();
  it.pool->tick(later + Pool::kStuckAfter - 1ms);
  CHECK(it.pool->collect().empty());
  CHECK(it.pool->wake_at() < Mono::max());
  go_on.count_down();
  auto end = it.collect(1);
  CHECK(end[0].completion.kind == Completion::Kind::retryable);
  CHECK(end[0].completion.text.find("timed out: still running after 5s") == 0);
  CHECK(it.pool->stats().stuck == 0);
}

TEST_CASE("a job whose handler should have ended and has not comes back when it is stuck",
          "[pool]") {
  std::latch runs(1), go_on(1);
  PoolUnderTest it(
      any_pool(),
      [&](const JobContext&) {
        runs.count_down();
        go_on.wait();
      },
      5s, true);
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 1));
  runs.wait();
  const Mono later = now() + 5s;
  it.pool->tick(later);
  CHECK(it.pool->collect().empty());
  it.pool->tick(later + Pool::kStuckAfter);
  CHECK(it.collect(1)[0].completion.text.find("timed out: still running after 5s") == 0);
  CHECK(it.pool->stats().stuck == 1);
  go_on.count_down();
  CHECK(soon([&] { return it.pool->stats().stuck == 0; }));
  CHECK(it.pool->collect().empty());
}

TEST_CASE("a pool asks for a look only while it has something to look after", "[pool]") {
  auto timeout = GENERATE(std::optional<Millis>(), std::optional<Millis>(5s));
  std::latch runs(1), go_on(1);
  PoolUnderTest it(
      GENERATE("single", "per-job", "fixed:2"),
      [&](const JobContext&) {
        runs.count_down();
        go_on.wait();
      },
      timeout);
  OpenAtEnd open(go_on);
  CHECK(it.pool->wake_at() == Mono::max());
  it.pool->submit(jobs_between(1, 1));
  runs.wait();
  Mono later = now() + 1s;
  it.pool->tick(later);
  CHECK((it.pool->wake_at() == Mono::max()) == !timeout);
  CHECK(it.pool->wake_at() > later);  // what stays due would be a loop that spins
  go_on.count_down();
  it.collect(1);
  CHECK(it.pool->wake_at() == Mono::max());
}

TEST_CASE("a job that waits for its thread is not over its time", "[pool]") {
  std::latch runs(1);
  PoolUnderTest it(
      "single",
      [&](const JobContext& context) {
        if (context.job.lease.job.value > 1) return;
        runs.count_down();
        context.stop.sleep_for(1h);
      },
      5s);
  it.pool->submit(jobs_between(1, 3));
  runs.wait();
  it.pool->tick(now() + 5s);
  for (const Finished& end : it.collect(3)) {
    bool first = end.lease.job.value == 1;
    CHECK(end.completion.kind == (first ? Completion::Kind::retryable : Completion::Kind::done));
  }
}

TEST_CASE("a handler that does not stop loses its thread to another, and its answer is void",
          "[pool]") {
  auto spec = GENERATE("single", "per-job:1", "fixed:1", "auto:1-1");
  std::latch runs(1), go_on(1);
  PoolUnderTest it(
      spec,
      [&](const JobContext& context) {
        if (context.job.lease.job.value > 1) return;
        runs.count_down();
        go_on.wait();
      },
      5s);
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 2));
  runs.wait();
  Mono later = now() + 5s;
  it.pool->tick(later);
  CHECK(it.collect(1)[0].completion.kind == Completion::Kind::retryable);
  it.pool->tick(later + Pool::kStuckAfter - 1ms);
  CHECK(it.pool->stats().stuck == 0);
  it.pool->tick(later + Pool::kStuckAfter);
  CHECK(it.pool->stats().stuck == 1);
  CHECK_FALSE(it.pool->too_many_stuck());
  CHECK(it.collect(1)[0].lease.job.value == 2);  // by the other thread
  go_on.count_down();
  CHECK(soon([&] { return it.pool->stats().stuck == 0; }));
  CHECK(it.pool->collect().empty());
}

TEST_CASE("too many stuck threads wear a pool out, and it can't be closed", "[pool]") {
  auto spec = GENERATE("single", "fixed:2");
  std::latch go_on(1);
  std::atomic<size_t> run{0};
  PoolUnderTest it(
      spec,
      [&](const JobContext&) {
        ++run;
        go_on.wait();
      },
      5s);
  OpenAtEnd open(go_on);
  Mono later = now();
  for (size_t stuck = 0; !it.pool->too_many_stuck(); stuck = it.pool->stats().stuck) {
    REQUIRE(stuck < Pool::kLeastStuck);
    size_t before = run;
    it.pool->submit(jobs_between(stuck + 1, stuck + 1));
    REQUIRE(soon([&] { return run > before; }));
    later = std::max(later, now()) + 5s;
    it.pool->tick(later);
    it.pool->tick(later += Pool::kStuckAfter);
  }
  CHECK(it.pool->stats().stuck == Pool::kLeastStuck);
  CHECK_FALSE(it.pool->close(1ms));
}

TEST_CASE("a handler that throws has failed, and its thread goes on", "[pool]") {
  PoolUnderTest it("single", [](const JobContext& context) {
    if (context.job.lease.job.value == 1) throw std::runtime_error("no such colour");
    if (context.job.lease.job.value == 2) throw 42;
  });
  it.pool->submit(jobs_between(1, 3));
  auto ends = it.collect(3);
  CHECK(ends[0].completion.kind == Completion::Kind::retryable);
  CHECK(ends[0].completion.text == "the handler threw: no such colour");
  CHECK(ends[1].completion.kind == Completion::Kind::retryable);
  CHECK(ends[2].completion.kind == Completion::Kind::done);
}

TEST_CASE("an idle pool that sizes itself shrinks, then asks for no more looks", "[pool]") {
  PoolUnderTest it("auto:1-8", [](const JobContext&) {});
  CHECK(it.pool->wake_at() == Mono::max());
  it.pool->submit(jobs_between(1, 10));
  it.collect(10);
  Mono later = now();
  for (int i = 0; i < 40 && it.pool->wake_at() != Mono::max(); ++i) it.pool->tick(later += 1s);
  CHECK(it.pool->wake_at() == Mono::max());
  CHECK(it.pool->threads() == 1);
  CHECK(soon([&] { return it.pool->stats().threads == 1; }));
  CHECK(it.pool->stats().sizes.back().threads == 1);
  it.pool->submit(jobs_between(1, 10));
  CHECK(it.collect(10).size() == 10);
  CHECK(it.pool->wake_at() != Mono::max());
}

TEST_CASE("jobs go on while a pool grows and shrinks", "[pool]") {
  std::atomic<uint64_t> ran{0};
  std::vector<QueueHandler> handlers;
  handlers.push_back({"q", std::make_unique<CallHandler>([&](const JobContext&) { ++ran; })});
  std::counting_semaphore<> heard{0};
  FixedPool pool({handlers, [&heard] { heard.release(); }, {}}, 1);
  constexpr size_t kRounds = 200;
  size_t ended = 0;
  for (size_t i = 0; i < kRounds; ++i) {
    pool.submit(jobs_between(i * 50 + 1, i * 50 + 50));
    pool.resize(1 + i * 7 % 13, "test");
    ended += pool.collect().size();
  }
  while (ended < kRounds * 50) {
    REQUIRE(heard.try_acquire_for(kPoolDeadline));
    ended += pool.collect().size();
  }
  CHECK(ran == kRounds * 50);
  pool.resize(2, "test");
  CHECK(soon([&] { return pool.stats().threads == 2; }));
}

TEST_CASE("the jobs of a part of the threads do not keep those of others waiting", "[pool]") {
  std::latch two_run(2), go_on(1);
  PoolUnderTest it(many_threads(), [&](const JobContext& context) {
    if (context.job.lease.job.value > 2) return;
    two_run.count_down();
    go_on.wait();
  });
  OpenAtEnd open(go_on);
  it.pool->submit(jobs_between(1, 2));
  two_run.wait();
  it.pool->submit(jobs_between(3, 1'000));
  CHECK(it.collect(998).size() == 998);
}
