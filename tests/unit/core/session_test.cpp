// Who may open a session, how many there are, and that nobody takes over another's.
#include "tests/unit/core/acts.h"
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;

namespace {

// A HELLO or anything else, over a connection that has shown a key.
void receive(Harness& h, Route route, uint64_t session, protocol::FromClient message,
             KeyId key = {}) {
  act(h, [&](Core& core, Output& out) {
    core.receive(h.now, route, {{session}, message}, out, key);
  });
}

Uuid numbered(uint64_t n) {
  Uuid id = uuid(1);
  for (size_t i = 0; i < 8; ++i) id.bytes[i] = uint8_t(n >> (8 * i));
  return id;
}

std::string_view code_of_last(const Harness& h) {
  auto errors = h.all<protocol::ErrorReply>();
  return errors.empty() ? "" : errors.back().code;
}

}  // namespace

TEST_CASE("one connection has 64 sessions at most, and the others are not affected", "[core]") {
  Harness h;
  const Route crowded{Port::frontend, 1}, other{Port::frontend, 2};
  for (uint64_t n = 1; n <= 64; ++n) receive(h, crowded, n, protocol::Hello{numbered(n)});
  CHECK(h.all<protocol::Welcome>().size() == 64);
  h.clear();
  receive(h, crowded, 65, protocol::Hello{numbered(65)});
  CHECK(code_of_last(h) == "too_many_sessions");
  CHECK(h.core().sessions().size() == 64);
  receive(h, other, 66, protocol::Hello{numbered(66)});
  CHECK(h.all<protocol::Welcome>().size() == 1);
  SECTION("a session that is replaced needs no room") {
    receive(h, crowded, 67, protocol::Hello{numbered(64)});
    CHECK(h.all<protocol::Welcome>().size() == 2);
  }
  SECTION("a session that ends makes room") {
    receive(h, crowded, 64, protocol::Bye{});
    receive(h, crowded, 65, protocol::Hello{numbered(65)});
    CHECK(h.all<protocol::Welcome>().size() == 2);
  }
}

TEST_CASE("all connections together have 16,384 sessions at most", "[core]") {
  Harness h;
  for (uint64_t n = 0; n < 16384; ++n)
    receive(h, {Port::frontend, 1 + n / 64}, 1 + n, protocol::Hello{numbered(n)});
  REQUIRE(h.core().sessions().size() == 16384);
  h.clear();
  receive(h, {Port::backend, 9000}, 99999, protocol::Register{numbered(99999), "w", {"q"}, 1, {}});
  CHECK(code_of_last(h) == "too_many_sessions");
  act(h, [&](Core& core, Output& out) {
    CHECK(core.expel(h.now, {Port::frontend, 1}, out).size() == 64);
    CHECK(!core.has_session({Port::frontend, 1}));
  });
  receive(h, {Port::backend, 9000}, 99999, protocol::Register{numbered(99999), "w", {"q"}, 1, {}});
  CHECK(h.all<protocol::Welcome>().size() == 1);
}

TEST_CASE("a producer that is connected is not taken over by another connection", "[core]") {
  Harness h;
  bool is_connected = true;
  h.core().set_is_connected([&](Route route) { return route.id == 1 && is_connected; });
  Producer p(h, 1, uuid(1));
  p.submit({"a"});
  h.clear();
  const Route newcomer{Port::frontend, 2};
  receive(h, newcomer, 2, protocol::Hello{uuid(1)});
  CHECK(code_of_last(h) == "not_yours");
  h.clear();
  p.submit({"b"});
  CHECK(h.all<protocol::Confirm>().size() == 1);
  h.clear();
  SECTION("but when its connection is closed") { is_connected = false; }
  SECTION("but when it has missed a message") { h.core().unreachable(SessionId{1}); }
  SECTION("but when it is silent for heartbeat times liveness") { h.pass(Millis(3250)); }
  receive(h, newcomer, 2, protocol::Hello{uuid(1)});
  CHECK(h.all<protocol::Welcome>().size() == 1);
  CHECK(h.core().sessions().size() == 1);
}

TEST_CASE("a producer that is connected but silent is taken over after 1.5 heartbeats", "[core]") {
  Harness h;
  bool is_connected = true, can_wait = true;
  h.core().set_is_connected([&](Route route) { return route.id == 1 && is_connected; });
  h.core().set_can_wait([&](Route) { return can_wait; });
  Producer p(h, 1, uuid(1));
  std::optional<SessionId> contested;
  const auto hello = [&](uint64_t session, KeyId key = {}) {
    h.clear();
    act(h, [&](Core& core, Output& out) {
      core.receive(h.now, {Port::frontend, session}, {{session}, protocol::Hello{uuid(1)}}, out,
                   key);
      contested = out.contested;
    });
    return code_of_last(h);
  };
  const auto is_decided = [&](Millis later, bool all_read = true) {
    return h.core().is_decided({h.now.mono + later, h.now.wall}, {1}, {2}, all_read);
  };
  CHECK(hello(2) == "");
  REQUIRE(contested == SessionId{1});
  CHECK(h.all<protocol::Heartbeat>().size() == 1);
  CHECK(h.sent[0].session == SessionId{1});
  CHECK_FALSE(is_decided(Millis(1499)));
  CHECK_FALSE(is_decided(Millis(1500), false));

  SECTION("it stays silent") {
    CHECK(is_decided(Millis(1500)));
    CHECK(hello(2) == "");
    CHECK_FALSE(contested);
    CHECK(h.all<protocol::Welcome>().size() == 1);
    CHECK(h.core().sessions().size() == 1);
  }
  SECTION("it sends something") {
    p.submit({"a"});
    CHECK(is_decided(Millis(0), false));
    CHECK(hello(2) == "not_yours");
    CHECK_FALSE(contested);
    CHECK(h.core().sessions().contains({1}));
    CHECK(hello(3) == "");  // asks anew
    CHECK(contested == SessionId{1});
  }
  SECTION("its connection is closed") {
    is_connected = false;
    CHECK(is_decided(Millis(0), false));
    hello(2);
    CHECK(h.all<protocol::Welcome>().size() == 1);
  }
  SECTION("it ends") {
    h.receive(Port::frontend, 1, 1, protocol::Bye{});
    CHECK(is_decided(Millis(0), false));
    hello(2);
    CHECK(h.all<protocol::Welcome>().size() == 1);
  }
  SECTION("others do not wait as well") {
    CHECK(hello(3) == "not_yours");
    CHECK_FALSE(contested);
  }
  SECTION("nor does another key, whoever waits") {
    CHECK(hello(3, {5}) == "not_yours");
    h.core().withdraw({1}, {2});
    CHECK(hello(3, {5}) == "not_yours");
    CHECK_FALSE(contested);
  }
  SECTION("who comes again over another connection does not begin anew") {
    h.core().withdraw({1}, {2});
    h.now.mono += Millis(1000);
    CHECK(hello(3) == "");
    CHECK(contested == SessionId{1});
    CHECK(h.core().is_decided({h.now.mono + Millis(500), h.now.wall}, {1}, {3}, true));
  }
  SECTION("time for which the broker did not run does not count") {
    h.now.mono += Millis(1500);
    act(h, [&](Core& core, Output& out) { core.tick(h.now, out); });
    CHECK_FALSE(is_decided(Millis(0)));
    CHECK(is_decided(Millis(1250)));
  }
}

TEST_CASE("a HELLO that can't wait is answered at once", "[core]") {
  Harness h;
  h.core().set_is_connected([](Route) { return true; });
  h.core().set_can_wait([](Route) { return false; });
  Producer p(h, 1, uuid(1));
  h.clear();
  receive(h, {Port::frontend, 2}, 2, protocol::Hello{uuid(1)});
  CHECK(code_of_last(h) == "not_yours");
  CHECK(h.all<protocol::Heartbeat>().empty());
}

TEST_CASE("a forged REGISTER, DONE or HELLO takes nothing from its owner", "[core]") {
  Harness h;
  h.core().set_is_connected([](Route) { return true; });
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2));
  p.submit({"a"});
  h.dispatch();
  const auto leases = granted(h);
  REQUIRE(leases.size() == 1);
  const Route forger{Port::backend, 7};
  h.clear();
  receive(h, forger, 7, protocol::Register{uuid(2), "w", {"q"}, 1, leases});
  CHECK(code_of_last(h) == "not_yours");
  receive(h, forger, 2, protocol::Register{uuid(3), "w", {"q"}, 1, leases});
  CHECK(h.all<protocol::ErrorReply>().size() == 2);
  receive(h, forger, 2, protocol::Done{1, {{leases[0], false, {}}}});
  receive(h, {Port::frontend, 8}, 1, protocol::Hello{uuid(9)});
  CHECK(h.all<protocol::ErrorReply>().size() == 3);
  CHECK(h.all<protocol::Reregister>().size() == 1);
  CHECK(h.state().state_of({1}) == JobState::leased);
  w.done(leases);
  CHECK(h.state().state_of({1}) == JobState::done);
}

TEST_CASE("a session belongs to the key that opened it", "[core]") {
  Harness h;  // no connection counts as open: without keys the newer one would win
  const Route first{Port::frontend, 1}, second{Port::frontend, 2};
  receive(h, first, 1, protocol::Hello{uuid(1)}, {1});
  REQUIRE(h.all<protocol::Welcome>().size() == 1);
  receive(h, second, 2, protocol::Hello{uuid(1)}, {2});
  CHECK(code_of_last(h) == "not_yours");
  h.clear();
  receive(h, first, 1, protocol::Heartbeat{}, {2});  // its routing id has another owner now
  CHECK(h.all<protocol::Reregister>().size() == 1);
  receive(h, first, 1, protocol::Hello{uuid(1)}, {2});
  CHECK(code_of_last(h) == "not_yours");
  receive(h, second, 2, protocol::Hello{uuid(1)}, {1});
  CHECK(h.all<protocol::Welcome>().size() == 1);
}

TEST_CASE_METHOD(OneWorker,
                 "time for which the broker did not run is nobody's silence, and ends no lease",
                 "[core]") {
  const Lease lease = lease_one();
  const auto tick_late = [&](Millis late) {
    h.now.mono += late;
    h.now.wall += late;
    h.pass(Millis(0));
    act(h, [&](Core& core, Output& out) { core.tick(h.now, out); });
  };
  h.pass(Millis(250), {{Port::frontend, 1}, {Port::backend, 2}});
  tick_late(Millis(60'000));  // leases last 30 s
  CHECK(h.core().sessions().size() == 2);
  CHECK(h.state().lease_of({1})->epoch == lease.epoch);
  SECTION("what was sent meanwhile is read next") {
    h.receive(Port::backend, 2, 2, protocol::Extend{{lease}});
    h.pass(Millis(3000), {{Port::backend, 2}});
    CHECK(h.state().lease_of({1}));
    CHECK(h.state().find({1})->crashes == 0);
  }
  SECTION("nothing was") {
    h.pass(Millis(250));
    CHECK(h.state().find({1})->crashes == 1);
    h.pass(Millis(3000));
    CHECK(h.core().sessions().empty());
  }
}

TEST_CASE("one key leaves as many sessions to the others as it has", "[core]") {
  Harness h;
  const KeyId crowd{5}, other{6};
  for (uint64_t n = 0; n < 8192; ++n)
    receive(h, {Port::frontend, 1 + n / 64}, 1 + n, protocol::Hello{numbered(n)}, crowd);
  REQUIRE(h.core().sessions().size() == 8192);
  h.clear();
  receive(h, {Port::frontend, 9000}, 9999, protocol::Hello{numbered(9999)}, crowd);
  CHECK(code_of_last(h) == "too_many_sessions");
  receive(h, {Port::frontend, 9001}, 10000, protocol::Hello{numbered(10000)}, other);
  CHECK(h.all<protocol::Welcome>().size() == 1);
  receive(h, {Port::frontend, 1}, 1, protocol::Bye{}, crowd);
  receive(h, {Port::frontend, 2}, 65, protocol::Bye{}, crowd);
  receive(h, {Port::frontend, 9000}, 9999, protocol::Hello{numbered(9999)}, crowd);
  CHECK(h.all<protocol::Welcome>().size() == 2);
}
