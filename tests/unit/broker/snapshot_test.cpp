#include "broker/server/snapshot.h"

#include "tests/support/temp_directory.h"
#include "tests/unit/core/history.h"

using namespace millrace;
using namespace millrace::test;
using server::PayloadStore;
using server::Snapshot;

namespace {

constexpr journal::Position kEnd{{7}, {70}, 0xfeed};

records::Accepted accepted(uint64_t first, const std::vector<std::string>& payloads,
                           std::string* array) {
  records::Accepted record;
  record.first_job = {first};
  for (const std::string& payload : payloads) *array += "--" + payload;
  size_t at = 0;
  for (const std::string& payload : payloads) {
    record.payloads.push_back(std::string_view(*array).substr(at + 2, payload.size()));
    at += 2 + payload.size();
  }
  record.payload_array = *array;
  return record;
}

// Places of jobs in two segments, some at equal distances.
PayloadStore some_places() {
  PayloadStore store(0);
  std::string one, two;
  store.restore(accepted(1, {"aaa", "bbb", "ccc"}, &one), {{1}, 4160});
  store.restore(accepted(4, {"d", "", "eeeee"}, &two), {{2}, 4160});
  store.retire({{2}, 1});
  return store;
}

std::string described(const std::vector<PayloadStore::Run>& runs) {
  std::string text;
  for (const auto& run : runs)
    text += std::to_string(run.first_job) + "+" + std::to_string(run.count) + " at " +
            std::to_string(run.segment) + ":" + std::to_string(run.offset) + " of " +
            std::to_string(run.size) + " each " + std::to_string(run.stride) + "\n";
  return text;
}

}  // namespace

TEST_CASE("a state is the same when it was read from a snapshot", "[snapshot]") {
  TempDirectory dir;
  size_t results = 0;
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    History history(seed);
    int step = 0;
    history.take(150, [&] {
      if (++step % 30 != 0) return;
      const State& state = history.harness().state();
      PayloadStore places(0);
      std::string array;
      std::vector<std::string> payloads;
      for (uint64_t id = 1; id < state.next_job().value; ++id)
        payloads.push_back(id % 4 == 0 ? "longer" : "x");
      places.restore(accepted(1, payloads, &array), {{2}, 4160});
      for (const auto& [job, result] : state.results())
        places.restore(job, {3, uint32_t(result.bytes.size())});
      REQUIRE(Snapshot::write(dir.path(), kEnd, state, places).ok());
      auto snapshot = Snapshot::read(dir.path());
      REQUIRE(snapshot);
      CHECK(snapshot->end() == kEnd);
      Core core(history.harness().core().settings(), 1);
      PayloadStore store(0);
      REQUIRE(snapshot->restore(history.harness().now, &core, &store).ok());
      REQUIRE(core.state().describe() == state.describe());
      REQUIRE(core.state().winners() == state.winners());
      REQUIRE(described(store.runs()) == described(places.runs()));
      CHECK(store.live_bytes() == places.live_bytes());
      CHECK(store.results().size() == places.results().size());
      results += state.results().size();
    });
  }
  CHECK(results > 0);
}

TEST_CASE("payloads at equal distances are one run", "[snapshot]") {
  CHECK(described(some_places().runs()) ==
        "1+1 at 1:4162 of 3 each 0\n"
        "3+1 at 1:4172 of 3 each 0\n"
        "4+1 at 2:4162 of 1 each 0\n"
        "5+1 at 2:4165 of 0 each 0\n"
        "6+1 at 2:4167 of 5 each 0\n");
  PayloadStore store(0);
  std::string array;
  store.restore(accepted(1, {"aaa", "bbb", "ccc", "ddd"}, &array), {{1}, 100});
  CHECK(described(store.runs()) == "1+4 at 1:102 of 3 each 5\n");
}

TEST_CASE("a snapshot that is cut short or has a flipped bit is none", "[snapshot]") {
  TempDirectory dir;
  History history(1);
  history.take(50, [] {});
  PayloadStore places = some_places();
  for (const auto& [job, result] : history.harness().state().results()) places.restore(job, {3, 0});
  REQUIRE(Snapshot::write(dir.path(), kEnd, history.harness().state(), places).ok());
  const std::string whole = TempDirectory::content_of(dir.file("snapshot"));
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = char(flipped[at] ^ 0x10);
    dir.file("snapshot", flipped);
    REQUIRE_FALSE(Snapshot::read(dir.path()));
    dir.file("snapshot", whole.substr(0, at));
    REQUIRE_FALSE(Snapshot::read(dir.path()));
  }
  dir.file("snapshot", whole + "x");
  CHECK_FALSE(Snapshot::read(dir.path()));
  dir.file("snapshot", whole);
  CHECK(Snapshot::read(dir.path()));
  Snapshot::remove(dir.path());
  CHECK_FALSE(Snapshot::read(dir.path()));
}

TEST_CASE("a snapshot that contradicts itself is refused, whatever its checksum says",
          "[snapshot]") {
  State state;
  std::string array;
  records::Accepted three = accepted(1, {"a", "b", "c"}, &array);
  three.producer = uuid(1);
  three.first_seq = three.floor = {1};
  three.queue = "q";
  state.apply(three, {});
  auto restored = [&](uint64_t first, uint32_t count) {
    PayloadStore places(0);
    places.restore(PayloadStore::Run{first, count, 1, 64, 1, 1, 0});
    auto snapshot =
        Snapshot::parse(std::make_shared<std::string>(Snapshot::encode(kEnd, state, places)));
    REQUIRE(snapshot);
    Core core({}, 1);
    PayloadStore store(0);
    auto result = snapshot->restore({}, &core, &store);
    return result.ok() ? "" : result.error().message;
  };
  CHECK(restored(1, 3) == "");
  CHECK(restored(1, 2).find("more ready jobs") != std::string::npos);
  CHECK(restored(2, 3).find("never accepted") != std::string::npos);
}

TEST_CASE("a snapshot is worth it for a large journal, unless most jobs stand in it one by one",
          "[snapshot]") {
  constexpr uint64_t kMiB = 1 << 20;
  CHECK_FALSE(Snapshot::is_worth(512 * kMiB - 1, 0));
  CHECK(Snapshot::is_worth(512 * kMiB, 0));
  CHECK(Snapshot::is_worth(512 * kMiB, 512 * 1024));
  CHECK_FALSE(Snapshot::is_worth(512 * kMiB, 512 * 1024 + 1));
  CHECK_FALSE(Snapshot::is_worth(900 * kMiB, 10'000'000));
}

TEST_CASE("a result is restored whose job's end is forgotten", "[snapshot]") {
  records::Checkpoint checkpoint;
  checkpoint.broker = {7};
  checkpoint.next_job = {5};
  checkpoint.totals.emplace();
  checkpoint.history_start = {3};
  State state;
  state.apply(checkpoint, {});
  state.apply(records::ResultRetained{{1}, 1, WallMs(Millis(1000)), "result"}, {});
  PayloadStore places(0), store(0);
  places.restore(JobId{1}, PayloadStore::RetainedResult{1, 6});
  auto snapshot =
      Snapshot::parse(std::make_shared<std::string>(Snapshot::encode(kEnd, state, places)));
  REQUIRE(snapshot);
  Core core({}, 1);
  auto restored = snapshot->restore({}, &core, &store);
  INFO((restored.ok() ? "" : restored.error().message));
  REQUIRE(restored.ok());
  CHECK(core.state().describe() == state.describe());
  CHECK(store.results().size() == 1);
}

TEST_CASE("a job at rest is restored that is older than the history", "[snapshot]") {
  State state;
  std::string array;
  records::Accepted two = accepted(1, {"a", "b"}, &array);
  two.producer = uuid(1);
  two.first_seq = two.floor = {1};
  two.queue = "q";
  state.apply(two, {});
  state.apply(records::HistoryTrimmed{{2}}, {});
  PayloadStore places(0), store(0);
  places.restore(PayloadStore::Run{1, 2, 1, 64, 1, 1, 0});
  auto snapshot =
      Snapshot::parse(std::make_shared<std::string>(Snapshot::encode(kEnd, state, places)));
  REQUIRE(snapshot);
  Core core({}, 1);
  auto restored = snapshot->restore({}, &core, &store);
  INFO((restored.ok() ? "" : restored.error().message));
  REQUIRE(restored.ok());
  CHECK(core.state().ready_jobs() == 2);
}
