// What people are told when the core has done what they asked; the core's own rules have their
// tests.
#include "broker/server/operations.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "broker/listing/queue_listing.h"
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;
using nlohmann::json;

namespace {

struct Fixture {
  Harness h;
  int status = 0;
  admin::Answer accepted;  // what came at once

  json ask(const admin::Operation& operation) {
    Output out;
    auto performed = server::perform(h.core(), h.now, operation, out);
    h.absorb(out);
    accepted = performed.answer;
    if (performed.pending) {
      while (!h.core().operations().find(*performed.pending)->done) {
        h.core().advance_operations(h.now, out);
        h.absorb(out);
      }
      performed.answer = server::answer_of(*h.core().operations().find(*performed.pending));
    }
    status = performed.answer.status;
    return json::parse(performed.answer.body);
  }
  std::string refusal(const admin::Operation& operation, int expected) {
    auto problem = ask(operation);
    CHECK(status == expected);
    return problem.value("detail", "");
  }
  json show(uint64_t id) { return ask(admin::ShowJob{number(id)}); }
  // Jobs 1 … count of queue q, each dead by one permanent failure.
  void mark_dead(Worker& w, Producer& p, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      p.submit({"x"});
      h.clear();
      h.dispatch();
      w.fail(granted(h).at(0), protocol::FailKind::permanent);
    }
  }
  static admin::JobName number(uint64_t id) { return {std::nullopt, {id}}; }
  static admin::JobName of_broker(uint32_t broker, uint64_t id) { return {BrokerId{broker}, {id}}; }
};

bool has(const std::string& text, const char* word) { return text.find(word) != std::string::npos; }

}  // namespace

TEST_CASE("a job is shown with what it waits for and what it has been through", "[operations]") {
  Fixture f;
  Producer p(f.h, 1, uuid(1));
  p.submit({"x"});
  auto waiting = f.show(1);
  CHECK(waiting["id"] == "00000007-1");
  CHECK(waiting["state"] == "ready");
  CHECK(has(waiting["why"], "no worker"));
  CHECK(waiting["queue"] == "q");
  CHECK(waiting["due_ms"].is_null());
  Worker w(f.h, 2, uuid(2));
  f.h.dispatch();
  w.fail(granted(f.h).at(0));
  auto retried = f.show(1);
  CHECK(retried["state"] == "retry-wait");
  CHECK(retried["failures"] == 1);
  CHECK(retried["due_ms"] > to_int(f.h.now.wall));
  REQUIRE(retried["history"].size() == 1);
  CHECK(retried["history"][0] == json{{"attempt", 1},
                                      {"worker", "w"},
                                      {"error", "no luck"},
                                      {"time_ms", to_int(f.h.now.wall)}});
}

TEST_CASE("a result is shown as text when it is text", "[operations]") {
  Fixture f;
  Producer p(f.h, 1, uuid(1));
  Worker w(f.h, 2, uuid(2));
  protocol::SubmitOptions options;
  options.report = protocol::Report::result;
  p.submit({"x", "y"}, options);
  f.h.dispatch();
  auto leases = granted(f.h);
  w.done({leases.at(0)}, "fine");
  w.done({leases.at(1)}, "\xff\xfe");
  CHECK(f.show(1)["result"] == "fine");
  CHECK(f.show(1)["state"] == "done");
  CHECK(f.show(2)["result_base64"] == "//4=");
}

TEST_CASE("what is not here is 404, and says where it is", "[operations]") {
  Fixture f;
  Producer p(f.h, 1, uuid(1));
  p.submit({"x"});
  CHECK(f.ask(admin::ShowJob{Fixture::of_broker(7, 1)})["state"] == "ready");
  auto other = f.refusal(admin::ShowJob{Fixture::of_broker(8, 1)}, 404);
  CHECK(has(other, "broker 00000008"));
  CHECK(has(other, "this is broker 00000007"));
  CHECK(has(f.refusal(admin::ShowJob{Fixture::number(2)}, 404), "00000007-2"));
  CHECK(has(f.refusal(admin::CancelJob{Fixture::of_broker(8, 1)}, 404), "broker 00000008"));
  CHECK(f.show(1)["state"] == "ready");
  CHECK(has(f.refusal(admin::PurgeQueue{"none"}, 404), "none"));
  admin::QueueChange pause;
  pause.paused = true;
  CHECK(has(f.refusal(admin::SetQueue{"none", pause, false}, 404), "none"));
  CHECK_FALSE(f.h.state().has_queue("none"));
  CHECK(f.ask(admin::SetQueue{"none", pause, true})["settings"]["paused"] == true);
}

TEST_CASE("a job is cancelled once, and not when it has ended", "[operations]") {
  Fixture f;
  Producer p(f.h, 1, uuid(1));
  p.submit({"x"});
  auto first = f.ask(admin::CancelJob{Fixture::number(1)});
  CHECK(first["cancelled"] == 1);
  CHECK(first["was"] == "ready");
  CHECK(f.ask(admin::CancelJob{Fixture::number(1)})["cancelled"] == 0);
  CHECK(f.show(1)["state"] == "cancelled");
  Worker w(f.h, 2, uuid(2));
  p.submit({"x"});
  f.h.dispatch();
  w.done(granted(f.h));
  CHECK(has(f.refusal(admin::CancelJob{Fixture::number(2)}, 409), "done"));
  f.mark_dead(w, p, 1);
  CHECK(has(f.refusal(admin::CancelJob{Fixture::number(3)}, 409), "drop"));
}

TEST_CASE("settings change one by one, and what contradicts is refused", "[operations]") {
  Fixture f;
  admin::QueueChange weight, backoff;
  weight.weight = 3;
  backoff.backoff_max_ms = 50;
  f.ask(admin::SetQueue{"q", weight, true});
  auto both = f.ask(admin::SetQueue{"q", backoff, true})["settings"];
  CHECK(both["weight"] == 3);
  CHECK(both["backoff_max_ms"] == 50);
  admin::QueueChange wrong;
  wrong.backoff_min_ms = 51;
  CHECK(has(f.refusal(admin::SetQueue{"q", wrong, true}, 422), "backoff_min_ms"));
  f.h.restart();
  CHECK(f.h.state().queues()[0].settings.weight == 3);
  CHECK(f.h.state().queues()[0].settings.backoff_min == Millis(0));
}

TEST_CASE("dead jobs are retried and dropped by what is said of them", "[operations]") {
  Fixture f;
  Producer p(f.h, 1, uuid(1));
  Worker w(f.h, 2, uuid(2));
  f.mark_dead(w, p, 4);
  admin::DeadChoice one, wrong_error, all, live;
  one.job = Fixture::number(2);
  wrong_error.error = "another";
  CHECK(f.ask(admin::RetryDead{wrong_error})["retried"] == 0);
  CHECK(f.ask(admin::RetryDead{one})["retried"] == 1);
  CHECK(has(f.refusal(admin::RetryDead{one}, 409), "not dead"));
  CHECK(f.show(2)["history"].size() == 1);
  all.error = "luck";
  CHECK(f.ask(admin::DropDead{all})["dropped"] == 3);
  CHECK(f.show(1)["state"] == "cancelled");
  CHECK(f.h.state().dead().size() == 0);
}

TEST_CASE("what concerns many jobs is accepted with an ID, and asked for by it", "[operations]") {
  Fixture f;
  Producer p(f.h, 1, uuid(1));
  p.submit({"x", "y"});
  CHECK(f.ask(admin::PurgeQueue{"q"}) == json{{"queue", "q"}, {"purged", 2}});
  CHECK(f.accepted.status == 202);
  const json begun = json::parse(f.accepted.body);
  CHECK(begun == json{{"id", "1-1"},
                      {"kind", "purge"},
                      {"state", "running"},
                      {"done", 0},
                      {"examined", 0},
                      {"total", 2},
                      {"queue", "q"}});
  const json ended = f.ask(admin::ShowOperation{1, 1});
  CHECK(ended["state"] == "done");
  CHECK(ended["done"] == 2);
  CHECK(has(f.refusal(admin::ShowOperation{1, 2}, 404), "1-2"));
  CHECK(has(f.refusal(admin::ShowOperation{2, 1}, 404), "restart"));
}

TEST_CASE("a queue is deleted with its settings once it has no jobs", "[operations]") {
  Fixture f;
  Producer p(f.h, 1, uuid(1));
  Worker w(f.h, 2, uuid(2));
  f.mark_dead(w, p, 1);
  p.submit({"x", "y"});
  admin::QueueChange pause;
  pause.paused = true;
  f.ask(admin::SetQueue{"q", pause, false});
  const std::string refusal = f.refusal(admin::DeleteQueue{"q"}, 409);
  CHECK(has(refusal, "3 jobs"));
  CHECK(has(refusal, "1 dead"));
  f.ask(admin::PurgeQueue{"q"});
  f.ask(admin::DropDead{{}});
  CHECK(f.ask(admin::ShowQueue{"q"})["settings"]["paused"] == true);
  CHECK(f.ask(admin::DeleteQueue{"q"}) == json{{"name", "q"}, {"deleted", true}});
  // The worker asks for it by name, so it is there again, as a new one.
  CHECK(f.ask(admin::ShowQueue{"q"})["settings"]["paused"] == false);
  CHECK(f.ask(admin::ShowQueue{"q"})["workers"] == 1);
  p.submit({"z"});
  f.h.clear();
  f.h.dispatch();
  CHECK(granted(f.h).size() == 1);
}

TEST_CASE("a queue that nobody asks for is gone once it is deleted", "[operations]") {
  Fixture f;
  admin::QueueChange weight;
  weight.weight = 3;
  f.ask(admin::SetQueue{"q", weight, true});
  f.ask(admin::DeleteQueue{"q"});
  f.refusal(admin::ShowQueue{"q"}, 404);
  f.refusal(admin::DeleteQueue{"q"}, 404);
  f.h.restart();
  CHECK(f.h.state().checkpoint().queues.empty());
}

TEST_CASE("a listing has the queues with the most jobs, and the sums of the others",
          "[operations]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  const size_t count = 1100;
  for (size_t i = 0; i < count; ++i) {
    const std::string queue = "q" + std::to_string(i);
    p.submit({"x"}, {}, queue);
    if (i % 10 == 0) p.submit({"y"}, {}, queue);
  }
  listing::QueueListing listing(1000);
  CHECK_FALSE(listing.advance(h.core()));
  CHECK(listing.is_running());
  CHECK(listing.advance(h.core()));
  admin::Status status;
  listing.move_to(&status);
  CHECK_FALSE(listing.is_running());
  REQUIRE(status.queues.size() == admin::kMaxQueuesListed);
  CHECK(status.queues[0].name == "q0");
  CHECK(std::count_if(status.queues.begin(), status.queues.end(),
                      [](const auto& queue) { return queue.ready == 2; }) == 110);
  CHECK(status.other_queues.queues == 100);
  CHECK(status.other_queues.ready == 100);
}

TEST_CASE("a dead job says which limit it met", "[operations]") {
  Settings settings;
  settings.max_attempts = 2;
  settings.crash_limit = 2;
  settings.backoff_min = settings.backoff_max = Millis(1);
  Fixture f;
  f.h = Harness(settings);
  Producer p(f.h, 1, uuid(1));
  Worker w(f.h, 2, uuid(2));
  auto die = [&](protocol::FailKind kind) {
    p.submit({"x"});
    f.h.clear();
    f.h.dispatch();
    for (int i = 0; i < 2; ++i) {
      const auto leases = granted(f.h);
      f.h.clear();
      for (Lease lease : leases) w.fail(lease, kind);
      f.h.pass(Millis(10), {{Port::backend, 2}});
    }
  };
  die(protocol::FailKind::permanent);
  die(protocol::FailKind::retryable);
  die(protocol::FailKind::crash);
  CHECK(f.show(1)["why"] == "failed permanently (no luck); it waits for a retry or a drop");
  CHECK(f.show(2)["why"] == "all 2 attempts failed; it waits for a retry or a drop");
  CHECK(f.show(3)["why"] == "crash limit of 2 reached; it waits for a retry or a drop");
  CHECK(f.show(1)["producer"] == uuid(1).hex());
}

TEST_CASE("too many pending operations are refused, to be asked again", "[operations]") {
  Fixture f;
  Producer p(f.h, 1, uuid(1));
  p.submit({"x"});
  for (size_t i = 0; i < BulkOperations::kMaxPending; ++i)
    REQUIRE(f.h.core().start(f.h.now, {BulkKind::purge, "q", {}}));
  CHECK(has(f.refusal(admin::PurgeQueue{"q"}, 429), "16 operations"));
  CHECK(f.h.state().ready_jobs() == 1);
}
