#include "producer/load.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/progress.h"
#include "producer/flags.h"
#include "producer/load_report.h"
#include "producer/waiter.h"

namespace millrace::producer {
namespace {

using protocol::Report;

// Between two looks at the connection; a few full SUBMITs.
constexpr uint64_t kBurst = 4096;
// At high rates submissions are made in small bursts, at most this late: a wake-up for each would
// cost the machine more than the jobs.
constexpr std::chrono::microseconds kLeastPause{200};
constexpr Millis kDefaultDuration{10'000};

class LoadRun {
 public:
  LoadRun(const LoadFlags& flags, uint64_t run_id)
      : flags_(flags),
        start_(std::chrono::steady_clock::now()),
        schedule_(plan(flags), start_),
        payload_(run_id, size_t(flags.size)),
        compared_(run_id, size_t(flags.size)),
        report_(
            schedule_, [this] { return client_->now(); },
            flags.report == Report::result ? &compared_ : nullptr),
        progress_(Progress::style_for_stderr(flags.quiet), start_) {
    options_.report = waits() ? flags.report : Report::none;
    options_.max_attempts = uint8_t(flags.max_attempts);
  }

  Result<ExitCode> run() {
    if (auto opened = open(); !opened) return opened.error();
    if (auto connected = connect(); !connected) return connected.error();
    schedule_ = Schedule(plan(flags_), start_ = client_->now());
    if (auto sent = submit_all(); !sent) return sent.error();
    submitted_at_ = client_->now();
    deadline_ = deadline_after(flags_.timeout);
    if (auto waited = wait_for_ends(); !waited) return waited.error();
    ended_at_ = client_->now();
    sum_up();
    if (flags_.verify && !stopped_) {
      if (auto verified = verify(); !verified) return verified.error();
    }
    client_->close();
    progress_.finish();
    return conclude();
  }

 private:
  static Schedule::Plan plan(const LoadFlags& flags) {
    Schedule::Plan plan;
    plan.rate = flags.rate;
    if (flags.count > 0) plan.count = uint64_t(flags.count);
    if (flags.duration > Millis(0)) plan.duration = flags.duration;
    if (!plan.count && !plan.duration) plan.duration = kDefaultDuration;
    return plan;
  }

  bool waits() const { return !flags_.no_wait && flags_.report != Report::none; }
  ProducerSession& session() { return client_->session(); }
  uint64_t submitted() { return session().next_seq().value - 1; }

  Result<void> open() {
    ClientOptions options;
    options.broker = flags_.broker;
    options.curve = flags_.curve;
    options.session.producer = Uuid::random();
    options.session.on_reject = flags_.hold ? OnReject::retry : OnReject::report;
    if (flags_.window > 0) options.session.window_jobs = uint64_t(flags_.window);
    // As fast as possible, what waits here would only add to the latencies.
    if (!flags_.rate) options.session.max_unsent_jobs = 2 * kBurst;
    options.connect_timeout = flags_.connect_timeout;
    options.ledger = flags_.ledger;
    auto client = Client::open(options, report_);
    if (!client) return client.error();
    client_ = *std::move(client);
    return {};
  }

  // One turn of the client; false when Ctrl-C or the time-out ends the run.
  Result<bool> turn(Mono until) {
    if (auto done = client_->poll(std::min(until, deadline_), waiter_.fd()); !done)
      return done.error();
    show_progress();
    if (waiter_.interrupted()) {
      stopped_ = ExitCode::interrupted;
    } else if (client_->now() >= deadline_) {
      stopped_ = ExitCode::temporary;
    }
    return !stopped_;
  }
  // Until Ctrl-C, progress, or something from the broker.
  Result<bool> turn() { return turn(client_->now() + Millis(500)); }

  Result<void> connect() {
    for (bool go_on = true; go_on && !client_->connected();) {
      auto turned = turn();
      if (!turned) return turned.error();
      go_on = *turned;
    }
    return {};
  }

  Result<void> submit_all() {
    while (!stopped_ && !schedule_.over(client_->now(), submitted())) {
      uint64_t made = submit_due();
      Mono until = client_->now() + Millis(500);
      if (!session().has_room()) {
        // Answers make room, and wake us.
      } else if (!flags_.rate) {
        until = made > 0 ? client_->now() : until;
      } else {
        until =
            std::min(until, std::max(schedule_.due_at(submitted()), client_->now() + kLeastPause));
      }
      waiter_.wake_at(until);
      if (auto turned = turn(until); !turned) return turned.error();
    }
    waiter_.wake_at(Mono::max());
    return {};
  }

  uint64_t submit_due() {
    Mono now = std::chrono::steady_clock::now();
    uint64_t before = submitted();
    uint64_t target = std::min(schedule_.due(now), before + kBurst);
    if (before < target && session().has_room()) schedule_.burst(session().next_seq(), now);
    while (submitted() < target && session().has_room()) {
      session().submit(flags_.queue, options_, payload_.of(session().next_seq()));
    }
    return submitted() - before;
  }

  Result<void> wait_for_ends() {
    while (!stopped_ && (session().unanswered() > 0 || session().awaited() > 0)) {
      if (auto turned = turn(); !turned) return turned.error();
    }
    return {};
  }

  Result<void> verify() {
    report_.verifying();
    for (const auto& jobs : report_.jobs()) session().inquire(jobs);
    while (!stopped_ && session().inquiring()) {
      if (auto turned = turn(); !turned) return turned.error();
    }
    return {};
  }

  void show_progress() {
    if (!progress_.due(client_->now())) return;
    uint64_t ended = waits() ? report_.ended() : report_.confirmed();
    ProgressFigures figures{
        {{"sent", submitted()}, {"confirmed", report_.confirmed()}},
        ended,
        schedule_.over(client_->now(), submitted()) ? submitted() : schedule_.total()};
    if (waits()) figures.counts.emplace_back("done", ended);
    progress_.show(client_->now(), figures);
  }

  void sum_up() {
    auto seconds = [this](Mono to) { return std::chrono::duration<double>(to - start_).count(); };
    report_.finish({submitted(), session().unanswered(), session().awaited(), seconds(ended_at_),
                    seconds(submitted_at_), waits()});
  }

  Result<ExitCode> conclude() {
    if (flags_.json) {
      report_.print_json();
    } else {
      report_.print_text();
    }
    if (stopped_ == ExitCode::interrupted)
      return Error{ExitCode::interrupted, "interrupted: " + left_over()};
    if (stopped_) {
      return Error{
          report_.lost() > 0 ? ExitCode::failed : ExitCode::temporary,
          fmt::format(
              "not finished {} after the last submission: {}; is a worker running for queue {}?",
              format_duration(flags_.timeout), left_over(), flags_.queue)};
    }
    return report_.good() ? ExitCode::ok : ExitCode::failed;
  }

  std::string left_over() {
    uint64_t unknown = session().unanswered();
    return fmt::format("{} confirmed, {} unknown{}, {} without an end yet", report_.confirmed(),
                       unknown, unknown ? " (the broker may have them)" : "", session().awaited());
  }

  const LoadFlags& flags_;
  Waiter waiter_;
  Mono start_;
  Mono submitted_at_;
  Mono ended_at_;
  Mono deadline_ = Mono::max();
  Schedule schedule_;
  LoadPayload payload_;
  LoadPayload compared_;
  LoadReport report_;
  std::unique_ptr<Client> client_;
  Progress progress_;
  protocol::SubmitOptions options_;
  std::optional<ExitCode> stopped_;
};

Result<std::optional<double>> parse_rate(std::string_view text) {
  if (text == "max") return std::optional<double>();
  auto number = parse_integer(text, 1, 100'000'000);
  if (number) return std::optional<double>(double(*number));
  return Error{number.error().code, number.error().message + "; or max"};
}

Result<Report> parse_report(std::string_view text) {
  if (text == "none") return Report::none;
  if (text == "outcome") return Report::outcome;
  if (text == "result") return Report::result;
  return Error{ExitCode::usage, fmt::format("'{}' is not a report: none, outcome or result", text)};
}

}  // namespace

void declare_load(Command& command, LoadFlags& flags) {
  declare_queue(command, flags.queue);
  declare_broker(command, flags.broker, flags.connect_timeout);
  declare_curve(command, flags.curve);
  command.value("--rate", flags.rate, parse_rate, "N|max", "submissions a second", "max");
  command.duration("--duration", flags.duration, "how long to submit; 10s unless there is a count",
                   "", Millis(1));
  command.integer("--count", flags.count, "how many to submit", "", 1, int64_t{1} << 40);
  command.size("--size", flags.size, "bytes of a payload", "256");
  command.value(
      "--report", flags.report, parse_report, "WHAT",
      "what to wait for: none, outcome, or result, which is compared with the payload (for echo)",
      "outcome");
  command.toggle("--no-wait", flags.no_wait,
                 "end when everything is confirmed; the same as --report none");
  command.toggle("--verify", flags.verify, "ask the broker for the state of each job at the end");
  command.toggle("--hold", flags.hold,
                 "hold back and send again what a full or stopping broker rejects, as submit does");
  command.integer("--window", flags.window,
                  "most submissions unanswered; the broker's window unless smaller", "", 1,
                  int64_t{1} << 32);
  command.integer("--max-attempts", flags.max_attempts,
                  "failures until a job is dead; the broker's unless given", "", 1, 255);
  command.text("--ledger", flags.ledger, "FILE", "append an account of everything, for audit");
  command.duration("--timeout", flags.timeout,
                   "longest wait after the last submission; 0s: for ever", "10m");
  command.toggle("--json", flags.json, "one JSON object on stdout");
  command.toggle("--quiet", flags.quiet, "no progress");
}

Result<ExitCode> run_load(const LoadFlags& flags) {
  return LoadRun(flags, random_session().value).run();
}

}  // namespace millrace::producer
