#include "worker/session/worker_session.h"

#include <algorithm>
#include <new>

#include "tests/support/allocations.h"
#include "tests/unit/worker/worker_harness.h"

using namespace millrace;
using namespace millrace::protocol;
using namespace millrace::worker;

namespace {

using Leases = std::vector<Lease>;

constexpr Lease kA{{1}, {10}}, kB{{2}, {11}}, kC{{3}, {12}};

Leases sorted(Leases leases) {
  std::sort(leases.begin(), leases.end(), [](Lease a, Lease b) { return a.job < b.job; });
  return leases;
}

WorkerHarness connected(uint64_t threads = 2, std::optional<uint64_t> prefetch = 8) {
  WorkerHarness it(WorkerHarness::settings(threads, prefetch));
  it.connect();
  it.sent();
  return it;
}

}  // namespace

TEST_CASE("a session registers, and grants credit once it is welcome", "[worker]") {
  WorkerHarness it(WorkerHarness::settings(3));
  it.open();
  auto registers = it.sent_as<Register>();
  REQUIRE(registers.size() == 1);
  CHECK(registers[0].name == "w1");
  CHECK(registers[0].queues == std::vector<std::string_view>{"q", "r"});
  CHECK(registers[0].threads == 3);
  CHECK(registers[0].claims.empty());
  it.welcome();
  auto credits = it.sent_as<Credit>();
  REQUIRE(credits.size() == 1);
  CHECK(credits[0].jobs == 3);
}

TEST_CASE("a leased job is started with all that its handler needs", "[worker]") {
  auto it = connected();
  it.settings_told.max_job_size = 4711;
  LeaseGrant grant{"r", {{kA, 3, true, "bytes"}}};
  it.receive(grant);
  REQUIRE(it.out.start.size() == 1);
  const Job& job = it.out.start[0];
  CHECK(job.lease == kA);
  CHECK(job.attempt == 3);
  CHECK(job.payload == "bytes");
  CHECK(job.queue == 1);
  CHECK(job.wants_result);
  CHECK(job.max_result == kDefaultMaxJobSize);
  CHECK(job_text(job.broker, job.lease.job) == "3f9a1c07-1");
}

TEST_CASE("a queue goes to the subscription of its name, or of the longest prefix", "[worker]") {
  const QueueMatcher matcher({"a.*", "*", "a.b", "a.b.*", "a.bc"});
  CHECK(matcher.find("a.b") == 2);
  CHECK(matcher.find("a.bc") == 4);
  CHECK(matcher.find("a.b.c") == 3);
  CHECK(matcher.find("a.x") == 0);
  CHECK(matcher.find("a") == 1);
  CHECK_FALSE(QueueMatcher({"a.*", "b"}).find("a"));
}

TEST_CASE("a payload lives as long as its job", "[worker]") {
  Job job;
  {
    auto it = connected();
    it.lease({kA});
    job = it.out.start[0];
  }
  CHECK(job.payload == "payload");
}

TEST_CASE("a job's end is sent at once, with the result only if it is wanted", "[worker]") {
  auto it = connected();
  it.lease({kA}, true);
  it.lease({kB}, false);
  it.finish(kA);
  it.finish(kB);
  auto done = it.sent_as<Done>();
  REQUIRE(done.size() == 2);
  CHECK(done[0].batch == 1);
  REQUIRE(done[0].jobs.size() == 1);
  CHECK(done[0].jobs[0].lease == kA);
  CHECK(done[0].jobs[0].has_result);
  CHECK(done[0].jobs[0].result == "result");
  CHECK(done[1].batch == 2);
  CHECK_FALSE(done[1].jobs[0].has_result);
}

TEST_CASE("each kind of failure says so", "[worker]") {
  auto it = connected();
  it.lease({kA, kB, kC});
  it.finish(kA, Completion::failed(Completion::Kind::retryable, "later"));
  it.finish(kB, Completion::failed(Completion::Kind::permanent, "never"));
  it.finish(kC, Completion::failed(Completion::Kind::crash, "signal"));
  auto fails = it.sent_as<Fail>();
  REQUIRE(fails.size() == 3);
  CHECK(fails[0].jobs[0].kind == FailKind::retryable);
  CHECK(fails[0].jobs[0].error == "later");
  CHECK(fails[1].jobs[0].kind == FailKind::permanent);
  CHECK(fails[2].jobs[0].kind == FailKind::crash);
}

TEST_CASE("an error is cut at the limit, before a character that would be torn", "[worker]") {
  auto it = connected();
  it.lease({kA, kB});
  it.finish(kA, Completion::failed(Completion::Kind::retryable, std::string(5000, 'e')));
  it.finish(kB, Completion::failed(Completion::Kind::retryable, std::string(1023, 'e') + "ä"));
  auto fails = it.sent_as<Fail>();
  REQUIRE(fails.size() == 2);
  CHECK(fails[0].jobs[0].error == std::string(1024, 'e'));
  CHECK(fails[1].jobs[0].error == std::string(1023, 'e'));
}

TEST_CASE("a result above the broker's limit is a permanent failure that names both", "[worker]") {
  WorkerHarness it(WorkerHarness::settings(2, 8));
  it.settings_told.max_job_size = 100;
  it.connect();
  it.lease({kA, kB}, true);
  it.finish(kA, Completion::done(std::string(101, 'x')));
  it.finish(kB, Completion::done(std::string(100, 'x')));
  auto messages = it.sent();
  auto* fail = std::get_if<Fail>(&messages[messages.size() - 2]);
  REQUIRE(fail);
  CHECK(fail->jobs[0].kind == FailKind::permanent);
  CHECK(fail->jobs[0].error.find("101") != std::string::npos);
  CHECK(fail->jobs[0].error.find("100:") != std::string::npos);
  CHECK(std::get_if<Done>(&messages.back()));
}

TEST_CASE("ends gather while four batches are unanswered, and go when one is answered",
          "[worker]") {
  auto it = connected(2, 64);
  Leases leases;
  for (uint64_t i = 1; i <= 10; ++i) leases.push_back({{i}, {i}});
  it.lease(leases);
  for (Lease lease : leases) it.finish(lease);
  CHECK(it.sent_as<Done>().size() == 4);
  it.receive(DoneOk{2});
  auto done = it.sent_as<Done>();
  REQUIRE(done.size() == 1);
  CHECK(done[0].batch == 5);
  CHECK(done[0].jobs.size() == 6);
  CHECK(it.session.held() == 9);
}

TEST_CASE("a full batch does not wait for an answer", "[worker]") {
  auto it = connected(2, 4096);
  Leases leases;
  for (uint64_t i = 1; i <= 2000; ++i) leases.push_back({{i}, {i}});
  it.lease(leases);
  for (Lease lease : leases) it.finish(lease, Completion::done({}));
  auto done = it.sent_as<Done>();
  REQUIRE(done.size() == 5);
  CHECK(done[4].jobs.size() == kTargetJobs);
}

TEST_CASE("batches are cut by bytes too, and one large result travels alone", "[worker]") {
  auto it = connected(2, 64);
  Leases leases;
  for (uint64_t i = 1; i <= 12; ++i) leases.push_back({{i}, {i}});
  it.lease(leases, true);
  std::vector<Finished> ends;
  for (Lease lease : leases) {
    size_t size = lease.job.value == 6 ? 1 << 20 : 40 << 10;
    ends.push_back({lease, Completion::done(std::string(size, 'x')), Millis(1)});
  }
  it.session.completed(std::move(ends), &it.out);
  std::vector<size_t> sizes;
  for (const Done& done : it.sent_as<Done>()) sizes.push_back(done.jobs.size());
  CHECK(sizes == std::vector<size_t>{3, 2, 1, 3});
  it.receive(DoneOk{1});
  auto last = it.sent_as<Done>();
  REQUIRE(last.size() == 1);
  CHECK(last[0].jobs.size() == 3);
}

TEST_CASE("DONE_OK frees the jobs of its batch, once", "[worker]") {
  auto it = connected();
  it.lease({kA, kB});
  it.finish(kA);
  CHECK(it.session.held() == 2);
  CHECK(it.session.unconfirmed() == 1);
  it.receive(DoneOk{1});
  it.receive(DoneOk{1});
  it.receive(DoneOk{77});
  CHECK(it.session.held() == 1);
  CHECK(it.session.unconfirmed() == 0);
  CHECK(it.session.confirmed_total() == 1);
}

TEST_CASE("a new session claims what waits, runs, or is not confirmed", "[worker]") {
  auto it = connected();
  it.lease({kA, kB, kC});
  it.finish(kB);
  it.finish(kC);
  it.receive(DoneOk{2});
  it.sent();
  it.session.closed();
  it.open();
  auto registers = it.sent_as<Register>();
  REQUIRE(registers.size() == 1);
  CHECK(sorted(registers[0].claims) == Leases{kA, kB});
}

TEST_CASE("what is unanswered is sent again after a WELCOME, with what ended meanwhile",
          "[worker]") {
  auto it = connected();
  it.lease({kA, kB, kC}, true);
  it.finish(kA);
  it.finish(kB, Completion::failed(Completion::Kind::retryable, "no"));
  it.sent();
  it.session.closed();
  it.finish(kC);
  CHECK(it.out.frames.empty());
  it.open();
  it.finish({{99}, {99}});
  CHECK(it.sent().size() == 1);  // REGISTER, and no end before the WELCOME
  it.welcome();
  auto messages = it.sent();
  REQUIRE(messages.size() == 4);
  CHECK(std::get<Done>(messages[0]).batch == 1);
  CHECK(std::get<Done>(messages[0]).jobs[0].result == "result");
  CHECK(std::get<Fail>(messages[1]).batch == 2);
  CHECK(std::get<Done>(messages[2]).batch == 3);
  CHECK(std::get<Done>(messages[2]).jobs[0].lease == kC);
  CHECK(std::get<Credit>(messages[3]).jobs == 8);
}

TEST_CASE("what a WELCOME lists as stale is dropped, whatever had become of it", "[worker]") {
  auto it = connected();
  it.lease({kA, kB, kC});
  it.finish(kA);
  it.session.closed();
  it.sent();
  it.connect({kA, kB});
  CHECK(it.forgotten() == Leases{kA, kB});
  CHECK(it.sent_as<Done>().empty());
  CHECK(it.session.held() == 1);
  it.finish(kB);  // it was running: its result is discarded
  CHECK(it.sent_as<Done>().empty());
  it.finish(kC);
  CHECK(it.sent_as<Done>().size() == 1);
}

TEST_CASE("STALE drops a lease, and the end that comes later is void", "[worker]") {
  auto it = connected();
  it.lease({kA, kB});
  it.receive(Stale{{kA}});
  CHECK(it.forgotten() == Leases{kA});
  it.finish(kA);
  CHECK(it.sent_as<Done>().empty());
  it.finish(kB);
  it.receive(Stale{{kB}});
  CHECK(it.session.held() == 0);
}

TEST_CASE("a lease that comes twice is started once", "[worker]") {
  auto it = connected();
  it.lease({kA});
  it.lease({kA});
  CHECK(it.started() == Leases{kA});
  it.finish(kA);
  it.lease({kA});
  CHECK(it.started().empty());
}

TEST_CASE("a newer epoch of a job takes the place of the older", "[worker]") {
  constexpr Lease kNewer{{1}, {20}};
  auto it = connected();
  it.lease({kA});
  it.lease({kNewer});
  CHECK(it.started() == Leases{kA, kNewer});
  CHECK(it.forgotten() == Leases{kA});
  it.finish(kA);
  CHECK(it.sent_as<Done>().empty());
  it.lease({kA});  // late, and older
  CHECK(it.started().empty());
  it.finish(kNewer);
  auto done = it.sent_as<Done>();
  REQUIRE(done.size() == 1);
  CHECK(done[0].jobs[0].lease == kNewer);
}

TEST_CASE("a job held for a third of its lease is extended, and again a third later", "[worker]") {
  auto it = connected();
  it.lease({kA});
  it.advance(Millis(9'000));
  it.lease({kB});
  CHECK(it.sent_as<Extend>().empty());
  it.advance(Millis(2'500));
  auto extends = it.sent_as<Extend>();
  REQUIRE(extends.size() == 1);
  CHECK(extends[0].jobs == Leases{kA});
  it.advance(Millis(2'500));
  CHECK(it.sent_as<Extend>().empty());
  it.advance(Millis(7'500));
  extends = it.sent_as<Extend>();
  REQUIRE(extends.size() == 1);
  CHECK(sorted(extends[0].jobs) == Leases{kA, kB});
}

TEST_CASE("the session says when it wants to look at its leases", "[worker]") {
  auto it = connected();
  it.lease({kA});
  Mono start = it.now;
  size_t extended = 0;
  for (int i = 0; i < 8; ++i) {
    it.now = it.session.wake_at();
    it.session.tick(it.now, &it.out);
    extended += it.sent_as<Extend>().size();
    if (extended > 0) break;
  }
  CHECK(extended == 1);
  CHECK(it.now - start >= Millis(10'000));
  CHECK(it.now - start <= Millis(12'500));
  it.session.closed();
  CHECK(it.session.wake_at() == Mono::max());
}

TEST_CASE("a job that has ended is extended as long as its end has not been sent", "[worker]") {
  auto it = connected();
  Leases leases;
  for (uint64_t i = 1; i <= 5; ++i) leases.push_back({{i}, {i}});
  it.lease(leases);
  for (Lease lease : leases) it.finish(lease);
  it.sent();
  it.advance(Millis(12'000));
  auto extends = it.sent_as<Extend>();
  REQUIRE(extends.size() == 1);
  CHECK(extends[0].jobs == Leases{leases[4]});
}

TEST_CASE("extensions of many jobs are cut into messages", "[worker]") {
  auto it = connected(2, 10000);
  for (uint64_t i = 0; i < 5; ++i) {
    Leases leases;
    for (uint64_t k = 0; k < 1000; ++k) leases.push_back({{i * 1000 + k + 1}, {1}});
    it.lease(leases);
  }
  it.sent();
  it.advance(Millis(12'000));
  auto extends = it.sent_as<Extend>();
  REQUIRE(extends.size() == 2);
  CHECK(extends[0].jobs.size() == kMaxJobsPerMessage);
  CHECK(extends[1].jobs.size() == 5000 - kMaxJobsPerMessage);
}

TEST_CASE("claims that a broker accepts begin a new lease", "[worker]") {
  auto it = connected();
  it.lease({kA});
  it.advance(Millis(9'000));
  it.session.closed();
  it.connect();
  it.sent();
  it.advance(Millis(5'000));
  CHECK(it.sent_as<Extend>().empty());
}

TEST_CASE("another broker under the old address gets nothing of what is held", "[worker]") {
  auto it = connected();
  it.lease({kA, kB});
  it.finish(kA);
  it.sent();
  it.session.closed();
  it.settings_told.broker = {0x11111111};
  it.connect();
  CHECK(sorted(it.forgotten()) == Leases{kA, kB});
  auto messages = it.sent();
  CHECK(messages.size() == 2);  // REGISTER, CREDIT
  CHECK(it.session.held() == 0);
}

TEST_CASE("draining releases what waits, takes nothing new, and lets what runs end", "[worker]") {
  auto it = connected();
  it.lease({kA, kB});
  it.started();
  it.session.drain({kB}, &it.out);
  auto messages = it.sent();
  REQUIRE(messages.size() == 2);
  CHECK(std::get<Release>(messages[0]).jobs == Leases{kB});
  CHECK(std::get<Credit>(messages[1]).jobs == 0);
  it.lease({kC});  // was on its way
  CHECK(it.started().empty());
  auto releases = it.sent_as<Release>();
  REQUIRE(releases.size() == 1);
  CHECK(releases[0].jobs == Leases{kC});
  it.finish(kA);
  CHECK(it.sent_as<Done>().size() == 1);
  it.receive(DoneOk{1});
  it.receive(DoneOk{2});
  CHECK_FALSE(it.session.drained());
  it.receive(DoneOk{3});
  CHECK(it.session.drained());
}

TEST_CASE("what is held keeps the pace of its shortest lease after a reconnect", "[worker]") {
  auto it = connected();
  LeaseGrant grant{"q", {{kA, 1, false, "payload"}}, Millis(3000)};
  it.receive(grant);
  it.session.closed();
  it.connect();
  it.sent();
  it.advance(Millis(1500));
  auto extends = it.sent_as<Extend>();
  REQUIRE(extends.size() == 1);
  CHECK(extends[0].jobs == Leases{kA});
}

TEST_CASE("giving up releases what runs, and its end is void", "[worker]") {
  auto it = connected();
  it.lease({kA, kB});
  it.session.drain({}, &it.out);
  it.finish(kA);
  it.sent();
  it.session.give_up(&it.out);
  auto releases = it.sent_as<Release>();
  REQUIRE(releases.size() == 1);
  CHECK(releases[0].jobs == Leases{kB});
  it.finish(kB);
  CHECK(it.sent_as<Done>().empty());
  it.receive(DoneOk{1});
  it.receive(DoneOk{2});
  CHECK(it.session.drained());
}

TEST_CASE("what was not started is released, and tells nothing of run times", "[worker]") {
  WorkerHarness it(WorkerHarness::settings());
  it.connect();
  it.lease({kA});
  it.sent();
  it.finish(kA, Completion::failed(Completion::Kind::released, "no process"),
            std::chrono::microseconds(1));
  const auto sent = it.sent();
  REQUIRE(sent.size() == 1);  // no CREDIT besides
  CHECK(std::get<protocol::Release>(sent[0]).jobs == std::vector{kA});
}

TEST_CASE("a worker that may hold nothing releases what is still on its way", "[worker]") {
  WorkerHarness it(WorkerHarness::settings());
  it.connect();
  it.session.set_limit(0, &it.out);
  it.sent();
  it.lease({kA});
  CHECK(it.started().empty());
  CHECK(it.sent_as<protocol::Release>().at(0).jobs == std::vector{kA});
  it.session.set_limit(1, &it.out);
  CHECK(it.sent_as<protocol::Credit>().at(0).jobs == 1);
  it.lease({kB});
  CHECK(it.started() == std::vector{kB});
}

TEST_CASE("a failure behind a stop is released, an end of another kind is not", "[worker]") {
  WorkerHarness it(WorkerHarness::settings());
  it.connect();
  it.lease({kA, kB});
  it.session.drain({}, &it.out);
  it.session.release_failures();
  it.sent();
  it.finish(kA, Completion::failed(Completion::Kind::retryable, "the worker was stopped"));
  it.finish(kB);
  const auto sent = it.sent();
  REQUIRE(sent.size() == 2);
  CHECK(std::get<protocol::Release>(sent[0]).jobs == std::vector{kA});
  CHECK(std::holds_alternative<protocol::Done>(sent[1]));
}

TEST_CASE("a drain without a broker waits for it", "[worker]") {
  auto it = connected();
  it.lease({kA});
  it.session.closed();
  it.session.drain({kA}, &it.out);
  CHECK(it.out.frames.empty());
  CHECK_FALSE(it.session.drained());
  it.connect();
  CHECK(it.sent_as<Release>().size() == 1);
  it.receive(DoneOk{1});
  CHECK(it.session.drained());
}

TEST_CASE("too many unconfirmed ends stop new leases until they are confirmed", "[worker]") {
  auto it = connected(2, 4096);
  for (uint64_t i = 0; i < WorkerSession::kMaxUnconfirmed / 1024; ++i) {
    Leases leases;
    std::vector<Finished> ends;
    for (uint64_t k = 0; k < 1024; ++k) {
      leases.push_back({{i * 1024 + k + 1}, {1}});
      ends.push_back({leases.back(), Completion::done({}), Millis(1)});
    }
    it.lease(leases);
    CHECK(it.session.credit() == 4096);
    it.session.completed(std::move(ends), &it.out);
  }
  CHECK(it.session.credit() == 0);
  it.receive(DoneOk{1});
  CHECK(it.session.credit() == 4096);
}

TEST_CASE("leases that no credit allowed are given back, however many they are", "[worker]") {
  WorkerHarness it(WorkerHarness::settings(2, 4));
  it.connect();
  it.sent();
  it.lease({{{1}, {1}}, {{2}, {1}}, {{3}, {1}}, {{4}, {1}}, {{5}, {1}}, {{6}, {1}}});
  CHECK(it.out.start.size() == 4);
  CHECK(it.out.above_credit == 2);
  auto released = it.sent_as<Release>();
  REQUIRE(released.size() == 1);
  CHECK(released[0].jobs == std::vector<Lease>{{{5}, {1}}, {{6}, {1}}});

  // And a broker that never confirms these can't make it hold more than a REGISTER can claim.
  std::vector<Lease> leases;
  for (uint64_t job = 10; job < 10 + WorkerSession::kMaxHeld + 1000; ++job) {
    leases.push_back({{job}, {1}});
    if (leases.size() < kMaxJobsPerMessage) continue;
    it.lease(std::exchange(leases, {}));
    it.sent();
  }
  it.lease(leases);
  CHECK(it.session.held() == WorkerSession::kMaxHeld);
  CHECK(it.out.start.size() == 4);
  it.sent();
  it.open();
  REQUIRE(it.sent_as<Register>().size() == 1);
}

TEST_CASE("a result that there is no memory to send is released, the others are sent",
          "[worker session]") {
  WorkerHarness it(WorkerHarness::settings());
  it.connect();
  it.lease({kA, kB}, true);
  it.sent();
  Completion large = Completion::done(std::string(900'000, 'x'));
  test::fail_allocations_from(500'000);
  it.finish(kA, std::move(large));
  it.finish(kB);
  test::stop_failing_allocations();
  const auto messages = it.sent();
  std::vector<uint64_t> batches;
  for (const auto& message : messages) {
    if (auto* release = std::get_if<protocol::Release>(&message)) {
      CHECK(release->jobs == std::vector{kA});
      batches.push_back(release->batch);
    }
    if (auto* done = std::get_if<protocol::Done>(&message)) {
      REQUIRE(done->jobs.size() == 1);
      CHECK(done->jobs[0].lease == kB);
      batches.push_back(done->batch);
    }
  }
  REQUIRE(batches.size() == 2);
  CHECK(it.session.memory_shortages() == 1);
  for (uint64_t batch : batches) it.receive(protocol::DoneOk{batch});
  CHECK(it.session.held() == 0);
}

TEST_CASE("a LEASE that there is no memory for has never arrived", "[worker session]") {
  const uint64_t limit =
      GENERATE(0, 100);  // with 0 what arrives is released: that takes memory too
  int failures = 0;
  for (uint64_t others = 0;; ++others) {
    WorkerHarness it(WorkerHarness::settings(100));
    it.connect();
    it.session.set_limit(limit, &it.out);
    it.out = {};
    protocol::LeaseGrant grant{"q", {}};
    for (uint64_t i = 1; i <= 40; ++i) grant.jobs.push_back({{{i}, {i}}, 1, true, "payload"});
    const protocol::FromBroker message = grant;
    bool threw = false;
    test::fail_allocation_after(others);
    try {
      it.session.received(message, nullptr, it.now, &it.out);
    } catch (const std::bad_alloc&) {
      threw = true;
    }
    const bool failed = test::stop_failing_allocations();
    failures += threw;
    if (!failed) break;
    CHECK(it.session.held() == (threw ? 0 : 40));
  }
  CHECK(failures > 5);
}
