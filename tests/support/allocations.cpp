#include "tests/support/allocations.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

constexpr uint64_t kNever = UINT64_MAX;

std::atomic<uint64_t> bytes{0}, until_failure{kNever}, too_large{kNever};

bool fails_now() {
  if (until_failure.load(std::memory_order_relaxed) == kNever || until_failure-- > 0) return false;
  until_failure = kNever;
  return true;
}

// With glibc's header and rounding, which the malloc of a sanitizer does not count.
uint64_t size_of(void* memory) {
  return std::max<uint64_t>(32, (malloc_usable_size(memory) + 8 + 15) / 16 * 16);
}

void* allocate(std::size_t size) {
  if (size >= too_large.load(std::memory_order_relaxed)) throw std::bad_alloc();
  void* memory = fails_now() ? nullptr : std::malloc(size);
  while (!memory) {
    const std::new_handler handler = std::get_new_handler();
    if (!handler) throw std::bad_alloc();
    handler();
    memory = std::malloc(size);
  }
  bytes += size_of(memory);
  return memory;
}

void release(void* memory) {
  if (!memory) return;
  bytes -= size_of(memory);
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
// A sanitizer has its own, beside these, of all that is not here.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return allocate(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }

namespace millrace::test {

uint64_t allocated_bytes() { return bytes; }

void fail_allocation_after(uint64_t others) { until_failure = others; }

void fail_allocations_from(uint64_t least) { too_large = least; }

bool stop_failing_allocations() {
  too_large = kNever;
  return until_failure.exchange(kNever) == kNever;
}

}  // namespace millrace::test
