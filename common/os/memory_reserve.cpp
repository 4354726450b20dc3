#include "common/os/memory_reserve.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <new>

#include "common/base/check.h"

namespace millrace {
namespace {

// A new handler is a plain function: what it gives back has to be found without an object.
std::atomic<void*> reserve{nullptr};
size_t reserve_bytes = 0;  // while there is an object
thread_local int may_fail = 0;

void* map(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

bool give_back() {
  void* memory = reserve.exchange(nullptr);
  return memory && ::munmap(memory, reserve_bytes) == 0;
}

void set_aside() {
  if (reserve.load()) return;
  void* memory = map(reserve_bytes);
  void* none = nullptr;
  if (memory && !reserve.compare_exchange_strong(none, memory)) ::munmap(memory, reserve_bytes);
}

void on_failed_allocation() {
  if (may_fail > 0 || !give_back()) throw std::bad_alloc();
}

}  // namespace

MemoryReserve::MemoryReserve(size_t bytes) {
  MILLRACE_CHECK(std::get_new_handler() == nullptr);
  reserve_bytes = bytes;
  std::set_new_handler(on_failed_allocation);
  set_aside();
}

MemoryReserve::~MemoryReserve() {
  std::set_new_handler(nullptr);
  give_back();
}

bool MemoryReserve::has_room(size_t more) {
  set_aside();
  void* memory = map(more);
  if (memory) ::munmap(memory, more);
  const bool is_enough = memory && reserve.load();
  if (!is_enough) give_back();
  return is_enough;
}

MemoryReserve::MayFail::MayFail() { ++may_fail; }

MemoryReserve::MayFail::~MayFail() { --may_fail; }

void save_address_space_if_limited() {
  constexpr rlim_t kPlenty = rlim_t{4} << 30;
  constexpr size_t kStack = 1 << 20;
  rlimit space{};
  if (::getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur >= kPlenty) return;
  constexpr int kLarge =
      256 << 10;  // by itself the allocator raises this as large blocks are freed
  mallopt(M_MMAP_THRESHOLD, kLarge);
  mallopt(M_ARENA_MAX, 1);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStack);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

}  // namespace millrace
