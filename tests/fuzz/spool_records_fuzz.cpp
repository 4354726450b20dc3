// Any bytes as the body of a batch of a spool: they decode to records or to an error, and what
// decodes has one form, which decodes to the same. An index takes whatever the records say.
#include "common/base/check.h"
#include "producer/spool/index.h"
#include "producer/spool/records.h"
#include "producer/submit/resume.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

void check_form(const SpoolRecord& record) {
  const std::string first = encode(record);
  std::string again;
  auto decoded = decode_spool(first, [&](const SpoolRecord& back, SpoolSpan span) {
    MILLRACE_CHECK(span.offset == 0 && span.size == first.size());
    MILLRACE_CHECK(back.index() == record.index());
    again = encode(back);
    return Result<void>();
  });
  MILLRACE_CHECK(decoded.ok());
  MILLRACE_CHECK(again == first);
}

uint64_t count(const std::vector<SeqRange>& runs) {
  uint64_t jobs = 0;
  for (SeqRange run : runs) jobs += run.count;
  return jobs;
}

// As a start replays them; what is left is then given out and answered.
class Replayed {
 public:
  void take(const SpoolRecord& record, SpoolSpan span) {
    const uint64_t jobs = index_.jobs();
    if (const auto* put = std::get_if<SpoolPut>(&record)) {
      const bool is_new =
          index_.restore(put->seqs(), put->bytes(), {{1}, uint32_t(span.offset)}, span.size);
      MILLRACE_CHECK(index_.jobs() == jobs || (is_new && index_.jobs() > jobs));
    } else if (const auto* answered = std::get_if<SpoolAnswered>(&record)) {
      uint64_t fresh = 0;
      for (SeqRange run : answered->runs) {
        MILLRACE_CHECK(run.end() > run.first);
        fresh += count(index_.answered(run));
      }
      MILLRACE_CHECK(index_.jobs() == jobs - fresh);
    }
  }
  void check_end() {
    MILLRACE_CHECK(index_.unloaded() == index_.jobs());
    MILLRACE_CHECK(index_.first_unanswered().has_value() == (index_.jobs() > 0));
    while (const SpoolIndex::Entry* entry = index_.next_to_load())
      index_.loaded_below(entry->seqs().end());
    MILLRACE_CHECK(index_.unloaded() == 0);
    index_.answered({{1}, UINT64_MAX - 1});
    MILLRACE_CHECK(index_.jobs() == 0 && index_.bytes() == 0 && index_.live_bytes() == 0);
    MILLRACE_CHECK(!index_.first_unanswered() && !index_.oldest_segment());
  }

 private:
  SpoolIndex index_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  Replayed replayed;
  size_t end = 0;
  auto decoded = decode_spool(body, [&](const SpoolRecord& record, SpoolSpan span) {
    MILLRACE_CHECK(span.offset == end && span.size > 0 && span.offset + span.size <= size);
    end += span.size;
    check_form(record);
    replayed.take(record, span);
    return Result<void>();
  });
  MILLRACE_CHECK(decoded.ok() ? end == size : decoded.error().code == ExitCode::bad_data);
  replayed.check_end();
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  SpoolPut plain, keyed;
  plain.submit.first = seq_of(1, 1);
  plain.submit.queue = "q";
  plain.submit.payloads = {"one", "two", "three"};
  keyed.submit = plain.submit;
  keyed.submit.first = seq_of(2, 7);
  keyed.submit.options = {protocol::Report::result, 3, 9, Millis(1500), Millis(60000), ""};
  keyed.submit.keys = {"a", "b", "c"};
  std::vector<std::string> all{encode(SpoolCheckpoint{Uuid::from_bytes("0123456789abcdef"), 7}),
                               encode(plain), encode(keyed),
                               encode(SpoolAnswered{{{seq_of(1, 2), 1}, {seq_of(2, 7), 2}}})};
  std::string together;
  for (const std::string& record : all) together += record;
  all.push_back(together);
  return all;
}
