#include "producer/runner/tickets.h"

#include <optional>

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;
using protocol::JobState;
using protocol::Report;

namespace {

const Mono kStart = Mono() + std::chrono::hours(1);
constexpr Millis kBucket = Tickets::kBucket;
constexpr BrokerId kBroker{0x3f9a1c07};

struct Desk {
  // The sequence is the token.
  void submit(uint64_t seq, Report report = Report::none, Mono answer_by = Mono::max(),
              Mono end_by = Mono::max()) {
    Submission submission;
    submission.token = {seq};
    submission.queue = "q";
    submission.options.report = report;
    submission.payload = "12345";
    submission.answer_by = answer_by;
    submission.end_by = end_by;
    tickets.add({seq}, submission);
  }
  void confirm(uint64_t seq, uint64_t count, uint64_t job, bool known = false,
               const char* durability = "confirmed") {
    tickets.confirmed({{{seq}, count}, kBroker, {job}, known, durability});
  }
  void end(uint64_t seq, uint64_t job, const char* result) {
    Ended ended{{{seq}, 1}, kBroker, {job}, JobState::done, 2, true, result, ""};
    tickets.ended(ended);
  }
  Event next() {
    if (events.empty()) events = tickets.take_events();
    REQUIRE_FALSE(events.empty());
    Event first = std::move(events.front());
    events.erase(events.begin());
    return first;
  }
  Answer answer(uint64_t token) {
    Event event = next();
    CHECK(event.token == Token{token});
    REQUIRE(std::holds_alternative<Answer>(event.what));
    return std::get<Answer>(event.what);
  }
  JobView view(uint64_t token) {
    Event event = next();
    CHECK(event.token == Token{token});
    REQUIRE(std::holds_alternative<JobView>(event.what));
    return std::get<JobView>(event.what);
  }
  bool silent() {
    if (events.empty()) events = tickets.take_events();
    return events.empty();
  }

  Tickets tickets;
  std::vector<Event> events;
};

}  // namespace

TEST_CASE("each submission of a range gets its own answer and job", "[tickets]") {
  Desk desk;
  for (uint64_t seq : {1, 2, 3}) desk.submit(seq);
  CHECK(desk.tickets.open_jobs() == 3);
  CHECK(desk.tickets.open_bytes() == 15);
  desk.confirm(1, 2, 40);
  for (uint64_t seq : {1, 2}) {
    Answer answer = desk.answer(seq);
    CHECK(answer.kind == Answer::Kind::confirmed);
    CHECK(answer.broker == kBroker);
    CHECK(answer.job == JobId{39 + seq});
  }
  CHECK(desk.silent());
  CHECK(desk.tickets.open_jobs() == 1);
  CHECK(desk.tickets.waiting() == 1);
}

TEST_CASE("a broker that does not sync gives buffered answers", "[tickets]") {
  Desk desk;
  desk.submit(1);
  desk.confirm(1, 1, 40, false, "buffered");
  CHECK(desk.answer(1).kind == Answer::Kind::buffered);
}

TEST_CASE("only a key makes a job known to its maker", "[tickets]") {
  Desk desk;
  desk.submit(1);
  desk.confirm(1, 1, 40, true);
  CHECK_FALSE(desk.answer(1).known);
  Submission keyed;
  keyed.token = {2};
  keyed.options.key = "k";
  desk.tickets.add({2}, keyed);
  desk.confirm(2, 1, 40, true);
  CHECK(desk.answer(2).known);
}

TEST_CASE("a rejection carries its reason and when to come again", "[tickets]") {
  Desk desk;
  desk.submit(1);
  desk.tickets.rejected({{{1}, 1}, "queue_full", Millis(700), "full"});
  Answer answer = desk.answer(1);
  CHECK(answer.kind == Answer::Kind::rejected);
  CHECK(answer.reason == "queue_full");
  CHECK(answer.retry_after == Millis(700));
  CHECK(desk.tickets.open_jobs() == 0);
}

TEST_CASE("after its deadline an answer is unknown, but its room is not free", "[tickets]") {
  Desk desk;
  desk.submit(1, Report::result, kStart);
  desk.submit(2, Report::none, kStart + Millis(50));
  CHECK(desk.tickets.wake_at() == kStart + kBucket);
  desk.tickets.expire(kStart - Millis(1));
  CHECK(desk.silent());
  desk.tickets.expire(kStart + kBucket);
  CHECK(desk.answer(1).kind == Answer::Kind::unknown);
  CHECK(desk.silent());
  CHECK(desk.tickets.open_jobs() == 2);
  CHECK(desk.tickets.wake_at() == kStart + Millis(50) + kBucket);
  desk.confirm(1, 2, 40);
  CHECK(desk.answer(2).accepted());
  CHECK(desk.silent());  // nobody waits for the first any more, nor for its end
  CHECK(desk.tickets.open_jobs() == 0);
  CHECK(desk.tickets.waiting() == 0);
  desk.end(1, 40, "late");
  CHECK(desk.silent());
}

TEST_CASE("the end of a job comes after its answer, and is collected", "[tickets]") {
  Desk desk;
  desk.submit(1, Report::result);
  desk.confirm(1, 1, 40);
  CHECK(desk.answer(1).accepted());
  CHECK(desk.tickets.waiting() == 1);
  desk.end(1, 40, "result");
  CHECK(desk.tickets.collects({{40}, 1}));
  JobView view = desk.view(1);
  CHECK(view.state == JobState::done);
  CHECK(view.attempts == 2);
  CHECK(view.has_result);
  CHECK(view.result == "result");
  CHECK(desk.tickets.waiting() == 0);
}

TEST_CASE("an end that nobody waits for any more is left with the broker", "[tickets]") {
  Desk desk;
  desk.submit(1, Report::result, Mono::max(), kStart);
  desk.confirm(1, 1, 40);
  CHECK(desk.answer(1).accepted());
  desk.tickets.expire(kStart + kBucket);
  CHECK(std::holds_alternative<Expired>(desk.next().what));
  desk.end(1, 40, "late");
  CHECK(desk.silent());
  CHECK_FALSE(desk.tickets.collects({{40}, 1}));
}

TEST_CASE("an answered submission does not expire with its old deadline", "[tickets]") {
  Desk desk;
  desk.submit(1, Report::result, kStart, kStart + Millis(500));
  desk.confirm(1, 1, 40);
  CHECK(desk.answer(1).accepted());
  desk.tickets.expire(kStart + kBucket);
  CHECK(desk.silent());
  CHECK(desk.tickets.waiting() == 1);
  desk.tickets.expire(kStart + Millis(500) + kBucket);
  CHECK(std::holds_alternative<Expired>(desk.next().what));
  CHECK(desk.tickets.wake_at() == Mono::max());
}

TEST_CASE("at the end all that waits is unknown or expired", "[tickets]") {
  Desk desk;
  desk.submit(1, Report::result);
  desk.submit(2);
  desk.confirm(1, 1, 40);
  desk.answer(1);
  desk.tickets.look_up({{9}, kBroker, {40}});
  desk.tickets.abandon();
  CHECK(std::holds_alternative<Expired>(desk.next().what));
  CHECK(desk.answer(2).kind == Answer::Kind::unknown);
  CHECK(desk.answer(9).kind == Answer::Kind::unknown);
  CHECK(desk.tickets.waiting() == 0);
}

TEST_CASE("a look-up of a live job is answered by its state", "[tickets]") {
  Desk desk;
  desk.tickets.look_up({{9}, kBroker, {40}});
  CHECK(desk.tickets.take_questions() == std::vector<JobId>{{40}});
  desk.tickets.told({{30}, 20}, JobState::leased);
  CHECK(desk.view(9).state == JobState::leased);
  CHECK(desk.tickets.take_questions().empty());
}

TEST_CASE("a look-up of a job that is done waits for what is kept of it", "[tickets]") {
  Desk desk;
  desk.tickets.look_up({{9}, kBroker, {40}});
  desk.tickets.take_questions();
  desk.tickets.told({{40}, 1}, JobState::done);
  CHECK(desk.silent());
  CHECK(desk.tickets.take_questions() == std::vector<JobId>{{40}});
  protocol::Outcome::Entry entry{{{40}, 1}, JobState::done, 3, true, false, "kept", ""};

  SECTION("the result comes") {
    desk.tickets.found(entry);
    JobView view = desk.view(9);
    CHECK(view.result == "kept");
    CHECK(view.job == JobId{40});
    CHECK(view.attempts == 3);
    desk.tickets.told({{40}, 1}, JobState::done);
    CHECK(desk.silent());
  }
  SECTION("no result is kept") {
    desk.tickets.told({{40}, 1}, JobState::done);
    JobView view = desk.view(9);
    CHECK(view.state == JobState::done);
    CHECK_FALSE(view.has_result);
  }
}

TEST_CASE("a look-up has a deadline", "[tickets]") {
  Desk desk;
  desk.tickets.look_up({{9}, kBroker, {40}, kStart});
  CHECK(desk.tickets.wake_at() == kStart);
  desk.tickets.expire(kStart);
  CHECK(desk.answer(9).kind == Answer::Kind::unknown);
}

TEST_CASE("look-ups of one job never ask twice in one QUERY", "[tickets]") {
  Desk desk;
  desk.tickets.look_up({{8}, kBroker, {40}});
  desk.tickets.look_up({{9}, kBroker, {40}});
  CHECK(desk.tickets.take_questions() == std::vector<JobId>{{40}});
  desk.tickets.told({{40}, 1}, JobState::done);
  desk.tickets.look_up({{10}, kBroker, {40}});  // while the second question is on its way
  CHECK(desk.tickets.take_questions() == std::vector<JobId>{{40}});
  desk.tickets.told({{40}, 1}, JobState::done);  // nothing was kept for the first two
  CHECK_FALSE(desk.view(8).has_result);
  CHECK_FALSE(desk.view(9).has_result);
  CHECK(desk.silent());  // the third has been told of the job once
  CHECK(desk.tickets.take_questions() == std::vector<JobId>{{40}});
  desk.tickets.found({{{40}, 1}, JobState::done, 3, true, false, "kept", ""});
  CHECK(desk.view(10).result == "kept");
}

TEST_CASE("what the spool has is answered once, and its end is still waited for", "[tickets]") {
  Desk desk;
  desk.submit(1);
  desk.submit(2, Report::result, Mono::max(), kStart);
  desk.submit(3);
  desk.tickets.spooled({{1}, 2});
  CHECK(desk.answer(1).kind == Answer::Kind::spooled);
  CHECK(desk.answer(2).kind == Answer::Kind::spooled);
  CHECK(desk.tickets.open_jobs() == 1);  // they take no room any more
  desk.confirm(1, 3, 40);
  CHECK(desk.answer(3).kind == Answer::Kind::confirmed);
  CHECK(desk.silent());
  SECTION("it comes") {
    desk.end(2, 41, "result");
    CHECK(desk.view(2).result == "result");
  }
  SECTION("it does not come in time") {
    desk.tickets.expire(kStart + kBucket);
    Event event = desk.next();
    CHECK(event.token == Token{2});
    CHECK(std::holds_alternative<Expired>(event.what));
  }
}

TEST_CASE("a spooled one that the broker will never take has no end", "[tickets]") {
  Desk desk;
  desk.submit(1);
  desk.submit(2, Report::result);
  desk.tickets.spooled({{1}, 2});
  desk.next();
  desk.next();
  desk.tickets.rejected({{{1}, 2}, "too_large", Millis(0), "it is", true});
  Event event = desk.next();
  CHECK(event.token == Token{2});
  CHECK(std::holds_alternative<Expired>(event.what));
  CHECK(desk.silent());
  CHECK(desk.tickets.waiting() == 0);
}

TEST_CASE("what nobody waits for any more has no events, and takes its room until it is answered",
          "[tickets]") {
  Desk desk;
  for (uint64_t seq : {1, 2, 3}) desk.submit(seq, Report::result, Mono::max(), kStart);
  desk.confirm(1, 1, 40);
  desk.answer(1);
  desk.tickets.forget({Token{1}, Token{2}});
  CHECK(desk.tickets.waiting() == 1);
  CHECK(desk.tickets.open_jobs() == 2);
  desk.end(1, 40, "r");
  CHECK_FALSE(desk.tickets.collects({{40}, 1}));
  desk.confirm(2, 2, 41);
  CHECK(desk.answer(3).job == JobId{42});
  CHECK(desk.tickets.open_jobs() == 0);
  desk.tickets.expire(kStart + kBucket);
  CHECK(std::holds_alternative<Expired>(desk.next().what));
  CHECK(desk.silent());
}
