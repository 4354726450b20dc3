#include "broker/server/memory_reserve.h"

#include <sys/mman.h>

#include <atomic>
#include <new>

#include "common/base/check.h"

namespace millrace::server {
namespace {

// A new handler is a plain function: what it gives back has to be found without an object.
std::atomic<void*> reserve{nullptr};

void* map(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

bool give_back() {
  void* memory = reserve.exchange(nullptr);
  return memory && ::munmap(memory, MemoryReserve::kReserveBytes) == 0;
}

void on_failed_allocation() {
  if (!give_back()) throw std::bad_alloc();
}

}  // namespace

MemoryReserve::MemoryReserve() {
  MILLRACE_CHECK(std::get_new_handler() == nullptr);
  std::set_new_handler(on_failed_allocation);
  reserve = map(kReserveBytes);
}

MemoryReserve::~MemoryReserve() {
  std::set_new_handler(nullptr);
  give_back();
}

bool MemoryReserve::has_room() {
  if (!reserve.load()) reserve = map(kReserveBytes);
  void* more = map(kHeadroomBytes);
  if (more) ::munmap(more, kHeadroomBytes);
  const bool is_enough = more && reserve.load();
  if (!is_enough) give_back();
  return is_enough;
}

bool MemoryReserve::is_short(uint64_t held) {
  if (has_room()) {
    most_held_ = 0;
    return is_short_ = false;
  }
  if (!is_short_ && held >= most_held_) {
    most_held_ = held;
    is_short_ = true;
  } else if (held < most_held_ / 2) {
    is_short_ = false;
  }
  return is_short_;
}

}  // namespace millrace::server
