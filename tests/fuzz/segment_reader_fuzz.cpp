// Any bytes as a segment's file: the walk comes back, shows only batches whose checksum is right,
// and a start (scan and finish) takes it or refuses it with a place.
// Shape:   an input is a segment without the zeros between its batches: pieces that begin with a batch's
//          magic are moved to the next block, so that inputs stay small. If the first byte is odd, the
//          checksums are set right, so that mutations get behind them.
#include <algorithm>

#include "broker/replay/replay.h"
#include "common/base/check.h"
#include "common/journal/recovery.h"
#include "tests/crash/fake_directory.h"
#include "tests/fuzz/target.h"
#include "tests/unit/broker/record_samples.h"

using namespace millrace;
using namespace millrace::journal;

namespace {

constexpr std::string_view kMagic = "MRBATCH1";
constexpr SegmentId kSegment{5};

// The last bytes of an encoded header are its checksum.
template <typename Header>
void put_checksum(std::string& bytes, size_t at, const Header& encoded) {
  std::copy(encoded.end() - 8, encoded.end(), bytes.begin() + long(at + encoded.size() - 8));
}

void heal(std::string& bytes) {
  if (bytes.size() >= kSegmentHeaderBytes) {
    // Whatever the fields say: as if it had been written so.
    SegmentHeader header{kFormatVersion, {0xb0b}, kSegment, {1}, 0, WallMs()};
    if (auto read = decode_segment_header(bytes)) header = *read;
    auto encoded = encode(header);
    std::copy(encoded.begin(), encoded.end(), bytes.begin());
  }
  uint64_t chain = 0;
  for (size_t at = kBlock; at < bytes.size(); at += kBlock) {
    auto header = peek_batch(std::string_view(bytes).substr(at));
    if (!header) continue;
    header->chain = chain;
    header->body_bytes =
        uint32_t(std::min<size_t>(header->body_bytes, bytes.size() - at - kBatchHeaderBytes));
    std::string_view body =
        std::string_view(bytes).substr(at + kBatchHeaderBytes, header->body_bytes);
    auto encoded = encode(&*header, {&body, 1});
    std::copy(encoded.begin(), encoded.end(), bytes.begin() + long(at));
    chain = header->checksum;
  }
}

std::string file_of(std::string_view input) {
  const bool healed = !input.empty() && (input[0] & 1);
  if (!input.empty()) input.remove_prefix(1);
  std::string bytes;
  while (!input.empty()) {
    size_t next = input.find(kMagic, 1);
    bytes += input.substr(0, next);
    if (next == input.npos) break;
    bytes.resize(round_to_block(bytes.size()));
    input.remove_prefix(next);
  }
  if (healed) heal(bytes);
  return bytes;
}

class Checked final : public records::RecordVisitor {
 public:
  explicit Checked(std::string bytes) : bytes_(std::move(bytes)) {}

 private:
  Result<void> on_batch(SegmentId, const SegmentReader::Batch& batch) override {
    const size_t at = batch.body_offset - kBatchHeaderBytes;
    MILLRACE_CHECK(at % kBlock == 0 && at >= kBlock && at + kBatchHeaderBytes <= bytes_.size());
    auto header = decode_batch(std::string_view(bytes_).substr(at));
    MILLRACE_CHECK(header && header->segment == kSegment);
    MILLRACE_CHECK(header->checksum == batch.header.checksum);
    MILLRACE_CHECK(batch.body == bytes_.substr(batch.body_offset, header->body_bytes));
    MILLRACE_CHECK(header->sequence > last_ || last_.value == 0);
    last_ = header->sequence;
    return {};
  }
  Result<void> on_record(const records::Record&, size_t, Place place) override {
    MILLRACE_CHECK(place.segment == kSegment && place.offset < bytes_.size());
    return {};
  }
  Result<void> on_finding(const Finding& finding) override {
    MILLRACE_CHECK(!finding.what.empty() && finding.offset <= bytes_.size());
    return {};
  }

  const std::string bytes_;
  BatchSeq last_;
};

// A start that takes it leaves a directory that the next start takes, with as many records.
void check_start(const std::string& bytes) {
  test::Disk disk;
  disk.put(segment_name(kSegment), bytes);
  test::FakeDirectory directory(disk);
  auto nothing = records::replay([](const records::Record&, Place) { return Result<void>(); });
  auto first = scan(directory, nothing);
  if (!first) {
    MILLRACE_CHECK(first.error().code == ExitCode::bad_data);
    MILLRACE_CHECK(directory.trace().empty());
    return;
  }
  const Recovered found = first->recovered;
  MILLRACE_CHECK(finish(directory, &*first).ok());
  auto again = scan(directory, nothing);
  MILLRACE_CHECK(again.ok());
  MILLRACE_CHECK(again->recovered.records == found.records && !again->recovered.torn_tail);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes = file_of({reinterpret_cast<const char*>(data), size});
  test::Disk disk;
  disk.put(segment_name(kSegment), bytes);
  test::FakeDirectory directory(disk);
  auto listing = list(directory);
  MILLRACE_CHECK(listing.ok());
  Checked checked(bytes);
  MILLRACE_CHECK(walk(directory, listing->segments, checked).ok());
  check_start(bytes);
  return 0;
}

namespace {

std::string batch_of(uint64_t sequence, uint64_t* chain, uint32_t flags,
                     const std::vector<records::Record>& all) {
  records::Chunk chunk;
  for (const auto& record : all) chunk.append(record);
  BatchHeader header{kSegment,        {sequence}, 1, *chain, uint32_t(chunk.bytes()),
                     chunk.records(), flags};
  auto parts = chunk.parts();
  auto head = encode(&header, parts);
  *chain = header.checksum;
  std::string bytes(head.begin(), head.end());
  for (std::string_view part : parts) bytes += part;
  return bytes;
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const auto records = test::one_of_each();
  auto head = encode(SegmentHeader{kFormatVersion, {0xb0b}, kSegment, {1}, 0, WallMs()});
  const std::string header(head.begin(), head.end());
  std::vector<std::string> all;
  for (uint32_t flags : {0u, kBehindUnsynced}) {
    for (bool is_sealed : {false, true}) {
      uint64_t chain = 0;
      std::string segment = header;
      segment += batch_of(1, &chain, 0, {records[9], records[0]});
      segment += batch_of(2, &chain, flags, {records[1], records[2]});
      segment += batch_of(3, &chain, flags, {records[3]});
      if (is_sealed) segment += batch_of(4, &chain, kSealed, {});
      all.push_back('\0' + segment);
      all.push_back('\1' + segment);
      const size_t second = segment.find(kMagic, header.size() + 1);
      all.push_back('\0' + std::string(segment).replace(second + 100, 1, "~"));  // damaged
    }
  }
  return all;
}
