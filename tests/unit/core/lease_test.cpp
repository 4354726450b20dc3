#include <algorithm>

#include "tests/unit/core/acts.h"
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;
using protocol::FailKind;
using protocol::Report;

TEST_CASE_METHOD(OneWorker, "a job is leased, done and acknowledged", "[core]") {
  p.submit({"a"});
  h.clear();
  h.dispatch();
  auto leases = granted(h);
  REQUIRE(leases.size() == 1);
  CHECK(h.only<protocol::LeaseGrant>().jobs[0].attempt == 1);
  h.clear();
  w.done(leases);
  CHECK(h.only<protocol::DoneOk>().batch == 1);
  CHECK(h.state().state_of({1}) == JobState::done);
  CHECK(h.state().live_jobs() == 0);
  SECTION("said again by the winner it is acknowledged, not stale") {
    h.clear();
    w.done(leases);
    CHECK(h.all<protocol::Stale>().empty());
    CHECK(h.only<protocol::DoneOk>().batch == 2);
    CHECK(h.state().counts().done == 1);
  }
  SECTION("said by another epoch it is stale and changes nothing") {
    h.clear();
    w.done({{leases[0].job, {leases[0].epoch.value + 5}}});
    CHECK(h.only<protocol::Stale>().jobs.size() == 1);
    CHECK(h.state().counts().done == 1);
  }
}

TEST_CASE_METHOD(OneWorker, "a message that names a job twice finishes it once", "[core]") {
  p.submit({"a", "b"});
  h.dispatch();
  auto leases = granted(h);
  w.done({leases[1], leases[0], leases[1]});
  CHECK(h.state().counts().done == 2);
  CHECK(h.state().live_jobs() == 0);
}

TEST_CASE("a worker never gets more jobs than its credit", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 3);
  p.submit(std::vector<std::string_view>(10, "x"));
  h.clear();
  h.dispatch();
  auto first = granted(h);
  CHECK(first.size() == 3);
  h.clear();
  h.dispatch();
  CHECK(granted(h).empty());
  w.done({first[0], first[1]});
  h.clear();
  h.dispatch();
  CHECK(granted(h).size() == 2);
}

TEST_CASE("jobs go to the least loaded worker, in shares, in the order they came", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker a(h, 2, uuid(2), 10), b(h, 3, uuid(3), 10);
  p.submit(std::vector<std::string_view>(12, "x"));
  h.clear();
  h.dispatch();
  uint64_t to_a = 0, to_b = 0;
  std::vector<uint64_t> order;
  for (const Sent& s : h.sent)
    if (auto* grant = std::get_if<protocol::LeaseGrant>(&s.message)) {
      (s.session == SessionId{2} ? to_a : to_b) += grant->jobs.size();
      for (const auto& entry : grant->jobs) order.push_back(entry.lease.job.value);
    }
  CHECK(to_a == 6);
  CHECK(to_b == 6);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("two queues with one worker both get their turn", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.receive(Port::backend, 2, 2, protocol::Register{uuid(2), "w", {"q", "r"}, 1, {}});
  h.receive(Port::backend, 2, 2, protocol::Credit{1});
  p.submit(std::vector<std::string_view>(50, "x"), {}, "q");
  p.submit({"y"}, {}, "r");
  uint64_t batch = 0;
  bool served = false;
  for (int i = 0; i < 4 && !served; ++i) {
    h.clear();
    h.dispatch();
    served = h.only<protocol::LeaseGrant>().queue == "r";
    h.receive(Port::backend, 2, 2, protocol::Done{++batch, {{granted(h)[0]}}});
  }
  CHECK(served);
}

TEST_CASE("a retryable failure waits, doubling with jitter, until max attempts makes it dead",
          "[core]") {
  Settings settings;
  settings.max_attempts = 3;
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
  p.submit({"a"}, {Report::outcome});
  const std::vector<std::pair<Port, uint64_t>> alive{{Port::frontend, 1}, {Port::backend, 2}};
  for (int attempt = 1; attempt <= 3; ++attempt) {
    h.clear();
    h.dispatch();
    REQUIRE(h.only<protocol::LeaseGrant>().jobs[0].attempt == uint64_t(attempt));
    w.fail(granted(h)[0]);
    if (attempt == 3) break;
    CHECK(h.state().state_of({1}) == JobState::retry_wait);
    Millis wait = h.state().due().begin()->first - h.now.wall;
    CHECK(wait >= settings.backoff_min * attempt / 2);
    CHECK(wait <= settings.backoff_min * attempt);
    h.clear();
    h.pass(wait - Millis(1), alive);
    CHECK(granted(h).empty());
    h.now.mono += Millis(1), h.now.wall += Millis(1);
    Output none;
    h.core().tick(h.now, none);
    CHECK(h.state().state_of({1}) == JobState::ready);
    h.restart();
    p.hello();
    w.register_again(2);
    h.receive(Port::backend, 2, 2, protocol::Credit{10});
    Output again;
    h.core().tick(h.now, again);
  }
  CHECK(h.state().state_of({1}) == JobState::dead);
  h.clear();
  h.dispatch();
  auto outcome = h.only<protocol::Outcome>();
  CHECK(outcome.entries[0].state == JobState::dead);
  CHECK(outcome.entries[0].error == "no luck");
  CHECK(h.state().counts().dead == 1);
}

TEST_CASE_METHOD(OneWorker, "a permanent failure is dead at once", "[core]") {
  p.submit({"a"});
  h.dispatch();
  w.fail(granted(h)[0], FailKind::permanent);
  CHECK(h.state().state_of({1}) == JobState::dead);
}

TEST_CASE(
    "a silent worker is lost: its jobs go to another, a crash is charged, its late word is stale",
    "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker a(h, 2, uuid(2));
  p.submit({"a"});
  h.dispatch();
  Lease old = granted(h)[0];
  Worker b(h, 3, uuid(3));
  h.clear();
  h.pass(Millis(3000), {{Port::backend, 3}});
  CHECK(granted(h).empty());
  h.pass(Millis(500), {{Port::backend, 3}});
  auto leases = granted(h);
  REQUIRE(leases.size() == 1);
  CHECK(leases[0].epoch > old.epoch);
  CHECK(h.state().find({1})->crashes == 1);
  h.clear();
  a.register_again(12, {old});
  CHECK(h.only<protocol::Welcome>().stale == std::vector<Lease>{old});
  a.done({old});
  CHECK(h.only<protocol::Stale>().jobs == std::vector<Lease>{old});
  CHECK(h.state().state_of({1}) == JobState::leased);
  b.done(leases);
  CHECK(h.state().counts().done == 1);
}

TEST_CASE("a late DONE of the last epoch still brings a job in that nobody took since", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker a(h, 2, uuid(2));
  p.submit({"a"});
  h.dispatch();
  Lease lease = granted(h)[0];
  h.pass(Millis(4000));
  CHECK(h.state().state_of({1}) == JobState::ready);
  a.register_again(12);
  h.clear();
  a.done({lease});
  CHECK(h.all<protocol::Stale>().empty());
  CHECK(h.state().state_of({1}) == JobState::done);
}

TEST_CASE("a job whose workers vanish again and again is dead at the crash limit", "[core]") {
  Settings settings;
  settings.crash_limit = 2;
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  p.submit({"poison"});
  for (uint8_t i = 0; i < 2; ++i) {
    Worker w(h, 10 + i, uuid(10 + i));
    h.dispatch();
    h.pass(Millis(4000));
  }
  CHECK(h.state().state_of({1}) == JobState::dead);
  CHECK(h.state().find({1})->failures == 0);
  CHECK(h.state().counts().crashes == 2);
}

TEST_CASE_METHOD(OneWorker,
                 "after a restart a claimed job goes on, an unclaimed one is given to others",
                 "[core]") {
  p.submit({"a", "b", "c"});
  h.dispatch();
  auto leases = granted(h);
  REQUIRE(leases.size() == 3);
  h.restart();
  CHECK(h.state().leased_jobs() == 3);
  Worker other(h, 3, uuid(3));
  h.clear();
  h.dispatch();
  CHECK(granted(h).empty());  // nothing that may still run elsewhere is run again

  w.register_again(12, {leases[0], leases[1]});
  CHECK(h.all<protocol::Welcome>().back().stale.empty());
  h.clear();
  h.dispatch();
  REQUIRE(granted(h).size() == 1);  // the third never reached its worker
  CHECK(granted(h)[0].job == leases[2].job);
  CHECK(granted(h)[0].epoch > leases[2].epoch);
  CHECK(h.state().find(leases[2].job)->crashes == 0);
  h.clear();
  w.done({leases[0], leases[1]});
  CHECK(h.all<protocol::Stale>().empty());
  CHECK(h.state().counts().done == 2);
}

TEST_CASE_METHOD(
    OneWorker,
    "a worker that does not come back after a restart is lost when the grace window ends",
    "[core]") {
  p.submit({"a"});
  h.dispatch();
  h.restart();
  Worker other(h, 3, uuid(3));
  h.clear();
  h.pass(Millis(13000), {{Port::backend, 3}});  // twice the liveness, and a client's longest pause
  CHECK(granted(h).empty());
  h.pass(Millis(1000), {{Port::backend, 3}});
  CHECK(granted(h).size() == 1);
  CHECK(h.state().find({1})->crashes == 1);
}

TEST_CASE("a worker whose WELCOME came too late after a restart keeps what it holds", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 1);
  p.submit({"a"});
  h.dispatch();
  auto leases = granted(h);
  h.restart();
  w.register_again(12, leases);
  p.hello();
  Worker fresh(h, 3, uuid(3), 1);
  p.submit({"b"});
  h.dispatch();
  h.pass(Millis(5000));  // both fall silent; the first had given up before it was welcomed
  CHECK(h.core().sessions().empty());
  CHECK(h.state().state_of({1}) == JobState::leased);
  CHECK(h.state().state_of({2}) == JobState::ready);  // of this incarnation: nothing to wait for
  w.register_again(22, leases);
  CHECK(h.all<protocol::Welcome>().back().stale.empty());
  CHECK(h.state().find({1})->crashes == 0);
}

TEST_CASE("a short lease does not end while its worker may still come back after a restart",
          "[core]") {
  Settings settings;
  settings.lease = Millis(2000);
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
  p.submit({"a"});
  h.dispatch();
  auto leases = granted(h);
  h.restart();
  h.pass(Millis(12000));
  CHECK(h.state().find({1})->crashes == 0);
  w.register_again(12, leases);
  CHECK(h.all<protocol::Welcome>().back().stale.empty());
  h.pass(Millis(3000), {{Port::backend, 12}});  // from here on it counts again
  CHECK(h.state().find({1})->crashes == 1);
}

TEST_CASE("a lease that is not extended ends, one that is goes on", "[core]") {
  Settings settings;
  settings.lease = Millis(8000);
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 2);
  p.submit({"a", "b"});
  h.dispatch();
  auto leases = granted(h);
  h.pass(Millis(6000), {{Port::backend, 2}});
  h.receive(Port::backend, 2, 2, protocol::Extend{{leases[0]}});
  h.pass(Millis(4000), {{Port::backend, 2}});
  CHECK(h.state().lease_of(leases[0].job)->epoch == leases[0].epoch);
  CHECK(h.state().find(leases[1].job)->crashes == 1);
  h.clear();
  h.receive(Port::backend, 2, 2, protocol::Extend{{leases[1]}});
  CHECK(h.only<protocol::Stale>().jobs == std::vector<Lease>{leases[1]});
}

TEST_CASE_METHOD(OneWorker, "RELEASE and a worker's BYE give jobs back and charge nothing",
                 "[core]") {
  p.submit({"a", "b"});
  h.dispatch();
  auto leases = granted(h);
  h.receive(Port::backend, 2, 2, protocol::Release{1, {leases[0], leases[0]}});
  CHECK(h.state().state_of(leases[0].job) == JobState::ready);
  h.receive(Port::backend, 2, 2, protocol::Bye{});
  CHECK(h.state().ready_jobs() == 2);
  CHECK(h.state().counts().crashes == 0);
  CHECK(h.state().find({1})->crashes == 0);
}

TEST_CASE_METHOD(OneWorker, "a worker that can't be reached gets nothing until it is heard again",
                 "[core]") {
  h.core().unreachable({2});
  p.submit({"a"});
  h.clear();
  h.dispatch();
  CHECK(granted(h).empty());
}

TEST_CASE("a result above max_job_size fails its job for good, and no other", "[core]") {
  Settings settings;
  settings.max_job_size = 4;
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
  p.submit({"a", "b"}, {Report::result});
  h.dispatch();
  auto leases = granted(h);
  REQUIRE(leases.size() == 2);
  h.clear();
  protocol::Done batch{
      1, {{leases[0], true, "12345"}, {leases[0], true, "1"}, {leases[1], true, "1234"}}};
  h.receive(Port::backend, 2, 2, batch);
  CHECK(h.state().state_of({1}) == JobState::dead);
  CHECK(h.state().state_of({2}) == JobState::done);
  CHECK(h.all<protocol::Stale>().empty());
  CHECK(h.only<protocol::DoneOk>().batch == 1);
  h.dispatch();
  for (const auto& outcome : h.all<protocol::Outcome>())
    for (const auto& entry : outcome.entries)
      CHECK(entry.state == (entry.jobs.first == JobId{1} ? JobState::dead : JobState::done));
  const auto* failure = h.state().last_failure_of({1});
  REQUIRE(failure);
  CHECK(failure->error.find("5 bytes") != std::string::npos);
  CHECK(failure->error.find("of 4") != std::string::npos);
}

TEST_CASE("a late DONE with a result above max_job_size changes nothing", "[core]") {
  Settings settings;
  settings.max_job_size = 4;
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
  p.submit({"a"}, {Report::result});
  h.dispatch();
  auto leases = granted(h);
  h.pass(h.core().settings().lease + Millis(5000), kAlive);
  REQUIRE(h.state().lease_of({1}));  // leased again, to the same worker
  REQUIRE(h.state().lease_of({1})->epoch != leases[0].epoch);
  h.clear();
  w.done(leases, "12345");
  CHECK(h.only<protocol::Stale>().jobs == leases);
  CHECK(h.state().state_of({1}) == JobState::leased);
}

TEST_CASE_METHOD(OneWorker, "a peer that is expelled is gone as if it had fallen silent",
                 "[core]") {
  Worker other(h, 3, uuid(3));
  p.submit({"a"});
  h.dispatch();
  h.clear();
  REQUIRE(h.state().leased_jobs() == 1);
  // Same number, other port: not meant.
  act(h, [&](Core& core, Output& out) {
    CHECK(core.expel(h.now, {Port::frontend, 2}, out).empty());
  });
  CHECK(h.core().sessions().size() == 3);
  act(h, [&](Core& core, Output& out) {
    CHECK(core.expel(h.now, {Port::backend, 2}, out) == std::vector<SessionId>{{2}});
    core.expel(h.now, {Port::backend, 3}, out);
  });
  CHECK(h.core().sessions().size() == 1);
  CHECK(h.state().state_of({1}) == JobState::ready);
  CHECK(h.state().counts().crashes == 1);
  h.receive(Port::backend, 2, 2, protocol::Heartbeat{});
  CHECK(h.all<protocol::Reregister>().size() == 1);
}

TEST_CASE("a queue that a worker names twice is one queue", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.receive(Port::backend, 2, 2, protocol::Register{uuid(2), "w", {"q", "q"}, 1, {}});
  h.receive(Port::backend, 2, 2, protocol::Credit{10});
  p.submit({"a", "b"});
  h.clear();
  h.dispatch();
  CHECK(h.only<protocol::LeaseGrant>().jobs.size() == 2);
}

TEST_CASE_METHOD(OneWorker, "a peer that missed a message has to register again", "[core]") {
  p.submit({"a"});
  h.dispatch();
  h.core().unreachable({2});  // the LEASE was dropped
  h.clear();
  h.receive(Port::backend, 2, 2, protocol::Heartbeat{});
  CHECK(h.all<protocol::Reregister>().size() == 1);
  Worker again(h, 3, uuid(2));
  h.clear();
  h.dispatch();
  CHECK(granted(h).size() == 1);
}

TEST_CASE_METHOD(OneWorker, "results go to the producer, and are kept until it has collected them",
                 "[core]") {
  p.submit({"a"}, {Report::result});
  h.dispatch();
  CHECK(h.all<protocol::LeaseGrant>()[0].jobs[0].wants_result);
  w.done(granted(h), "answer");
  h.clear();
  h.dispatch();
  CHECK(h.only<protocol::Outcome>().entries[0].result == "answer");

  h.restart();  // the producer was away when it was sent
  p.hello();
  h.clear();
  h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 1}}});
  h.dispatch();
  CHECK(h.only<protocol::States>().ranges[0].state == JobState::done);
  CHECK(h.only<protocol::Outcome>().entries[0].result == "answer");
  CHECK(h.only<protocol::Outcome>().entries[0].attempts == 1);

  h.receive(Port::frontend, 1, 1, protocol::Collected{{{{1}, 1}}});
  h.clear();
  h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 1}}});
  h.dispatch();
  CHECK(h.all<protocol::Outcome>().empty());
}

TEST_CASE("both sides beat: a silent session hears from the broker, and a silent producer is gone",
          "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.clear();
  h.pass(Millis(1000), {{Port::frontend, 1}});
  CHECK(h.all<protocol::Heartbeat>().size() >= 1);
  CHECK(h.sent[0].at_once);
  h.pass(Millis(3500));
  CHECK(h.core().sessions().empty());
}

TEST_CASE_METHOD(OneWorker, "only the worker that holds a lease ends or extends it", "[core]") {
  const Lease lease = lease_one();
  Worker stranger(h, 3, uuid(3), 0);
  const std::string before = h.state().describe();
  h.clear();
  SECTION("DONE") { stranger.done({lease}, "forged"); }
  SECTION("FAIL") { stranger.fail(lease, FailKind::permanent); }
  SECTION("RELEASE") { h.receive(Port::backend, 3, 3, protocol::Release{1, {lease}}); }
  SECTION("EXTEND") { h.receive(Port::backend, 3, 3, protocol::Extend{{lease}}); }
  SECTION("a claim") {
    stranger.register_again(13, {lease});
    CHECK(h.only<protocol::Welcome>().stale == std::vector<Lease>{lease});
    stranger.done({lease});
  }
  CHECK(h.only<protocol::Stale>().jobs == std::vector<Lease>{lease});
  CHECK(h.state().describe() == before);
  h.clear();
  w.done({lease});
  CHECK(h.all<protocol::Stale>().empty());
  CHECK(h.state().state_of({1}) == JobState::done);
}

TEST_CASE_METHOD(OneWorker,
                 "a job that came back is finished late only by the worker that had it last",
                 "[core]") {
  const Lease lease = lease_one();
  SECTION("ready") { h.receive(Port::backend, 2, 2, protocol::Release{1, {lease}}); }
  SECTION("in retry-wait") { w.fail(lease); }
  SECTION("relocated, and known from that alone") {
    w.fail(lease);
    h.relocate_all();
    CHECK(h.describe_from_relocated() == h.state().describe());
  }
  SECTION("over a restart") {
    w.fail(lease);
    h.restart();
    w.register_again(12);
  }
  Worker stranger(h, 3, uuid(3), 0);
  const std::string before = h.state().describe();
  h.clear();
  stranger.register_again(13, {lease});
  CHECK(h.only<protocol::Welcome>().stale == std::vector<Lease>{lease});
  stranger.done({lease});
  CHECK(h.only<protocol::Stale>().jobs == std::vector<Lease>{lease});
  CHECK(h.state().describe() == before);
  h.clear();
  w.done({lease});
  CHECK(h.all<protocol::Stale>().empty());
  CHECK(h.state().state_of({1}) == JobState::done);
}

TEST_CASE_METHOD(OneWorker,
                 "a start goes on above the epochs before it, and above those that may be lost",
                 "[core]") {
  const Lease first = lease_one();
  CHECK(first.epoch == Epoch{1});
  w.done({first});
  for (uint64_t start = 1; start <= 600; ++start) h.restart();
  p.hello();
  w.register_again(12);
  h.receive(Port::backend, 12, 12, protocol::Credit{1});
  p.submit({"b"});
  h.clear();
  h.dispatch();
  const Lease last = granted(h)[0];
  CHECK(last.epoch.value == 600 * kEpochSkip + 2);
  CHECK(last.epoch.value < uint64_t{1} << 53);
}

TEST_CASE("epochs that version 1 made too high are left when no job has one", "[core]") {
  State state;
  const uint64_t starts = 300;
  state.apply(records::Started{starts, {}, {}}, Mono{});
  const Epoch high = state.next_epoch();
  REQUIRE(high >= kHighEpoch);
  CHECK(!state.check(records::Started{starts + 1, {}, {1}}));
  records::Accepted accepted{{1}, uuid(1), {1}, {1}};
  accepted.queue = "q";
  accepted.payloads = {"x"};
  state.apply(accepted, Mono{});
  state.apply(records::Leased{uuid(2), high, {{{1}, 1}}}, Mono{});
  CHECK(state.check(records::Started{starts + 1, {}, {1}}));

  Core core({}, 1);
  Output out;
  REQUIRE(!core.replay(records::Checkpoint{{7}, starts - 1, {1}, {}, {}}, Now{}));
  REQUIRE(!core.replay(records::Started{starts, {}, {}}, Now{}));
  core.begin(Now{}, {7}, out);
  CHECK(core.state().next_epoch() == Epoch{1});
}

TEST_CASE("leases end by their own times, in whatever order they were made", "[core][leases]") {
  LeaseTable table;
  table.set_default_duration(Millis(1000));
  const Mono begin = Mono(std::chrono::hours(300));
  auto insert = [&](uint64_t job, uint32_t lasts) {
    table.insert({job}, {{job}, WorkerIndex(job % 3), lasts, begin});
  };
  insert(1, 0);
  insert(2, 500);
  insert(3, 200'000);  // longer than the wheel turns
  insert(4, 90'000);
  insert(5, 1000);
  table.set_duration({4}, Millis(700));
  std::vector<std::pair<int64_t, uint64_t>> ended;
  for (int64_t ms = 0; ms < 210'000; ms += 250) {
    if (ms == 750) table.extend({1}, begin + Millis(ms));
    for (JobId job : table.take_due(begin + Millis(ms), 100)) {
      ended.push_back({ms, job.value});
      table.erase(job);
    }
  }
  CHECK(ended == std::vector<std::pair<int64_t, uint64_t>>{
                     {750, 2}, {750, 4}, {1250, 5}, {2000, 1}, {200'250, 3}});
  CHECK(table.size() == 0);
}

TEST_CASE("of many leases that end at once no more are taken than asked, and none is forgotten",
          "[core][leases]") {
  LeaseTable table;
  const Mono begin = Mono(std::chrono::hours(1));
  for (uint64_t job = 1; job <= 10'000; ++job) table.insert({job}, {{job}, 1, 1000, begin});
  size_t ended = 0;
  for (int i = 0; i < 5; ++i) {
    auto due = table.take_due(begin + Millis(2000 + i * 250), 3000);
    CHECK(due.size() == std::min<size_t>(3000, 10'000 - ended));
    for (JobId job : due) table.erase(job);
    ended += due.size();
  }
  CHECK(ended == 10'000);
  size_t left = 0;
  table.for_each_of(1, [&](JobId, const LeaseInfo&) { ++left; });
  CHECK(left == 0);
}

TEST_CASE("a worker's leases are in the order of their epochs, whatever the order they came in",
          "[core][leases]") {
  LeaseTable table;
  const auto insert = [&](uint64_t job, uint64_t epoch, WorkerIndex worker = 1) {
    table.insert({job}, {{epoch}, worker, 0, Mono(std::chrono::hours(1))});
  };
  CHECK(table.nth_epoch(1, 1) == Epoch{});
  for (uint64_t epoch : {30, 40, 10, 20}) insert(100 - epoch, epoch);  // as a journal's replay does
  insert(1, 5, 2);
  insert(50, 50);
  CHECK(table.nth_epoch(1, 1) == Epoch{10});
  CHECK(table.nth_epoch(1, 3) == Epoch{30});
  CHECK(table.nth_epoch(1, 100) == Epoch{50});
  table.erase({90});  // the oldest
  CHECK(table.nth_epoch(1, 1) == Epoch{20});
  insert(90, 10);  // claimed again
  CHECK(table.nth_epoch(1, 2) == Epoch{20});
  table.erase({50});  // the newest
  CHECK(table.nth_epoch(1, 100) == Epoch{40});
  for (uint64_t job : {60, 70, 80, 90}) table.erase({job});
  CHECK(table.nth_epoch(1, 1) == Epoch{});
  CHECK(table.nth_epoch(2, 9) == Epoch{5});
  for (uint64_t epoch : {30, 40, 10, 20}) insert(100 - epoch, epoch);
  for (uint64_t job : {60, 70, 80, 90}) table.erase({job});
  CHECK(table.nth_epoch(1, 1) == Epoch{});  // nobody had asked for the order
}
