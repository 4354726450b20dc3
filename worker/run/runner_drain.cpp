// How a worker ends: the half of Runner that deals with signals.
#include <algorithm>
#include <csignal>

#include "common/os/log.h"
#include "worker/run/runner.h"

namespace millrace::worker {
namespace {

// For handlers to return in, once nothing is left of their commands.
constexpr Millis kReturnIn{500};
// How long the last RELEASEs may wait for their DONE_OK once the drain's own time is over.
constexpr Millis kShutdownGrace{2000};

}  // namespace

void Runner::on_signal(int signal, Mono now) {
  std::string_view name = signal == SIGINT ? "SIGINT" : "SIGTERM";
  if (phase_ == Phase::serving) {
    log_info("draining", {{"signal", name},
                          {"held", held()},
                          {"unconfirmed", unconfirmed()},
                          {"timeout", options_.drain_timeout}});
    return start_drain(now);
  }
  log_warning("stopped at once by a second signal", {{"signal", name}, {"held", held()}});
  pool_->stop();
  give_up(now);
  say_bye();
  stopped_ = ExitCode::interrupted;
}

void Runner::on_too_many_stuck(Mono now) {
  too_many_stuck_ = true;
  log_error("too many handlers are stuck; the worker drains and ends",
            {{"stuck", pool_->stats().stuck}});
  if (phase_ == Phase::serving) start_drain(now);
}

void Runner::start_drain(Mono now) {
  phase_ = Phase::draining;
  gathering_.end();
  deadline_ = now + options_.drain_timeout;
  for (Connection& line : lines_) line.drain();
}

// A job is given back once its handler has returned, so that it does not run twice at a time.
void Runner::stop_running(Mono now) {
  phase_ = Phase::stopping;
  deadline_ = now + options_.commands.kill_after + kReturnIn;
  for (Connection& line : lines_) line.release_failures();
  pool_->stop();
}

void Runner::give_up(Mono now) {
  phase_ = Phase::leaving;
  deadline_ = now + kShutdownGrace;
  for (Connection& line : lines_) line.give_up();
}

std::optional<ExitCode> Runner::drain_result(Mono now) {
  if (stopped_ || phase_ == Phase::serving) return stopped_;
  const bool drained = std::all_of(lines_.begin(), lines_.end(),
                                   [](const Connection& line) { return line.session().drained(); });
  if (drained) {
    say_bye();
    const size_t confirmed =
        sum([](const WorkerSession& session) { return session.confirmed_total(); });
    log_info("drained", {{"confirmed", confirmed}});
    return too_many_stuck_ ? ExitCode::failed : ExitCode::ok;
  }
  const bool none_runs = phase_ == Phase::stopping && held() == unconfirmed();
  if (now < deadline_ && !none_runs) return std::nullopt;
  if (phase_ == Phase::draining) {
    log_warning(
        "drain timeout: returning the jobs that still run",
        {{"running", held() - unconfirmed()}, {"kill_after", options_.commands.kill_after}});
    stop_running(now);
    return std::nullopt;
  }
  if (phase_ == Phase::stopping) {
    give_up(now);
    return std::nullopt;
  }
  log_error("the broker did not confirm the last jobs; it will run them again", {{"jobs", held()}});
  return ExitCode::unavailable;
}

void Runner::say_bye() {
  for (Connection& line : lines_) line.say_bye();
}

}  // namespace millrace::worker
