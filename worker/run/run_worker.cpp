#include "worker/run/run_worker.h"

#include <unistd.h>

#include "common/os/log.h"
#include "common/os/start_resources.h"
#include "worker/process/spawner.h"
#include "worker/run/status_server.h"
#include "worker/run/supervisor.h"

namespace millrace::worker {
namespace {

// libzmq's two, one that resolves names, HTTP's, the connection's and a handler's; each allocates.
constexpr unsigned kLeastThreads = 6;
constexpr uint64_t kStartBytes = 64 << 20;
constexpr size_t kReserveBytes = 4 << 20;  // more than a turn of the runner takes

}  // namespace

Result<ExitCode> run_worker(RunOptions& options) {
  if (auto checked = check(options); !checked) return checked.error();
  if (auto keys = read_keys(options); !keys) return keys.error();
  save_address_space_if_limited();
  if (auto enough = check_start_resources(kLeastThreads, kStartBytes); !enough)
    return enough.error();
  MemoryReserve memory(kReserveBytes);
  options.memory = &memory;
  TerminationSignals signals;  // before the first thread
  Spawner spawner({options.commands.kill_after});
  std::vector<QueueHandler> handlers;
  for (const QueueSpec& spec : options.queues) {
    auto handler = make_handler(spec.handler, spawner, options.commands.limits_of(spec.queue));
    if (!handler) return handler.error();
    handlers.push_back({spec.queue, *std::move(handler)});
  }
  Supervisor supervisor(options, std::move(handlers));
  StatusServer status(supervisor);
  if (auto served = status.start(options); !served) return served.error();
  auto result = supervisor.run(&signals);
  status.stop();
  if (!supervisor.has_unstoppable()) return result;
  log_warning("some handlers can't be stopped; they end with this process");
  if (!result) log_error(result.error().message);
  _exit(int(result ? *result : result.error().code));
}

}  // namespace millrace::worker
