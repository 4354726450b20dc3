// Values with units, as people write them on command lines and in files.
// Shape:   durations 250ms 5s 2m 1h · ranges 500ms..5m · sizes 4096 64KiB 1MiB 2GiB 1TiB ·
//          endpoints tcp://127.0.0.1:5570 broker.example:5570 [::1]:5570 broker.example ·
//          lists of endpoints with commas between
// Units:   milliseconds; bytes; ranges include both ends
// Limits:  whole numbers only; what doesn't fit int64 milliseconds or bytes is an error
// Errors:  ExitCode::usage, a sentence that quotes the text and shows the accepted form
// Threads: immutable
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"

namespace millrace {

struct MillisRange {
  Millis min{};
  Millis max{};
  auto operator<=>(const MillisRange&) const = default;
};

// One end of a TCP connection. Port 0 asks for any free port, where something is to be bound.
struct Endpoint {
  std::string host;  // without the brackets of an IPv6 address
  uint16_t port = 0;

  bool operator==(const Endpoint&) const = default;
  std::string authority() const;  // host:port
  std::string uri() const;        // tcp://host:port
  // Reachable from this machine only, so that neither keys nor tokens are needed.
  bool loopback() const;
};

Result<Millis> parse_duration(std::string_view text, Millis min = Millis(0));
Result<MillisRange> parse_duration_range(std::string_view text);
Result<int64_t> parse_size(std::string_view text, int64_t min = 0, int64_t max = INT64_MAX);
Result<int64_t> parse_integer(std::string_view text, int64_t min, int64_t max);
Result<bool> parse_bool(std::string_view text);

// The scheme "tcp://" may be left out; the port too, when a default is given.
inline constexpr int kNoDefaultPort = -1;
Result<Endpoint> parse_endpoint(std::string_view text, int default_port = kNoDefaultPort);
// A list to connect to: at least one, and no port 0.
Result<std::vector<Endpoint>> parse_endpoints(std::string_view text, int default_port);

// A list for people: 10.0.0.1:5570, 10.0.0.2:5570.
std::string authorities_of(const std::vector<Endpoint>& endpoints);

// The shortest exact form: 90s, 2m, 1500ms.
std::string format_duration(Millis duration);

}  // namespace millrace
