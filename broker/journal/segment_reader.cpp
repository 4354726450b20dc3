#include "broker/journal/segment_reader.h"

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

}  // namespace millrace::journal
