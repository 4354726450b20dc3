#include "broker/server/snapshot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "broker/records/record_codec.h"
#include "common/base/check.h"
#include "common/os/file_descriptor.h"
#include "common/protocol/queue_name.h"
#include "common/protocol/reader.h"
#include "common/protocol/writer.h"

namespace millrace::server {
namespace {

static_assert(std::endian::native == std::endian::little, "the places are written as they stand");

constexpr std::string_view kMagic = "MRSNAP02";  // the last two are its version
constexpr const char* kName = "snapshot";

struct Header {
  std::array<char, 8> magic{};
  uint64_t segment = 0, batch = 0, chain = 0;  // the journal's end
  uint64_t records = 0, words = 0;             // bytes of the first two parts
  uint64_t size = 0;                           // of the file
  uint64_t checksum = 0;                       // of all but these 8 bytes
};
static_assert(sizeof(Header) == 64);

// A new file with these bytes, for its owner only; what stood there before goes.
bool write_file(const std::string& path, std::string_view bytes) {
  ::unlink(path.c_str());
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (fd.get() < 0) return false;
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(size_t(written));
  }
  return true;
}

// All of a regular file without holes; nothing otherwise. A snapshot is written from end to end,
// and a sparse file could have any size.
std::shared_ptr<std::string> read_file(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat info {};
  if (fd.get() < 0 || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return nullptr;
  const auto size = size_t(info.st_size);
  if (::lseek(fd.get(), 0, SEEK_HOLE) < info.st_size) return nullptr;
  auto bytes = std::make_shared<std::string>(size, '\0');
  for (size_t got = 0; got < size;) {
    const ssize_t count = ::pread(fd.get(), bytes->data() + got, size - got, off_t(got));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return nullptr;
    got += size_t(count);
  }
  return bytes;
}

uint64_t checksum_of(std::string_view file) {
  const size_t head = sizeof(Header) - sizeof(uint64_t);
  const uint64_t of_head = XXH3_64bits(file.data(), head);
  return XXH3_64bits_withSeed(file.data() + sizeof(Header), file.size() - sizeof(Header), of_head);
}

std::string records_of(const core::State& state) {
  records::Chunk chunk;
  chunk.append(state.checkpoint());
  for (JobId job : state.leased_before()) chunk.append(state.relocated(job));
  std::string bytes;
  for (std::string_view part : chunk.parts()) bytes += part;
  return bytes;
}

// Arrays: jobs at rest have 6 fields, results 5, winners 2.
std::string words_of(const core::State& state, const PayloadStore& payloads) {
  protocol::Writer out;
  for (const core::NeverLeased& group : state.never_leased()) {
    out.array(6).bin(group.producer.view()).str(group.queue).uint(uint64_t(group.report));
    out.uint(group.max_attempts).uint(group.priority).array(group.runs.size());
    for (const auto& run : group.runs) out.array(2).uint(run.first.value).uint(run.count);
  }
  for (const auto& [job, result] : state.results()) {
    out.array(5).uint(job.value).uint(payloads.results().at(job).segment).uint(result.attempts);
    out.uint(uint64_t(to_int(result.time))).bin(result.bytes);
  }
  for (const auto& lease : state.winners())
    out.array(2).uint(lease.job.value).uint(lease.epoch.value);
  return out.take();
}

core::NeverLeased read_never_leased(protocol::Reader& in) {
  using protocol::as_uint;
  core::NeverLeased group;
  const std::string_view producer = protocol::as_bytes(in.next());
  if (producer.size() != 16) throw protocol::Malformed("an id should have 16 bytes");
  group.producer = Uuid::from_bytes(producer);
  group.queue = protocol::as_bytes(in.next());
  group.report = protocol::Report(as_uint(in.next(), uint64_t(protocol::Report::result)));
  group.max_attempts = uint8_t(as_uint(in.next(), UINT8_MAX));
  group.priority = uint8_t(as_uint(in.next(), protocol::kMaxPriority));
  for (size_t left = in.enter_array(); left > 0; --left) {
    if (in.enter_array() != 2) throw protocol::Malformed("a run has two numbers");
    const uint64_t first = as_uint(in.next());
    group.runs.push_back({{first}, as_uint(in.next())});
  }
  return group;
}

// Jobs at rest are new to the state, and there are no more of them than places, which a file of any
// numbers could claim. `room` is what is left of these.
void check(const core::NeverLeased& group, const core::State& state, uint64_t* room) {
  if (!protocol::stored_queue_name(group.queue))
    throw protocol::Malformed("a queue's name is not valid, or there are too many");
  for (const auto& run : group.runs) {
    const bool is_accepted = run.first.value > 0 && run.first < state.next_job() &&
                             run.count <= state.next_job().value - run.first.value;
    if (!is_accepted) throw protocol::Malformed("a ready job was never accepted");
    if (run.count > *room) throw protocol::Malformed("there are more ready jobs than payloads");
    *room -= run.count;
  }
}

void restore_never_leased(protocol::Reader& in, core::State* state, uint64_t* room) {
  core::NeverLeased group = read_never_leased(in);
  check(group, *state, room);
  // Run by run, so that a run sees the jobs of the ones before. Below the start of the history all
  // that is not known otherwise counts as ended.
  for (const auto& run : std::exchange(group.runs, {})) {
    for (uint64_t i = 0; i < run.count; ++i)
      if (const auto at = state->state_of({run.first.value + i});
          at != core::JobState::unknown && at != core::JobState::ended)
        throw protocol::Malformed("a job is at rest that is known already");
    group.runs = {run};
    state->restore(group);
  }
}

void restore_result(protocol::Reader& in, core::State* state, PayloadStore* payloads) {
  const JobId job{protocol::as_uint(in.next())};
  // A result may be retained longer than it is known how its job ended.
  const core::JobState at = state->state_of(job);
  if ((at != core::JobState::done && at != core::JobState::ended) || state->result_of(job))
    throw protocol::Malformed("a result is of a job that is not done, or there twice");
  PayloadStore::RetainedResult place;
  place.segment = uint32_t(protocol::as_uint(in.next(), UINT32_MAX));
  core::RetainedResult result;
  result.attempts = uint16_t(protocol::as_uint(in.next(), UINT16_MAX));
  result.time = wall_from_int(int64_t(protocol::as_uint(in.next(), INT64_MAX)));
  result.bytes = protocol::as_bytes(in.next());
  place.size = uint32_t(result.bytes.size());
  payloads->restore(job, place);
  state->restore(job, std::move(result));
}

}  // namespace

std::string Snapshot::encode(journal::Position end, const core::State& state,
                             const PayloadStore& payloads) {
  const std::string records = records_of(state), words = words_of(state, payloads);
  const std::vector<PayloadStore::Run> runs = payloads.runs();
  Header header{{}, end.segment.value, end.batch.value, end.chain, records.size(), words.size()};
  std::copy(kMagic.begin(), kMagic.end(), header.magic.begin());
  std::string file(sizeof header, '\0');
  file += records;
  file += words;
  file.append(reinterpret_cast<const char*>(runs.data()), runs.size() * sizeof runs[0]);
  std::memcpy(file.data(), &header, sizeof header);
  seal(&file);
  return file;
}

Result<void> Snapshot::write(const std::filesystem::path& directory, journal::Position end,
                             const core::State& state, const PayloadStore& payloads) {
  const std::string file = encode(end, state, payloads);
  const auto path = directory / kName, unfinished = directory / (std::string(kName) + ".tmp");
  const bool is_written = write_file(unfinished.string(), file);
  std::error_code error;
  if (is_written) std::filesystem::rename(unfinished, path, error);
  if (is_written && !error) return {};
  const std::string why = error ? error.message() : std::strerror(errno);
  std::filesystem::remove(unfinished, error);
  return Error{ExitCode::io, fmt::format("{} can't be written: {}", path.string(), why)};
}

void Snapshot::seal(std::string* file) {
  Header header;
  MILLRACE_CHECK(file->size() >= sizeof header);
  std::memcpy(&header, file->data(), sizeof header);
  header.size = file->size();
  std::memcpy(file->data(), &header, sizeof header);
  header.checksum = checksum_of(*file);
  std::memcpy(file->data(), &header, sizeof header);
}

std::optional<Snapshot> Snapshot::read(const std::filesystem::path& directory) {
  return parse(read_file((directory / kName).string()));
}

std::optional<Snapshot> Snapshot::parse(std::shared_ptr<const std::string> bytes) {
  if (!bytes || bytes->size() < sizeof(Header)) return std::nullopt;
  const uint64_t size = bytes->size();
  Snapshot snapshot;
  Header header;
  std::memcpy(&header, bytes->data(), sizeof header);
  const uint64_t body = size - sizeof header;
  if (std::string_view(header.magic.data(), header.magic.size()) != kMagic || header.size != size ||
      header.records > body || header.words > body - header.records ||
      (body - header.records - header.words) % sizeof(PayloadStore::Run) != 0 ||
      header.checksum != checksum_of(*bytes))
    return std::nullopt;
  const std::string_view view(*bytes);
  snapshot.end_ = {{header.segment}, {header.batch}, header.chain};
  snapshot.records_ = view.substr(sizeof header, header.records);
  snapshot.words_ = view.substr(sizeof header + header.records, header.words);
  snapshot.places_ = view.substr(sizeof header + header.records + header.words);
  snapshot.bytes_ = std::move(bytes);
  return snapshot;
}

void Snapshot::remove(const std::filesystem::path& directory) {
  std::error_code ignored;
  std::filesystem::remove(directory / kName, ignored);
}

template <typename Visit>
void Snapshot::for_each_place(Visit&& visit) const {
  for (size_t at = 0; at < places_.size(); at += sizeof(PayloadStore::Run)) {
    PayloadStore::Run run;
    std::memcpy(&run, places_.data() + at, sizeof run);
    visit(run);
  }
}

Result<void> Snapshot::restore(Now now, core::Core* core, PayloadStore* payloads) const {
  std::optional<std::string> problem;
  uint64_t room = 0;
  for_each_place([&](const PayloadStore::Run& run) { room += run.count; });
  auto decoded = records::decode_all(records_, [&](const records::Record& record, size_t) {
    if (!problem) problem = core->replay(record, now);
  });
  if (!decoded) problem = decoded.error().message;
  if (!problem) {
    problem = protocol::read_guarded([&] {
      for (size_t at = 0; at < words_.size();) {
        protocol::Reader in(words_.substr(at));  // a new one each: its memory grows
        const size_t fields = in.enter_array();
        if (fields == 6) {
          restore_never_leased(in, &core->state(), &room);
        } else if (fields == 5) {
          restore_result(in, &core->state(), payloads);
        } else {
          if (fields != 2) throw protocol::Malformed("an array has a number of fields of no kind");
          const JobId job{protocol::as_uint(in.next())};
          core->state().restore_winner({job, {protocol::as_uint(in.next())}});
        }
        at += in.offset();
      }
    });
  }
  const uint64_t next_job = core->state().next_job().value;
  for_each_place([&](const PayloadStore::Run& run) {
    if (run.first_job == 0 || run.first_job >= next_job || run.count > next_job - run.first_job)
      problem = "a payload belongs to a job that was never accepted";
  });
  if (problem)
    return Error{ExitCode::bug, fmt::format("the snapshot is whole, and yet {}; delete it, and "
                                            "the journal is replayed",
                                            *problem)};
  for_each_place([&](const PayloadStore::Run& run) { payloads->restore(run); });
  return {};
}

}  // namespace millrace::server
