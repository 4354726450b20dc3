#include "broker/records/record_codec.h"

#include <string>

#include "common/protocol/writer.h"
#include "tests/catch.h"
#include "tests/unit/broker/record_samples.h"

using namespace millrace;
using namespace millrace::records;
using namespace millrace::test;
using protocol::Writer;

namespace {

std::string bytes_of(const Chunk& chunk) {
  std::string bytes;
  for (std::string_view part : chunk.parts()) bytes += part;
  CHECK(bytes.size() == chunk.bytes());
  return bytes;
}

std::string bytes_of(const Record& record) {
  Chunk chunk;
  chunk.append(record);
  return bytes_of(chunk);
}

// Encoding has one form for each record, so equal bytes mean equal records.
void check_round_trip(const Record& record) {
  std::string bytes = bytes_of(record);
  size_t seen = 0;
  auto decoded = decode_all(bytes, [&](const Record& back, size_t offset) {
    ++seen;
    CHECK(offset == 0);
    CHECK(back.index() == record.index());
    CHECK(bytes_of(back) == bytes);
  });
  CHECK(decoded.ok());
  CHECK(seen == 1);
}

void check_truncations(const Record& record) {
  std::string bytes = bytes_of(record);
  for (size_t size = 1; size < bytes.size(); ++size) {
    auto decoded =
        decode_all(bytes.substr(0, size), [](const Record&, size_t) { FAIL("half a record"); });
    REQUIRE_FALSE(decoded.ok());
    CHECK(decoded.error().code == ExitCode::bad_data);
  }
}

std::string problem_of(std::string_view bytes) {
  auto decoded = decode_all(bytes, [](const Record&, size_t) {});
  REQUIRE_FALSE(decoded.ok());
  CHECK(decoded.error().code == ExitCode::bad_data);
  return decoded.error().message;
}

}  // namespace

TEST_CASE("every record comes back as it was written", "[records]") {
  std::vector<Record> records = one_of_each();
  REQUIRE(records.size() == std::variant_size_v<Record>);
  for (size_t i = 0; i < records.size(); ++i) {
    REQUIRE(records[i].index() == i);
    check_round_trip(records[i]);
  }
}

TEST_CASE("no part of a record is a record", "[records]") {
  for (const Record& record : one_of_each()) check_truncations(record);
}

TEST_CASE("the fields of records are where the page says", "[records]") {
  std::string bytes = bytes_of(an_accepted());
  auto decoded = decode_all(bytes, [&](const Record& record, size_t) {
    const auto& accepted = std::get<Accepted>(record);
    CHECK(accepted.first_job == JobId{1000});
    CHECK(accepted.producer == kSomeone);
    CHECK(accepted.first_seq == Seq{70});
    CHECK(accepted.floor == Seq{69});
    CHECK(to_int(accepted.time) == 1700000000000);
    CHECK(accepted.queue == "images");
    CHECK(accepted.report == Report::result);
    CHECK(accepted.max_attempts == 255);
    CHECK(accepted.payloads == an_accepted().payloads);
    CHECK(accepted.payload_array.end() == std::string_view(bytes).end());
  });
  CHECK(decoded.ok());
  Writer out;
  out.array(4).uint(3).bin(kSomeone.view()).uint(9).array(1).array(2).uint(5).uint(6);
  CHECK(out.take() == bytes_of(Leased{kSomeone, {9}, {{{5}, 6}}}));
}

TEST_CASE("records of version 1 lack the fields that came later", "[records]") {
  Writer out;
  out.array(3).uint(1).uint(7).uint(9);
  out.array(4).uint(4).uint(9).array(1).array(3).uint(5).uint(6).uint(7).array(0);
  std::string checkpoint = bytes_of(Checkpoint{});
  CHECK(uint8_t(checkpoint[0]) == 0x9c);  // 12 fields: version 1 had no totals
  std::vector<Record> records;
  auto decoded = decode_all(out.take() + checkpoint,
                            [&](const Record& record, size_t) { records.push_back(record); });
  REQUIRE(decoded.ok());
  REQUIRE(records.size() == 3);
  CHECK(std::get<Started>(records[0]).incarnation == 7);
  CHECK(std::get<Started>(records[0]).first_epoch == Epoch{});
  CHECK(std::get<Done>(records[1]).runs.size() == 1);
  CHECK(std::get<Done>(records[1]).totals.empty());
  CHECK(std::get<Checkpoint>(records[2]) == Checkpoint{});
}

TEST_CASE("a checkpoint may be longer than any message", "[records]") {
  Checkpoint checkpoint;
  for (uint64_t i = 0; i < 70000; ++i) checkpoint.done.push_back({{3 * i}, 2});
  for (uint64_t i = 0; i < 70000; ++i)
    checkpoint.producers.push_back({Uuid::random(), {i}, WallMs(), {{{i}, 1, {i}}}});
  auto decoded = decode_all(bytes_of(checkpoint), [&](const Record& record, size_t) {
    CHECK(std::get<Checkpoint>(record) == checkpoint);
  });
  CHECK(decoded.ok());
}

TEST_CASE("large payloads are not copied, small ones are", "[records]") {
  std::string payload(2000, 'x');
  Accepted accepted = an_accepted();
  accepted.keys.clear();
  accepted.payloads = {payload};
  auto frame = std::make_shared<std::string>(Writer().array(1).bin(payload).take());
  accepted.payload_array = *frame;
  Chunk chunk;
  chunk.append(Started{1, WallMs()});
  size_t at = chunk.append(accepted, frame);
  chunk.append(Due{{{{1}, 1}}});
  auto parts = chunk.parts();
  REQUIRE(parts.size() == 3);
  CHECK(parts[1].data() == frame->data());
  CHECK(parts[0].size() == at);
  CHECK(frame.use_count() == 2);
  CHECK(chunk.records() == 3);

  auto small = std::make_shared<std::string>(Writer().array(1).bin("tiny").take());
  accepted.payloads = {"tiny"};
  accepted.payload_array = *small;
  size_t small_at = chunk.append(accepted, small);
  CHECK(chunk.parts().size() == 3);
  CHECK(small.use_count() == 1);
  CHECK(bytes_of(chunk).substr(small_at) == *small);

  // Where append() said the arrays begin, the decoder finds them.
  std::string body = bytes_of(chunk);
  std::vector<size_t> arrays;
  auto decoded = decode_all(body, [&](const Record& record, size_t) {
    if (const auto* back = std::get_if<Accepted>(&record))
      arrays.push_back(size_t(back->payload_array.data() - body.data()));
  });
  CHECK(decoded.ok());
  CHECK(arrays == std::vector<size_t>{at, small_at});
}

TEST_CASE("records are visited in order, each with its offset", "[records]") {
  Chunk chunk;
  std::vector<size_t> offsets, seen;
  for (uint64_t i = 0; i < 100000; ++i) {  // several of the decoder's spans
    offsets.push_back(chunk.bytes());
    chunk.append(Started{i, WallMs()});
  }
  uint64_t next = 0;
  auto decoded = decode_all(bytes_of(chunk), [&](const Record& record, size_t offset) {
    if (std::get<Started>(record).incarnation != next++) FAIL("out of order");
    seen.push_back(offset);
  });
  CHECK(decoded.ok());
  CHECK(seen == offsets);
}

TEST_CASE("what is no record is refused with its place", "[records]") {
  CHECK(problem_of(Writer().array(2).uint(99).uint(0).take()).find("record type 99 is unknown") !=
        std::string::npos);
  CHECK(problem_of(Writer().array(2).uint(0).uint(0).take()).find("record type 0 is unknown") !=
        std::string::npos);
  CHECK(problem_of(Writer().array(0).take()).find("empty record") != std::string::npos);
  CHECK(
      problem_of(Writer().array(5).uint(1).uint(1).uint(1).uint(1).uint(1).take()).find("fields") !=
      std::string::npos);
  CHECK(problem_of(Writer().uint(1).take()).find("not a msgpack array") != std::string::npos);
  CHECK(problem_of(Writer().array(3).uint(1).str("x").uint(1).take()).find("integer") !=
        std::string::npos);
  CHECK(problem_of(Writer().array(2).uint(9).bin("short").take()).find("16 bytes") !=
        std::string::npos);
  CHECK(problem_of(Writer().array(2).uint(7).array(1).array(2).uint(UINT64_MAX).uint(1).take())
            .find("2^64") != std::string::npos);
  CHECK(problem_of(Writer().array(2).uint(7).array(1).array(3).uint(1).uint(1).uint(1).take())
            .find("elements") != std::string::npos);
  std::string good = bytes_of(Started{1, WallMs()});
  CHECK(problem_of(good + "\xc1").find("byte " + std::to_string(good.size())) != std::string::npos);
}
