// The one codec: messages to frames and back, over msgpack-c.
// Shape:   encode(session, message) → frame;  decode_*(frame) → session and message, or a Fault
// Limits:  those of docs/PROTOCOL.md, section 6: a frame beyond them decodes to a Fault
// Errors:  a Fault carries the code and the sentence of the ERROR that answers the frame
// Owns:    a decoded message points into the frame
// Threads: any; no shared state
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "common/protocol/messages.h"

namespace millrace::protocol {

struct Fault {
  SessionId session;  // 0 if it could not be read
  std::string_view code;
  std::string message;
  std::optional<About> about{};  // if that much could be read
};

template <typename Message>
struct Envelope {
  SessionId session;
  Message message;
};

template <typename Message>
using Decoded = std::variant<Envelope<Message>, Fault>;

Decoded<FromClient> decode_from_client(std::string_view frame);
Decoded<FromBroker> decode_from_broker(std::string_view frame);
// The session that a frame names, whatever else is in it; 0 if it could not be read.
SessionId session_of(std::string_view frame);

std::string encode(SessionId session, const FromClient& message);
std::string encode(SessionId session, const FromBroker& message);

}  // namespace millrace::protocol
