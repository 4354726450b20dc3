#include "worker/sdk/worker.h"

#include <unistd.h>

#include <csignal>
#include <mutex>

#include "common/os/log.h"
#include "worker/run/supervisor.h"

namespace millrace {
namespace {

using worker::Completion;

class FunctionHandler : public worker::Handler {
 public:
  explicit FunctionHandler(Worker::Handle handle) : handle_(std::move(handle)) {}

  Completion run(const worker::JobContext& context) override {
    std::string id = context.name();
    const StopView stop{&context.stop};
    WorkerJob job{id,
                  context.queue,
                  context.job.payload,
                  context.job.lease.epoch.value,
                  context.job.attempt,
                  size_t(context.job.max_result),
                  context.job.wants_result,
                  stop};
    try {
      return Completion::done(handle_(job));
    } catch (const PermanentFailure& failure) {
      return Completion::failed(Completion::Kind::permanent, failure.what());
    }
  }

 private:
  struct StopView {  // one pointer, so that std::function needs no memory
    const worker::StopSignal* signal;
    bool operator()() const { return signal->is_set(); }
  };
  Worker::Handle handle_;
};

std::optional<Millis> unless_zero(Millis duration) {
  return duration.count() > 0 ? std::optional(duration) : std::nullopt;
}

}  // namespace

struct Worker::Inside {
  WorkerSettings settings;
  worker::RunOptions options;
  std::vector<worker::QueueHandler> handlers;
  std::optional<worker::Supervisor> supervisor;
  std::mutex lock;  // of stops and of the supervisor's making
  int stops = 0;
  std::string error;

  Result<void> read_settings() {
    auto brokers = parse_endpoints(settings.broker, worker::kBackendPort);
    if (!brokers) return brokers.error();
    auto pool = worker::parse_pool(settings.pool);
    if (!pool) return pool.error();
    auto prefetch = worker::parse_prefetch(settings.prefetch);
    if (!prefetch) return prefetch.error();
    options.brokers = *brokers;
    options.curve.key = settings.curve_key;
    if (!settings.curve_broker.empty()) options.curve.brokers = {settings.curve_broker};
    options.pool = *pool;
    options.prefetch = *prefetch;
    options.name = settings.name.empty() ? worker::default_name() : settings.name;
    for (const std::string& text : settings.labels) {
      auto label = worker::parse_label(text);
      if (!label) return label.error();
      options.labels.push_back(*label);
    }
    options.run_timeout = unless_zero(settings.run_timeout);
    options.drain_timeout = settings.drain_timeout;
    options.idle_exit = unless_zero(settings.idle_exit);
    options.connect_timeout = unless_zero(settings.connect_timeout);
    if (settings.breaker < 0) return Error{ExitCode::usage, "breaker is a number of failures"};
    options.breaker = settings.breaker;
    options.commands.kill_after = Millis(0);  // it runs none
    if (options.queues.empty()) {
      return Error{ExitCode::usage, "the worker has no queue: call on() before run()"};
    }
    for (const worker::QueueSpec& spec : options.queues) {
      if (!protocol::valid_subscription(spec.queue))
        return Error{ExitCode::usage, "'" + spec.queue + "' is not a queue name"};
      if (spec.share > worker::kMaxThreads)
        return Error{ExitCode::usage, "queue " + spec.queue + " asks for too many threads"};
    }
    if (auto checked = worker::check(options); !checked) return checked;
    return worker::read_keys(options);
  }

  Result<void> open_log() const {
    if (settings.log_level.empty()) return {};
    auto level = parse_log_level(settings.log_level);
    if (!level) return level.error();
    start_log(*level);
    return {};
  }

  Result<ExitCode> run() {
    if (auto log = open_log(); !log) return log.error();
    if (auto read = read_settings(); !read) return read.error();
    std::optional<millrace::TerminationSignals> termination;
    if (settings.signals) termination.emplace();  // before the first thread
    {
      std::lock_guard guard(lock);
      supervisor.emplace(options, std::move(handlers));
      for (int i = 0; i < stops; ++i) supervisor->post(SIGTERM);
    }
    auto result = supervisor->run(termination ? &*termination : nullptr);
    if (supervisor->has_unstoppable()) {
      // Their threads use what this program is about to destroy.
      log_error("some handlers can't be stopped; the program ends");
      _exit(int(result ? *result : result.error().code));
    }
    return result;
  }
};

Worker::Worker(WorkerSettings settings) : inside_(std::make_unique<Inside>()) {
  inside_->settings = std::move(settings);
}
Worker::~Worker() = default;

Worker& Worker::on(std::string queue, Handle handle, size_t threads) {
  inside_->handlers.push_back({queue, std::make_unique<FunctionHandler>(std::move(handle))});
  inside_->options.queues.push_back({std::move(queue), "function", threads});
  return *this;
}

int Worker::run() {
  auto result = inside_->run();
  if (!result) inside_->error = result.error().message;
  return int(result ? *result : result.error().code);
}

void Worker::stop() {
  std::lock_guard guard(inside_->lock);
  ++inside_->stops;
  if (inside_->supervisor) inside_->supervisor->post(SIGTERM);
}

const std::string& Worker::error() const { return inside_->error; }

}  // namespace millrace
