#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;

namespace {

protocol::Submit submit(uint64_t floor, uint64_t first, std::vector<std::string_view> payloads) {
  protocol::Submit message;
  message.floor = {floor};
  message.first = {first};
  message.queue = "q";
  message.payloads = std::move(payloads);
  return message;
}

}  // namespace

TEST_CASE("a submission is confirmed with consecutive job numbers, after its record", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.clear();
  p.submit({"a", "b", "c"});
  auto confirm = h.only<protocol::Confirm>();
  REQUIRE(confirm.ranges.size() == 1);
  CHECK(confirm.ranges[0].first == Seq{1});
  CHECK(confirm.ranges[0].count == 3);
  CHECK(confirm.ranges[0].first_job == JobId{1});
  CHECK(!confirm.ranges[0].known);
  CHECK(!h.sent[0].at_once);
  CHECK(h.state().ready_jobs() == 3);
}

TEST_CASE("a resend gets the same job, also after a restart, and partly known batches are split",
          "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a", "b"});
  h.restart();
  p.hello();
  h.clear();
  h.receive(Port::frontend, 1, 1, submit(1, 1, {"a", "b", "c"}));
  auto confirm = h.only<protocol::Confirm>();
  REQUIRE(confirm.ranges.size() == 2);
  CHECK(confirm.ranges[0].known);
  CHECK(confirm.ranges[0].first_job == JobId{1});
  CHECK(confirm.ranges[0].count == 2);
  CHECK(!confirm.ranges[1].known);
  CHECK(confirm.ranges[1].first_job == JobId{3});
  CHECK(h.state().ready_jobs() == 3);
}

TEST_CASE("a gap that is filled later makes new jobs between known ones", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.receive(Port::frontend, 1, 1, submit(1, 1, {"a"}));
  h.receive(Port::frontend, 1, 1, submit(1, 3, {"c"}));
  h.clear();
  h.receive(Port::frontend, 1, 1, submit(1, 1, {"a", "b", "c"}));
  auto confirm = h.only<protocol::Confirm>();
  REQUIRE(confirm.ranges.size() == 3);
  CHECK(confirm.ranges[0].known);
  CHECK(!confirm.ranges[1].known);
  CHECK(confirm.ranges[1].first_job == JobId{3});
  CHECK(confirm.ranges[2].known);
  CHECK(confirm.ranges[2].first_job == JobId{2});
}

TEST_CASE("below its own floor a producer is refused, and what it could resend is forgotten",
          "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.receive(Port::frontend, 1, 1, submit(1, 1, {"a", "b"}));
  h.receive(Port::frontend, 1, 1, submit(3, 3, {"c"}));
  CHECK(h.state().producers().all()[0].known.size() == 1);
  CHECK(h.state().producers().all()[0].known[0].first == Seq{3});
  h.clear();
  h.receive(Port::frontend, 1, 1, submit(3, 2, {"b"}));
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "below_floor");
  CHECK(h.state().ready_jobs() == 3);

  // The message's own floor counts too, or the job would be forgotten as soon as it was made.
  h.clear();
  h.receive(Port::frontend, 1, 1, submit(6, 5, {"d", "e"}));
  auto rejected = h.only<protocol::Reject>().ranges;
  REQUIRE(rejected.size() == 1);
  CHECK(rejected[0].first == Seq{5});
  CHECK(rejected[0].count == 1);
  CHECK(h.only<protocol::Confirm>().ranges[0].first == Seq{6});
}

TEST_CASE("what can't be taken is rejected with its reason, and the rest is taken", "[core]") {
  Settings settings;
  settings.max_job_size = 4;
  settings.max_queued = 3;
  Harness h(settings);
  Producer p(h, 1, uuid(1));
  h.clear();
  p.submit({"a", "12345", "b"});
  auto reject = h.only<protocol::Reject>();
  REQUIRE(reject.ranges.size() == 1);
  CHECK(reject.ranges[0].first == Seq{2});
  CHECK(reject.ranges[0].reason == "too_large");
  CHECK(reject.ranges[0].retry_after == Millis(0));
  CHECK(h.only<protocol::Confirm>().ranges.size() == 2);
  h.clear();
  p.submit({"c", "d", "e"});
  CHECK(h.only<protocol::Confirm>().ranges[0].count == 1);
  CHECK(h.only<protocol::Reject>().ranges[0].count == 2);
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "queue_full");
  CHECK(h.only<protocol::Reject>().ranges[0].retry_after > Millis(0));
  CHECK(h.state().ready_jobs() == 3);
}

TEST_CASE("a full disk and a stopping broker refuse new jobs and still confirm known ones",
          "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a"});
  h.core().set_disk_full(true);
  h.clear();
  h.receive(Port::frontend, 1, 1, submit(1, 1, {"a", "b"}));
  CHECK(h.only<protocol::Confirm>().ranges[0].known);
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "disk_full");
  h.core().set_disk_full(false);
  h.core().drain();
  h.clear();
  p.submit({"b"});
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "draining");
}

TEST_CASE("bad queue names and options are named in the REJECT", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.clear();
  p.submit({"a"}, {}, "no spaces");
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "bad_queue");
  h.clear();
  auto message = submit(1, 5, {"a"});
  protocol::Envelope<FromClient> envelope{{1}, message};
  auto& inside = std::get<protocol::Submit>(envelope.message);
  inside.refused_option = "colour";
  inside.option_known = false;
  Output out;
  h.core().receive(h.now, {Port::frontend, 1}, envelope, out);
  REQUIRE(out.sends.size() == 1);
  CHECK(std::get<protocol::Reject>(out.sends[0].message).ranges[0].reason == "unknown_option");
}

TEST_CASE("an unknown session, or a known one on another connection, is told to register again",
          "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.clear();
  h.receive(Port::frontend, 9, 77, submit(1, 1, {"a"}));
  CHECK(h.all<protocol::Reregister>().size() == 1);
  h.receive(Port::frontend, 9, 1, submit(1, 1, {"a"}));
  CHECK(h.all<protocol::Reregister>().size() == 2);
  CHECK(h.state().ready_jobs() == 0);
}

TEST_CASE("a producer's message on the workers' port is refused", "[core]") {
  Harness h;
  h.receive(Port::backend, 1, 1, protocol::Hello{uuid(1)});
  CHECK(h.only<protocol::ErrorReply>().code == "wrong_port");
  h.clear();
  h.receive(Port::frontend, 1, 1, protocol::Credit{1});
  CHECK(h.only<protocol::ErrorReply>().code == "wrong_port");
  CHECK_FALSE(h.only<protocol::ErrorReply>().about);
  h.clear();
  h.receive(Port::frontend, 1, 1, protocol::Done{6, {}});
  CHECK(h.only<protocol::ErrorReply>().about == protocol::About{protocol::About::Kind::batch, 6});
}

TEST_CASE("a draining broker knows which producers have not heard of it yet", "[core]") {
  Harness h;
  CHECK(h.core().every_producer_knows_draining());
  Worker w(h, 2, uuid(2));
  CHECK(h.core().every_producer_knows_draining());
  Producer p(h, 1, uuid(1));
  Producer other(h, 3, uuid(3));
  p.submit({"a"});
  h.core().drain();
  CHECK_FALSE(h.core().every_producer_knows_draining());
  p.submit({"b"});
  CHECK(h.only<protocol::Reject>().ranges[0].reason == "draining");
  CHECK_FALSE(h.core().every_producer_knows_draining());
  other.submit({"c"});
  CHECK(h.core().every_producer_knows_draining());
}

TEST_CASE("BYE forgets a producer's sequences, its jobs stay", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a"});
  h.receive(Port::frontend, 1, 1, protocol::Bye{});
  CHECK(h.state().producers().size() == 0);
  CHECK(h.state().ready_jobs() == 1);
  CHECK(h.core().sessions().empty());
}

TEST_CASE("whoever only asks is not remembered, and is told ends and results", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a"}, {Report::result});
  p.submit({"b"});
  Worker w(h, 2, uuid(2));
  h.dispatch();
  w.done({granted(h)[0]}, "A");
  w.fail(granted(h)[1], protocol::FailKind::permanent);
  h.dispatch();
  h.clear();
  h.receive(Port::frontend, 3, 3, protocol::Hello{uuid(3)});
  h.receive(Port::frontend, 3, 3, protocol::Query{{{{1}, 2}}});
  CHECK(h.state().producers().size() == 1);
  auto told = h.only<protocol::Outcome>().entries;
  REQUIRE(told.size() == 2);
  CHECK(told[0].result == "A");
  CHECK(told[1].state == JobState::dead);
  CHECK(told[1].error == "no luck");
  CHECK(h.sent.back().session == SessionId{3});
}

TEST_CASE("QUERY tells each job's state in runs", "[core]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"a", "b", "c"});
  Worker w(h, 2, uuid(2), 1);
  h.dispatch();
  h.clear();
  h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 5}}});
  auto states = h.only<protocol::States>();
  REQUIRE(states.ranges.size() == 3);
  CHECK(states.ranges[0].state == JobState::leased);
  CHECK(states.ranges[1].state == JobState::ready);
  CHECK(states.ranges[1].jobs == JobRange{{2}, 2});
  CHECK(states.ranges[2].state == JobState::unknown);
}

namespace {

// A producer with `count` done jobs whose results of `bytes` each are kept.
void keep_results(Harness& h, Producer& p, Worker& w, int count, size_t bytes) {
  const std::string result(bytes, 'r');
  h.receive(Port::backend, w.session, w.session, protocol::Credit{uint64_t(count)});
  for (int i = 0; i < count; ++i) p.submit({"a"}, {Report::result});
  h.dispatch();
  w.done(granted(h), result);
  h.dispatch();
  h.clear();
}

size_t result_bytes(const Harness& h) {
  size_t bytes = 0;
  for (const auto& outcome : h.all<protocol::Outcome>())
    for (const auto& entry : outcome.entries) bytes += entry.result.size();
  return bytes;
}

}  // namespace

TEST_CASE_METHOD(OneWorker,
                 "jobs that a QUERY names again and again are told once, in the order asked",
                 "[core][query]") {
  keep_results(h, p, w, 3, 1000);
  std::vector<JobRange> jobs(1000, JobRange{{2}, 2});
  jobs.push_back({{1}, 3});
  h.receive(Port::frontend, 1, 1, protocol::Query{jobs});
  auto states = h.only<protocol::States>();
  REQUIRE(states.ranges.size() == 2);
  CHECK(states.ranges[0].jobs == JobRange{{2}, 2});
  CHECK(states.ranges[1].jobs == JobRange{{1}, 1});
  CHECK(result_bytes(h) == 3000);
}

TEST_CASE("a QUERY costs what it finds, not what it names", "[core][query]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit(std::vector<std::string_view>(256, "a"));
  auto cost_of = [&](std::vector<JobRange> jobs) {
    const uint64_t before = h.core().work();
    h.receive(Port::frontend, 1, 1, protocol::Query{std::move(jobs)});
    return h.core().work() - before;
  };
  const uint64_t once = cost_of({{{1}, 256}});
  // 4,096 ranges must still be read; a million ids need not be looked up.
  CHECK(cost_of(std::vector<JobRange>(4096, JobRange{{1}, 256})) <= once + 4096);
  CHECK(cost_of({{{1}, 1 << 20}}) <= once + 2);  // most of them do not exist
  CHECK(h.all<protocol::States>().back().ranges.back().jobs == JobRange{{257}, (1 << 20) - 256});
}

TEST_CASE_METHOD(OneWorker,
                 "results are sent as their reader takes them, in order, one STATES for each QUERY",
                 "[core][query]") {
  keep_results(h, p, w, 64, 64 << 10);
  h.pass(Millis(250));
  h.clear();
  bool room = true;
  h.core().set_has_room([&](Route) { return room; });
  h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 64}}});
  h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 1}}});
  h.receive(Port::frontend, 1, 1, protocol::Query{});
  CHECK(h.all<protocol::States>().size() == 1);
  CHECK(result_bytes(h) <= 320 << 10);
  room = false;
  h.clear();
  for (int i = 0; i < 100; ++i) h.dispatch();
  CHECK(h.sent.empty());
  CHECK(h.core().wake_at(h.now) > h.now.mono);
  room = true;
  CHECK(h.core().wake_at(h.now) == h.now.mono);
  h.dispatch();
  CHECK(result_bytes(h) <= 320 << 10);
  for (int i = 0; i < 100; ++i) h.dispatch();
  CHECK(result_bytes(h) > 3 << 20);
  auto states = h.all<protocol::States>();
  REQUIRE(states.size() == 2);
  CHECK(states[0].ranges[0].jobs == JobRange{{1}, 1});
  CHECK(states[1].ranges.empty());
  REQUIRE(std::holds_alternative<protocol::States>(h.sent.back().message));
  // The result that the second one asks for comes between the two.
  REQUIRE(std::holds_alternative<protocol::Outcome>(h.sent[h.sent.size() - 2].message));
  CHECK(h.core().wake_at(h.now) > h.now.mono);
}

TEST_CASE("a long QUERY does not keep a short one of another session waiting", "[core][query]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  for (int i = 0; i < 50; ++i) p.submit(std::vector<std::string_view>(4096, "a"));
  for (uint64_t s = 2; s < 12; ++s) Producer other(h, s, uuid(uint8_t(s)));
  h.clear();
  for (uint64_t s = 2; s < 12; ++s)
    h.receive(Port::frontend, s, s, protocol::Query{{{{1}, 1 << 20}}});
  h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 100}}});
  REQUIRE(h.sent.size() == 1);
  CHECK(h.sent[0].session == SessionId{1});
  uint64_t most = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t before = h.core().work();
    h.dispatch();
    most = std::max(most, h.core().work() - before);
  }
  CHECK(most <= 3 * 4096);
  CHECK(h.all<protocol::States>().size() == 11);
  for (const auto& states : h.all<protocol::States>())
    CHECK(states.ranges[0].jobs.first.value == 1);
}

TEST_CASE("a session may leave only so many questions open, and is told which limit it passed",
          "[core][query]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  h.core().set_has_room([](Route) { return false; });
  h.clear();
  for (size_t i = 0; i < protocol::kMaxPendingQueries; ++i)
    h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 1}}});
  CHECK(h.sent.empty());
  h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 1}}});
  auto error = h.only<protocol::ErrorReply>();
  CHECK(error.code == "too_many_queries");
  CHECK(error.message.find("256") != std::string::npos);
  h.receive(Port::frontend, 1, 1, protocol::Bye{});
  h.clear();
  Producer again(h, 1, uuid(1));
  h.core().set_has_room(nullptr);
  h.receive(Port::frontend, 1, 1, protocol::Query{{{{1}, 1}}});
  CHECK(h.all<protocol::States>().size() == 1);
}

TEST_CASE("a CANCEL of many jobs is done in slices, and answered when all are cancelled",
          "[core][cancel]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  for (int i = 0; i < 5; ++i) p.submit(std::vector<std::string_view>(4096, "a"));
  h.clear();
  h.receive(Port::frontend, 1, 1, protocol::Cancel{{{{1}, 20480}}});
  CHECK(h.state().live_jobs() == 16384);
  CHECK(h.all<protocol::States>().empty());
  for (int i = 0; i < 12; ++i) h.dispatch();
  CHECK(h.state().live_jobs() == 0);
  auto states = h.only<protocol::States>();
  REQUIRE(states.ranges.size() == 1);
  CHECK(states.ranges[0].jobs == JobRange{{1}, 20480});
  CHECK(states.ranges[0].state == JobState::cancelled);
}

TEST_CASE_METHOD(OneWorker, "COLLECTED of what is not kept writes nothing", "[core][results]") {
  keep_results(h, p, w, 3, 10);
  const size_t before = h.journal().size();
  h.receive(Port::frontend, 1, 1, protocol::Collected{{{{4}, 1 << 19}, {{4}, 1 << 19}}});
  CHECK(h.journal().size() == before);
  h.receive(Port::frontend, 1, 1, protocol::Collected{{{{2}, 1 << 19}, {{1}, 2}}});
  CHECK(h.journal().size() == before + 1);
  CHECK(!h.state().result_of({1}));
  CHECK(!h.state().result_of({3}));
}

TEST_CASE("sequences below the floor are refused in one range", "[core][submit]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.next = 5000;
  p.submit({"a"});
  h.clear();
  p.next = 1000;
  protocol::Submit old;
  old.floor = {900};
  old.first = {1000};
  old.queue = "q";
  old.payloads.assign(4096, "x");
  h.receive(Port::frontend, 1, 1, old);
  auto reject = h.only<protocol::Reject>();
  REQUIRE(reject.ranges.size() == 1);
  CHECK(reject.ranges[0].reason == "below_floor");
  CHECK(reject.ranges[0].first == Seq{1000});
  CHECK(reject.ranges[0].count == 4000);
}
