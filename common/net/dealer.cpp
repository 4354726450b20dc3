#include "common/net/dealer.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/check.h"

namespace millrace {
namespace {

// From here on libzmq writes the frame from where it stands; below, one small copy is cheaper than
// handing over the string's memory.
constexpr size_t kHandOver = 8 << 10;
constexpr int kReconnectMs = 100;  // libzmq adds a random part of the same size

zmq::message_t to_message(std::string frame) {
  if (frame.size() < kHandOver) return zmq::message_t(frame.data(), frame.size());
  auto* kept = new std::string(std::move(frame));
  auto release = [](void*, void* hint) { delete static_cast<std::string*>(hint); };
  return zmq::message_t(kept->data(), kept->size(), release, kept);
}

}  // namespace

Result<std::unique_ptr<ClientSocket>> Dealer::open(zmq::context_t& context,
                                                   const std::string& endpoint, size_t max_frame,
                                                   const std::optional<CurveClient>& curve,
                                                   size_t io_thread) {
  try {
    zmq::socket_t socket(context, zmq::socket_type::dealer);
    socket.set(zmq::sockopt::linger, 0);
    const auto threads = size_t(context.get(zmq::ctxopt::io_threads));
    socket.set(zmq::sockopt::affinity, uint64_t{1} << io_thread % std::max<size_t>(threads, 1));
    socket.set(zmq::sockopt::sndhwm, kHighWater);
    socket.set(zmq::sockopt::rcvhwm, kHighWater);
    socket.set(zmq::sockopt::maxmsgsize, int64_t(max_frame));
    socket.set(zmq::sockopt::reconnect_ivl, kReconnectMs);
    socket.set(zmq::sockopt::immediate, false);
    socket.set(zmq::sockopt::ipv6, endpoint.find('[') != std::string::npos);
    if (curve) {
      socket.set(zmq::sockopt::curve_publickey, curve->own.public_key);
      socket.set(zmq::sockopt::curve_secretkey, curve->own.secret_key);
      socket.set(zmq::sockopt::curve_serverkey, curve->broker_key);
    }
    auto handshakes = std::make_unique<Handshakes>(context, socket, curve.has_value());
    socket.connect(endpoint);
    return std::unique_ptr<ClientSocket>(new Dealer(std::move(socket), std::move(handshakes)));
  } catch (const zmq::error_t& error) {
    return Error{ExitCode::usage,
                 fmt::format("can't connect to {}: {}; an endpoint looks like tcp://host:port",
                             endpoint, error.what())};
  }
}

// Before the reader of its events goes: libzmq would wait for one.
Dealer::~Dealer() { zmq_socket_monitor(socket_.handle(), nullptr, 0); }

bool Dealer::send(std::string frame) {
  return socket_.send(to_message(std::move(frame)), zmq::send_flags::dontwait).has_value();
}

void Dealer::add_to(std::vector<zmq::pollitem_t>* items) {
  items->push_back({socket_.handle(), 0, ZMQ_POLLIN, 0});
  items->push_back({handshakes_->socket().handle(), 0, ZMQ_POLLIN, 0});
}

bool Dealer::receive(zmq::message_t& message) {
  while (socket_.recv(message, zmq::recv_flags::dontwait)) {
    if (!message.more()) return true;
    while (message.more()) MILLRACE_CHECK(socket_.recv(message, zmq::recv_flags::dontwait));
  }
  return false;
}

}  // namespace millrace
