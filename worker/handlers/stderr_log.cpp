#include "worker/handlers/stderr_log.h"

#include <algorithm>

#include "common/base/time.h"
#include "common/os/log.h"

namespace millrace::worker {
namespace {

// Bytes of the well-formed UTF-8 character that the text begins with; 0 if there is none.
size_t character(std::string_view text) {
  auto byte = [&text](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = byte(0);
  if (first < 0x80) return 1;
  size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Too long for what it says, a surrogate, or beyond the last character.
  if ((first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F) ||
      (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F))
    return 0;
  return size;
}

std::string_view from_whole_character(std::string_view text) {
  while (!text.empty() && (text[0] & 0xC0) == 0x80) text.remove_prefix(1);
  return text;
}

}  // namespace

std::string printable(std::string_view bytes) {
  while (!bytes.empty() && bytes.back() == '\n') bytes.remove_suffix(1);
  std::string text;
  while (!bytes.empty()) {
    size_t size = character(bytes);
    auto first = static_cast<unsigned char>(bytes[0]);
    if (first == '\n') {
      text += " | ";
    } else if (size == 0 || (first < ' ' && first != '\t') || first == 0x7F) {
      text += '?';
    } else if (first == 0xC2 && static_cast<unsigned char>(bytes[1]) < 0xA0) {
      text += "??";  // a control character of Latin-1, which some terminals obey
    } else {
      text += bytes.substr(0, size);
    }
    bytes.remove_prefix(std::max<size_t>(size, 1));
  }
  return text;
}

bool LineBudget::take(Mono now) {
  std::lock_guard lock(lock_);
  if (now - second_ >= std::chrono::seconds(1)) {
    second_ = now;
    used_ = 0;
  }
  return used_ < kLinesPerSecond && ++used_ > 0;
}

void StderrLog::add(std::string_view bytes) {
  tail_.append(bytes.size() > kTail ? bytes.substr(bytes.size() - kTail) : bytes);
  if (tail_.size() > kTail) tail_.erase(0, tail_.size() - kTail);
  while (!bytes.empty()) {
    size_t end = bytes.find('\n');
    std::string_view part = bytes.substr(0, end);
    line_.append(part.substr(0, kMaxLine - std::min(kMaxLine, line_.size())));
    if (end == std::string_view::npos) return;
    end_line();
    bytes.remove_prefix(end + 1);
  }
}

void StderrLog::end_line() {
  if (logged_ < kLinesPerJob && budget_.take(read_clock())) {
    ++logged_;
    log_info("handler output", {{"job", job_}, {"stderr", printable(line_)}});
  } else {
    ++held_back_;
  }
  line_.clear();
}

void StderrLog::finish() {
  if (!line_.empty()) end_line();
  if (held_back_ > 0)
    log_debug("more handler output suppressed", {{"job", job_}, {"lines", held_back_}});
}

std::string StderrLog::tail() const {
  std::string_view bytes = tail_;
  if (bytes.size() == kTail) bytes = from_whole_character(bytes);
  std::string text = printable(bytes);
  if (text.size() <= kTail) return text;
  return std::string(from_whole_character(std::string_view(text).substr(text.size() - kTail)));
}

}  // namespace millrace::worker
