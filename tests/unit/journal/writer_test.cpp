#include <algorithm>

#include "tests/catch.h"
#include "tests/crash/journal_fixture.h"

using namespace millrace;
using namespace millrace::journal;
using namespace millrace::test;

namespace {

using Outcome = SegmentWriter::Outcome;

constexpr uint64_t kLargeSegment = 4 << 20;  // no batch here fills it

std::vector<Op::Kind> kinds(const std::vector<Op>& trace, size_t from) {
  std::vector<Op::Kind> found;
  for (size_t i = from; i < trace.size(); ++i) found.push_back(trace[i].kind);
  return found;
}

Outcome write(SegmentWriter& writer, uint64_t ticket, size_t size, bool new_segment = false) {
  records::Chunk chunk = chunk_of(ticket, size);
  auto outcome = writer.write(batch_of(chunk), new_segment, WallMs());
  REQUIRE(outcome.ok());
  return *outcome;
}

std::vector<uint64_t> tickets_of(FakeDirectory& directory) {
  FakeDirectory copy(directory.disk());
  auto replayed = recover(copy);
  REQUIRE(replayed.ok());
  return replayed->tickets;
}

}  // namespace

TEST_CASE("a commit is one write and one sync", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kLargeSegment);
  write(writer, 1, 100);
  size_t before = directory.trace().size();
  write(writer, 2, 100);
  CHECK(kinds(directory.trace(), before) == std::vector{Op::write, Op::sync});
  CHECK(writer.durable() == BatchSeq{2});
  CHECK(writer.last_body().offset == 2 * kBlock + kBatchHeaderBytes);
}

TEST_CASE("a segment gets its name over a synced header, after the seal of the one before",
          "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kLargeSegment);
  write(writer, 1, 100);
  size_t before = directory.trace().size();
  write(writer, 2, 100, true);
  CHECK(kinds(directory.trace(), before) ==
        std::vector{Op::write, Op::sync, Op::resize,  // seal; the rest is given back
                    Op::create, Op::resize, Op::write, Op::sync, Op::rename,
                    Op::sync_directory,  // the new segment
                    Op::write, Op::sync});
  CHECK(writer.segments() == 2);
  CHECK(tickets_of(directory) == std::vector<uint64_t>{1, 2});
}

TEST_CASE("no block is written twice but for zeros ahead", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, 4 << 20);
  for (uint64_t ticket = 1; ticket <= 300; ++ticket)
    write(writer, ticket, ticket % 7 == 0 ? 9000 : 50);
  std::vector<bool> taken(4 << 20 >> 12);
  size_t with_zeros = 0;
  for (const Op& op : directory.trace()) {
    if (op.kind != Op::write) continue;
    REQUIRE(op.offset % kBlock == 0);
    REQUIRE(op.bytes.size() % kBlock == 0);
    with_zeros += op.bytes.size() > kSegmentHeaderBytes + 16 * kBlock;
    for (size_t at = 0; at < op.bytes.size(); at += kBlock) {
      bool zeros = op.bytes.find_first_not_of('\0', at) >= at + kBlock;
      if (zeros) continue;
      REQUIRE_FALSE(taken[(op.offset + at) / kBlock]);
      taken[(op.offset + at) / kBlock] = true;
    }
  }
  CHECK(with_zeros == 2);  // 300 batches and 42 blocks more, in steps of 1 MiB
}

TEST_CASE("large batches write no zeros ahead", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kLargeSegment);
  write(writer, 1, 100 << 10);
  CHECK(directory.trace()[directory.trace().size() - 2].bytes.size() ==
        round_to_block(kBatchHeaderBytes + (100 << 10) + 50));
}

TEST_CASE("without fsync nothing is synced until it is asked for, or a segment ends", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kLargeSegment, FsyncMode::interval);
  write(writer, 1, 100);
  size_t before = directory.trace().size();
  write(writer, 2, 100);
  CHECK(kinds(directory.trace(), before) == std::vector{Op::write});
  CHECK(writer.unsynced());
  CHECK(writer.durable() == BatchSeq{0});
  REQUIRE(writer.sync().ok());
  CHECK(writer.durable() == BatchSeq{2});
  CHECK_FALSE(writer.unsynced());
  write(writer, 3, 100);
  before = directory.trace().size();
  REQUIRE(writer.seal().ok());
  CHECK(kinds(directory.trace(), before) == std::vector{Op::sync, Op::write, Op::sync, Op::resize});
}

TEST_CASE("retired segments become at most two spares, and the spares segments", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment);
  uint64_t ticket = 0;
  for (int segment = 1; segment <= 5; ++segment) {
    write(writer, ++ticket, 3000, true);
    for (int i = 0; i < 3; ++i) write(writer, ++ticket, 3000);
  }
  for (uint64_t i = 1; i <= 4; ++i) {
    auto retired = writer.retire_one({4});
    REQUIRE(retired.ok());
    CHECK(*retired == SegmentId{i});
    CHECK(directory.trace().back().kind == Op::sync_directory);  // each before the next
  }
  auto none = writer.retire_one({4});
  REQUIRE(none.ok());
  CHECK_FALSE(*none);
  CHECK(writer.segments() == 1);
  CHECK(directory.disk().names.size() == 3);
  CHECK(tickets_of(directory) == std::vector<uint64_t>{17, 18, 19, 20});

  size_t files = directory.disk().files();
  write(writer, 21, 100, true);
  write(writer, 22, 100, true);
  CHECK(directory.disk().files() == files);  // no new one
  CHECK(directory.disk().names.size() == 3);
  CHECK(tickets_of(directory) == std::vector<uint64_t>{17, 18, 19, 20, 21, 22});
}

TEST_CASE("a spare that someone deleted is not missed", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment);
  uint64_t ticket = 0;
  for (int segment = 1; segment <= 3; ++segment) {
    write(writer, ++ticket, 3000, true);
    for (int i = 0; i < 3; ++i) write(writer, ++ticket, 3000);
  }
  REQUIRE(writer.retire_one({2}).ok());
  REQUIRE(writer.retire_one({2}).ok());
  size_t spares = 0;
  for (const auto& name : std::map(directory.disk().names))
    if (name.first.starts_with("spare-")) ++spares, (void)directory.remove(name.first);
  CHECK(spares == 2);
  SECTION("a new segment is made") {}
  SECTION("nor where the disk is full") { REQUIRE(writer.drop_spares().ok()); }
  write(writer, ++ticket, 100, true);
  CHECK(tickets_of(directory) == std::vector<uint64_t>{9, 10, 11, 12, 13});
}

TEST_CASE("a segment that was hardly used is not kept as a spare", "[journal]") {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kLargeSegment);
  write(writer, 1, 100);
  write(writer, 2, 100, true);
  REQUIRE(writer.retire_one({1}).ok());
  CHECK(directory.disk().names.size() == 1);
}

TEST_CASE("a full disk at any step of a rotation leaves all as it was", "[journal]") {
  for (size_t step = 0; step < 4; ++step) {
    auto faults = std::make_shared<Faults>();
    FakeDirectory directory({}, faults);
    auto writer = begin_session(directory, 1, kSmallSegment);
    write(writer, 1, 100);
    faults->write_errno = ENOSPC;
    faults->writes_until_error = step;  // seal, header, batch
    if (step < 3) {
      CHECK(write(writer, 2, 100, true) == Outcome::shortage);
      CHECK(write(writer, 2, 100, true) == Outcome::shortage);
      auto tickets = tickets_of(directory);
      if (step == 2)
        tickets.erase(std::remove(tickets.begin(), tickets.end(), 2),
                      tickets.end());  // may be there
      CHECK(tickets == std::vector<uint64_t>{1});
      faults->write_errno = 0;
    }
    CHECK(write(writer, 2, 100, true) == Outcome::done);
    faults->write_errno = 0;
    CHECK(write(writer, 3, 100) == Outcome::done);
    CHECK(writer.segments() == 2);
    CHECK(directory.disk().names.size() == 2);
    CHECK(tickets_of(directory) == std::vector<uint64_t>{1, 2, 3});
  }
}

TEST_CASE("a quota and a limit of the file size are a full disk, and nothing else is",
          "[journal]") {
  for (int number : {EDQUOT, EIO, EROFS, EFBIG}) {
    auto faults = std::make_shared<Faults>();
    FakeDirectory directory({}, faults);
    auto writer = begin_session(directory, 1, kSmallSegment);
    write(writer, 1, 100);
    faults->write_errno = number;
    records::Chunk chunk = chunk_of(2, 100);
    auto outcome = writer.write(batch_of(chunk), false, WallMs());
    CHECK(outcome.ok() == (number == EDQUOT || number == EFBIG));
    if (outcome) continue;
    CHECK(outcome.error().code == ExitCode::io);
    CHECK(outcome.error().message.find("fake/segment-0000000000000001.mrj can't be written") !=
          std::string::npos);
  }
}

TEST_CASE("a shortage of descriptors or memory at any step of a rotation leaves all as it was",
          "[journal]") {
  for (int number : {EMFILE, ENFILE, ENOMEM, EAGAIN}) {
    for (bool in_name : {false, true}) {
      auto faults = std::make_shared<Faults>();
      FakeDirectory directory({}, faults);
      auto writer = begin_session(directory, 1, kSmallSegment);
      write(writer, 1, 100);
      (in_name ? faults->names_errno : faults->write_errno) = number;
      CHECK(write(writer, 2, 100, true) == Outcome::shortage);
      CHECK(writer.shortage().value() == number);
      CHECK(write(writer, 2, 100, true) == Outcome::shortage);
      faults->names_errno = faults->write_errno = 0;
      CHECK(write(writer, 2, 100, true) == Outcome::done);
      CHECK(writer.segments() == 2);
      CHECK(directory.disk().names.size() == 2);
      CHECK(tickets_of(directory) == std::vector<uint64_t>{1, 2});
    }
  }
}

TEST_CASE("a segment that a shortage keeps from being retired goes with the next retirement",
          "[journal]") {
  auto faults = std::make_shared<Faults>();
  FakeDirectory directory({}, faults);
  auto writer = begin_session(directory, 1, kSmallSegment);
  write(writer, 1, 100);
  write(writer, 2, 100, true);
  faults->names_errno = ENOMEM;
  auto retired = writer.retire_one({1});
  REQUIRE(retired.ok());
  CHECK_FALSE(retired->has_value());
  CHECK(writer.segments() == 2);
  faults->names_errno = 0;
  retired = writer.retire_one({1});
  REQUIRE(retired.ok());
  CHECK(retired->has_value());
  CHECK(writer.segments() == 1);
}

TEST_CASE("a shortage while syncing is a failure", "[journal]") {
  auto faults = std::make_shared<Faults>();
  FakeDirectory directory({}, faults);
  auto writer = begin_session(directory, 1, kSmallSegment);
  write(writer, 1, 100);
  faults->sync_errno = ENOMEM;
  records::Chunk chunk = chunk_of(2, 100);
  CHECK_FALSE(writer.write(batch_of(chunk), false, WallMs()).ok());
}
