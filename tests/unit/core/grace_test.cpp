// The grace window after a start: a worker that holds leases has one such window to come back,
// however often the broker starts meanwhile.
#include "tests/unit/core/acts.h"
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;

namespace {

constexpr Millis kWindow(13500);  // twice the liveness, and a client's longest pause

struct Scene {
  Harness h;
  Producer p{h, 1, uuid(1)};
  Worker w{h, 2, uuid(2)};

  Scene() {
    p.submit({"a"});
    h.dispatch();
    REQUIRE(h.state().leased_jobs() == 1);
  }
  // What it took until the lease went back, with a restart each `every`.
  Millis time_until_returned(Millis every) {
    Millis passed(0);
    while (h.state().leased_jobs() > 0 && passed < 20 * kWindow) {
      if (passed % every == Millis(0)) h.restart();
      h.pass(Millis(250));
      passed += Millis(250);
    }
    return passed;
  }
};

}  // namespace

TEST_CASE("restarts do not lengthen the grace window of a worker that is gone", "[core][grace]") {
  Scene scene;
  const Millis took = scene.time_until_returned(Millis(7000));
  CHECK(took <= kWindow + Millis(1000));
  CHECK(took >= kWindow);
  CHECK(scene.h.state().find({1})->crashes == 1);
  CHECK(scene.h.state().absent().empty());
}

TEST_CASE("a broker that is never there for a period takes nothing from anybody", "[core][grace]") {
  Scene scene;
  CHECK(scene.time_until_returned(Millis(500)) == 20 * kWindow);
  CHECK(scene.h.state().leased_jobs() == 1);
}

TEST_CASE("a worker that came back has a whole window after the next restart", "[core][grace]") {
  Scene scene;
  Harness& h = scene.h;
  const auto leases = granted(h);
  h.restart();
  h.pass(Millis(6000));
  CHECK(h.state().absent().size() == 1);
  scene.w.register_again(12, leases);
  CHECK(h.state().absent().empty());
  h.restart();
  h.pass(Millis(13000));
  CHECK(h.state().leased_jobs() == 1);
  h.pass(Millis(1000));
  CHECK(h.state().leased_jobs() == 0);
}

TEST_CASE("how long a worker was away outlives the segments that said so", "[core][grace]") {
  Scene scene;
  Harness& h = scene.h;
  h.restart();
  h.pass(Millis(6000));
  h.relocate_all();
  CHECK(h.describe_from_relocated() == h.state().describe());
  SECTION("a worker whose lease has ended otherwise is not counted any more") {
    act(h, [&](Core& core, Output& out) { core.cancel(h.now, {{{1}, 1}}, out); });
    h.pass(Millis(2000));
    CHECK(h.state().absent().empty());
  }
}
