#include "common/base/check.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

namespace millrace {

void check_failed(const char* expression, const char* file, int line) {
  std::array<char, PIPE_BUF> text;
  const int length =
      std::snprintf(text.data(), text.size(),
                    "millrace: broken invariant: %s at %s:%d; this is a bug, please report it\n",
                    expression, file, line);
  // A full pipe must not keep the process from ending.
  pollfd room{STDERR_FILENO, POLLOUT, 0};
  if (length > 0 && poll(&room, 1, 0) > 0) [[maybe_unused]]
    const auto written =
        write(STDERR_FILENO, text.data(), std::min(size_t(length), text.size() - 1));
  std::abort();
}

}  // namespace millrace
