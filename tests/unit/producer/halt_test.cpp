#include "producer/submit/halt.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;

TEST_CASE("a halt is written as GNU parallel's", "[halt]") {
  auto soon = Halt::parse("soon,fail=3");
  REQUIRE(soon);
  CHECK((soon->when == Halt::When::soon && soon->why == Halt::Why::fail));
  CHECK((soon->limit == 3 && !soon->percent));
  auto now = Halt::parse("now,done=15%");
  REQUIRE(now);
  CHECK((now->when == Halt::When::now && now->why == Halt::Why::done));
  CHECK((now->limit == 15 && now->percent));
  REQUIRE(Halt::parse("never"));
  for (std::string_view bad : {"", "soon", "now,fail", "now,fail=", "now,fail=0", "now,fail=x",
                               "later,fail=1", "soon,luck=1", "soon,fail=101%", "soon,fail=0%",
                               "soon=1,fail", "never,fail=1", "soon,fail=1,"}) {
    INFO(bad);
    REQUIRE_FALSE(Halt::parse(bad));
    CHECK(Halt::parse(bad).error().code == ExitCode::usage);
  }
}

TEST_CASE("a halt is reached by what it counts", "[halt]") {
  CHECK_FALSE(Halt::parse("never")->reached(1000, 1000));
  CHECK_FALSE(Halt::parse("soon,fail=3")->reached(1000, 2));
  CHECK(Halt::parse("soon,fail=3")->reached(0, 3));
  CHECK_FALSE(Halt::parse("now,success=3")->reached(2, 1000));
  CHECK(Halt::parse("now,success=3")->reached(3, 0));
  CHECK_FALSE(Halt::parse("now,done=3")->reached(1, 1));
  CHECK(Halt::parse("now,done=3")->reached(1, 2));
}

TEST_CASE("a percentage is of what has ended, from the third job on", "[halt]") {
  auto halt = Halt::parse("soon,fail=10%");
  CHECK_FALSE(halt->reached(0, 0));
  CHECK_FALSE(halt->reached(0, 2));
  CHECK(halt->reached(2, 1));
  CHECK(halt->reached(9, 1));
  CHECK_FALSE(halt->reached(10, 1));
}
