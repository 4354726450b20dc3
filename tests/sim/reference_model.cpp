#include "tests/sim/reference_model.h"

#include <fmt/format.h>

#include "broker/records/record_codec.h"
#include "tests/sim/describe.h"

namespace millrace::sim {

void ReferenceModel::update() {
  while (read_segment()) {
    chain_ = checksums_.back();
    checksums_.clear();
    ++segment_.value;
    file_.reset();
  }
}

bool ReferenceModel::read_segment() {
  const size_t* file = disk_.durable_name(journal::segment_name(segment_));
  if (!file) return false;
  if (file_ != *file) {
    file_ = *file;
    offset_ = journal::kBlock;
    batch_ = 0;
  }
  std::string_view bytes = disk_.content(*file);
  while (offset_ < bytes.size()) {
    auto header = journal::decode_batch(bytes.substr(offset_));
    uint64_t chain = batch_ == 0 ? chain_ : checksums_[batch_ - 1];
    if (!header || header->segment != segment_ || header->chain != chain) return false;
    uint64_t size = journal::kBatchHeaderBytes + header->body_bytes;
    if (!disk_.is_durable(*file, offset_, size)) return false;
    if (batch_ < checksums_.size()) {
      if (checksums_[batch_] != header->checksum)
        World::fail({"what is durable stays",
                     fmt::format("batch {} of segment {} was replaced", batch_, segment_.value)});
    } else {
      checksums_.push_back(header->checksum);
      ++next_.value;
      take(bytes.substr(offset_ + journal::kBatchHeaderBytes, header->body_bytes));
    }
    ++batch_;
    offset_ = journal::round_to_block(offset_ + size);
    if (header->flags & journal::kSealed) return true;
  }
  return false;
}

void ReferenceModel::take(std::string_view body) {
  auto decoded = records::decode_all(body, [&](const records::Record& record, size_t) {
    world_.note("durable", [&] { return describe(record); });
    oracle_.durable(record, state_, segment_);
    count_record(world_.coverage(), record);
    state_.apply(record, Mono());
  });
  state_.take_settled();
  state_.take_retired();
  if (!decoded.ok()) World::fail({"the journal can be read", decoded.error().message});
}

}  // namespace millrace::sim
