// Who may connect: the allow-list in force, kept fresh from its file, and the answers to libzmq
// when it asks about a key (ZAP).
// Shape:   a ROUTER's handshake → ZAP request → 200 with the key as User-Id, or 400
//          1. It stands before a ROUTER with keys is bound and until that is closed: where no
//             handler answers, libzmq would let anyone in (router.cpp asks it not to).
//          2. A changed file is in force within twice kLook: once it has kept still for kLook, since
//             one that is being written in place is empty for a moment. One that can't be used is
//             named in the log, and the list before it stays in force.
// Limits:  log lines about refused handshakes: one a second, with the number of the others
// Errors:  start(): config (78), the list is missing or must not be used
// Owns:    its socket and its thread; context and `changed` must outlive it, and the routers that ask
//          it must be closed before
// Threads: its own; the rest may be asked from any
// Source:  ZAP 1.0 (RFC 27)
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "broker/transport/admission.h"
#include "common/base/repeat_limiter.h"
#include "common/base/result.h"
#include "common/os/wakeup.h"

namespace millrace::server {

class ZapAuthenticator {
 public:
  static constexpr Millis kLook{250};
  static constexpr const char* kDomain = "millrace";

  // Before any ROUTER with keys is bound. `changed` is signalled when another list is in force.
  static Result<std::unique_ptr<ZapAuthenticator>> start(zmq::context_t& context,
                                                         std::string allow_file, Wakeup& changed);
  ~ZapAuthenticator();
  ZapAuthenticator(const ZapAuthenticator&) = delete;
  ZapAuthenticator& operator=(const ZapAuthenticator&) = delete;

  // Grows with each list.
  uint64_t generation() const { return generation_.load(); }
  KeySetPtr allowed() const;
  uint64_t refused() const { return refused_.load(); }
  // Within kLook, even if the file looks as it did.
  void read_again() { is_read_wanted_.store(true); }

 private:
  // What tells one version of a file from another.
  using Version = std::vector<int64_t>;

  ZapAuthenticator(zmq::context_t& context, std::string allow_file, Wakeup& changed);
  static Version version_of(const std::string& path);
  Result<void> read_list();
  void run();
  void look_at_file(Mono now);
  void answer_all();
  void count_refusal(std::string_view peer, std::string_view why);

  const std::string allow_file_;
  Wakeup& changed_;
  zmq::socket_t zap_;
  Version version_;  // of the list in force, or of the last that was refused
  Version seen_;     // of the file, when last looked at
  Mono seen_since_{};
  RepeatLimiter refusal_lines_{Millis(1000)};

  mutable std::mutex lock_;
  KeySetPtr allowed_;  // under lock_
  std::atomic<uint64_t> generation_{0}, refused_{0};
  std::atomic<bool> ending_{false}, is_read_wanted_{false};
  Wakeup end_;
  std::thread thread_;
};

}  // namespace millrace::server
