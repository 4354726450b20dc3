// What the core says that it holds is what an allocator counts.
#include <fmt/format.h>

#include <random>

#include "broker/core/checkpoint_limit.h"
#include "broker/core/core.h"
#include "broker/records/record_codec.h"
#include "tests/catch.h"
#include "tests/support/allocations.h"

using namespace millrace;
using namespace millrace::core;

namespace {

constexpr Now kNow{Mono(std::chrono::hours(1)), WallMs(Millis(1'700'000'000'000))};
constexpr uint64_t kSmall = 64 << 10;  // what a state has before it holds anything

Uuid uuid(uint64_t n) {
  Uuid id;
  std::mt19937_64 random(n);
  for (uint8_t& byte : id.bytes) byte = uint8_t(random());
  return id;
}

uint64_t sum(const std::vector<Held>& held) {
  uint64_t bytes = 0;
  for (const Held& one : held) bytes += one.bytes;
  return bytes;
}

Held kind(const std::vector<Held>& held, std::string_view name) {
  for (const Held& one : held)
    if (one.kind == name) return one;
  FAIL("there is no kind " << name);
  return {};
}

// A core, and what it has allocated since it was made.
class Measured {
 public:
  explicit Measured(Settings settings = {}) : before_(test::allocated_bytes()) {
    core_ = std::make_unique<Core>(settings, 42);
    Output out;
    core_->begin(kNow, {7}, out);
  }

  Core& core() { return *core_; }
  State& state() { return core_->state(); }
  uint64_t allocated() const { return test::allocated_bytes() - before_; }
  // Within a quarter, and kSmall.
  void check() {
    const uint64_t held = sum(core_->held()), real = allocated();
    INFO("held " << held << ", allocated " << real);
    CHECK(held + kSmall >= real - real / 4);
    CHECK(held <= real + real / 4 + kSmall);
  }
  void apply(const Record& record) {
    const auto problem = state().check(record);
    INFO(problem.value_or(""));
    REQUIRE(!problem);
    state().apply(record, kNow.mono);
  }

  records::Accepted accepted(uint64_t jobs, std::string_view queue = "q") {
    records::Accepted record;
    record.first_job = state().next_job();
    record.producer = uuid(1);
    record.first_seq = record.floor = {state().next_job().value};
    record.time = kNow.wall;
    record.queue = queue;
    record.payloads.assign(jobs, "x");
    return record;
  }

 private:
  uint64_t before_;
  std::unique_ptr<Core> core_;
};

}  // namespace

TEST_CASE("ready jobs are counted, dense and scattered", "[memory]") {
  Measured m;
  for (int i = 0; i < 100; ++i) m.apply(m.accepted(1000));
  m.check();
  for (uint64_t id = 1; id < 100'000; id += 500)  // all but each 500th
    m.apply(records::Cancelled{kNow.wall, records::CancelReason::asked, {{{id}, 499}}});
  m.check();
  CHECK(m.state().memory_bytes() > 200 * 8192);  // each of the 200 jobs pins its part of the table
}

TEST_CASE("jobs that wait are counted, and those that did no longer", "[memory]") {
  Measured m;
  const uint64_t none = m.state().memory_bytes();
  for (int i = 0; i < 50; ++i) {
    auto record = m.accepted(1000);
    record.due = kNow.wall + Millis(1000);
    record.expires = kNow.wall + Millis(5000);
    m.apply(record);
  }
  m.check();
  m.apply(records::Expired{{{{1}, 50'000}}});
  m.check();
  CHECK(m.state().memory_bytes() < none + kSmall);
}

TEST_CASE("leases, the last leases and failed attempts are counted", "[memory]") {
  Measured m;
  const uint64_t none = m.state().memory_bytes();
  m.apply(m.accepted(20'000));
  const std::string error(700, 'e');
  for (int round = 0; round < 5; ++round) {
    const Epoch first = m.state().next_epoch();
    m.apply(records::Leased{uuid(2), first, {{{1}, 20'000}}});
    m.check();
    for (uint64_t i = 0; i < 20'000; ++i)
      m.apply(records::Failed{{{1 + i}, {first.value + i}},
                              kNow.wall,
                              protocol::FailKind::retryable,
                              kNow.wall + Millis(1),
                              "a worker with a long name",
                              error});
    m.check();
  }
  CHECK(m.state().memory_bytes() > 20'000 * 5 * 700);
  m.apply(records::Cancelled{kNow.wall, records::CancelReason::asked, {{{1}, 20'000}}});
  m.check();
  CHECK(m.state().memory_bytes() < none + kSmall);
}

TEST_CASE("above the limit of memory the texts of failures are cut short", "[memory]") {
  Settings settings;
  settings.max_memory = 20'000;
  settings.backoff_min = settings.backoff_max = Millis(1);
  settings.max_attempts = 255;
  Measured m(settings);
  Output out;
  m.apply(m.accepted(500));
  m.core().receive(kNow, {Port::backend, 2},
                   {{2}, protocol::Register{uuid(2), "w", {"q"}, 4, {}, {}}}, out);
  Now now = kNow;
  const std::string error(1000, 'e');
  uint64_t batch = 0;
  for (int round = 0; round < 20; ++round) {
    now.wall += Millis(2);
    m.core().receive(now, {Port::backend, 2}, {{2}, protocol::Credit{500}}, out);
    m.core().tick(now, out);
    out = {};
    m.core().dispatch(now, out);
    std::vector<Lease> leases;
    for (const Send& send : out.sends)
      if (auto* grant = std::get_if<protocol::LeaseGrant>(&send.message))
        for (const auto& entry : grant->jobs) leases.push_back(entry.lease);
    REQUIRE(leases.size() == 500);
    out = {};
    protocol::Fail fail{++batch, {}};
    for (Lease lease : leases) fail.jobs.push_back({lease, protocol::FailKind::retryable, error});
    m.core().receive(now, {Port::backend, 2}, {{2}, fail}, out);
    out = {};
  }
  const uint64_t entries = 500 * 16 * sizeof(AttemptFailure);
  CHECK(m.state().memory_bytes() < 20'000 + 2 * entries);
  CHECK(m.state().last_failure_of({1})->error == error.substr(0, 15));
}

TEST_CASE("ready lists of many producers and priorities are counted", "[memory]") {
  Measured m;
  records::QueueSettings fair;
  fair.order = records::Order::fair;
  m.apply(records::QueueSet{"q", fair});
  for (uint64_t i = 0; i < 5'000; ++i) {
    auto record = m.accepted(2);
    record.producer = uuid(i);
    record.priority = uint8_t(i % 10);
    m.apply(record);
  }
  m.check();
}

TEST_CASE("the history, the sequences of producers and producers are counted", "[memory]") {
  Measured m;
  m.apply(m.accepted(100'000));
  records::Cancelled scattered{kNow.wall, records::CancelReason::asked, {}};
  for (uint64_t id = 1; id <= 100'000; id += 2) scattered.runs.push_back({{id}, 1});
  m.apply(scattered);
  m.check();
  CHECK(kind(m.core().held(), "history").count == 50'000);
  for (uint64_t i = 0; i < 50'000; ++i) {
    auto record = m.accepted(1);
    record.producer = uuid(i % 10'000);
    record.floor = {1};
    record.first_seq = {2 * i + 2};
    m.apply(record);
  }
  m.check();
  CHECK(kind(m.core().held(), "sequences").count > 50'000);
  CHECK(kind(m.core().held(), "producers").count >= 10'000);
}

TEST_CASE("keys are counted, short and long ones", "[memory]") {
  for (size_t length : {8, 20, 64}) {
    Settings settings;
    settings.retention.key_bytes = 2 << 20;
    const std::string queue(length, 'q');
    std::vector<std::string> names;
    for (uint64_t i = 0; i < 20'000; ++i) {
      std::string& name = names.emplace_back(fmt::format("{:08}", i));
      name.resize(length, 'k');
    }
    Measured m(settings);
    for (const std::string& name : names) {
      auto record = m.accepted(1, queue);
      record.keys = {name};
      m.apply(record);
    }
    m.check();
    CHECK(kind(m.core().held(), "keys").bytes <= 2 << 20);
  }
}

TEST_CASE("results are counted until they are collected", "[memory]") {
  Measured m;
  const std::string result(100, 'r');
  auto record = m.accepted(10'000);
  record.report = Report::result;
  m.apply(record);
  const Epoch first = m.state().next_epoch();
  m.apply(records::Leased{uuid(2), first, {{{1}, 10'000}}});
  records::Done done{kNow.wall, {{{1}, first, 10'000}}, {}};
  for (uint64_t id = 1; id <= 10'000; ++id) done.results.push_back({{id}, result});
  m.apply(done);
  m.state().take_settled();
  m.check();
  CHECK(kind(m.core().held(), "results").bytes > 10'000 * 100);
  m.apply(records::Collected{{{{1}, 10'000}}});
  m.state().take_retired();
  m.check();
  CHECK(kind(m.core().held(), "results").bytes == 0);
}

TEST_CASE("queues are counted", "[memory]") {
  Measured m;
  for (size_t i = 0; i < 4'000; ++i) m.apply(m.accepted(1, fmt::format("tenant.{:0100}", i)));
  m.check();
}

TEST_CASE("sessions and their questions are counted, and what they ask for later", "[memory]") {
  Measured m;
  Output out;
  m.core().set_has_room([](Route) { return false; });  // nobody gets an answer
  for (uint64_t i = 1; i <= 5'000; ++i) {
    const Route route{Port::frontend, i};
    m.core().receive(kNow, route, {{i}, protocol::Hello{uuid(i)}}, out);
    protocol::Query query;
    for (uint64_t range = 0; range < 20; ++range) query.jobs.push_back({{1 + 10 * range}, 5});
    m.core().receive(kNow, route, {{i}, query}, out);
    out.clear();
  }
  out = {};
  m.check();
  CHECK(kind(m.core().held(), "sessions").count == 5'000);
  CHECK(kind(m.core().held(), "queries").count == 5'000);
  for (uint64_t i = 1; i <= 5'000; ++i) m.core().expel(kNow, {Port::frontend, i}, out);
  out = {};
  m.check();
  CHECK(kind(m.core().held(), "queries").bytes == 0);
}

TEST_CASE("workers with names and labels are counted", "[memory]") {
  Measured m;
  Output out;
  const std::string name(200, 'w');
  for (uint64_t i = 1; i <= 2'000; ++i) {
    protocol::Register message{uuid(i), name, {"a", "b", "c"}, 4, {}, {}};
    message.labels = {"a label that is not short", "another"};
    m.core().receive(kNow, {Port::backend, i}, {{i}, message}, out);
    out.clear();
  }
  out = {};
  m.check();
}

TEST_CASE("subscriptions are counted while there are workers that have them", "[memory]") {
  Measured m;
  Output out;
  std::vector<std::string> names;
  for (int i = 0; i < 2'000; ++i) names.push_back(fmt::format("a-tenant-with-a-name.{}", i));
  for (int i = 0; i < 500; ++i) names.push_back(fmt::format("a-prefix-of-some-length.{}.*", i));
  for (const std::string& name : names)
    if (!is_prefix(name)) m.apply(m.accepted(1, name));
  for (uint64_t i = 1; i <= 30; ++i) {
    protocol::Register message{uuid(i), "w", {"*"}, 4, {}, {}};
    message.queues.assign(names.begin(), names.end());
    m.core().receive(kNow, {Port::backend, i}, {{i}, message}, out);
    m.core().dispatch(kNow, out);
    out = {};
  }
  m.check();
  CHECK(kind(m.core().held(), "subscriptions").count == 30 * names.size());
  CHECK(kind(m.core().held(), "subscriptions").bytes > 30 * names.size() * sizeof(std::string));
  for (uint64_t i = 1; i <= 30; ++i) m.core().expel(kNow, {Port::backend, i}, out);
  Now later = kNow;
  later.mono += std::chrono::hours(1);
  m.core().tick(later, out);
  out = {};
  m.check();
  CHECK(kind(m.core().held(), "subscriptions").count == 0);
  CHECK(kind(m.core().held(), "subscriptions").bytes < kSmall);
}

TEST_CASE("reports of a round are counted until it ends", "[memory]") {
  Measured m;
  Output out;
  m.core().receive(kNow, {Port::frontend, 1}, {{1}, protocol::Hello{uuid(1)}}, out);
  auto record = m.accepted(4'000);
  record.report = Report::outcome;
  record.expires = kNow.wall;
  m.apply(record);
  Now later = kNow;
  later.wall += Millis(1);
  m.core().tick(later, out);
  CHECK(kind(m.core().held(), "reports").count == 1);
  m.core().dispatch(later, out);
  CHECK(kind(m.core().held(), "reports").count == 0);
  out = {};
  m.check();
}

TEST_CASE("a lease table that was large gives its memory back while leases remain", "[memory]") {
  Measured m;
  for (int i = 0; i < 20; ++i) m.apply(m.accepted(1000));
  const Epoch first = m.state().next_epoch();
  m.apply(records::Leased{uuid(2), first, {{{1}, 20'000}}});
  const uint64_t full = m.state().memory_bytes();
  m.apply(records::Done{kNow.wall, {{{1}, first, 19'900}}, {}});
  CHECK(m.state().memory_bytes() < full / 10);
  CHECK(m.state().leases_of(m.state().lease_of({19'950})->worker) == 100);
  for (uint64_t id = 19'901; id <= 20'000; ++id)
    CHECK(m.state().lease_of({id})->epoch == Epoch{first.value + id - 1});
}

TEST_CASE("what settings of queues may take follows those that there are", "[memory]") {
  State state;
  records::QueueSettings paused;
  paused.paused = true;
  const std::string name(100, 'q');
  uint64_t queues = 0;
  for (; state.has_room_for_settings(name); ++queues)
    state.apply(records::QueueSet{fmt::format("{:0100}", queues), paused}, kNow.mono);
  CHECK(queues == kMaxQueueSettingBytes / 190);
  state.apply(records::QueueSet{fmt::format("{:0100}", 5), paused}, kNow.mono);  // as it was
  CHECK(!state.has_room_for_settings(name));
  state.apply(records::QueueSet{fmt::format("{:0100}", 5), {}}, kNow.mono);
  CHECK(state.has_room_for_settings(name));

  State rebuilt;
  rebuilt.apply(state.checkpoint(), kNow.mono);
  CHECK(rebuilt.has_room_for_settings(name));
  rebuilt.apply(records::QueueSet{"another" + std::string(93, 'q'), paused}, kNow.mono);
  CHECK(!rebuilt.has_room_for_settings(name));
}

TEST_CASE("a checkpoint with every limit reached is below what its settings say", "[memory]") {
  Settings settings;
  settings.history = 20'000;
  settings.retention.key_bytes = 1 << 20;
  const auto long_number = uint64_t{1} << 60;
  records::Checkpoint full;
  full.broker = {7};
  full.totals.emplace();
  full.incarnation = full.next_job.value = full.next_epoch.value = long_number;
  for (uint64_t i = 0; i < settings.history + settings.history / 8; ++i)
    full.done.push_back({{long_number + i}, long_number});
  for (uint64_t i = 0; i < kMaxProducers; ++i) {
    records::ProducerState producer{uuid(i), {long_number}, kNow.wall, {}};
    for (uint64_t run = 0; run < 2 * kMaxSequenceRuns / kMaxProducers; ++run)
      producer.known.push_back({{long_number + run}, long_number, {long_number}});
    full.producers.push_back(std::move(producer));
  }
  std::string queue_name(protocol::kMaxQueueName, 'q');
  const auto longest = Millis(int64_t{1} << 40);
  const records::QueueSettings settings_of_queue{long_number, records::Order::fair,
                                                 true,        long_number,
                                                 long_number, long_number,
                                                 255,         longest,
                                                 longest,     longest,
                                                 longest};
  State with_settings;
  for (uint64_t i = 0; with_settings.has_room_for_settings(queue_name); ++i) {
    queue_name.replace(0, 8, fmt::format("{:08}", i));
    with_settings.apply(records::QueueSet{queue_name, settings_of_queue}, kNow.mono);
    if (i < kMaxTotals) full.totals->push_back({queue_name, long_number});
  }
  full.queues = with_settings.checkpoint().queues;
  REQUIRE(full.totals->size() == kMaxTotals);
  for (uint64_t i = 0; i < protocol::kMaxSessions; ++i) full.absent.push_back({uuid(i), 200});
  for (size_t length : {size_t{1}, size_t{13}, size_t{14}, size_t{100},
                        protocol::kMaxKey + protocol::kMaxQueueName}) {
    State state(settings.retention);
    const std::string queue(std::min(length, protocol::kMaxQueueName), 'q');
    for (uint64_t i = 0; i < 20'000; ++i) {
      std::string key = fmt::format("{:05}", i);
      if (length > queue.size() + key.size()) key.resize(length - queue.size(), 'k');
      records::Accepted record;
      record.first_job = state.next_job();
      record.producer = uuid(1);
      record.first_seq = record.floor = {1 + i};
      record.time = kNow.wall;
      record.queue = queue;
      record.payloads = {"x"};
      record.keys = {key};
      state.apply(record, kNow.mono);
    }
    full.keys = state.checkpoint().keys;
    for (auto& key : full.keys) key.job = {long_number};
    records::Chunk chunk;
    chunk.append(full);
    INFO("keys of " << length << ": " << full.keys.size());
    CHECK(full.keys.size() > 1000);
    CHECK(chunk.bytes() <= max_checkpoint_bytes(settings));
    CHECK(chunk.bytes() >= max_checkpoint_bytes(settings) * 8 / 10);  // it is no guess
  }
}

TEST_CASE("settings whose checkpoints would crowd a segment are seen", "[memory]") {
  constexpr uint64_t kSegment = 64 << 20;
  Settings settings;
  CHECK(max_checkpoint_bytes(settings) < kSegment / 2);
  const uint64_t most = max_history(settings, kSegment);
  CHECK(most > 800'000);
  settings.history = most;
  CHECK(max_checkpoint_bytes(settings) <= kSegment * 3 / 4);
  CHECK(max_checkpoint_bytes(settings) > kSegment * 3 / 4 - 64);
  settings.retention.key_bytes = 1 << 30;
  CHECK(max_history(settings, kSegment) == 0);
}

namespace {

// As the server's: memory set aside, that the failing allocation gets.
struct Reserve {
  static inline bool used = false;
  Reserve() {
    used = false;
    std::set_new_handler([] {
      if (std::exchange(used, true)) throw std::bad_alloc();
    });
  }
  ~Reserve() { std::set_new_handler(nullptr); }
};

// What a producer and a worker say one after the other: each kind of message once.
class Conversation {
 public:
  explicit Conversation(Core& core) : core_(core) {}

  // Message `at`, as bytes; empty after the last one.
  std::string frame(size_t at) const {
    using namespace protocol;
    Submit submit;
    submit.first = submit.floor = {1};
    submit.queue = "q";
    submit.payloads = {"a", "b", "c", "d"};
    submit.keys = {"k1", "k2", "k3", "k4"};
    submit.options.report = Report::result;
    const auto lease = [&](uint64_t id) {
      const LeaseInfo* info = core_.state().lease_of({id});
      return Lease{{id}, info ? info->epoch : Epoch{}};
    };
    switch (at) {
      case 0:
        return encode(SessionId{1}, FromClient{Hello{uuid(1)}});
      case 1:
        return encode(SessionId{1}, FromClient{submit});
      case 2:
        return encode(SessionId{2}, FromClient{Register{uuid(2), "w", {"q"}, 4, {}, {}}});
      case 3:
        return encode(SessionId{2}, FromClient{Credit{3}});
      case 4:
        return encode(SessionId{2}, FromClient{Done{1, {{lease(1), true, "result"}}}});
      case 5:
        return encode(SessionId{2},
                      FromClient{Fail{2, {{lease(2), FailKind::retryable, "no luck"}}}});
      case 6:
        return encode(SessionId{1}, FromClient{Cancel{{{{3}, 2}}}});
      case 7:
        return encode(SessionId{1}, FromClient{Query{{{{1}, 4}}}});
      case 8:
        return encode(SessionId{1}, FromClient{Collected{{{{1}, 1}}}});
      default:
        return {};
    }
  }
  // Its answers as bytes, with those of the dispatch that follows.
  std::vector<std::string> say(const std::string& frame) {
    Output out;
    auto decoded = protocol::decode_from_client(frame);
    const auto& envelope = std::get<protocol::Envelope<protocol::FromClient>>(decoded);
    const bool is_worker = envelope.session.value == 2;
    core_.receive(kNow, {is_worker ? Port::backend : Port::frontend, envelope.session.value},
                  envelope, out);
    core_.dispatch(kNow, out);
    std::vector<std::string> frames;
    for (const auto& [record, owner] : out.records) {
      records::Chunk chunk;
      chunk.append(record, owner);
    }
    for (const Send& send : out.sends)
      frames.push_back(protocol::encode(send.session, send.message));
    return frames;
  }

 private:
  Core& core_;
};

}  // namespace

TEST_CASE("an allocation that fails once, at any point, changes nothing that a peer sees",
          "[memory][alloc]") {
  for (size_t at = 0; at < 9; ++at) {
    for (uint64_t others = 0;; ++others) {
      Measured calm, short_of_memory;
      Conversation before(calm.core()), after(short_of_memory.core());
      for (size_t i = 0; i < at; ++i) before.say(before.frame(i)), after.say(after.frame(i));
      const std::string frame = before.frame(at);
      REQUIRE(frame == after.frame(at));
      const auto expected = before.say(frame);
      Reserve reserve;
      test::fail_allocation_after(others);
      const auto answers = after.say(frame);
      const bool failed = test::stop_failing_allocations();
      CHECK(Reserve::used == failed);
      CHECK(answers == expected);
      CHECK(short_of_memory.state().describe() == calm.state().describe());
      if (!failed) break;
    }
  }
}

TEST_CASE("a frame that there is no memory to decode changes nothing", "[memory][alloc]") {
  Measured m;
  Conversation talk(m.core());
  talk.say(talk.frame(0));
  const std::string frame = talk.frame(1), before = m.state().describe();
  uint64_t failures = 0;
  for (;; ++failures) {
    test::fail_allocation_after(failures);
    bool threw = false;
    try {
      auto decoded = protocol::decode_from_client(frame);
    } catch (const std::bad_alloc&) {
      threw = true;
    }
    CHECK(test::stop_failing_allocations() == threw);
    CHECK(m.state().describe() == before);
    if (!threw) break;
  }
  CHECK(failures > 0);
}

TEST_CASE("while memory is short new jobs are rejected, and known ones are answered",
          "[memory][alloc]") {
  Measured m;
  Conversation talk(m.core());
  talk.say(talk.frame(0));
  m.core().set_memory_short(true);
  CHECK(talk.say(talk.frame(1)).at(0).find("memory_full") != std::string::npos);
  CHECK(m.state().live_jobs() == 0);
  m.core().set_memory_short(false);
  talk.say(talk.frame(1));
  CHECK(m.state().live_jobs() == 4);
  m.core().set_memory_short(true);
  CHECK(talk.say(talk.frame(1)).at(0).find("memory_full") == std::string::npos);
}
