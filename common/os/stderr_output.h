// Writes to stderr without ever waiting for who reads it: a log collector that stands still, a
// paused terminal or a full pipe must not stop a broker.
// Shape:   a pipe or terminal is opened a second time, non-blocking: the flags of what was inherited
//          belong to other processes too. A socket is written to with MSG_DONTWAIT. A file is written
//          to as it is: nobody reads it, and its position is shared.
//          Where the second opening is refused, one piece is written after poll() says that it fits.
// Limits:  a text of up to PIPE_BUF bytes is written whole or not at all; a longer one may be cut off,
//          and what comes next begins on a line of its own
// Errors:  false: not written, or cut off
// Threads: any, internally locked
#pragma once

#include <string_view>

#include "common/base/time.h"

namespace millrace {

// With a `timeout` it waits that long, in all, for room: for the last words of a command.
bool write_to_stderr(std::string_view text, Millis timeout = Millis(0));

}  // namespace millrace
