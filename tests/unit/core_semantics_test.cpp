#include <algorithm>
#include <map>

#include "tests/unit/core_harness.h"

using namespace millrace;
using namespace millrace::test;
using protocol::Report;
using protocol::SubmitOptions;

namespace {

const std::vector<std::pair<Port, uint64_t>> kAlive{{Port::frontend, 1}, {Port::backend, 2}};

SubmitOptions delayed(Millis delay) {
  SubmitOptions options;
  options.delay = delay;
  return options;
}
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

// Leases one job after the other, and tells their order.
std::vector<uint64_t> order_of(Harness& h, Worker& w, size_t count) {
  std::vector<uint64_t> order;
  while (order.size() < count) {
    h.clear();
    h.dispatch();
    auto leases = granted(h);
    REQUIRE(leases.size() == 1);
    order.push_back(leases[0].job.value);
    w.done(leases);
  }
  return order;
}

template <typename Action>
void act(Harness& h, Action&& action) {
  Output out;
  action(h.core(), out);
  h.absorb(out);
}

records::QueueSettings settings_with(auto change) {
  records::QueueSettings settings;
  change(settings);
  return settings;
}

void set_queue(Harness& h, const records::QueueSettings& settings, std::string_view queue = "q") {
  act(h, [&](Core& core, Output& out) { core.set_queue(h.now, queue, settings, out); });
}

}  // namespace

TEST_CASE("a delayed job is scheduled until it is due, also over a restart", "[core][schedule]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
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

TEST_CASE("a leased job does not expire; given back, it does", "[core][ttl]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
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

TEST_CASE("what is done can't be cancelled", "[core][cancel]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
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

TEST_CASE("queues share a worker by their weights", "[core][weight]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.receive(Port::backend, 2, 2, protocol::Register{uuid(2), "w", {"q", "r"}, 1, {}});
  h.receive(Port::backend, 2, 2, protocol::Credit{100});
  set_queue(h, settings_with([](auto& s) { s.weight = 3; }), "q");
  p.submit(std::vector<std::string_view>(2000, "x"), {}, "q");
  p.submit(std::vector<std::string_view>(2000, "y"), {}, "r");
  std::map<std::string, uint64_t> served;
  uint64_t batch = 0;
  while (served["q"] + served["r"] < 1600) {
    h.clear();
    h.dispatch();
    protocol::Done done{++batch, {}};
    for (const auto& grant : h.all<protocol::LeaseGrant>()) {
      served[std::string(grant.queue)] += grant.jobs.size();
      for (const auto& entry : grant.jobs) done.jobs.push_back({entry.lease});
    }
    h.receive(Port::backend, 2, 2, done);
  }
  double share = double(served["q"]) / double(served["r"]);
  CHECK(share > 2.5);
  CHECK(share < 3.5);
}

TEST_CASE("a queue's own limits hold: pause, concurrency over all workers, rate, length",
          "[core][limits]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker a(h, 2, uuid(2), 10), b(h, 3, uuid(3), 10);
  h.clear();
  SECTION("paused") {
    set_queue(h, settings_with([](auto& s) { s.paused = true; }));
    p.submit({"a"});
    h.dispatch();
    CHECK(granted(h).empty());
    CHECK(h.core().explain(h.now, {1}).why.find("paused") != std::string::npos);
    set_queue(h, {});
    h.dispatch();
    CHECK(granted(h).size() == 1);
  }
  SECTION("concurrency") {
    set_queue(h, settings_with([](auto& s) { s.concurrency = 3; }));
    p.submit(std::vector<std::string_view>(10, "x"));
    h.dispatch();
    auto leases = granted(h);
    CHECK(leases.size() == 3);
    h.clear();
    h.dispatch();
    CHECK(granted(h).empty());
    CHECK(h.core().explain(h.now, {10}).why.find("concurrency") != std::string::npos);
  }
  SECTION("rate") {
    set_queue(h, settings_with([](auto& s) { s.rate = 100; }));
    p.submit(std::vector<std::string_view>(500, "x"));
    uint64_t total = 0;
    for (int i = 0; i < 8; ++i) {  // 2 s
      h.clear();
      h.pass(Millis(250), {{Port::frontend, 1}, {Port::backend, 2}, {Port::backend, 3}});
      auto leases = granted(h);
      total += leases.size();
      a.done(leases);
      CHECK(h.core().wake_at(h.now) <= h.now.mono + Millis(250));
    }
    CHECK(total <= 210);
    CHECK(total >= 70);  // a burst of 10 each 250 ms
  }
  SECTION("length") {
    set_queue(h, settings_with([](auto& s) { s.max_length = 2; }));
    p.submit({"a", "b", "c"});
    CHECK(h.only<protocol::Confirm>().ranges[0].count == 2);
    CHECK(h.only<protocol::Reject>().ranges[0].reason == "queue_full");
    h.clear();
    p.submit({"d"}, {}, "r");
    CHECK(h.all<protocol::Confirm>().size() == 1);
  }
}

TEST_CASE("a queue's defaults stand in for the broker's", "[core][limits]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
  set_queue(h, settings_with([](auto& s) {
              s.max_attempts = 1;
              s.ttl = Millis(60000);
              s.lease = Millis(4000);
            }));
  p.submit({"a", "b"});
  CHECK(h.state().expiry_of({1}) == h.now.wall + Millis(60000));
  h.clear();
  h.dispatch();
  CHECK(h.only<protocol::LeaseGrant>().lease == Millis(4000));
  auto leases = granted(h);
  w.fail(leases[0]);
  CHECK(h.state().state_of({1}) == JobState::dead);
  h.pass(Millis(5500), kAlive);
  CHECK(h.state().find({2})->crashes == 1);
}

TEST_CASE("a purge cancels all that is not leased", "[core][purge]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 1);
  p.submit({"a", "b"});
  p.submit({"c"}, delayed(Millis(5000)));
  p.submit({"other"}, {}, "r");
  h.dispatch();
  uint64_t purged = 0;
  act(h, [&](Core& core, Output& out) { purged = core.purge(h.now, "q", out); });
  CHECK(purged == 2);
  CHECK(h.state().leased_jobs() == 1);
  CHECK(h.state().ready_jobs() == 1);
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

  uint64_t changed = 0;
  auto revive = [&](DeadFilter filter) {
    act(h, [&](Core& core, Output& out) { changed = core.revive(h.now, filter, out); });
    return changed;
  };
  DeadFilter other_queue, other_error, too_old, one;
  other_queue.queue = "r";
  other_error.error = "segfault";
  too_old.older = Millis(60000);
  one.jobs = {{{1}, 1}};
  one.error = "luck";
  CHECK(revive(other_queue) == 0);
  CHECK(revive(other_error) == 0);
  CHECK(revive(too_old) == 0);
  CHECK(revive(one) == 1);
  CHECK(h.state().state_of({1}) == JobState::ready);
  CHECK(h.state().find({1})->failures == 0);
  CHECK(h.state().history_of({1})->size() == 2);
  act(h, [&](Core& core, Output& out) { changed = core.drop(h.now, {}, out); });
  CHECK(changed == 1);
  CHECK(h.state().state_of({2}) == JobState::cancelled);
  const auto& counts = h.state().counts();
  CHECK(counts.accepted == counts.done + h.state().dead().size() + counts.cancelled +
                               counts.expired + h.state().live_jobs());
}

TEST_CASE("the same idempotency key gives the same job, within its window, also after a restart",
          "[core][key]") {
  Settings settings;
  settings.keeping.key_window = Millis(10000);
  Harness h(settings);
  Producer p(h, 1, uuid(1)), other(h, 5, uuid(5));
  auto submit = [&](Producer& from, std::string_view key, uint64_t seq) {
    protocol::Submit message;
    message.floor = {1};
    message.first = {seq};
    message.queue = "q";
    message.payloads = {"x"};
    message.keys = {key};
    h.clear();
    h.receive(Port::frontend, from.session, from.session, message);
    return h.only<protocol::Confirm>().ranges[0];
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

TEST_CASE("high-water marks shut, and open again only below the low one", "[core][overload]") {
  Settings settings;
  settings.max_queued = 100;
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 1000);
  p.submit(std::vector<std::string_view>(100, "x"));
  h.dispatch();
  auto leases = granted(h);
  REQUIRE(leases.size() == 100);
  auto finish = [&](size_t count) {
    w.done({leases.end() - long(count), leases.end()});
    leases.resize(leases.size() - count);
  };
  h.clear();
  p.submit({"y"});
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "queue_full");
  finish(5);
  h.clear();
  p.submit({"y"});
  CHECK(h.all<protocol::Reject>().size() == 1);
  finish(10);
  h.clear();
  p.submit({"y"});
  CHECK(h.all<protocol::Confirm>().size() == 1);
}

TEST_CASE("the retry-after of a REJECT follows the rate at which jobs end", "[core][overload]") {
  Settings settings;
  settings.max_queued = 1000;
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 10);
  auto rejected_after = [&] {
    h.clear();
    p.submit(std::vector<std::string_view>(1000, "x"));
    return h.only<protocol::Reject>().ranges[0].retry_after;
  };
  auto drain_at = [&](int jobs) {
    for (int i = 0; i < 40; ++i) {
      h.clear();
      h.pass(Millis(250), kAlive);
      auto leases = granted(h);
      leases.resize(std::min<size_t>(leases.size(), size_t(jobs)));
      w.done(leases);
    }
  };
  p.submit(std::vector<std::string_view>(1000, "x"));
  drain_at(1);
  Millis slow = rejected_after();
  CHECK(slow > Millis(5000));
  CHECK(slow <= Millis(60000));
}

TEST_CASE("a result is let go after its time", "[core][results]") {
  Settings settings;
  settings.keeping.result_ttl = Millis(1000);
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 1);
  SubmitOptions options;
  options.report = Report::result;
  p.submit({"a", "b"}, options);
  h.dispatch();
  w.done(granted(h), "first");
  CHECK(h.state().outcome_of({1}));
  h.pass(Millis(2000), kAlive);
  w.done({granted(h).back()}, "second");
  CHECK(!h.state().outcome_of({1}));
  CHECK(h.state().outcome_of({2}));
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
  CHECK(says(1, "leased by w for 30000 ms more"));
  CHECK(says(2, "waits for a worker with room"));
  w.fail(granted(h).back());
  CHECK(says(1, "an attempt failed; the next is due in"));
  p.submit({"c"}, delayed(Millis(700)));
  CHECK(says(3, "due in 700 ms"));
  h.restart();
  CHECK(says(2, "no worker"));
}

TEST_CASE("a lease lasts as long as its LEASE said, whatever its queue is told later",
          "[core][queue]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
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
