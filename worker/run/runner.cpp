#include "worker/run/runner.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/time.h"
#include "common/os/log.h"
#include "worker/pool/usable_cpus.h"
#include "worker/session/credit_split.h"

namespace millrace::worker {

namespace {

// For handlers to return in, once they have been told to stop and nobody waits for their jobs.
constexpr Millis kPatience{2000};

// Up, so that what is due has come when the wait is over.
Millis until(Mono when, Mono now) {
  constexpr Millis kLongest{60'000};
  if (when <= now) return Millis(0);
  if (when - now > kLongest) return kLongest;
  return std::chrono::ceil<Millis>(when - now);
}

std::string names_of(const std::vector<Endpoint>& brokers) {
  std::string names;
  for (const Endpoint& broker : brokers) names += (names.empty() ? "" : ",") + broker.uri();
  return names;
}

void log_throttle(const Throttle& throttle) {
  switch (throttle.state()) {
    case Throttle::State::none:
      return log_info("taking jobs again as before");
    case Throttle::State::short_of_something:
      return log_warning(
          "this host is short of resources: jobs are returned without counting an attempt, and "
          "fewer are taken",
          {{"why", throttle.why()}});
    case Throttle::State::failing:
      return log_warning("all jobs fail at once: trying one at a time",
                         {{"pause", throttle.pause()}, {"why", throttle.why()}});
  }
}

// A fifth, as for all credit: a CREDIT for each small change would be waste.
bool differs(uint64_t before, uint64_t now) {
  return (now > before ? now - before : before - now) * 5 > before;
}

}  // namespace

Runner::Runner(const RunOptions& options, std::vector<QueueHandler> handlers, SignalInbox& inbox,
               zmq::context_t& context)
    : options_(options),
      handlers_(std::move(handlers)),
      inbox_(inbox),
      board_(options.name, options.pool.text(), handlers_),
      pool_(make_pool(options.pool, {handlers_, [this] { wakeup_.signal(); }, options.run_timeout,
                                     options.commands.kill_after})),
      throttle_(uint64_t(options.breaker)),
      credit_(pool_->threads(), options.prefetch),
      limits_(options.brokers.size()) {
  for (size_t i = 0; i < options.brokers.size(); ++i)
    lines_.emplace_back(options, Source(i), context, *pool_);
  if (options.connect_timeout) deadline_ = read_clock() + *options.connect_timeout;
}

Result<ExitCode> Runner::run() {
  log_info("worker starts", {{"name", options_.name},
                             {"broker", names_of(options_.brokers)},
                             {"queues", options_.queues.size()},
                             {"pool", options_.pool.text()},
                             {"threads", pool_->threads()},
                             {"cpus", usable_cpus().text()}});
  auto result = loop();
  pool_->stop();
  has_unstoppable_ = !pool_->close(kPatience);
  return result;
}

Result<ExitCode> Runner::loop() {
  for (;;) {
    Mono now = read_clock();
    for (Connection& line : lines_) {
      if (auto advanced = line.advance(now); !advanced) return advanced.error();
    }
    divide_credit(now);
    if (auto reached = look_for_brokers(now); !reached) return reached.error();
    if (auto allowed = allow_starts(); !allowed) return allowed.error();
    if (auto result = drain_result(now)) return *result;
    board_.post(lines_, throttle_);
    wait(now);
    now = read_clock();
    if (int signal = inbox_.take()) on_signal(signal, now);
    for (Connection& line : lines_) line.receive(items_, now);
    now = read_clock();
    watch_memory(now);
    tend_pool(now);
    if (now >= gathering_.collect_at().value_or(now)) collect(now);
  }
}

// As long as none has ever answered, the worker may give up; later it never does.
Result<void> Runner::look_for_brokers(Mono now) {
  if (phase_ != Phase::serving || ever_connected_) return {};
  ever_connected_ = std::any_of(lines_.begin(), lines_.end(), [](const Connection& line) {
    return line.connection().ever_connected();
  });
  if (ever_connected_) {
    deadline_ = Mono::max();
    return {};
  }
  const bool all_refuse = std::all_of(lines_.begin(), lines_.end(), [](const Connection& line) {
    const auto& refusal = line.connection().refusal();
    return refusal && refusal->for_good;
  });
  if (all_refuse) return lines_.front().connection().refusal()->error;
  if (now < deadline_) return {};
  for (const Connection& line : lines_)
    if (const auto& error = line.connection().unresolved()) return *error;
  return Error{ExitCode::unavailable,
               fmt::format("no broker answers at {} within {}: is one running there, and is this "
                           "its backend port?",
                           names_of(options_.brokers), format_duration(*options_.connect_timeout))};
}

// Threads start jobs as long as no broker can have lost this worker. When they had to stop for
// that, this loop did not run meanwhile, whatever the reason.
Result<void> Runner::allow_starts() {
  const Mono now = read_clock();
  if (!pool_->may_start()) {
    if (auto held_back = standstills_.admit(now))
      log_warning(
          "was suspended for longer than the broker waits: returning the jobs that have not "
          "started",
          {{"held", held()}, {"not_logged", *held_back}});
    for (Connection& line : lines_)
      if (auto reopened = line.reopen(now); !reopened) return reopened;
  }
  Mono until = Mono::max();
  for (const Connection& line : lines_) until = std::min(until, line.gone_at(now));
  pool_->allow_starts_until(until);
  return {};
}

Mono Runner::wake_at() const {
  Mono wake = std::min({pool_->wake_at(), throttle_.wake_at(), deadline_});
  for (const Connection& line : lines_) wake = std::min(wake, line.wake_at());
  wake = std::min(wake, gathering_.collect_at().value_or(wake));
  return divide_pending_ ? std::min(wake, divide_at_) : wake;
}

void Runner::wait(Mono now) {
  const short completions = gathering_.collect_at() ? 0 : ZMQ_POLLIN;
  items_ = {{nullptr, wakeup_.fd(), completions, 0}, {nullptr, inbox_.fd(), ZMQ_POLLIN, 0}};
  for (Connection& line : lines_) line.add_to(&items_);
  try {
    zmq::poll(items_, until(wake_at(), now));
  } catch (const zmq::error_t& error) {
    MILLRACE_CHECK(error.num() == EINTR);
  }
}

// Between brokers; one alone has it all. Looks while there are jobs, and whenever a broker comes or
// goes.
void Runner::divide_credit(Mono now) {
  if (lines_.size() == 1 || throttle_.limit() == 0) return;
  std::vector<Demand> demands;
  size_t connected = 0, held = 0;
  for (const Connection& line : lines_) {
    connected += line.session().welcomed();
    held += line.session().held();
  }
  divide_pending_ = held > 0;
  const bool is_due = (divide_pending_ || held_before_ > 0) && now >= divide_at_;
  if (!is_due && connected == connected_before_) return;
  connected_before_ = connected;
  held_before_ = held;
  divide_at_ = now + kDivideEvery;
  for (Connection& line : lines_)
    demands.push_back({line.session().welcomed(), line.session().credit(), line.take_peak(),
                       line.session().demand()});
  const std::vector<uint64_t> parts =
      split_credit(std::min(credit_.credit(), throttle_.limit()), demands);
  for (size_t i = 0; i < lines_.size(); ++i) {
    if (!differs(limits_[i], parts[i])) continue;
    limits_[i] = parts[i];
    lines_[i].set_limit(parts[i]);
  }
}

void Runner::collect(Mono now) {
  wakeup_.drain();
  std::vector<Finished> finished = pool_->collect();
  gathering_.collected(finished);
  if (finished.empty()) return;
  board_.count(finished);
  throttle(finished, now);
  deliver(std::move(finished));
  if (phase_ == Phase::serving) gathering_.delivered(work_ahead(), now);
}

void Runner::deliver(std::vector<Finished> finished) {
  if (lines_.size() == 1) return lines_.front().completed(std::move(finished));
  std::vector<std::vector<Finished>> ends(lines_.size());
  for (Finished& end : finished) {
    if (!end.completion.goes_back()) credit_.observe(end.run);
    ends[end.source].push_back(std::move(end));
  }
  credit_.update();
  for (size_t i = 0; i < lines_.size(); ++i) {
    if (!ends[i].empty()) lines_[i].completed(std::move(ends[i]));
  }
}

// Each session reckons with all threads: with several brokers it is more.
std::chrono::nanoseconds Runner::work_ahead() const {
  std::chrono::nanoseconds most{};
  for (const Connection& line : lines_) most = std::max(most, line.session().work_ahead());
  return most;
}

void Runner::throttle(const std::vector<Finished>& ends, Mono now) {
  const bool is_short = std::any_of(ends.begin(), ends.end(), [](const Finished& end) {
    return end.completion.kind == Completion::Kind::released;
  });
  if (is_short) give_back_waiting();
  const size_t unfinished = held() - unconfirmed();
  apply_throttle(throttle_.observe(ends, unfinished - std::min(unfinished, ends.size()), now));
}

void Runner::apply_throttle(bool changed) {
  if (changed) log_throttle(throttle_);
  const uint64_t limit = throttle_.limit();
  if (limit == std::exchange(throttled_to_, limit) || phase_ != Phase::serving) return;
  if (limit == 0) give_back_waiting();
  connected_before_ = SIZE_MAX;  // the credit is divided again
  if (lines_.size() > 1 && limit > 0) return;
  for (Connection& line : lines_) line.set_limit(std::min(limit, WorkerSession::kMaxPrefetch));
  std::fill(limits_.begin(), limits_.end(), 0);
}

// Before libzmq has no room for a frame, and cuts the connection. With one job or none there is
// nothing to give back: it may try, since only trying shows whether there is room.
void Runner::watch_memory(Mono now) {
  constexpr Millis kEvery{10};
  // Of a job: its frame, its result, which grows by doubling, and the message with the result.
  constexpr uint64_t kPerPayload = 4, kLeastRoom = 4 << 20;
  uint64_t shortages = 0, largest = 0;
  for (const Connection& line : lines_) {
    shortages += line.memory_shortages();
    largest = std::max(largest, line.session().largest_payload());
  }
  bool is_short = shortages != std::exchange(seen_shortages_, shortages);
  if (!is_short && options_.memory && now >= memory_at_) {
    memory_at_ = now + kEvery;
    const bool may_try = throttle_.limit() <= 1 || held() <= 1;
    is_short = !options_.memory->has_room(kLeastRoom + kPerPayload * largest) && !may_try;
  }
  if (!is_short) return;
  give_back_waiting();
  apply_throttle(throttle_.note_shortage("this worker has no room in memory for more jobs",
                                         held() - unconfirmed(), now));
}

void Runner::give_back_waiting() {
  for (Connection& line : lines_) line.give_back_waiting();
}

// Its size decides how many jobs are worth holding.
void Runner::tend_pool(Mono now) {
  if (now >= throttle_.wake_at()) apply_throttle(throttle_.tick(now));
  if (now < pool_->wake_at()) return;
  pool_->tick(now);
  credit_.set_threads(pool_->threads());
  for (Connection& line : lines_) line.set_threads(pool_->threads());
  if (!too_many_stuck_ && pool_->too_many_stuck()) on_too_many_stuck(now);
}

}  // namespace millrace::worker
