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
