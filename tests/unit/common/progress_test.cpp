#include "common/cli/progress.h"

#include "tests/catch.h"

using namespace millrace;

TEST_CASE("progress towards a total has percent and ETA", "[progress]") {
  ProgressFigures figures{{{"sent", 150'000}, {"done", 75'000}}, 75'000, 300'000};
  CHECK(progress_text(figures, 5000) == " 25%  sent 150,000  done 75,000  5,000/s  ETA 45s");
  CHECK(progress_text(figures, 500) == " 25%  sent 150,000  done 75,000  500/s  ETA 7m30s");
  CHECK(progress_text(figures, 5) == " 25%  sent 150,000  done 75,000  5/s  ETA 12h30m");
  CHECK(progress_text(figures, 0) == " 25%  sent 150,000  done 75,000  0/s");
}

TEST_CASE("progress without a total has neither", "[progress]") {
  CHECK(progress_text({{{"sent", 7}}, 7, std::nullopt}, 1234567) == "sent 7  1,234,567/s");
}

TEST_CASE("progress beyond its total stops at 100 %", "[progress]") {
  CHECK(progress_text({{{"sent", 11}}, 11, 10}, 1) == "100%  sent 11  1/s");
  CHECK(progress_bar(1.5) == "[####################]");
  CHECK(progress_bar(0.5) == "[##########          ]");
  CHECK(progress_bar(0) == "[                    ]");
}

TEST_CASE("thousands are set off", "[progress]") {
  CHECK(with_thousands(0) == "0");
  CHECK(with_thousands(999) == "999");
  CHECK(with_thousands(1000) == "1,000");
  CHECK(with_thousands(1234567890) == "1,234,567,890");
}

TEST_CASE("progress is due at its interval, and never when quiet", "[progress]") {
  Mono start{};
  Progress lines(Progress::Style::lines, start);
  CHECK_FALSE(lines.due(start + Millis(4999)));
  CHECK(lines.due(start + Millis(5000)));
  Progress quiet(Progress::Style::none, start);
  CHECK_FALSE(quiet.due(start + Millis(5000)));
}
