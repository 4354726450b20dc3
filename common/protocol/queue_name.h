// A queue's name, beyond valid_queue_name() of messages.h.
// Threads: any
#pragma once

#include <string_view>

namespace millrace::protocol {

// What valid_queue_name() takes, and "." and "..", which earlier versions took too: a journal or a
// spool may hold them. No path of HTTP can name these two.
bool stored_queue_name(std::string_view name);

}  // namespace millrace::protocol
