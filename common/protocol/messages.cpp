#include "common/protocol/messages.h"

#include "common/protocol/queue_name.h"

#include <algorithm>

namespace millrace::protocol {
namespace {

constexpr std::string_view kStateNames[] = {"unknown",    "scheduled", "ready", "leased",
                                            "retry-wait", "done",      "dead",  "cancelled",
                                            "expired",    "ended"};

bool valid_queue_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == ':' || c == '-';
}

}  // namespace

std::string_view name_of(JobState state) { return kStateNames[size_t(state)]; }

bool parse_job_state(std::string_view name, JobState* state) {
  auto found = std::find(std::begin(kStateNames), std::end(kStateNames), name);
  if (found == std::end(kStateNames)) return false;
  *state = JobState(found - std::begin(kStateNames));
  return true;
}

std::optional<About> about(const FromClient& message) {
  using Kind = About::Kind;
  if (auto* submit = std::get_if<Submit>(&message)) return About{Kind::seq, submit->first.value};
  if (auto* done = std::get_if<Done>(&message)) return About{Kind::batch, done->batch};
  if (auto* fail = std::get_if<Fail>(&message)) return About{Kind::batch, fail->batch};
  if (auto* release = std::get_if<Release>(&message)) return About{Kind::batch, release->batch};
  return std::nullopt;
}

std::string result_too_large(size_t bytes, uint64_t max_job_size) {
  return "the result has " + std::to_string(bytes) + " bytes, above the broker's max_job_size of " +
         std::to_string(max_job_size) +
         ": make it smaller, or start the broker with a larger --max-job-size";
}

bool valid_queue_name(std::string_view name) {
  return name != "." && name != ".." && stored_queue_name(name);
}

bool stored_queue_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxQueueName &&
         std::all_of(name.begin(), name.end(), valid_queue_char);
}

bool valid_subscription(std::string_view text) {
  if (!text.ends_with('*')) return valid_queue_name(text);
  text.remove_suffix(1);
  return text.empty() || (text.size() < kMaxQueueName && valid_queue_name(text));
}

}  // namespace millrace::protocol
