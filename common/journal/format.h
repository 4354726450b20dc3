// The bytes of docs/JOURNAL.md, sections 2 and 3: headers of segments and batches.
// Shape:   a header block, then batches, each at a multiple of kBlock
// Units:   bytes; all integers little-endian
// Errors:  decode_* return nothing for bytes that are no header, or whose checksum is wrong
// Threads: immutable
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/journal/journal.h"

namespace millrace::journal {

inline constexpr uint32_t kFormatVersion = 2;        // that is written
inline constexpr uint32_t kOldestFormatVersion = 1;  // that is read
inline constexpr size_t kSegmentHeaderBytes = 56;
inline constexpr size_t kBatchHeaderBytes = 64;

inline constexpr uint32_t kSealed = 1;
inline constexpr uint32_t kBehindUnsynced =
    2;  // written while older batches of its segment were not synced

constexpr bool can_read(uint32_t version) {
  return version >= kOldestFormatVersion && version <= kFormatVersion;
}

constexpr uint64_t round_to_block(uint64_t bytes) { return (bytes + kBlock - 1) / kBlock * kBlock; }

struct SegmentHeader {
  uint32_t version = kFormatVersion;
  BrokerId broker;
  SegmentId segment;
  BatchSeq first;      // sequence of the first batch
  uint64_t chain = 0;  // checksum of the last batch of the segment before
  WallMs created{};
};

struct BatchHeader {
  SegmentId segment;
  BatchSeq sequence;
  uint64_t incarnation = 0;
  uint64_t chain = 0;  // checksum of the batch before
  uint32_t body_bytes = 0;
  uint32_t records = 0;
  uint32_t flags = 0;
  uint64_t checksum = 0;  // of the fields above and the body
};

std::array<char, kSegmentHeaderBytes> encode(const SegmentHeader& header);
std::optional<SegmentHeader> decode_segment_header(std::string_view bytes);

// Computes the checksum over the header and the body's parts, and stores it in the header.
std::array<char, kBatchHeaderBytes> encode(BatchHeader* header,
                                           std::span<const std::string_view> body);
// The fields of what begins like a batch, valid or not.
std::optional<BatchHeader> peek_batch(std::string_view bytes);
// `bytes` begins with the batch and may go on behind it.
std::optional<BatchHeader> decode_batch(std::string_view bytes);
// Whether a batch of this segment was begun here, valid or not.
bool begins_batch(std::string_view bytes, SegmentId segment);

std::string segment_name(SegmentId segment);
std::optional<SegmentId> parse_segment_name(std::string_view name);

}  // namespace millrace::journal
