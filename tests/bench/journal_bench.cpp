// What the journal makes of this disk: journal_bench DIR [MIB]
// Shape:   a bare loop of write and fdatasync, then the journal's commits of one job each, then MIB
//          (1024) in chunks of 128 KiB, all kept and with old segments retired, then their replay
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "broker/journal/journal.h"

using namespace millrace;
using namespace millrace::journal;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kCommits = 5000;
constexpr size_t kPayload = 256;
constexpr size_t kPerChunk = 500;  // 128 KiB
constexpr uint64_t kInFlight = 64;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](timeval time) { return double(time.tv_sec) + double(time.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void print_latency(const char* what, std::vector<double>& seconds) {
  std::sort(seconds.begin(), seconds.end());
  auto at = [&](double share) { return seconds[size_t(share * double(seconds.size() - 1))] * 1e6; };
  fmt::print("{:<44} p50 {:5.0f} µs  p99 {:5.0f}  p99.9 {:5.0f}\n", what, at(0.5), at(0.99),
             at(0.999));
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

void bare(const std::string& path, bool zero_filled) {
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
  std::string block(kBlock, 'x'), zeros(1 << 20, '\0');
  bool ok = fd >= 0;
  for (off_t offset = 0; ok && zero_filled && offset < off_t(kCommits * kBlock);
       offset += off_t(zeros.size()))
    ok = ::pwrite(fd, zeros.data(), zeros.size(), offset) > 0;
  ok = ok && ::fsync(fd) == 0;
  std::vector<double> taken;
  for (int i = 0; ok && i < kCommits; ++i) {
    auto begin = Clock::now();
    ok = ::pwrite(fd, block.data(), block.size(), off_t(i) * off_t(kBlock)) > 0 &&
         ::fdatasync(fd) == 0;
    taken.push_back(since(begin));
  }
  ::close(fd);
  ::unlink(path.c_str());
  if (!ok) must(Result<void>(Error{ExitCode::io, path + " can't be written"}));
  print_latency(zero_filled ? "bare: 4 KiB and fdatasync, zero-filled"
                            : "bare: 4 KiB and fdatasync, appending",
                taken);
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
      options, [](const records::Record&, Place) { return Result<void>(); }, &recovered));
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

void commits(const std::string& directory) {
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
  print_latency("journal: one job, until the core is awake", taken);
  fmt::print("{:<44} {:.0f} µs a commit\n", "  CPU, both threads", cpu / kCommits * 1e6);
  must(journal->stop());
}

void throughput(const std::string& directory, uint64_t bytes, bool retire) {
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
  fmt::print(
      "{:<44} {:.0f} MB/s, {:.2f} ms CPU a MB, {} commits of {:.1f} MB\n",
      retire ? "journal: 128 KiB chunks, segments retired" : "journal: 128 KiB chunks, all kept",
      megabytes / seconds, cpu * 1e3 / megabytes, stats.commits, megabytes / double(stats.commits));
  must(journal->stop());
}

void replay(const std::string& directory) {
  JournalOptions options;
  options.directory = directory;
  Recovered recovered;
  uint64_t jobs = 0;
  auto count = [&](const records::Record& record, Place) {
    jobs += std::get<records::Accepted>(record).payloads.size();
    return Result<void>();
  };
  auto begin = Clock::now();
  auto journal = must(Journal::open(options, count, &recovered));
  double seconds = since(begin);
  fmt::print("{:<44} {:.0f} MB/s, {:.1f} million jobs/s\n", "replay",
             double(recovered.bytes) / 1e6 / seconds, double(jobs) / 1e6 / seconds);
  must(journal->stop());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return fmt::print(stderr, "usage: journal_bench DIR [MIB]\n"), int(ExitCode::usage);
  std::filesystem::path base =
      std::filesystem::path(argv[1]) / fmt::format("journal-bench-{}", ::getpid());
  uint64_t bytes = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024) << 20;
  std::filesystem::create_directory(base);
  bare(base / "bare", false);
  bare(base / "bare", true);
  commits(base / "commits");
  throughput(base / "kept", bytes, false);
  replay(base / "kept");
  std::filesystem::remove_all(base / "kept");
  throughput(base / "retired", bytes, true);
  std::filesystem::remove_all(base);
}
