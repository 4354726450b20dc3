// Any bytes as the body of a batch of the gateway, and as a file of JSON lines of submit: payloads
// or an error, and both take the same lines.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/check.h"
#include "producer/gateway/job_request.h"
#include "producer/submit/input.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

// The payloads, or nothing where a line is refused.
std::optional<std::vector<std::string>> lines_of(std::string_view text) {
  static const int fd = memfd_create("input", MFD_CLOEXEC);
  static const std::string path = fmt::format("/proc/self/fd/{}", fd);
  MILLRACE_CHECK(ftruncate(fd, 0) == 0);
  MILLRACE_CHECK(pwrite(fd, text.data(), text.size(), 0) == ssize_t(text.size()));
  auto input = Input::open(path, Input::Form::ndjson);
  if (!input) {
    MILLRACE_CHECK(input.error().code == ExitCode::bad_data);
    return std::nullopt;
  }
  std::vector<std::string> payloads;
  std::string payload;
  for (;;) {
    auto next = input->next(&payload);
    MILLRACE_CHECK(next.ok());  // the file was checked to its end
    if (*next == Input::Next::end) return payloads;
    MILLRACE_CHECK(*next == Input::Next::payload);
    payloads.push_back(payload);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body = fuzz::view_of(data, size);
  const auto from_file = lines_of(body);
  auto lines = split_batch(body);
  if (!lines) {
    MILLRACE_CHECK(lines.error().code == ExitCode::bad_data);
    return 0;
  }
  MILLRACE_CHECK(lines->size() <= kMaxBatchLines);
  bool all_fine = true;
  for (const BatchLine& line : *lines) {
    MILLRACE_CHECK(line.payload.data() >= body.data() && line.payload.end() <= body.end());
    all_fine &= line.fault.empty();
  }
  MILLRACE_CHECK(all_fine == from_file.has_value());
  if (!all_fine) return 0;
  MILLRACE_CHECK(from_file->size() == lines->size());
  for (size_t i = 0; i < lines->size(); ++i) MILLRACE_CHECK((*from_file)[i] == (*lines)[i].payload);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  return {"{\"a\": 1}\n[2, 3]\r\n\"text\"\n4", "\n", "{\"a\": 1}\nnot JSON\n", "\xef\xbb\xbf{}\n",
          "[[[[[[1]]]]]]\ntrue\nnull\n-1.5e300\n\"\\ud800\\udc00\"\n"};
}
