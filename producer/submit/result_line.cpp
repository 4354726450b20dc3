#include "producer/submit/result_line.h"

#include <nlohmann/json.hpp>

#include "common/base/base64.h"
#include "common/base/terminal_text.h"
#include "common/base/utf8.h"

namespace millrace::producer {
namespace {

std::string quoted(std::string_view text) {
  return terminal_json(nlohmann::json(std::string(text))
                           .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

std::string_view state_text(protocol::JobState state) {
  return state == protocol::JobState::unknown ? "lost" : protocol::name_of(state);
}

std::string result_line(const Ended& ended, uint64_t i) {
  std::string line = "{\"id\":\"" + job_text(ended.broker, {ended.first_job.value + i}) +
                     "\",\"seq\":" + std::to_string(ended.seqs.first.value + i) + ",\"state\":\"";
  line += state_text(ended.state);
  line += "\",\"attempts\":" + (ended.attempts ? std::to_string(ended.attempts) : "null");
  bool text = protocol::is_utf8(ended.result);
  if (ended.has_result && text) line += ",\"result\":" + quoted(ended.result);
  if (ended.has_result && !text) line += ",\"result_base64\":\"" + base64(ended.result) + "\"";
  if (ended.state == protocol::JobState::dead) line += ",\"error\":" + quoted(ended.error);
  return line + "}";
}

}  // namespace millrace::producer
