// A spool through several lives, with the power cut at every step of it: what was called safe is
// there, in order and once; what had an answer on record does not come back; and no floor that was
// declared is above what comes back.
#include <fmt/format.h>
#include <poll.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "producer/spool/spool.h"
#include "producer/submit/resume.h"
#include "tests/catch.h"
#include "tests/crash/fake_spool_place.h"
#include "tests/crash/power_cut.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::test;

namespace {

constexpr uint64_t kLives = 5;
constexpr int kTurnsALife = 22;
constexpr uint64_t kSegment = 16 << 10;
const std::string kBroker = "broker:1";

Result<std::unique_ptr<Spool>> open_on(const std::shared_ptr<FakeDirectory>& disk) {
  SpoolOptions options;
  options.directory = "fake";
  options.spool_queues = {kBroker};
  options.segment_bytes = kSegment;
  return Spool::open_at(std::make_unique<FakeSpoolPlace>(disk), options);
}

std::string payload_of(Seq seq) {
  return std::string(seq.value % 5 == 0 ? 4000 + seq.value % 3000 : seq.value % 300,
                     char('a' + seq.value % 26));
}

// What a start may find of a submission.
enum class Fate {
  maybe_put,       // handed over
  there,           // called safe
  maybe_answered,  // its answer is handed over
  maybe_rejected,  // rejected() was called
  gone,            // the answer is on disk, or it never came there
  gone_rejected,
};

// From this length of the trace on.
struct Turn {
  size_t trace = 0;
  Fate fate{};
};
struct Floor {
  size_t trace = 0;
  Seq floor;
};

struct History {
  std::vector<Op> trace;
  std::map<Seq, std::vector<Turn>> fates;
  std::vector<Floor> floors;     // that were declared
  std::vector<size_t> openings;  // when the n-th run had begun
  Uuid producer;
};

class SpoolLife {
 public:
  explicit SpoolLife(unsigned seed) : random_(seed) {}

  History live() {
    for (uint64_t life = 1; life <= kLives; ++life) {
      start(life);
      for (int i = 0; i < kTurnsALife; ++i) turn();
      if (life % 2 == 0) REQUIRE(spool_->stop().ok());  // the others are killed
      spool_.reset();
    }
    history_.trace = disk_->trace();
    return std::move(history_);
  }

 private:
  SpoolQueue& spool_queue() { return spool_->spool_queue(0); }
  Fate fate(Seq seq) const { return history_.fates.at(seq).back().fate; }
  void set(Seq seq, Fate to) { history_.fates[seq].push_back({disk_->steps(), to}); }
  template <typename Change>
  void change_all(Change&& change) {
    for (auto& [seq, turns] : history_.fates)
      if (Fate to = change(seq, turns.back().fate); to != turns.back().fate) set(seq, to);
  }
  // Everything below was answered, as far as a broker will ever know.
  void declare_floor() {
    const Seq floor = std::min(spool_queue().floor(), Seq{last_.value + 1});
    history_.floors.push_back({disk_->steps(), floor});
  }

  // What the end before left undecided is decided now.
  void start(uint64_t life) {
    auto spool = open_on(disk_);
    if (!spool) FAIL(spool.error().message);
    spool_ = std::move(*spool);
    history_.openings.push_back(disk_->steps());
    history_.producer = spool_->producer();
    REQUIRE(spool_->run() == life);
    std::map<Seq, bool> there;
    auto note = [&](const SpoolQueue::Entry& entry) { return there[entry.seq] = true; };
    REQUIRE(spool_queue().load(note).ok());
    change_all([&](Seq seq, Fate now) {
      if (there.contains(seq)) return Fate::there;
      return now == Fate::maybe_rejected || now == Fate::gone_rejected ? Fate::gone_rejected
                                                                       : Fate::gone;
    });
    number_ = 0;
    declare_floor();
  }

  void turn() {
    if (random_() % 3 == 0) answer_some();
    if (random_() % 8 == 0) reject_one();
    const bool waits = random_() % 4 != 0;
    for (uint64_t i = 0, jobs = random_() % 4 + waits; i < jobs; ++i) put_one();
    spool_queue().write();
    if (waits) await_all();
    declare_floor();
  }

  void put_one() {
    last_ = seq_of(spool_->run(), ++number_);
    protocol::SubmitOptions options;
    if (random_() % 3 == 0) options.key = fmt::format("key {}", last_.value);
    const std::string payload = payload_of(last_);
    set(last_, Fate::maybe_put);
    spool_queue().put({last_, random_() % 2 ? "one" : "two", options, payload}, random_() % 2);
  }

  // Until the last one is safe: then all that was handed over before is on disk.
  void await_all() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (Seq safe; safe != last_;) {
      for (SeqRange run : spool_queue().take_safe()) {
        REQUIRE(run.first > safe);
        safe = {run.end().value - 1};
      }
      if (safe == last_) break;
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      pollfd ready{spool_queue().wake_fd(), POLLIN, 0};
      ::poll(&ready, 1, 1000);
    }
    change_all([](Seq, Fate now) {
      if (now == Fate::maybe_put) return Fate::there;
      if (now == Fate::maybe_answered) return Fate::gone;
      return now == Fate::maybe_rejected ? Fate::gone_rejected : now;
    });
  }

  std::vector<Seq> there() const {
    std::vector<Seq> seqs;
    for (const auto& [seq, turns] : history_.fates)
      if (turns.back().fate == Fate::there) seqs.push_back(seq);
    return seqs;
  }

  // Mostly the oldest, now and then from anywhere on; only what is known to be on disk.
  void answer_some() {
    const auto open = there();
    if (open.empty()) return;
    const size_t at = random_() % 3 ? 0 : random_() % open.size();
    for (size_t i = at, count = 1 + random_() % 8; i < open.size() && i < at + count; ++i) {
      set(open[i], Fate::maybe_answered);
      spool_queue().answered({open[i], 1});
    }
  }

  void reject_one() {
    const auto open = there();
    if (open.empty()) return;
    const Seq seq = open[random_() % open.size()];
    set(seq, Fate::maybe_rejected);
    REQUIRE(spool_queue().rejected({seq, 1}, "gone", "for a test").ok());
  }

  std::mt19937 random_;
  const std::shared_ptr<FakeDirectory> disk_ = std::make_shared<FakeDirectory>();
  std::unique_ptr<Spool> spool_;
  Seq last_;
  uint64_t number_ = 0;
  History history_;
};

// By sequence: what is rejected.ndjson's, of whole lines.
std::map<Seq, std::string> rejected_on(const std::shared_ptr<FakeDirectory>& disk) {
  std::map<Seq, std::string> rejected;
  if (!disk->disk().names.contains("rejected.ndjson")) return rejected;
  std::istringstream in(disk->disk().content(std::string("rejected.ndjson")));
  for (std::string line; std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object()) rejected[{json["seq"]}] = json["payload"];
  }
  return rejected;
}

struct Found {
  std::vector<Seq> seqs;
  Seq floor;
};

Found load_all(Spool& spool) {
  Found found;
  found.floor = spool.spool_queue(0).floor();
  auto loaded = spool.spool_queue(0).load([&](const SpoolQueue::Entry& entry) {
    if (entry.payload != payload_of(entry.seq)) FAIL("another payload");
    found.seqs.push_back(entry.seq);
    return true;
  });
  if (!loaded) FAIL(loaded.error().message);
  return found;
}

// In the order of sequences, so each once.
void check_order(const Found& found) {
  for (size_t i = 1; i < found.seqs.size(); ++i)
    if (found.seqs[i] <= found.seqs[i - 1]) FAIL("not in order");
  if (found.floor != (found.seqs.empty() ? Seq{UINT64_MAX} : found.seqs.front()))
    FAIL("the floor is not the first one");
}

void check_fates(const History& history, size_t at, const Found& found,
                 const std::map<Seq, std::string>& rejected) {
  size_t known = 0;
  for (const auto& [seq, turns] : history.fates) {
    const bool is_there = std::binary_search(found.seqs.begin(), found.seqs.end(), seq);
    known += is_there;
    const Turn* turn = nullptr;
    for (const Turn& next : turns)
      if (next.trace <= at) turn = &next;
    if (!turn) {
      if (is_there) FAIL(fmt::format("step {}: {} was never put", at, seq.value));
      continue;
    }
    const Fate fate = turn->fate;
    if (fate == Fate::there && !is_there) FAIL(fmt::format("step {}: {} is lost", at, seq.value));
    const bool is_gone = fate == Fate::gone || fate == Fate::gone_rejected;
    if (is_gone && is_there) FAIL(fmt::format("step {}: {} comes back", at, seq.value));
    const bool was_rejected = fate == Fate::maybe_rejected || fate == Fate::gone_rejected;
    if (was_rejected && !is_there &&
        (!rejected.contains(seq) || rejected.at(seq) != payload_of(seq)))
      FAIL(fmt::format("step {}: {} is neither there nor among the rejected", at, seq.value));
  }
  if (known != found.seqs.size()) FAIL(fmt::format("step {}: more than was put", at));
  for (const Floor& declared : history.floors)
    if (declared.trace <= at && !found.seqs.empty() && found.seqs.front() < declared.floor)
      FAIL(fmt::format("step {}: below the floor {}", at, declared.floor.value));
}

// Another life begins on what is there, and a third finds both.
void check_life_goes_on(const std::shared_ptr<FakeDirectory>& disk, std::unique_ptr<Spool> spool,
                        std::vector<Seq> seqs) {
  const Seq next = seq_of(spool->run(), 1);
  const std::string payload = payload_of(next);
  spool->spool_queue(0).put({next, "q", {}, payload}, false);
  REQUIRE(spool->stop().ok());
  spool.reset();
  seqs.push_back(next);
  auto again = open_on(disk);
  if (!again) FAIL(again.error().message);
  REQUIRE(load_all(**again).seqs == seqs);
}

void check_state(const History& history, size_t at, Disk after, std::mt19937& random) {
  auto disk = std::make_shared<FakeDirectory>(std::move(after));
  const auto rejected = rejected_on(disk);
  auto spool = open_on(disk);
  if (!spool) FAIL(fmt::format("step {}: {}", at, spool.error().message));
  uint64_t runs = 0;
  for (size_t opening : history.openings) runs += opening <= at;
  if ((*spool)->run() <= runs) FAIL(fmt::format("step {}: run {} again", at, runs));
  if (runs > 0 && (*spool)->producer() != history.producer) FAIL("another producer");
  const Found found = load_all(**spool);
  check_order(found);
  check_fates(history, at, found, rejected);
  if (random() % 40 == 0) check_life_goes_on(disk, std::move(*spool), found.seqs);
}

}  // namespace

TEST_CASE(
    "whatever a power cut leaves of a spool, what was safe is there and what was answered is not",
    "[crash]") {
  for (unsigned seed : {1u, 2u}) {
    const History history = SpoolLife(seed).live();
    size_t removed = 0, states = 0;
    for (const Op& op : history.trace)
      removed +=
          op.kind == Op::remove || (op.kind == Op::rename && op.to.find("spare") != op.to.npos);
    std::mt19937 random(seed);
    Disk running;
    for (size_t at = 0; at < history.trace.size(); ++at) {
      running.apply(history.trace[at]);
      states += for_each_crash(running, random, [&](Disk after) {
        check_state(history, at + 1, std::move(after), random);
      });
    }
    fmt::print(
        "spool, seed {}: {} steps, {} submissions, {} segments gone, {} states after a cut\n", seed,
        history.trace.size(), history.fates.size(), removed, states);
    CHECK(states > 4'000 / kOneOf);
    CHECK(removed > 5);
  }
}
