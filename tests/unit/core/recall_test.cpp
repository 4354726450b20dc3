// What waits at one worker while threads of others are free is asked back.
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;
using protocol::Recall;

namespace {

// A worker with four threads holds seven jobs; another comes when they are there.
struct Hoard {
  Harness h;
  Producer p{h, 1, uuid(1)};
  Worker busy{h, 2, uuid(2), 10};
  std::vector<Lease> held;

  explicit Hoard(size_t jobs = 7) {
    p.submit(std::vector<std::string_view>(jobs, "x"));
    h.clear();
    h.dispatch();
    held = granted(h);
    REQUIRE(held.size() == std::min<size_t>(jobs, 10));
  }
  std::vector<Lease> recalled(Millis time = Millis(250)) {
    h.clear();
    h.pass(time, {{Port::backend, 2}, {Port::backend, 3}});
    std::vector<Lease> all;
    for (const auto& message : h.all<Recall>())
      all.insert(all.end(), message.jobs.begin(), message.jobs.end());
    return all;
  }
  std::vector<Lease> held_from(size_t first, size_t count) const {
    return {held.begin() + ptrdiff_t(first), held.begin() + ptrdiff_t(first + count)};
  }
  void release(std::vector<Lease> jobs) {
    h.receive(Port::backend, busy.session, busy.session,
              protocol::Release{++busy.batch, std::move(jobs)});
  }
};

}  // namespace

TEST_CASE("of what waits behind a worker's threads, as much is recalled as others could run",
          "[core][recall]") {
  Hoard it;
  Worker idle(it.h, 3, uuid(3), 2);
  CHECK(it.recalled() == it.held_from(4, 2));
  for (const Sent& sent : it.h.sent) {
    if (!std::holds_alternative<Recall>(sent.message)) continue;
    CHECK(sent.session == SessionId{2});
    CHECK_FALSE(sent.at_once);  // behind the LEASE, which waits for the disk
  }
  SECTION("each is asked for once, then the next ones") {
    CHECK(it.recalled() == it.held_from(6, 1));
    CHECK(it.recalled(Millis(2000)).empty());
  }
  SECTION("what comes back is not charged, and goes to the free threads, not to its old worker") {
    const auto before = *it.h.state().find(it.held[4].job);
    it.release(it.held_from(4, 2));
    it.h.clear();
    it.h.dispatch();
    CHECK(granted(it.h).size() == 2);
    for (const Lease& lease : it.held_from(4, 2)) {
      const Job& job = *it.h.state().find(lease.job);
      CHECK(job.crashes == before.crashes);
      CHECK(job.failures == before.failures);
      CHECK(it.h.state().worker_id(it.h.state().lease_of(lease.job)->worker) == uuid(3));
    }
    CHECK(it.recalled().empty());  // no thread is free
  }
  SECTION("a worker that is not asked twice may have missed it: it comes again, and is") {
    it.busy.register_again(4, it.held);
    it.h.receive(Port::backend, 4, 4, protocol::Credit{10});
    it.h.clear();
    it.h.pass(Millis(500), {{Port::backend, 3}, {Port::backend, 4}});
    std::vector<Lease> again;
    for (const auto& message : it.h.all<Recall>())
      again.insert(again.end(), message.jobs.begin(), message.jobs.end());
    CHECK(again == it.held_from(4, 3));
  }
}

TEST_CASE(
    "a worker with a free thread gets a job before one that is fuller by no part of its credit",
    "[core][recall]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  // Both would have all of their credit in use with one job more.
  Worker busy(h, 2, uuid(2), 5);
  p.submit(std::vector<std::string_view>(4, "x"));
  h.dispatch();
  Worker idle(h, 3, uuid(3), 1);
  p.submit({"y"});
  h.clear();
  h.dispatch();
  const auto leases = granted(h);
  REQUIRE(leases.size() == 1);
  CHECK(h.state().worker_id(h.state().lease_of(leases[0].job)->worker) == uuid(3));
}

TEST_CASE("nothing is recalled", "[core][recall]") {
  SECTION("while nobody else is there") {
    Hoard it;
    CHECK(it.recalled(Millis(1000)).empty());
  }
  SECTION("from a worker that has no more than its threads run") {
    Hoard it(4);
    Worker idle(it.h, 3, uuid(3), 2);
    CHECK(it.recalled(Millis(1000)).empty());
  }
  SECTION("for a worker that takes no jobs") {
    Hoard it;
    Worker draining(it.h, 3, uuid(3), 0);
    CHECK(it.recalled(Millis(1000)).empty());
  }
  SECTION("for one that takes others") {
    Hoard it;
    it.h.receive(Port::backend, 3, 3, protocol::Register{uuid(3), "w", {"other"}, 4, {}});
    it.h.receive(Port::backend, 3, 3, protocol::Credit{4});
    CHECK(it.recalled(Millis(1000)).empty());
  }
  SECTION("of a queue that is paused") {
    Hoard it;
    Worker idle(it.h, 3, uuid(3), 2);
    Output out;
    it.h.core().set_queue(it.h.now, "q", {.paused = true}, out);
    it.h.absorb(out);
    CHECK(it.recalled(Millis(1000)).empty());
  }
  SECTION("while the broker stops") {
    Hoard it;
    Worker idle(it.h, 3, uuid(3), 2);
    it.h.core().drain();
    CHECK(it.recalled(Millis(1000)).empty());
  }
  SECTION("that was leased a moment ago") {
    Hoard it;
    Worker idle(it.h, 3, uuid(3), 2);
    it.h.clear();
    it.h.now.mono += Millis(50);
    Output out;
    it.h.core().tick(it.h.now, out);
    it.h.absorb(out);
    CHECK(it.h.all<Recall>().empty());
  }
  SECTION("from a worker that can't be reached") {
    Hoard it;
    Worker idle(it.h, 3, uuid(3), 2);
    it.h.core().unreachable(SessionId{2});
    it.h.clear();
    it.h.pass(Millis(500), {{Port::backend, 3}});
    CHECK(it.h.all<Recall>().empty());
  }
}

TEST_CASE("a RECALL names no more jobs than a message may, and the rest follows",
          "[core][recall]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  Worker busy(h, 2, uuid(2), 6000);
  p.submit(std::vector<std::string_view>(3000, "x"));
  p.submit(std::vector<std::string_view>(3000, "x"));
  h.dispatch();
  REQUIRE(h.state().leased_jobs() == 6000);
  h.receive(Port::backend, 3, 3, protocol::Register{uuid(3), "w", {"q"}, 10'000, {}});
  h.receive(Port::backend, 3, 3, protocol::Credit{10'000});
  h.clear();
  h.pass(Millis(500), {{Port::backend, 2}, {Port::backend, 3}});
  const auto recalls = h.all<Recall>();
  REQUIRE(recalls.size() == 2);
  CHECK(recalls[0].jobs.size() == protocol::kMaxJobsPerMessage);
  CHECK(recalls[0].jobs.size() + recalls[1].jobs.size() == 5996);
}

TEST_CASE("the broker wakes to look whether jobs wait in vain", "[core][recall]") {
  Hoard it;
  Worker idle(it.h, 3, uuid(3), 2);
  it.h.pass(Millis(250), {{Port::backend, 2}, {Port::backend, 3}});
  CHECK(it.h.core().wake_at(it.h.now) <= it.h.now.mono + Millis(101));
}
