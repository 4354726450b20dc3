// Text from outside that goes to a terminal or into a log: a name, an error, a broker's message.
// Shape:   control characters, which a terminal would obey, become \xNN and a line end \n: those of
//          ASCII, DEL, those of Latin-1 that stand in UTF-8 as C2 80 to C2 9F, and bytes that are not
//          UTF-8. Everything else stays as it is.
// Threads: any
#pragma once

#include <string>
#include <string_view>

namespace millrace {

// `kept`: control characters that may stay, such as "\n".
std::string terminal_text(std::string_view text, std::string_view kept = "");

}  // namespace millrace
