#include "worker/handlers/plugin_handler.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <optional>
#include <string_view>

#include "worker/handlers/stderr_log.h"
#include "worker/plugin/millrace_handler.h"

namespace millrace::worker {
namespace {

using Kind = Completion::Kind;

constexpr const char* kEntry = "millrace_handler_get";

Error refused(std::string_view file, std::string_view why) {
  return {ExitCode::config, fmt::format("the plugin {}: {}", file, why)};
}

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};
using Library = std::unique_ptr<void, CloseLibrary>;

// What the plugin's side of a job writes into.
struct Call {
  const StopSignal& stop;
  std::optional<Completion> answer;

  static void on_answer(millrace_job* job, int end, const void* bytes, size_t size) {
    std::string text;
    if (size > 0) text.assign(static_cast<const char*>(bytes), size);
    auto& answer = static_cast<Call*>(job->worker)->answer;
    if (end == MILLRACE_DONE) {
      answer = Completion::done(std::move(text));
    } else {
      Kind kind = end == MILLRACE_PERMANENT ? Kind::permanent : Kind::retryable;
      answer = Completion::failed(kind, printable(text));
    }
  }
  static int on_should_stop(const millrace_job* job) {
    return static_cast<Call*>(job->worker)->stop.is_set();
  }
};

class PluginHandler : public Handler {
 public:
  PluginHandler(Library library, const millrace_handler& plugin, void* state)
      : library_(std::move(library)), plugin_(plugin), state_(state) {}
  ~PluginHandler() override {
    if (plugin_.close) plugin_.close(state_);
  }

  Completion run(const JobContext& context) override {
    std::string id = context.name(), queue(context.queue);
    Call call{context.stop, {}};
    millrace_job job{.id = id.c_str(),
                     .queue = queue.c_str(),
                     .epoch = context.job.lease.epoch.value,
                     .attempt = context.job.attempt,
                     .payload = context.job.payload.data(),
                     .payload_size = context.job.payload.size(),
                     .max_result = size_t(context.job.max_result),
                     .wants_result = context.job.wants_result,
                     .worker = &call,
                     .answer = Call::on_answer,
                     .should_stop = Call::on_should_stop};
    int returned = plugin_.run(state_, &job);
    if (call.answer) return *std::move(call.answer);
    return Completion::failed(Kind::retryable,
                              fmt::format("the plugin returned {} without an answer", returned));
  }

 private:
  Library library_;
  const millrace_handler& plugin_;
  void* state_;
};

}  // namespace

Result<std::unique_ptr<Handler>> open_plugin(const std::string& file) {
  // An absolute name, so that it is this file and none of the linker's search path.
  std::error_code error;
  std::string path = std::filesystem::absolute(file, error).string();
  Library library(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!library) return refused(file, dlerror());
  auto entry = reinterpret_cast<const millrace_handler* (*)()>(dlsym(library.get(), kEntry));
  if (!entry) return refused(file, fmt::format("it has no function {}", kEntry));
  const millrace_handler* plugin = entry();
  if (!plugin) return refused(file, fmt::format("{} returns nothing", kEntry));
  if (plugin->abi != MILLRACE_HANDLER_ABI) {
    return refused(
        file, fmt::format("it was built for version {} of the handler interface, and this worker "
                          "has version {}: build it with this worker's millrace_handler.h",
                          plugin->abi, MILLRACE_HANDLER_ABI));
  }
  if (!plugin->run) return refused(file, "it has no run function");
  void* state = nullptr;
  std::array<char, 1024> why{};
  if (plugin->open && plugin->open(&state, why.data(), why.size() - 1) != 0)
    return refused(file, fmt::format("it can't be loaded: {}", printable(why.data())));
  return {std::make_unique<PluginHandler>(std::move(library), *plugin, state)};
}

}  // namespace millrace::worker
