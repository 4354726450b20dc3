// What tests of handlers with processes share: a job, a log to look at, and what must be left over.
#pragma once

#include <poll.h>
#include <signal.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "tests/catch.h"
#include "worker/handlers/handler.h"
#include "worker/process/process_tree.h"
#include "worker/process/spawner.h"

namespace millrace::worker {

// The log goes into a string while this lives, and SIGPIPE is ignored, as in the worker.
class ProcessHarness {
 public:
  ProcessHarness() {
    signal(SIGPIPE, SIG_IGN);
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(log_);
    before_ = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
    REQUIRE(spawner_.start());
  }
  ~ProcessHarness() { spdlog::set_default_logger(before_); }

  Completion run(Handler& handler, std::string_view payload, uint64_t max_result = 1 << 20,
                 uint64_t number = 42) {
    Job job;
    job.broker = {0x3f9a1c07};
    job.lease = {{number}, {52776558133255}};
    job.attempt = 2;
    job.payload = payload;
    job.max_result = max_result;
    job.wants_result = true;
    return handler.run({job, "images", stop_, {}, start_before_});
  }

  bool no_commands() const { return children_of(spawner_.pid()).empty(); }

  static constexpr Millis kKillAfter{300};
  StopSignal stop_;
  Boottime start_before_ = kNoDeadline;
  std::ostringstream log_;
  Spawner spawner_{{kKillAfter}};

 private:
  std::shared_ptr<spdlog::logger> before_;
};

inline size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// A process that has ended may still be somebody's zombie.
inline bool is_alive(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string number, name, state = "X";
  stat >> number >> name >> state;
  return state != "X" && state != "Z";
}

// Within ten seconds.
template <typename Condition>
bool comes_true(Condition&& condition) {
  for (int i = 0; i < 10'000 && !condition(); ++i) poll(nullptr, 0, 1);
  return condition();
}

}  // namespace millrace::worker
