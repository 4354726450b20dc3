// A Millrace worker inside of another program: handlers are functions, the rest is as in
// millrace-worker. docs/HANDLERS.md has an example.
// Shape:   on() for each queue, then run(), which returns when the worker has drained
// Units:   durations in milliseconds; 0: none, or the default of millrace-worker
// Errors:  a handler's exception is a retryable failure, PermanentFailure a permanent one; run()
//          returns an exit code of docs/OPERATIONS.md, and error() says what it was
// Owns:    its threads; what handlers refer to must outlive run()
// Threads: handlers are called by many at once; stop() by any; the rest by one
// Version: the library's major and minor number; nothing of its inside shows here
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#define MILLRACE_EXPORT __attribute__((visibility("default")))

namespace millrace {

// Thrown by a handler: this job will never work.
class MILLRACE_EXPORT PermanentFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Lives as long as the call.
struct WorkerJob {
  std::string_view id;  // the same for each attempt: the idempotency key
  std::string_view queue;
  std::string_view payload;
  uint64_t epoch = 0;    // grows with each attempt: the fence
  uint64_t attempt = 0;  // from 1
  size_t max_result = 0;
  bool wants_result = false;
  // Nobody waits for this job any more: it timed out, was cancelled, or the worker stops.
  std::function<bool()> should_stop;
};

struct WorkerSettings {
  std::string broker = "127.0.0.1:5571";
  std::string curve_key = "";       // as --curve-key: the file of the own secret key
  std::string curve_broker = "";    // as --curve-broker
  std::string pool = "fixed";       // as --pool
  std::string prefetch = "auto";    // as --prefetch
  std::string name = "";            // for people; host:pid without one
  std::vector<std::string> labels;  // for people too: as --label
  std::chrono::milliseconds run_timeout{0};
  std::chrono::milliseconds drain_timeout{30'000};
  std::chrono::milliseconds idle_exit{0};
  std::chrono::milliseconds connect_timeout{0};
  int breaker = 20;  // as --breaker: failures in a row that slow it down; 0: never
  // debug, info, warning or error: lines on stderr. Empty: the program has set up spdlog itself.
  std::string log_level = "info";
  // Drain on SIGTERM and SIGINT, end at once on the second. Without it they stay the program's, and
  // SIGPIPE too.
  bool signals = true;
};

class MILLRACE_EXPORT Worker {
 public:
  using Handle = std::function<std::string(const WorkerJob&)>;  // returns the result

  explicit Worker(WorkerSettings settings = {});
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // `queue`: its name, or a prefix of names, as "tenant.*"; WorkerJob::queue is the name itself.
  // `threads`: of its own, as --queue NAME=HANDLER@N; 0: those of the pool.
  Worker& on(std::string queue, Handle handle, size_t threads = 0);

  // Demands jobs until stop(), a signal, or an error. Once.
  int run();
  // Drains, from any thread, also before run(). A second call gives back what still runs.
  void stop();
  // Why run() did not return 0; empty otherwise.
  const std::string& error() const;

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

}  // namespace millrace
