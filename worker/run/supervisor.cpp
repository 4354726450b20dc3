#include "worker/run/supervisor.h"

#include <poll.h>

#include <algorithm>
#include <csignal>

#include "common/base/time.h"
#include "common/net/dealer.h"
#include "common/os/log.h"

namespace millrace::worker {


Crew::Crew(const RunOptions& options, std::vector<QueueHandler> handlers)
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
    add_lane(std::move(own), std::move(one));
  }
  if (!shared.queues.empty()) add_lane(std::move(shared), std::move(shared_handlers));
}

void Crew::add_lane(RunOptions options, std::vector<QueueHandler> handlers) {
  Lane& lane = lanes_.emplace_back();
  lane.options = std::move(options);
  lane.runner.emplace(lane.options, std::move(handlers), lane.inbox, context_);
}

void Crew::start(Lane& lane) {
  lane.thread = std::thread([this, &lane] {
    auto result = lane.runner->run();
    {
      std::lock_guard lock(lock_);
      lane.result.emplace(std::move(result));
    }
    ended_.signal();
  });
}

Result<ExitCode> Crew::run(TerminationSignals* signals) {
  idle_since_ = read_clock();
  for (Lane& lane : lanes_) start(lane);
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
      for (Lane& lane : lanes_) lane.inbox.post(signal);
    }
    look_for_idleness(read_clock());
  }
  return join();
}

bool Crew::all_ended(bool* failed) const {
  std::lock_guard lock(lock_);
  for (const Lane& lane : lanes_)
    *failed |= lane.result && !(lane.result->ok() && lane.result->value() == ExitCode::ok);
  return std::all_of(lanes_.begin(), lanes_.end(),
                     [](const Lane& lane) { return lane.result.has_value(); });
}

void Crew::look_for_idleness(Mono now) {
  if (!options_.idle_exit || draining_) return;
  uint64_t held = 0, confirmed = 0;
  for (const LaneStatus& lane : status()) {
    held += lane.held;
    confirmed += lane.confirmed;
  }
  if (held > 0 || confirmed != seen_confirmed_) idle_since_ = now;
  seen_confirmed_ = confirmed;
  if (now - idle_since_ < *options_.idle_exit) return;
  log_info("idle: the worker exits", {{"idle", *options_.idle_exit}});
  drain_all();
}

void Crew::drain_all() {
  if (draining_) return;
  draining_ = true;
  for (Lane& lane : lanes_) lane.inbox.post(SIGTERM);
}

Result<ExitCode> Crew::join() {
  Result<ExitCode> worst = ExitCode::ok;
  for (Lane& lane : lanes_) {
    lane.thread.join();
    if (!worst) continue;
    if (!*lane.result || int(**lane.result) > int(*worst)) worst = *lane.result;
  }
  return worst;
}

void Crew::post(int signal) { inbox_.post(signal); }

bool Crew::has_runaways() const {
  return std::any_of(lanes_.begin(), lanes_.end(),
                     [](const Lane& lane) { return lane.runner->has_runaways(); });
}

std::vector<LaneStatus> Crew::status() const {
  std::vector<LaneStatus> all;
  for (const Lane& lane : lanes_) all.push_back(lane.runner->status());
  return all;
}

}  // namespace millrace::worker
