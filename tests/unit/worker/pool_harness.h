// A pool with a test in the place of the runner.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <latch>
#include <optional>
#include <semaphore>
#include <vector>

#include "tests/catch.h"
#include "worker/pool/pool.h"

namespace millrace::worker {

inline constexpr Millis kPoolDeadline{30'000};  // of waits that only a bug lets run out

class CallHandler : public Handler {
 public:
  using Call = std::function<void(const JobContext&)>;
  explicit CallHandler(Call call, bool ends_when_stopped = false)
      : call_(std::move(call)), ends_when_stopped_(ends_when_stopped) {}
  Completion run(const JobContext& context) override {
    call_(context);
    return Completion::done(std::string(context.job.payload));
  }
  bool ends_when_stopped() const override { return ends_when_stopped_; }

 private:
  Call call_;
  bool ends_when_stopped_;
};

inline Job job_number(uint64_t number, uint16_t queue = 0) {
  Job job;
  job.lease = {{number}, {number}};
  job.queue = queue;
  return job;
}

inline std::vector<Job> jobs_between(uint64_t first, uint64_t last) {
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
  PoolUnderTest(const std::string& spec, CallHandler::Call call,
                std::optional<Millis> run_timeout = {}, bool ends_when_stopped = false) {
    handlers_.push_back({"q", std::make_unique<CallHandler>(std::move(call), ends_when_stopped)});
    auto listener = [this] {
      ++told;
      heard_.release();
    };
    pool = make_pool(*parse_pool(spec), {handlers_, listener, run_timeout});
  }
  ~PoolUnderTest() {
    if (pool) pool->stop();
  }

  // The ends of so many jobs.
  std::vector<Finished> collect(size_t count) {
    std::vector<Finished> all;
    while (all.size() < count) {
      REQUIRE(heard_.try_acquire_for(kPoolDeadline));
      for (Finished& end : pool->collect()) all.push_back(std::move(end));
    }
    return all;
  }

  std::atomic<int> told{0};

 private:
  std::vector<QueueHandler> handlers_;
  std::counting_semaphore<> heard_{0};

 public:
  std::unique_ptr<Pool> pool;
};

}  // namespace millrace::worker
