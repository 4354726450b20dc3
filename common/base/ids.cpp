#include "common/base/ids.h"

#include <sys/random.h>

#include <charconv>

#include "common/base/check.h"

namespace millrace {
namespace {

template <typename T>
T random_value() {
  T value;
  MILLRACE_CHECK(getrandom(&value, sizeof value, 0) == ssize_t(sizeof value));
  return value;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string Uuid::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Uuid Uuid::from_bytes(std::string_view view) {
  Uuid id;
  MILLRACE_CHECK(view.size() == id.bytes.size());
  std::memcpy(id.bytes.data(), view.data(), id.bytes.size());
  return id;
}

bool Uuid::from_hex(std::string_view hex, Uuid* out) {
  if (hex.size() != 2 * out->bytes.size()) return false;
  for (size_t i = 0; i < out->bytes.size(); ++i) {
    int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out->bytes[i] = uint8_t(high << 4 | low);
  }
  return true;
}

Uuid Uuid::random() { return random_value<Uuid>(); }

// Zero means "no session" in an ERROR; one chance in 2^64, but free to exclude.
SessionId random_session() { return {random_value<uint64_t>() | 1}; }
BrokerId random_broker() { return {random_value<uint32_t>() | 1}; }

constexpr size_t kTagLength = 16;  // digits of a gateway's tag

std::string job_text(BrokerId broker, JobId job) {
  char text[32];
  int size = std::snprintf(text, sizeof text, "%08x-%llu", broker.value,
                           static_cast<unsigned long long>(job.value));
  return {text, size_t(size)};
}

// A gateway's tag behind the name is passed over (producer/gateway/job_names.h), so that an id that
// was copied from an HTTP client is a job's name everywhere.
bool parse_job_text(std::string_view text, BrokerId* broker, JobId* job) {
  if (text.size() > 10 + kTagLength && text[text.size() - kTagLength - 1] == '-' &&
      text.find_first_not_of("0123456789abcdef", text.size() - kTagLength) ==
          std::string_view::npos)
    text.remove_suffix(kTagLength + 1);
  if (text.size() < 10 || text[8] != '-') return false;
  const char* end = text.data() + text.size();
  auto first = std::from_chars(text.data(), text.data() + 8, broker->value, 16);
  auto second = std::from_chars(text.data() + 9, end, job->value, 10);
  return first.ec == std::errc{} && first.ptr == text.data() + 8 && second.ec == std::errc{} &&
         second.ptr == end && job->value <= kMaxJobId;
}

}  // namespace millrace
