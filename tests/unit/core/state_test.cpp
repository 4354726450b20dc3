#include "broker/core/state/state.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::core;

namespace {

const Uuid kProducer = Uuid::from_bytes("0123456789abcdef");

records::Accepted accepted(uint64_t first, size_t count, std::string_view queue = "q") {
  records::Accepted record;
  record.first_job = {first};
  record.producer = kProducer;
  record.first_seq = {first};
  record.floor = {first};
  record.queue = queue;
  record.payloads.assign(count, "x");
  return record;
}

}  // namespace

TEST_CASE("jobs of retired segments are leased and done together with live jobs", "[state]") {
  State state;
  records::Checkpoint checkpoint;
  checkpoint.broker = {7};
  checkpoint.incarnation = 1;
  checkpoint.next_job = {5};  // 1 to 4 were accepted before, and 1 and 2 are done
  checkpoint.next_epoch = Epoch{1};
  checkpoint.counts.accepted = 4;
  checkpoint.counts.done = 2;
  checkpoint.done = {{{1}, 2}};
  state.apply(checkpoint, Mono{});
  state.apply(accepted(5, 3), Mono{});
  state.apply(records::Leased{kProducer, Epoch{1}, {{{3}, 4}}}, Mono{});
  CHECK(state.ready_jobs() == 1);
  CHECK(state.leased_jobs() == 2);
  state.apply(records::Done{{}, {{{3}, Epoch{1}, 4}}, {}}, Mono{});
  CHECK(state.ready_jobs() == 1);
  CHECK(state.leased_jobs() == 0);
  CHECK(state.counts().done == 6);
  CHECK(state.state_of({3}) == JobState::done);
  CHECK(state.state_of({7}) == JobState::ready);
}

TEST_CASE("jobs of segments that are gone are counted by queue", "[state]") {
  State state;
  records::Checkpoint checkpoint;
  checkpoint.next_job = {5};
  checkpoint.totals = {{"q", 2}};
  state.apply(checkpoint, Mono{});
  state.apply(accepted(5, 1), Mono{});
  state.apply(records::Leased{kProducer, Epoch{1}, {{{3}, 3}}}, Mono{});
  state.apply(records::Done{{}, {{{3}, Epoch{1}, 3}}, {}, {{"other", 2}, {"q", 1}}}, Mono{});
  CHECK(state.queues()[state.queue_index("q")].done == 3);
  CHECK(state.queues()[state.queue_index("other")].done == 2);
}

TEST_CASE("a journal of version 1 gets its totals with the next checkpoint", "[state]") {
  State state;
  records::Checkpoint checkpoint;
  checkpoint.next_job = {5};
  state.apply(checkpoint, Mono{});
  state.apply(accepted(5, 1), Mono{});
  state.apply(records::Leased{kProducer, Epoch{1}, {{{5}, 1}}}, Mono{});
  state.apply(records::Done{{}, {{{5}, Epoch{1}, 1}}, {}, {}}, Mono{});
  CHECK(state.queues()[state.queue_index("q")].done == 1);
  checkpoint = state.checkpoint();
  checkpoint.totals = {{"q", 7}};
  CHECK(!state.check(checkpoint));
  state.apply(checkpoint, Mono{});
  CHECK(state.queues()[state.queue_index("q")].done == 7);
}

TEST_CASE("an incarnation says with which epoch it begins", "[state]") {
  State state;
  state.apply(records::Started{1, {}, {}}, Mono{});
  CHECK(state.next_epoch() == records::first_epoch_of_version_1(1));
  state.apply(records::Started{2, {}, {records::first_epoch_of_version_1(1).value + 7}}, Mono{});
  CHECK(state.next_epoch().value == records::first_epoch_of_version_1(1).value + 7);
  CHECK(state.check(records::Started{3, {}, {5}}));
}

TEST_CASE("a checkpoint that differs from the state is named", "[state]") {
  State state;
  state.apply(accepted(1, 2), Mono{});
  auto checkpoint = state.checkpoint();
  CHECK(!state.check(checkpoint));
  checkpoint.next_job = {4};
  CHECK(state.check(checkpoint));
  CHECK(state.check(accepted(9, 1)));
  CHECK(state.check(records::Done{{}, {{{9}, {1}, 1}}, {}}));
}

TEST_CASE("a job that version 1 relocated without its last worker agrees with the journal",
          "[state]") {
  State state;
  state.apply(accepted(1, 1), Mono{});
  const records::Lease lease{{1}, {9}};
  state.apply(records::Leased{kProducer, lease.epoch, {{{1}, 1}}}, Mono{});
  state.apply(records::Returned{{}, records::ReturnReason::released, "w", {{lease, false}}},
              Mono{});
  auto relocated = state.relocated({1});
  CHECK(relocated.worker == kProducer);
  relocated.worker = {};
  CHECK(!state.check(relocated));
  relocated.epoch = {8};
  CHECK(state.check(relocated));
}

TEST_CASE("a checkpoint brings a fresh state to the same place", "[state]") {
  State state;
  state.apply(accepted(1, 3), Mono{});
  state.apply(records::Leased{kProducer, Epoch{1}, {{{1}, 3}}}, Mono{});
  state.apply(records::Done{{}, {{{1}, Epoch{1}, 3}}, {}}, Mono{});
  State fresh;
  fresh.apply(state.checkpoint(), Mono{});
  CHECK(fresh.checkpoint() == state.checkpoint());
  CHECK(fresh.state_of({2}) == JobState::done);
}

TEST_CASE("two states that know the same are described in the same words", "[state]") {
  State live, replayed;
  live.queue_index("z");  // a worker asked for it before anything was submitted
  for (State* state : {&live, &replayed}) {
    state->apply(accepted(1, 1, "a"), Mono{});
    state->apply(accepted(2, 1, "z"), Mono{});
  }
  CHECK(live.describe() == replayed.describe());
}

TEST_CASE("a job that a repaired journal ends without its lease is in one place only", "[state]") {
  State state;
  state.apply(accepted(1, 5), Mono{});
  const WallMs due{Millis(5)};
  auto apply = [&](const Record& record) {
    REQUIRE(!state.check(record));
    state.apply(record, Mono{});
    CHECK(state.totals_agree());
  };
  apply(records::Failed{{{1}, {1}}, {}, records::FailKind::retryable, due, "w", "no luck"});
  CHECK(state.state_of({1}) == JobState::retry_wait);
  CHECK(state.ready_jobs() == 4);
  apply(records::Failed{{{2}, {2}}, {}, records::FailKind::permanent, {}, "w", "no luck"});
  apply(records::Failed{{{2}, {3}}, {}, records::FailKind::permanent, {}, "w", "no luck"});
  apply(records::Leased{kProducer, {4}, {{{2}, 1}}});  // which is dead
  CHECK(state.state_of({2}) == JobState::leased);
  apply(records::Returned{{}, records::ReturnReason::never_arrived, "w", {{{{3}, {5}}, false}}});
  CHECK(state.find({3})->attempts == 0);
  apply(records::Due{{{{1}, 5}}});
  CHECK(state.ready_jobs() == 4);
  CHECK(state.state_of({2}) == JobState::leased);
}
