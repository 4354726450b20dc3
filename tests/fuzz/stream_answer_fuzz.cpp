// Any line as the answer of a stream: command: an end of its job, or nothing. And any bytes as a
// payload: a line of JSON without a line end inside.
#include <memory>
#include <nlohmann/json.hpp>

#include "common/base/check.h"
#include "tests/fuzz/target.h"
#include "worker/handlers/stream_line.h"
#include "worker/process/stop_signal.h"

using namespace millrace;
using namespace millrace::worker;

namespace {

constexpr std::string_view kJob = "3f9a1c07-42";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::view_of(data, size);
  if (auto end = parse_answer(text, kJob)) {
    MILLRACE_CHECK(end->kind == Completion::Kind::done ||
                   end->kind == Completion::Kind::retryable ||
                   end->kind == Completion::Kind::permanent);
    MILLRACE_CHECK(end->text.size() <= size);
  }
  static const StopSignal stop;
  Job job;
  job.broker = {0x3f9a1c07};
  job.lease = {{42}, {7}};
  job.payload = text;
  const std::string line = job_line({job, "q", stop});
  MILLRACE_CHECK(line.find('\n') == line.size() - 1);
  MILLRACE_CHECK(nlohmann::json::parse(line).at("id") == kJob);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  return {R"({"id":"3f9a1c07-42","result":"done"})",
          R"({"id":"3f9a1c07-42","result_base64":"aGVsbG8="})",
          R"({"id":"3f9a1c07-42","error":"no luck","kind":"permanent"})",
          R"({"id":"3f9a1c07-42","error":"no luck"})",
          R"({"id":"3f9a1c07-42"})",
          R"({"id":"other","result":"\u0000"})",
          "[[[[[[[[[[]]]]]]]]]]",
          "\xff\xfe"};
}
