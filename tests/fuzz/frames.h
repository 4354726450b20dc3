// What the two fuzz targets of the protocol have in common: any bytes decode to a message or a
// Fault, and a message has one form, which decodes to the same.
#pragma once

#include "common/base/check.h"
#include "common/protocol/codec.h"
#include "common/protocol/limits.h"
#include "tests/fuzz/target.h"

namespace millrace::fuzz {

template <typename Message, typename Decode>
void check_frame(std::string_view frame, Decode&& decode) {
  using namespace protocol;
  const Decoded<Message> decoded = decode(frame);
  if (const auto* fault = std::get_if<Fault>(&decoded)) {
    MILLRACE_CHECK(!fault->code.empty() && !fault->message.empty());
    return;
  }
  const auto& envelope = std::get<Envelope<Message>>(decoded);
  const std::string first = encode(envelope.session, envelope.message);
  const Decoded<Message> back = decode(first);
  MILLRACE_CHECK(std::holds_alternative<Envelope<Message>>(back));
  const auto& same = std::get<Envelope<Message>>(back);
  MILLRACE_CHECK(same.session == envelope.session);
  MILLRACE_CHECK(same.message.index() == envelope.message.index());
  MILLRACE_CHECK(encode(same.session, same.message) == first);
}

}  // namespace millrace::fuzz
