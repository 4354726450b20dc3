// Random histories against a model of what the producers were told.
#include "tests/unit/core/history.h"

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

TEST_CASE("a job that was carried is the same without the journal before it", "[core][random]") {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    History history(seed);
    history.take(100, [] {});
    history.harness().relocate_all();
    int step = 0;
    history.take(100, [&] {
      // Now and then, or it would take long.
      if (++step % 10 == 0)
        REQUIRE(history.harness().describe_from_relocated() ==
                history.harness().state().describe());
    });
  }
}
