// What it costs a worker to take a job, run it and report it, without network and broker: LEASE
// frames are decoded, go through session and pool, and come out as DONE frames. That the broker of
// this program reads those is not counted.
//   bench_worker_dispatch [JOBS] [THREADS] [PAYLOAD BYTES]
// Prints jobs/s and CPU time a job; exit 1 above 2 us of CPU a job in an optimised build.
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>

#include <cstdlib>
#include <ctime>
#include <optional>

#include "common/os/wakeup.h"
#include "common/protocol/codec.h"
#include "worker/pool/fixed_pool.h"
#include "worker/process/spawner.h"
#include "worker/session/worker_session.h"

using namespace millrace;
using namespace millrace::worker;

namespace {

constexpr size_t kJobsPerFrame = 512;   // what a busy broker sends
constexpr uint64_t kCredit = 4096;      // what tiny jobs come to
constexpr size_t kFramesPerRound = 64;  // encoded before the clock runs
constexpr double kMostCpuUs = 2.0;

double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](timeval time) { return double(time.tv_sec) + double(time.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + double(time.tv_nsec) / 1e9;
}

// The runner's loop with a broker that answers at once, and holds to the credit.
class Dispatch {
 public:
  Dispatch(size_t threads, size_t payload_size)
      : payload_(payload_size, 'x'), session_({Uuid{}, "bench", {"q"}, threads, kCredit}) {
    Spawner spawner;
    handlers_.push_back({"q", *make_handler("echo", spawner, {})});
    pool_.emplace(PoolSetup{handlers_, [this] { wakeup_.signal(); }, {}}, threads);
    Output out;
    session_.opened(kSession, &out);
    session_.received(protocol::Welcome{.broker = {1}}, nullptr, Mono(), &out);
    apply(std::move(out));
  }

  void round() {
    std::vector<FramePtr> frames;
    std::vector<std::string_view> views;
    for (size_t i = 0; i < kFramesPerRound; ++i) {
      auto frame = std::make_shared<std::string>(encode(kSession, next_lease()));
      views.push_back(*frame);
      frames.push_back(std::move(frame));
    }
    double cpu = cpu_seconds();
    auto start = std::chrono::steady_clock::now();
    run(frames, views);
    wall_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    cpu_ += cpu_seconds() - cpu;
  }

  double wall() const { return wall_; }
  double cpu() const { return cpu_; }
  size_t batches() const { return batches_; }

 private:
  static constexpr SessionId kSession{1};

  protocol::FromBroker next_lease() {
    protocol::LeaseGrant grant{"q", {}};
    for (size_t i = 0; i < kJobsPerFrame; ++i) {
      ++job_;
      grant.jobs.push_back({{{job_}, {job_}}, 1, false, payload_});
    }
    return grant;
  }

  void run(const std::vector<FramePtr>& frames, const std::vector<std::string_view>& views) {
    size_t next = 0;
    while (next < frames.size() || session_.held() > 0) {
      while (next < frames.size() && session_.held() + kJobsPerFrame <= credit()) {
        auto decoded = protocol::decode_from_broker(views[next]);
        Output out;
        session_.received(std::get<0>(decoded).message, frames[next], Mono(), &out);
        apply(std::move(out));
        ++next;
      }
      wait();
      Output out;
      session_.completed(pool_->collect(), &out);
      apply(std::move(out));
    }
  }
  size_t credit() const { return session_.credit(); }

  void wait() {
    pollfd item{wakeup_.fd(), POLLIN, 0};
    poll(&item, 1, -1);
    wakeup_.drain();
  }

  void apply(Output out) {
    if (!out.start.empty()) pool_->submit(std::move(out.start));
    const double cpu = thread_cpu_seconds();
    for (const std::string& frame : out.frames) {
      auto decoded = protocol::decode_from_client(frame);
      auto* done = std::get_if<protocol::Done>(&std::get<0>(decoded).message);
      if (!done) continue;
      ++batches_;
      answers_.push_back(done->batch);
    }
    if (!out.frames.empty()) cpu_ -= thread_cpu_seconds() - cpu;
    while (!answers_.empty()) {
      uint64_t batch = answers_.back();
      answers_.pop_back();
      Output more;
      session_.received(protocol::DoneOk{batch}, nullptr, Mono(), &more);
      apply(std::move(more));
    }
  }

  std::string payload_;
  WorkerSession session_;
  Wakeup wakeup_;
  std::vector<QueueHandler> handlers_;
  std::optional<FixedPool> pool_;
  std::vector<uint64_t> answers_;
  uint64_t job_ = 0;
  size_t batches_ = 0;
  double wall_ = 0;
  double cpu_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  auto argument = [&](int i, size_t fallback) {
    return argc > i ? size_t(std::strtoull(argv[i], nullptr, 10)) : fallback;
  };
  size_t jobs = argument(1, 500'000), threads = argument(2, 4), payload = argument(3, 256);
  Dispatch dispatch(threads, payload);
  size_t rounds = std::max<size_t>(1, jobs / (kJobsPerFrame * kFramesPerRound));
  for (size_t i = 0; i < rounds; ++i) dispatch.round();
  double total = double(rounds * kJobsPerFrame * kFramesPerRound);
  double cpu_us = dispatch.cpu() / total * 1e6;
  fmt::print(
      "{} jobs, {} threads, {} bytes: {:.0f} jobs/s, {:.3f} us CPU a job, {:.0f} jobs a DONE\n",
      total, threads, payload, total / dispatch.wall(), cpu_us, total / double(dispatch.batches()));
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  return cpu_us <= kMostCpuUs ? 0 : 1;
#else
  return 0;
#endif
}
