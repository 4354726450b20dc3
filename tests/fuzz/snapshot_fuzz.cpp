// Any bytes as a snapshot whose checksum is right: it is none, or it is refused, or the state that
// it leaves can be written again and read.
#include "broker/server/snapshot.h"

#include <cstring>

#include "common/base/check.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using server::PayloadStore;
using server::Snapshot;

namespace {

constexpr Now kNow{Mono(std::chrono::hours(1)), WallMs(Millis(1'700'000'000'000))};
constexpr size_t kHeader = 64;
constexpr uint64_t kMostPlaces = 1 << 16;  // a target that takes longer finds less

// As many as a restore would make; the header's 5th and 6th numbers are the sizes of what is
// before.
uint64_t places_of(const std::string& file) {
  uint64_t sizes[2], places = 0;
  std::memcpy(sizes, file.data() + 4 * sizeof(uint64_t), sizeof sizes);
  for (size_t at = kHeader + sizes[0] + sizes[1]; at < file.size();
       at += sizeof(PayloadStore::Run)) {
    PayloadStore::Run run;
    std::memcpy(&run, file.data() + at, sizeof run);
    places += run.count;
  }
  return places;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kHeader) {
    MILLRACE_CHECK(!Snapshot::parse(std::make_shared<std::string>(fuzz::view_of(data, size))));
    return 0;
  }
  auto file = std::make_shared<std::string>(fuzz::view_of(data, size));
  Snapshot::seal(file.get());
  auto snapshot = Snapshot::parse(file);
  if (!snapshot || places_of(*file) > kMostPlaces) return 0;
  core::Core core({}, 1);
  PayloadStore store(0);
  auto restored = snapshot->restore(kNow, &core, &store);
  if (!restored) {
    MILLRACE_CHECK(restored.error().code == ExitCode::bug);
    return 0;
  }
  const core::State& state = core.state();
  MILLRACE_CHECK(state.live_jobs() + state.dead().size() <= kMostPlaces + size);
  for (const core::NeverLeased& group : state.never_leased())
    for (const auto& run : group.runs)
      MILLRACE_CHECK(state.state_of(run.first) == core::JobState::ready);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  core::State state;
  records::Accepted accepted;
  accepted.first_job = {1};
  accepted.producer = Uuid::from_bytes("0123456789abcdef");
  accepted.first_seq = accepted.floor = {1};
  accepted.time = kNow.wall;
  accepted.queue = "q";
  accepted.report = core::Report::result;
  accepted.payloads = {"a", "b", "c", "d"};
  const Epoch epoch = Epoch{1};
  std::vector<std::string> all;
  for (const records::Record& record : std::initializer_list<records::Record>{
           records::Started{1, kNow.wall, {}}, accepted,
           records::Leased{accepted.producer, epoch, {{{1}, 2}}},
           records::Done{kNow.wall, {{{1}, epoch, 1}}, {{{1}, "result"}}, {}}}) {
    state.apply(record, kNow.mono);
    PayloadStore places(0);
    places.restore(PayloadStore::Run{1, 4, 1, 64, 3, 5, 0});
    for (const auto& [job, result] : state.results())
      places.restore(job, {1, uint32_t(result.bytes.size())});
    all.push_back(Snapshot::encode({{1}, {2}, 3}, state, places));
  }
  return all;
}
