#include "common/os/memory_reserve.h"

#include <memory>
#include <new>

#include "tests/catch.h"
#include "tests/support/allocations.h"

using namespace millrace;

namespace {

bool can_allocate() {
  test::fail_allocation_after(0);
  try {
    auto memory = std::make_unique<char[]>(1000);
    test::stop_failing_allocations();
    return memory != nullptr;
  } catch (const std::bad_alloc&) {
    test::stop_failing_allocations();
    return false;
  }
}

}  // namespace

TEST_CASE("an allocation that fails gets the reserve, once until there is room again",
          "[memory reserve]") {
  MemoryReserve reserve(1 << 20);
  CHECK(can_allocate());
  CHECK_FALSE(can_allocate());
  CHECK(reserve.has_room(1 << 20));
  CHECK(can_allocate());
}

TEST_CASE("what may fail does not use up the reserve", "[memory reserve]") {
  MemoryReserve reserve(1 << 20);
  {
    const MemoryReserve::MayFail alone;
    CHECK_FALSE(can_allocate());
  }
  CHECK(can_allocate());
}

TEST_CASE("there is no room for more than the address space", "[memory reserve]") {
  MemoryReserve reserve(1 << 20);
  CHECK_FALSE(reserve.has_room(size_t{1} << 48));
  CHECK(reserve.has_room(1 << 20));
}
