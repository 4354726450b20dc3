#include "producer/submit/submit.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "producer/client/flags.h"
#include "producer/submit/files.h"
#include "producer/submit/results_file.h"
#include "producer/submit/run.h"

namespace millrace::producer {
namespace {

// A broker that restarts is back within this; then nothing need go to disk here.
constexpr Millis kAwayAfter{1000};

Result<Input> open_input(const SubmitFlags& flags) {
  int given = flags.payload.has_value() + !flags.lines.empty() + !flags.ndjson.empty();
  if (given > 1)
    return Error{ExitCode::usage, "give one of PAYLOAD, --lines and --ndjson, not several"};
  if (flags.null_separated && flags.lines.empty())
    return Error{ExitCode::usage, "-0 applies to --lines: give --lines FILE too"};
  if (flags.key && (!flags.lines.empty() || !flags.ndjson.empty()))
    return Error{ExitCode::usage,
                 "--key names one job: give it with a PAYLOAD, not with --lines or --ndjson"};
  if (flags.key && (flags.key->empty() || flags.key->size() > protocol::kMaxKey))
    return Error{ExitCode::usage, fmt::format("--key: a key has 1 to {} bytes, this one has {}",
                                              protocol::kMaxKey, flags.key->size())};
  if (flags.payload) return Input::of(*flags.payload);
  if (!flags.lines.empty())
    return Input::open(flags.lines, flags.null_separated ? Input::Form::items : Input::Form::lines);
  if (!flags.ndjson.empty()) return Input::open(flags.ndjson, Input::Form::ndjson);
  if (!isatty(STDIN_FILENO)) return Input::all_of_stdin();
  return Error{
      ExitCode::usage,
      "nothing to submit: give a PAYLOAD, --lines FILE or --ndjson FILE, or pipe it into stdin"};
}

// Flags that only mean something together.
Result<void> check_flags(const SubmitFlags& flags) {
  auto usage = [](std::string text) { return Error{ExitCode::usage, std::move(text)}; };
  if (flags.keep_order && !flags.wants_results())
    return usage(
        "--keep-order orders results: give --wait or --results too (ids are in order anyway)");
  if (flags.halt.when != Halt::When::never && !flags.wants_results())
    return usage("--halt needs the outcomes of jobs: give --wait or --results too");
  if (flags.jobs && !flags.wants_results())
    return usage("--jobs limits jobs that have not ended: give --wait or --results too");
  if (!flags.spool.empty() && !flags.joblog.empty())
    return usage("--spool and --joblog both record pending submissions: give only one");
  if (!flags.spool.empty() && !flags.ledger.empty())
    return usage(
        "--ledger records what this run sends, but a later run sends what is in the --spool: give "
        "only one");
  for (Millis time : {flags.delay, flags.ttl})
    if (uint64_t(time.count()) > protocol::kMaxDelayMs)
      return usage("--delay and --ttl: the maximum is 100 years");
  if (flags.resumes() && flags.joblog.empty())
    return usage("--resume and --resume-failed continue from a joblog: give --joblog FILE too");
  return {};
}

// What is left of the run that the joblog tells of; all of it, if there was none.
struct Earlier {
  ResumePlan plan;
  Uuid producer = Uuid::random();
  bool found = false;
};

bool has_content(const std::string& path) {
  std::error_code none;
  return std::filesystem::file_size(path, none) > 0 && !none;
}

Result<Earlier> read_earlier(const SubmitFlags& flags) {
  Earlier earlier;
  const std::string ledger_path = flags.ledger_path();
  const bool logged = has_content(flags.joblog), kept = has_content(ledger_path);
  if (flags.joblog.empty() || (!logged && !kept)) return earlier;
  if (!flags.resumes()) {
    return Error{ExitCode::cant_create,
                 fmt::format("there is a joblog {} of an earlier run: continue it with --resume, "
                             "or remove it and {}",
                             flags.joblog, ledger_path)};
  }
  if (!kept) {
    return Error{ExitCode::bad_data,
                 fmt::format("the joblog {} has no ledger {} beside it, which records the pending "
                             "submissions: give its --ledger, or start over with another joblog",
                             flags.joblog, ledger_path)};
  }
  LedgerEntries entries;
  if (auto read = read_ledger(ledger_path, &entries); !read) return read.error();
  auto joblog = read_joblog(flags.joblog);
  if (!joblog) return joblog.error();
  for (Uuid producer : entries.producers)
    if (producer != entries.producers.front())
      return Error{ExitCode::bad_data,
                   fmt::format("the ledger {} is of several producers, not of one run and its "
                               "resumes; give each joblog a ledger of its own",
                               ledger_path)};
  if (!flags.results.empty() && flags.results != "-")
    if (auto matched = match_results(flags.results, &*joblog); !matched) return matched.error();
  if (!joblog->queue.empty() && joblog->queue != flags.queue) {
    return Error{ExitCode::bad_data, fmt::format("the joblog {} is of queue {}, not {}",
                                                 flags.joblog, joblog->queue, flags.queue)};
  }
  if (entries.producers.empty()) return earlier;
  earlier.plan = ResumePlan(*joblog, entries, {flags.wants_results(), flags.resume_failed});
  earlier.producer = entries.producers.front();
  earlier.found = true;
  return earlier;
}

Result<void> check_length(const SubmitFlags& flags, const ResumePlan& plan, const Input& input) {
  if (!input.total() || plan.numbers() <= *input.total()) return {};
  return Error{ExitCode::bad_data,
               fmt::format("the joblog {} has {} payloads, but {} has {}: it is of another input; "
                           "nothing was sent",
                           flags.joblog, plan.numbers(), input.name(), *input.total())};
}

}  // namespace

void declare_submit(Command& command, SubmitFlags& flags) {
  command.argument("PAYLOAD", flags.payload,
                   "payload of one job; without it, and without --lines or --ndjson, stdin is read "
                   "to its end");
  command.group("Queueing");
  declare_queue(command, flags.queue);
  command.integer("--priority", flags.priority, "priority from 0 to 9; higher runs first", "4", 0,
                  protocol::kMaxPriority);
  command.duration("--delay", flags.delay, "delay before the jobs become ready", "0s");
  command.duration("--ttl", flags.ttl,
                   "time after which an unfinished job expires; 0s means the setting of the queue",
                   "0s");
  command.integer("--max-attempts", flags.max_attempts,
                  "failed attempts before a job is marked dead (default: set by the broker)", "", 1,
                  255);
  command.text("--key", flags.key, "KEY",
               "idempotency key of the one PAYLOAD: the same key refers to the same job");
  command.group("Input");
  command.text("--lines", flags.lines, "FILE", "read one payload per line; - is stdin");
  command.text("--ndjson", flags.ndjson, "FILE",
               "like --lines, and check that each line is a JSON value");
  command.toggle("--null", flags.null_separated,
                 "with --lines: payloads end with a NUL byte, not a newline (find -print0)", "-0");
  declare_brokers(command, flags.brokers, flags.connect_timeout);
  declare_curve(command, flags.curve);
  declare_spool(command, flags.spool, flags.spool_size);
  command.group("Output");
  command.toggle("--wait", flags.wait, "wait until the jobs have ended, and print their results");
  command.text("--results", flags.results, "FILE",
               "write results to FILE; - is stdout; implies --wait");
  command.toggle("--keep-order", flags.keep_order, "print results in the order of the input");
  command.text("--ledger", flags.ledger, "FILE",
               "append submissions and outcomes to FILE, for 'audit'");
  command.toggle("--json", flags.json, "print one JSON object at the end instead of job IDs");
  command.toggle("--bar", flags.bar,
                 "show a progress bar on stderr, even if that is not a terminal");
  command.toggle("--quiet", flags.quiet, "print no progress");
  command.group("Resuming");
  command.text("--joblog", flags.joblog, "FILE",
               "write one line per job: ID, times, state, attempts");
  command.toggle("--resume", flags.resume,
                 "continue from the joblog: skip the jobs that it lists, without duplicates");
  command.toggle("--resume-failed", flags.resume_failed,
                 "like --resume, and submit failed jobs again");
  command.group("Limits");
  command.value(
      "--jobs", flags.jobs,
      [](std::string_view text) { return parse_integer(text, 1, int64_t{1} << 32); }, "N",
      "maximum unfinished jobs (default: no limit; 1000 with --keep-order or --halt)");
  command.value("--halt", flags.halt, Halt::parse, "WHEN,WHY",
                "stop early; WHEN is soon (submit no more) or now (cancel the rest), WHY is "
                "fail=N, fail=P%, success=N or done=N",
                "never");
  command.toggle("--no-hold", flags.no_hold,
                 "fail at once when the broker is full, instead of waiting for space");
  command.duration("--timeout", flags.timeout, "overall timeout; 0s means none", "0s");
  command.example("millrace-producer submit --queue mail 'to: ann@example.org'");
  command.example(
      "find . -name '*.png' | millrace-producer submit --queue thumbs --lines - --wait");
  command.example(
      "millrace-producer submit --queue mail --ndjson mails.ndjson --joblog mails.log --resume");
}

Result<ExitCode> run_submit(const SubmitFlags& flags) {
  if (auto checked = check_flags(flags); !checked) return checked.error();
  if (auto checked = check_files(flags); !checked) return checked.error();
  auto input = open_input(flags);
  if (!input) return input.error();
  if (auto counted = input->count(); !counted) return counted.error();
  auto earlier = read_earlier(flags);
  if (!earlier) return earlier.error();
  if (auto fits = check_length(flags, earlier->plan, *input); !fits) return fits.error();
  auto output = SubmitOutput::open({flags.wait, flags.results, flags.json, input->has_lines(),
                                    flags.keep_order, flags.resumes(), flags.joblog, flags.queue});
  if (!output) return output.error();
  Waiter waiter;
  ClientOptions options;
  options.brokers = flags.brokers;
  options.spool = flags.spool;
  options.spool_bytes = uint64_t(flags.spool_size);
  options.spool_after = kAwayAfter;
  options.curve = flags.curve;
  options.session.producer = earlier->producer;
  options.resumed = earlier->found;
  options.connect_timeout = first_answer_timeout(flags.connect_timeout, flags.timeout);
  options.ledger = flags.ledger_path();
  options.lost = earlier->plan.lost();
  options.lost_queue = flags.queue;
  options.before_send = [&output] { return (*output)->flush(); };
  // To a broker that turns out to be full or gone, no more should be bound than two messages'
  // worth.
  if (flags.brokers.size() > 1) options.session.max_unsent_jobs = 2 * Spread::kRun;
  if (flags.no_hold) options.session.on_reject = OnReject::report;
  auto client = Client::open(options, **output);
  if (!client) return client.error();
  return SubmitRun(flags, *std::move(input), earlier->plan, **output, **client, waiter).run();
}

}  // namespace millrace::producer
