// What one producer may take of what there is for all.
#include "tests/unit/core/acts.h"
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;

namespace {

std::vector<std::string_view> jobs(size_t count) {
  return std::vector<std::string_view>(count, "x");
}

uint64_t confirmed(const Harness& h) {
  uint64_t count = 0;
  for (const auto& confirm : h.all<protocol::Confirm>())
    for (const auto& range : confirm.ranges) count += range.count;
  return count;
}

std::vector<JobRange> all_jobs(const Harness& h) { return {{{1}, h.state().next_job().value - 1}}; }

}  // namespace

TEST_CASE("a producer that fills the broker leaves a reserve to the others", "[core][quota]") {
  Settings settings;
  settings.max_queued = 1000;
  Harness h(settings);
  Producer hoarder(h, 1, uuid(1)), other(h, 2, uuid(2)), third(h, 3, uuid(3));
  hoarder.submit(jobs(1000));
  h.clear();
  hoarder.submit(jobs(1));
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "queue_full");

  h.clear();
  other.submit(jobs(100));
  CHECK(confirmed(h) == 34);  // a third of 100: as much again is left to the next, and to itself
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "queue_full");
  h.clear();
  third.submit(jobs(100));
  CHECK(confirmed(h) == 22);

  h.restart();
  h.clear();
  hoarder.hello();
  hoarder.submit(jobs(1));
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "queue_full");
  h.clear();
  third.hello();
  third.submit(jobs(1));
  CHECK(h.only<protocol::Reject>().ranges.size() == 1);
  Producer fourth(h, 4, uuid(4));
  h.clear();
  fourth.submit(jobs(1));
  CHECK(confirmed(h) == 1);
}

TEST_CASE("memory has a reserve too", "[core][quota]") {
  Settings settings;
  settings.max_memory = 500'000;
  Harness h(settings);
  Producer hoarder(h, 1, uuid(1)), other(h, 2, uuid(2));
  for (int i = 0; i < 400; ++i) hoarder.submit(jobs(100));
  h.clear();
  hoarder.submit(jobs(1));
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "memory_full");
  h.clear();
  other.submit(jobs(1));
  CHECK(confirmed(h) == 1);
  for (int i = 0; i < 3000; ++i) other.submit(jobs(10));
  CHECK(h.state().memory_bytes() <= 550'000);
}

TEST_CASE("unfinished jobs are counted for each producer, wherever they are", "[core][quota]") {
  Settings settings;
  settings.max_attempts = 1;
  Harness h(settings);
  Producer a(h, 1, uuid(1)), b(h, 2, uuid(2));
  auto live = [&](uint8_t n) { return h.state().producers().live_of(uuid(n)); };
  a.submit(jobs(4));
  b.submit(jobs(2));
  protocol::SubmitOptions later;
  later.delay = Millis(1000);
  b.submit(jobs(1), later);
  CHECK(live(1) == 4);
  CHECK(live(2) == 3);

  Worker w(h, 9, uuid(9), 2);
  h.dispatch();
  const auto leases = granted(h);
  REQUIRE(leases.size() == 2);
  w.done({leases[0]});
  w.fail(leases[1]);  // dead: it waits for people, and takes none of its producer's share
  CHECK(live(1) == 2);
  CHECK(h.bulk({BulkKind::retry, "", {{}, "q", "", Millis(0)}}) == 1);
  CHECK(live(1) == 3);

  h.relocate_all();
  CHECK(h.describe_from_relocated() == h.state().describe());
  h.restart();
  CHECK(live(1) == 3);
  CHECK(live(2) == 3);

  a.hello();
  h.receive(Port::frontend, 1, 1, protocol::Bye{});
  CHECK(live(1) == 0);
  CHECK(h.state().producers().live_of_forgotten() == 3);
  const auto largest = h.state().producers().largest(10);
  REQUIRE(largest.size() == 1);
  CHECK(largest[0].producer == uuid(2));
  CHECK(largest[0].live == 3);
  Output out;
  h.core().cancel(h.now, all_jobs(h), out);
  h.absorb(out);
  CHECK(h.state().producers().live_of_forgotten() == 0);
  CHECK(h.state().producers().largest(10).empty());
}

TEST_CASE("--max-queued-per-producer holds for each producer", "[core][quota]") {
  Settings settings;
  settings.max_queued_per_producer = 10;
  Harness h(settings);
  Producer a(h, 1, uuid(1)), b(h, 2, uuid(2));
  h.clear();
  a.submit(jobs(12));
  CHECK(confirmed(h) == 10);
  const auto range = h.only<protocol::Reject>().ranges[0];
  CHECK(range.first == Seq{11});
  CHECK(range.count == 2);
  CHECK(range.reason == "quota");
  CHECK(range.retry_after > Millis(0));
  CHECK(range.message.find("--max-queued-per-producer") != std::string::npos);
  h.clear();
  b.submit(jobs(1));
  CHECK(confirmed(h) == 1);
}

TEST_CASE("--submit-rate-per-producer lets a second's jobs through at once", "[core][quota]") {
  Settings settings;
  settings.submit_rate_per_producer = 100;
  Harness h(settings);
  Producer a(h, 1, uuid(1));
  h.clear();
  a.submit(jobs(150));
  CHECK(confirmed(h) == 100);
  const auto range = h.only<protocol::Reject>().ranges[0];
  CHECK(range.reason == "quota");
  CHECK(range.retry_after >= Millis(500));
  CHECK(range.retry_after <= Millis(510));
  h.pass(Millis(500));
  h.clear();
  a.submit(jobs(80));
  CHECK(confirmed(h) == 50);
  h.pass(Millis(5000), {{Port::frontend, 1}});
  h.clear();
  a.submit(jobs(150));
  CHECK(confirmed(h) == 100);
}

TEST_CASE("all producers that speak under one key share its quota", "[core][quota]") {
  Settings settings;
  settings.max_queued_per_producer = 10;
  Harness h(settings);
  const KeyId mine{5}, theirs{6};
  Producer first(h, 1, uuid(1), mine);
  first.submit(jobs(6));
  Producer second(h, 2, uuid(2), mine);
  h.clear();
  second.submit(jobs(6));
  CHECK(confirmed(h) == 4);
  const auto refused = h.only<protocol::Reject>().ranges[0];
  CHECK(refused.reason == "quota");
  CHECK(refused.message.find("key has 10") != std::string::npos);
  Producer other(h, 3, uuid(3), theirs);
  h.clear();
  other.submit(jobs(10));
  CHECK(confirmed(h) == 10);

  SECTION("jobs that end make room again") {
    act(h, [&](Core& core, Output& out) { core.cancel(h.now, {{{1}, 6}}, out); });
    h.clear();
    second.submit(jobs(7));
    CHECK(confirmed(h) == 6);
  }
  SECTION("a BYE leaves its jobs with the key, until they end") {
    h.receive(Port::frontend, 1, 1, protocol::Bye{}, mine);
    h.clear();
    second.submit(jobs(1));
    CHECK(h.only<protocol::Reject>().ranges[0].reason == "quota");
    act(h, [&](Core& core, Output& out) { core.cancel(h.now, {{{1}, 6}}, out); });
    CHECK(h.state().producers().live_of(mine) == 4);
    CHECK(h.state().producers().live_of_forgotten() == 0);
  }
  SECTION("after a restart they count once their producers have come back") {
    h.restart();
    Producer third(h, 4, uuid(4), mine);
    h.clear();
    third.submit(jobs(1));
    CHECK(confirmed(h) == 1);
    first.hello();
    second.hello();
    h.clear();
    third.submit(jobs(1));
    CHECK(h.only<protocol::Reject>().ranges[0].reason == "quota");
  }
  SECTION("a producer that comes under another key takes its jobs along") {
    act(h, [&](Core& core, Output& out) { core.expel(h.now, {Port::frontend, 2}, out); });
    Producer moved(h, 5, uuid(2), theirs);
    CHECK(h.state().producers().live_of(mine) == 6);
    CHECK(h.state().producers().live_of(theirs) == 14);
  }
}

TEST_CASE("a connection that names one producer after the other submits no faster",
          "[core][quota]") {
  Settings settings;
  settings.submit_rate_per_producer = 10;
  Harness h(settings);
  Producer first(h, 1, uuid(1), {}, 1);
  first.submit(jobs(10));
  Producer second(h, 2, uuid(2), {}, 1);
  h.clear();
  second.submit(jobs(1));
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "quota");
  Producer elsewhere(h, 3, uuid(3), {}, 2);
  h.clear();
  elsewhere.submit(jobs(10));
  CHECK(confirmed(h) == 10);
  SECTION("nor does a producer that connects anew") {
    h.receive(Port::frontend, 1, 1, protocol::Bye{});
    Producer again(h, 4, uuid(1), {}, 3);
    h.clear();
    again.next = first.next;
    again.submit(jobs(1));
    CHECK(h.only<protocol::Reject>().ranges[0].reason == "quota");
  }
}

TEST_CASE("one key's connections submit no faster than one of them", "[core][quota]") {
  Settings settings;
  settings.submit_rate_per_producer = 10;
  Harness h(settings);
  Producer first(h, 1, uuid(1), {5});
  first.submit(jobs(10));
  Producer second(h, 2, uuid(2), {5});
  h.clear();
  second.submit(jobs(1));
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "quota");
}

TEST_CASE("new queues are counted for the key or the connection, whatever producer it names",
          "[core][quota]") {
  Settings settings;
  settings.max_queues = 8;
  Harness h(settings);
  const KeyId key = GENERATE(KeyId{}, KeyId{5});
  auto make = [&](uint64_t n, uint64_t route, KeyId k) {  // each with a producer of its own
    Producer producer(h, n, uuid(uint8_t(n)), k, route);
    h.clear();
    producer.submit(jobs(1), {}, "q" + std::to_string(n));
    return confirmed(h) == 1;
  };
  for (uint64_t n = 1; n <= 4; ++n) CHECK(make(n, key == KeyId{} ? 1 : n, key));
  CHECK_FALSE(make(5, key == KeyId{} ? 1 : 5, key));
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "too_many_queues");
  CHECK(make(6, 60, key == KeyId{} ? key : KeyId{6}));
}
