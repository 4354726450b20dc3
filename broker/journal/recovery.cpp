#include "broker/journal/recovery.h"

#include <fmt/format.h>

#include <algorithm>

#include "broker/journal/segment_reader.h"

namespace millrace::journal {
namespace {

constexpr std::string_view kRemedy =
    "Restore the directory from a copy, or move it away and start with an empty one. Nothing has "
    "been changed.";

Error damage(std::string message) {
  return {ExitCode::bad_data, std::move(message) + ". " + std::string(kRemedy)};
}

class Scanner {
 public:
  Scanner(Directory& directory, const Journal::Replay& replay)
      : directory_(directory), replay_(replay) {}

  Result<Scan> run() {
    if (auto listed = list(); !listed) return listed.error();
    if (auto measured = measure_spares(); !measured) return measured.error();
    scan_.recovered.fresh = scan_.segments.empty();
    for (size_t i = 0; i < scan_.segments.size(); ++i) {
      if (auto read = read_segment(i); !read) return read.error();
    }
    return std::move(scan_);
  }

 private:
  std::string path(SegmentId segment) const {
    return directory_.path() + "/" + segment_name(segment);
  }

  Result<void> list() {
    std::vector<std::string> names;
    if (auto error = directory_.list(&names)) return file_error(directory_, "", "listed", error);
    std::sort(names.begin(), names.end());
    for (std::string& name : names) {
      if (auto segment = parse_segment_name(name)) {
        scan_.segments.push_back({*segment, 0});
      } else if (name.ends_with(".tmp")) {
        scan_.unfinished.push_back(std::move(name));
      } else if (name.starts_with("spare-") && name.ends_with(".mrj")) {
        scan_.spares.push_back({std::move(name), 0});
      }
    }
    return {};
  }

  Result<void> measure_spares() {
    for (Spare& spare : scan_.spares) {
      auto opened = directory_.open(spare.name);
      auto error = opened.error ? opened.error : opened.file->size(&spare.bytes);
      if (error) return file_error(directory_, spare.name, "read", error);
    }
    return {};
  }

  Result<void> load(SegmentInfo* info) {
    std::string name = segment_name(info->id);
    auto opened = directory_.open(name);
    if (opened.error) return file_error(directory_, name, "opened", opened.error);
    if (auto error = opened.file->size(&info->bytes))
      return file_error(directory_, name, "read", error);
    bytes_.resize(info->bytes);
    size_t got = 0;
    if (auto error = opened.file->read(0, bytes_.size(), bytes_.data(), &got)) {
      return file_error(directory_, name, "read", error);
    }
    bytes_.resize(got);
    return {};
  }

  Result<void> read_segment(size_t index) {
    SegmentInfo& info = scan_.segments[index];
    if (index > 0 && info.id != scan_.next.segment) {
      return damage(fmt::format("{} is missing, though {} is there", path(scan_.next.segment),
                                segment_name(info.id)));
    }
    if (auto loaded = load(&info); !loaded) return loaded;
    auto header = read_header(info.id, index == 0);
    if (!header) return header.error();
    SegmentReader reader(bytes_, *header);
    if (auto replayed = replay(info.id, reader); !replayed) return replayed;
    bool last = index + 1 == scan_.segments.size();
    if (auto judged = judge_end(info.id, reader, last); !judged) return judged;
    scan_.next = {{info.id.value + 1}, reader.next_sequence(), reader.chain()};
    return {};
  }

  Result<SegmentHeader> read_header(SegmentId segment, bool first) {
    auto header = decode_segment_header(bytes_);
    if (!header)
      return damage(
          fmt::format("{} at byte 0: the header of the segment is damaged", path(segment)));
    if (header->version != kFormatVersion) {
      return Error{ExitCode::bad_data,
                   fmt::format("{} has journal format version {}, and this broker reads version "
                               "{}: start the release "
                               "that wrote it, or choose another --data directory",
                               path(segment), header->version, kFormatVersion)};
    }
    bool follows = first || (header->first == scan_.next.batch &&
                             header->chain == scan_.next.chain && header->broker == *scan_.broker);
    if (header->segment != segment || !follows) {
      return damage(fmt::format(
          "{} at byte 0: this segment does not belong behind the one before it", path(segment)));
    }
    scan_.broker = header->broker;
    return *header;
  }

  Result<void> replay(SegmentId segment, SegmentReader& reader) {
    while (auto batch = reader.next()) {
      scan_.recovered.batches += 1;
      scan_.recovered.records += batch->header.records;
      scan_.recovered.bytes += batch->body.size();
      Result<void> taken;
      auto decoded =
          records::decode_all(batch->body, [&](const records::Record& record, size_t offset) {
            if (!taken) return;
            if (const auto* accepted = std::get_if<records::Accepted>(&record)) {
              offset = size_t(accepted->payload_array.data() - batch->body.data());
            }
            taken = replay_(record, {segment, uint32_t(batch->body_offset + offset)});
          });
      if (!decoded) {
        return damage(fmt::format(
            "{} at byte {}: the batch has the right checksum, but not the right records: {}",
            path(segment), batch->body_offset, decoded.error().message));
      }
      if (!taken) return taken;
    }
    return {};
  }

  // What it means that no valid batch stands at reader.end().
  Result<void> judge_end(SegmentId segment, const SegmentReader& reader, bool last) {
    if (reader.sealed()) {
      uint64_t seal = reader.end() - kBlock;
      if (last) scan_.seal = Seal{seal, bytes_.substr(seal, kBlock)};
      return {};
    }
    if (!last) {
      return damage(fmt::format(
          "{} at byte {}: a batch is damaged or missing, in a segment that was complete",
          path(segment), reader.end()));
    }
    if (auto proof = reader.proof_of_damage()) {
      return damage(fmt::format(
          "{} at byte {}: a batch is damaged that had been synced, since a later one stands at "
          "byte {}",
          path(segment), reader.end(), *proof));
    }
    if (reader.torn()) {
      scan_.recovered.torn_tail = fmt::format("{} at byte {}", path(segment), reader.end());
    }
    bytes_.resize(reader.end());
    scan_.tail = Tail{std::move(bytes_), reader.incarnation()};
    return {};
  }

  Directory& directory_;
  const Journal::Replay& replay_;
  std::string bytes_;
  Scan scan_;
};

// Writes the tail and a seal into `file`, and syncs it.
std::error_code write_sealed(File& file, SegmentId segment, const Tail& tail, Position* next) {
  BatchHeader seal;
  seal.segment = segment;
  seal.sequence = next->batch;
  seal.incarnation = tail.incarnation;
  seal.chain = next->chain;
  seal.flags = kSealed;
  std::array<char, kBlock> block{};
  auto head = encode(&seal, {});
  std::copy(head.begin(), head.end(), block.begin());
  std::string_view parts[] = {tail.bytes, {block.data(), block.size()}};
  if (auto error = file.write(parts, 0)) return error;
  if (auto error = file.sync()) return error;
  next->batch.value += 1;
  next->chain = seal.checksum;
  return {};
}

std::error_code seal_tail(Directory& directory, Scan* scan) {
  SegmentInfo& info = scan->segments.back();
  std::string name = segment_name(info.id);
  auto copy = directory.create(name + ".tmp");
  if (copy.error) return copy.error;
  Position next = scan->next;
  if (auto error = write_sealed(*copy.file, info.id, *scan->tail, &next)) return error;
  if (auto error = directory.rename(name + ".tmp", name)) return error;
  if (auto error = directory.sync()) return error;
  scan->next = next;
  info.bytes = scan->tail->bytes.size() + kBlock;
  scan->tail.reset();
  return {};
}

// The same bytes again: torn or not, the block can't become worse.
std::error_code secure_seal(Directory& directory, const Scan& scan) {
  auto opened = directory.open(segment_name(scan.segments.back().id));
  if (opened.error) return opened.error;
  std::string_view parts[] = {scan.seal->block};
  if (auto error = opened.file->write(parts, scan.seal->offset)) return error;
  if (auto error = opened.file->sync()) return error;
  return directory.sync();
}

Result<void> remove(Directory& directory, const std::string& name) {
  if (auto error = directory.remove(name)) return file_error(directory, name, "removed", error);
  return {};
}

Result<void> remove_unfinished(Directory& directory, Scan* scan) {
  for (; !scan->unfinished.empty(); scan->unfinished.pop_back()) {
    if (auto removed = remove(directory, scan->unfinished.back()); !removed) return removed;
  }
  return {};
}

Result<void> remove_spares(Directory& directory, Scan* scan) {
  for (; !scan->spares.empty(); scan->spares.pop_back()) {
    if (auto removed = remove(directory, scan->spares.back().name); !removed) return removed;
  }
  return {};
}

}  // namespace

Result<Scan> scan(Directory& directory, const Journal::Replay& replay) {
  return Scanner(directory, replay).run();
}

Result<void> finish(Directory& directory, Scan* scan) {
  if (auto removed = remove_unfinished(directory, scan); !removed) return removed;
  if (scan->segments.empty()) return {};
  std::string name = segment_name(scan->segments.back().id);
  if (scan->seal) {
    auto error = secure_seal(directory, *scan);
    return error ? file_error(directory, name, "sealed", error) : Result<void>();
  }
  auto error = seal_tail(directory, scan);
  if (is_no_space(error) && !scan->spares.empty()) {
    if (auto removed = remove_spares(directory, scan); !removed) return removed;
    error = seal_tail(directory, scan);
  }
  if (is_no_space(error)) {
    return Error{
        ExitCode::io,
        fmt::format("the disk of {} is full: the start needs {} KiB to copy the end of the "
                    "journal",
                    directory.path(), scan->tail->bytes.size() / 1024 + kBlock / 1024)};
  }
  if (error) return file_error(directory, name, "copied", error);
  return {};
}

}  // namespace millrace::journal
