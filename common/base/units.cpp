#include "common/base/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>
#include <optional>

namespace millrace {
namespace {

struct Unit {
  std::string_view name;
  int64_t factor;
};

// Largest first, as format_duration() needs it.
constexpr std::array<Unit, 4> kDurations{{{"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
constexpr std::array<Unit, 5> kSizes{{{"TiB", int64_t{1} << 40},
                                      {"GiB", int64_t{1} << 30},
                                      {"MiB", int64_t{1} << 20},
                                      {"KiB", int64_t{1} << 10},
                                      {"", 1}}};
constexpr std::string_view kScheme = "tcp://";

template <typename... Args>
Error usage(fmt::format_string<Args...> form, Args&&... args) {
  return {ExitCode::usage, fmt::format(form, std::forward<Args>(args)...)};
}

std::optional<int64_t> to_integer(std::string_view text) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, value);
  if (text.empty() || parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
  return value;
}

// "64KiB" by the table of units; nothing when the number, the unit or the product is no good.
template <size_t N>
std::optional<int64_t> with_unit(std::string_view text, const std::array<Unit, N>& units) {
  size_t digits = text.find_first_not_of("0123456789");
  if (digits == std::string_view::npos) digits = text.size();
  auto number = to_integer(text.substr(0, digits));
  if (!number) return std::nullopt;
  for (const Unit& unit : units) {
    if (unit.name != text.substr(digits)) continue;
    if (*number > std::numeric_limits<int64_t>::max() / unit.factor) return std::nullopt;
    return *number * unit.factor;
  }
  return std::nullopt;
}

struct Authority {
  std::string_view host;
  std::optional<std::string_view> port;
};

// Nothing when the brackets of an IPv6 address are open, or something else follows them.
std::optional<Authority> split_authority(std::string_view text) {
  bool bracketed = text.starts_with('[');
  size_t host_end = bracketed ? text.find(']') : text.find(':');
  if (host_end == std::string_view::npos) {
    return bracketed ? std::nullopt : std::optional(Authority{text, std::nullopt});
  }
  std::string_view rest = text.substr(bracketed ? host_end + 1 : host_end);
  Authority parts{text.substr(bracketed, host_end - bracketed), std::nullopt};
  if (rest.empty()) return parts;
  if (rest[0] != ':') return std::nullopt;
  parts.port = rest.substr(1);
  return parts;
}

bool is_host(std::string_view host) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%*";
  return !host.empty() && host.find_first_not_of(kAllowed) == std::string_view::npos;
}

}  // namespace

std::string Endpoint::authority() const {
  bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::string Endpoint::uri() const { return std::string(kScheme) + authority(); }

// A name that only starts with "127." could be anybody's; an address has digits and dots alone.
bool Endpoint::loopback() const {
  bool v4 = host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos;
  return v4 || host == "::1" || host == "localhost";
}

Result<Millis> parse_duration(std::string_view text, Millis min) {
  if (auto ms = with_unit(text, kDurations)) {
    if (Millis(*ms) >= min) return Millis(*ms);
    return usage("'{}' is too short; write {} or longer", text, format_duration(min));
  }
  return usage(
      "'{}' is not a duration; write a whole number and its unit, as in 250ms, 5s, 2m or 1h", text);
}

Result<MillisRange> parse_duration_range(std::string_view text) {
  size_t dots = text.find("..");
  if (dots != std::string_view::npos) {
    auto min = with_unit(text.substr(0, dots), kDurations);
    auto max = with_unit(text.substr(dots + 2), kDurations);
    if (min && max && *min <= *max) return MillisRange{Millis(*min), Millis(*max)};
  }
  return usage(
      "'{}' is not a range of durations; write the shortest and the longest, as in 500ms..5m",
      text);
}

Result<int64_t> parse_size(std::string_view text, int64_t min, int64_t max) {
  if (auto bytes = with_unit(text, kSizes)) {
    if (*bytes >= min && *bytes <= max) return *bytes;
    return usage("'{}' is out of range; write from {} to {} bytes", text, min, max);
  }
  return usage(
      "'{}' is not a size; write whole bytes or a unit that counts in 1024s, as in 4096, 64KiB, "
      "1MiB or 2GiB",
      text);
}

Result<int64_t> parse_integer(std::string_view text, int64_t min, int64_t max) {
  auto value = to_integer(text);
  if (value && *value >= min && *value <= max) return *value;
  if (max == std::numeric_limits<int64_t>::max()) {
    return usage("'{}' is not a whole number of at least {}", text, min);
  }
  return usage("'{}' is not a whole number from {} to {}", text, min, max);
}

Result<bool> parse_bool(std::string_view text) {
  if (text == "true" || text == "1" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "0" || text == "no" || text == "off") return false;
  return usage("'{}' is neither true nor false; write one of these words", text);
}

Result<Endpoint> parse_endpoint(std::string_view text, int default_port) {
  auto bad = [&] {
    return usage("'{}' is not an endpoint; write {}, as in {}", text,
                 default_port == kNoDefaultPort ? "HOST:PORT" : "HOST or HOST:PORT",
                 default_port == kNoDefaultPort
                     ? "127.0.0.1:5570 or tcp://127.0.0.1:5570"
                     : fmt::format("broker.example or 127.0.0.1:{}", default_port));
  };
  std::string_view rest = text;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  auto parts = split_authority(rest);
  if (!parts || !is_host(parts->host)) return bad();
  int64_t port = default_port;
  if (parts->port) port = to_integer(*parts->port).value_or(-1);
  if (port < 0 || port > std::numeric_limits<uint16_t>::max()) return bad();
  return Endpoint{std::string(parts->host), static_cast<uint16_t>(port)};
}

Result<std::vector<Endpoint>> parse_endpoints(std::string_view text, int default_port) {
  std::vector<Endpoint> endpoints;
  for (size_t start = 0; start <= text.size();) {
    size_t comma = std::min(text.find(',', start), text.size());
    auto endpoint = parse_endpoint(text.substr(start, comma - start), default_port);
    if (!endpoint) return endpoint.error();
    if (endpoint->port == 0) {
      return usage("'{}' has port 0, where nothing can listen; write the port of the broker", text);
    }
    endpoints.push_back(*std::move(endpoint));
    start = comma + 1;
  }
  return endpoints;
}

std::string authorities_of(const std::vector<Endpoint>& endpoints) {
  std::string text;
  for (const Endpoint& endpoint : endpoints)
    text += (text.empty() ? "" : ", ") + endpoint.authority();
  return text;
}

std::string format_duration(Millis duration) {
  int64_t ms = duration.count();
  for (const Unit& unit : kDurations) {
    if (ms != 0 && ms % unit.factor == 0) return fmt::format("{}{}", ms / unit.factor, unit.name);
  }
  return "0ms";
}

}  // namespace millrace
