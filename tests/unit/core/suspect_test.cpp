// What a lost worker's jobs are charged, and how those that may have ended it are tried again.
#include <algorithm>
#include <set>

#include "tests/unit/core/acts.h"

using namespace millrace;
using namespace millrace::test;

namespace {

constexpr Millis kLost{3500};  // of silence

struct Scene {
  Harness h;
  Producer p;
  uint8_t workers = 1;

  explicit Scene(Settings settings = {}) : h(settings), p(h, 1, uuid(1)) {}

  void submit(size_t jobs, std::string_view queue = "q") {
    p.submit(std::vector<std::string_view>(jobs, "job"), {}, queue);
  }
  Worker worker(uint64_t credit, uint64_t threads) {
    ++workers;
    Worker w(h, workers, uuid(workers), 0);
    h.receive(Port::backend, w.session, w.session, protocol::Credit{credit, threads});
    h.clear();
    return w;
  }
  std::vector<Lease> dispatch() {
    h.clear();
    h.dispatch();
    return granted(h);
  }
  std::vector<uint64_t> charged() const {
    std::vector<uint64_t> jobs;
    h.state().visit_jobs({1}, [&](JobId id, const Job& job) {
      if (job.crashes > 0) jobs.push_back(id.value);
      return true;
    });
    return jobs;
  }
  // So many jobs, each of which was running when its worker vanished.
  void make_suspects(size_t jobs) {
    submit(jobs);
    worker(jobs, jobs);
    REQUIRE(dispatch().size() == jobs);
    h.pass(kLost, {{Port::frontend, 1}});
    REQUIRE(charged().size() == jobs);
  }
};

}  // namespace

TEST_CASE("of a lost worker's jobs only those that it may have started are charged",
          "[core][suspects]") {
  Scene scene;
  scene.submit(50);
  scene.worker(50, 4);
  REQUIRE(scene.dispatch().size() == 50);
  scene.h.pass(kLost);
  CHECK(scene.charged() == std::vector<uint64_t>{1, 2, 3, 4});
  CHECK(scene.h.state().counts().crashes == 4);
  CHECK(scene.h.state().ready_jobs() == 50);
}

TEST_CASE("what has ended is not counted among what a lost worker may have started",
          "[core][suspects]") {
  Scene scene;
  scene.submit(10);
  Worker w = scene.worker(10, 2);
  const auto leases = scene.dispatch();
  w.done({leases[0], leases[2]});
  scene.h.pass(kLost);
  CHECK(scene.charged() == std::vector<uint64_t>{2, 4});
}

TEST_CASE("of leases that run out those that only waited are not charged", "[core][suspects]") {
  Settings settings;
  settings.lease = Millis(8000);
  Scene scene(settings);
  scene.submit(10);
  Worker w = scene.worker(10, 4);
  const auto leases = scene.dispatch();
  scene.h.pass(Millis(6000), {{Port::backend, w.session}});
  scene.h.receive(Port::backend, w.session, w.session, protocol::Extend{{leases[0]}});
  scene.h.pass(Millis(2500), {{Port::backend, w.session}});
  CHECK(scene.charged() == std::vector<uint64_t>{2, 3, 4});
  CHECK(scene.h.state().counts().crashes == 3);
}

TEST_CASE("of a worker that does not come back after a restart one job is charged",
          "[core][suspects][grace]") {
  Scene scene;
  scene.submit(10);
  scene.worker(10, 4);
  REQUIRE(scene.dispatch().size() == 10);
  scene.h.restart();
  scene.h.pass(Millis(14000));
  CHECK(scene.h.state().leased_jobs() == 0);
  CHECK(scene.charged() == std::vector<uint64_t>{1});
}

TEST_CASE("a worker has one suspect at a time, and prefetches nothing behind it",
          "[core][suspects]") {
  Scene scene;
  scene.make_suspects(2);
  Worker w = scene.worker(10, 4);
  scene.submit(5);
  auto leases = scene.dispatch();
  REQUIRE(leases.size() == 4);
  CHECK(leases[0].job == JobId{1});
  CHECK(leases[1].job == JobId{3});

  SECTION("its end lets the next one go, before other jobs") {
    w.done({leases[0], leases[1]});
    const auto next = scene.dispatch();
    REQUIRE(next.size() == 2);
    CHECK(next[0].job == JobId{2});
  }
  SECTION("so does some time, if a thread is free") {
    w.done({leases[1], leases[2], leases[3]});
    leases = scene.dispatch();
    REQUIRE(leases.size() == 2);
    w.done(leases);
    scene.h.clear();
    scene.h.pass(Millis(9750), {{Port::backend, w.session}, {Port::frontend, 1}});
    CHECK(granted(scene.h).empty());
    scene.h.pass(Millis(500), {{Port::backend, w.session}, {Port::frontend, 1}});
    REQUIRE(granted(scene.h).size() == 1);
    CHECK(granted(scene.h)[0].job == JobId{2});
  }
  SECTION("another worker takes the next one") {
    scene.worker(10, 1);
    leases = scene.dispatch();
    REQUIRE(leases.size() == 1);
    CHECK(leases[0].job == JobId{2});
  }
  SECTION("a worker that claims one is given no other") {
    w.register_again(100, leases);
    scene.h.receive(Port::backend, 100, 100, protocol::Credit{10, 8});
    leases = scene.dispatch();
    REQUIRE(leases.size() == 2);
    CHECK(leases[0].job == JobId{6});
  }
}

TEST_CASE("suspects that no worker may have now hold up no other job", "[core][suspects]") {
  Scene scene;
  scene.make_suspects(3);
  scene.worker(10, 8);
  scene.h.receive(Port::backend, 100, 100, protocol::Register{uuid(100), "w", {"q", "r"}, 8, {}});
  scene.h.receive(Port::backend, 100, 100, protocol::Credit{10});
  REQUIRE(scene.dispatch().size() == 2);
  scene.submit(2);
  scene.submit(2, "r");
  CHECK(scene.dispatch().size() == 4);
  CHECK(scene.h.state().find({3})->suspect);
  CHECK(scene.h.core().explain(scene.h.now, {3}).why.find("no other such job") !=
        std::string::npos);
}

TEST_CASE("a suspect waits for its queue's pause and rate as other jobs do", "[core][suspects]") {
  Scene scene;
  scene.make_suspects(2);
  set_queue(scene.h, settings_with([](auto& s) { s.paused = true; }));
  scene.worker(10, 8);
  scene.worker(10, 8);
  CHECK(scene.dispatch().empty());
  set_queue(scene.h, settings_with([](auto& s) { s.rate = 1; }));
  CHECK(scene.dispatch().size() == 1);
  CHECK(scene.dispatch().empty());
  scene.h.pass(Millis(1250), {{Port::backend, 3}, {Port::backend, 4}});
  CHECK(granted(scene.h).size() == 1);
}

TEST_CASE("a suspect that ends with a word of its worker is none any more", "[core][suspects]") {
  Scene scene;
  scene.make_suspects(1);
  Worker w = scene.worker(10, 4);
  w.fail(scene.dispatch()[0], protocol::FailKind::crash);  // its worker lives
  CHECK_FALSE(scene.h.state().find({1})->suspect);
  CHECK(scene.h.state().find({1})->crashes == 2);
}

TEST_CASE("suspects are the same after a restart, and when they are carried", "[core][suspects]") {
  Scene scene;
  scene.make_suspects(3);
  scene.worker(10, 4);
  REQUIRE(scene.dispatch().size() == 1);
  const std::string before = scene.h.state().describe();
  CHECK(before.find("suspects 2 2") != std::string::npos);
  scene.h.relocate_all();
  CHECK(scene.h.describe_from_relocated().find("suspects 2 2") != std::string::npos);
  scene.h.restart();
  CHECK(scene.h.state().suspects().size() == 1);
  act(scene.h, [&](Core& core, Output& out) { core.cancel(scene.h.now, {{{1}, 3}}, out); });
  CHECK(scene.h.state().suspects().empty());
}

// A handler's process runs its jobs in their order. The one that ends it takes with it what was
// done and not said yet, so that what is charged at first are innocents.
TEST_CASE("innocents do not die beside a job that ends its worker each time", "[core][suspects]") {
  const uint64_t poison = GENERATE(1, 2, 33, 60), threads = GENERATE(1, 4);
  Scene scene;
  scene.submit(200);
  int ended = 0;
  while (scene.h.state().state_of({poison}) != protocol::JobState::dead) {
    REQUIRE(++ended < 12);
    Worker w = scene.worker(50, threads);
    for (bool alive = true; alive;) {
      std::vector<Lease> leases = scene.dispatch();
      REQUIRE(!leases.empty());
      alive = std::none_of(leases.begin(), leases.end(),
                           [&](Lease lease) { return lease.job.value == poison; });
      if (alive) w.done(leases);
    }
    scene.h.pass(kLost, {{Port::frontend, 1}});
  }
  CHECK(scene.h.state().counts().dead == 1);
  scene.h.state().visit_jobs({1}, [&](JobId id, const Job& job) {
    CHECK((id.value == poison || job.crashes <= 2));
    return true;
  });
}
