// Any bytes as the records of a journal: what decodes, and contradicts nothing that came before, is
// applied without an abort, the totals agree, and a broker can begin with the state. (Whether its
// records fit together is not asked: repaired journals have gaps.)
#include "broker/core/core.h"
#include "broker/records/record_codec.h"
#include "common/base/check.h"
#include "tests/fuzz/target.h"
#include "tests/unit/broker/record_samples.h"

using namespace millrace;
using namespace millrace::core;

namespace {

constexpr Now kNow{Mono(std::chrono::hours(1)), WallMs(Millis(1'700'000'000'000))};
constexpr std::chrono::seconds kHang{20};

std::string encode(const Record& record) {
  records::Chunk chunk;
  chunk.append(record);
  std::string bytes;
  for (std::string_view part : chunk.parts()) bytes += part;
  return bytes;
}

// As recovery does, and the first moments of a broker after it.
void check_begin(Core& core) {
  Output out;
  core.begin(kNow, {7}, out);
  core.tick(kNow, out);
  core.dispatch(kNow, out);
  for (const OutRecord& written : out.records) encode(written.record);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto began = Mono::clock::now();
  Core core({}, 42);
  bool fits = true;
  auto decoded = records::decode_all(fuzz::view_of(data, size), [&](const Record& record, size_t) {
    fits = fits && !core.replay(record, kNow);
  });
  MILLRACE_CHECK(core.state().totals_agree());
  if (decoded.ok() && fits && core.state().incarnation() < kMaxIncarnation) check_begin(core);
  MILLRACE_CHECK(Mono::clock::now() - began < kHang);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  const Uuid producer = Uuid::from_bytes("0123456789abcdef"),
             worker = Uuid::from_bytes("fedcba9876543210");
  records::Checkpoint first;
  first.broker = {7};
  first.next_job = {1};
  records::Accepted accepted;
  accepted.first_job = {1};
  accepted.producer = producer;
  accepted.first_seq = accepted.floor = {1};
  accepted.time = kNow.wall;
  accepted.queue = "q";
  accepted.report = Report::result;
  accepted.payloads = {"a", "b", "c", "d"};
  const Epoch epoch = Epoch{1};
  auto at = [&](uint64_t more) { return Epoch{epoch.value + more}; };
  std::string life;
  std::vector<std::string> all;
  for (const Record& record : std::initializer_list<Record>{
           first, records::Started{1, kNow.wall}, accepted,
           records::Leased{worker, epoch, {{{1}, 4}}},
           records::Done{kNow.wall, {{{1}, epoch, 1}}, {{{1}, "result"}}},
           records::Failed{{{2}, at(1)},
                           kNow.wall,
                           records::FailKind::retryable,
                           kNow.wall + Millis(5),
                           "w",
                           "no luck"},
           records::Failed{
               {{3}, at(2)}, kNow.wall, records::FailKind::permanent, {}, "w", "no luck"},
           records::Returned{kNow.wall, records::ReturnReason::lost, "w", {{{{4}, at(3)}, false}}},
           records::Due{{{{2}, 1}}}, records::Requeued{kNow.wall, {{{3}, 1}}},
           records::Cancelled{kNow.wall, records::CancelReason::asked, {{{4}, 1}}},
           records::Collected{{{{1}, 1}}}}) {
    life += encode(record);
    all.push_back(life);
  }
  std::string prefix;
  for (const Record& record : test::one_of_each())
    prefix += encode(record), all.push_back(encode(record));
  all.push_back(prefix);
  return all;
}
