#include "common/journal/format.h"

#define XXH_INLINE_ALL  // the streaming state stands on the stack
#include <fmt/format.h>
#include <xxhash.h>

#include <charconv>

namespace millrace::journal {
namespace {

constexpr std::string_view kSegmentMagic = "MILLRACE";
constexpr std::string_view kBatchMagic = "MRBATCH1";
constexpr std::string_view kNamePrefix = "segment-";
constexpr std::string_view kNameSuffix = ".mrj";
constexpr size_t kNameDigits = 16;

class Put {
 public:
  explicit Put(char* out) : out_(out) {}
  Put& text(std::string_view bytes) { return out_ += bytes.copy(out_, bytes.size()), *this; }
  Put& u32(uint32_t value) { return number(value, 4); }
  Put& u64(uint64_t value) { return number(value, 8); }

 private:
  Put& number(uint64_t value, size_t width) {
    for (size_t i = 0; i < width; ++i) *out_++ = char(value >> 8 * i);
    return *this;
  }
  char* out_;
};

class Get {
 public:
  explicit Get(const char* in) : in_(in) {}
  uint32_t u32() { return uint32_t(number(4)); }
  uint64_t u64() { return number(8); }

 private:
  uint64_t number(size_t width) {
    uint64_t value = 0;
    for (size_t i = 0; i < width; ++i)
      value |= uint64_t(static_cast<unsigned char>(*in_++)) << 8 * i;
    return value;
  }
  const char* in_;
};

uint64_t checksum_of(std::string_view head, std::span<const std::string_view> body) {
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, head.data(), head.size());
  for (std::string_view part : body) XXH3_64bits_update(&state, part.data(), part.size());
  return XXH3_64bits_digest(&state);
}

}  // namespace

std::array<char, kSegmentHeaderBytes> encode(const SegmentHeader& header) {
  std::array<char, kSegmentHeaderBytes> out;
  constexpr size_t kCovered = kSegmentHeaderBytes - 8;
  Put(out.data())
      .text(kSegmentMagic)
      .u32(header.version)
      .u32(header.broker.value)
      .u64(header.segment.value)
      .u64(header.first.value)
      .u64(header.chain)
      .u64(uint64_t(to_int(header.created)));
  Put(out.data() + kCovered).u64(XXH3_64bits(out.data(), kCovered));
  return out;
}

std::optional<SegmentHeader> decode_segment_header(std::string_view bytes) {
  constexpr size_t kCovered = kSegmentHeaderBytes - 8;
  if (bytes.size() < kSegmentHeaderBytes || !bytes.starts_with(kSegmentMagic)) return std::nullopt;
  if (Get(bytes.data() + kCovered).u64() != XXH3_64bits(bytes.data(), kCovered))
    return std::nullopt;
  Get in(bytes.data() + kSegmentMagic.size());
  SegmentHeader header;
  header.version = in.u32();
  header.broker = {in.u32()};
  header.segment = {in.u64()};
  header.first = {in.u64()};
  header.chain = in.u64();
  header.created = wall_from_int(int64_t(in.u64()));
  return header;
}

std::array<char, kBatchHeaderBytes> encode(BatchHeader* header,
                                           std::span<const std::string_view> body) {
  std::array<char, kBatchHeaderBytes> out;
  constexpr size_t kCovered = kBatchHeaderBytes - 8;
  Put(out.data())
      .text(kBatchMagic)
      .u64(header->segment.value)
      .u64(header->sequence.value)
      .u64(header->incarnation)
      .u64(header->chain)
      .u32(header->body_bytes)
      .u32(header->records)
      .u32(header->flags)
      .u32(0);
  header->checksum = checksum_of({out.data(), kCovered}, body);
  Put(out.data() + kCovered).u64(header->checksum);
  return out;
}

std::optional<BatchHeader> peek_batch(std::string_view bytes) {
  if (bytes.size() < kBatchHeaderBytes || !bytes.starts_with(kBatchMagic)) return std::nullopt;
  Get in(bytes.data() + kBatchMagic.size());
  BatchHeader header;
  header.segment = {in.u64()};
  header.sequence = {in.u64()};
  header.incarnation = in.u64();
  header.chain = in.u64();
  header.body_bytes = in.u32();
  header.records = in.u32();
  header.flags = in.u32();
  in.u32();
  header.checksum = in.u64();
  return header;
}

std::optional<BatchHeader> decode_batch(std::string_view bytes) {
  auto header = peek_batch(bytes);
  if (!header || bytes.size() - kBatchHeaderBytes < header->body_bytes) return std::nullopt;
  if (header->sequence.value == UINT64_MAX) return std::nullopt;  // none could follow it
  std::string_view body = bytes.substr(kBatchHeaderBytes, header->body_bytes);
  if (header->checksum != checksum_of(bytes.substr(0, kBatchHeaderBytes - 8), {&body, 1}))
    return std::nullopt;
  return header;
}

bool begins_batch(std::string_view bytes, SegmentId segment) {
  auto header = peek_batch(bytes);
  return header && header->segment == segment;
}

std::string segment_name(SegmentId segment) {
  return fmt::format("{}{:016x}{}", kNamePrefix, segment.value, kNameSuffix);
}

std::optional<SegmentId> parse_segment_name(std::string_view name) {
  if (name.size() != kNamePrefix.size() + kNameDigits + kNameSuffix.size()) return std::nullopt;
  if (!name.starts_with(kNamePrefix) || !name.ends_with(kNameSuffix)) return std::nullopt;
  SegmentId segment;
  const char* digits = name.data() + kNamePrefix.size();
  auto [end, error] = std::from_chars(digits, digits + kNameDigits, segment.value, 16);
  if (error != std::errc() || end != digits + kNameDigits || segment_name(segment) != name)
    return std::nullopt;
  return segment;
}

}  // namespace millrace::journal
