// Any bytes as the body of a batch: they decode to records or to an error, and what decodes has one
// form, which decodes to the same.
#include "broker/records/record_codec.h"

#include "common/base/check.h"
#include "tests/fuzz/target.h"
#include "tests/unit/broker/record_samples.h"

using namespace millrace;
using namespace millrace::records;

namespace {

std::string encode(const Record& record) {
  Chunk chunk;
  chunk.append(record);
  std::string bytes;
  for (std::string_view part : chunk.parts()) bytes += part;
  MILLRACE_CHECK(bytes.size() == chunk.bytes() && chunk.records() == 1);
  return bytes;
}

// Payload arrays are taken over as they stand, so one encoding is not yet the one form.
void check_form(const Record& record) {
  const std::string first = encode(record);
  std::string again;
  auto decoded = decode_all(first, [&](const Record& back, size_t offset) {
    MILLRACE_CHECK(offset == 0 && back.index() == record.index());
    again = encode(back);
  });
  MILLRACE_CHECK(decoded.ok());
  MILLRACE_CHECK(again == first);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  size_t last = 0;
  auto decoded = decode_all(body, [&](const Record& record, size_t offset) {
    MILLRACE_CHECK(offset < size && (offset == 0 || offset > last));
    last = offset;
    if (const auto* accepted = std::get_if<Accepted>(&record)) {
      MILLRACE_CHECK(accepted->payload_array.data() >= body.data() &&
                     accepted->payload_array.end() <= body.end());
    }
    check_form(record);
  });
  MILLRACE_CHECK(decoded.ok() || decoded.error().code == ExitCode::bad_data);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  std::vector<std::string> all;
  std::string together;
  for (const Record& record : test::one_of_each()) {
    all.push_back(encode(record));
    together += all.back();
  }
  all.push_back(together);
  return all;
}
