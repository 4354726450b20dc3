// Histories with gaps, and what becomes of them.
#include "broker/offline/journal_repairer.h"

#include "tests/unit/core/history.h"

using namespace millrace;
using namespace millrace::test;
using offline::JournalRepairer;
using offline::Lost;

namespace {

using Encoded = std::vector<std::string>;

std::string encode(const Record& record) {
  records::Chunk chunk;
  chunk.append(record);
  std::string bytes;
  for (std::string_view part : chunk.parts()) bytes += part;
  return bytes;
}

template <typename Visit>
void decode(const std::string& bytes, Visit&& visit) {
  REQUIRE(records::decode_all(bytes, [&](const Record& r, size_t) { visit(r); }).ok());
}

bool is_checkpoint(const std::string& bytes) {
  bool is = false;
  decode(bytes, [&](const Record& r) { is = std::holds_alternative<records::Checkpoint>(r); });
  return is;
}

struct RepairedRecords {
  Encoded records;
  std::vector<Lost> lost;
  std::string state;
  JobId next_job;
  uint64_t incarnation = 0;
  uint64_t left_out = 0;
  std::vector<std::string> problems;
};

// Leaves out what lies in [gap_begin, gap_end).
RepairedRecords repair(const Encoded& whole, size_t gap_begin, size_t gap_end,
                       offline::RelocatedJobs ahead = {}) {
  RepairedRecords repaired;
  const bool is_first = ahead.empty();
  JournalRepairer repairer(
      [&](const Record& r, const State&) { repaired.records.push_back(encode(r)); },
      std::move(ahead));
  uint64_t incarnation = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    const bool is_lost = i >= gap_begin && i < gap_end;
    decode(whole[i], [&](const Record& r) {
      if (auto* started = std::get_if<records::Started>(&r)) incarnation = started->incarnation;
      if (is_lost) return repairer.gap(whole[i].size());
      repairer.batch({7}, incarnation);
      if (auto problem = repairer.take(r)) repaired.problems.push_back(*problem);
    });
  }
  repairer.finish();
  if (is_first && !repairer.unsaved().empty())
    return repair(whole, gap_begin, gap_end, repairer.unsaved());
  REQUIRE(repairer.unsaved().empty());
  repaired.lost = repairer.lost();
  repaired.state = repairer.state().describe();
  repaired.next_job = repairer.state().next_job();
  repaired.incarnation = repairer.state().incarnation();
  repaired.left_out = repairer.left_out();
  return repaired;
}

Encoded random_journal(uint32_t seed) {
  History history(seed);
  int steps = 0;
  history.take(150, [&] {
    ++steps;
    if (steps % 70 == 0) history.harness().relocate_all();
    if (steps % 30 != 0) return;
    core::Output out;
    history.harness().core().checkpoint(out);
    history.harness().absorb(out);
  });
  return history.harness().journal();
}

struct Replay {
  State state;
  void take(const Encoded& records) {
    for (const std::string& bytes : records)
      decode(bytes, [&](const Record& r) {
        auto problem = state.check(r);
        INFO(problem.value_or(""));
        REQUIRE_FALSE(problem);
        state.apply(r, Mono{});
      });
  }
};

std::set<uint64_t> accepted_in(const Encoded& whole, size_t begin, size_t end) {
  std::set<uint64_t> jobs;
  for (size_t i = begin; i < end; ++i)
    decode(whole[i], [&](const Record& r) {
      if (auto* accepted = std::get_if<records::Accepted>(&r))
        for (uint64_t j = 0; j < accepted->payloads.size(); ++j)
          jobs.insert(accepted->first_job.value + j);
    });
  return jobs;
}

std::set<uint64_t> relocated_behind(const Encoded& whole, size_t begin) {
  std::set<uint64_t> jobs;
  for (size_t i = begin; i < whole.size(); ++i)
    decode(whole[i], [&](const Record& r) {
      if (auto* relocated = std::get_if<records::Relocated>(&r)) jobs.insert(relocated->job.value);
    });
  return jobs;
}

bool is_ended(JobState state) {
  return state == JobState::done || state == JobState::cancelled || state == JobState::expired;
}

// Each job is counted where its state puts it, and nowhere else.
void check_sums(const State& state) {
  REQUIRE(state.live_jobs() == state.scheduled_jobs() + state.ready_jobs() + state.leased_jobs() +
                                   state.retry_wait_jobs());
  uint64_t leased = 0, dead = 0;
  for (const core::Queue& queue : state.queues()) leased += queue.leased, dead += queue.dead;
  REQUIRE(leased == state.leased_jobs());
  REQUIRE(dead == state.dead().size());
  for (JobId id{1}; id < state.next_job(); ++id.value) {
    const core::Job* job = state.find(id);
    if (!job) continue;
    const bool waits = job->state == JobState::scheduled || job->state == JobState::retry_wait;
    REQUIRE(state.due_of(id).has_value() == waits);
    REQUIRE((state.lease_of(id) != nullptr) == (job->state == JobState::leased));
  }
}

void check_gap(const Encoded& whole, size_t begin, size_t end) {
  const RepairedRecords repaired = repair(whole, begin, end);
  Replay before, after;
  before.take(whole);
  after.take(repaired.records);  // no record contradicts those before it
  REQUIRE(after.state.describe() == repaired.state);
  check_sums(after.state);

  core::Core core(core::Settings{}, 1);  // a broker takes it
  const Now now{Mono(std::chrono::hours(1)), wall_from_int(9'000'000)};
  for (const std::string& bytes : repaired.records)
    decode(bytes, [&](const Record& r) { REQUIRE_FALSE(core.replay(r, now)); });
  core::Output out;
  core.begin(now, {7}, out);

  REQUIRE(repaired.next_job >= before.state.next_job());        // no number is given out twice
  REQUIRE(repaired.incarnation >= before.state.incarnation());  // nor an epoch
  std::set<uint64_t> lost, unsure;
  for (const Lost& l : repaired.lost)
    for (uint64_t i = 0; i < l.jobs.count; ++i) {
      REQUIRE(lost.insert(l.jobs.first.value + i).second);  // named once
      if (!l.is_exact) unsure.insert(l.jobs.first.value + i);
    }

  const auto gone = accepted_in(whole, begin, end), relocated = relocated_behind(whole, end);
  for (uint64_t job : lost) {
    REQUIRE((gone.contains(job) || job >= before.state.next_job().value));
    REQUIRE_FALSE(relocated.contains(job));
  }
  for (uint64_t job = 1; job < before.state.next_job().value; ++job) {
    INFO("job " << job);
    const JobState was = before.state.state_of({job}), is = after.state.state_of({job});
    if (unsure.contains(job)) continue;
    if (lost.contains(job)) {
      REQUIRE(is == JobState::cancelled);
    } else if (gone.contains(job)) {
      REQUIRE(((is_ended(is) && is_ended(was)) || relocated.contains(job)));
    } else if (!is_ended(was)) {
      REQUIRE_FALSE(is_ended(is));
      REQUIRE(is != JobState::unknown);
    }
  }
}

}  // namespace

TEST_CASE("a history without a hole comes out as it went in", "[offline]") {
  for (uint32_t seed = 1; seed <= 10; ++seed) {
    INFO("seed " << seed);
    const Encoded whole = random_journal(seed);
    const RepairedRecords repaired = repair(whole, 0, 0);
    Encoded expected{whole.front()};
    for (size_t i = 1; i < whole.size(); ++i)
      if (!is_checkpoint(whole[i])) expected.push_back(whole[i]);
    CHECK(repaired.records == expected);
    CHECK(repaired.lost.empty());
    CHECK(repaired.problems.empty());
    CHECK(repaired.left_out == 0);
  }
}

TEST_CASE("a history that a start trimmed before it said so is whole", "[offline]") {
  JournalRepairer repairer(nullptr);
  auto take = [&](const Record& record) { CHECK(repairer.take(record) == std::nullopt); };
  records::Checkpoint before{{7}, 1, {6}, {9}, {}};
  before.done = {{{1}, 1}, {{3}, 1}, {{5}, 1}};
  repairer.batch({7}, 2);
  take(before);
  take(records::HistoryTrimmed{{4}});
  take(records::Started{2, {}, {9}});
  take(repairer.state().checkpoint());
  CHECK(repairer.state().history_start() == JobId{4});
}

TEST_CASE("records that no state can take are left out", "[offline]") {
  JournalRepairer repairer(nullptr);
  repairer.batch({7}, 1);
  records::Checkpoint checkpoint{{7}, 0, {1}, {1}, {}};
  checkpoint.totals = {{"", 5}};
  CHECK(repairer.take(checkpoint));
  checkpoint.totals.reset();
  CHECK(repairer.take(checkpoint) == std::nullopt);
  CHECK(repairer.take(records::Started{1, {}, {1}}) == std::nullopt);
  records::Accepted accepted;
  accepted.first_job = {1};
  accepted.payloads = {"x"};
  CHECK(repairer.take(accepted));
  CHECK(repairer.take(records::QueueSet{"", {}}));
  CHECK(repairer.left_out() == 3);
}

TEST_CASE("whatever is missing, a broker takes the rest, and each lost job is named",
          "[offline][random]") {
  std::mt19937 random(11);
  for (uint32_t seed = 1; seed <= 25; ++seed) {
    const Encoded whole = random_journal(seed);
    for (int i = 0; i < 20; ++i) {
      const size_t begin = random() % 8 == 0 ? 0 : random() % whole.size();
      const size_t end = std::min(whole.size() - (begin == 0), begin + 1 + random() % 40);
      INFO("seed " << seed << ", records " << begin << " to " << end << " of " << whole.size());
      check_gap(whole, begin, end);
    }
  }
}

TEST_CASE("a producer may send a lost job again, but not one that was done", "[offline]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  const size_t begin = h.journal().size();
  p.submit({"a", "b", "c"});
  Worker w(h, 2, uuid(9));
  h.dispatch();
  auto leases = granted(h);
  REQUIRE(leases.size() == 3);
  w.done({leases[1]});
  const size_t end = h.journal().size();
  core::Output out;
  h.core().checkpoint(out);
  h.absorb(out);
  Replay after;
  const RepairedRecords repaired = repair(h.journal(), begin, end);
  after.take(repaired.records);
  CHECK(after.state.state_of({2}) == JobState::done);
  CHECK(after.state.producers().look_up(uuid(1), {2}, 1).known);
  CHECK_FALSE(after.state.producers().look_up(uuid(1), {1}, 1).known);
  CHECK_FALSE(after.state.producers().look_up(uuid(1), {3}, 1).known);
  REQUIRE(repaired.lost.size() == 2);
  CHECK(repaired.lost[0].jobs.first == JobId{1});
  CHECK(repaired.lost[1].jobs.first == JobId{3});
  CHECK(repaired.lost[0].is_exact);
}

TEST_CASE("a result that was kept tells that its job was done in the hole", "[offline]") {
  const bool with_checkpoint = GENERATE(false, true);
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(9));
  protocol::SubmitOptions options;
  options.report = protocol::Report::result;
  p.submit({"a", "b"}, options);
  h.dispatch();
  const size_t begin = h.journal().size();
  w.done(granted(h), "result");
  const size_t end = h.journal().size();
  core::Output out;
  if (with_checkpoint) h.core().checkpoint(out);
  h.core().relocate({1}, "", out);
  h.absorb(out);
  const RepairedRecords repaired = repair(h.journal(), begin, end);
  for (const Lost& lost : repaired.lost) CHECK_FALSE(lost.is_exact);  // what the gap may have held
  Replay after;
  after.take(repaired.records);
  CHECK(after.state.state_of({1}) == JobState::done);
  REQUIRE(after.state.result_of({1}));
  CHECK(after.state.result_of({1})->bytes == "result");
  CHECK(after.state.state_of({2}) == (with_checkpoint ? JobState::done : JobState::leased));
  CHECK_FALSE(after.state.result_of({2}));  // none is made up
}

TEST_CASE("a job that was accepted in the hole and carried behind it is saved", "[offline]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  const size_t begin = h.journal().size();
  protocol::SubmitOptions options;
  options.priority = 7;
  options.report = protocol::Report::outcome;
  p.submit({"lost", "kept", "dead"}, options);
  Worker w(h, 2, uuid(9));
  h.dispatch();
  const auto leases = granted(h);
  REQUIRE(leases.size() == 3);
  w.fail(leases[2], protocol::FailKind::permanent);
  const size_t end = h.journal().size();
  core::Output out;
  h.core().checkpoint(out);
  h.core().relocate({2}, "kept", out);
  h.core().relocate({3}, "dead", out);
  h.absorb(out);

  const RepairedRecords repaired = repair(h.journal(), begin, end);
  Replay after;
  after.take(repaired.records);
  REQUIRE(repaired.lost.size() == 1);
  CHECK(repaired.lost[0].jobs.first == JobId{1});
  CHECK(repaired.lost[0].jobs.count == 1);
  const State& state = after.state;
  CHECK(state.state_of({1}) == JobState::cancelled);
  REQUIRE(state.state_of({2}) == JobState::ready);
  CHECK(state.state_of({3}) == JobState::dead);
  REQUIRE(state.history_of({3}));
  CHECK(state.history_of({3})->back().error == "no luck");
  const records::Relocated saved = state.relocated({2});
  CHECK(saved.queue == "q");
  CHECK(saved.priority == 7);
  CHECK(saved.report == protocol::Report::outcome);
  CHECK(saved.producer == uuid(1));
  CHECK_FALSE(state.producers().look_up(uuid(1), {1}, 1).known);
  CHECK(state.producers().look_up(uuid(1), {2}, 1).known);
  std::map<uint64_t, std::string> payloads;
  for (const std::string& bytes : repaired.records)
    decode(bytes, [&](const Record& r) {
      if (auto* accepted = std::get_if<records::Accepted>(&r))
        for (size_t i = 0; i < accepted->payloads.size(); ++i)
          payloads[accepted->first_job.value + i] = accepted->payloads[i];
    });
  CHECK(payloads == std::map<uint64_t, std::string>{{1, ""}, {2, "kept"}, {3, "dead"}});
}

TEST_CASE("where nothing tells how many jobs were lost, their numbers are kept from others",
          "[offline]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a"});
  const size_t begin = h.journal().size();
  p.submit(std::vector<std::string_view>(40, ""));
  const RepairedRecords repaired = repair(h.journal(), begin, h.journal().size());
  REQUIRE(repaired.lost.size() == 1);
  CHECK_FALSE(repaired.lost[0].is_exact);
  CHECK(repaired.lost[0].jobs.first == JobId{2});
  CHECK(repaired.lost[0].jobs.count >= 40);
  CHECK(repaired.next_job.value >= 42);
}

TEST_CASE("without the first checkpoint the next one tells which jobs of retired segments are lost",
          "[offline]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a", "b"});
  Worker w(h, 2, uuid(9));
  h.dispatch();
  auto leases = granted(h);
  w.done({leases[0]});
  const size_t end = h.journal().size();
  p.submit({"c"});
  core::Output out;
  h.core().checkpoint(out);
  h.absorb(out);
  p.submit({"d"});

  const RepairedRecords repaired = repair(h.journal(), 0, end);
  Replay after;
  after.take(repaired.records);
  REQUIRE(repaired.lost.size() == 1);
  CHECK(repaired.lost[0].jobs.first == JobId{2});
  CHECK(repaired.lost[0].jobs.count == 1);
  CHECK(after.state.state_of({1}) == JobState::done);
  CHECK(after.state.state_of({2}) == JobState::cancelled);
  CHECK(after.state.state_of({4}) == JobState::ready);
  CHECK(repaired.incarnation == 1);
}
