#include <algorithm>
#include <map>

#include "tests/unit/core/acts.h"

using namespace millrace;
using namespace millrace::test;
using protocol::Report;
using protocol::SubmitOptions;

namespace {

SubmitOptions living(Millis ttl, Report report = Report::none) {
  SubmitOptions options;
  options.ttl = ttl;
  options.report = report;
  return options;
}
SubmitOptions urgent(uint8_t priority) {
  SubmitOptions options;
  options.priority = priority;
  return options;
}

}  // namespace

TEST_CASE_METHOD(OneWorker, "a delayed job is scheduled until it is due, also over a restart",
                 "[core][schedule]") {
  p.submit({"later"}, delayed(Millis(5000)));
  h.clear();
  h.pass(Millis(4000), kAlive);
  CHECK(granted(h).empty());
  CHECK(h.state().state_of({1}) == JobState::scheduled);
  h.restart();
  w.register_again(2);
  h.receive(Port::backend, 2, 2, protocol::Credit{1});
  CHECK(h.state().scheduled_jobs() == 1);
  h.pass(Millis(1250), kAlive);
  CHECK(granted(h).size() == 1);
}

TEST_CASE("a delay may be years; the core asks to be woken no later than a heartbeat on",
          "[core][schedule]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"far"}, delayed(Millis(int64_t{20} * 365 * 24 * 3600 * 1000)));
  CHECK(h.core().wake_at(h.now) <= h.now.mono + Millis(1000));
  h.now.wall += Millis(int64_t{20} * 365 * 24 * 3600 * 1000);
  h.pass(Millis(250));
  CHECK(h.state().state_of({1}) == JobState::ready);
}

TEST_CASE("a job whose time to live is over is expired, and its producer hears of it",
          "[core][ttl]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a"}, living(Millis(1000), Report::outcome));
  h.clear();
  h.pass(Millis(750), kAlive);
  CHECK(h.state().state_of({1}) == JobState::ready);
  h.pass(Millis(500), {{Port::frontend, 1}});
  CHECK(h.state().state_of({1}) == JobState::expired);
  CHECK(h.only<protocol::Outcome>().entries[0].state == JobState::expired);
  CHECK(h.state().counts().expired == 1);
  h.restart();
  CHECK(h.state().state_of({1}) == JobState::expired);
}

TEST_CASE_METHOD(OneWorker, "a leased job does not expire; given back, it does", "[core][ttl]") {
  p.submit({"a", "b"}, living(Millis(1000)));
  h.dispatch();
  auto leases = granted(h);
  h.pass(Millis(2000), kAlive);
  CHECK(h.state().leased_jobs() == 2);
  w.done({leases[0]});
  h.receive(Port::backend, 2, 2, protocol::Release{9, {leases[1]}});
  h.pass(Millis(250), kAlive);
  CHECK(h.state().state_of({1}) == JobState::done);
  CHECK(h.state().state_of({2}) == JobState::expired);
}

TEST_CASE("a job is cancelled in every state that is not an end", "[core][cancel]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 2);
  p.submit({"leased", "fails"});
  h.dispatch();
  auto leases = granted(h);
  w.fail(leases[1]);
  h.receive(Port::backend, 2, 2, protocol::Credit{1});
  p.submit({"ready"});
  p.submit({"scheduled"}, delayed(Millis(9000)));
  CHECK(h.state().state_of({2}) == JobState::retry_wait);
  h.clear();
  h.receive(Port::frontend, 1, 1, protocol::Cancel{{{{1}, 5}}});
  CHECK(h.only<protocol::Cancelled>().jobs == std::vector<Lease>{leases[0]});
  auto states = h.only<protocol::States>();
  CHECK(states.ranges[0].jobs == JobRange{{1}, 4});
  CHECK(states.ranges[0].state == JobState::cancelled);
  CHECK(states.ranges[1].state == JobState::unknown);
  CHECK(h.state().live_jobs() == 0);
  h.clear();
  w.done({leases[0]});  // too late
  CHECK(h.only<protocol::Stale>().jobs == std::vector<Lease>{leases[0]});
  CHECK(h.state().counts().cancelled == 4);
  CHECK(h.state().counts().done == 0);
  h.pass(Millis(10000), kAlive);
  CHECK(h.state().live_jobs() == 0);
}

TEST_CASE_METHOD(OneWorker, "what is done can't be cancelled", "[core][cancel]") {
  p.submit({"a"});
  h.dispatch();
  w.done(granted(h));
  h.receive(Port::frontend, 1, 1, protocol::Cancel{{{{1}, 1}}});
  CHECK(h.state().state_of({1}) == JobState::done);
  CHECK(h.state().counts().cancelled == 0);
}

TEST_CASE("higher priorities come first, and the lowest still gets its turn", "[core][priority]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 1);
  p.submit({"low"}, urgent(0));
  for (int i = 0; i < 20; ++i) p.submit({"high"}, urgent(9));
  auto order = order_of(h, w, 10);
  auto low = std::find(order.begin(), order.end(), 1u);
  REQUIRE(low != order.end());
  CHECK(low - order.begin() == 7);  // one in eight is for whoever has waited longest
}

TEST_CASE("a fair queue takes from each producer in turn, a FIFO one in the order of acceptance",
          "[core][fair]") {
  Harness h;
  Producer flood(h, 1, uuid(1)), few(h, 5, uuid(5));
  Worker w(h, 2, uuid(2), 1);
  flood.submit(std::vector<std::string_view>(20, "x"));
  few.submit({"a", "b"});
  SECTION("fifo") { CHECK(order_of(h, w, 3) == std::vector<uint64_t>{1, 2, 3}); }
  SECTION("fair") {
    set_queue(h, settings_with([](auto& s) { s.order = records::Order::fair; }));
    auto order = order_of(h, w, 4);
    CHECK(std::count(order.begin(), order.end(), 21u) == 1);
    CHECK(std::count(order.begin(), order.end(), 22u) == 1);
    h.restart();
    CHECK(h.state().queues()[0].settings.order == records::Order::fair);
    CHECK(h.state().ready_jobs() == 18);
  }
}

TEST_CASE("the dead keep their history, and are retried or dropped by job, queue, error or age",
          "[core][dead]") {
  Settings settings;
  settings.max_attempts = 2;
  settings.backoff_min = settings.backoff_max = Millis(100);
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
  p.submit({"a", "b"});
  for (int attempt = 0; attempt < 2; ++attempt) {
    h.clear();
    h.pass(Millis(250), kAlive);
    for (Lease lease : granted(h)) w.fail(lease);
  }
  REQUIRE(h.state().dead().size() == 2);
  REQUIRE(h.state().history_of({1})->size() == 2);
  CHECK(h.state().history_of({1})->at(0).attempt == 1);
  CHECK(h.state().history_of({1})->at(1).attempt == 2);
  CHECK(h.state().history_of({1})->at(0).worker == "w");

  auto requeue = [&](DeadFilter filter) { return h.bulk({BulkKind::retry, "", filter}); };
  DeadFilter other_queue, other_error, too_old, one;
  other_queue.queue = "r";
  other_error.error = "segfault";
  too_old.older = Millis(60000);
  one.jobs = {{{1}, 1}};
  one.error = "luck";
  CHECK(requeue(other_queue) == 0);
  CHECK(requeue(other_error) == 0);
  CHECK(requeue(too_old) == 0);
  CHECK(requeue(one) == 1);
  CHECK(h.state().state_of({1}) == JobState::ready);
  CHECK(h.state().find({1})->failures == 0);
  CHECK(h.state().history_of({1})->size() == 2);
  CHECK(h.bulk({BulkKind::drop, "", {}}) == 1);
  CHECK(h.state().state_of({2}) == JobState::cancelled);
  const auto& counts = h.state().counts();
  CHECK(counts.accepted == counts.done + h.state().dead().size() + counts.cancelled +
                               counts.expired + h.state().live_jobs());
}

namespace {

protocol::Confirm::Range submit_keyed(Harness& h, Producer& from, std::string_view key,
                                      uint64_t seq) {
  protocol::Submit message;
  message.floor = {1};
  message.first = {seq};
  message.queue = "q";
  message.payloads = {"x"};
  message.keys = {key};
  h.clear();
  h.receive(Port::frontend, from.session, from.session, message);
  return h.only<protocol::Confirm>().ranges[0];
}

}  // namespace

TEST_CASE("the same idempotency key gives the same job, within its window, also after a restart",
          "[core][key]") {
  Settings settings;
  settings.retention.key_window = Millis(10000);
  Harness h(settings);
  Producer p(h, 1, uuid(1)), other(h, 5, uuid(5));
  auto submit = [&](Producer& from, std::string_view key, uint64_t seq) {
    return submit_keyed(h, from, key, seq);
  };
  CHECK(submit(p, "order-1", 1).first_job == JobId{1});
  auto again = submit(other, "order-1", 1);
  CHECK(again.first_job == JobId{1});
  CHECK(again.known);
  CHECK(!submit(p, "order-2", 2).known);
  h.restart();
  p.hello();
  other.hello();
  CHECK(submit(p, "order-1", 3).first_job == JobId{1});
  CHECK(h.state().counts().accepted == 2);
  h.now.wall += Millis(10001);
  CHECK(submit(other, "order-1", 1).first_job == JobId{1});  // a resend, not a new submission
  CHECK(!submit(other, "order-1", 2).known);                 // the window is over
  CHECK(h.state().counts().accepted == 3);
}

TEST_CASE("a job whose time is over when its worker is lost is not leased again", "[core][ttl]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2)), other(h, 3, uuid(3));
  p.submit({"a"}, living(Millis(1000), Report::outcome));
  h.dispatch();
  const uint64_t holder = h.all<protocol::LeaseGrant>().size();
  REQUIRE(holder == 1);
  const uint64_t route = h.sent.back().route.id;
  h.clear();
  h.pass(Millis(6000), {{Port::backend, route == 2 ? 3 : 2}});
  CHECK(granted(h).empty());
  CHECK(h.state().state_of({1}) == JobState::expired);
}

TEST_CASE("a result is let go after its time", "[core][results]") {
  Settings settings;
  settings.retention.result_ttl = Millis(1000);
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 1);
  SubmitOptions options;
  options.report = Report::result;
  p.submit({"a", "b"}, options);
  h.dispatch();
  w.done(granted(h), "first");
  CHECK(h.state().result_of({1}));
  h.pass(Millis(2000), kAlive);
  w.done({granted(h).back()}, "second");
  h.pass(Millis(250), kAlive);
  CHECK(!h.state().result_of({1}));
  CHECK(h.state().result_of({2}));
}

TEST_CASE("a result is let go by time alone, and that is written down", "[core][results]") {
  Settings settings;
  settings.retention.result_ttl = Millis(1000);
  Harness h(settings);
  h.now.wall = wall_from_int(1'700'000'000'000);  // of these days
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 1);
  SubmitOptions options;
  options.report = Report::result;
  p.submit({"a"}, options);
  h.dispatch();
  w.done(granted(h), "first");
  h.pass(Millis(900), kAlive);
  h.restart();
  CHECK(h.state().result_of({1}));
  h.pass(Millis(250));
  CHECK(!h.state().result_of({1}));
  h.now.wall -= std::chrono::hours(1);
  h.restart();  // the replica of each step sees to it that a replay agrees
  CHECK(!h.state().result_of({1}));
}

TEST_CASE("a clock that is set back does not let the new results go before the old ones",
          "[core][results]") {
  Settings settings;
  settings.retention.results = 1;
  Harness h(settings);
  h.now.wall = wall_from_int(1'700'000'000'000);  // of these days
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 2);
  SubmitOptions options;
  options.report = Report::result;
  p.submit({"a", "b"}, options);
  h.dispatch();
  const auto leases = granted(h);
  w.done({leases[0]}, "old");
  h.now.wall -= std::chrono::hours(24);
  w.done({leases[1]}, "new");
  h.pass(Millis(250), kAlive);
  CHECK(!h.state().result_of({1}));
  CHECK(h.state().result_of({2}));
}

TEST_CASE("what is larger than all that may be kept is not kept", "[core][results][keys]") {
  Settings settings;
  settings.retention.result_bytes = 4;
  settings.retention.key_bytes = 100;
  Harness h(settings);
  h.now.wall = wall_from_int(1'700'000'000'000);  // of these days
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 2);
  SubmitOptions options;
  options.report = Report::result;
  p.submit({"a", "b"}, options);
  h.dispatch();
  const auto leases = granted(h);
  w.done({leases[0]}, "fits");
  CHECK(h.state().result_of({1}));
  w.done({leases[1]}, "does not");
  h.pass(Millis(250), kAlive);
  CHECK(!h.state().result_of({1}));
  CHECK(!h.state().result_of({2}));
  CHECK(h.state().counts().done == 2);
  CHECK(!submit_keyed(h, p, "a key that its own entry is too large for", 3).known);
  CHECK(!submit_keyed(h, p, "a key that its own entry is too large for", 4).known);
}

TEST_CASE("results that are kept do not hold up new jobs", "[core][results][limits]") {
  Settings settings;
  settings.max_memory = 2000;
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
  SubmitOptions options;
  options.report = Report::result;
  for (int i = 0; i < 30; ++i) {
    h.clear();
    p.submit({"a"}, options);
    CHECK(h.all<protocol::Reject>().empty());
    h.dispatch();
    w.done(granted(h), std::string(200, 'r'));
  }
  CHECK(h.state().result_of({1}));
}

TEST_CASE("every waiting job can say why", "[core][why]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  auto why = [&](uint64_t job) { return h.core().explain(h.now, {job}).why; };
  auto says = [&](uint64_t job, const char* part) {
    INFO(why(job));
    return why(job).find(part) != std::string::npos;
  };
  p.submit({"a"});
  CHECK(says(1, "no worker is connected for queue q"));
  CHECK(says(9, "no job of this number"));
  Worker w(h, 2, uuid(2), 1);
  p.submit({"b"});
  h.dispatch();
  CHECK(says(1, "leased by w for another 30 s"));
  CHECK(says(2, "waits for a worker with free capacity"));
  w.fail(granted(h).back());
  CHECK(says(1, "an attempt failed; next attempt in"));
  p.submit({"c"}, delayed(Millis(700)));
  CHECK(says(3, "due in 700 ms"));
  h.restart();
  CHECK(says(2, "no worker"));
}

TEST_CASE_METHOD(OneWorker,
                 "a lease lasts as long as its LEASE said, whatever its queue is told later",
                 "[core][queue]") {
  p.submit({"a"});
  h.dispatch();
  set_queue(h, settings_with([](auto& s) { s.lease = Millis(2000); }));
  h.pass(Millis(20000), kAlive);
  CHECK(h.state().find({1})->crashes == 0);
  h.pass(Millis(11000), kAlive);
  CHECK(h.state().find({1})->crashes == 1);
}

TEST_CASE("a wall clock that was ahead for a while does not hold retries back",
          "[core][schedule]") {
  for (bool restarted : {false, true}) {
    Settings settings;
    settings.backoff_max = Millis(4000);
    Harness h(settings);
    Producer p(h, 1, uuid(1));
    Worker w(h, 2, uuid(2));
    p.submit({"a"});
    p.submit({"b"}, delayed(std::chrono::hours(3)));
    h.now.wall += std::chrono::hours(2);
    h.pass(Millis(1000), kAlive);
    h.dispatch();
    w.fail(granted(h)[0]);
    CHECK(h.state().state_of({1}) == JobState::retry_wait);
    h.now.wall -= std::chrono::hours(2);
    if (restarted) h.restart();
    h.pass(Millis(1000), kAlive);
    CHECK(h.state().state_of({1}) != JobState::retry_wait);
    CHECK(h.state().state_of({2}) == JobState::scheduled);  // a date is a date
  }
}
