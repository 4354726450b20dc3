// Text from outside, made fit for a msgpack str, which readers may refuse unless it is UTF-8.
// Shape:   each byte that is not part of a well-formed character becomes a '?', so the size stays
// Threads: any
// Source:  RFC 3629, its table of well-formed sequences
#pragma once

#include <string>
#include <string_view>

namespace millrace::protocol {

bool is_utf8(std::string_view text);
std::string to_utf8(std::string_view text);

}  // namespace millrace::protocol
