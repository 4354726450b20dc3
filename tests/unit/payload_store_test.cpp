#include "broker/server/payload_store.h"

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

}  // namespace

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

TEST_CASE("a straggler is named once, and carried, lets its segment go", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  accept(store, 3, 2);
  store.placed(1, kFirstSegment);
  store.placed(2, kSecondSegment);
  store.retire({{1}, 1});
  CHECK(store.stragglers({1}, 1000).empty());  // of the segment that is written just now
  CHECK(store.stragglers({2}, 1000) == std::vector<JobId>{{2}});
  CHECK(store.stragglers({2}, 1000).empty());
  const uint64_t live = store.live_bytes();
  store.carry({2}, 3, 100);
  CHECK_FALSE(store.retirable({3}));  // not before the commit
  store.placed(3, {{2}, 8192});
  CHECK(store.retirable({3}) == SegmentId{1});
  CHECK(store.live_bytes() == live);
  store.retire({{2}, 3});
  CHECK(store.retirable({3}) == SegmentId{2});
  CHECK(store.live_bytes() == 0);
}

TEST_CASE("a straggler that ends while it is carried keeps no segment", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  store.placed(1, kFirstSegment);
  CHECK(store.stragglers({2}, 1) == std::vector<JobId>{{1}});
  store.carry({1}, 2, 100);
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
  CHECK(store.stragglers({2}, 1000) == std::vector<JobId>{{2}});
  CHECK(store.is_settled({2}));
  const uint64_t live = store.live_bytes();
  store.carry({2}, 2, 0);
  store.placed(2, kSecondSegment);
  CHECK(store.retirable({2}) == SegmentId{1});
  CHECK(store.live_bytes() == live);
  CHECK(store.stragglers({3}, 1000) == std::vector<JobId>{{2}});
  store.retire({{2}, 1});
  CHECK(store.retirable({3}) == SegmentId{2});
  CHECK(store.live_bytes() == 0);
}

TEST_CASE("a job that is done while it is carried has its result behind the copy", "[payloads]") {
  PayloadStore store(1 << 20);
  accept(store, 1, 1);
  store.placed(1, kFirstSegment);
  store.retire({{2}, 1});
  store.carry({1}, 2, 100);
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
