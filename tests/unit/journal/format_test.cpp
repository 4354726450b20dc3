#include <xxhash.h>

#include "common/journal/format.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::journal;

namespace {

uint64_t u64_at(std::string_view bytes, size_t offset) {
  uint64_t value = 0;
  for (size_t i = 8; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}
uint32_t u32_at(std::string_view bytes, size_t offset) { return uint32_t(u64_at(bytes, offset)); }

template <size_t N>
std::string text(const std::array<char, N>& bytes) {
  return {bytes.data(), N};
}

}  // namespace

TEST_CASE("a segment's header has the layout of the page", "[journal]") {
  std::string bytes = text(encode(SegmentHeader{1, {2}, {3}, {4}, 5, wall_from_int(6)}));
  REQUIRE(bytes.size() == 56);
  CHECK(bytes.substr(0, 8) == "MILLRACE");
  CHECK(u64_at(bytes, 8) == (uint64_t{2} << 32 | 1));
  CHECK(u64_at(bytes, 16) == 3);
  CHECK(u64_at(bytes, 24) == 4);
  CHECK(u64_at(bytes, 32) == 5);
  CHECK(u64_at(bytes, 40) == 6);
  CHECK(u64_at(bytes, 48) == XXH3_64bits(bytes.data(), 48));

  auto back = decode_segment_header(bytes);
  REQUIRE(back);
  CHECK(back->version == 1);
  CHECK(back->broker == BrokerId{2});
  CHECK(back->segment == SegmentId{3});
  CHECK(back->first == BatchSeq{4});
  CHECK(back->chain == 5);
  CHECK(to_int(back->created) == 6);
}

TEST_CASE("a batch has the layout of the page, and its checksum covers the parts of its body",
          "[journal]") {
  BatchHeader header{{3}, {4}, 5, 6, 10, 7, kSealed};
  std::string_view parts[] = {"hello", "", "world"};
  std::string bytes = text(encode(&header, parts)) + "helloworld";
  CHECK(bytes.substr(0, 8) == "MRBATCH1");
  CHECK(u64_at(bytes, 8) == 3);
  CHECK(u64_at(bytes, 16) == 4);
  CHECK(u64_at(bytes, 24) == 5);
  CHECK(u64_at(bytes, 32) == 6);
  CHECK(u32_at(bytes, 40) == 10);
  CHECK(u32_at(bytes, 44) == 7);
  CHECK(u64_at(bytes, 48) == 1);
  std::string covered = bytes.substr(0, 56) + "helloworld";
  CHECK(u64_at(bytes, 56) == XXH3_64bits(covered.data(), covered.size()));
  CHECK(header.checksum == u64_at(bytes, 56));

  auto back = decode_batch(bytes + "what follows");
  REQUIRE(back);
  CHECK(back->segment == SegmentId{3});
  CHECK(back->sequence == BatchSeq{4});
  CHECK(back->incarnation == 5);
  CHECK(back->chain == 6);
  CHECK(back->body_bytes == 10);
  CHECK(back->records == 7);
  CHECK(back->flags == kSealed);
  CHECK(back->checksum == header.checksum);
}

TEST_CASE("a header with any byte changed, or any missing, is none", "[journal]") {
  std::string segment = text(encode(SegmentHeader{1, {2}, {3}, {4}, 5, wall_from_int(6)}));
  BatchHeader header{{3}, {4}, 5, 6, 10, 7, 0};
  std::string_view body = "helloworld";
  std::string batch = text(encode(&header, {&body, 1})) + std::string(body);
  for (size_t i = 0; i < segment.size(); ++i) {
    CHECK_FALSE(decode_segment_header(segment.substr(0, i)));
    std::string flipped = segment;
    flipped[i] = char(flipped[i] ^ 1);
    CHECK_FALSE(decode_segment_header(flipped));
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    CHECK_FALSE(decode_batch(batch.substr(0, i)));
    std::string flipped = batch;
    flipped[i] = char(flipped[i] ^ 1);
    CHECK_FALSE(decode_batch(flipped));
  }
}

TEST_CASE("a segment's name is its id", "[journal]") {
  CHECK(segment_name({0x1f}) == "segment-000000000000001f.mrj");
  CHECK(parse_segment_name("segment-000000000000001f.mrj") == SegmentId{0x1f});
  for (const char* name :
       {"segment-1f.mrj", "segment-000000000000001F.mrj", "segment-000000000000001f.mrj.tmp",
        "spare-000000000000001f.mrj", "segment-00000000000000 1.mrj", "LOCK"})
    CHECK_FALSE(parse_segment_name(name));
}
