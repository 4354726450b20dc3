#include "common/journal/place_reader.h"
#include "tests/catch.h"
#include "tests/crash/journal_fixture.h"

using namespace millrace;
using namespace millrace::journal;
using namespace millrace::test;

namespace {

// Just large enough: each of the many reads ahead goes to its end.
constexpr uint64_t kSampleSegment = 128 << 10;
constexpr uint64_t kTickets = 7;

size_t size_of(uint64_t ticket) { return ticket * 2111 % 9000; }

// A segment with batches of one to three blocks, the places of their payloads, and where they lie.
struct Sample {
  FakeDirectory directory;
  Replayed replayed;
  std::vector<std::pair<uint64_t, uint64_t>> batches;  // begin, and end of the body

  Sample() {
    auto writer = begin_session(directory, 1, kSampleSegment);
    for (uint64_t ticket = 1; ticket <= kTickets; ++ticket) {
      records::Chunk chunk = chunk_of(ticket, size_of(ticket));
      REQUIRE(writer.write(batch_of(chunk), ticket == 1, WallMs()).ok());
      const uint64_t body = writer.last_body().offset;
      batches.emplace_back(body - kBatchHeaderBytes, body + chunk.bytes());
    }
    FakeDirectory copy(directory.disk());
    auto recovered = recover(copy);
    REQUIRE(recovered.ok());
    replayed = std::move(*recovered);
  }

  std::string& bytes() { return directory.disk().content(segment_name({1})); }
  Result<Body> read(PlaceReader& reader, uint64_t ticket) const {
    return reader.read(replayed.places[ticket - 1], replayed.sizes[ticket - 1]);
  }
  bool is_right(const Body& body, uint64_t ticket) const {
    return body.part(replayed.places[ticket - 1], replayed.sizes[ticket - 1])
        .ends_with(payload_of(ticket, size_of(ticket)));
  }
};

}  // namespace

TEST_CASE("a payload is read with the whole of its batch, from whatever side one comes",
          "[journal]") {
  Sample journal;
  PlaceReader reader(journal.directory);
  for (uint64_t ticket : {3u, 1u, 7u, 2u, 6u, 5u, 4u}) {
    auto body = journal.read(reader, ticket);
    REQUIRE(body.ok());
    CHECK(journal.is_right(*body, ticket));
    CHECK(body->at.offset == journal.batches[ticket - 1].first + kBatchHeaderBytes);
    CHECK(body->at.offset + body->bytes.size() == journal.batches[ticket - 1].second);
  }
}

TEST_CASE("whatever byte of a batch has changed, nothing of it is read back", "[journal]") {
  Sample journal;
  const std::string whole = journal.bytes();
  for (uint64_t at = kBlock; at < journal.batches.back().second; ++at) {
    journal.bytes()[at] ^= char(1 << at % 8);
    PlaceReader reader(journal.directory);
    for (uint64_t ticket = 1; ticket <= kTickets; ++ticket) {
      const auto [begin, end] = journal.batches[ticket - 1];
      auto body = journal.read(reader, ticket);
      INFO("byte " << at << ", ticket " << ticket);
      if (body) {
        REQUIRE((at < begin || at >= end));
        REQUIRE(journal.is_right(*body, ticket));
      } else {
        REQUIRE(at < end);  // behind a header that leads astray nothing may be found
        REQUIRE(body.error().code == ExitCode::bad_data);
      }
    }
    journal.bytes()[at] = whole[at];
  }
}

TEST_CASE("damage that is met while reading is named, with its place and the remedy", "[journal]") {
  Sample journal;
  const uint64_t begin = journal.batches[2].first;
  size_t changed = 0;
  SECTION("in the body") { changed = kBatchHeaderBytes + 100; }
  SECTION("in the magic") { changed = 3; }
  SECTION("in the length") { changed = 41; }
  journal.bytes()[begin + changed] ^= 0x10;  // of the length: a block more or less
  PlaceReader reader(journal.directory);
  CHECK(journal.read(reader, 2).ok());
  for (uint64_t ticket : {3u, changed > kBatchHeaderBytes ? 3u : 7u}) {
    auto body = journal.read(reader, ticket);
    REQUIRE_FALSE(body.ok());
    CHECK_THAT(body.error().message,
               Catch::Contains("fake/" + segment_name({1}) + " at byte " + std::to_string(begin)) &&
                   Catch::Contains("journal repair fake"));
  }
}

TEST_CASE("an older batch of the same segment in a batch's place is damage", "[journal]") {
  Sample journal;
  std::string& bytes = journal.bytes();
  const uint64_t older = journal.batches[4].first, newer = journal.batches[5].first;
  REQUIRE(journal.batches[6].first - newer == kBlock);
  bytes.replace(newer, kBlock, bytes.substr(older, kBlock));
  PlaceReader reader(journal.directory);
  CHECK(journal.read(reader, 5).ok());
  auto stale = journal.read(reader, 6);
  REQUIRE_FALSE(stale.ok());
  CHECK(stale.error().code == ExitCode::bad_data);
}

TEST_CASE("a segment that was cut short or taken away is told", "[journal]") {
  Sample journal;
  journal.bytes().resize(journal.batches[3].first + kBlock);
  PlaceReader reader(journal.directory);
  CHECK(journal.read(reader, 3).ok());
  auto cut = journal.read(reader, kTickets);
  REQUIRE_FALSE(cut.ok());
  CHECK(cut.error().code == ExitCode::bad_data);
  auto missing = reader.read({{99}, 4160}, 1);
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().code == ExitCode::io);
}

TEST_CASE("the batches behind are read with the one that was asked for, as far as they are wanted",
          "[journal]") {
  Sample journal;
  PlaceReader reader(journal.directory);
  const Place second = journal.replayed.places[1];
  const size_t size = journal.replayed.sizes[1];
  const bool knows_all = GENERATE(false, true);
  if (knows_all) REQUIRE(journal.read(reader, kTickets).ok());
  auto body = reader.read(second, size, journal.batches[3].second);
  REQUIRE(body.ok());
  CHECK(body->at.offset == journal.batches[1].first + kBatchHeaderBytes);
  CHECK(body->at.offset + body->bytes.size() == journal.batches[3].second);
  for (uint64_t ticket : {2u, 3u, 4u}) CHECK(journal.is_right(*body, ticket));
  body = reader.read(second, size, UINT32_MAX);
  REQUIRE(body.ok());
  CHECK(body->at.offset + body->bytes.size() == journal.batches.back().second);
  for (uint64_t ticket = 2; ticket <= kTickets; ++ticket) CHECK(journal.is_right(*body, ticket));
  CHECK(journal.read(reader, 1).ok());
  CHECK(journal.read(reader, kTickets).ok());
}

TEST_CASE("of the batches behind, whatever byte has changed ends what is read ahead", "[journal]") {
  Sample journal;
  const std::string whole = journal.bytes();
  for (uint64_t at = journal.batches[1].first; at < journal.batches.back().second; ++at) {
    journal.bytes()[at] ^= char(1 << at % 8);
    PlaceReader reader(journal.directory);
    auto body = reader.read(journal.replayed.places[0], journal.replayed.sizes[0], UINT32_MAX);
    INFO("byte " << at);
    REQUIRE(body.ok());
    const uint64_t end = body->at.offset + body->bytes.size();
    for (uint64_t ticket = 1; ticket <= kTickets; ++ticket)
      if (body->holds(journal.replayed.places[ticket - 1], journal.replayed.sizes[ticket - 1]))
        REQUIRE(journal.is_right(*body, ticket));
    for (const auto& [begin, behind] : journal.batches)
      if (at >= begin && at < behind) REQUIRE(end <= begin);
    journal.bytes()[at] = whole[at];
  }
}
