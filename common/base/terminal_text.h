// Text from outside that goes to a terminal or into a log: a name, an error, a broker's message.
// Shape:   what a terminal would obey becomes visible: control characters of ASCII, DEL, C1 controls
//          (U+0080 to U+009F, C2 80 to C2 9F in UTF-8), line separators and what changes the
//          direction of text (U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069).
//          Everything else stays as it is.
// Threads: any
#pragma once

#include <string>
#include <string_view>

namespace millrace {

// One line: bytes of these characters, and bytes that are not UTF-8, become \xNN, a line end \n.
std::string terminal_text(std::string_view text);

// Of JSON: the same value, with these characters as \uNNNN. ASCII is as JSON requires it already.
std::string terminal_json(std::string json);

}  // namespace millrace
