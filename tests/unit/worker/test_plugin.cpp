// A plugin for tests: what it does with a job stands in the payload. Compiled several times, each
// time wrong in another way; see tests/CMakeLists.txt.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "worker/plugin/millrace_handler.h"

namespace {

int run(void* state, millrace_job* job) {
  std::string_view wish(static_cast<const char*>(job->payload), job->payload_size);
  if (wish == "nothing") return 7;
  if (wish == "retryable") return millrace_fail(job, MILLRACE_RETRYABLE, "later");
  if (wish == "permanent") return millrace_fail(job, MILLRACE_PERMANENT, "never");
  if (wish == "throw") throw std::runtime_error("from a plugin");
  if (wish == "crash") std::abort();
  if (wish == "deaf") {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
  if (wish == "listen") {
    while (!millrace_should_stop(job)) std::this_thread::yield();
    return millrace_fail(job, MILLRACE_RETRYABLE, "stopped");
  }
  if (wish == "huge") {
    std::string result(job->max_result + 1, 'x');
    return millrace_done(job, result.data(), result.size());
  }
  std::string result = std::string(static_cast<const char*>(state)) + " " + job->id + " " +
                       job->queue + " " + std::to_string(job->attempt) + " " +
                       std::to_string(job->epoch) + " " + std::string(wish);
  return millrace_done(job, result.data(), result.size());
}

int open([[maybe_unused]] void** state, [[maybe_unused]] char* why,
         [[maybe_unused]] size_t why_size) {
#ifdef PLUGIN_REFUSES
  std::strncpy(why, "no database", why_size);
  return 1;
#else
  static char name[] = "opened";
  *state = name;
  return 0;
#endif
}

#ifdef PLUGIN_OTHER_VERSION
constexpr uint32_t kVersion = MILLRACE_HANDLER_ABI + 1;
#else
constexpr uint32_t kVersion = MILLRACE_HANDLER_ABI;
#endif

constexpr millrace_handler kHandler{kVersion, open, run, nullptr};

}  // namespace

#ifdef PLUGIN_NO_ENTRY
extern "C" const millrace_handler* another_name() { return &kHandler; }
#else
const millrace_handler* millrace_handler_get() { return &kHandler; }
#endif
