#include <algorithm>
#include <tuple>

#include "tests/catch.h"
#include "tests/crash/journal_fixture.h"

using namespace millrace;
using namespace millrace::journal;
using namespace millrace::test;

namespace {

std::vector<uint64_t> up_to(uint64_t last) {
  std::vector<uint64_t> tickets(last);
  for (uint64_t i = 0; i < last; ++i) tickets[i] = i + 1;
  return tickets;
}

std::string name(uint64_t segment) { return segment_name({segment}); }

// Three segments: tickets 1–3 sealed, 4–6 sealed, 7–9 not.
Disk small_journal() {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment);
  write_tickets(writer, 1, 9, 700, {4, 7});
  return directory.disk();
}

// Recovers a copy of the disk, and again what that left: both must agree.
Result<Replayed> recover_twice(const Disk& disk) {
  FakeDirectory directory(disk);
  auto first = recover(directory);
  if (!first) return first;
  FakeDirectory again(directory.disk());
  auto second = recover(again);
  REQUIRE(second.ok());
  REQUIRE(second->tickets == first->tickets);
  CHECK_FALSE(second->recovered.torn_tail);
  return first;
}

void check_refused(const Disk& disk, std::string_view part) {
  FakeDirectory directory(disk);
  auto refused = recover(directory);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ExitCode::bad_data);
  INFO(refused.error().message);
  CHECK(refused.error().message.find(part) != std::string::npos);
  CHECK(directory.trace().empty());  // nothing has been changed
}

bool is_prefix(const std::vector<uint64_t>& tickets) { return tickets == up_to(tickets.size()); }

}  // namespace

TEST_CASE("an empty directory is a fresh journal", "[journal]") {
  FakeDirectory directory;
  auto replayed = recover(directory);
  REQUIRE(replayed.ok());
  CHECK(replayed->recovered.fresh);
  CHECK(replayed->tickets.empty());
}

TEST_CASE("a segment without a batch says whose it is", "[journal]") {
  Disk disk = small_journal();
  disk.content(name(1)).resize(kBlock);
  disk.names.erase(name(2));
  disk.names.erase(name(3));
  auto replayed = recover_twice(disk);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets.empty());
  CHECK(replayed->recovered.broker == kBroker);
}

TEST_CASE("all batches come back, with the places of their payload arrays", "[journal]") {
  Disk disk = small_journal();
  auto replayed = recover_twice(disk);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == up_to(9));
  CHECK(replayed->recovered.batches == 11);  // with two seals
  CHECK(replayed->recovered.records == 9);
  CHECK_FALSE(replayed->recovered.fresh);
  CHECK_FALSE(replayed->recovered.torn_tail);
  for (size_t i = 0; i < 9; ++i) {
    const std::string& content = disk.content(segment_name(replayed->places[i].segment));
    std::string array = content.substr(replayed->places[i].offset, replayed->sizes[i]);
    CHECK(static_cast<unsigned char>(array[0]) == 0x91);
    CHECK(array.ends_with(payload_of(i + 1, 700)));
  }
}

TEST_CASE("a journal cut at any byte gives all before the cut", "[journal]") {
  Disk whole = small_journal();
  size_t size = whole.content(name(3)).size();
  size_t most = 0;
  for (size_t cut = 0; cut <= size; ++cut) {
    Disk disk = whole;
    disk.content(name(3)).resize(cut);
    FakeDirectory directory(disk);
    auto replayed = recover(directory);
    if (cut < kSegmentHeaderBytes) {
      REQUIRE_FALSE(replayed.ok());  // a segment has no name before its header is on disk
      continue;
    }
    REQUIRE(replayed.ok());
    REQUIRE(is_prefix(replayed->tickets));
    size_t tickets = replayed->tickets.size();
    REQUIRE(tickets >= most);
    REQUIRE(tickets >= 6);
    size_t batch_end = kBlock + (tickets - 6) * kBlock;  // of the batch that would be next
    REQUIRE(cut < batch_end + kBatchHeaderBytes + 800);
    most = tickets;
  }
  CHECK(most == 9);
}

TEST_CASE("a sealed segment cut at any byte of a batch is refused", "[journal]") {
  Disk whole = small_journal();
  size_t used = kBlock * 4 + kBatchHeaderBytes;  // header, three batches, the seal
  for (uint64_t segment : {1, 2}) {
    for (size_t cut = 0; cut < used; cut += cut % kBlock < 1000 ? 1 : 97) {
      Disk disk = whole;
      disk.content(name(segment)).resize(cut);
      FakeDirectory directory(disk);
      auto refused = recover(directory);
      REQUIRE_FALSE(refused.ok());
      REQUIRE(refused.error().code == ExitCode::bad_data);
    }
  }
}

// Where the byte stands, and so what may come of it.
enum class Flip { refused, harmless, torn };

Flip expected_of_flip(uint64_t segment, size_t at) {
  const size_t block = at / kBlock, in_block = at % kBlock;  // header, three batches, the seal
  if (block == 0) return in_block < kSegmentHeaderBytes ? Flip::refused : Flip::harmless;
  if (block == 4)
    return segment < 3 && in_block < kBatchHeaderBytes ? Flip::refused : Flip::harmless;
  if (in_block >= kBatchHeaderBytes + chunk_of(1, 700).bytes()) return Flip::harmless;
  return segment == 3 && block == 3 ? Flip::torn : Flip::refused;
}

TEST_CASE("a flipped bit is refused, or lies where nothing is read, or in the torn tail",
          "[journal]") {
  Disk whole = small_journal();
  for (uint64_t segment = 1; segment <= 3; ++segment) {
    std::string good = whole.content(name(segment));
    for (size_t at = 0; at < kBlock * 5 && at < good.size(); ++at) {
      whole.content(name(segment))[at] = char(good[at] ^ (1 << at % 8));
      FakeDirectory directory(whole);
      auto replayed = recover(directory);
      whole.content(name(segment))[at] = good[at];
      Flip expected = expected_of_flip(segment, at);
      INFO("segment " << segment << ", byte " << at);
      REQUIRE(replayed.ok() == (expected != Flip::refused));
      if (!replayed) {
        REQUIRE(replayed.error().code == ExitCode::bad_data);
      } else {
        REQUIRE(replayed->tickets == up_to(expected == Flip::torn ? 8 : 9));
      }
    }
  }
}

TEST_CASE("damage to what had been synced is told from a torn tail", "[journal]") {
  Disk disk = small_journal();
  disk.content(name(3))[kBlock * 2 + 100] ^= 1;  // ticket 8, with 9 behind it
  check_refused(disk, name(3) + " at byte 8192");

  Disk torn = small_journal();
  torn.content(name(3))[kBlock * 3 + 100] ^= 1;  // ticket 9, the last
  auto replayed = recover_twice(torn);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == up_to(8));
  REQUIRE(replayed->recovered.torn_tail);
  CHECK(replayed->recovered.torn_tail->find(name(3) + " at byte 12288") != std::string::npos);

  Disk sealed = small_journal();
  sealed.content(name(2))[kBlock * 3 + 100] ^= 1;  // ticket 6, the last of a sealed one
  check_refused(sealed, name(2) + " at byte 12288");
}

TEST_CASE("without syncs a later batch proves nothing of those before", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment, FsyncMode::never);
  write_tickets(writer, 1, 3, 700);
  Disk disk = directory.disk();
  disk.content(name(1))[kBlock * 2 + 100] ^= 1;  // ticket 2
  auto replayed = recover_twice(disk);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == up_to(1));

  REQUIRE(writer.sync().ok());
  write_tickets(writer, 4, 4, 700);  // written after a sync, so what is before it was on disk
  disk = directory.disk();
  disk.content(name(1))[kBlock * 2 + 100] ^= 1;
  check_refused(disk, name(1) + " at byte 8192");
}

TEST_CASE("a missing segment is refused", "[journal]") {
  Disk disk = small_journal();
  disk.names.erase(name(2));
  check_refused(disk, name(2) + " is missing");
}

TEST_CASE("the first segments may be gone", "[journal]") {
  Disk disk = small_journal();
  disk.names.erase(name(1));
  auto replayed = recover_twice(disk);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == std::vector<uint64_t>{4, 5, 6, 7, 8, 9});
}

TEST_CASE("a segment of another journal, or under another's name, is refused", "[journal]") {
  Disk disk = small_journal();
  disk.put(name(4), disk.content(name(3)));
  check_refused(disk, name(3));  // not sealed, with one behind it
  FakeDirectory other;
  auto writer = begin_session(other, 1, kSmallSegment);
  write_tickets(writer, 1, 6, 500, {4});
  disk = small_journal();
  disk.names.erase(name(3));
  disk.put(name(2), other.disk().content(name(2)));
  check_refused(disk, name(2) + " at byte 0");
  disk = small_journal();
  disk.names.erase(name(1));
  disk.names.erase(name(2));
  disk.put(name(4), disk.content(name(3)));
  disk.names.erase(name(3));
  check_refused(disk, name(4) + " at byte 0");
}

TEST_CASE("another format version is refused with both versions", "[journal]") {
  Disk disk = small_journal();
  for (uint32_t version : {0u, kFormatVersion + 1}) {
    auto header = encode(SegmentHeader{version, kBroker, {1}, {1}, 0, WallMs()});
    disk.content(name(1)).replace(0, header.size(), header.data(), header.size());
    check_refused(disk, "has journal format version " + std::to_string(version) +
                            ", and this broker reads versions 1 to 2");
  }
}

TEST_CASE("each segment's header says its own version", "[journal]") {
  Disk disk = small_journal();
  auto header = *decode_segment_header(disk.content(name(1)));
  CHECK(header.version == 2);
  header.version = 1;
  auto bytes = encode(header);
  disk.content(name(1)).replace(0, bytes.size(), bytes.data(), bytes.size());
  auto replayed = recover_twice(disk);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == up_to(9));
}

TEST_CASE("a batch with the right checksum and wrong records is refused", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment);
  Batch batch{{"\xc1 no record"}, 11, 1};
  REQUIRE(writer.write(batch, true, WallMs()).ok());
  check_refused(directory.disk(), "its records are not: ");
}

TEST_CASE("stale batches of a recycled file are not taken for data", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment);
  write_tickets(writer, 1, 6, 700, {4});
  REQUIRE(writer.retire_one({1}).ok());
  write_tickets(writer, 7, 7, 700, {7});  // into the file that held 1–3
  Disk disk = directory.disk();
  const std::string& recycled = disk.content(name(3));
  auto stale = decode_batch(std::string_view(recycled).substr(kBlock * 2));
  REQUIRE(stale);
  CHECK(stale->segment == SegmentId{1});
  auto replayed = recover_twice(disk);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == std::vector<uint64_t>{4, 5, 6, 7});
  CHECK_FALSE(replayed->recovered.torn_tail);

  // Nor are batches that are right in all but one of segment, sequence and chain.
  auto last = decode_batch(std::string_view(recycled).substr(kBlock));
  REQUIRE(last);
  for (auto [segment, sequence, chain] :
       {std::tuple(uint64_t{1}, uint64_t{10}, last->checksum),
        std::tuple(uint64_t{3}, uint64_t{11}, last->checksum),
        std::tuple(uint64_t{3}, uint64_t{10}, last->checksum + 1)}) {
    Disk forged = disk;
    BatchHeader header{{segment}, {sequence}, 1, chain, 0, 0, kBehindUnsynced};
    auto head = encode(&header, {});
    forged.content(name(3)).replace(kBlock * 2, head.size(), head.data(), head.size());
    replayed = recover_twice(forged);
    REQUIRE(replayed.ok());
    CHECK(replayed->recovered.batches == 5);  // 4–6, the seal, 7
  }
}

TEST_CASE("a start goes on behind the old tail, never in it", "[journal]") {
  FakeDirectory directory;
  {
    auto writer = begin_session(directory, 1, kSmallSegment);
    write_tickets(writer, 1, 2, 700);
  }
  {
    auto writer = begin_session(directory, 2, kSmallSegment);
    write_tickets(writer, 3, 4, 700);
  }
  {
    auto writer = begin_session(directory, 3, kSmallSegment);  // starts, and writes nothing
  }
  auto writer = begin_session(directory, 4, kSmallSegment);
  write_tickets(writer, 5, 5, 700);
  CHECK(directory.disk().names.size() == 3);
  auto replayed = recover_twice(directory.disk());
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == up_to(5));
}

TEST_CASE("a tail is replaced only by a synced copy, and the directory synced behind",
          "[journal]") {
  FakeDirectory directory(small_journal());
  REQUIRE(recover(directory).ok());
  std::vector<Op::Kind> kinds;
  for (const Op& op : directory.trace()) kinds.push_back(op.kind);
  CHECK(kinds == std::vector{Op::create, Op::write, Op::sync, Op::rename, Op::sync_directory});
}

TEST_CASE("a seal whose sync did not return is on disk before anything follows it", "[journal]") {
  auto faults = std::make_shared<Faults>();
  FakeDirectory directory({}, faults);
  auto writer = begin_session(directory, 1, kSmallSegment);
  write_tickets(writer, 1, 3, 700);
  faults->sync_errno = EIO;
  CHECK_FALSE(writer.seal().ok());
  faults->sync_errno = 0;

  auto next = begin_session(directory, 2, kSmallSegment);
  write_tickets(next, 4, 5, 700);
  Disk cut = directory.disk().crash([](size_t) { return false; }, 0);
  auto replayed = recover_twice(cut);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == up_to(5));
}

TEST_CASE("a seal is written again, since a failed sync leaves it in no later one's care",
          "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment);
  write_tickets(writer, 1, 3, 700);
  REQUIRE(writer.seal().ok());
  FakeDirectory again(directory.disk());
  REQUIRE(recover(again).ok());
  std::vector<Op::Kind> kinds;
  for (const Op& op : again.trace()) kinds.push_back(op.kind);
  CHECK(kinds == std::vector{Op::write, Op::sync, Op::sync_directory});
}

TEST_CASE("what a broken-off start left is removed", "[journal]") {
  Disk disk = small_journal();
  disk.put(name(3) + ".tmp", "half");
  disk.put("notes.txt", "mine");
  FakeDirectory directory(disk);
  REQUIRE(recover(directory).ok());
  CHECK_FALSE(directory.disk().names.contains(name(3) + ".tmp"));
  CHECK(directory.disk().names.contains("notes.txt"));
}

TEST_CASE("a full disk gives the spares' space to the tail", "[journal]") {
  Disk disk = small_journal();
  disk.put("spare-0000000000000001.mrj", std::string(kSmallSegment, 's'));
  auto faults = std::make_shared<Faults>();
  faults->write_errno = ENOSPC;
  FakeDirectory directory(disk, faults);
  auto replayed = recover(directory);
  REQUIRE_FALSE(replayed.ok());
  CHECK(replayed.error().code == ExitCode::io);
  CHECK(replayed.error().message.find("full") != std::string::npos);
  CHECK_FALSE(directory.disk().names.contains("spare-0000000000000001.mrj"));
  faults->write_errno = 0;
  replayed = recover(directory);
  REQUIRE(replayed.ok());
  CHECK(replayed->tickets == up_to(9));
}
