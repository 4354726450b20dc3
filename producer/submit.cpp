#include "producer/submit.h"

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/progress.h"
#include "producer/flags.h"
#include "producer/input.h"
#include "producer/submit_output.h"
#include "producer/waiter.h"

namespace millrace::producer {
namespace {

// Between two looks at the connection.
constexpr int kPayloadsPerTurn = 10'000;

Result<Input> open_input(const SubmitFlags& flags) {
  int given = flags.payload.has_value() + !flags.lines.empty() + !flags.ndjson.empty();
  if (given > 1)
    return Error{ExitCode::usage, "give one of PAYLOAD, --lines and --ndjson, not several"};
  if (flags.key && (!flags.lines.empty() || !flags.ndjson.empty()))
    return Error{ExitCode::usage,
                 "--key names one job: give it with a PAYLOAD, not with --lines or --ndjson"};
  if (flags.key && (flags.key->empty() || flags.key->size() > protocol::kMaxKey))
    return Error{ExitCode::usage, fmt::format("--key: a key has 1 to {} bytes, this one has {}",
                                              protocol::kMaxKey, flags.key->size())};
  if (flags.payload) return Input::of(*flags.payload);
  if (!flags.lines.empty()) return Input::open(flags.lines, Input::Form::lines);
  if (!flags.ndjson.empty()) return Input::open(flags.ndjson, Input::Form::ndjson);
  if (!isatty(STDIN_FILENO)) return Input::all_of_stdin();
  return Error{
      ExitCode::usage,
      "nothing to submit: give a PAYLOAD, --lines FILE or --ndjson FILE, or pipe it into stdin"};
}

class SubmitRun {
 public:
  SubmitRun(const SubmitFlags& flags, Input input, SubmitOutput& output, Client& client,
            Waiter& waiter)
      : flags_(flags),
        input_(std::move(input)),
        output_(output),
        client_(client),
        waiter_(waiter),
        start_(client.now()),
        deadline_(deadline_after(flags.timeout)),
        progress_(Progress::style_for_stderr(flags.quiet), start_) {
    options_.report = output.wants_results() ? protocol::Report::result : protocol::Report::none;
    options_.max_attempts = uint8_t(flags.max_attempts);
    options_.priority = uint8_t(flags.priority);
    options_.delay = flags.delay;
    options_.ttl = flags.ttl;
    options_.key = flags.key.value_or("");
  }

  Result<ExitCode> run() {
    while (!finished()) {
      bool more_now = feed();
      Mono until = more_now ? client_.now() : std::min(deadline_, client_.now() + Millis(500));
      if (auto done = client_.poll(until, waiter_.fd()); !done) return stopped(done.error());
      if (auto done = output_.flush(); !done) return done.error();
      show_progress();
      if (finished()) break;
      if (waiter_.interrupted()) return stopped({ExitCode::interrupted, "interrupted"});
      // If nobody ever answered, the next poll() says that instead.
      if (client_.now() >= deadline_ && session().knows_broker())
        return stopped({ExitCode::temporary, "timed out after " + format_duration(flags_.timeout)});
    }
    client_.close();
    progress_.finish();
    return summarize();
  }

 private:
  ProducerSession& session() { return client_.session(); }
  bool finished() {
    return input_ended_ && session().unanswered() == 0 && session().awaited() == 0;
  }

  // True if there is more to be had at once.
  bool feed() {
    std::string payload;
    for (int i = 0; i < kPayloadsPerTurn && !input_ended_; ++i) {
      if (!session().has_room()) return watch(false);
      auto next = input_.next(&payload);
      if (!next) bad_input_ = next.error();
      if (!next || *next == Input::Next::end) {
        input_ended_ = true;
      } else if (*next == Input::Next::later) {
        return watch(true);
      } else {
        session().submit(flags_.queue, options_, payload);
      }
    }
    watch(false);
    return !input_ended_;
  }
  bool watch(bool on) { return waiter_.watch(input_.fd(), on), false; }

  uint64_t submitted() { return session().next_seq().value - 1; }
  uint64_t unknown() { return session().unanswered(); }

  void show_progress() {
    if (!progress_.due(client_.now())) return;
    ProgressFigures figures{{{"sent", submitted()}, {"confirmed", output_.confirmed()}},
                            output_.confirmed(),
                            input_.total()};
    if (output_.wants_results()) {
      figures.position = output_.done() + output_.dead() + output_.dropped();
      figures.counts.emplace_back("ended", figures.position);
    }
    progress_.show(client_.now(), figures);
  }

  // An end before the end: what is known of everything that was handed over.
  Error stopped(Error error) {
    progress_.finish();
    if (submitted() == 0 || !session().knows_broker()) return error;
    error.message += fmt::format(": {} of {} confirmed, {} rejected, {} unknown",
                                 output_.confirmed(), submitted(), output_.rejected(), unknown());
    if (unknown() > 0) error.message += " (the broker may have them)";
    if (session().awaited() > 0)
      error.message += fmt::format(", {} without an end yet", session().awaited());
    return error;
  }

  Result<ExitCode> summarize() {
    if (flags_.json) print_summary();
    if (bad_input_) {
      return Error{bad_input_->code,
                   fmt::format("{}; the {} payloads before it were answered: {} confirmed",
                               bad_input_->message, submitted(), output_.confirmed())};
    }
    if (output_.rejected() > 0) {
      const Millis later = output_.retry_after();
      return Error{
          later > Millis(0) ? ExitCode::temporary : ExitCode::bad_data,
          fmt::format("{} of {} payloads were rejected: {}{}", output_.rejected(), submitted(),
                      output_.first_rejection(),
                      later > Millis(0) ? "; try again in " + format_duration(later) : "")};
    }
    if (flags_.key && output_.known() > 0)
      log_info("the key stands for a job that was there before; no second one was made",
               {{"key", *flags_.key}});
    return output_.dead() + output_.dropped() + output_.lost() > 0 ? ExitCode::failed
                                                                   : ExitCode::ok;
  }

  void print_summary() {
    nlohmann::ordered_json json{{"sent", submitted()},
                                {"confirmed", output_.confirmed()},
                                {"known", output_.known()},
                                {"rejected", output_.rejected()},
                                {"unknown", unknown()}};
    if (output_.wants_results()) {
      json["done"] = output_.done();
      json["dead"] = output_.dead();
      json["dropped"] = output_.dropped();
      json["lost"] = output_.lost();
    }
    json["durability"] = output_.buffered() ? "buffered" : "confirmed";
    json["seconds"] = std::chrono::duration<double>(client_.now() - start_).count();
    fmt::print("{}\n", json.dump());
  }

  const SubmitFlags& flags_;
  Input input_;
  SubmitOutput& output_;
  Client& client_;
  Waiter& waiter_;
  protocol::SubmitOptions options_;
  Mono start_;
  Mono deadline_;
  Progress progress_;
  bool input_ended_ = false;
  std::optional<Error> bad_input_;
};

}  // namespace

void declare_submit(Command& command, SubmitFlags& flags) {
  command.argument("PAYLOAD", flags.payload,
                   "the payload; without one and without a file, all of stdin");
  declare_queue(command, flags.queue);
  declare_broker(command, flags.broker, flags.connect_timeout);
  declare_curve(command, flags.curve);
  command.text("--lines", flags.lines, "FILE", "a payload for each line; - is stdin");
  command.text("--ndjson", flags.ndjson, "FILE", "the same, each line checked to be a JSON value");
  command.toggle("--wait", flags.wait, "wait until the jobs have ended, and print their results");
  command.text("--results", flags.results, "FILE", "where results go; - is stdout; implies --wait");
  command.integer("--max-attempts", flags.max_attempts,
                  "failures until a job is dead; the broker's unless given", "", 1, 255);
  command.integer("--priority", flags.priority, "0 to 9, higher goes first", "4", 0,
                  protocol::kMaxPriority);
  command.duration("--delay", flags.delay, "time until the jobs are ready", "0s");
  command.duration("--ttl", flags.ttl,
                   "time after which a job that has not ended expires; 0s: the queue's", "0s");
  command.text("--key", flags.key, "KEY",
               "idempotency key of the one PAYLOAD: the same key gives the same job");
  command.toggle(
      "--no-hold", flags.no_hold,
      "when the broker is full, fail at once instead of holding jobs back until it is not");
  command.text("--ledger", flags.ledger, "FILE", "append an account of everything, for audit");
  command.duration("--timeout", flags.timeout, "longest time for everything; 0s: for ever", "0s");
  command.toggle("--json", flags.json, "one JSON object at the end instead of ids");
  command.toggle("--quiet", flags.quiet, "no progress");
}

Result<ExitCode> run_submit(const SubmitFlags& flags) {
  auto input = open_input(flags);
  if (!input) return input.error();
  auto output = SubmitOutput::open({flags.wait, flags.results, flags.json, input->has_lines()});
  if (!output) return output.error();
  Waiter waiter;
  ClientOptions options;
  options.broker = flags.broker;
  options.curve = flags.curve;
  options.session.producer = Uuid::random();
  options.connect_timeout = first_answer_timeout(flags.connect_timeout, flags.timeout);
  options.ledger = flags.ledger;
  if (flags.no_hold) options.session.on_reject = OnReject::report;
  auto client = Client::open(options, **output);
  if (!client) return client.error();
  return SubmitRun(flags, *std::move(input), **output, **client, waiter).run();
}

}  // namespace millrace::producer
