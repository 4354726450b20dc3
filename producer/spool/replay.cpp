#include "producer/spool/replay.h"

#include <fmt/format.h>

#include "producer/session/rounds.h"

namespace millrace::producer {

journal::Journal::Replay SpoolReplay::visitor() {
  return [this](std::string_view body, journal::Place* at) -> Result<void> {
    const journal::Place begin = *at;
    size_t offset = 0;
    auto taken = decode_spool(
        body,
        [&](const SpoolRecord& record, SpoolSpan span) {
          return take(record, {begin.segment, begin.offset + uint32_t(span.offset)}, span.size);
        },
        &offset);
    if (!taken) at->offset = begin.offset + uint32_t(offset);
    return taken;
  };
}

Result<void> SpoolReplay::take(const SpoolRecord& record, journal::Place place, size_t size) {
  const bool begins = place.segment != segment_;
  segment_ = place.segment;
  const auto* checkpoint = std::get_if<SpoolCheckpoint>(&record);
  if (begins != (checkpoint != nullptr))
    return Error{ExitCode::bad_data, "a Checkpoint stands first in each segment and nowhere else"};
  if (checkpoint) return check(*checkpoint);
  if (const auto* answered = std::get_if<SpoolAnswered>(&record)) {
    for (SeqRange run : answered->runs) index_.answered(run);
    return {};
  }
  const auto& put = std::get<SpoolPut>(record);
  if (auto checked = check_run(put.submit.first.value >> kRoundShift); !checked) return checked;
  if (index_.restore(put.seqs(), put.bytes(), place, size)) return {};
  return Error{ExitCode::bad_data, "sequences come twice, in Puts that are not the same"};
}

Result<void> SpoolReplay::check(const SpoolCheckpoint& checkpoint) const {
  if (checkpoint.producer == identity_.producer) return check_run(checkpoint.run);
  return Error{ExitCode::bad_data,
               fmt::format("it belongs to the spool of producer {}, and this one is {}",
                           checkpoint.producer.hex(), identity_.producer.hex())};
}

Result<void> SpoolReplay::check_run(uint64_t run) const {
  if (run <= identity_.run) return {};
  return Error{
      ExitCode::bad_data,
      fmt::format("it was written by run {}, and the spool's file 'producer' knows of {} only, "
                  "so it is an older copy",
                  run, identity_.run)};
}

}  // namespace millrace::producer
