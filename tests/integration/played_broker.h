// A broker's frontend that a test plays itself: a ROUTER in the test's own thread, where what came
// is asked for and what is answered is written out.
// Threads: one
#pragma once

#include <optional>
#include <string>
#include <zmq.hpp>

#include "common/base/units.h"
#include "common/protocol/codec.h"
#include "tests/catch.h"

namespace millrace::played {

class PlayedBroker {
 public:
  PlayedBroker() : socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.bind("tcp://127.0.0.1:*");
  }

  Endpoint endpoint() { return *parse_endpoint(socket_.get(zmq::sockopt::last_endpoint).c_str()); }

  struct Received {
    std::string route;
    SessionId session;
    std::string frame;
    protocol::FromClient message;
  };
  std::optional<Received> receive() {
    zmq::message_t route, body;
    if (!socket_.recv(route, zmq::recv_flags::dontwait)) return std::nullopt;
    REQUIRE(socket_.recv(body, zmq::recv_flags::dontwait));
    Received received{route.to_string(), {}, body.to_string(), protocol::Heartbeat{}};
    auto decoded = protocol::decode_from_client(received.frame);
    REQUIRE(decoded.index() == 0);
    received.session = std::get<0>(decoded).session;
    received.message = std::get<0>(decoded).message;
    return received;
  }
  void send(const Received& to, const protocol::FromBroker& message) {
    send_raw(to, protocol::encode(to.session, message));
  }
  void send_raw(const Received& to, const std::string& frame) {
    socket_.send(zmq::buffer(to.route), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(frame), zmq::send_flags::none);
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

inline protocol::Welcome welcome_message() {
  protocol::Welcome welcome;
  welcome.broker = {0x3f9a1c07};
  welcome.window_jobs = 1000;
  welcome.window_bytes = 1 << 20;
  welcome.durability = "confirmed";
  return welcome;
}

}  // namespace millrace::played
