// Any text as the query of a request: pairs, or nothing; and what a request's query says of a job.
#include "common/http/query.h"

#include <algorithm>

#include "common/base/check.h"
#include "producer/gateway/job_request.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

constexpr Millis kMaxWait{30000};

void check_job(const Result<JobRequest>& job, Millis max_wait) {
  if (!job) {
    MILLRACE_CHECK(job.error().code == ExitCode::bad_data && !job.error().message.empty());
    return;
  }
  MILLRACE_CHECK(job->options.priority <= protocol::kMaxPriority);
  MILLRACE_CHECK(job->options.delay >= Millis(0) && job->options.ttl >= Millis(0));
  MILLRACE_CHECK(uint64_t(job->options.delay.count()) <= protocol::kMaxDelayMs);
  MILLRACE_CHECK(uint64_t(job->options.ttl.count()) <= protocol::kMaxDelayMs);
  MILLRACE_CHECK(job->options.key.size() <= protocol::kMaxKey);
  MILLRACE_CHECK(job->wait <= max_wait);
}

}  // namespace

// The query; behind a line end, a key; behind one more, what is accepted.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::view_of(data, size);
  auto next_line = [&] {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    return std::string(line);
  };
  http::Request request;
  request.query = next_line();
  if (!text.empty()) request.headers.emplace_back("Idempotency-Key", next_line());
  if (!text.empty()) request.headers.emplace_back("Accept", next_line());

  if (auto pairs = http::parse_query(request.query)) {
    size_t bytes = 0;
    for (const auto& [name, value] : *pairs) bytes += name.size() + value.size();
    MILLRACE_CHECK(bytes <= request.query.size());
  }
  if (auto decoded = http::percent_decoded(request.query))
    MILLRACE_CHECK(decoded->size() <= request.query.size());
  check_job(read_job_request(request, kMaxWait), kMaxWait);
  check_job(read_batch_request(request), Millis(0));
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  return {"priority=7&wait=5s",
          "delay=1h&ttl=2h&max_attempts=3\n\"key-1\"\napplication/octet-stream;q=0.5, */*",
          "a=%41%zz&&b&=c+d%20e", "priority=4&priority=5\nkey", "ttl=876000h"};
}
