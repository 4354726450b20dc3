// Durable state is bounded by what is live and by named limits.
#include <fmt/format.h>

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

Settings with_history(uint64_t runs) {
  Settings settings;
  settings.history = runs;
  return settings;
}

void cancel(Harness& h, JobId job) {
  Output out;
  h.core().cancel(h.now, {{job, 1}}, out);
  h.absorb(out);
}

}  // namespace

TEST_CASE("of old jobs it is only known that they have ended", "[bounds]") {
  Harness h(with_history(16));
  Producer p(h, 1, uuid(1));
  std::vector<std::string_view> payloads(100, "x");
  p.submit(payloads);
  for (uint64_t id = 1; id <= 100; id += 2) {  // each a run of its own
    cancel(h, {id});
    REQUIRE(h.state().history_runs() <= 18);
  }
  CHECK(h.state().state_of({1}) == JobState::ended);
  CHECK(h.state().state_of({2}) == JobState::ready);
  CHECK(h.state().state_of({99}) == JobState::cancelled);
  CHECK(h.state().counts().cancelled == 50);
  CHECK(h.core().explain(h.now, {1}).why.find("the last 16 runs") != std::string::npos);

  h.clear();
  h.receive(Port::frontend, 1, 1, protocol::Cancel{{{{1}, 2}}});  // 1 is over, 2 is not
  CHECK(h.state().counts().cancelled == 51);
  h.restart();
  CHECK(h.state().state_of({1}) == JobState::ended);
  h.relocate_all();
  CHECK(h.state().describe() == h.describe_from_relocated());
}

TEST_CASE("an old job below the horizon lives on, and its completion counts", "[bounds]") {
  Harness h(with_history(8));
  Producer p(h, 1, uuid(1));
  std::vector<std::string_view> payloads(60, "x");
  p.submit(payloads, {Report::result});
  Worker w(h, 2, uuid(2), 1);
  h.dispatch();
  const Lease lease = granted(h)[0];
  REQUIRE(lease.job == JobId{1});
  for (uint64_t id = 3; id <= 60; id += 2) cancel(h, {id});
  REQUIRE(h.state().history_start() > JobId{3});
  w.done({lease}, "late");
  CHECK(h.state().state_of({1}) == JobState::done);
  CHECK(h.state().won(lease));
  for (uint64_t id = 4; id <= 40; id += 4) cancel(h, {id});
  CHECK(h.state().state_of({1}) == JobState::done);  // its result is still kept
  h.relocate_all();
  CHECK(h.state().describe() == h.describe_from_relocated());
}

TEST_CASE("sequences above a floor that never rises are refused, the lowest one never",
          "[bounds]") {
  records::Accepted record;
  record.producer = uuid(1);
  record.floor = {1};
  record.queue = "q";
  record.payloads = {"x"};
  State state;
  for (uint64_t i = 0; i < kMaxRunsOfProducer; ++i) {  // every second sequence, from 3 on
    record.first_job = state.next_job();
    record.first_seq = {3 + 2 * i};
    REQUIRE(state.producers().has_room_for(uuid(1), {1}, record.first_seq, state.next_job()));
    state.apply(record, Mono{});
  }
  const Producers& producers = state.producers();
  const Seq next{3 + 2 * kMaxRunsOfProducer};
  CHECK(producers.run_count() == kMaxRunsOfProducer);
  CHECK_FALSE(producers.has_room_for(uuid(1), {1}, next, state.next_job()));
  CHECK(producers.has_room_for(uuid(1), {1}, {1}, state.next_job()));
  CHECK(producers.has_room_for(uuid(1), {4}, next, state.next_job()));  // the floor rises
  CHECK(
      producers.has_room_for(uuid(1), {1}, {next.value - 1}, state.next_job()));  // one run longer
  CHECK(producers.has_room_for(uuid(2), {1}, {7}, state.next_job()));
  record.floor = {next.value - 10};
  record.first_seq = next;
  record.first_job = state.next_job();
  state.apply(record, Mono{});
  CHECK(producers.run_count() == 6);
  state.apply(records::ProducerGone{uuid(1)}, Mono{});
  CHECK(producers.run_count() == 0);
}

TEST_CASE("a producer that never raises its floor is told so, and others are served", "[bounds]") {
  Harness h;
  records::ProducerState grown{uuid(1), {1}, h.now.wall, {}};
  for (uint64_t i = 0; i < kMaxRunsOfProducer; ++i) grown.known.push_back({{3 + 2 * i}, 1, {1}});
  h.core().state().producers().restore(grown);
  Producer p(h, 1, uuid(1));
  h.clear();
  Output out;
  const auto message = submit(1, 1'000'001, {"x"});
  const auto frame = protocol::encode(SessionId{1}, protocol::FromClient{message});
  auto decoded = protocol::decode_from_client(frame);
  h.core().receive(h.now, {Port::frontend, 1}, std::get<0>(decoded), out);
  REQUIRE(out.sends.size() == 1);
  const auto& range = std::get<protocol::Reject>(out.sends[0].message).ranges.at(0);
  CHECK(range.reason == "floor_too_low");
  CHECK(range.retry_after == Millis(1000));
  CHECK(out.records.empty());
}

TEST_CASE("the sequences of a message that have no room are refused in one piece", "[bounds]") {
  Harness h;
  records::ProducerState grown{uuid(1), {1}, h.now.wall, {}};
  for (uint64_t i = 0; i < kMaxRunsOfProducer; ++i) grown.known.push_back({{3 + 2 * i}, 1, {1}});
  h.core().state().producers().restore(grown);
  Producer p(h, 1, uuid(1));
  Output out;
  auto message = submit(1, 1'000'001, {"a", "b", "c"});
  message.keys = {"k", "k", "k"};
  const auto frame = protocol::encode(SessionId{1}, protocol::FromClient{message});
  auto decoded = protocol::decode_from_client(frame);
  h.core().receive(h.now, {Port::frontend, 1}, std::get<0>(decoded), out);
  const auto& ranges = std::get<protocol::Reject>(out.sends.back().message).ranges;
  REQUIRE(ranges.size() == 1);
  CHECK(ranges[0].count == 3);
}

TEST_CASE("when all sequences are taken, who has less than its share gets more", "[bounds]") {
  State state;
  auto& producers = state.producers();
  for (uint8_t n = 1; n <= 20; ++n) {
    records::ProducerState grown{uuid(n), {1}, {}, {}};
    const uint64_t runs = n == 20 ? 10 : kMaxRunsOfProducer - 1;
    for (uint64_t i = 0; i < runs; ++i) grown.known.push_back({{3 + 2 * i}, 1, {1}});
    producers.restore(grown);
  }
  REQUIRE(producers.run_count() > kMaxSequenceRuns);
  CHECK_FALSE(producers.has_room_for(uuid(1), {1}, {1'000'001}, {1}));
  CHECK(producers.has_room_for(uuid(20), {1}, {1'000'001}, {1}));
  CHECK(producers.has_room_for(uuid(21), {1}, {1'000'001}, {1}));
}

TEST_CASE("a start with a lower history limit trims behind Started", "[bounds]") {
  records::Checkpoint before{{7}, 1, {2000}, {9}, {}};
  for (uint64_t job = 1; job < 2000; job += 2) before.done.push_back({{job}, 1});
  Settings settings;
  settings.history = 100;
  Core core(settings, 1);
  REQUIRE_FALSE(core.replay(before, Now{}));
  Output out;
  core.begin(Now{}, {7}, out);
  REQUIRE(out.records.size() == 3);
  CHECK(std::holds_alternative<records::Checkpoint>(out.records[0].record));
  CHECK(std::holds_alternative<records::Started>(out.records[1].record));
  CHECK(std::holds_alternative<records::HistoryTrimmed>(out.records[2].record));
  CHECK(core.state().history_runs() == 100);
}

TEST_CASE("a journal with invalid queue names, or without a checkpoint, is refused", "[bounds]") {
  State begun;
  begun.apply(records::Checkpoint{{7}, 0, {1}, {1}, {}}, Mono{});
  records::Accepted accepted{{1}, uuid(1), {1}, {1}, {}, "",    Report::none,
                             0,   4,       {},  {},  {}, {"x"}, {}};
  records::Relocated relocated;
  records::Checkpoint settings, totals, keys;
  settings.queues = {{"", {}}};
  totals.totals = {{"", 5}};
  keys.keys = {{std::string("q\n\0key", 6), {1}, {}}};
  const records::Done done{{}, {}, {}, {{"", 0}}};
  for (const Record& record : std::initializer_list<Record>{
           accepted, relocated, records::QueueSet{"", {}}, settings, totals, keys, done}) {
    INFO(record.index());
    CHECK(State::check_form(record));
    CHECK(begun.check(record));
    CHECK(State().check(record));
  }
  accepted.queue = "q";
  CHECK_FALSE(begun.check(accepted));
  CHECK(State().check(accepted));
  CHECK(State().check(records::Started{1, {}, {1}}));
}

TEST_CASE("sequences beyond the last number are refused, the last that a port takes are not",
          "[bounds]") {
  const Seq last{UINT64_MAX - 1}, beyond{UINT64_MAX};
  auto accepted = [](Seq first) {
    return records::Accepted{{1}, uuid(1), first, {1}, {}, "q",   Report::none,
                             0,   4,       {},    {},  {}, {"x"}, {}};
  };
  auto known = [](Seq first) {
    records::Checkpoint checkpoint;
    checkpoint.producers = {{uuid(1), {1}, {}, {{first, 1, {1}}}}};
    return checkpoint;
  };
  CHECK(State::check_form(accepted(beyond)));
  CHECK(State::check_form(records::Matched{uuid(1), beyond, {1}, {}, {1}}));
  CHECK(State::check_form(known(beyond)));
  CHECK_FALSE(State::check_form(accepted(last)));
  CHECK_FALSE(State::check_form(records::Matched{uuid(1), last, {1}, {}, {1}}));
  CHECK_FALSE(State::check_form(known(last)));
}

TEST_CASE("runs of jobs that do not exist are refused at once", "[bounds]") {
  State state;
  state.apply(
      records::Accepted{
          {1}, uuid(1), {1}, {1}, {}, "q", Report::none, 0, 4, {}, {}, {}, {"x", "y"}, {}},
      Mono{});
  const std::vector<JobRange> huge{{{1}, uint64_t{1} << 62}}, real{{{1}, 2}};
  CHECK(state.check(records::Leased{uuid(2), {5}, huge}));
  CHECK(state.check(records::Done{{}, {{{1}, {5}, uint64_t{1} << 62}}, {}, {}}));
  CHECK(state.check(records::Due{huge}));
  CHECK(state.check(records::Collected{huge}));
  CHECK(state.check(records::Cancelled{{}, records::CancelReason::asked, huge}));
  CHECK(state.check(records::Expired{huge}));
  CHECK(state.check(records::Requeued{{}, huge}));
  CHECK(state.check(records::Failed{{{3}, {5}}, {}, protocol::FailKind::crash, {}, "", ""}));
  CHECK(state.check(records::Returned{{}, records::ReturnReason::lost, "", {{{{9}, {5}}, false}}}));
  CHECK(state.check(records::Matched{uuid(1), {9}, {1}, {}, {77}}));
  CHECK(state.check(records::HistoryTrimmed{{99}}));
  CHECK(state.check(records::QueueSet{"no name", {}}));
  records::Accepted uneven{{3}, uuid(1), {3}, {1}, {},    "q",        Report::none,
                           0,   4,       {},  {},  {"k"}, {"x", "y"}, {}};
  CHECK(state.check(uneven));
  uneven.keys = {"k", "l"};
  CHECK(!state.check(uneven));
  CHECK(state.check(records::Leased{uuid(2), {UINT64_MAX - 1}, real}));
  CHECK(state.check(records::Started{kMaxIncarnation, {}, {}}));
  CHECK(state.check(records::Started{UINT64_MAX, {}, {}}));
  CHECK(state.check(records::Done{{}, {{{1}, {5}, 1}}, {}, {{"q", 2}}}));
  CHECK_FALSE(state.check(records::Leased{uuid(2), {5}, real}));
  CHECK_FALSE(state.check(records::Due{real}));

  records::Checkpoint checkpoint;
  checkpoint.next_job = {uint64_t{1} << 62};
  checkpoint.history_start = checkpoint.next_job;
  State fresh;
  CHECK_FALSE(fresh.check(checkpoint));
  checkpoint.done = {{{uint64_t{1} << 62}, 1}};
  CHECK(fresh.check(checkpoint));
  checkpoint.done = {};
  checkpoint.incarnation = kMaxIncarnation;
  CHECK(fresh.check(checkpoint));
}

TEST_CASE("what a run costs does not depend on how many jobs it names", "[bounds]") {
  State state;
  records::Checkpoint checkpoint;
  checkpoint.next_job = {uint64_t{1} << 62};
  state.apply(checkpoint, Mono{});
  const JobRange all{{1}, (uint64_t{1} << 62) - 1};
  records::Relocated live;
  live.queue = "q";
  live.state = JobState::ready;
  for (uint64_t id : {uint64_t{5}, uint64_t{1} << 61}) {  // far apart, and nothing between
    live.job = {id};
    state.apply(live, Mono{});
  }
  state.apply(records::Leased{uuid(2), {5}, {all}}, Mono{});
  CHECK(state.leased_jobs() == 2);
  CHECK(state.lease_of({uint64_t{1} << 61})->epoch.value == 5 + (uint64_t{1} << 61) - 1);
  state.apply(records::Done{{}, {{{1}, {5}, all.count}}, {}, {}}, Mono{});
  CHECK(state.live_jobs() == 0);
  CHECK(state.counts().done == all.count);
  state.apply(records::Cancelled{{}, records::CancelReason::asked, {all}}, Mono{});
}

TEST_CASE("a checkpoint at all limits stays below a quarter of a segment", "[bounds]") {
  constexpr uint64_t kManyJobs = 1'000'000'000'000;
  records::Checkpoint checkpoint;
  checkpoint.next_job = {kManyJobs + 1'000'000};
  checkpoint.history_start = {kManyJobs};
  for (uint64_t i = 0; i < 112'500; ++i) checkpoint.done.push_back({{kManyJobs + 2 * i}, 1});
  uint64_t seq = kManyJobs;
  for (uint64_t n = 0; n < kMaxProducers; ++n) {
    records::ProducerState producer{Uuid::random(), {kManyJobs}, wall_from_int(kManyJobs), {}};
    for (uint64_t i = 0; i < kMaxSequenceRuns / kMaxProducers; ++i)
      producer.known.push_back({{seq += 2}, 1, {kManyJobs + 3 * i}});
    checkpoint.producers.push_back(std::move(producer));
  }
  Settings settings;
  State state(settings.retention);
  state.apply(checkpoint, Mono{});
  for (uint64_t i = 0; i < 100'000; ++i) {
    const std::string key = fmt::format("key-{:012}", i);
    records::Accepted record{state.next_job(), uuid(1), {i + 1}, {i + 1}, {}, "q"};
    record.time = wall_from_int(kManyJobs);
    record.keys = {key};
    record.payloads = {"x"};
    state.apply(record, Mono{});
  }
  records::Chunk chunk;
  chunk.append(state.checkpoint());
  CHECK(state.checkpoint().keys.size() > 50'000);
  CHECK(chunk.bytes() < 16 << 20);
}

TEST_CASE("a worker holds 16,384 jobs at most, and lost workers' jobs return in as many rounds",
          "[bounds]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  for (int i = 0; i < 10; ++i) p.submit(std::vector<std::string_view>(4000, "x"));
  Worker a(h, 2, uuid(2), UINT64_MAX), b(h, 3, uuid(3), UINT64_MAX);
  const auto leased = [&] { return h.state().leases().size(); };
  for (size_t before = SIZE_MAX; before != leased();) {
    before = leased();
    h.dispatch();
  }
  CHECK(leased() == 2 * 16384);
  h.pass(Millis(3000));
  CHECK(leased() == 2 * 16384);
  h.pass(Millis(250));
  CHECK(leased() == 16384);
  CHECK(h.core().wake_at(h.now) <= h.now.mono);
  h.pass(Millis(1));
  CHECK(leased() == 0);
}

TEST_CASE("a job with a time or a key is more work than one without", "[bounds]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  p.submit({"the queue is made"});
  const auto work_of = [&](protocol::SubmitOptions options) {
    const uint64_t before = h.core().work();
    p.submit(std::vector<std::string_view>(100, "x"), options);
    return h.core().work() - before;
  };
  const uint64_t plain = work_of({});
  CHECK(work_of({.delay = Millis(1000)}) >= plain + 700);
  CHECK(work_of({.ttl = Millis(1000)}) >= plain + 700);
}
