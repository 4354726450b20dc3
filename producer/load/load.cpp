#include "producer/load/load.h"

#include <fmt/format.h>

#include "producer/client/flags.h"
#include "producer/load/plot.h"
#include "producer/load/run.h"

namespace millrace::producer {
namespace {

using protocol::Report;

constexpr Millis kDefaultDuration{10'000};
constexpr int64_t kMaxClients = 256;

Result<void> check_flags(const LoadFlags& flags) {
  auto usage = [](std::string text) { return Error{ExitCode::usage, std::move(text)}; };
  if (flags.queue.has_value() == flags.queue_mix.has_value())
    return usage("give --queue NAME or --queue-mix NAME=WEIGHT,…, and not both");
  if (flags.rate.timed() && flags.duration > Millis(0))
    return usage("the steps of --rate set the duration: omit --duration");
  if (flags.rate.ramps() && !flags.rate.timed() && flags.duration == Millis(0) && flags.count > 0)
    return usage("a ramp needs a duration: give --duration, or --rate A..B:DURATION");
  if (!flags.rate.max() && flags.rate.steps.front().from == 0 && flags.warm_up > Millis(0))
    return usage("--warm-up uses the first rate, which is 0: start the ramp above 0");
  if (flags.plot.empty()) return {};
  return check_plot(flags.plot);
}

LoadPlan plan_of(const LoadFlags& flags) {
  LoadPlan plan;
  plan.schedule.rate = flags.rate;
  plan.schedule.warm_up = flags.warm_up;
  if (flags.count > 0) plan.schedule.count = uint64_t(flags.count);
  if (flags.duration > Millis(0)) plan.schedule.duration = flags.duration;
  if (!plan.schedule.count && !plan.schedule.duration) plan.schedule.duration = kDefaultDuration;
  plan.sizes = flags.size;
  plan.queues = flags.queue ? QueueMix::of(*flags.queue) : *flags.queue_mix;
  plan.options.report = flags.waits() ? flags.report : Report::none;
  plan.options.max_attempts = uint8_t(flags.max_attempts);
  plan.compares = plan.options.report == Report::result;
  plan.verifies = flags.verify;
  plan.timeout = flags.timeout;
  plan.clients = uint64_t(flags.clients);
  plan.client.brokers = flags.brokers;
  plan.client.curve = flags.curve;
  plan.client.session.on_reject = flags.hold ? OnReject::retry : OnReject::report;
  plan.client.connect_timeout = flags.connect_timeout;
  plan.client.ledger = flags.ledger;
  if (flags.window > 0) plan.client.session.window_jobs = uint64_t(flags.window);
  return plan;
}

Result<Report> parse_report(std::string_view text) {
  if (text == "none") return Report::none;
  if (text == "outcome") return Report::outcome;
  if (text == "result") return Report::result;
  return Error{ExitCode::usage, fmt::format("'{}' is not a report: none, outcome or result", text)};
}

}  // namespace

void declare_load(Command& command, LoadFlags& flags) {
  command.group("Queueing");
  command.value("--queue", flags.queue, parse_queue, "NAME",
                "queue of the jobs; either this or --queue-mix is required");
  command.value("--queue-mix", flags.queue_mix, QueueMix::parse, "NAME=N[,...]",
                "several queues with weights: mail=3,images=1");
  command.integer("--max-attempts", flags.max_attempts,
                  "failed attempts before a job is marked dead (default: set by the broker)", "", 1,
                  255);
  declare_brokers(command, flags.brokers, flags.connect_timeout);
  declare_curve(command, flags.curve);
  command.group("Load");
  command.value("--rate", flags.rate, Rate::parse, "RATE",
                "submissions per second: max, 5000, a ramp 1000..5000, or steps "
                "1000:10s,1000..5000:20s,5000:1m",
                "max");
  command.duration("--duration", flags.duration,
                   "duration of the run (default: 10s, or no limit with --count)", "", Millis(1));
  command.duration("--warm-up", flags.warm_up,
                   "time at the first rate before the run; its jobs are counted, not measured",
                   "0s");
  command.integer("--count", flags.count, "number of submissions, including the warm-up", "", 1,
                  int64_t{1} << 40);
  command.value("--size", flags.size, SizeMix::parse, "SIZE",
                "payload size in bytes: 256, 100..4KiB, or shares 64:90%,10KiB:10%", "256");
  command.integer("--clients", flags.clients,
                  "producers, each with its own connection, which share rate and count", "1", 1,
                  kMaxClients);
  command.integer("--window", flags.window,
                  "maximum unanswered submissions of each client (default: set by the broker, "
                  "which is also the upper bound)",
                  "", 1, int64_t{1} << 32);
  command.toggle("--hold", flags.hold,
                 "send again what a full or stopping broker rejects, as submit does");
  command.group("Measurement");
  command.value("--report", flags.report, parse_report, "WHAT",
                "what to wait for: none, outcome, or result, which is compared with the payload "
                "(for the handler echo)",
                "outcome");
  command.toggle("--no-wait", flags.no_wait,
                 "end when every submission is confirmed; same as --report none");
  command.toggle("--verify", flags.verify, "query the broker for the state of each job at the end");
  command.duration("--timeout", flags.timeout,
                   "maximum wait after the last submission; 0s means no limit", "10m");
  command.group("Output");
  command.text("--ledger", flags.ledger, "FILE",
               "append submissions and outcomes to FILE, for 'audit'; FILE.1, FILE.2, ... with "
               "--clients");
  command.text("--csv", flags.csv, "FILE",
               "write one row per second: counts, latencies, queue depth");
  command.text("--plot", flags.plot, "FILE",
               "plot the same figures as .svg or .png; requires gnuplot");
  command.toggle("--json", flags.json, "print one JSON object to stdout");
  command.toggle("--quiet", flags.quiet, "print no progress");
  command.example("millrace-producer load --queue bench --rate 5000 --duration 30s");
  command.example(
      "millrace-producer load --queue-mix mail=3,images=1 --size 100..4KiB --clients 4 --json");
}

Result<ExitCode> run_load(const LoadFlags& flags) {
  if (auto checked = check_flags(flags); !checked) return checked.error();
  return LoadRun(flags, plan_of(flags)).run();
}

}  // namespace millrace::producer
