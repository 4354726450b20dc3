#include "producer/submit/run.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/check.h"
#include "common/os/log.h"
#include "producer/client/flags.h"

namespace millrace::producer {
namespace {

// Between two looks at the connection.
constexpr int kPayloadsPerTurn = 10'000;
// Unless told: enough to keep hundreds of threads busy, and little to cancel or to hold.
constexpr int64_t kJobsToHaltOrOrder = 1000;

Progress::Style progress_style(const SubmitFlags& flags) {
  return flags.bar ? Progress::Style::bar : Progress::style_for_stderr(flags.quiet);
}

uint64_t max_jobs(const SubmitFlags& flags) {
  if (flags.jobs) return uint64_t(*flags.jobs);
  return flags.keep_order || flags.halt.when != Halt::When::never ? kJobsToHaltOrOrder : UINT64_MAX;
}

}  // namespace

SubmitRun::SubmitRun(const SubmitFlags& flags, Input input, const ResumePlan& plan,
                     SubmitOutput& output, Client& client, Waiter& waiter)
    : flags_(flags),
      input_(std::move(input)),
      plan_(plan),
      output_(output),
      client_(client),
      waiter_(waiter),
      max_jobs_(max_jobs(flags)),
      round_(client.spool() ? client.spool()->run() : plan.round()),
      start_(client.now()),
      deadline_(deadline_after(flags.timeout)),
      progress_(progress_style(flags), start_) {
  options_.report = output.wants_results() ? protocol::Report::result : protocol::Report::none;
  options_.max_attempts = uint8_t(flags.max_attempts);
  options_.priority = uint8_t(flags.priority);
  options_.delay = flags.delay;
  options_.ttl = flags.ttl;
  options_.key = flags.key.value_or("");
}

Result<ExitCode> SubmitRun::run() {
  if (auto connected = connect(); !connected) return stopped(connected.error());
  while (!finished()) {
    bool more_now = input_ended_ ? feed_again() : feed();
    Mono until = more_now ? client_.now() : std::min(deadline_, client_.now() + Millis(500));
    if (auto done = client_.poll(until, waiter_.fd()); !done) return stopped(done.error());
    if (auto done = output_.flush(); !done) return done.error();
    collect_written();
    check_halt();
    show_progress();
    if (finished()) break;
    if (auto reason = stop_reason()) return stopped(*reason);
  }
  if (auto done = output_.flush(); !done) return done.error();
  if (collect_written()) {
    if (auto done = client_.poll(client_.now()); !done) return stopped(done.error());
  }
  if (auto done = client_.close(); !done) return stopped(done.error());
  if (auto done = output_.flush(); !done) return done.error();
  progress_.finish();
  return summarize();
}

bool SubmitRun::collect_written() {
  const auto written = output_.take_written();
  for (const JobsAt& jobs : written)
    if (auto at = client_.find(jobs.broker)) client_.session(*at).collect(jobs.jobs);
  return !written.empty();
}

bool SubmitRun::finished() {
  if (!input_ended_ || !again_.empty() || !client_.settled()) return false;
  return !output_.wants_results() || on_their_way() == 0;
}

// What an earlier run had confirmed can only be asked of the broker that did it, and what it had
// sent without an answer goes to where it went.
Result<void> SubmitRun::connect() {
  for (const std::string& name : plan_.destinations())
    if (!place_of(name) && !(name.empty() && client_.brokers() == 1)) return unnamed(name);
  while (!has_all_of_plan()) {
    if (auto done = client_.poll(std::min(deadline_, client_.now() + Millis(500)), waiter_.fd());
        !done)
      return done;
    if (auto known = check_brokers_of_plan(); !known) return known;
    if (auto reason = stop_reason()) return *reason;
  }
  return {};
}

Error SubmitRun::unnamed(const std::string& broker) const {
  return {ExitCode::bad_data,
          fmt::format("the joblog {} has submissions without an answer that went to {}: give "
                      "--broker as in the first run",
                      flags_.joblog, broker.empty() ? "the only broker of that run" : broker)};
}

bool SubmitRun::has_all_of_plan() {
  const auto& brokers = plan_.brokers();
  return std::all_of(brokers.begin(), brokers.end(),
                     [this](BrokerId id) { return client_.find(id).has_value(); });
}

Result<void> SubmitRun::check_brokers_of_plan() {
  for (size_t i = 0; i < client_.brokers(); ++i)
    if (!client_.session(i).knows_broker()) return {};
  for (BrokerId id : plan_.brokers()) {
    if (client_.find(id)) continue;
    std::string there;
    for (size_t i = 0; i < client_.brokers(); ++i)
      there += fmt::format("{}{} is broker {:08x}", i > 0 ? ", " : "",
                           client_.line(i).broker().authority(), client_.session(i).broker().value);
    return Error{ExitCode::bad_data,
                 fmt::format("the joblog {} is of jobs at broker {:08x}, but {}: give --broker "
                             "that of the first run, or start over with another joblog",
                             flags_.joblog, id.value, there)};
  }
  return {};
}

std::optional<size_t> SubmitRun::place_of(std::string_view authority) {
  for (size_t i = 0; i < client_.brokers(); ++i)
    if (client_.line(i).broker().authority() == authority) return i;
  return std::nullopt;
}

std::optional<Error> SubmitRun::stop_reason() {
  if (waiter_.interrupted()) return Error{ExitCode::interrupted, "interrupted"};
  if (auto full = spool_is_full()) return full;
  // If nobody ever answered, the next poll() says that instead.
  if (client_.now() < deadline_ || (!client_.knows_broker() && flags_.spool.empty()))
    return std::nullopt;
  return Error{ExitCode::temporary, "timed out after " + format_duration(flags_.timeout)};
}

// ---- what is submitted

// Asked once for each payload: the spool's disk may be full a moment later.
bool SubmitRun::has_room(size_t bytes) {
  const bool keeps_up = !client_.spool() || client_.spool()->unsafe_bytes() < kMaxUnsafe;
  to_ = client_.route(options_.key, bytes);
  return to_ && keeps_up && on_their_way() < max_jobs_ && output_.held() < kMaxHeld;
}

// Only what is there to be submitted can be too much: a spool that the last line fills is well.
std::optional<Error> SubmitRun::spool_is_full() {
  if (!next_ || !client_.spool() || !client_.is_unreachable() || client_.unsafe() > 0)
    return std::nullopt;
  const uint64_t bytes = next_->size() + options_.key.size();
  if (client_.spool()->has_room(1, bytes)) return std::nullopt;
  const std::string limit = fmt::format("--spool-size {} MiB", flags_.spool_size >> 20);
  if (const uint64_t least = bytes + Spool::kJobOverhead; least > uint64_t(flags_.spool_size))
    return Error{ExitCode::bad_data,
                 fmt::format("no broker answers, and the spool {} can't ever hold the payload of "
                             "{}{}, which takes {} bytes of it ({}): give it more, or submit "
                             "the payload when the broker is there",
                             flags_.spool, input_.name(), line_of(number_ + 1), least, limit)};
  return Error{ExitCode::temporary, fmt::format("no broker answers, and the spool {} is full ({})",
                                                flags_.spool, limit)};
}

std::string SubmitRun::line_of(uint64_t number) const {
  return input_.has_lines() ? fmt::format(" line {}", number) : "";
}

// One payload is read ahead, so that the end of the input is known before room for more is asked
// for. False: nothing is there yet.
bool SubmitRun::look_ahead() {
  if (next_) return true;
  std::string payload;
  auto got = input_.next(&payload);
  if (!got) {
    end_input(got.error());
  } else if (*got == Input::Next::end) {
    end_input(std::nullopt);
  } else if (*got == Input::Next::later) {
    return false;
  } else {
    next_ = std::move(payload);
  }
  return true;
}

// True if there is more to be had at once.
bool SubmitRun::feed() {
  for (int i = 0; i < kPayloadsPerTurn && !input_ended_; ++i) {
    if (!look_ahead()) return follow_gathered(), watch(true);
    if (input_ended_) break;
    if (!has_room(next_->size())) return follow_gathered(), watch(false);
    take(*std::exchange(next_, std::nullopt));
  }
  follow_gathered();
  watch(false);
  return !input_ended_;
}

void SubmitRun::end_input(std::optional<Error> why) {
  input_ended_ = true;
  next_.reset();
  if (!why && plan_.numbers() > number_) {
    why = Error{ExitCode::bad_data,
                fmt::format("the joblog {} has {} payloads, but {} ends after {}: it is of another "
                            "input",
                            flags_.joblog, plan_.numbers(), input_.name(), number_)};
  }
  if (!why) return;
  bad_input_ = std::move(why);
  again_.clear();
}

void SubmitRun::take(std::string payload) {
  using Act = ResumePlan::Act;
  const uint64_t number = number_ + 1;
  if (flags_.resumes() && plan_.contradicts(number, payload_hash(payload))) {
    return end_input(
        Error{ExitCode::bad_data,
              fmt::format(
                  "{} line {} is not what the joblog {} says was submitted as {}: it is of another "
                  "input",
                  input_.name(), number, flags_.joblog, number)});
  }
  number_ = number;
  switch (plan_.act(number)) {
    case Act::submit:
      return submit(round_, number, payload);
    case Act::again:
      return keep_for_later(number, std::move(payload));
    case Act::follow:
      output_.expect(plan_.seq(number), payload);
      ++followed_;
      return follow(number);
    case Act::fetch:
      ++skipped_;
      output_.expect_result(plan_.seq(number));
      return follow(number);
    case Act::skip:
      if (plan_.lacks_result(number)) output_.miss_result(number);
      ++skipped_;
      if (plan_.lacks_line(number))
        output_.log_confirmed(number, payload, plan_.broker(number), plan_.job(number));
  }
}

void SubmitRun::submit(uint64_t round, uint64_t number, std::string_view payload) {
  const Seq seq = seq_of(round, number);
  output_.expect(seq, payload);
  client_.skip_to(seq);
  client_.submit(destination(number), flags_.queue, options_, payload);
  ++submitted_;
}

// Where it was sent once, it goes again, whatever the room.
size_t SubmitRun::destination(uint64_t number) {
  if (const std::string* before = plan_.destination(number); before && !before->empty())
    return *place_of(*before);
  MILLRACE_CHECK(to_);  // has_room() was asked
  return *to_;
}

// Consecutive ones are followed as one range.
void SubmitRun::follow(uint64_t number) {
  const Seq seq = plan_.seq(number);
  const JobId job = plan_.job(number);
  const BrokerId broker = plan_.broker(number);
  const bool joins = gathered_ && gathered_->broker == broker && gathered_->seqs.end() == seq &&
                     gathered_->first_job.value + gathered_->seqs.count == job.value;
  if (!joins) follow_gathered();
  if (!gathered_) gathered_ = Followed{broker, {seq, 0}, job};
  ++gathered_->seqs.count;
}

void SubmitRun::follow_gathered() {
  if (!gathered_) return;
  const Followed jobs = *std::exchange(gathered_, std::nullopt);
  auto at = client_.find(jobs.broker);
  if (at) return client_.session(*at).follow(jobs.seqs, jobs.first_job, options_.report);
  end_input(Error{ExitCode::bad_data,
                  fmt::format("broker {:08x} is not there any more: another one answers at its "
                              "address; continue with --resume when it is back",
                              jobs.broker.value)});
}

void SubmitRun::keep_for_later(uint64_t number, std::string payload) {
  again_bytes_ += payload.size();
  again_.push_back({number, std::move(payload)});
  if (again_bytes_ <= kMaxAgain) return;
  end_input(Error{ExitCode::bad_data,
                  fmt::format("more than {} MiB of payloads are to be submitted again: take them "
                              "from the joblog {} into an input of their own",
                              kMaxAgain >> 20, flags_.joblog)});
}

// A new round begins when the one before is answered, so that the broker's floor stays below it.
bool SubmitRun::feed_again() {
  const bool begun = !again_.empty() && client_.next_seq() >= seq_of(plan_.round() + 1, 0);
  if (!begun && client_.unanswered() > 0) return false;
  while (!again_.empty() && has_room(again_.front().bytes.size())) {
    submit(plan_.round() + 1, again_.front().number, again_.front().bytes);
    again_.pop_front();
  }
  return false;
}

void SubmitRun::check_halt() {
  if (!halted_ && flags_.halt.reached(output_.done(), output_.failed())) {
    halted_ = input_ended_ = true;
    next_.reset();
    again_.clear();
    watch(false);
  }
  // What is unanswered now may be confirmed yet.
  if (!halted_ || cancelled_ || flags_.halt.when != Halt::When::now) return;
  if (client_.unanswered() > 0 || !client_.knows_broker()) return;
  client_.cancel_outstanding();
  cancelled_ = true;
}

// ---- what is told

void SubmitRun::show_progress() {
  if (!progress_.due(client_.now())) return;
  ProgressFigures figures{{{"sent", submitted_}, {"confirmed", output_.confirmed()}},
                          skipped_ + output_.confirmed(),
                          input_.total()};
  if (output_.wants_results()) {
    const uint64_t ended = output_.done() + output_.dead() + output_.dropped() + output_.lost();
    figures.position = skipped_ + ended;
    figures.counts.emplace_back("ended", ended);
    if (output_.failed() > 0) figures.counts.emplace_back("failed", output_.failed());
  }
  progress_.show(client_.now(), figures);
}

// An end before the end: what is known of everything that was handed over.
Result<ExitCode> SubmitRun::stopped(Error error) {
  progress_.finish();
  if (auto closed = client_.spool() ? client_.close() : Result<void>(); !closed)
    return closed.error();
  if (auto told = output_.flush(); !told) return told.error();
  if (error.code == ExitCode::temporary && all_is_safe()) return summarize();
  if (submitted_ == 0 || (!client_.knows_broker() && !client_.spool())) return error;
  error.message += fmt::format(": {} of {} confirmed, {} rejected, {} unknown", output_.confirmed(),
                               submitted_, output_.rejected(), unknown());
  if (unknown() > 0) error.message += " (the broker may have them)";
  if (spooled() > 0) error.message += fmt::format(", {} in the spool", spooled());
  if (client_.outstanding() > 0)
    error.message += fmt::format(", {} without an end yet", client_.outstanding());
  if (!flags_.joblog.empty()) error.message += "; continue with --resume";
  return error;
}

// Confirmed, or on this machine's disk: the time is up, and nothing is missing.
bool SubmitRun::all_is_safe() const {
  return client_.spool() && input_ended_ && client_.unsafe() == 0 && !output_.wants_results();
}

Result<ExitCode> SubmitRun::summarize() {
  if (flags_.json) print_summary();
  if (bad_input_) {
    return Error{bad_input_->code,
                 fmt::format("{}; the {} payloads before it were answered: {} confirmed",
                             bad_input_->message, submitted_, output_.confirmed())};
  }
  return verdict();
}

Result<ExitCode> SubmitRun::verdict() {
  const bool failed = output_.failed() > 0;
  if (client_.spool() && spooled() > 0)
    log_warning(
        "jobs wait in the spool for their broker, and are forwarded by the next submit or by "
        "'millrace-producer forward'",
        {{"spool", flags_.spool}, {"jobs", spooled()}});
  if (output_.without_result() > 0)
    log_warning("jobs are done, but the broker no longer stores their results",
                {{"jobs", output_.without_result()}});
  if (halted_) {
    log_warning("halted early", {{"submitted", submitted_},
                                 {"done", output_.done()},
                                 {"failed", output_.failed()},
                                 {"cancelled or expired", output_.dropped()}});
    return failed ? ExitCode::failed : ExitCode::ok;
  }
  if (output_.rejected() > 0) {
    const Millis later = output_.retry_after();
    return Error{later > Millis(0) ? ExitCode::temporary : ExitCode::bad_data,
                 fmt::format("{} of {} payloads were rejected: {}{}", output_.rejected(),
                             submitted_, output_.first_rejection(),
                             later > Millis(0) ? "; try again in " + format_duration(later) : "")};
  }
  if (output_.missing() > 0) {
    return Error{
        ExitCode::io,
        fmt::format("results of {} that ended are neither in {} nor stored by the broker: {} {}; "
                    "if you need them, submit those payloads as an input of their own",
                    output_.missing() == 1 ? "a job" : fmt::format("{} jobs", output_.missing()),
                    flags_.results, input_.has_lines() ? "line" : "payload",
                    output_.first_missing())};
  }
  if (flags_.key && output_.known() > 0)
    log_info("the key refers to an existing job; no second one was created",
             {{"key", *flags_.key}});
  return failed ? ExitCode::failed : ExitCode::ok;
}

void SubmitRun::print_summary() {
  nlohmann::ordered_json json{{"sent", submitted_},
                              {"confirmed", output_.confirmed()},
                              {"known", output_.known()},
                              {"rejected", output_.rejected()},
                              {"unknown", unknown()}};
  if (client_.spool()) {
    json["spooled"] = spooled();
    json["forwarded"] = client_.forwarded();
  }
  if (output_.wants_results()) {
    json["done"] = output_.done();
    json["dead"] = output_.dead();
    json["dropped"] = output_.dropped();
    json["lost"] = output_.lost();
  }
  if (flags_.resumes()) {
    json["skipped"] = skipped_;
    json["followed"] = followed_;
    if (output_.wants_results()) json["missing"] = output_.missing();
  }
  if (flags_.halt.when != Halt::When::never) json["halted"] = halted_;
  json["durability"] = output_.buffered() ? "buffered" : "confirmed";
  json["seconds"] = std::chrono::duration<double>(client_.now() - start_).count();
  fmt::print("{}\n", json.dump());
}

}  // namespace millrace::producer
