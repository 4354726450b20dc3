#include "broker/transport/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "common/base/check.h"
#include "common/net/port_use.h"

namespace millrace::server {
namespace {

constexpr size_t kAutoIdSize = 5;
constexpr size_t kMaxNamed = 65536;
constexpr size_t kCurveOverhead = 64;  // of a frame's cipher text: its nonce, tag and flags are 33
constexpr int kZapEnforceDomain = 93;  // a draft in the header of 4.3.4, and in its library
constexpr int kWatched = ZMQ_EVENT_LISTENING | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED |
                         ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                         ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;

// libzmq counts the frames of a peer that it has received, not their bytes.
int frames_received_ahead(size_t max_frame) {
  return int(std::clamp<size_t>(kMaxReceivedBytes / max_frame, 4, 512));
}

size_t cost_of(const std::string& frame) { return frame.size() + kFrameCost; }

// A frame in libzmq's hands.
struct FrameInTransport {
  std::string bytes;
  std::shared_ptr<InTransit> transport;
  std::shared_ptr<InTransitTotals> totals;
};

// On libzmq's thread.
void frame_freed(void*, void* hint) {
  std::unique_ptr<FrameInTransport> frame(static_cast<FrameInTransport*>(hint));
  const size_t cost = cost_of(frame->bytes);
  frame->totals->bytes -= cost;
  const size_t left = frame->transport->bytes.fetch_sub(cost) - cost;
  if (left > kTransportLeast || !frame->transport->is_outstanding.load()) return;
  if (!frame->transport->is_outstanding.exchange(false)) return;
  frame->totals->wakeup.signal();
}

// Hands the string's storage to libzmq: no copy.
zmq::message_t to_message(std::string bytes, const std::shared_ptr<InTransit>& transport,
                          const std::shared_ptr<InTransitTotals>& totals) {
  auto* frame = new FrameInTransport{std::move(bytes), transport, totals};
  transport->bytes += cost_of(frame->bytes);
  totals->bytes += cost_of(frame->bytes);
  return zmq::message_t(frame->bytes.data(), frame->bytes.size(), frame_freed, frame);
}

void protect(zmq::socket_t& socket, const RouterKeys& keys) {
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_secretkey, keys.secret_key);
  socket.set(zmq::sockopt::zap_domain, keys.domain);
  // A second lock: should the authenticator be gone, libzmq lets nobody in. Where the library does
  // not know the option, the order of opening and closing is all there is.
  const int enforce = 1;
  zmq_setsockopt(socket.handle(), kZapEnforceDomain, &enforce, sizeof enforce);
}

// Of tcp://HOST:PORT.
uint16_t port_of(const std::string& endpoint) {
  uint16_t port = 0;
  const char* digits = endpoint.data() + endpoint.rfind(':') + 1;
  std::from_chars(digits, endpoint.data() + endpoint.size(), port);
  return port;
}

Error bind_error(const std::string& endpoint, const std::string& flag, const zmq::error_t& error) {
  if (error.num() == EADDRINUSE)
    return {ExitCode::cant_create,
            fmt::format("can't listen at {}: {}; choose another port with {}", endpoint,
                        why_in_use(port_of(endpoint)), flag)};
  return {ExitCode::cant_create,
          fmt::format("can't listen at {}: {}; check the address given with {}", endpoint,
                      error.what(), flag)};
}

}  // namespace

Result<Router> Router::open(zmq::context_t& context, const std::string& endpoint, size_t max_frame,
                            const std::string& flag, const std::string& monitor,
                            const std::optional<RouterKeys>& keys) {
  zmq::socket_t socket(context, zmq::socket_type::router);
  socket.set(zmq::sockopt::router_mandatory, true);
  socket.set(zmq::sockopt::linger, 500);
  socket.set(zmq::sockopt::maxmsgsize, int64_t(max_frame + (keys ? kCurveOverhead : 0)));
  socket.set(zmq::sockopt::sndhwm, 0);  // SendBudget counts bytes instead
  socket.set(zmq::sockopt::rcvhwm, frames_received_ahead(max_frame));
  socket.set(zmq::sockopt::backlog, 1024);
  socket.set(zmq::sockopt::ipv6, endpoint.find('[') != std::string::npos);
  if (keys) protect(socket, *keys);
  MILLRACE_CHECK(zmq_socket_monitor(socket.handle(), monitor.c_str(), kWatched) == 0);
  try {
    socket.bind(endpoint);
  } catch (const zmq::error_t& error) {
    return bind_error(endpoint, flag, error);
  }
  return Router(std::move(socket), keys.has_value());
}

// Before the reader of its events goes: libzmq would wait for one.
Router::~Router() {
  if (socket_) zmq_socket_monitor(socket_.handle(), nullptr, 0);
}

uint64_t Router::route_of(const zmq::message_t& routing_id) {
  const auto* bytes = static_cast<const unsigned char*>(routing_id.data());
  if (routing_id.size() == kAutoIdSize && bytes[0] == 0) {
    uint32_t number;
    std::memcpy(&number, bytes + 1, sizeof number);
    return number;
  }
  if (named_.size() >= kMaxNamed)
    named_.clear(), names_.clear();  // their sessions must register again
  auto [found, is_new] = named_.try_emplace(routing_id.to_string(), 0);
  if (is_new) {
    found->second = next_named_++;
    names_[found->second] = found->first;
  }
  return found->second;
}

// ZMTP 3.1, section 3; CURVE puts each frame into a MESSAGE command: name, nonce, flags and tag.
uint64_t Router::wire_bytes(size_t frame) const {
  constexpr uint64_t kCurveMessage = 8 + 8 + 1 + 16;
  const uint64_t body = encrypted_ ? frame + kCurveMessage : frame;
  return body + (body > 255 ? 9 : 2);
}

bool Router::receive(Received* received) {
  zmq::message_t routing_id;
  if (!socket_.recv(routing_id, zmq::recv_flags::dontwait)) return false;
  received->route = route_of(routing_id);
  received->malformed = false;
  received->descriptor = -1;
  received->bytes = 0;
  bool more = routing_id.more();
  if (!more) received->frame.rebuild(), received->malformed = true;
  if (more) {
    (void)socket_.recv(received->frame, zmq::recv_flags::dontwait);
    more = received->frame.more();
    if (const char* descriptor = zmq_msg_gets(received->frame.handle(), "__fd"))
      received->descriptor = std::atoi(descriptor);
    received->bytes = wire_bytes(received->frame.size());
  }
  zmq::message_t rest;
  while (more) {  // read and thrown away part by part: an endless message must not gather here
    received->malformed = true;
    if (!socket_.recv(rest, zmq::recv_flags::dontwait)) break;
    received->bytes += wire_bytes(rest.size());
    more = rest.more();
  }
  return true;
}

Router::Peer& Router::peer_of(uint64_t route) {
  forget_idle();
  return peers_[route];
}

void Router::forget_idle() {
  if (peers_.size() < crowd_) return;
  std::erase_if(peers_, [](const auto& peer) {
    return peer.second.buffered() == 0 && peer.second.transport->bytes.load() == 0;
  });
  crowd_ = 1024 + 2 * peers_.size();
}

Router::Sent Router::try_send(uint64_t route, Peer& peer, std::string& frame) {
  std::string id(kAutoIdSize, '\0');
  if (route >> 32) {
    auto named = names_.find(route);
    if (named == names_.end()) return Sent::nobody;
    id = named->second;
  } else {
    auto number = uint32_t(route);
    std::memcpy(id.data() + 1, &number, sizeof number);
  }
  try {
    zmq::message_t head(id.data(), id.size());
    if (!socket_.send(head, zmq::send_flags::sndmore | zmq::send_flags::dontwait)) {
      is_blocked_ = true;
      return Sent::later;
    }
    auto sent = socket_.send(to_message(std::move(frame), peer.transport, budget_->transport),
                             zmq::send_flags::dontwait);
    MILLRACE_CHECK(sent.has_value());  // libzmq takes a message's parts together or not at all
    return Sent::yes;
  } catch (const zmq::error_t& error) {
    if (error.num() == EHOSTUNREACH) return Sent::nobody;
    throw;
  }
}

Router::Sent Router::send(uint64_t route, std::string frame) {
  Peer& peer = peer_of(route);
  if (peer.is_dropped) {
    if (peer.transport->bytes.load() > kTransportLeast) return Sent::nobody;
    peer.is_dropped = false;
  }
  if (peer.waiting.empty() && peer.transport->bytes.load() < budget_->transport_limit()) {
    Sent sent = try_send(route, peer, frame);
    if (sent != Sent::later) return sent;
  }
  if (peer.buffered() > budget_->per_peer) {
    drop(route, Limit::per_peer);
    return Sent::nobody;
  }
  peer.waiting_bytes += cost_of(frame);
  budget_->buffered += cost_of(frame);
  peer.waiting.push_back(std::move(frame));
  waiting_.insert(route);
  return send_waiting(route, peer) == Sent::nobody ? Sent::nobody : Sent::later;
}

// As far as the transport takes it; what is left is outstanding.
Router::Sent Router::send_waiting(uint64_t route, Peer& peer) {
  Sent sent = Sent::yes;
  auto& outstanding = peer.transport->is_outstanding;
  while (!peer.waiting.empty() && sent == Sent::yes) {
    if (peer.transport->bytes.load() >= budget_->transport_limit()) {
      outstanding = true;
      // Unless it fell just before that, and nobody signals.
      if (peer.transport->bytes.load() > kTransportLeast || !outstanding.exchange(false))
        return Sent::later;
    }
    const size_t cost = cost_of(peer.waiting.front());
    sent = try_send(route, peer, peer.waiting.front());
    if (sent == Sent::later) return sent;
    peer.waiting.pop_front();
    peer.waiting_bytes -= cost;
    budget_->buffered -= cost;
  }
  if (sent == Sent::nobody) {
    budget_->buffered -= std::exchange(peer.waiting_bytes, 0);
    peer.waiting.clear();
  }
  waiting_.erase(route);
  return sent;
}

std::vector<uint64_t> Router::flush() {
  is_blocked_ = false;
  std::vector<uint64_t> gone;
  const std::vector<uint64_t> waiting(waiting_.begin(), waiting_.end());
  for (uint64_t route : waiting)
    if (send_waiting(route, peers_.at(route)) == Sent::nobody) gone.push_back(route);
  return gone;
}

void Router::hold(uint64_t route, size_t bytes) {
  Peer& peer = peer_of(route);
  if (peer.buffered() > budget_->per_peer) drop(route, Limit::per_peer);
  peer.held_bytes += bytes + kFrameCost;
  budget_->buffered += bytes + kFrameCost;
}

void Router::release(uint64_t route, size_t bytes) {
  Peer& peer = peers_.at(route);  // never idle while something is held for it
  peer.held_bytes -= bytes + kFrameCost;
  budget_->buffered -= bytes + kFrameCost;
}

bool Router::has_room(uint64_t route, size_t most) const {
  auto found = peers_.find(route);
  if (found == peers_.end()) return true;
  const Peer& peer = found->second;
  if (peer.is_dropped || peer.buffered() >= most) return false;
  if (peer.buffered() + peer.transport->bytes.load() < most) return true;
  peer.transport->is_outstanding = true;
  return peer.transport->bytes.load() <= kTransportLeast &&
         peer.transport->is_outstanding.exchange(false);
}

std::pair<uint64_t, size_t> Router::largest() const {
  std::pair<uint64_t, size_t> most{0, 0};
  for (const auto& [route, peer] : peers_)
    if (!peer.is_dropped && peer.buffered() > most.second) most = {route, peer.buffered()};
  return most;
}

void Router::drop(uint64_t route, Limit passed) {
  Peer& peer = peer_of(route);
  if (peer.is_dropped) return;
  dropped_.push_back({route, passed, peer.waiting_bytes, peer.held_bytes});
  peer.is_dropped = true;
  budget_->buffered -= std::exchange(peer.waiting_bytes, 0);
  peer.waiting.clear();
  waiting_.erase(route);
}

}  // namespace millrace::server
