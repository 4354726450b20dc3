#include "broker/server/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "common/check.h"

namespace millrace::server {
namespace {

constexpr size_t kAutoIdSize = 5;
constexpr size_t kMaxNamed = 65536;
constexpr size_t kCurveOverhead = 64;  // of a frame's cipher text: its nonce, tag and flags are 33
constexpr int kZapEnforceDomain = 93;  // a draft in the header of 4.3.4, and in its library
constexpr int kWatched = ZMQ_EVENT_LISTENING | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED |
                         ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                         ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;

// libzmq counts the frames of a peer that it holds, not their bytes.
int frames_in_flight(size_t max_frame) {
  return int(std::clamp<size_t>(kMaxWaitingBytes / max_frame, 4, 512));
}

void free_string(void*, void* string) { delete static_cast<std::string*>(string); }

// Hands the string's storage to libzmq: no copy.
zmq::message_t to_message(std::string frame) {
  auto* owned = new std::string(std::move(frame));
  return zmq::message_t(owned->data(), owned->size(), free_string, owned);
}

void protect(zmq::socket_t& socket, const RouterKeys& keys) {
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_secretkey, keys.secret_key);
  socket.set(zmq::sockopt::zap_domain, keys.domain);
  // A second lock: should the doorkeeper be gone, libzmq lets nobody in. Where the library does not
  // know the option, the order of opening and closing is all there is.
  const int enforce = 1;
  zmq_setsockopt(socket.handle(), kZapEnforceDomain, &enforce, sizeof enforce);
}

Error bind_error(const std::string& endpoint, const std::string& flag, const zmq::error_t& error) {
  if (error.num() == EADDRINUSE)
    return {
        ExitCode::cant_create,
        fmt::format(
            "can't listen at {}: the port is in use, perhaps by another broker; stop it, or choose "
            "another port with {}",
            endpoint, flag)};
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
  socket.set(zmq::sockopt::router_handover, true);
  socket.set(zmq::sockopt::linger, 500);
  socket.set(zmq::sockopt::maxmsgsize, int64_t(max_frame + (keys ? kCurveOverhead : 0)));
  socket.set(zmq::sockopt::sndhwm, frames_in_flight(max_frame));
  socket.set(zmq::sockopt::rcvhwm, frames_in_flight(max_frame));
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

// ZMTP 3.1, part 3; CURVE puts each frame into a MESSAGE command: name, nonce, flags and tag.
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

Router::Sent Router::try_send(uint64_t route, std::string& frame) {
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
    if (!socket_.send(head, zmq::send_flags::sndmore | zmq::send_flags::dontwait))
      return Sent::later;
    auto sent = socket_.send(to_message(std::move(frame)), zmq::send_flags::dontwait);
    MILLRACE_CHECK(sent.has_value());  // libzmq takes a message's parts together or not at all
    return Sent::yes;
  } catch (const zmq::error_t& error) {
    if (error.num() == EHOSTUNREACH) return Sent::nobody;
    throw;
  }
}

Router::Sent Router::send(uint64_t route, std::string frame) {
  auto slow = waiting_.find(route);
  if (slow == waiting_.end()) {
    Sent sent = try_send(route, frame);
    if (sent != Sent::later) return sent;
    slow = waiting_.try_emplace(route).first;
  }
  slow->second.bytes += frame.size();
  slow->second.frames.push_back(std::move(frame));
  if (slow->second.bytes <= kMaxWaitingBytes) return Sent::later;
  waiting_.erase(slow);
  return Sent::nobody;
}

std::vector<uint64_t> Router::flush() {
  std::vector<uint64_t> gone;
  for (auto peer = waiting_.begin(); peer != waiting_.end();) {
    auto& [route, waiting] = *peer;
    Sent sent = Sent::yes;
    while (!waiting.frames.empty() && sent == Sent::yes) {
      size_t size = waiting.frames.front().size();
      sent = try_send(route, waiting.frames.front());
      if (sent != Sent::yes) break;
      waiting.bytes -= size;
      waiting.frames.pop_front();
    }
    if (sent == Sent::nobody) gone.push_back(route);
    bool over = waiting.frames.empty() || sent == Sent::nobody;
    peer = over ? waiting_.erase(peer) : std::next(peer);
  }
  return gone;
}

}  // namespace millrace::server
