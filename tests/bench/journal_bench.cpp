// What the journal makes of this disk: journal_bench DIR [MIB] [--json]
// Shape:   bare loops of write and fdatasync and of O_DSYNC, then the journal's commits of one job each,
//          the bytes written for a payload's byte, then MIB (1024) in chunks of 128 KiB, all kept and
//          with old segments retired, and their replay beside plainly reading the same files, from the
//          disk and from the page cache
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "broker/replay/replay.h"
#include "common/journal/journal.h"

using namespace millrace;
using namespace millrace::journal;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kCommits = 5000;
constexpr size_t kPayload = 256;
constexpr size_t kPerChunk = 500;  // 128 KiB
constexpr uint64_t kInFlight = 64;

double rounded(double value) { return std::round(value * 100) / 100; }

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](timeval time) { return double(time.tv_sec) + double(time.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

nlohmann::json latency(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  auto at = [&](double share) {
    return std::round(seconds[size_t(share * double(seconds.size() - 1))] * 1e7) / 10;
  };
  return {{"p50_us", at(0.5)}, {"p99_us", at(0.99)}, {"p999_us", at(0.999)}};
}

template <typename T>
T must(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "journal_bench: {}\n", result.error().message);
  std::exit(int(result.error().code));
}
void must(const Result<void>& result) {
  if (result) return;
  fmt::print(stderr, "journal_bench: {}\n", result.error().message);
  std::exit(int(result.error().code));
}

enum class Prepared { no, allocated, zeros };
constexpr const char* kPrepared[] = {"appending", "fallocated", "zero-filled"};

bool prepare(int fd, Prepared prepared) {
  const off_t size = off_t(kCommits * kBlock);
  std::string zeros(1 << 20, '\0');
  if (prepared == Prepared::allocated && ::posix_fallocate(fd, 0, size) != 0) return false;
  for (off_t at = 0; prepared == Prepared::zeros && at < size; at += off_t(zeros.size()))
    if (::pwrite(fd, zeros.data(), zeros.size(), at) <= 0) return false;
  return ::fsync(fd) == 0;
}

nlohmann::json bare(const std::string& path, Prepared prepared, bool dsync) {
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
  bool ok = fd >= 0 && prepare(fd, prepared);
  ::close(fd);
  fd = ::open(path.c_str(), O_RDWR | (dsync ? O_DSYNC : 0));
  std::string block(kBlock, 'x');
  std::vector<double> taken;
  for (int i = 0; ok && i < kCommits; ++i) {
    auto begin = Clock::now();
    ok = ::pwrite(fd, block.data(), block.size(), off_t(i) * off_t(kBlock)) > 0 &&
         (dsync || ::fdatasync(fd) == 0);
    taken.push_back(since(begin));
  }
  ::close(fd);
  ::unlink(path.c_str());
  if (!ok) must(Result<void>(Error{ExitCode::io, path + " can't be written"}));
  return latency(std::move(taken));
}

std::vector<Committed> await(Journal& journal) {
  pollfd ready{journal.wake_fd(), POLLIN, 0};
  ::poll(&ready, 1, 10000);
  if (auto failure = journal.failure()) must(Result<void>(*failure));
  return journal.take_committed();
}

std::unique_ptr<Journal> open_new(const std::string& directory) {
  JournalOptions options;
  options.directory = directory;
  Recovered recovered;
  auto journal = must(Journal::open(
      options, [](std::string_view, Place*) { return Result<void>(); }, &recovered));
  must(journal->start({1}, 1));
  return journal;
}

records::Chunk chunk_of(const std::shared_ptr<const std::string>& frame,
                        const records::Accepted& accepted) {
  records::Chunk chunk;
  chunk.append(accepted, frame);
  return chunk;
}

records::Accepted accepted_of(std::shared_ptr<const std::string>* frame, size_t jobs) {
  std::string payload(kPayload, 'p');
  records::Accepted accepted;
  accepted.first_job = {1};
  accepted.first_seq = accepted.floor = {1};
  accepted.queue = "bench";
  accepted.payloads.assign(jobs, payload);
  records::Chunk whole;
  size_t at = whole.append(accepted);
  *frame = std::make_shared<const std::string>(whole.parts().front());
  accepted.payload_array = std::string_view(**frame).substr(at);
  return accepted;
}

nlohmann::json commits(const std::string& directory) {
  auto journal = open_new(directory);
  std::shared_ptr<const std::string> frame;
  auto accepted = accepted_of(&frame, 1);
  std::vector<double> taken;
  double cpu = cpu_seconds();
  for (int i = 0; i < kCommits; ++i) {
    auto begin = Clock::now();
    journal->append(chunk_of(frame, accepted), i == 0);
    while (await(*journal).empty()) {
    }
    taken.push_back(since(begin));
  }
  cpu = cpu_seconds() - cpu;
  must(journal->stop());
  auto report = latency(std::move(taken));
  report["cpu_us"] = std::round(cpu / kCommits * 1e6);
  return report;
}

// What the disk below the directory has written so far, for anybody: zeros ahead, headers and the
// file system's own too. 0 where the kernel does not tell (a process's own count takes whole large
// folios).
uint64_t bytes_to_disk(const std::string& directory) {
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0) return 0;
  std::ifstream in("/proc/diskstats");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    unsigned major_number = 0, minor_number = 0;
    std::string name;
    uint64_t reads, merged, read_sectors, read_ms, writes, merged_writes, sectors = 0;
    words >> major_number >> minor_number >> name >> reads >> merged >> read_sectors >> read_ms >>
        writes >> merged_writes >> sectors;
    if (major_number == major(info.st_dev) && minor_number == minor(info.st_dev))
      return sectors * 512;
  }
  return 0;
}

nlohmann::json amplification(const std::string& directory, size_t jobs, int batches) {
  auto journal = open_new(directory);
  std::shared_ptr<const std::string> frame;
  auto accepted = accepted_of(&frame, jobs);
  const uint64_t before = bytes_to_disk(directory);
  uint64_t in_segment = 0;
  for (int i = 0; i < batches; ++i, in_segment += frame->size() + kBlock) {
    const bool new_segment = i == 0 || in_segment > kSegmentBytes - (4 << 20);
    if (new_segment) in_segment = 0;
    journal->append(chunk_of(frame, accepted), new_segment);
    while (await(*journal).empty()) {
    }
  }
  const double payload = double(jobs) * double(batches) * kPayload;
  const double batch_bytes = double(journal->stats().bytes_written);
  const double disk_bytes = double(bytes_to_disk(directory) - before);
  must(journal->stop());
  return {{"in_batches", rounded(batch_bytes / payload)},
          {"to_the_disk", rounded(disk_bytes / payload)}};
}

nlohmann::json throughput(const std::string& directory, uint64_t bytes, bool retire) {
  auto journal = open_new(directory);
  std::shared_ptr<const std::string> frame;
  auto accepted = accepted_of(&frame, kPerChunk);
  uint64_t chunks = bytes / frame->size(), sent = 0, back = 0, in_segment = 0;
  double cpu = cpu_seconds();
  auto begin = Clock::now();
  while (back < chunks) {
    for (; sent < chunks && sent - back < kInFlight; ++sent, in_segment += frame->size()) {
      bool new_segment = sent == 0 || in_segment >= kSegmentBytes - (1 << 20);
      if (new_segment) in_segment = 0;
      journal->append(chunk_of(frame, accepted), new_segment);
    }
    auto committed = await(*journal);
    back += committed.size();
    if (retire && !committed.empty() && committed.back().place.segment.value > 2)
      journal->retire({committed.back().place.segment.value - 2});
  }
  double seconds = since(begin);
  cpu = cpu_seconds() - cpu;
  double megabytes = double(chunks * frame->size()) / 1e6;
  auto stats = journal->stats();
  must(journal->stop());
  return {{"mb_per_second", std::round(megabytes / seconds)},
          {"cpu_ms_a_mb", rounded(cpu * 1e3 / megabytes)},
          {"mb_a_commit", rounded(megabytes / double(stats.commits))}};
}

// Out of the page cache, as far as the files are on disk.
void forget(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    int fd = ::open(entry.path().c_str(), O_RDONLY);
    ::fsync(fd);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

double read_plainly(const std::string& directory) {
  std::string buffer(1 << 20, '\0');
  uint64_t bytes = 0;
  auto begin = Clock::now();
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    int fd = ::open(entry.path().c_str(), O_RDONLY);
    for (ssize_t got; (got = ::read(fd, buffer.data(), buffer.size())) > 0;) bytes += uint64_t(got);
    ::close(fd);
  }
  return rounded(double(bytes) / 1e9 / since(begin));
}

double replay(const std::string& directory) {
  JournalOptions options;
  options.directory = directory;
  Recovered recovered;
  auto visit = [](const records::Record&, Place) { return Result<void>(); };
  auto begin = Clock::now();
  auto journal = must(Journal::open(options, records::replay(visit), &recovered));
  double seconds = since(begin);
  must(journal->stop());
  return rounded(double(recovered.bytes) / 1e9 / seconds);
}

nlohmann::json recovery(const std::string& directory) {
  nlohmann::json report;
  for (const char* cache : {"cold", "warm"}) {
    const bool cold = std::string_view(cache) == "cold";
    if (cold) forget(directory);
    report[cache]["plain_gb_per_second"] = read_plainly(directory);
    if (cold) forget(directory);
    report[cache]["replay_gb_per_second"] = replay(directory);
  }
  return report;
}

nlohmann::json measure(const std::filesystem::path& base, uint64_t bytes) {
  nlohmann::json report;
  for (bool dsync : {false, true})
    for (Prepared prepared : {Prepared::no, Prepared::allocated, Prepared::zeros})
      report["bare"][dsync ? "O_DSYNC" : "fdatasync"][kPrepared[int(prepared)]] =
          bare(base / "bare", prepared, dsync);
  report["commit"] = commits(base / "commits");
  for (auto [jobs, batches] : {std::pair{1, 5000}, {100, 2000}, {10'000, 100}})
    report["amplification"][std::to_string(jobs)] =
        amplification(base / fmt::format("amplified-{}", jobs), size_t(jobs), batches);
  report["throughput"]["all_kept"] = throughput(base / "kept", bytes, false);
  report["recovery"] = recovery(base / "kept");
  std::filesystem::remove_all(base / "kept");
  report["throughput"]["retired"] = throughput(base / "retired", bytes, true);
  return report;
}

void print(const nlohmann::json& report) {
  auto row = [](std::string_view what, const nlohmann::json& figures) {
    fmt::print("{:<52} {}\n", what, figures.dump());
  };
  for (const auto& [how, cases] : report["bare"].items())
    for (const auto& [where, figures] : cases.items())
      row(fmt::format("bare: 4 KiB, {}, {}", how, where), figures);
  row("journal: one job, until the core is awake", report["commit"]);
  for (const auto& [jobs, figures] : report["amplification"].items())
    row(fmt::format("bytes written a payload byte, {} jobs a commit", jobs), figures);
  for (const auto& [kind, figures] : report["throughput"].items())
    row(fmt::format("journal: 128 KiB chunks, segments {}", kind), figures);
  for (const auto& [cache, figures] : report["recovery"].items())
    row(fmt::format("reading the journal, {} cache", cache), figures);
}

}  // namespace

int main(int argc, char** argv) {
  const bool as_json = argc > 1 && std::string_view(argv[argc - 1]) == "--json";
  const int arguments = argc - as_json;
  if (arguments < 2 || arguments > 3)
    return fmt::print(stderr, "usage: journal_bench DIR [MIB] [--json]\n"), int(ExitCode::usage);
  const uint64_t bytes = (arguments > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024) << 20;
  const auto base = std::filesystem::path(argv[1]) / fmt::format("journal-bench-{}", ::getpid());
  std::filesystem::create_directory(base);
  const nlohmann::json report = measure(base, bytes);
  std::filesystem::remove_all(base);
  if (as_json) {
    fmt::print("{}\n", report.dump());
  } else {
    print(report);
  }
}
