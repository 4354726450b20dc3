// Invariants that hold in every build: a violation is a bug, and a broker that has one must stop
// rather than write it to the journal.
// Errors:  a failed check prints file, line and expression to stderr and aborts.
// Threads: any
#pragma once

namespace millrace {

[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace millrace

#define MILLRACE_CHECK(expression)         \
  (static_cast<bool>(expression) ? void(0) \
                                 : ::millrace::check_failed(#expression, __FILE__, __LINE__))
