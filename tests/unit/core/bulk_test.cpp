// Operations that concern many jobs go in slices, beside everything else.
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;

namespace {

Settings slices_of(uint64_t jobs) {
  Settings settings;
  settings.bulk_slice = jobs;
  settings.max_attempts = 1;
  return settings;
}

std::vector<std::string_view> jobs(size_t count) {
  return std::vector<std::string_view>(count, "x");
}

uint64_t start(Harness& h, BulkRequest request) {
  const BulkOperation* operation = h.core().start(h.now, std::move(request));
  REQUIRE(operation);
  return operation->number;
}

void work(Harness& h) {
  Output out;
  h.core().advance_operations(h.now, out);
  h.absorb(out);
}

const BulkOperation& shown(const Harness& h, uint64_t number) {
  const auto* operation = const_cast<Harness&>(h).core().operations().find(number);
  REQUIRE(operation);
  return *operation;
}

void lease_and_fail(Harness& h, Worker& w) {
  h.clear();
  h.dispatch();
  for (Lease lease : granted(h)) w.fail(lease);
}

}  // namespace

TEST_CASE("a purge goes in slices and says how far it is", "[core][bulk]") {
  Harness h(slices_of(10));
  Producer p(h, 1, uuid(1));
  p.submit(jobs(25));
  const uint64_t number = start(h, {BulkKind::purge, "q", {}});
  CHECK(shown(h, number).total == 25);
  CHECK(h.state().ready_jobs() == 25);
  work(h);
  CHECK(h.state().ready_jobs() == 15);
  CHECK(shown(h, number).changed == 10);
  CHECK_FALSE(shown(h, number).done);
  work(h);
  work(h);
  CHECK(shown(h, number).changed == 25);
  CHECK(shown(h, number).done);
  CHECK(h.core().operations().pending() == 0);
}

TEST_CASE("a purge leaves what came after it was asked for, and other queues", "[core][bulk]") {
  Harness h(slices_of(2));
  Producer p(h, 1, uuid(1));
  p.submit(jobs(3));
  p.submit(jobs(40), {}, "other");
  p.submit(jobs(3));
  const uint64_t number = start(h, {BulkKind::purge, "q", {}});
  work(h);
  p.submit(jobs(5));
  while (!shown(h, number).done) work(h);
  CHECK(shown(h, number).changed == 6);
  CHECK(h.state().ready_jobs() == 45);
}

TEST_CASE("what dies, or dies again, while the dead are retried or dropped is left",
          "[core][bulk]") {
  const auto kind = GENERATE(BulkKind::retry, BulkKind::drop);
  Harness h(slices_of(2));
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 100);
  p.submit(jobs(3));
  lease_and_fail(h, w);
  p.submit(jobs(3), {}, "late");
  p.submit(jobs(3));
  lease_and_fail(h, w);
  REQUIRE(h.state().dead().size() == 6);
  const uint64_t number = start(h, {kind, "", {}});
  work(h);
  CHECK(shown(h, number).changed == 2);
  h.receive(Port::backend, 2, 2, protocol::Bye{});
  Worker late(h, 3, uuid(3), 0);
  h.receive(Port::backend, 3, 3, protocol::Register{uuid(3), "w", {"late", "q"}, 4, {}});
  h.receive(Port::backend, 3, 3, protocol::Credit{100});
  lease_and_fail(h, late);  // jobs 4 to 6, and of a retry 1 and 2 once more
  const uint64_t died = h.state().dead().size();
  CHECK(died == (kind == BulkKind::retry ? 9 : 7));
  while (!shown(h, number).done) work(h);
  CHECK(shown(h, number).changed == 6);
  CHECK(h.state().dead().size() == died - 4);
  CHECK(h.state().state_of({4}) == JobState::dead);
}

TEST_CASE("one of many dead jobs is found at once", "[core][bulk]") {
  Harness h(slices_of(4));
  Producer p(h, 1, uuid(1));
  Worker w(h, 2, uuid(2), 100);
  p.submit(jobs(60));
  lease_and_fail(h, w);
  const uint64_t number = start(h, {BulkKind::drop, "", {{{{50}, 1}}, "", "", Millis(0)}});
  CHECK(shown(h, number).total == 1);
  work(h);
  CHECK(shown(h, number).done);
  CHECK(shown(h, number).changed == 1);
  CHECK(h.state().state_of({50}) == JobState::cancelled);
}

TEST_CASE("pending operations take turns, and there is a limit to them", "[core][bulk]") {
  Harness h(slices_of(10));
  Producer p(h, 1, uuid(1));
  p.submit(jobs(1000));
  p.submit(jobs(1), {}, "r");
  const uint64_t large = start(h, {BulkKind::purge, "q", {}});
  const uint64_t small = start(h, {BulkKind::drop, "", {}});
  for (size_t i = 2; i < BulkOperations::kMaxPending; ++i) start(h, {BulkKind::drop, "", {}});
  CHECK(h.core().start(h.now, {BulkKind::drop, "", {}}) == nullptr);
  work(h);
  work(h);
  CHECK(shown(h, small).done);
  CHECK_FALSE(shown(h, large).done);
  CHECK(h.core().start(h.now, {BulkKind::drop, "", {}}) != nullptr);
}

TEST_CASE("a restart ends a pending operation; what it did stays done", "[core][bulk]") {
  Harness h(slices_of(10));
  Producer p(h, 1, uuid(1));
  p.submit(jobs(25));
  start(h, {BulkKind::purge, "q", {}});
  work(h);
  h.restart();
  CHECK(h.core().operations().pending() == 0);
  CHECK(h.state().ready_jobs() == 15);
  CHECK(h.state().state_of({10}) == JobState::cancelled);
}
