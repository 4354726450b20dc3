#include "broker/replay/replay.h"

namespace millrace::records {
namespace {

using journal::Place;

// On an error `at` is where its cause stands.
template <typename Show>
Result<void> show(std::string_view body, Place* at, const Show& to) {
  const Place begin = *at;
  Result<void> taken;
  auto decoded = decode_all(body, [&](const Record& record, size_t offset) {
    if (!taken) return;
    const std::string_view payload = payload_bytes(record);
    const size_t in_body = payload.empty() ? offset : size_t(payload.data() - body.data());
    const Place place{begin.segment, uint32_t(begin.offset + in_body)};
    taken = to(record, offset, place);
    if (!taken) *at = place;
  });
  if (!taken || decoded) return taken;
  return Error{
      decoded.error().code,
      "the checksum of the batch is valid, but its records are not: " + decoded.error().message};
}

}  // namespace

journal::Journal::Replay replay(Visit visit) {
  return [visit = std::move(visit)](std::string_view body, Place* at) {
    return show(body, at,
                [&](const Record& record, size_t, Place place) { return visit(record, place); });
  };
}

Result<void> RecordVisitor::on_body(std::string_view body, Place* at) {
  return show(body, at, [this](const Record& record, size_t offset, Place place) {
    return on_record(record, offset, place);
  });
}

}  // namespace millrace::records
