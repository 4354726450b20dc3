#include "tests/support/allocations.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

constexpr uint64_t kHeader = 8, kNever = UINT64_MAX;

std::atomic<uint64_t> bytes{0}, until_failure{kNever};

bool fails_now() {
  if (until_failure.load(std::memory_order_relaxed) == kNever || until_failure-- > 0) return false;
  until_failure = kNever;
  return true;
}

void* allocate(std::size_t size) {
  void* memory = fails_now() ? nullptr : std::malloc(size);
  while (!memory) {
    const std::new_handler handler = std::get_new_handler();
    if (!handler) throw std::bad_alloc();
    handler();
    memory = std::malloc(size);
  }
  bytes += malloc_usable_size(memory) + kHeader;
  return memory;
}

void release(void* memory) {
  if (!memory) return;
  bytes -= malloc_usable_size(memory) + kHeader;
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }

namespace millrace::test {

uint64_t allocated_bytes() { return bytes; }

void fail_allocation_after(uint64_t others) { until_failure = others; }

bool stop_failing_allocations() { return until_failure.exchange(kNever) == kNever; }

}  // namespace millrace::test
