// Which queues there are: made when they are named, removed when they have been empty for a while,
// shared fairly between those who make them; and subscriptions by prefix.
#include "tests/unit/core/acts.h"

using namespace millrace;
using namespace millrace::test;

namespace {

const std::vector<std::pair<Port, uint64_t>> kProducer{{Port::frontend, 1}};

void subscribe(Harness& h, uint64_t session, std::vector<std::string_view> patterns) {
  h.receive(Port::backend, session, session,
            protocol::Register{uuid(uint8_t(session)), "w", patterns, 1, {}});
  h.receive(Port::backend, session, session, protocol::Credit{100});
}

}  // namespace

TEST_CASE("a queue that has been empty for a while is removed, and its slot used again",
          "[core][queues]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a"}, {}, "q1");
  p.submit({"b"}, {}, "q2");
  set_queue(h, settings_with([](auto& s) { s.weight = 2; }), "kept");
  h.bulk({BulkKind::purge, "q1", {}});
  h.pass(Millis(62000), kProducer);
  CHECK_FALSE(h.state().has_queue("q1"));
  CHECK(h.state().has_queue("q2"));
  CHECK(h.state().has_queue("kept"));
  p.submit({"c"}, {}, "q3");
  CHECK(h.state().queues().size() == 3);
  subscribe(h, 2, {"q3"});
  h.clear();
  h.dispatch();
  CHECK(h.only<protocol::LeaseGrant>().queue == "q3");
}

TEST_CASE("one producer makes half of the queues at most, and others find room", "[core][queues]") {
  Settings settings;
  settings.max_queues = 8;
  Harness h(settings);
  Producer p(h, 1, uuid(1)), other(h, 3, uuid(3));
  for (const char* queue : {"a", "b", "c", "d"}) p.submit({"x"}, {}, queue);
  h.clear();
  p.submit({"x"}, {}, "e");
  auto reject = h.only<protocol::Reject>();
  CHECK(reject.ranges[0].reason == "too_many_queues");
  CHECK(reject.ranges[0].retry_after > Millis(0));
  h.clear();
  p.submit({"x"}, {}, "a");
  other.submit({"x"}, {}, "e");
  CHECK(h.all<protocol::Reject>().empty());
}

TEST_CASE("a worker subscribes to a prefix, and to queues that are made later", "[core][queues]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a"}, {}, "tenant.1");
  subscribe(h, 2, {"tenant.*", "tenant.1"});
  p.submit({"b"}, {}, "tenant.2");
  p.submit({"c"}, {}, "tenan");
  h.clear();
  h.dispatch();
  CHECK(granted(h) == std::vector<Lease>{{{1}, granted(h)[0].epoch}, {{2}, granted(h)[1].epoch}});
  subscribe(h, 3, {"*"});
  h.clear();
  h.dispatch();
  CHECK(h.only<protocol::LeaseGrant>().queue == "tenan");
}

TEST_CASE("a queue that comes late does not get what it did not ask for", "[core][queues]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  subscribe(h, 2, {"*"});
  uint64_t batch = 0;
  auto serve = [&](uint64_t rounds) {
    std::map<std::string, uint64_t> served;
    for (uint64_t i = 0; i < rounds; ++i) {
      h.clear();
      h.dispatch();
      protocol::Done done{++batch, {}};
      for (const auto& grant : h.all<protocol::LeaseGrant>()) {
        served[std::string(grant.queue)] += grant.jobs.size();
        for (const auto& entry : grant.jobs) done.jobs.push_back({entry.lease});
      }
      h.receive(Port::backend, 2, 2, done);
    }
    return served;
  };
  p.submit(std::vector<std::string_view>(3000, "x"), {}, "old");
  serve(20);
  p.submit(std::vector<std::string_view>(1500, "x"), {}, "new");
  auto served = serve(8);
  CHECK(served["old"] > 300);
  CHECK(served["new"] > 300);
}

TEST_CASE("the slots of queues that are gone are freed", "[core][queues]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a"}, {}, "first");
  for (int i = 0; i < 100; ++i) {
    const std::string queue = "q" + std::to_string(i);
    p.submit({"a"}, {}, queue);
    h.bulk({BulkKind::purge, queue, {}});
  }
  CHECK(h.state().queues().size() == 101);
  h.pass(Millis(62000), kProducer);
  CHECK(h.state().queues().size() == 1);
}

TEST_CASE("a new prefix finds the queues that there are, a part in each round", "[core][queues]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  for (int i = 0; i < 1500; ++i) p.submit({"a"}, {}, "q" + std::to_string(i));
  h.dispatch();
  h.pass(Millis(1), kProducer);
  h.receive(Port::backend, 2, 2, protocol::Register{uuid(2), "w", {"q*"}, 1, {}});
  h.receive(Port::backend, 2, 2, protocol::Credit{2000});
  size_t leased = 0, rounds = 0;
  while (leased < 1500) {
    REQUIRE(++rounds < 10);
    if (rounds > 1) REQUIRE(h.core().wake_at(h.now) == h.now.mono);
    h.clear();
    h.dispatch();
    leased += granted(h).size();
    REQUIRE(granted(h).size() <= 512);
  }
  CHECK(h.core().wake_at(h.now) > h.now.mono);
}

TEST_CASE("workers that subscribe to the same names make one audience", "[core][queues]") {
  Subscriptions subscriptions;
  const SessionId a{1}, b{2}, c{3};
  for (SessionId session : {a, b})
    for (const char* name : {"x", "y"}) CHECK(subscriptions.add(session, name));
  subscriptions.add(c, "z");
  Subscriptions::Audience* x = subscriptions.match("x");
  CHECK(subscriptions.match("y") == x);
  CHECK(subscriptions.sessions_of(*x) == std::vector{a, b});
  subscriptions.add(c, "y");
  Subscriptions::Audience* y = subscriptions.match("y");
  CHECK(y != x);
  CHECK(subscriptions.sessions_of(*y) == std::vector{a, b, c});
  subscriptions.remove(c, "y");
  CHECK(subscriptions.match("y") == x);
  for (SessionId session : {a, b}) subscriptions.remove(session, "x");
  CHECK(subscriptions.match("x") == nullptr);
}

TEST_CASE("an audience has those of the name and of each prefix, each once", "[core][queues]") {
  Subscriptions subscriptions;
  const SessionId a{1}, b{2}, c{3};
  subscriptions.add(a, "*");
  subscriptions.add(b, "tenant.*");
  subscriptions.add(b, "tenant.7");
  Subscriptions::Audience* audience = subscriptions.match("tenant.7");
  CHECK(subscriptions.sessions_of(*audience) == std::vector{b, a});
  CHECK_FALSE(subscriptions.add(c, "tenant.*"));  // it was there before
  CHECK(subscriptions.sessions_of(*audience) == std::vector{b, a, c});
  CHECK_FALSE(subscriptions.remove(a, "*"));
  CHECK_FALSE(subscriptions.add(a, "*"));
  subscriptions.remove(a, "*");
  subscriptions.sweep();
  CHECK(subscriptions.add(a, "*"));
}

TEST_CASE("one worker takes half of the free subscriptions at most, and a few are its own",
          "[core][queues]") {
  Subscriptions subscriptions;
  CHECK(subscriptions.has_room(kMaxSubscriptions / 2 + kOwnSubscriptions));
  CHECK_FALSE(subscriptions.has_room(kMaxSubscriptions / 2 + kOwnSubscriptions + 1));
  while (subscriptions.has_room(kOwnSubscriptions + 1000))
    subscriptions.take_room(kOwnSubscriptions + 1000);
  CHECK(subscriptions.has_room(kOwnSubscriptions + 500));
  CHECK(subscriptions.has_room(kOwnSubscriptions));
  subscriptions.free_room(kOwnSubscriptions + 1000);
  CHECK(subscriptions.has_room(kOwnSubscriptions + 1000));
}
