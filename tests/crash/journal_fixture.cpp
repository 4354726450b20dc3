#include "tests/crash/journal_fixture.h"

#include <algorithm>

#include "tests/catch.h"

namespace millrace::test {

using namespace journal;

std::string payload_of(uint64_t ticket, size_t size) {
  std::string payload(size, '\0');
  uint64_t state = ticket * 0x9E3779B97F4A7C15ull + 1;
  for (char& byte : payload) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    byte = char(state >> 56);
  }
  return payload;
}

records::Chunk chunk_of(uint64_t ticket, size_t size) {
  std::string payload = payload_of(ticket, size);
  records::Accepted accepted;
  accepted.first_job = {ticket};
  accepted.first_seq = {ticket};
  accepted.queue = "q";
  accepted.payloads = {payload};
  records::Chunk chunk;
  chunk.append(accepted);
  return chunk;
}

Batch batch_of(const records::Chunk& chunk) {
  return {chunk.parts(), chunk.bytes(), chunk.records()};
}

Journal::Replay Replayed::visitor() {
  return records::replay([this](const records::Record& record, Place place) {
    const auto& accepted = std::get<records::Accepted>(record);
    uint64_t ticket = accepted.first_job.value;
    if (accepted.payloads.size() != 1 ||
        accepted.payloads[0] != payload_of(ticket, accepted.payloads[0].size()))
      return Result<void>(Error{ExitCode::bug, "the payload is another one"});
    tickets.push_back(ticket);
    places.push_back(place);
    sizes.push_back(accepted.payload_array.size());
    return Result<void>();
  });
}

SegmentWriter begin_session(FakeDirectory& directory, uint64_t incarnation, uint64_t segment_bytes,
                            FsyncMode fsync) {
  auto found = scan(directory, [](std::string_view, Place*) { return Result<void>(); });
  REQUIRE(found.ok());
  REQUIRE(finish(directory, &*found).ok());
  return {directory, std::move(*found), kBroker, incarnation, fsync, segment_bytes};
}

void write_tickets(SegmentWriter& writer, uint64_t first, uint64_t last, size_t size,
                   const std::vector<uint64_t>& new_segments) {
  for (uint64_t ticket = first; ticket <= last; ++ticket) {
    bool new_segment =
        std::find(new_segments.begin(), new_segments.end(), ticket) != new_segments.end();
    records::Chunk chunk = chunk_of(ticket, size);
    auto outcome = writer.write(batch_of(chunk), new_segment, WallMs());
    REQUIRE(outcome.ok());
    REQUIRE(*outcome == SegmentWriter::Outcome::done);
  }
}

Result<Replayed> recover(FakeDirectory& directory) {
  Replayed replayed;
  auto found = scan(directory, replayed.visitor());
  if (!found) return found.error();
  replayed.recovered = found->recovered;
  if (auto finished = finish(directory, &*found); !finished) return finished.error();
  return replayed;
}

}  // namespace millrace::test
