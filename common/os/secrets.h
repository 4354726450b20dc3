// Secrets in the environment of our programs, MILLRACE_HTTP_TOKEN above all: what of it is one, and
// how it is taken out. Linux shows the environment that a process began with, /proc/PID/environ, to
// all processes of the same user, the commands of handlers among them.
// Shape:   a name that begins with MILLRACE_ and has TOKEN, KEY, SECRET or PASSWORD in it, in any case
//          of letters
// Threads: one, while there are no others; or a child right after fork(), with hide_secrets()
#pragma once

#include <string_view>

namespace millrace {

bool is_secret(std::string_view variable);  // NAME, or NAME=value

// Overwrites the values, in the memory that /proc/PID/environ shows. Allocates and locks nothing.
void hide_secrets();
// That, and unsets the variables.
void remove_secrets();

}  // namespace millrace
