#include "common/net/port_use.h"

#include <charconv>
#include <fstream>
#include <sstream>

namespace millrace {

namespace {

// `sl local_address rem_address st …`: 0: 0100007F:15C2 00000000:0000 0A
bool is_listener_at(const std::string& line, uint16_t port) {
  constexpr const char* kListen = "0A";
  std::istringstream in(line);
  std::string number, local, remote, state;
  if (!(in >> number >> local >> remote >> state) || state != kListen) return false;
  const size_t colon = local.find(':');
  if (colon == std::string::npos) return false;
  uint16_t value = 0;
  const char* end = local.data() + local.size();
  const auto [stop, error] = std::from_chars(local.data() + colon + 1, end, value, 16);
  return error == std::errc() && stop == end && value == port;
}

bool is_listened_at(uint16_t port) {
  bool is_readable = false;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream in(table);
    for (std::string line; std::getline(in, line); is_readable = true)
      if (is_listener_at(line, port)) return true;
  }
  return !is_readable;
}

}  // namespace

std::string why_in_use(uint16_t port) {
  if (is_listened_at(port)) return "another program listens there already";
  return "no program listens there, but a connection of this machine has the port as its own, or "
         "had it "
         "less than a minute ago (TIME_WAIT) and frees it then";
}

}  // namespace millrace
