#include "broker/transport/connection_guard.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <unordered_set>

#include "common/base/check.h"
#include "common/os/log.h"

namespace millrace::server {
namespace {

constexpr Millis kPass{50};
constexpr int kTcpEstablished = 1;  // <netinet/tcp.h> has a name for it, and an older tcp_info
constexpr size_t kSamplesPerPass = 2048;
constexpr size_t kShedAtOnce = 16;
constexpr int kMostRefusedAtOnce = 1024;  // about a full backlog

std::string text_of(const sockaddr_storage& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address);
    inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(v4->sin_port));
  }
  if (address.ss_family != AF_INET6) return "unknown";
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address);
  inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
  return fmt::format("[{}]:{}", text.data(), ntohs(v6->sin6_port));
}

bool is_same(const sockaddr_storage& a, const sockaddr_storage& b) {
  const size_t size = a.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  return a.ss_family == b.ss_family && std::memcmp(&a, &b, size) == 0;
}

std::string why_failed(uint16_t event, uint32_t value) {
  if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) return "closed within the handshake";
  if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) return "without keys";
  if (value == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC) return "a wrong --curve-broker";
  return "no ZeroMQ handshake";
}

std::string why_closed(CloseReason reason, const ConnectionLimits& limits) {
  switch (reason) {
    case CloseReason::capacity:
      return fmt::format("{} connections are open, the maximum (--max-connections)",
                         limits.connections);
    case CloseReason::no_session:
      return fmt::format("no HELLO or REGISTER within {} ms", limits.session_time.count());
    case CloseReason::silent:
      return fmt::format("nothing received for {} ms", limits.silence_time.count());
    case CloseReason::unread_bytes:
      return fmt::format("more than {} bytes of unfinished or unread messages",
                         limits.unread_bytes);
    case CloseReason::unread_total:
      return fmt::format("unread messages of all connections exceed {} bytes", limits.unread_total);
    case CloseReason::requested:
      return "it reads too slowly, or its key is not allowed any more";
  }
  return "";
}

const char* port_name(core::Port port) {
  return port == core::Port::frontend ? "frontend" : "backend";
}

}  // namespace

bool ConnectionGuard::Addresses::operator==(const Addresses& other) const {
  return is_same(peer, other.peer) && is_same(local, other.local);
}

std::string ConnectionGuard::monitor_of(core::Port port) {
  return fmt::format("inproc://millrace.connections.{}", port_name(port));
}

namespace {

// False when the descriptor is no connected socket any more.
template <typename Addresses>
bool read_addresses(int descriptor, Addresses& addresses) {
  addresses = {};  // padding counts in a comparison
  socklen_t peer_size = sizeof addresses.peer, local_size = sizeof addresses.local;
  return getpeername(descriptor, reinterpret_cast<sockaddr*>(&addresses.peer), &peer_size) == 0 &&
         getsockname(descriptor, reinterpret_cast<sockaddr*>(&addresses.local), &local_size) == 0;
}

}  // namespace

ConnectionGuard::ConnectionGuard(zmq::context_t& context, const ConnectionLimits& limits,
                                 uint64_t descriptors, bool with_keys)
    : limits_(limits),
      with_keys_(with_keys),
      counters_(descriptors),
      table_(limits),
      spare_(open("/dev/null", O_RDONLY | O_CLOEXEC)) {
  for (core::Port port : {core::Port::frontend, core::Port::backend}) {
    zmq::socket_t events(context, zmq::socket_type::pair);
    events.set(zmq::sockopt::linger, 0);
    events.connect(monitor_of(port));  // before the router's monitor, which waits for a reader
    watched_.push_back({port, std::move(events), -1, {}});
  }
  thread_ = std::thread([this] { run(); });
}

ConnectionGuard::~ConnectionGuard() {
  ending_.store(true);
  wakeup_.signal();
  thread_.join();
  if (spare_ >= 0) ::close(spare_);
}

void ConnectionGuard::close(core::Route route, Millis delay) {
  {
    std::lock_guard lock(lock_);
    requests_.push_back({ConnectionCounters::key_of(route), Mono::clock::now() + delay});
  }
  wakeup_.signal();
}

ConnectionGuard::Status ConnectionGuard::status() const {
  std::lock_guard lock(lock_);
  return status_;
}

bool ConnectionGuard::is_connected(int descriptor, core::Route route) const {
  tcp_info info{};
  socklen_t size = sizeof info;
  return counters_.read(descriptor).route == ConnectionCounters::key_of(route) &&
         getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
         info.tcpi_state == kTcpEstablished;
}

void ConnectionGuard::run() {
  pthread_setname_np(pthread_self(), "millrace-conns");
  while (!ending_.load()) {
    wait();
    const Mono now = Mono::clock::now();
    for (Watched& watched : watched_) read_events(watched, now);
    take_requests();
    if (now >= next_pass_) {
      sample_some(now);
      next_pass_ = now + kPass;
    }
    shut_down(table_.close_due(now, [this](int descriptor) { return sample_of(descriptor); }), now);
    publish();
  }
}

void ConnectionGuard::wait() {
  std::vector<zmq::pollitem_t> items{{nullptr, wakeup_.fd(), ZMQ_POLLIN, 0}};
  for (Watched& watched : watched_) items.push_back({watched.events.handle(), 0, ZMQ_POLLIN, 0});
  Millis timeout(-1);
  if (table_.size() > 0)
    timeout = std::max(std::chrono::ceil<Millis>(next_pass_ - Mono::clock::now()), Millis(0));
  try {
    zmq::poll(items, timeout);
  } catch (const zmq::error_t& error) {
    MILLRACE_CHECK(error.num() == EINTR);
  }
  if (items[0].revents) wakeup_.drain();
}

void ConnectionGuard::read_events(Watched& watched, Mono now) {
  zmq::message_t head, endpoint;
  while (watched.events.recv(head, zmq::recv_flags::dontwait)) {
    uint16_t event;
    uint32_t value;
    MILLRACE_CHECK(head.size() == sizeof event + sizeof value && head.more());
    std::memcpy(&event, head.data(), sizeof event);
    std::memcpy(&value, head.data<char>() + sizeof event, sizeof value);
    (void)watched.events.recv(endpoint, zmq::recv_flags::dontwait);
    on_event(watched, event, value, now);
  }
}

// The events of a failed handshake name no peer: the descriptor of the close behind them does.
void ConnectionGuard::on_event(Watched& watched, uint16_t event, uint32_t value, Mono now) {
  const int descriptor = int(value);
  switch (event) {
    case ZMQ_EVENT_LISTENING:
      watched.listener = descriptor;
      fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
      return;
    case ZMQ_EVENT_ACCEPTED: {
      Peer peer{watched.port, {}};
      read_addresses(descriptor, peer.addresses);
      peers_[descriptor] = peer;
      ConnectionSample base = sample_of(descriptor);
      base.received = base.waiting = 0;
      table_.opened(descriptor, base, now);
      // A burst must be met while it lasts: the limit is what keeps descriptors free.
      const auto refresh = [this](int other) { return sample_of(other); };
      shut_down(table_.close_above_maximum(now, refresh), now);
      return;
    }
    case ZMQ_EVENT_ACCEPT_FAILED:
      return on_accept_failed(watched, value);
    case ZMQ_EVENT_DISCONNECTED:
      return on_closed(watched, descriptor);
    default:
      watched.failure = why_failed(event, value);
  }
}

void ConnectionGuard::on_closed(Watched& watched, int descriptor) {
  const std::string failure = std::exchange(watched.failure, {});
  if (!failure.empty() && !table_.is_closing(descriptor)) {
    ++refused_handshakes_;
    auto held_back = with_keys_ ? refused_lines_.admit(Mono::clock::now()) : std::nullopt;
    if (held_back)
      log_warning("handshake refused", {{"peer", text_of(peers_[descriptor].addresses.peer)},
                                        {"port", port_name(watched.port)},
                                        {"why", failure},
                                        {"not_logged", *held_back}});
  }
  table_.closed(descriptor);
  peers_.erase(descriptor);
}

void ConnectionGuard::on_accept_failed(Watched& watched, uint32_t error) {
  if (error != EMFILE && error != ENFILE && error != ENOMEM && error != ENOBUFS) return;
  const Mono now = Mono::clock::now();
  if (auto held_back = accept_lines_.admit(now))
    log_warning(
        "a connection can't be accepted: those without a session are closed; raise the "
        "limit of open files, or find out what uses them up on this host",
        {{"port", port_name(watched.port)},
         {"cause", std::generic_category().message(int(error))},
         {"open", table_.size()},
         {"not_logged", *held_back}});
  shut_down(table_.shed(kShedAtOnce), now);
  if (watched.listener >= 0) refuse_waiting(watched.listener);
}

void ConnectionGuard::refuse_waiting(int listener) {
  if (spare_ >= 0) ::close(std::exchange(spare_, -1));
  for (int refused = 0; refused < kMostRefusedAtOnce; ++refused) {
    const int descriptor = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (descriptor < 0) break;
    ::close(descriptor);
  }
  spare_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void ConnectionGuard::take_requests() {
  std::vector<Request> requests;
  {
    std::lock_guard lock(lock_);
    requests.swap(requests_);
  }
  if (requests.empty()) return;
  std::unordered_map<uint64_t, Mono> due;
  for (const Request& request : requests) due.emplace(request.key, request.due);
  for (const auto& [descriptor, peer] : peers_) {
    auto asked = due.find(counters_.read(descriptor).route);
    if (asked != due.end()) table_.close_at(descriptor, asked->second);
  }
}

void ConnectionGuard::sample_some(Mono now) {
  if (to_sample_.empty())
    for (const auto& [descriptor, peer] : peers_) to_sample_.push_back(descriptor);
  for (size_t left = kSamplesPerPass; left > 0 && !to_sample_.empty(); --left) {
    const int descriptor = to_sample_.back();
    to_sample_.pop_back();
    if (peers_.contains(descriptor)) table_.sampled(descriptor, sample_of(descriptor), now);
  }
}

ConnectionSample ConnectionGuard::sample_of(int descriptor) const {
  ConnectionSample sample;
  const ConnectionCounters::Reading taken = counters_.read(descriptor);
  auto peer = peers_.find(descriptor);
  if (peer != peers_.end()) sample.drains = counters_.drains(peer->second.port);
  sample.taken = taken.bytes;
  sample.messages = taken.messages;
  sample.session_messages = taken.session_messages;
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return sample;
  int waiting = 0;
  ioctl(descriptor, SIOCINQ, &waiting);
  sample.received = info.tcpi_bytes_received;
  sample.waiting = uint64_t(std::max(waiting, 0));
  return sample;
}

void ConnectionGuard::shut_down(const std::vector<ConnectionTable::Closing>& closings, Mono now) {
  for (const auto& closing : closings) {
    auto peer = peers_.find(closing.descriptor);
    if (peer == peers_.end()) continue;
    Addresses found;
    if (!read_addresses(closing.descriptor, found) || !(found == peer->second.addresses)) continue;
    // So that the close resets it: a peer that waits for room to send would not see it end.
    const linger reset{1, 0};
    setsockopt(closing.descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    ::shutdown(closing.descriptor, SHUT_RDWR);
    if (auto held_back = closed_lines_.admit(now))
      log_warning("connection closed", {{"peer", text_of(found.peer)},
                                        {"port", port_name(peer->second.port)},
                                        {"reason", name_of(closing.reason)},
                                        {"why", why_closed(closing.reason, limits_)},
                                        {"unread_bytes", closing.unread_bytes},
                                        {"not_logged", *held_back}});
  }
}

void ConnectionGuard::publish() {
  std::lock_guard lock(lock_);
  status_ = {table_.size(), table_.unread_total(), refused_handshakes_, table_.closed_by_reason()};
}

}  // namespace millrace::server
