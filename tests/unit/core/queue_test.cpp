// What a queue's settings do, and what the broker does when it is full.
#include <algorithm>
#include <map>
#include <set>

#include "tests/unit/core/acts.h"

using namespace millrace;
using namespace millrace::test;
using protocol::Report;
using protocol::SubmitOptions;

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

TEST_CASE("a queue that was idle comes level with the others, at a new worker too",
          "[core][weight]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  uint64_t batch = 0;
  // Leases `jobs` in all to the worker of this route, and says how many of each queue.
  auto serve = [&](uint64_t route, uint64_t jobs) {
    std::map<std::string, uint64_t> served;
    while (served["q"] + served["r"] < jobs) {
      h.clear();
      h.dispatch();
      protocol::Done done{++batch, {}};
      for (const auto& grant : h.all<protocol::LeaseGrant>()) {
        served[std::string(grant.queue)] += grant.jobs.size();
        for (const auto& entry : grant.jobs) done.jobs.push_back({entry.lease});
      }
      h.receive(Port::backend, route, route, done);
    }
    return served;
  };
  h.receive(Port::backend, 2, 2, protocol::Register{uuid(2), "a", {"q", "r"}, 1, {}});
  h.receive(Port::backend, 2, 2, protocol::Credit{10});
  p.submit(std::vector<std::string_view>(1500, "x"), {}, "q");
  serve(2, 1000);
  h.dispatch();  // it is full from here on
  h.receive(Port::backend, 3, 3, protocol::Register{uuid(3), "b", {"q", "r"}, 1, {}});
  h.receive(Port::backend, 3, 3, protocol::Credit{10});
  p.submit(std::vector<std::string_view>(300, "y"), {}, "r");
  auto served = serve(3, 200);
  CHECK(served["q"] >= 80);
  CHECK(served["r"] >= 80);
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

TEST_CASE_METHOD(OneWorker, "a queue's defaults stand in for the broker's", "[core][limits]") {
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
  CHECK(h.bulk({BulkKind::purge, "q", {}}) == 2);
  CHECK(h.state().leased_jobs() == 1);
  CHECK(h.state().ready_jobs() == 1);
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

TEST_CASE("a worker is sent some bytes of payloads in a dispatch, and the rest in the next",
          "[core][grant]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 100);
  h.core().set_payload_size([](JobId) { return 1 << 20; });
  p.submit(std::vector<std::string_view>(10, "a"));
  h.pass(Millis(250), {{Port::frontend, 1}, {Port::backend, 2}});
  CHECK(granted(h).size() == 4);
  CHECK(h.core().wake_at(h.now) == h.now.mono);
  h.dispatch();
  CHECK(granted(h).size() == 8);
  bool room = false;
  h.core().set_has_room([&](Route) { return room; });
  h.dispatch();
  CHECK(granted(h).size() == 8);  // it does not read
  CHECK(h.core().wake_at(h.now) > h.now.mono);
  room = true;
  h.dispatch();
  CHECK(granted(h).size() == 10);
  CHECK(h.core().wake_at(h.now) > h.now.mono);
}

TEST_CASE("a job whose payload is not in memory is not leased, nor those behind it",
          "[core][grant]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 100);
  std::set<uint64_t> there, asked;
  h.core().set_payload_size([&](JobId job) -> std::optional<uint64_t> {
    asked.insert(job.value);
    return there.contains(job.value) ? std::optional<uint64_t>(10) : std::nullopt;
  });
  auto dispatch = [&] {
    asked.clear();
    h.dispatch();
    return granted(h).size();
  };
  h.pass(Millis(250), kAlive);
  p.submit(std::vector<std::string_view>(4, "a"));
  there = {2, 3, 4};
  CHECK(dispatch() == 0);
  CHECK(asked == std::set<uint64_t>{1});
  CHECK(h.core().wake_at(h.now) > h.now.mono);
  there = {1, 2, 4};
  CHECK(dispatch() == 2);
  CHECK(asked == std::set<uint64_t>{1, 2, 3});
  there = {3, 4};
  CHECK(dispatch() == 4);
}

TEST_CASE("a queue that waits for a payload holds up no other queue", "[core][grant]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.receive(Port::backend, 2, 2, protocol::Register{uuid(2), "w", {"q", "r"}, 1, {}});
  h.receive(Port::backend, 2, 2, protocol::Credit{100});
  h.core().set_payload_size(
      [](JobId job) { return job.value == 1 ? std::nullopt : std::optional<uint64_t>(10); });
  p.submit(std::vector<std::string_view>(4, "a"));
  p.submit(std::vector<std::string_view>(4, "a"), {}, "r");
  h.dispatch();
  CHECK(granted(h).size() == 4);
}

// With fewer jobs in all, another producer's first job is among them: it has to be there too.
TEST_CASE("only jobs whose payloads are in memory are leased in a fair queue", "[core][grant]") {
  Harness h;
  set_queue(h, settings_with([](auto& s) { s.order = records::Order::fair; }));
  std::vector<Producer> producers;
  for (uint8_t i = 1; i <= 3; ++i) producers.emplace_back(h, i, uuid(i));
  Worker w(h, 9, uuid(9), 100);
  for (Producer& p : producers) p.submit(std::vector<std::string_view>(4, "a"));
  std::set<uint64_t> there = {1, 2, 3, 4};
  h.core().set_payload_size([&](JobId job) {
    return there.contains(job.value) ? std::optional<uint64_t>(10) : std::nullopt;
  });
  for (uint64_t job = 12; job >= 5; --job) {
    h.dispatch();
    for (const auto& lease : granted(h)) CHECK(there.contains(lease.job.value));
    there.insert(job);
  }
  h.dispatch();
  CHECK(granted(h).size() == 12);
}
