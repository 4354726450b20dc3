#include "broker/server/payload_store.h"

#include "broker/server/disk_reserve.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::server;

namespace {

constexpr journal::Place kFirstSegment{{1}, 4160};
constexpr journal::Place kSecondSegment{{2}, 4160};

// Two jobs of 3 bytes, whose record goes into the chunk with this ticket.
void accept(PayloadStore& store, uint64_t first_job, uint64_t ticket) {
  auto bytes = std::make_shared<const std::string>("onetwo");
  records::Accepted record;
  record.first_job = {first_job};
  record.payloads = {std::string_view(*bytes).substr(0, 3), std::string_view(*bytes).substr(3)};
  record.payload_array = *bytes;
  store.accept(record, bytes, ticket, 0);
}

// A journal whose reads are answered when a test says so.
class SlowJournal final : public journal::Journal {
 public:
  Result<void> start(BrokerId, uint64_t) override { return {}; }
  uint64_t append(journal::Chunk, bool) override { return 0; }
  void retire(SegmentId) override {}
  std::vector<journal::Committed> take_committed() override { return {}; }
  int wake_fd() const override { return -1; }
  std::optional<Error> failure() const override { return std::nullopt; }
  bool stalled() const override { return false; }
  std::string shortage() const override { return ""; }
  journal::JournalStats stats() const override { return {}; }
  Result<journal::Body> read(journal::Place, size_t) override {
    FAIL("the core thread reads");
    return journal::Body{};
  }
  void request(const journal::ReadRequest& request) override { requests.push_back(request); }
  std::vector<journal::ReadAnswer> take_read() override { return std::exchange(answers, {}); }
  Result<void> stop() override { return {}; }
  journal::Position end() const override { return {}; }

  // The next one, as long as it was asked for.
  void answer() {
    const journal::ReadRequest request = requests.at(answered++);
    const auto bytes = std::make_shared<const std::string>(request.until - request.at.offset, 'x');
    answers.push_back({request.number, journal::Body{request.at, *bytes, bytes}});
  }
  void fail(ExitCode code = ExitCode::bad_data) {
    const journal::ReadAnswer failed{requests.at(answered++).number, Error{code, "damaged"}};
    answers.push_back(failed);
  }

  std::vector<journal::ReadRequest> requests;
  std::vector<journal::ReadAnswer> answers;
  size_t answered = 0;
};

// Jobs of 100 bytes in the first segment, of which nothing is kept in memory.
struct Paged {
  static constexpr uint32_t kBegin = 4160;
  explicit Paged(uint64_t jobs, ReadBackLimits limits = {10'000, 64, 4, 1000}) : store(0, limits) {
    store.set_journal(&journal);
    store.restore(PayloadStore::Run{1, uint32_t(jobs), 1, kBegin, 100, 100, 0});
  }
  static uint32_t offset_of(uint64_t job) { return kBegin + uint32_t(job - 1) * 100; }
  void answer() {
    journal.answer();
    REQUIRE(store.take_read().ok());
  }
  SlowJournal journal;
  PayloadStore store;
};

}  // namespace

TEST_CASE("a payload that was paged out is read in the background, with what follows it",
          "[payloads]") {
  Paged p(100);
  CHECK_FALSE(p.store.fetch({1}));
  CHECK_FALSE(p.store.fetch({1}));
  CHECK_FALSE(p.store.fetch({5}));  // comes with the first
  REQUIRE(p.journal.requests.size() == 1);
  CHECK(p.journal.requests[0].at == journal::Place{{1}, Paged::offset_of(1)});
  CHECK(p.journal.requests[0].until > Paged::offset_of(5));
  CHECK(p.journal.requests[0].until <= Paged::kBegin + 1000);
  CHECK(p.store.read_back_bytes() > 0);
  p.answer();
  CHECK(p.store.fetch({1}));
  CHECK(p.store.fetch({5}));
  CHECK(p.store.payload({5}).view == std::string(100, 'x'));
}

TEST_CASE("what lies behind is read while what was read is used", "[payloads]") {
  Paged p(100);
  CHECK_FALSE(p.store.fetch({1}));
  p.answer();
  CHECK(p.store.fetch({1}));
  REQUIRE(p.journal.requests.size() == 2);
  CHECK(p.journal.requests[1].at.offset == p.journal.requests[0].until);
  CHECK(p.store.fetch({2}));
  CHECK(p.journal.requests.size() == 2);
  p.answer();
  for (uint64_t job = 1; Paged::offset_of(job) < p.journal.requests[1].until; ++job)
    CHECK(p.store.fetch({job}));
}

TEST_CASE("what is read ahead is found behind jobs that have ended", "[payloads]") {
  Paged p(100);
  p.store.retire({{2}, 59});
  CHECK_FALSE(p.store.fetch({1}));
  CHECK(p.journal.requests[0].until == Paged::offset_of(2));
  p.answer();
  CHECK(p.store.fetch({1}));
  REQUIRE(p.journal.requests.size() == 2);
  CHECK(p.journal.requests[1].at.offset >= Paged::offset_of(61));
}

TEST_CASE("a segment that is being read is not retired", "[payloads]") {
  Paged p(10);
  CHECK_FALSE(p.store.fetch({1}));
  p.store.retire({{1}, 10});
  CHECK_FALSE(p.store.retirable({3}));
  p.answer();
  CHECK(p.store.retirable({3}) == SegmentId{2});
  CHECK(p.store.read_back_bytes() == 0);
}

TEST_CASE("a read that fails is told only while its job is there", "[payloads]") {
  Paged p(10, {10'000, 64, 4, 100});
  CHECK_FALSE(p.store.fetch({1}));
  CHECK_FALSE(p.store.fetch({2}));
  CHECK_FALSE(p.store.fetch({3}));
  p.store.retire({{1}, 1});
  p.journal.fail();
  CHECK(p.store.take_read().ok());
  p.store.relocate({2}, 1, 0);
  p.store.placed(1, kSecondSegment);
  p.journal.fail();
  CHECK(p.store.take_read().ok());
  p.journal.fail();
  auto read = p.store.take_read();
  REQUIRE_FALSE(read.ok());
  CHECK(read.error().message == "damaged");
}

TEST_CASE("a read for which descriptors or memory are short is asked for again", "[payloads]") {
  Paged p(10);
  CHECK_FALSE(p.store.fetch({1}));
  p.journal.fail(ExitCode::temporary);
  CHECK(p.store.take_read().ok());
  CHECK(p.store.take_shortage() == "damaged");
  CHECK_FALSE(p.store.take_shortage());
  CHECK_FALSE(p.store.fetch({1}));
  REQUIRE(p.journal.requests.size() == 2);
  p.answer();
  CHECK(p.store.fetch({1}));
}

TEST_CASE("reads under way are bounded, and relocation finds room among them", "[payloads]") {
  Paged p(10, {10'000, 64, 4, 100});
  p.store.retire({{1}, 1});
  for (uint64_t job : {10, 9, 8, 7, 6}) CHECK_FALSE(p.store.fetch({job}));
  CHECK(p.journal.requests.size() == 3);
  CHECK(p.store.is_outstanding({6}));
  CHECK(p.store.oldest_live_jobs({2}, 1000).empty());
  REQUIRE(p.journal.requests.size() == 4);
  CHECK(p.journal.requests[3].at.offset == Paged::offset_of(2));
  p.answer();
  CHECK_FALSE(p.store.fetch({6}));
  CHECK(p.journal.requests.size() == 4);  // the fourth is relocation's
  for (int i = 0; i < 3; ++i) p.answer();
  CHECK(p.store.oldest_live_jobs({2}, 300) == std::vector<JobId>{{2}});
  CHECK(p.journal.requests[4].at.offset == Paged::offset_of(3));
}

TEST_CASE("the least recently used goes when there is too much, but never what just came",
          "[payloads]") {
  Paged p(10, {250, 64, 8, 100});
  for (uint64_t job : {1, 3, 5, 7}) CHECK_FALSE(p.store.fetch({job}));
  for (int i = 0; i < 2; ++i) p.journal.answer();
  REQUIRE(p.store.take_read().ok());
  CHECK(p.store.fetch({3}));
  CHECK(p.store.fetch({1}));
  p.answer();  // of 5
  CHECK_FALSE(p.store.is_in_memory({3}));
  CHECK(p.store.is_in_memory({1}));
  CHECK(p.store.is_in_memory({5}));
  for (uint64_t job : {8, 9, 10}) p.store.fetch({job});
  while (p.journal.answered < p.journal.requests.size()) p.journal.answer();
  REQUIRE(p.store.take_read().ok());
  for (uint64_t job : {7, 8, 9, 10}) CHECK(p.store.is_in_memory({job}));
}

TEST_CASE("a segment is retirable when its last job is retired", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  store.placed(1, kFirstSegment);
  store.retire({{1}, 1});
  CHECK_FALSE(store.retirable({2}));
  store.retire({{2}, 1});
  CHECK(store.retirable({2}) == SegmentId{1});
  CHECK(store.bytes_in_memory() == 0);
}

TEST_CASE("an old live job is named once, and relocated, lets its segment go", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  accept(store, 3, 2);
  store.placed(1, kFirstSegment);
  store.placed(2, kSecondSegment);
  store.retire({{1}, 1});
  CHECK(store.oldest_live_jobs({1}, 1000).empty());  // of the segment that is written just now
  CHECK(store.oldest_live_jobs({2}, 1000) == std::vector<JobId>{{2}});
  CHECK(store.oldest_live_jobs({2}, 1000).empty());
  const uint64_t live = store.live_bytes();
  store.relocate({2}, 3, 100);
  CHECK_FALSE(store.retirable({3}));  // not before the commit
  store.placed(3, {{2}, 8192});
  CHECK(store.retirable({3}) == SegmentId{1});
  CHECK(store.live_bytes() == live);
  store.retire({{2}, 3});
  CHECK(store.retirable({3}) == SegmentId{2});
  CHECK(store.live_bytes() == 0);
}

TEST_CASE("an old live job that ends while it is relocated keeps no segment", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  store.placed(1, kFirstSegment);
  CHECK(store.oldest_live_jobs({2}, 1) == std::vector<JobId>{{1}});
  store.relocate({1}, 2, 100);
  store.retire({{1}, 2});
  store.placed(2, kSecondSegment);
  CHECK(store.retirable({3}) == SegmentId{2});
}

TEST_CASE("a result keeps the segment of its job until it is collected or carried", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  store.placed(1, kFirstSegment);
  store.settle({1}, 40);
  store.settle({2}, 60);
  CHECK(store.bytes_in_memory() == 0);
  CHECK_FALSE(store.retirable({2}));
  store.retire({{1}, 1});  // collected
  CHECK(store.oldest_live_jobs({2}, 1000) == std::vector<JobId>{{2}});
  CHECK(store.is_settled({2}));
  const uint64_t live = store.live_bytes();
  store.relocate({2}, 2, 0);
  store.placed(2, kSecondSegment);
  CHECK(store.retirable({2}) == SegmentId{1});
  CHECK(store.live_bytes() == live);
  CHECK(store.oldest_live_jobs({3}, 1000) == std::vector<JobId>{{2}});
  store.retire({{2}, 1});
  CHECK(store.retirable({3}) == SegmentId{2});
  CHECK(store.live_bytes() == 0);
}

TEST_CASE("a job that is done while it is carried has its result behind the copy", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  store.placed(1, kFirstSegment);
  store.retire({{2}, 1});
  store.relocate({1}, 2, 100);
  store.settle({1}, 7);
  CHECK_FALSE(store.retirable({2}));
  store.placed(2, kSecondSegment);
  CHECK(store.retirable({3}) == SegmentId{1});
}

TEST_CASE("a job that is done before its commit keeps its result", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  store.settle({1}, 7);
  store.settle({2}, 7);
  store.retire({{2}, 1});
  store.placed(1, kFirstSegment);
  CHECK(store.is_settled({1}));
  CHECK_FALSE(store.is_settled({2}));
  CHECK(store.bytes_in_memory() == 0);
  CHECK_FALSE(store.retirable({2}));
  store.retire({{1}, 1});
  CHECK(store.retirable({2}) == SegmentId{1});
}

TEST_CASE("jobs that end before their commit keep neither memory nor segment", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  accept(store, 3, 2);
  store.retire({{1}, 4});  // cancelled in the round that took them
  store.placed(1, kFirstSegment);
  CHECK(store.bytes_in_memory() > 0);
  store.placed(2, kSecondSegment);
  CHECK(store.bytes_in_memory() == 0);
  CHECK(store.retirable({3}) == SegmentId{2});
}

namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kSegment = 64 * kMiB;

DiskReserve::Space space(uint64_t free, uint64_t room, uint64_t uncommitted) {
  journal::JournalStats stats;
  stats.disk_free = free;
  stats.room = room;
  return {stats, uncommitted};
}

}  // namespace

TEST_CASE("the oldest segment says what relocating it takes and frees", "[payloads]") {
  PayloadStore store(1 << 20);
  CHECK(store.oldest({9}).segments == 0);
  store.restore(PayloadStore::Run{1, 2, 3, 4160, 100, 100, 0});
  store.restore(PayloadStore::Run{3, 1, 7, 4160, 100, 100, 0});
  CHECK(store.oldest({3}).segments == 0);  // it is being written
  CHECK(store.oldest({5}).segments == 2);
  const auto oldest = store.oldest({9});
  CHECK(oldest.segments == 4);
  CHECK(oldest.live == 2);
  CHECK(oldest.bytes > 200);
  store.retire({{1}, 1});
  CHECK(store.oldest({9}).bytes == oldest.bytes / 2);
  store.retire({{2}, 1});
  CHECK(store.oldest({9}).segments == 2);  // of job 3
}

TEST_CASE("a disk is full below its reserve, and what waits to be written counts", "[payloads]") {
  const DiskReserve reserve(100 * kMiB, 40 * kMiB);
  CHECK_FALSE(reserve.is_short(space(100 * kMiB, 0, 0), false));
  CHECK(reserve.is_short(space(100 * kMiB - 1, kSegment, 0), false));
  CHECK(reserve.is_short(space(110 * kMiB, 4 * kMiB, 15 * kMiB), false));
  CHECK_FALSE(reserve.is_short(space(110 * kMiB, 4 * kMiB, 14 * kMiB), false));
  CHECK(reserve.is_short(space(125 * kMiB - 1, 0, 0), true));
  CHECK_FALSE(reserve.is_short(space(125 * kMiB, 0, 0), true));
}

TEST_CASE("a full disk allows a relocation that fits and frees twice what it takes", "[payloads]") {
  const DiskReserve reserve(100 * kMiB, 40 * kMiB);
  auto may = [&](DiskReserve::Space at, uint64_t bytes, uint64_t segments, uint64_t checkpoint) {
    return reserve.may_relocate(at, {1, bytes, segments}, kSegment, checkpoint);
  };
  CHECK(may(space(60 * kMiB, 0, 0), 20 * kMiB, 1, 0));
  CHECK_FALSE(may(space(60 * kMiB - 1, 0, 0), 20 * kMiB, 1, 0));
  CHECK(may(space(30 * kMiB, 30 * kMiB, 0), 20 * kMiB, 1, 0));
  CHECK_FALSE(may(space(60 * kMiB, 0, 1), 20 * kMiB, 1, 0));
  CHECK_FALSE(may(space(99 * kMiB, 0, 0), 33 * kMiB, 1, 0));
  CHECK(may(space(99 * kMiB, 0, 0), 33 * kMiB, 2, 0));  // the one behind it holds nothing
  CHECK_FALSE(may(space(99 * kMiB, 0, 0), 20 * kMiB, 1, 25 * kMiB));
  CHECK_FALSE(may(space(99 * kMiB, 0, 0), 1, 1, 2 * kSegment));
}
