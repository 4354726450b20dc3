// What a spool takes in and gives out: figures of one spool queue, by
//   spool_bench DIR [JOBS [BYTES [A TURN]]]
// Shape:   JOBS are put, each turn's waited for no longer than 32 MiB are unsafe; then the
//          directory is opened again, all is loaded and answered
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>

#include "producer/spool/spool.h"
#include "producer/submit/resume.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

constexpr uint64_t kMostUnsafe = 32 << 20;

double seconds_since(Mono begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double peak_mib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return double(usage.ru_maxrss) / 1024;
}

template <typename Done>
void await(SpoolQueue& spool_queue, Done&& done) {
  while (spool_queue.take_safe(), !done()) {
    pollfd ready{spool_queue.wake_fd(), POLLIN, 0};
    ::poll(&ready, 1, 1000);
  }
}

std::unique_ptr<Spool> open(const std::string& directory) {
  SpoolOptions options;
  options.directory = directory;
  options.spool_queues = {"broker:5570"};
  options.max_bytes = UINT64_MAX;
  auto spool = Spool::open(options);
  if (spool) return std::move(*spool);
  fmt::print(stderr, "{}\n", spool.error().message);
  std::exit(int(spool.error().code));
}

void put_all(Spool& spool, uint64_t jobs, size_t bytes, uint64_t each) {
  SpoolQueue& spool_queue = spool.spool_queue(0);
  const std::string payload(bytes, 'x');
  const protocol::SubmitOptions options;
  const Mono begin = std::chrono::steady_clock::now();
  for (uint64_t number = 1; number <= jobs; ++number) {
    spool_queue.put({seq_of(spool.run(), number), "bench", options, payload}, false);
    if (number % each != 0 && number != jobs) continue;
    spool_queue.write();
    await(spool_queue,
          [&] { return spool_queue.unsafe_bytes() <= (number == jobs ? 0 : kMostUnsafe); });
  }
  const double seconds = seconds_since(begin);
  fmt::print("in    {:>12.0f} jobs/s, {} jobs of {} B, {} a turn, {:.2f} s, peak RSS {:.0f} MiB\n",
             double(jobs) / seconds, jobs, bytes, each, seconds, peak_mib());
}

void take_all(const std::string& directory) {
  Mono begin = std::chrono::steady_clock::now();
  auto spool = open(directory);
  SpoolQueue& spool_queue = spool->spool_queue(0);
  const uint64_t jobs = spool_queue.jobs();
  fmt::print("open  {:>12.2f} s, {} jobs, peak RSS {:.0f} MiB\n", seconds_since(begin), jobs,
             peak_mib());
  begin = std::chrono::steady_clock::now();
  while (spool_queue.unloaded() > 0) {
    Seq first{UINT64_MAX}, last;
    uint64_t given = 0;
    auto loaded = spool_queue.load([&](const SpoolQueue::Entry& entry) {
      if (++given > 4096) return false;
      first = std::min(first, entry.seq);
      last = entry.seq;
      return true;
    });
    if (!loaded) std::exit(int(loaded.error().code));
    spool_queue.answered({first, last.value - first.value + 1});
    spool_queue.write();
    spool_queue.take_safe();
  }
  await(spool_queue, [&] { return spool_queue.floor() == Seq{UINT64_MAX}; });
  const double seconds = seconds_since(begin);
  fmt::print("out   {:>12.0f} jobs/s, {:.2f} s, peak RSS {:.0f} MiB\n", double(jobs) / seconds,
             seconds, peak_mib());
}

uint64_t argument(int argc, char** argv, int index, uint64_t fallback) {
  return argc > index ? std::strtoull(argv[index], nullptr, 10) : fallback;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return fmt::print(stderr, "usage: spool_bench DIR [JOBS [BYTES [A TURN]]]\n"), 64;
  {
    auto spool = open(argv[1]);
    put_all(*spool, argument(argc, argv, 2, 1'000'000), argument(argc, argv, 3, 256),
            argument(argc, argv, 4, 1000));
  }  // as if killed
  take_all(argv[1]);
}
