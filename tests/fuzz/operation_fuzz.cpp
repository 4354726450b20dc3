// Any method, path and body as a request for an operation: an operation with values in their
// bounds, or a problem; and settings of a queue that any change leaves valid.
#include <nlohmann/json.hpp>

#include "broker/admin/operation_routes.h"
#include "common/base/check.h"
#include "common/protocol/limits.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::admin;

namespace {

void check_settings(const QueueChange& change) {
  auto after = changed({}, change);
  if (!after) {
    MILLRACE_CHECK(after.error().code == ExitCode::bad_data);
    return;
  }
  auto again = changed(*after, change);
  MILLRACE_CHECK(again.ok() && *again == *after);
}

}  // namespace

// The path, a line end, the body.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::view_of(data, size);
  http::Request request;
  request.path = text.substr(0, text.find('\n'));
  request.body = text.substr(std::min(request.path.size() + 1, text.size()));
  const OperationRoute* route = find_operation(request.method, request.path);
  if (!route) return 0;
  request.method = route->method;
  auto read = read_operation(*route, request);
  if (auto* answer = std::get_if<Answer>(&read)) {
    MILLRACE_CHECK(answer->status >= 400 && answer->status < 500);
    MILLRACE_CHECK(!nlohmann::json::parse(answer->body, nullptr, false).is_discarded());
    return 0;
  }
  const Operation& operation = std::get<Operation>(read);
  if (auto* set = std::get_if<SetQueue>(&operation)) {
    MILLRACE_CHECK(protocol::valid_queue_name(set->queue));
    check_settings(set->change);
  }
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  return {"/v1/jobs/3f9a1c07-42\n",
          "/v1/jobs/42/cancel\n{}",
          "/v1/queues/mail\n{\"weight\": 3, \"backoff\": \"500ms..5m\", \"paused\": false}",
          "/v1/queues/mail\n{\"order\": \"fair\", \"concurrency\": 4, \"rate\": 100, "
          "\"max_length\": 7, \"max_attempts\": 9, \"lease_ms\": 1000, \"ttl_ms\": 1}",
          "/v1/queues/mail/purge\n",
          "/v1/dead/retry\n{\"id\": \"3f9a1c07-42\", \"queue\": \"mail\", \"error\": \"x\", "
          "\"older_ms\": 5}",
          "/v1/dead/drop\n{\"all\": true}"};
}
