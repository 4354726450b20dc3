// Looks up the address of a host's name without making anybody wait for it: a name server that does
// not answer holds up getaddrinfo() for half a minute, and libzmq's I/O thread with it.
// Shape:   poll() → nothing while the look-up goes on, then its answer once; the next poll() asks anew.
//          An address is its own answer at once. IPv4 is preferred, as libzmq does.
// Limits:  one look-up at a time for each Resolver. Its thread is left alone: whoever stops asking, or
//          ends, does not wait for it.
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

  // How long a loop that waits for poll() may sleep.
  static constexpr Millis kPollEvery{5};

  explicit Resolver(std::string host, LookUp look_up = look_up_host);

  std::optional<Result<std::string>> poll();
  Result<std::string> wait(Millis timeout);

  // What is to be said of a look-up that has not ended.
  Error still_pending() const;

  // By getaddrinfo(): waits.
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
