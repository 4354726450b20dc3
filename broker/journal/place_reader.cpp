#include "broker/journal/place_reader.h"

#include <algorithm>

#include "broker/journal/format.h"

namespace millrace::journal {

Result<std::shared_ptr<File>> PlaceReader::file_of(SegmentId segment) {
  std::lock_guard lock(mutex_);
  auto found = std::find_if(open_.begin(), open_.end(),
                            [&](const Entry& entry) { return entry.segment == segment; });
  if (found != open_.end()) {
    std::rotate(found, found + 1, open_.end());
    return open_.back().file;
  }
  auto opened = directory_.open(segment_name(segment));
  if (opened.error) return file_error(directory_, segment_name(segment), "opened", opened.error);
  if (open_.size() == kOpenFiles) open_.erase(open_.begin());
  open_.push_back({segment, std::move(opened.file)});
  return open_.back().file;
}

Result<void> PlaceReader::read(Place place, size_t size, std::string* out) {
  auto file = file_of(place.segment);
  if (!file) return file.error();
  out->resize(size);
  size_t got = 0;
  if (auto error = (*file)->read(place.offset, size, out->data(), &got)) {
    return file_error(directory_, segment_name(place.segment), "read", error);
  }
  out->resize(got);
  return {};
}

void PlaceReader::forget(SegmentId segment) {
  std::lock_guard lock(mutex_);
  std::erase_if(open_, [&](const Entry& entry) { return entry.segment == segment; });
}

}  // namespace millrace::journal
