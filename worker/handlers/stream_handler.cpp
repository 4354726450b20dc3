#include "worker/handlers/stream_handler.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>

#include "common/base/time.h"
#include "worker/handlers/exit_status.h"
#include "worker/handlers/stream_line.h"
#include "worker/process/pipe_io.h"

namespace millrace::worker {
namespace {

using Kind = Completion::Kind;

constexpr size_t kMostJsonBytes = 6;  // of one byte of a result: \u0000
constexpr size_t kLineSlack = 64 << 10;

// One job and its answer, all streams at once.
class Dialogue {
 public:
  enum class End { answered, ended, stopped, too_long };

  Dialogue(ChildProcess& child, const JobContext& context, const StopSignal::Watch& stop,
           StderrLog& log)
      : child_(child),
        stop_(stop),
        log_(log),
        job_(job_line(context)),
        unsent_(job_),
        most_(context.job.max_result * kMostJsonBytes + kLineSlack) {}

  End run() {
    for (;;) {
      std::array<pollfd, 5> items{{{child_.ended_fd(), POLLIN, 0},
                                   {unsent_.empty() ? -1 : child_.stdin_pipe.get(), POLLOUT, 0},
                                   {child_.stdout_pipe.get(), POLLIN, 0},
                                   {child_.stderr_pipe.get(), POLLIN, 0},
                                   {stopped_ ? -1 : stop_.fd(), POLLIN, 0}}};
      // A child that has closed its stdout ends, or has no answer to give.
      const bool has_answer = child_.stdout_pipe.is_open() || stopped_;
      int timeout = has_answer ? -1 : int(StreamHandler::kShutdownGrace.count());
      if (poll(items.data(), items.size(), timeout) == 0) return End::answered;
      if (items[4].revents) stop();
      if (items[1].revents && !write_some(child_.stdin_pipe, &unsent_)) unsent_ = {};
      if (items[2].revents) read_answer();
      if (items[3].revents) read_errors();
      if (stopped_ && items[0].revents) return read_errors(), End::stopped;
      if (stopped_) continue;
      if (answered_) return read_errors(), End::answered;
      if (answer_.size() > most_) return End::too_long;
      if (!items[0].revents) continue;
      read_answer();  // its last words may have come with its end
      read_errors();
      return answered_ ? End::answered : End::ended;
    }
  }
  // What came up to the end of the line; what stands behind it is nobody's.
  std::string_view answer() const { return std::string_view(answer_).substr(0, line_end_); }
  bool has_more() const { return line_end_ + 1 < answer_.size(); }

 private:
  // It may take its time, and write, until it ends or is killed.
  void stop() {
    stopped_ = true;
    unsent_ = {};
    child_.terminate();
  }
  void read_answer() {
    read_some(child_.stdout_pipe, [this](std::string_view bytes) {
      if (stopped_) return;
      size_t from = answer_.size();
      answer_ += bytes;
      if (answered_) return;
      line_end_ = answer_.find('\n', from);
      answered_ = line_end_ != std::string::npos;
    });
  }
  void read_errors() {
    read_some(child_.stderr_pipe, [this](std::string_view bytes) { log_.add(bytes); });
  }

  ChildProcess& child_;
  const StopSignal::Watch& stop_;
  StderrLog& log_;
  std::string job_;
  std::string_view unsent_;
  size_t most_;
  std::string answer_;
  size_t line_end_ = std::string::npos;
  bool answered_ = false;
  bool stopped_ = false;
};

Completion ended(ChildProcess& child, const StderrLog& log) {
  const ChildProcess::End how = child.finish();
  Completion end = failure_of(how, log);
  if (how.kind == ChildProcess::End::Kind::exited)
    end.text = "ended before it had answered: " + end.text;
  return end;
}

}  // namespace

Completion StreamHandler::run(const JobContext& context) {
  return unless_no_memory([&] { return run_child(context); });
}

Completion StreamHandler::run_child(const JobContext& context) {
  const StopSignal::Watch stop(context.stop);
  auto child = take(context, stop);
  if (!child) return not_started(child.error());
  if (read_boottime() >= context.start_before) return give_back(*std::move(child)), too_late();
  StderrLog log(context.name(), budget_);
  Dialogue dialogue(*child, context, stop, log);
  auto end = dialogue.run();
  log.finish();
  switch (end) {
    case Dialogue::End::ended:
      return ended(*child, log);
    case Dialogue::End::stopped:
      return Completion::failed(Kind::retryable, "the worker was stopped");
    case Dialogue::End::too_long:
      return Completion::failed(
          Kind::permanent, fmt::format("the command's answer is longer than any result of {} bytes "
                                       "can be; it was killed",
                                       context.job.max_result));
    case Dialogue::End::answered:
      break;
  }
  auto answer = parse_answer(dialogue.answer(), context.name());
  if (!answer || dialogue.has_more()) {
    return Completion::failed(
        Kind::retryable, fmt::format("the command was killed: what it wrote is not one line "
                                     "of JSON that answers job {}: {}",
                                     context.name(), printable(dialogue.answer().substr(0, 200))));
  }
  give_back(*std::move(child));
  return *std::move(answer);
}

Result<ChildProcess> StreamHandler::take(const JobContext& context, const StopSignal::Watch& stop) {
  while (auto child = take_idle())
    if (limits_.cpu ? child->renew_cpu() : !child->has_ended()) return *std::move(child);
  // It may get jobs of all queues that the subscription matches; each line names its own.
  const auto queue = context.subscription.empty() ? context.queue : context.subscription;
  const std::vector<std::string> variables{fmt::format("MILLRACE_QUEUE={}", queue)};
  return ChildProcess::spawn(spawner_, stop,
                             {.command = command_,
                              .variables = variables,
                              .limits = limits_,
                              .renews_cpu = true,
                              .start_before = context.start_before});
}

std::optional<ChildProcess> StreamHandler::take_idle() {
  std::lock_guard lock(lock_);
  if (idle_.empty()) return std::nullopt;
  ChildProcess child = std::move(idle_.back());
  idle_.pop_back();
  return child;
}

void StreamHandler::give_back(ChildProcess child) {
  std::lock_guard lock(lock_);
  idle_.push_back(std::move(child));
}

StreamHandler::~StreamHandler() {
  for (ChildProcess& child : idle_) child.stdin_pipe.reset();
  if (wait_for_ends(kShutdownGrace)) return;
  for (ChildProcess& child : idle_) child.terminate();
  wait_for_ends(spawner_.kill_after() + kShutdownGrace);
}

bool StreamHandler::wait_for_ends(Millis timeout) {
  const Mono end = read_clock() + timeout;
  for (ChildProcess& child : idle_) {
    const auto left = std::chrono::ceil<Millis>(end - read_clock());
    pollfd ended{child.ended_fd(), POLLIN, 0};
    if (poll(&ended, 1, int(std::max(left, Millis(0)).count())) <= 0) return false;
  }
  return true;
}

}  // namespace millrace::worker
