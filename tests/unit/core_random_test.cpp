// Random histories against a model of what the producers were told.
#include "tests/unit/core_history.h"

using namespace millrace;
using namespace millrace::test;

TEST_CASE("random histories with resends, losses and restarts balance their books",
          "[core][random]") {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    History history(seed);
    history.run(300);
  }
}
