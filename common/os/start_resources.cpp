#include "common/os/start_resources.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <latch>
#include <system_error>
#include <thread>
#include <vector>

namespace millrace {
namespace {

constexpr uint64_t kMiB = 1 << 20;

uint64_t stack_bytes() {
  pthread_attr_t attributes;
  size_t bytes = 0;
  pthread_attr_init(&attributes);
  pthread_attr_getstacksize(&attributes, &bytes);
  pthread_attr_destroy(&attributes);
  return bytes;
}

uint64_t address_space_in_use() {
  unsigned long pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(file, "%lu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return uint64_t(pages) * uint64_t(sysconf(_SC_PAGESIZE));
}

// How many of so many threads can run at a time, `bytes` being reserved beside them if possible.
unsigned start_threads(unsigned count, uint64_t bytes, bool* has_bytes) {
  std::latch end(1);
  std::vector<std::thread> threads;
  threads.reserve(count);
  try {
    while (threads.size() < count) threads.emplace_back([&end] { end.wait(); });
  } catch (const std::system_error&) {
  }
  void* memory =
      ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  *has_bytes = memory != MAP_FAILED;
  if (*has_bytes) ::munmap(memory, bytes);
  end.count_down();
  for (std::thread& thread : threads) thread.join();
  return unsigned(threads.size());
}

}  // namespace

Result<void> check_start_resources(unsigned threads, uint64_t bytes) {
  const uint64_t used = address_space_in_use();
  bool has_bytes = false;
  const unsigned started = start_threads(threads, bytes, &has_bytes);
  if (started == threads && has_bytes) return {};
  const uint64_t need = used + threads * stack_bytes() + bytes;
  rlimit space{}, processes{};
  if (::getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY &&
      space.rlim_cur < need)
    return Error{
        ExitCode::config,
        fmt::format(
            "this process may use {} MiB of address space, and needs {} MiB to start, of which "
            "{} MiB are for the stacks of {} threads: raise the limit (ulimit -v, or LimitAS= "
            "of its service), or lower that of stacks (ulimit -s)",
            space.rlim_cur / kMiB, (need + kMiB - 1) / kMiB, threads * stack_bytes() / kMiB,
            threads)};
  const bool is_limited =
      ::getrlimit(RLIMIT_NPROC, &processes) == 0 && processes.rlim_cur != RLIM_INFINITY;
  return Error{
      ExitCode::config,
      started < threads
          ? fmt::format(
                "this process can start {} of the {} threads that it needs{}: raise the limit "
                "(ulimit -u, or LimitNPROC= and TasksMax= of its service)",
                started, threads,
                is_limited ? fmt::format("; its user may have {} processes and threads",
                                         processes.rlim_cur)
                           : "")
          : fmt::format(
                "the system does not give this process {} MiB of address space, which it needs to "
                "start: see vm.overcommit_memory and vm.max_map_count",
                bytes / kMiB)};
}

}  // namespace millrace
