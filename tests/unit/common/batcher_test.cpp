#include "common/journal/batcher.h"

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::journal;

namespace {

Chunk chunk_of(size_t bytes) {
  Chunk chunk;
  chunk.put(std::string(bytes, 'x'));
  return chunk;
}

std::vector<uint64_t> tickets(const std::vector<PendingChunk>& batch) {
  std::vector<uint64_t> found;
  for (const PendingChunk& pending : batch) found.push_back(pending.ticket);
  return found;
}

}  // namespace

TEST_CASE("all chunks that wait make one batch", "[batcher]") {
  Batcher batcher;
  CHECK(batcher.append(chunk_of(10), true) == 1);
  CHECK(batcher.append(chunk_of(20), false) == 2);
  const auto batch = batcher.take_batch();
  CHECK(tickets(batch) == std::vector<uint64_t>{1, 2});
  CHECK(batch_of(batch).bytes == 30);
  CHECK(batcher.empty());
  CHECK(batcher.take_batch().empty());
}

TEST_CASE("a batch ends before the chunk that opens a segment", "[batcher]") {
  Batcher batcher;
  batcher.append(chunk_of(10), true);
  batcher.append(chunk_of(10), false);
  batcher.append(chunk_of(10), true);
  CHECK(tickets(batcher.take_batch()) == std::vector<uint64_t>{1, 2});
  CHECK(tickets(batcher.take_batch()) == std::vector<uint64_t>{3});
}

TEST_CASE("a batch ends before it passes its limit, but has one chunk", "[batcher]") {
  Batcher batcher;
  batcher.append(chunk_of(Batcher::kMaxBatch - 1), true);
  batcher.append(chunk_of(1), false);
  batcher.append(chunk_of(1), false);
  batcher.append(chunk_of(2 * Batcher::kMaxBatch), false);
  batcher.append(chunk_of(1), false);
  CHECK(tickets(batcher.take_batch()) == std::vector<uint64_t>{1, 2});
  CHECK(tickets(batcher.take_batch()) == std::vector<uint64_t>{3});
  CHECK(tickets(batcher.take_batch()) == std::vector<uint64_t>{4});
  CHECK(tickets(batcher.take_batch()) == std::vector<uint64_t>{5});
}

TEST_CASE("the chunks of a batch lie one behind the other", "[batcher]") {
  Batcher batcher;
  batcher.append(chunk_of(10), true);
  batcher.append(chunk_of(20), false);
  batcher.committed(batcher.take_batch(), {{7}, 4096});
  const auto committed = batcher.take_committed();
  REQUIRE(committed.size() == 2);
  CHECK(committed[0].ticket == 1);
  CHECK(committed[0].place == Place{{7}, 4096});
  CHECK(committed[1].ticket == 2);
  CHECK(committed[1].place == Place{{7}, 4106});
  CHECK(batcher.take_committed().empty());
}

TEST_CASE("a segment is retired after what was appended before is committed", "[batcher]") {
  Batcher batcher;
  batcher.append(chunk_of(10), true);
  batcher.retire({3});
  CHECK_FALSE(batcher.is_retirement_due());
  CHECK_FALSE(batcher.retirable());
  const auto batch = batcher.take_batch();
  batcher.append(chunk_of(10), false);
  batcher.retire({5});
  batcher.committed(batch, {{7}, 0});
  CHECK(batcher.is_retirement_due());
  CHECK(batcher.retirable() == SegmentId{3});
  CHECK(batcher.retirable() == SegmentId{3});
  batcher.retired();
  CHECK_FALSE(batcher.retirable());
  batcher.committed(batcher.take_batch(), {{7}, 10});
  CHECK(batcher.retirable() == SegmentId{5});
}
