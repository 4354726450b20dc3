#include "worker/handlers/exec_handler.h"

#include <fmt/format.h>
#include <poll.h>

#include <array>

#include "worker/handlers/exit_status.h"
#include "worker/process/pipe_io.h"

namespace millrace::worker {
namespace {

using Kind = Completion::Kind;

// Takes what a job's process writes, both streams at once, so that it never waits with a full pipe.
class Exchange {
 public:
  Exchange(ChildProcess& child, const StopSignal::Watch& stop, size_t most, StderrLog& log)
      : child_(child), stop_(stop), most_(most), log_(log) {}

  // Until the child has ended and all that it wrote is here.
  void run() {
    while (!turn()) {
    }
    read_output();
    read_errors();
  }

  bool too_much() const { return too_much_; }
  bool stopped() const { return stopped_; }
  std::string take_output() { return std::move(output_); }

 private:
  // Waits for what comes next; true once the child has ended.
  bool turn() {
    std::array<pollfd, 4> items{{{child_.ended_fd(), POLLIN, 0},
                                 {child_.stdout_pipe.get(), POLLIN, 0},
                                 {child_.stderr_pipe.get(), POLLIN, 0},
                                 {stopped_ ? -1 : stop_.fd(), POLLIN, 0}}};
    poll(items.data(), items.size(), -1);
    if (items[3].revents) stop();
    if (items[1].revents) read_output();
    if (items[2].revents) read_errors();
    return items[0].revents != 0;
  }

  void stop() {
    stopped_ = true;
    child_.terminate();
  }

  void read_output() {
    read_some(child_.stdout_pipe, [this](std::string_view bytes) {
      if (too_much_) return;
      output_ += bytes;
      if (output_.size() <= most_) return;
      too_much_ = true;
      child_.kill();
    });
  }

  void read_errors() {
    read_some(child_.stderr_pipe, [this](std::string_view bytes) { log_.add(bytes); });
  }

  ChildProcess& child_;
  const StopSignal::Watch& stop_;
  const size_t most_;  // bytes
  StderrLog& log_;
  std::string output_;
  bool too_much_ = false;
  bool stopped_ = false;
};

std::vector<std::string> variables_of(const JobContext& context) {
  return {fmt::format("MILLRACE_JOB_ID={}", context.name()),
          fmt::format("MILLRACE_QUEUE={}", context.queue),
          fmt::format("MILLRACE_ATTEMPT={}", context.job.attempt),
          fmt::format("MILLRACE_EPOCH={}", context.job.lease.epoch.value)};
}

}  // namespace

Completion ExecHandler::run(const JobContext& context) {
  return unless_no_memory([&] { return run_command(context); });
}

Completion ExecHandler::run_command(const JobContext& context) {
  const StopSignal::Watch stop(context.stop);
  const std::vector<std::string> variables = variables_of(context);
  auto child = ChildProcess::spawn(spawner_, stop,
                                   {.command = command_,
                                    .variables = variables,
                                    .limits = limits_,
                                    .start_before = context.start_before},
                                   context.job.payload);
  if (!child) return not_started(child.error());
  StderrLog log(context.name(), budget_);
  Exchange exchange(*child, stop, context.job.max_result, log);
  exchange.run();
  log.finish();
  const ChildProcess::End end = child->finish();
  if (exchange.stopped()) return Completion::failed(Kind::retryable, "the worker was stopped");
  if (exchange.too_much()) {
    return Completion::failed(Kind::permanent,
                              fmt::format("the command wrote more than the {} bytes that a result "
                                          "may have, and was killed",
                                          context.job.max_result));
  }
  if (!exited_well(end)) return failure_of(end, log);
  return Completion::done(exchange.take_output());
}

}  // namespace millrace::worker
