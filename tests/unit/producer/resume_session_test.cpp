// What a session does for a producer that goes on where an earlier run of it stopped.
#include "producer/session/session.h"

#include <deque>

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::protocol;

namespace {

const Mono kNow = Mono() + std::chrono::hours(1);

struct Ends : Listener {
  struct End {
    uint64_t seq, count, job;
    JobState state;
    std::string result;
    bool operator==(const End&) const = default;
  };
  void ended(const Ended& e) override {
    all.push_back(
        {e.seqs.first.value, e.seqs.count, e.first_job.value, e.state, std::string(e.result)});
  }
  std::vector<End> all;
};

struct Run {
  Run() {
    Welcome welcome;
    welcome.broker = {1};
    welcome.window_jobs = welcome.window_bytes = 1000;
    session.welcomed(welcome);
  }
  std::vector<FromClient> flush() {
    ProducerSession::Frames frames;
    session.flush(kNow, {1}, &frames);
    std::vector<FromClient> messages;
    for (const std::string& frame : frames) {
      kept.push_back(frame);
      messages.push_back(std::get<0>(decode_from_client(kept.back())).message);
    }
    return messages;
  }
  void confirm(uint64_t seq, uint64_t job) {
    session.received(kNow, Confirm{"confirmed", {{{seq}, 1, {job}, false}}});
  }

  Ends ends;
  std::deque<std::string> kept;  // what the messages view
  ProducerSession session{{}, ends};
};

// (floor, first sequence, count) of a SUBMIT.
std::vector<uint64_t> submit_of(const FromClient& message) {
  const auto& submit = std::get<Submit>(message);
  return {submit.floor.value, submit.first.value, submit.payloads.size()};
}

}  // namespace

TEST_CASE("sequences that are skipped are never sent, and count as answered", "[producer]") {
  Run run;
  run.session.skip_to({5});
  CHECK(run.session.floor() == Seq{5});
  run.session.submit("q", {}, "five");
  run.session.skip_to({uint64_t{1} << 40});
  CHECK(run.session.submit("q", {}, "far") == Seq{uint64_t{1} << 40});
  auto messages = run.flush();
  REQUIRE(messages.size() == 2);
  CHECK(submit_of(messages[0]) == std::vector<uint64_t>{5, 5, 1});
  CHECK(submit_of(messages[1]) == std::vector<uint64_t>{5, uint64_t{1} << 40, 1});
  CHECK(run.session.unanswered() == 2);
  run.confirm(5, 1);
  CHECK(run.session.floor() == Seq{uint64_t{1} << 40});
  run.confirm(uint64_t{1} << 40, 2);
  CHECK(run.session.unanswered() == 0);
  CHECK(run.session.floor() == run.session.next_seq());
}

TEST_CASE("a gap behind what is answered before the rest is sent holds nothing up", "[producer]") {
  Run run;
  run.session.submit("q", {}, "one");
  REQUIRE(run.flush().size() == 1);
  run.session.skip_to({10});
  run.confirm(1, 1);
  CHECK(run.session.floor() == Seq{10});
  run.session.submit("q", {}, "ten");
  auto messages = run.flush();
  REQUIRE(messages.size() == 1);
  CHECK(submit_of(messages[0]) == std::vector<uint64_t>{10, 10, 1});
}

TEST_CASE("what was unanswered on both sides of a gap is sent again after a loss", "[producer]") {
  Run run;
  run.session.submit("q", {}, "one");
  run.session.skip_to({10});
  run.session.submit("q", {}, "ten");
  REQUIRE(run.flush().size() == 2);
  run.session.lost();
  Welcome welcome;
  welcome.broker = {1};
  welcome.window_jobs = welcome.window_bytes = 1000;
  run.session.welcomed(welcome);
  auto messages = run.flush();
  REQUIRE(messages.size() == 2);
  CHECK(submit_of(messages[0]) == std::vector<uint64_t>{1, 1, 1});
  CHECK(submit_of(messages[1]) == std::vector<uint64_t>{1, 10, 1});
}

TEST_CASE("jobs of an earlier run are asked for, and their ends told", "[producer]") {
  Run run;
  run.session.skip_to({4});
  run.session.follow({{2}, 2}, {70}, Report::result);
  CHECK(run.session.outstanding() == 2);
  auto messages = run.flush();
  REQUIRE(messages.size() == 1);
  CHECK(std::get<Query>(messages[0]).jobs == std::vector<JobRange>{{{70}, 2}});
  run.session.received(kNow, States{{{{{70}, 1}, JobState::done}, {{{71}, 1}, JobState::leased}}});
  run.session.received(kNow, Outcome{{{{{70}, 1}, JobState::done, 1, true, false, "r", ""}}});
  run.session.received(kNow, Outcome{{{{{71}, 1}, JobState::done, 1, true, false, "s", ""}}});
  CHECK(run.ends.all ==
        std::vector<Ends::End>{{2, 1, 70, JobState::done, "r"}, {3, 1, 71, JobState::done, "s"}});
  CHECK(run.session.outstanding() == 0);
}

TEST_CASE("cancelling asks for every job that has not ended, and tells how each ended",
          "[producer]") {
  Run run;
  SubmitOptions options;
  options.report = Report::outcome;
  for (int i = 0; i < 3; ++i) run.session.submit("q", options, "x");
  run.flush();
  run.session.received(kNow, Confirm{"confirmed", {{{1}, 3, {7}, false}}});
  run.session.received(kNow, Outcome{{{{{7}, 1}, JobState::done, 1, false, false, "", ""}}});
  run.session.cancel_outstanding();
  auto messages = run.flush();
  REQUIRE(messages.size() == 1);
  CHECK(std::get<Cancel>(messages[0]).jobs == std::vector<JobRange>{{{8}, 2}});
  SECTION("the answer is STATES") {
    run.session.received(kNow,
                         States{{{{{8}, 1}, JobState::done}, {{{9}, 1}, JobState::cancelled}}});
  }
  SECTION("an OUTCOME may come before") {
    run.session.received(kNow, Outcome{{{{{8}, 1}, JobState::done, 1, false, false, "", ""}}});
    run.session.received(kNow,
                         States{{{{{8}, 1}, JobState::done}, {{{9}, 1}, JobState::cancelled}}});
  }
  SECTION("and again after a loss of the connection") {
    run.session.lost();
    Welcome welcome;
    welcome.broker = {1};
    welcome.window_jobs = welcome.window_bytes = 1000;
    run.session.welcomed(welcome);
    auto again = run.flush();
    REQUIRE(again.size() == 1);
    CHECK(std::get<Cancel>(again[0]).jobs == std::vector<JobRange>{{{8}, 2}});
    run.session.received(kNow,
                         States{{{{{8}, 1}, JobState::done}, {{{9}, 1}, JobState::cancelled}}});
  }
  REQUIRE(run.ends.all.size() == 3);
  CHECK(run.ends.all[1] == Ends::End{2, 1, 8, JobState::done, ""});
  CHECK(run.ends.all[2] == Ends::End{3, 1, 9, JobState::cancelled, ""});
  CHECK(run.session.outstanding() == 0);
}

TEST_CASE("a result that is left with the broker is collected when its owner says so",
          "[producer]") {
  struct Later : Ends {
    bool collects(JobRange) override { return false; }
  } ends;
  ProducerSession session({}, ends);
  Welcome welcome;
  welcome.broker = {1};
  welcome.window_jobs = welcome.window_bytes = 1000;
  session.welcomed(welcome);
  session.follow({{1}, 1}, {7}, Report::result);
  ProducerSession::Frames frames;
  session.flush(kNow, {1}, &frames);
  session.received(kNow, States{{{{{7}, 1}, JobState::done}}});
  session.received(kNow, Outcome{{{{{7}, 1}, JobState::done, 1, true, false, "r", ""}}});
  REQUIRE(ends.all.size() == 1);
  session.flush(kNow, {1}, &frames);  // the job is asked for once more, in vain
  session.received(kNow, States{{{{{7}, 1}, JobState::done}}});
  frames.clear();
  session.flush(kNow, {1}, &frames);
  CHECK(frames.empty());
  session.collect({{7}, 1});
  session.flush(kNow, {1}, &frames);
  REQUIRE(frames.size() == 1);
  auto decoded = decode_from_client(frames[0]);
  CHECK(std::get<Collected>(std::get<0>(decoded).message).jobs == std::vector<JobRange>{{{7}, 1}});
}

TEST_CASE("a floor is never declared above what the owner may send again", "[producer]") {
  Run run;
  run.session.skip_to({5});
  run.session.submit("q", {}, "five");
  run.session.limit_floor({3});
  CHECK(submit_of(run.flush().at(0)) == std::vector<uint64_t>{3, 5, 1});
  run.session.limit_floor({UINT64_MAX});
  run.session.submit("q", {}, "six");
  CHECK(submit_of(run.flush().at(0)) == std::vector<uint64_t>{5, 6, 1});
}

TEST_CASE("what nobody is there to hear of is retried, what comes behind it is reported",
          "[producer]") {
  struct Rejections : Listener {
    void rejected(const Rejected& r) override { reported.push_back(r.seqs); }
    void postponed(const Rejected& r) override { waits.push_back(r.seqs); }
    std::vector<SeqRange> reported, waits;
  } heard;
  SessionConfig config;
  config.on_reject = OnReject::report;
  ProducerSession session(config, heard);
  Welcome welcome;
  welcome.broker = {1};
  welcome.window_jobs = welcome.window_bytes = 1000;
  session.welcomed(welcome);
  session.submit("q", {}, "one");
  session.submit("q", {}, "two");
  session.retry_before({3});
  session.submit("q", {}, "three");
  ProducerSession::Frames frames;
  session.flush(kNow, {1}, &frames);
  CHECK(frames.size() == 2);  // a batch is retried as a whole, or not at all
  session.received(kNow, Reject{{{{1}, 2, "queue_full", Millis(50), ""}}});
  session.received(kNow, Reject{{{{3}, 1, "queue_full", Millis(50), ""}}});
  CHECK(heard.waits == std::vector<SeqRange>{{{1}, 2}});
  CHECK(heard.reported == std::vector<SeqRange>{{{3}, 1}});
}

TEST_CASE("what has no answer can be had again, with its keys, and gaps are none of it",
          "[producer]") {
  Run run;
  SubmitOptions keyed;
  keyed.key = "order-1";
  run.session.submit("q", {}, "one");
  run.session.submit("q", {}, "two");
  run.session.skip_to({uint64_t{1} << 40});
  run.session.submit("other", keyed, "far");
  run.flush();
  run.confirm(1, 1);
  std::vector<std::string> seen;
  auto note = [&seen](Seq seq, std::string_view queue, const SubmitOptions& options,
                      std::string_view payload) {
    seen.push_back(std::to_string(seq.value) + " " + std::string(queue) + " " + options.key + " " +
                   std::string(payload));
  };
  run.session.each_unanswered({1}, note);
  CHECK(seen == std::vector<std::string>{"2 q  two", "1099511627776 other order-1 far"});
  seen.clear();
  run.session.each_unanswered({3}, note);
  CHECK(seen.size() == 1);
  CHECK(run.session.unanswered_bytes() == 6);

  CHECK(run.session.without_answer({{1}, 2}) == std::vector<SeqRange>{{{2}, 1}});
  const uint64_t far = uint64_t{1} << 40;
  CHECK(run.session.without_answer({{far}, 5}) == std::vector<SeqRange>{{{far}, 5}});
}
