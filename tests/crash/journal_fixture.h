// What the journal's tests share: records that can be told apart, and sessions of a journal over
// the fake directory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "broker/replay/replay.h"
#include "common/journal/segment_writer.h"
#include "tests/crash/fake_directory.h"

namespace millrace::test {

inline constexpr BrokerId kBroker{0xb0b};
inline constexpr uint64_t kSmallSegment = 16 << 10;

// The payload of ticket n; `size` bytes that depend on n.
std::string payload_of(uint64_t ticket, size_t size);
// One Accepted, job `ticket`, with that payload.
records::Chunk chunk_of(uint64_t ticket, size_t size);
journal::Batch batch_of(const records::Chunk& chunk);

// What a replay saw: tickets in order, each checked against its payload and its place.
struct Replayed {
  std::vector<uint64_t> tickets;
  std::vector<journal::Place> places;  // of the payload arrays
  std::vector<size_t> sizes;           // of the payload arrays
  journal::Recovered recovered;
  journal::Journal::Replay visitor();
};

// A writer that goes on where the directory ends; aborts the test if the directory is refused.
journal::SegmentWriter begin_session(FakeDirectory& directory, uint64_t incarnation,
                                     uint64_t segment_bytes,
                                     journal::FsyncMode fsync = journal::FsyncMode::always);

// Writes the tickets [first, last], each a batch of its own; the first begins a segment, and so
// does each in `new_segments`.
void write_tickets(journal::SegmentWriter& writer, uint64_t first, uint64_t last, size_t size,
                   const std::vector<uint64_t>& new_segments = {});

// Scans and finishes, as the start of a broker does.
Result<Replayed> recover(FakeDirectory& directory);

}  // namespace millrace::test
