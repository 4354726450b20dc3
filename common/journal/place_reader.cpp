#include "common/journal/place_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/check.h"
#include "common/journal/format.h"

namespace millrace::journal {

Result<Body> PlaceReader::read(Place place, size_t size, uint64_t until) {
  MILLRACE_CHECK(size > 0);  // nothing lies in no batch
  auto segment = segment_of(place.segment);
  if (!segment) return segment.error();
  if (auto found = find(**segment, place.offset); !found) return found.error();
  const auto& batches = (*segment)->batches;
  auto next = std::upper_bound(batches.begin(), batches.end(), place.offset);
  if (next == batches.begin()) return damaged(place.segment, place.offset);
  auto body = load(**segment, size_t(next - batches.begin()) - 1, until);
  if (body && !body->holds(place, size)) return damaged(place.segment, place.offset);
  return body;
}

void PlaceReader::forget(SegmentId segment) {
  std::lock_guard lock(mutex_);
  std::erase_if(open_, [&](const auto& open) { return open->id == segment; });
}

Result<std::shared_ptr<PlaceReader::Segment>> PlaceReader::segment_of(SegmentId id) {
  std::lock_guard lock(mutex_);
  auto found =
      std::find_if(open_.begin(), open_.end(), [&](const auto& open) { return open->id == id; });
  if (found != open_.end()) {
    std::rotate(found, found + 1, open_.end());
    return open_.back();
  }
  auto opened = directory_.open(segment_name(id));
  if (opened.error && is_shortage(opened.error) && !open_.empty()) {
    open_.clear();  // what they hold may be what is short
    opened = directory_.open(segment_name(id));
  }
  if (opened.error) return failed(id, "opened", opened.error);
  if (open_.size() == kOpenSegments) open_.erase(open_.begin());
  open_.push_back(std::make_shared<Segment>(Segment{id, std::move(opened.file)}));
  return open_.back();
}

// Learns of the batches up to the one that holds `offset`. A header that leads astray is found by
// the checksum of its batch, so each step that fails looks at the step before.
Result<void> PlaceReader::find(Segment& segment, uint64_t offset) {
  while (segment.end <= offset) {
    char head[kBatchHeaderBytes];
    if (auto got = read_bytes(segment, segment.end, sizeof head, head); !got) return got;
    auto header = peek_batch({head, sizeof head});
    if (header && segment.batches.empty()) segment.first = header->sequence;
    if (!header || header->segment != segment.id ||
        header->sequence.value != segment.first.value + segment.batches.size()) {
      if (!segment.batches.empty())
        if (auto before = load(segment, segment.batches.size() - 1); !before) return before.error();
      return damaged(segment.id, segment.end);
    }
    segment.batches.push_back(uint32_t(segment.end));
    segment.end = round_to_block(segment.end + kBatchHeaderBytes + header->body_bytes);
  }
  return {};
}

Result<Body> PlaceReader::load(Segment& segment, size_t index, uint64_t until) {
  const uint64_t begin = segment.batches[index];
  const bool last = index + 1 == segment.batches.size();
  const size_t size = (last ? segment.end : segment.batches[index + 1]) - begin;
  uint64_t bytes = 0;
  if (auto error = segment.file->size(&bytes)) return failed(segment.id, "read", error);
  if (begin + size > bytes) return damaged(segment.id, begin);
  const uint64_t ahead = std::min({round_to_block(until), begin + kReadAhead, bytes});
  const size_t most = std::max<uint64_t>(begin + size, ahead) - begin;
  std::shared_ptr<char[]> batch = std::make_shared_for_overwrite<char[]>(most);
  if (auto got = read_bytes(segment, begin, most, batch.get()); !got) return got.error();
  const auto header = decode_batch({batch.get(), size});
  if (!header || header->segment != segment.id ||
      header->sequence.value != segment.first.value + index)
    return damaged(segment.id, begin);
  const size_t end = most == size ? kBatchHeaderBytes + header->body_bytes
                                  : whole_batches(segment, index, {batch.get(), most}, until);
  return Body{{segment.id, uint32_t(begin + kBatchHeaderBytes)},
              {batch.get() + kBatchHeaderBytes, end - kBatchHeaderBytes},
              std::move(batch)};
}

// Where the body of the last batch ends of those that stand whole and right in `bytes`, which
// begins with the good batch `index`, and that begin before `until`. What they teach of places is
// noted.
size_t PlaceReader::whole_batches(Segment& segment, size_t index, std::string_view bytes,
                                  uint64_t until) {
  const uint64_t begin = segment.batches[index];
  size_t end = kBatchHeaderBytes + peek_batch(bytes)->body_bytes;
  for (size_t at = round_to_block(end); at < bytes.size() && begin + at < until;
       at = round_to_block(end)) {
    const auto header = decode_batch(bytes.substr(at));
    if (!header || header->segment != segment.id ||
        header->sequence.value != segment.first.value + ++index)
      break;
    end = at + kBatchHeaderBytes + header->body_bytes;
    if (begin + at != segment.end) continue;
    segment.batches.push_back(uint32_t(begin + at));
    segment.end = round_to_block(begin + end);
  }
  return end;
}

Result<void> PlaceReader::read_bytes(const Segment& segment, uint64_t offset, size_t size,
                                     char* out) {
  size_t got = 0;
  if (auto error = segment.file->read(offset, size, out, &got)) {
    Error told = failed(segment.id, fmt::format("read at byte {}", offset), error);
    if (told.code == ExitCode::temporary) return told;
    told.message += fmt::format(
        "; check the system log for disk errors, repair the disk, and start the {} again",
        directory_.terms().program);
    return told;
  }
  if (got < size) return damaged(segment.id, offset);
  return {};
}

Error PlaceReader::failed(SegmentId segment, std::string_view what, std::error_code error) const {
  Error told = file_error(directory_, segment_name(segment), what, error);
  if (is_shortage(error)) told.code = ExitCode::temporary;
  return told;
}

Error PlaceReader::damaged(SegmentId segment, uint64_t offset) const {
  return {
      ExitCode::bad_data,
      fmt::format("{}/{} at byte {}: a batch with {} jobs is damaged; none of them can be read. {}",
                  directory_.path(), segment_name(segment), offset, directory_.terms().confirmed,
                  how_to_salvage(directory_))};
}

}  // namespace millrace::journal
