#include "common/journal/walk.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/journal/sparse_buffer.h"

namespace millrace::journal {
namespace {

using Kind = Finding::Kind;

constexpr size_t kPiece = 1 << 20;  // read at a time

Result<uint64_t> size_of(Directory& directory, const std::string& name) {
  uint64_t bytes = 0;
  auto opened = directory.open(name);
  auto error = opened.error ? opened.error : opened.file->size(&bytes);
  if (error) return file_error(directory, name, opened.error ? "opened" : "read", error);
  return bytes;
}

class Walker {
 public:
  Walker(Directory& directory, const std::vector<SegmentInfo>& segments, WalkVisitor& visitor)
      : directory_(directory), segments_(segments), visitor_(visitor) {}

  Result<void> run() {
    for (size_t i = 0; i < segments_.size(); ++i)
      if (auto read = read_segment(segments_[i], i); !read) return read;
    return {};
  }

 private:
  std::string path(SegmentId segment) const {
    return directory_.path() + "/" + segment_name(segment);
  }
  Result<void> find(Kind kind, SegmentId segment, uint64_t offset, std::string_view what) {
    return visitor_.on_finding(
        {kind, segment, offset, fmt::format("{} at byte {}: {}", path(segment), offset, what)});
  }

  Result<void> read_segment(const SegmentInfo& info, size_t index) {
    if (index > 0 && info.id != next_segment_) {
      is_broken_ = true;
      auto told = visitor_.on_finding({Kind::missing, next_segment_, 0,
                                       fmt::format("{} is missing, though {} is there",
                                                   path(next_segment_), segment_name(info.id))});
      if (!told) return told;
    }
    next_segment_ = {info.id.value + 1};
    if (info.bytes > kMaxSegmentBytes) return refuse_size(info);
    if (auto loaded = load(info); !loaded) return loaded;
    const auto header = decode_segment_header(bytes_.view());
    if (auto begun = visitor_.on_segment(info, header ? &*header : nullptr); !begun) return begun;
    auto belongs = judge_header(info, header, index == 0);
    if (!belongs) return belongs.error();
    if (!*belongs) return {};
    SegmentReader reader(bytes_.view(),
                         header ? *header : SegmentHeader{0, {}, info.id, next_batch_, chain_});
    return read_batches(info.id, reader, index + 1 == segments_.size());
  }

  // A sparse file costs nothing on the disk, and would cost all of the memory here.
  Result<void> refuse_size(const SegmentInfo& info) {
    is_broken_ = true;
    return visitor_.on_finding({Kind::damaged, info.id, 0,
                                fmt::format("{} has {} bytes; the maximum size of a segment is {}",
                                            path(info.id), info.bytes, kMaxSegmentBytes),
                                info.bytes});
  }

  // False: nothing of the segment is to be read.
  Result<bool> judge_header(const SegmentInfo& info, const std::optional<SegmentHeader>& header,
                            bool first) {
    auto refuse = [&](Kind kind, std::string what) -> Result<bool> {
      is_broken_ = true;
      if (auto told = visitor_.on_finding({kind, info.id, 0, path(info.id) + what, info.bytes});
          !told)
        return told.error();
      return false;
    };
    if (!header) {
      is_broken_ = true;
      auto told = find(Kind::damaged, info.id, 0, "the header of the segment is damaged");
      return told ? Result<bool>(true) : told.error();
    }
    if (!can_read(header->version))
      return refuse(
          Kind::foreign_version,
          fmt::format(" has journal format version {}, and this {} reads versions {} to {}",
                      header->version, directory_.terms().program, kOldestFormatVersion,
                      kFormatVersion));
    // Behind damage the chain is torn, and only the order remains.
    const bool follows =
        first || (header->broker == broker_.value_or(header->broker) &&
                  (is_broken_ ? header->first >= next_batch_
                              : header->first == next_batch_ && header->chain == chain_));
    if (header->segment != info.id || !follows)
      return refuse(Kind::damaged, " at byte 0: this segment does not continue the previous one");
    broker_ = header->broker;
    is_broken_ = false;
    return true;
  }

  Result<void> read_batches(SegmentId segment, SegmentReader& reader, bool last) {
    for (bool more = true; more;) {
      while (auto batch = reader.next())
        if (auto taken = take(segment, *batch); !taken) return taken;
      more = false;
      if (reader.sealed()) break;
      auto next = judge_gap(segment, reader, last);
      if (!next) return next.error();
      if (*next) reader.resume(**next), more = true;
    }
    is_broken_ |= !reader.sealed();
    next_batch_ = reader.next_sequence();
    chain_ = reader.chain();
    visitor_.on_segment_end(segment, reader, bytes_.view());
    return {};
  }

  // What it means that no valid batch stands at reader.end(), and where to go on.
  Result<std::optional<uint64_t>> judge_gap(SegmentId segment, const SegmentReader& reader,
                                            bool last) {
    Finding finding{Kind::damaged, segment, reader.end()};
    const std::string at = fmt::format("{} at byte {}", path(segment), reader.end());
    const auto proof = last ? reader.proof_of_damage() : std::nullopt;
    if (last && !proof) {
      finding.kind = Kind::torn_tail;
      finding.what = at + ": an incomplete commit, which was never confirmed";
      if (reader.torn())
        if (auto told = visitor_.on_finding(finding); !told) return told.error();
      return std::optional<uint64_t>();
    }
    const auto next = reader.next_valid();
    finding.lost_bytes = next.value_or(bytes_.view().size()) - reader.end();
    if (next) {
      auto header = decode_batch(bytes_.view().substr(*next));
      if (reader.next_sequence().value > 0)  // known, unless the first header of all is damaged
        finding.lost_batches = header->sequence.value - reader.next_sequence().value;
    }
    finding.what =
        proof ? fmt::format(
                    "{}: a batch that had been synced is damaged (a later batch follows at "
                    "byte {})",
                    at, *proof)
              : at + ": a batch is damaged or missing in a complete segment";
    if (auto told = visitor_.on_finding(finding); !told) return told.error();
    return next;
  }

  Result<void> take(SegmentId segment, const SegmentReader::Batch& batch) {
    if (auto taken = visitor_.on_batch(segment, batch); !taken) return taken;
    Place at{segment, uint32_t(batch.body_offset)};
    auto taken = visitor_.on_body(batch.body, &at);
    if (taken || taken.error().code != ExitCode::bad_data) return taken;
    return find(Kind::damaged, segment, at.offset, taken.error().message);
  }

  Result<void> load(const SegmentInfo& info) {
    const std::string name = segment_name(info.id);
    auto opened = directory_.open(name);
    if (opened.error) return file_error(directory_, name, "opened", opened.error);
    if (!bytes_.resize(info.bytes))
      return Error{
          ExitCode::io,
          fmt::format("{} can't be read: not enough memory for its {} MiB; raise the memory limit "
                      "of this process (ulimit -v)",
                      path(info.id), info.bytes >> 20)};
    size_t at = 0;
    for (size_t got = kPiece; at < info.bytes && got == kPiece; at += got) {
      const size_t size = std::min<uint64_t>(kPiece, info.bytes - at);
      if (opened.file->read(at, size, bytes_.data() + at, &got))
        return load_blocks(info, *opened.file);
      bytes_.drop_if_zero(at, got);
    }
    bytes_.cut(at);
    return {};
  }

  // Around what the disk does not give; there stand zeros.
  Result<void> load_blocks(const SegmentInfo& info, File& file) {
    std::error_code first_error;
    uint64_t first = 0, failed = 0;
    for (uint64_t at = 0; at < info.bytes; at += kBlock) {
      const size_t size = std::min(kBlock, info.bytes - at);
      size_t got = 0;
      auto error = file.read(at, size, bytes_.data() + at, &got);
      if (error) got = 0;
      std::fill_n(bytes_.data() + at + got, size - got, '\0');
      if (error && failed++ == 0) first = at, first_error = error;
    }
    if (failed == 0) return {};
    return find(
        Kind::unreadable, info.id, first,
        fmt::format("{} blocks can't be read; the first: {}", failed, first_error.message()));
  }

  Directory& directory_;
  const std::vector<SegmentInfo>& segments_;
  WalkVisitor& visitor_;
  SparseBuffer bytes_;
  // What comes next, if all is well; is_broken_ says that the batches before it are not all there.
  SegmentId next_segment_;
  BatchSeq next_batch_;
  uint64_t chain_ = 0;
  std::optional<BrokerId> broker_;
  bool is_broken_ = false;
};

}  // namespace

uint64_t Listing::segment_bytes() const {
  uint64_t bytes = 0;
  for (const SegmentInfo& segment : segments) bytes += segment.bytes;
  return bytes;
}

Result<Listing> list(Directory& directory) {
  Listing listing;
  std::vector<std::string> names;
  if (auto error = directory.list(&names)) return file_error(directory, "", "listed", error);
  std::sort(names.begin(), names.end());
  for (std::string& name : names) {
    const auto segment = parse_segment_name(name);
    const bool is_spare = name.starts_with("spare-") && name.ends_with(".mrj");
    if (!segment && !is_spare) {
      if (name.ends_with(".tmp")) listing.unfinished.push_back(std::move(name));
      continue;
    }
    auto bytes = size_of(directory, name);
    if (!bytes) return bytes.error();
    if (segment) {
      listing.segments.push_back({*segment, *bytes});
    } else {
      listing.spares.push_back({std::move(name), *bytes});
    }
  }
  return listing;
}

const char* name_of(Finding::Kind kind) {
  switch (kind) {
    case Kind::torn_tail:
      return "torn tail";
    case Kind::damaged:
      return "damage";
    case Kind::missing:
      return "missing segment";
    case Kind::unreadable:
      return "unreadable";
    case Kind::foreign_version:
      return "foreign version";
  }
  return "";
}

Result<void> walk(Directory& directory, const std::vector<SegmentInfo>& segments,
                  WalkVisitor& visitor) {
  return Walker(directory, segments, visitor).run();
}

}  // namespace millrace::journal
