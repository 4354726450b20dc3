// Resolves a host name without blocking its caller: a name server that does not answer blocks
// getaddrinfo() for half a minute, and would block libzmq's I/O thread.
// Shape:   poll() → nothing while the look-up is running, then its answer once; the poll() after that
//          starts another. A numeric address is its own answer. IPv4 is preferred, as libzmq does.
// Limits:  one look-up at a time for each Resolver. Its thread is detached: destroying the Resolver
//          does not wait for it.
// Errors:  69 the name has no address, or cannot be looked up; 75 wait(): not in time
// Owns:    what it shares with its thread
// Threads: one; the look-up runs in another
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/base/time.h"

namespace millrace {

class Resolver {
 public:
  using LookUp = std::function<Result<std::string>(const std::string& host)>;

  // How often a loop calls poll() while it waits for the answer.
  static constexpr Millis kPollEvery{5};

  explicit Resolver(std::string host, LookUp look_up = look_up_host);

  std::optional<Result<std::string>> poll();
  Result<std::string> wait(Millis timeout);

  // The error of a look-up that is still running.
  Error still_pending() const;

  // By getaddrinfo(): blocks.
  static Result<std::string> look_up_host(const std::string& host);

 private:
  struct Pending;

  Result<void> start();

  std::string host_;
  LookUp look_up_;
  bool is_address_;
  std::shared_ptr<Pending> pending_;
};

}  // namespace millrace
