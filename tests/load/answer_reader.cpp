#include "tests/load/answer_reader.h"

#include <strings.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace millrace::load {
namespace {

constexpr size_t kMaxHeader = 64 << 10;
constexpr size_t kMaxBody = 16 << 20;
constexpr std::string_view kStatusLine = "HTTP/1.1 200";

std::optional<size_t> number(std::string_view text) {
  size_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool same(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

}  // namespace

AnswerReader::State AnswerReader::feed(std::string_view bytes) {
  held_ += bytes;
  if (!in_body_) {
    if (State state = read_header(); state != State::whole) return state;
    in_body_ = true;
  }
  const size_t taken = std::min(body_left_, held_.size());
  held_.erase(0, taken);
  body_left_ -= taken;
  if (body_left_ > 0) return State::more;
  in_body_ = false;
  return State::whole;
}

AnswerReader::State AnswerReader::read_header() {
  const size_t end = held_.find("\r\n\r\n");
  if (end == std::string::npos) return held_.size() > kMaxHeader ? State::bad : State::more;
  std::string_view rest = std::string_view(held_).substr(0, end + 2);
  if (!rest.starts_with("HTTP/1.") || rest.size() < kStatusLine.size()) return State::bad;
  auto status = number(rest.substr(kStatusLine.size() - 3, 3));
  std::optional<size_t> length;
  closes_ = false;
  for (rest.remove_prefix(rest.find("\r\n") + 2); !rest.empty();
       rest.remove_prefix(rest.find("\r\n") + 2)) {
    const std::string_view line = rest.substr(0, rest.find("\r\n"));
    const size_t colon = std::min(line.find(':'), line.size());
    const std::string_view value = trimmed(line.substr(std::min(colon + 1, line.size())));
    if (same(line.substr(0, colon), "Content-Length")) length = number(value);
    if (same(line.substr(0, colon), "Connection")) closes_ = same(value, "close");
  }
  if (!status || !length || *length > kMaxBody) return State::bad;
  status_ = int(*status);
  body_left_ = *length;
  held_.erase(0, end + 4);
  return State::whole;
}

}  // namespace millrace::load
