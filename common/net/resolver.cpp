#include "common/net/resolver.h"
#include "common/os/signals.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace millrace {
namespace {

bool is_address(const std::string& host) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 ||
         host.find(':') != std::string::npos;  // IPv6, perhaps with a scope
}

Error unresolved(const std::string& host, const std::string& why) {
  return {ExitCode::unavailable,
          fmt::format("the host name '{}' can't be resolved: {}; check its spelling and the name "
                      "server, or give an address",
                      host, why)};
}

std::string text_of(const sockaddr* address, socklen_t size) {
  char text[NI_MAXHOST] = {};
  const int failed = getnameinfo(address, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  return failed == 0 ? text : "";
}

// Signals are the other threads' business.
void start_detached(std::function<void()> body) {
  SignalsBlocked blocked;
  std::thread(std::move(body)).detach();
}

}  // namespace

struct Resolver::Pending {
  std::mutex lock;
  std::condition_variable ended;
  std::optional<Result<std::string>> answer;
};

Resolver::Resolver(std::string host, LookUp look_up)
    : host_(std::move(host)), look_up_(std::move(look_up)), is_address_(is_address(host_)) {}

Result<void> Resolver::start() {
  if (pending_) return {};
  auto pending = std::make_shared<Pending>();
  try {
    start_detached([pending, host = host_, look_up = look_up_] {
      auto answer = look_up(host);
      std::lock_guard lock(pending->lock);
      pending->answer = std::move(answer);
      pending->ended.notify_all();
    });
  } catch (const std::system_error& error) {
    return unresolved(host_, fmt::format("no thread can be started for it ({})", error.what()));
  }
  pending_ = std::move(pending);
  return {};
}

std::optional<Result<std::string>> Resolver::poll() {
  if (is_address_) return host_;
  if (auto started = start(); !started) return started.error();
  std::optional<Result<std::string>> answer;
  {
    std::lock_guard lock(pending_->lock);
    answer = std::move(pending_->answer);
  }
  if (answer) pending_.reset();
  return answer;
}

Result<std::string> Resolver::wait(Millis timeout) {
  if (is_address_) return host_;
  if (auto started = start(); !started) return started.error();
  const auto pending = pending_;
  std::unique_lock lock(pending->lock);
  if (!pending->ended.wait_for(lock, timeout, [&] { return pending->answer.has_value(); }))
    return Error{ExitCode::temporary,
                 fmt::format("the host name '{}' was not resolved within {} ms: its name server "
                             "does not answer; give an address, or try again",
                             host_, timeout.count())};
  pending_.reset();
  return *std::move(pending->answer);
}

Error Resolver::still_pending() const {
  return unresolved(host_, "its name server has not answered yet");
}

Result<std::string> Resolver::look_up_host(const std::string& host) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int failed = getaddrinfo(host.c_str(), nullptr, &hints, &found); failed != 0)
    return unresolved(host, gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, freeaddrinfo);
  const addrinfo* best = found;
  for (const addrinfo* each = found; each; each = each->ai_next)
    if (best->ai_family != AF_INET && each->ai_family == AF_INET) best = each;
  std::string address = text_of(best->ai_addr, best->ai_addrlen);
  if (address.empty()) return unresolved(host, "its address has no text");
  return address;
}

}  // namespace millrace
