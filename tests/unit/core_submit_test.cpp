#include "tests/unit/core_harness.h"

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
