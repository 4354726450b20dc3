#include "common/check.h"

#include <cstdio>
#include <cstdlib>

namespace millrace {

void check_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "millrace: broken invariant: %s at %s:%d; this is a bug, please report it\n",
               expression, file, line);
  std::abort();
}

}  // namespace millrace
