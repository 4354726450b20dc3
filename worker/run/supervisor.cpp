#include "worker/run/supervisor.h"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>

#include "common/base/time.h"
#include "common/net/dealer.h"
#include "common/os/log.h"

namespace millrace::worker {

Supervisor::Supervisor(const RunOptions& options, std::vector<QueueHandler> handlers)
    : options_(options),
      context_(int(std::clamp<size_t>(options.brokers.size(), 1, Dealer::kMaxIoThreads))) {
  RunOptions shared = options;
  shared.queues.clear();
  std::vector<QueueHandler> shared_handlers;
  for (size_t i = 0; i < options.queues.size(); ++i) {
    const QueueSpec& spec = options.queues[i];
    if (spec.share == 0) {
      shared.queues.push_back(spec);
      shared_handlers.push_back(std::move(handlers[i]));
      continue;
    }
    RunOptions own = options;
    own.queues = {spec};
    own.pool = {PoolSpec::Kind::fixed, 1, spec.share};
    own.name += "/" + spec.queue;
    std::vector<QueueHandler> one;
    one.push_back(std::move(handlers[i]));
    add_executor(std::move(own), std::move(one));
  }
  if (!shared.queues.empty()) add_executor(std::move(shared), std::move(shared_handlers));
}

void Supervisor::add_executor(RunOptions options, std::vector<QueueHandler> handlers) {
  Executor& executor = executors_.emplace_back();
  executor.options = std::move(options);
  executor.runner.emplace(executor.options, std::move(handlers), executor.inbox, context_);
}

void Supervisor::start(Executor& executor) {
  executor.thread = std::thread([this, &executor] {
    pthread_setname_np(pthread_self(), "millrace-runner");
    auto result = executor.runner->run();
    {
      std::lock_guard lock(lock_);
      executor.result.emplace(std::move(result));
    }
    ended_.signal();
  });
}

Result<ExitCode> Supervisor::run(TerminationSignals* signals) {
  idle_since_ = read_clock();
  for (Executor& executor : executors_) start(executor);
  bool failed = false;
  while (!all_ended(&failed)) {
    if (failed) drain_all();
    pollfd items[] = {{signals ? signals->fd() : -1, POLLIN, 0},
                      {inbox_.fd(), POLLIN, 0},
                      {ended_.fd(), POLLIN, 0}};
    // A tenth of the time is near enough.
    int timeout = options_.idle_exit
                      ? int(std::clamp<int64_t>(options_.idle_exit->count() / 10, 1, 1000))
                      : -1;
    poll(items, 3, timeout);
    ended_.drain();
    for (int signal : {signals ? signals->take() : 0, inbox_.take()}) {
      if (signal == 0) continue;
      draining_ = true;
      for (Executor& executor : executors_) executor.inbox.post(signal);
    }
    look_for_idleness(read_clock());
  }
  return join();
}

bool Supervisor::all_ended(bool* failed) const {
  std::lock_guard lock(lock_);
  for (const Executor& executor : executors_)
    *failed |=
        executor.result && !(executor.result->ok() && executor.result->value() == ExitCode::ok);
  return std::all_of(executors_.begin(), executors_.end(),
                     [](const Executor& executor) { return executor.result.has_value(); });
}

void Supervisor::look_for_idleness(Mono now) {
  if (!options_.idle_exit || draining_) return;
  uint64_t held = 0, confirmed = 0;
  for (const ExecutorStatus& executor : status()) {
    held += executor.held;
    confirmed += executor.confirmed;
  }
  if (held > 0 || confirmed != seen_confirmed_) idle_since_ = now;
  seen_confirmed_ = confirmed;
  if (now - idle_since_ < *options_.idle_exit) return;
  log_info("idle: the worker exits", {{"idle", *options_.idle_exit}});
  drain_all();
}

void Supervisor::drain_all() {
  if (draining_) return;
  draining_ = true;
  for (Executor& executor : executors_) executor.inbox.post(SIGTERM);
}

Result<ExitCode> Supervisor::join() {
  Result<ExitCode> worst = ExitCode::ok;
  for (Executor& executor : executors_) {
    executor.thread.join();
    if (!worst) continue;
    if (!*executor.result || int(**executor.result) > int(*worst)) worst = *executor.result;
  }
  return worst;
}

void Supervisor::post(int signal) { inbox_.post(signal); }

bool Supervisor::has_unstoppable() const {
  return std::any_of(executors_.begin(), executors_.end(),
                     [](const Executor& executor) { return executor.runner->has_unstoppable(); });
}

std::vector<ExecutorStatus> Supervisor::status() const {
  std::vector<ExecutorStatus> all;
  for (const Executor& executor : executors_) all.push_back(executor.runner->status());
  return all;
}

}  // namespace millrace::worker
