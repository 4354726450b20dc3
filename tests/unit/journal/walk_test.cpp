// What the walk shows of a damaged journal, and that it goes on behind the damage.
#include "common/journal/walk.h"

#include "tests/catch.h"
#include "tests/crash/journal_fixture.h"

using namespace millrace;
using namespace millrace::journal;
using namespace millrace::test;

namespace {

using Kind = Finding::Kind;

class Seen final : public records::RecordVisitor {
 public:
  std::vector<uint64_t> tickets;
  std::vector<Finding> findings;

 private:
  Result<void> on_record(const records::Record& record, size_t, Place) override {
    tickets.push_back(std::get<records::Accepted>(record).first_job.value);
    return {};
  }
  Result<void> on_finding(const Finding& finding) override {
    findings.push_back(finding);
    return {};
  }
};

std::string name(uint64_t segment) { return segment_name({segment}); }

// Three segments: tickets 1–3 sealed, 4–6 sealed, 7–9 not.
Disk small_journal() {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment);
  write_tickets(writer, 1, 9, 700, {4, 7});
  return directory.disk();
}

Seen walk_over(const Disk& disk) {
  FakeDirectory directory(disk);
  auto listing = list(directory);
  REQUIRE(listing.ok());
  Seen seen;
  REQUIRE(walk(directory, listing->segments, seen).ok());
  CHECK(directory.trace().empty());  // nothing has been changed
  return seen;
}

using Tickets = std::vector<uint64_t>;

}  // namespace

TEST_CASE("a whole journal has no findings", "[journal]") {
  Seen seen = walk_over(small_journal());
  CHECK(seen.tickets == Tickets{1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(seen.findings.empty());
}

TEST_CASE("behind a damaged batch the walk goes on with the next", "[journal]") {
  Disk disk = small_journal();
  disk.content(name(2))[kBlock * 2 + 100] ^= 1;  // ticket 5, its body
  disk.content(name(3))[kBlock + 20] ^= 1;       // ticket 7, its header
  Seen seen = walk_over(disk);
  CHECK(seen.tickets == Tickets{1, 2, 3, 4, 6, 8, 9});
  REQUIRE(seen.findings.size() == 2);
  CHECK(seen.findings[0].kind == Kind::damaged);
  CHECK(seen.findings[0].segment == SegmentId{2});
  CHECK(seen.findings[0].offset == kBlock * 2);
  CHECK(seen.findings[0].lost_batches == 1);
  CHECK(seen.findings[0].lost_bytes == kBlock);
  CHECK(seen.findings[1].segment == SegmentId{3});
  CHECK(seen.findings[1].offset == kBlock);
}

TEST_CASE("a missing or foreign segment costs only its own batches", "[journal]") {
  Disk disk = small_journal();
  disk.names.erase(name(2));
  Seen seen = walk_over(disk);
  CHECK(seen.tickets == Tickets{1, 2, 3, 7, 8, 9});
  REQUIRE(seen.findings.size() == 1);
  CHECK(seen.findings[0].kind == Kind::missing);
  CHECK(seen.findings[0].segment == SegmentId{2});

  disk = small_journal();
  auto header = encode(SegmentHeader{kFormatVersion, {0xbad}, {2}, {5}, 0, WallMs()});
  disk.content(name(2)).replace(0, header.size(), header.data(), header.size());
  seen = walk_over(disk);
  CHECK(seen.tickets == Tickets{1, 2, 3, 7, 8, 9});
  REQUIRE(seen.findings.size() == 1);
  CHECK(seen.findings[0].what.find("does not continue") != std::string::npos);

  disk = small_journal();
  header = encode(SegmentHeader{kFormatVersion + 1, kBroker, {2}, {5}, 0, WallMs()});
  disk.content(name(2)).replace(0, header.size(), header.data(), header.size());
  seen = walk_over(disk);
  CHECK(seen.tickets == Tickets{1, 2, 3, 7, 8, 9});
  REQUIRE(seen.findings.size() == 1);
  CHECK(seen.findings[0].kind == Kind::foreign_version);
}

TEST_CASE("behind damage, too, another broker's segment is not read", "[journal]") {
  Disk disk = small_journal();
  disk.content(name(1))[kBlock * 4 + 10] ^= 1;  // the seal
  auto header = encode(SegmentHeader{kFormatVersion, {0xbad}, {2}, {5}, 0, WallMs()});
  disk.content(name(2)).replace(0, header.size(), header.data(), header.size());
  Seen seen = walk_over(disk);
  CHECK(seen.tickets == Tickets{1, 2, 3, 7, 8, 9});
  REQUIRE(seen.findings.size() == 2);
  CHECK(seen.findings[1].segment == SegmentId{2});
}

TEST_CASE("a segment with a damaged header still has its batches", "[journal]") {
  for (uint64_t segment = 1; segment <= 3; ++segment) {
    Disk disk = small_journal();
    disk.content(name(segment))[20] ^= 1;
    Seen seen = walk_over(disk);
    CHECK(seen.tickets == Tickets{1, 2, 3, 4, 5, 6, 7, 8, 9});
    REQUIRE(!seen.findings.empty());
    CHECK(seen.findings[0].segment == SegmentId{segment});
    CHECK(seen.findings[0].offset == 0);
  }
}

TEST_CASE("a torn tail is told from damage", "[journal]") {
  Disk disk = small_journal();
  disk.content(name(3))[kBlock * 3 + 100] ^= 1;  // ticket 9, the last
  Seen seen = walk_over(disk);
  CHECK(seen.tickets == Tickets{1, 2, 3, 4, 5, 6, 7, 8});
  REQUIRE(seen.findings.size() == 1);
  CHECK(seen.findings[0].kind == Kind::torn_tail);
  CHECK(seen.findings[0].offset == kBlock * 3);
}

TEST_CASE("what looks like a batch in the payload of a damaged one is not taken for one",
          "[journal]") {
  // A batch in itself right, of this segment, at a multiple of the block: in ticket 2's payload.
  BatchHeader forged{{1}, {3}, 1, 0, 0, 0, 0};
  records::Chunk inner = chunk_of(77, 10);
  forged.body_bytes = uint32_t(inner.bytes());
  forged.records = 1;
  auto head = encode(&forged, inner.parts());
  std::string payload(3 * kBlock, 'p');
  records::Accepted accepted;
  accepted.first_job = {2};
  accepted.first_seq = {2};
  accepted.queue = "q";
  accepted.payloads = {payload};
  records::Chunk measure;
  const size_t in_body = measure.append(accepted);
  const size_t to_block = kBlock - (kBatchHeaderBytes + in_body + 4) % kBlock;  // array, bin 16
  payload.replace(to_block, head.size(), head.data(), head.size());
  payload.replace(to_block + head.size(), inner.bytes(), inner.parts().front());
  accepted.payloads = {payload};
  records::Chunk chunk;
  chunk.append(accepted);

  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment * 4);
  write_tickets(writer, 1, 1, 10);
  REQUIRE(writer.write(batch_of(chunk), false, WallMs()).ok());
  write_tickets(writer, 3, 3, 10);
  Disk disk = directory.disk();
  REQUIRE(decode_batch(std::string_view(disk.content(name(1))).substr(kBlock * 3)));
  disk.content(name(1))[kBlock * 2 + kBatchHeaderBytes + 1] ^= 1;
  Seen seen = walk_over(disk);
  CHECK(seen.tickets == Tickets{1, 3});
}
