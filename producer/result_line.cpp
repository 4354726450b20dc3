#include "producer/result_line.h"

#include <nlohmann/json.hpp>

namespace millrace::producer {
namespace {

// How many bytes a character has by its first one; 0 if none begins so.
size_t length_of(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return 2;
  if (first >= 0xE0 && first < 0xF0) return 3;
  if (first >= 0xF0 && first < 0xF5) return 4;
  return 0;
}

// What the first byte leaves open: no overlong forms, surrogates, or numbers above 10FFFF.
bool second_fits(unsigned char first, unsigned char second) {
  if (first == 0xE0) return second >= 0xA0;
  if (first == 0xED) return second < 0xA0;
  if (first == 0xF0) return second >= 0x90;
  if (first == 0xF4) return second < 0x90;
  return true;
}

std::string_view state_text(protocol::JobState state) {
  return state == protocol::JobState::unknown ? "lost" : protocol::name_of(state);
}

std::string quoted(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

bool is_utf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    auto first = static_cast<unsigned char>(bytes[i]);
    size_t length = length_of(first);
    if (length == 0 || length > bytes.size() - i) return false;
    for (size_t k = 1; k < length; ++k) {
      auto next = static_cast<unsigned char>(bytes[i + k]);
      if ((next & 0xC0) != 0x80 || (k == 1 && !second_fits(first, next))) return false;
    }
    i += length;
  }
  return true;
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    size_t here = std::min<size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (k < here ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) text += k <= here ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::string result_line(const Ended& ended, uint64_t i) {
  std::string line = "{\"id\":\"" + job_text(ended.broker, {ended.first_job.value + i}) + "\",\"seq\":" +
                     std::to_string(ended.seqs.first.value + i) + ",\"state\":\"";
  line += state_text(ended.state);
  line += "\",\"attempts\":" + (ended.attempts ? std::to_string(ended.attempts) : "null");
  if (ended.has_result && is_utf8(ended.result)) line += ",\"result\":" + quoted(ended.result);
  if (ended.has_result && !is_utf8(ended.result))
    line += ",\"result_base64\":\"" + base64(ended.result) + "\"";
  if (ended.state == protocol::JobState::dead) line += ",\"error\":" + quoted(ended.error);
  return line + "}";
}

}  // namespace millrace::producer
