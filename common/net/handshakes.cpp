#include "common/net/handshakes.h"

#include <fmt/format.h>

#include <cstring>

#include "common/base/check.h"
#include "common/base/ids.h"

namespace millrace {
namespace {

constexpr int kEvents = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                        ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                        ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED;

constexpr const char* kNotListed =
    "it refuses this --curve-key: put its public half on the broker's list with 'millrace-broker "
    "keys add'";
constexpr const char* kBrokerPlain =
    "it does not use keys: omit --curve-key and --curve-broker, or start it with --curve-key";
constexpr const char* kBrokerCurve =
    "it requires keys: give --curve-key and --curve-broker (or what listens there is not a "
    "Millrace broker)";
constexpr const char* kClosedWithKeys =
    "it ends each handshake: --curve-broker is another broker's key, or it does not use keys (was "
    "it started with --curve-key?)";
constexpr const char* kClosedPlain =
    "it ends each handshake: it requires keys, so give --curve-key and --curve-broker, or what "
    "listens there is not a Millrace broker";

}  // namespace

Handshakes::Handshakes(zmq::context_t& context, zmq::socket_t& watched, bool has_keys)
    : events_(context, zmq::socket_type::pair), has_keys_(has_keys) {
  const auto name = fmt::format("inproc://handshakes-{:x}", random_session().value);
  MILLRACE_CHECK(zmq_socket_monitor(watched.handle(), name.c_str(), kEvents) == 0);
  events_.set(zmq::sockopt::linger, 0);
  events_.connect(name);
}

std::optional<std::string> Handshakes::refusal() {
  std::optional<std::string> why;
  zmq::message_t message, endpoint;
  while (events_.recv(message, zmq::recv_flags::dontwait)) {
    MILLRACE_CHECK(message.more() && events_.recv(endpoint, zmq::recv_flags::dontwait));
    uint16_t event;
    uint32_t value;
    MILLRACE_CHECK(message.size() == sizeof event + sizeof value);
    std::memcpy(&event, message.data(), sizeof event);
    std::memcpy(&value, static_cast<const char*>(message.data()) + sizeof event, sizeof value);
    auto reason = reason_of(event, value);
    if (reason || event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) why = std::move(reason);
  }
  return why;
}

std::optional<std::string> Handshakes::reason_of(uint16_t event, uint32_t value) {
  if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
    closed_ = 0;
    established_ = true;
    unreachable_ = false;
    return std::nullopt;
  }
  if (event == ZMQ_EVENT_CONNECT_RETRIED) {
    unreachable_ = !established_;
    return std::nullopt;
  }
  if (event == ZMQ_EVENT_DISCONNECTED) {
    cut_ = cut_ || established_;
    return std::nullopt;
  }
  if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) return kNotListed;
  if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL &&
      value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
    return has_keys_ ? kBrokerPlain : kBrokerCurve;
  if (++closed_ < kClosed) return std::nullopt;
  return has_keys_ ? kClosedWithKeys : kClosedPlain;
}

}  // namespace millrace
