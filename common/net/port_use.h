// Why a TCP port can't be listened at.
// Shape:   port → a cause for an error's text
// Source:  /proc/net/tcp and tcp6, proc(5). Where they can't be read, the port counts as listened at
// Threads: any
#pragma once

#include <cstdint>
#include <string>

namespace millrace {

// Of a port whose bind has failed with EADDRINUSE: another program listens there; or a connection
// that this machine opened has it as its own port, perhaps as TIME_WAIT.
std::string why_in_use(uint16_t port);

}  // namespace millrace
