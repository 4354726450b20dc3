#include "worker/handlers/simple_handlers.h"

#include <ctime>

namespace millrace::worker {
namespace {

Completion echo(const JobContext& context) {
  // Without a reader the copy would be waste.
  return Completion::done(context.job.wants_result ? std::string(context.job.payload)
                                                   : std::string());
}

Completion stopped() {
  return Completion::failed(Completion::Kind::retryable, "the worker was stopped");
}

std::chrono::nanoseconds thread_cpu() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// The clock is a system call; between two of them some work of about a microsecond.
void spin() {
  constexpr int kRounds = 1000;
  for (volatile int i = 0; i < kRounds;) i = i + 1;
}

uint64_t mix(uint64_t z) {
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

}  // namespace

Completion EchoHandler::run(const JobContext& context) { return echo(context); }

Completion SleepHandler::run(const JobContext& context) {
  const uint64_t hash = mix(context.job.lease.job.value);
  const bool slow = int64_t(hash % 100 * 10 + hash / 100 % 10) < slow_per_mille_;
  return context.stop.sleep_for(slow ? slow_ : duration_) ? echo(context) : stopped();
}

Completion BurnHandler::run(const JobContext& context) {
  auto end = thread_cpu() + duration_;
  while (thread_cpu() < end) {
    if (context.stop.is_set()) return stopped();
    spin();
  }
  return echo(context);
}

Completion FailHandler::run(const JobContext& context) {
  uint64_t hash = mix(context.job.lease.job.value * 0x9E3779B97F4A7C15ull + context.job.attempt);
  if (int64_t(hash % 100) >= percent_) return echo(context);
  return Completion::failed(Completion::Kind::retryable,
                            "attempt " + std::to_string(context.job.attempt) +
                                " failed, as fail:" + std::to_string(percent_) + " asks for");
}

}  // namespace millrace::worker
