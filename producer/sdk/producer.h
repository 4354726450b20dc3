// A Millrace producer inside of another program: jobs are submitted from any thread, and their
// receipts and ends come as futures or to callbacks. docs/CLIENT.md has an example.
// Shape:   submit() gives a receipt: confirmed means that the job is on the broker's disk. run()
//          gives the job's end, with its result. Batches form by themselves while the broker is
//          busy.
// Units:   durations in milliseconds; 0: none, or the default of the queue or the broker
// Limits:  max_pending jobs and bytes without an answer: then submit() waits, and try_submit() says
//          no
// Errors:  a receipt that is rejected or unknown; std::invalid_argument: settings, a queue's name
//          or options that can't be; the broker being away is no error: jobs wait, and what was not
//          answered is sent again when it is back, which makes no second job
// Owns:    one thread, which speaks with the broker; what callbacks refer to must outlive close()
// Threads: all of it may be called by any thread at once, but close() and the destructor by one.
//          Callbacks are called on the producer's own thread: they must not throw, nor wait. In a
//          callback submit() does not wait either: without room the receipt is rejected.
// Version: the library's major and minor number; nothing of its inside shows here
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>

#ifndef MILLRACE_EXPORT
#define MILLRACE_EXPORT __attribute__((visibility("default")))
#endif

namespace millrace {

struct ProducerSettings {
  std::string broker = "127.0.0.1:5570";  // or several, with commas between
  std::string curve_key = "";             // as --curve-key: the file of the own secret key
  std::string curve_broker = "";          // as --curve-broker
  // Longest wait for the broker's first answer; then everything is unknown, and error() says why.
  std::chrono::milliseconds connect_timeout{10'000};
  size_t max_pending = 65'536;
  size_t max_pending_bytes = 64 << 20;
  // While the broker has no room: hold jobs back until it has. Otherwise they are rejected.
  bool hold = true;
  // debug, info, warning or error: lines on stderr. Empty: the program has set up spdlog itself.
  std::string log_level = "warning";
};

struct JobOptions {
  int priority = 4;  // 0 to 9, higher goes first
  std::chrono::milliseconds delay{0};
  std::chrono::milliseconds ttl{0};
  int max_attempts = 0;
  std::string key;  // idempotency key: the same key on the same queue is the same job
};

// What the broker said of a submission.
struct Receipt {
  enum class State {
    confirmed,  // on disk
    buffered,   // accepted by a broker that was told not to sync
    rejected,   // not stored
    unknown,    // perhaps stored: no answer until close(), or until the producer failed
  };
  State state = State::unknown;
  std::string id;                            // of an accepted job, unique over all brokers
  bool known = false;                        // its key was used before
  std::string error;                         // of a rejection
  std::chrono::milliseconds retry_after{0};  // 0: trying again will not help

  bool accepted() const { return state == State::confirmed || state == State::buffered; }
};

// How a job ended.
struct JobEnd {
  // done, dead, cancelled or expired; rejected: it never was a job; lost: the broker no longer knew
  // it; unknown: nothing was heard until close()
  std::string state = "unknown";
  std::string id;
  uint64_t attempts = 0;  // 0: not known
  std::optional<std::string> result;
  std::string error;

  bool done() const { return state == "done"; }
};

class MILLRACE_EXPORT Producer {
 public:
  using OnReceipt = std::function<void(const Receipt&)>;
  using OnEnd = std::function<void(const JobEnd&)>;

  explicit Producer(ProducerSettings settings = {});
  ~Producer();  // as close() without waiting
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;

  std::future<Receipt> submit(std::string queue, std::string payload, JobOptions options = {});
  void submit(std::string queue, std::string payload, JobOptions options, OnReceipt on_receipt);
  // False: there is no room now, and nothing was taken.
  bool try_submit(std::string queue, std::string payload, JobOptions options, OnReceipt on_receipt);

  // For a job whose end is wanted, with its result.
  std::future<JobEnd> run(std::string queue, std::string payload, JobOptions options = {});
  void run(std::string queue, std::string payload, JobOptions options, OnReceipt on_receipt,
           OnEnd on_end);

  // The same, waiting.
  Receipt submit_and_wait(std::string queue, std::string payload, JobOptions options = {});
  JobEnd run_and_wait(std::string queue, std::string payload, JobOptions options = {});

  // Waits until everything is answered, and ended where that is wanted. False: not in that time.
  bool flush(std::chrono::milliseconds timeout);
  // The same, then ends: what is left is unknown. Nothing can be submitted any more.
  bool close(std::chrono::milliseconds timeout);

  bool connected() const;
  size_t pending() const;  // submissions without an answer
  // Why the producer has failed; empty while it has not.
  std::string error() const;

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

}  // namespace millrace
