#include "common/journal/segment_reader.h"

#include "common/base/check.h"

namespace millrace::journal {

std::optional<SegmentReader::Batch> SegmentReader::next() {
  if (sealed_ || end_ >= bytes_.size()) return std::nullopt;
  auto header = decode_batch(bytes_.substr(end_));
  if (!header || header->segment != segment_ || header->sequence != sequence_ ||
      header->chain != chain_)
    return std::nullopt;
  Batch batch{*header, bytes_.substr(end_ + kBatchHeaderBytes, header->body_bytes),
              end_ + kBatchHeaderBytes};
  end_ = round_to_block(end_ + kBatchHeaderBytes + header->body_bytes);
  ++sequence_.value;
  chain_ = header->checksum;
  incarnation_ = header->incarnation;
  sealed_ = header->flags & kSealed;
  return batch;
}

bool SegmentReader::torn() const {
  return !sealed_ && end_ < bytes_.size() && begins_batch(bytes_.substr(end_), segment_);
}

std::optional<uint64_t> SegmentReader::proof_of_damage() const {
  for (uint64_t offset = end_; offset < bytes_.size(); offset += kBlock) {
    auto header = decode_batch(bytes_.substr(offset));
    if (header && header->segment == segment_ && !(header->flags & kBehindUnsynced)) return offset;
  }
  return std::nullopt;
}

std::optional<uint64_t> SegmentReader::next_valid() const {
  uint64_t offset = end_;
  if (offset >= bytes_.size()) return std::nullopt;
  auto damaged = peek_batch(bytes_.substr(offset));
  if (damaged && damaged->segment == segment_ && damaged->sequence == sequence_ &&
      damaged->chain == chain_)
    offset = round_to_block(offset + kBatchHeaderBytes + damaged->body_bytes);
  for (; offset < bytes_.size(); offset += kBlock) {
    auto header = decode_batch(bytes_.substr(offset));
    if (header && header->segment == segment_ && header->sequence >= sequence_) return offset;
  }
  return std::nullopt;
}

void SegmentReader::resume(uint64_t offset) {
  auto header = decode_batch(bytes_.substr(offset));
  MILLRACE_CHECK(header && header->segment == segment_);
  end_ = offset;
  sequence_ = header->sequence;
  chain_ = header->chain;
}

}  // namespace millrace::journal
