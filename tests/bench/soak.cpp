// A year in an hour: the real core and the records' codec on a journal in memory, with a hostile
// mixture of jobs, to show that what the broker holds depends on what is live and not on how much
// there ever was.
// Shape:   jobs come from producers that come, go, vanish and never raise their floors; end done, dead and
//          dropped, cancelled or expired, scattered; with keys, delays, TTLs, results that are collected
//          or not. Segments retire; live jobs in old ones are relocated. Every so often the state is
//          rebuilt from the journal and compared, fact by fact and by how much it holds of each kind, and
//          the run goes on with the rebuilt one.
// Limits:  one thread; the journal, of 32 MiB segments, is in memory and so in the RSS
// Errors:  exit 1 if RSS, the state's heap, checkpoints, or work or time per job grow, or a rebuilt state
//          differs; 64 usage
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "broker/core/core.h"
#include "broker/records/record_codec.h"

namespace millrace {
namespace {

using namespace core;

constexpr uint64_t kSegmentBytes = 32 << 20;
constexpr uint64_t kMaxSegments = 3;
constexpr size_t kSpares = 6;  // all the memory that segments take, from the start on
constexpr uint64_t kRelocatedPerStep = 4096;
// Jobs that are not counted: after them everything that has a limit is at it, and there has been
// more than one state beside another.
constexpr uint64_t kWarmUp = 2'000'000, kWarmUpRestarts = 4;
constexpr uint64_t kFirstSample = 1'000'000;
constexpr size_t kQueues = 64, kWorkers = 4, kBatch = 1024;
// Numbers begin where their encoding is as long as it gets, so that checkpoints of few and of very
// many jobs can be compared.
constexpr uint64_t kFirstNumber = uint64_t{1} << 40;
constexpr uint64_t kRestartEvery = 10'000'000;
// So that two restarts are further apart than the grace window, in which leases of lost workers
// stay.
constexpr Millis kStep{4};
constexpr double kMaxGrowth = 1.1, kMaxStateGrowth = 1.06;
// What the live state holds beyond the rebuilt one: a leak, but for tables that grew and stay.
constexpr double kMaxLiveToRebuilt = 1.08;
constexpr double kMaxMiscount = 1.25;
// Other processes share the caches, so time is judged only where a sample takes a minute.
constexpr double kMaxSlowdown = 1.5;
constexpr uint64_t kJudgeTimeFrom = 500'000'000;

// Of this process: others on the machine must not make it look slower.
double cpu_ns() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) * 1e9 + double(time.tv_nsec);
}

uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

// Bytes in use, of what malloc has handed out.
uint64_t heap_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Segments of encoded records, and which of their jobs are still needed.
class MemoryJournal {
 public:
  MemoryJournal() {
    for (size_t i = 0; i < kSpares; ++i) spares_.emplace_back(kSegmentBytes + (1 << 20), '\1');
  }

  bool is_full() const { return segments_.back().bytes.size() > kSegmentBytes; }
  void begin_segment() {
    Segment& segment = segments_.emplace_back();
    if (spares_.empty()) return segment.bytes.reserve(kSegmentBytes + (1 << 20));
    segment.bytes = std::move(spares_.back());
    segment.bytes.clear();
    spares_.pop_back();
  }

  void append(const Record& record) {
    records::Chunk chunk;
    chunk.append(record);
    Segment& segment = segments_.back();
    for (std::string_view part : chunk.parts()) segment.bytes += part;
    if (std::holds_alternative<records::Checkpoint>(record)) checkpoint_bytes_ = chunk.bytes();
    if (auto* accepted = std::get_if<records::Accepted>(&record)) {
      for (uint64_t i = 0; i < accepted->payloads.size(); ++i) put({accepted->first_job.value + i});
    } else if (auto* relocated = std::get_if<records::Relocated>(&record)) {
      put(relocated->job);
    } else if (auto* kept = std::get_if<records::ResultRetained>(&record)) {
      put(kept->job);
    }
  }

  void follow(State& state) {
    state.take_settled();
    for (const JobRange& run : state.take_retired())
      for (uint64_t i = 0; i < run.count; ++i) release({run.first.value + i});
    while (segments_.size() > 1 && segments_.front().needed == 0) {
      if (spares_.size() < kSpares) spares_.push_back(std::move(segments_.front().bytes));
      segments_.pop_front();
      ++first_;
    }
  }

  // Jobs of the oldest segment, if there are too many segments.
  std::vector<JobId> to_relocate() {
    std::vector<JobId> jobs;
    if (segments_.size() <= kMaxSegments) return jobs;
    Segment& oldest = segments_.front();
    for (; oldest.next < oldest.jobs.size() && jobs.size() < kRelocatedPerStep; ++oldest.next) {
      auto found = segment_of_.find(oldest.jobs[oldest.next]);
      if (found != segment_of_.end() && found->second == first_) jobs.push_back(found->first);
    }
    return jobs;
  }

  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const Segment& segment : segments_) {
      auto decoded =
          records::decode_all(segment.bytes, [&](const Record& record, size_t) { visit(record); });
      if (!decoded) {
        fmt::print(stderr, "soak: {}\n", decoded.error().message);
        std::exit(1);
      }
    }
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const Segment& segment : segments_) sum += segment.bytes.size();
    return sum;
  }
  uint64_t checkpoint_bytes() const { return checkpoint_bytes_; }

 private:
  struct Segment {
    std::string bytes;
    std::vector<JobId> jobs;
    uint64_t needed = 0;
    size_t next = 0;  // of jobs: to be relocated
  };

  void put(JobId job) {
    release(job);
    segment_of_[job] = first_ + segments_.size() - 1;
    segments_.back().jobs.push_back(job);
    ++segments_.back().needed;
  }
  void release(JobId job) {
    auto found = segment_of_.find(job);
    if (found == segment_of_.end()) return;
    --segments_[found->second - first_].needed;
    segment_of_.erase(found);
  }

  std::deque<Segment> segments_;
  std::vector<std::string> spares_;
  uint64_t first_ = 0;
  tsl::robin_map<JobId, uint64_t> segment_of_;
  uint64_t checkpoint_bytes_ = 0;
};

struct Peer {
  Uuid id;
  SessionId session;
  uint64_t next = kFirstNumber;  // sequence, or batch
  bool stubborn = false;         // its floor never rises, and every second sequence is left out
};

class Soak {
 public:
  Soak() : core_(make_core()) {
    for (size_t i = 0; i < kQueues; ++i) queues_.push_back(fmt::format("tenant.{}", i));
    journal_.begin_segment();
    records::Checkpoint first;
    first.broker = {7};
    first.next_job = first.history_start = {kFirstNumber};
    core_->replay(first, now_);
    core_->begin(now_, {7}, out_);
    settle();
    meet_everybody();
  }

  uint64_t jobs() const { return core_->state().counts().accepted; }
  uint64_t steps() const { return steps_; }
  uint64_t restarts() const { return restarts_; }
  uint64_t work() const { return earlier_work_ + core_->work(); }
  uint64_t state_heap_bytes() const { return state_heap_bytes_; }  // at the last restart
  // At most, at any restart: heaps of both; what the core says that it holds and its heap.
  double live_to_rebuilt() const { return live_to_rebuilt_; }
  double held_to_heap() const { return held_to_heap_; }
  double heap_to_held() const { return heap_to_held_; }
  const std::vector<Held>& held() const { return held_; }  // before the last restart
  const State& state() const { return core_->state(); }
  const MemoryJournal& journal() const { return journal_; }

  void step() {
    ++steps_;
    if (journal_.is_full()) {
      journal_.begin_segment();
      core_->checkpoint(out_);
      settle();
    }
    now_.mono += kStep;
    now_.wall += kStep;
    if (steps_ % 500 == 0) {
      for (const Peer& worker : workers_) receive(Port::backend, worker, protocol::Heartbeat{});
      for (const Peer& peer : producers_) receive(Port::frontend, peer, protocol::Heartbeat{});
    }
    submit();
    if (steps_ % 4 == 0) cancel_some();
    if (steps_ % 64 == 0) query_some();
    if (steps_ % 1024 == 0) replace_worker();
    if (collected_.size() > 64)
      receive(Port::frontend, producers_.front(),
              protocol::Collected{std::exchange(collected_, {})});
    core_->tick(now_, out_);
    settle();
    work_off();
    if (steps_ % 256 == 0) core_->start(now_, {BulkKind::drop, {}, {}});
    core_->advance_operations(now_, out_);
    settle();
    for (JobId job : journal_.to_relocate()) {
      core_->relocate(job, kPayload, out_);
      if (out_.records.size() > 256) settle();
    }
    settle();
  }

  // Rebuilds the state from the journal; false if it differs.
  bool restart() {
    ++restarts_;
    const uint64_t heap_before = heap_bytes();
    auto rebuilt = make_core();
    std::string problem;
    journal_.for_each([&](const Record& record) {
      if (problem.empty()) problem = rebuilt->replay(record, now_).value_or("");
      rebuilt->state().take_settled();
      rebuilt->state().take_retired();
    });
    if (!problem.empty()) return fmt::print(stderr, "soak: {}\n", problem), false;
    if (rebuilt->state().describe() != core_->state().describe() || !holds_the_same(*rebuilt))
      return fmt::print(stderr, "soak: the rebuilt state differs\n"), false;
    earlier_work_ += core_->work();
    const uint64_t heap_with_both = heap_bytes();
    uint64_t held = 0;
    held_ = core_->held();
    for (const Held& kind : held_) held += kind.bytes;
    core_ = std::move(rebuilt);
    state_heap_bytes_ = heap_with_both - heap_bytes();
    held_to_heap_ = std::max(held_to_heap_, double(held) / double(state_heap_bytes_));
    heap_to_held_ = std::max(heap_to_held_, double(state_heap_bytes_) / double(held));
    live_to_rebuilt_ = std::max(live_to_rebuilt_,
                                double(state_heap_bytes_) / double(heap_with_both - heap_before));
    grants_.clear();
    collected_.clear();
    journal_.begin_segment();
    core_->begin(now_, {7}, out_);
    settle();
    producers_.clear();
    meet_workers();
    return true;
  }

 private:
  static constexpr std::string_view kWithConnections = "workers";  // those that are connected too
  static constexpr std::string_view kPayload = "sixteen bytes it", kResult = "a result of a job";

  static std::unique_ptr<Core> make_core() {
    Settings settings;
    settings.retention.result_ttl = Millis(2000);
    settings.retention.results = 4096;
    settings.retention.key_bytes = 4 << 20;
    settings.history = 10'000;
    return std::make_unique<Core>(settings, 42);
  }

  // What the state holds of each kind is what a state that never held more has: all the rest is a
  // leak.
  bool holds_the_same(const Core& rebuilt) const {
    const std::vector<Held> live = core_->state().held(), anew = rebuilt.state().held();
    bool same = true;
    for (size_t i = 0; i < live.size(); ++i) {
      if (live[i].count == anew[i].count || live[i].kind == kWithConnections) continue;
      fmt::print(stderr, "soak: {} {} are held, {} after a restart\n", live[i].count, live[i].kind,
                 anew[i].count);
      same = false;
    }
    return same;
  }

  // So many producers that the oldest are forgotten from now on, and so many runs of sequences that
  // more are refused.
  void meet_everybody() {
    for (size_t i = 0; i < kMaxProducers; ++i) {
      Peer peer = meet();
      peer.stubborn = true;
      for (size_t run = 0; run < kMaxSequenceRuns / kMaxProducers; ++run) submit(peer, 1, {});
      core_->expel(now_, {Port::frontend, peer.session.value}, out_);  // without BYE
      if (journal_.is_full()) {
        journal_.begin_segment();
        core_->checkpoint(out_);
      }
      settle();
    }
    meet_workers();
  }
  void meet_workers() {
    workers_.clear();
    for (size_t i = 0; i < kWorkers; ++i) workers_.push_back(meet_worker());
  }
  Peer meet_worker() {
    std::vector<std::string_view> names(queues_.begin(),
                                        queues_.end() - 1);  // nobody serves the last
    Peer worker{new_id(), new_session()};
    receive(Port::backend, worker, protocol::Register{worker.id, "w", names, 4, {}, {}});
    receive(Port::backend, worker, protocol::Credit{4096});
    return worker;
  }
  // One vanishes, and another comes.
  void replace_worker() {
    Peer& worker = workers_[random_() % kWorkers];
    core_->expel(now_, {Port::backend, worker.session.value}, out_);
    settle();
    worker = meet_worker();
  }
  Peer meet() {
    Peer peer{new_id(), new_session()};
    receive(Port::frontend, peer, protocol::Hello{peer.id});
    return peer;
  }
  Uuid new_id() {
    Uuid id;
    for (uint8_t& byte : id.bytes) byte = uint8_t(random_());
    return id;
  }
  SessionId new_session() { return {++last_session_}; }
  bool chance(uint64_t one_in) { return random_() % one_in == 0; }

  void receive(Port port, const Peer& peer, protocol::FromClient message) {
    core_->receive(now_, {port, peer.session.value}, {peer.session, std::move(message)}, out_);
    settle();
  }

  void submit() {
    if (producers_.size() < 16) {
      producers_.push_back(meet());
      producers_.back().stubborn = chance(8);
    }
    const size_t at = random_() % producers_.size();
    Peer& peer = producers_[at];
    protocol::SubmitOptions options;
    if (chance(8)) options.report = Report::result;
    if (chance(32)) options.delay = Millis(20);
    if (chance(32)) options.ttl = Millis(20);
    if (chance(2)) options.max_attempts = 1;
    submit(peer, peer.stubborn ? 16 : kBatch, options);
    if (!chance(64)) return;
    if (chance(2)) receive(Port::frontend, peer, protocol::Bye{});  // else it vanishes
    producers_[at] = producers_.back();
    producers_.pop_back();
  }

  void submit(Peer& peer, size_t count, const protocol::SubmitOptions& options) {
    protocol::Submit message;
    if (peer.stubborn) ++peer.next;
    message.first = {peer.next};
    message.floor = peer.stubborn ? Seq{1} : message.first;
    message.options = options;
    message.queue = options.ttl.count() > 0 ? queues_.back() : queues_[random_() % (kQueues - 1)];
    std::vector<std::string> keys;
    if (chance(16))
      for (size_t i = 0; i < count; ++i)
        keys.push_back(fmt::format("key-{}", random_() % 1'000'000));
    message.keys.assign(keys.begin(), keys.end());
    message.payloads.assign(count, kPayload);
    peer.next += count;
    receive(Port::frontend, peer, message);
  }

  void cancel_some() {
    const uint64_t last = core_->state().next_job().value - 1;
    core_->cancel(now_, {{{last - random_() % 300}, 1}}, out_);
    settle();
  }

  void query_some() {
    const uint64_t last = core_->state().next_job().value - 1;
    const uint64_t back = random_() % 100'000;
    if (!producers_.empty())
      receive(Port::frontend, producers_.front(), protocol::Query{{{{last - back}, 64}}});
  }

  void work_off() {
    for (int round = 0; round < 3; ++round) {
      core_->dispatch(now_, out_);
      settle();
      if (grants_.empty()) return;
      for (auto& [session, leases] : std::exchange(grants_, {})) answer(session, leases);
    }
  }

  void answer(SessionId session, const std::vector<std::pair<Lease, bool>>& leases) {
    for (Peer& worker : workers_) {
      if (worker.session != session) continue;
      protocol::Done done{worker.next++, {}};
      protocol::Fail fail{worker.next++, {}};
      for (auto [lease, wants_result] : leases) {
        if (chance(32)) {
          fail.jobs.push_back({lease, protocol::FailKind::retryable, "no luck"});
        } else if (!chance(100'000)) {  // else the worker never says anything of it
          done.jobs.push_back({lease, wants_result, wants_result ? kResult : ""});
        }
      }
      receive(Port::backend, worker, done);
      if (!fail.jobs.empty()) receive(Port::backend, worker, fail);
      receive(Port::backend, worker, protocol::Credit{4096});
    }
  }

  void settle() {
    for (auto& send : out_.sends) {
      if (auto* grant = std::get_if<protocol::LeaseGrant>(&send.message)) {
        auto& leases = grants_[send.session];
        for (const auto& entry : grant->jobs) leases.push_back({entry.lease, entry.wants_result});
      } else if (auto* outcome = std::get_if<protocol::Outcome>(&send.message)) {
        for (const auto& entry : outcome->entries)
          if (entry.has_result && chance(2)) collected_.push_back(entry.jobs);
      }
    }
    for (auto& [record, owner] : out_.records) journal_.append(record);
    out_.clear();
    journal_.follow(core_->state());
  }

  MemoryJournal journal_;
  std::mt19937_64 random_{7};
  Now now_{Mono(std::chrono::hours(1)), wall_from_int(1'700'000'000'000)};
  Output out_;
  std::unique_ptr<Core> core_;
  std::vector<std::string> queues_;
  std::vector<Peer> producers_, workers_;
  std::unordered_map<SessionId, std::vector<std::pair<Lease, bool>>> grants_;
  std::vector<JobRange> collected_;
  uint64_t last_session_ = 0, steps_ = 0, restarts_ = 0;
  uint64_t earlier_work_ = 0, state_heap_bytes_ = 0;
  std::vector<Held> held_;
  double live_to_rebuilt_ = 0, held_to_heap_ = 0, heap_to_held_ = 0;
};

struct Sample {
  uint64_t jobs = 0, rss = 0, heap = 0, memory = 0, live = 0, checkpoint = 0, journal = 0;
  double work_per_job = 0, ns_per_job = 0;  // since the sample before
};

struct Options {
  uint64_t jobs = 5'000'000;
  bool json = false;
};

int usage() {
  fmt::print(stderr, "usage: soak [--jobs N] [--json]    (N: 2000000 or more)\n");
  return 64;
}

void print(const Sample& s, bool json, std::FILE* to) {
  if (json) {
    fmt::print(to,
               "{{\"jobs\":{},\"rss_bytes\":{},\"state_heap_bytes\":{},\"memory_bytes\":{},"
               "\"live_jobs\":{},\"checkpoint_bytes\":{},\"journal_bytes\":{},"
               "\"work_per_job\":{:.2f},\"ns_per_job\":{:.0f}}}",
               s.jobs, s.rss, s.heap, s.memory, s.live, s.checkpoint, s.journal, s.work_per_job,
               s.ns_per_job);
  } else {
    fmt::print(
        to,
        "{:>13} jobs   RSS {:>11}   heap of the state {:>10}   live {:>7}   checkpoint {:>9}   "
        "journal {:>10}   work {:.2f} a job   {:.0f} ns a job\n",
        s.jobs, s.rss, s.heap, s.live, s.checkpoint, s.journal, s.work_per_job, s.ns_per_job);
    std::fflush(to);
  }
}

void print(const std::vector<Held>& held) {
  for (const Held& kind : held)
    if (kind.bytes > 0) fmt::print(stderr, "  {} {} ({} bytes)", kind.kind, kind.count, kind.bytes);
  fmt::print(stderr, "\n");
}

struct Factor {
  std::string_view name;
  double value = 1, limit = kMaxGrowth;  // 0: not judged
  bool is_within() const { return limit == 0 || value <= limit; }
};

// How much each figure grew between the first sample and the last; and the live state to the
// rebuilt.
std::vector<Factor> factors(const Sample& first, const Sample& last, const Soak& soak) {
  auto factor = [](auto from, auto to) { return double(to) / double(from); };
  return {{"rss_growth", factor(first.rss, last.rss)},
          {"state_heap_growth", factor(first.heap, last.heap), kMaxStateGrowth},
          {"live_to_rebuilt_heap", soak.live_to_rebuilt(), kMaxLiveToRebuilt},
          {"held_to_heap", soak.held_to_heap(), kMaxMiscount},
          {"heap_to_held", soak.heap_to_held(), kMaxMiscount},
          {"checkpoint_growth", factor(first.checkpoint, last.checkpoint), kMaxStateGrowth},
          {"work_growth", factor(first.work_per_job, last.work_per_job)},
          {"time_growth", factor(first.ns_per_job, last.ns_per_job),
           last.jobs >= kJudgeTimeFrom ? kMaxSlowdown : 0}};
}

int report(const std::vector<Sample>& samples, const Soak& soak, bool same, bool json) {
  if (samples.empty()) return 1;
  bool flat = true;
  std::string text;
  for (const Factor& factor : factors(samples.front(), samples.back(), soak)) {
    flat = flat && factor.is_within();
    text += json ? fmt::format("\"{}\":{:.3f},", factor.name, factor.value)
                 : fmt::format("{} {:.3f}{}, ", factor.name, factor.value,
                               factor.is_within() ? "" : fmt::format(" (max {})", factor.limit));
  }
  if (!json) {
    fmt::print("{}{} rebuilt states {}: {}\n", text, soak.restarts(),
               same ? "are the same" : "DIFFER", same && flat ? "flat" : "NOT flat");
    return same && flat ? 0 : 1;
  }
  fmt::print("{{\"samples\":[");
  for (size_t i = 0; i < samples.size(); ++i) {
    if (i > 0) fmt::print(",");
    print(samples[i], true, stdout);
  }
  fmt::print("],{}\"restarts\":{},\"same\":{},\"flat\":{}}}\n", text, soak.restarts(), same, flat);
  return same && flat ? 0 : 1;
}

int run(const Options& options) {
  Soak soak;
  bool same = true;
  for (uint64_t i = 1; i <= kWarmUpRestarts && same; ++i) {
    while (soak.jobs() < i * kWarmUp / kWarmUpRestarts) soak.step();
    same = soak.restart();
  }
  const uint64_t before = soak.jobs(), every = std::max(kFirstSample, options.jobs / 100);
  std::vector<Sample> samples;
  uint64_t next_sample = before + kFirstSample, next_restart = next_sample, counted = before;
  uint64_t work = soak.work();
  double from = cpu_ns();
  while (same && soak.jobs() < before + options.jobs) {
    soak.step();
    const uint64_t jobs = soak.jobs();
    if (jobs < next_restart && jobs < next_sample) continue;
    same = soak.restart();
    next_restart = jobs + kRestartEvery;
    if (jobs < next_sample) continue;
    samples.push_back({jobs - before, resident_bytes(), soak.state_heap_bytes(),
                       soak.state().memory_bytes(), soak.state().live_jobs(),
                       soak.journal().checkpoint_bytes(), soak.journal().bytes(),
                       double(soak.work() - work) / double(jobs - counted),
                       (cpu_ns() - from) / double(jobs - counted)});
    print(samples.back(), false, stderr);
    print(soak.held());
    next_sample += every;
    counted = soak.jobs();
    work = soak.work();
    from = cpu_ns();
  }
  return report(samples, soak, same, options.json);
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  // Segments come and go by themselves: their sizes must not move malloc's own threshold.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  millrace::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--json") {
      options.json = true;
    } else if (flag == "--jobs" && i + 1 < argc) {
      char* end = nullptr;
      const double jobs = std::strtod(argv[++i], &end);  // 1e9 is easier to read than its zeros
      if (*end != '\0' || !(jobs >= 2e6) || jobs > 1e15) return millrace::usage();
      options.jobs = uint64_t(jobs);
    } else {
      return millrace::usage();
    }
  }
  return millrace::run(options);
}
