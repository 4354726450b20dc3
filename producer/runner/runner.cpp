#include "producer/runner/runner.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "common/base/check.h"
#include "common/base/time.h"
#include "common/os/signals.h"

namespace millrace::producer {
namespace {

// Many wait for each answer, and nobody hands over so much at once that it fills a batch. Measured
// by scripts/bench-gateway.sh with 64 connections: 2 gives 62,000 a second and a p99 of 1.7 ms, 4
// gives 54,000 and 3.6 ms, 1 gives 52,000.
constexpr size_t kEager = 2;

// A sum that can't pass the clock's end.
Mono after(Millis timeout) {
  constexpr Millis kForever = std::chrono::hours(24 * 365);
  return read_clock() + std::min(timeout, kForever);
}

}  // namespace

Runner::Runner(RunnerOptions options, Callbacks callbacks)
    : options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      brokers_(options_.client.brokers.size()) {}

Result<std::unique_ptr<Runner>> Runner::start(RunnerOptions options, Callbacks callbacks) {
  options.client.session.max_unsent_jobs = UINT64_MAX;  // the limits here count
  options.client.session.max_unsent_bytes = UINT64_MAX;
  options.client.session.forgetful = true;
  options.client.session.eager = kEager;
  std::unique_ptr<Runner> runner(new Runner(std::move(options), std::move(callbacks)));
  std::vector<Listener*> listeners;
  for (size_t i = 0; i < runner->options_.client.brokers.size(); ++i)
    listeners.push_back(&runner->tickets_.emplace_back());
  auto client = Client::open(runner->options_.client, listeners);
  if (!client) return client.error();
  runner->client_ = *std::move(client);
  SignalsBlocked blocked;
  runner->thread_ = std::thread([&self = *runner] {
    pthread_setname_np(pthread_self(), "millrace-runner");
    self.run();
  });
  return runner;
}

Runner::~Runner() { stop(Millis(0)); }

// ---- any thread

bool Runner::has_room(uint64_t jobs, uint64_t bytes) const {
  const uint64_t taken = open_jobs_ + inbox_.submissions.size();
  return !closed_ && taken + jobs <= options_.max_jobs &&
         (open_bytes_ + inbox_.bytes + bytes <= options_.max_bytes || taken == 0);
}

bool Runner::ended() const {
  std::lock_guard guard(lock_);
  return closed_;
}

uint64_t Runner::open_jobs() const {
  std::lock_guard guard(lock_);
  return open_jobs_ + inbox_.submissions.size();
}

bool Runner::submit(Submission&& submission) {
  const uint64_t bytes = submission.payload.size();
  std::lock_guard guard(lock_);
  if (!has_room(1, bytes)) return false;
  inbox_.bytes += bytes;
  inbox_.submissions.push_back(std::move(submission));
  if (inbox_.submissions.size() == 1) wakeup_.signal();
  return true;
}

bool Runner::submit(std::vector<Submission>&& submissions) {
  uint64_t bytes = 0;
  for (const Submission& submission : submissions) bytes += submission.payload.size();
  std::lock_guard guard(lock_);
  if (!has_room(submissions.size(), bytes)) return false;
  inbox_.bytes += bytes;
  const bool sleeps = inbox_.submissions.empty();
  if (sleeps) {
    std::swap(inbox_.submissions, submissions);
  } else {
    std::move(submissions.begin(), submissions.end(), std::back_inserter(inbox_.submissions));
  }
  if (sleeps) wakeup_.signal();
  return true;
}

bool Runner::look_up(LookUp look_up) {
  std::lock_guard guard(lock_);
  if (closed_ || inbox_.look_ups.size() >= options_.max_jobs) return false;
  inbox_.look_ups.push_back(look_up);
  wakeup_.signal();
  return true;
}

void Runner::forget(Token token) {
  std::lock_guard guard(lock_);
  if (closed_) return;
  inbox_.forgotten.insert(token);
  wakeup_.signal();
}

void Runner::stop(Millis timeout, bool ends) {
  {
    std::lock_guard guard(lock_);
    closed_ = true;
    stop_ = {after(timeout), true, ends};
    wakeup_.signal();
  }
  if (thread_.joinable()) thread_.join();
}

// ---- the runner's thread

void Runner::run() {
  while (turn()) {
  }
  end();
}

bool Runner::turn() {
  Inbox inbox;
  Stop stop;
  {
    std::lock_guard guard(lock_);
    wakeup_.drain();
    std::swap(inbox, inbox_);
    open_jobs_ += inbox.submissions.size();
    open_bytes_ += inbox.bytes;
    stop = stop_;
  }
  if (!waiting_.empty() && client_->has_room()) {
    waiting_bytes_ = 0;
    feed(std::exchange(waiting_, {}));
  }
  feed(std::move(inbox.submissions));
  ask(inbox.look_ups);
  if (!inbox.forgotten.empty())
    for (Tickets& tickets : tickets_) tickets.forget(inbox.forgotten);
  deliver();
  if (stop.asked && (finished() || client_->now() >= stop.by)) return false;
  auto polled = client_->poll(std::min(wake_at(), stop.by), wakeup_.fd());
  for (Tickets& tickets : tickets_) tickets.expire(client_->now());
  deliver();
  if (!polled) callbacks_.failed(polled.error());
  return polled.ok();
}

// Those with keys go to homes of their own: sorted, so that each broker's are sequences in a row,
// which share messages.
void Runner::feed(std::vector<Submission> submissions) {
  std::vector<std::vector<Submission>> keyed(client_->brokers() > 1 ? client_->brokers() : 0);
  for (Submission& submission : submissions) {
    auto broker = place_of(submission);
    if (!broker && options_.when_unreachable == WhenUnreachable::refuse) {
      refuse(submission.token);
    } else if (!broker) {
      waiting_bytes_ += submission.payload.size();
      waiting_.push_back(std::move(submission));
    } else if (!keyed.empty() && !submission.options.key.empty()) {
      keyed[*broker].push_back(std::move(submission));
    } else {
      give(*broker, submission);
    }
  }
  for (size_t i = 0; i < keyed.size(); ++i)
    for (const Submission& submission : keyed[i]) give(i, submission);
}

std::optional<size_t> Runner::place_of(const Submission& submission) {
  auto broker = client_->route(submission.options.key);
  if (!broker || options_.when_unreachable == WhenUnreachable::hold) return broker;
  const Connection& line = client_->line(*broker);
  return line.connected() || line.fills_spool_queue() ? broker : std::nullopt;
}

void Runner::give(size_t broker, const Submission& submission) {
  tickets_[broker].add(client_->next_seq(), submission);
  client_->submit(broker, submission.queue, submission.options, submission.payload);
}

SpoolRoom Runner::look_at_spool() {
  if (client_->is_gathering() || !client_->spool_is_full()) return SpoolRoom::some;
  return client_->spool_disk_full() ? SpoolRoom::disk_full : SpoolRoom::none;
}

void Runner::refuse(Token token) {
  Answer answer;
  answer.kind = Answer::Kind::away;
  answer.spool_room = look_at_spool();
  tickets_.front().tell(token, std::move(answer));
}

void Runner::ask(const std::vector<LookUp>& look_ups) {
  for (const LookUp& look_up : look_ups) {
    auto at = client_->find(look_up.broker);
    if (at && client_->line(*at).connected()) {
      tickets_[*at].look_up(look_up);
    } else {
      Answer answer;
      answer.kind = Answer::Kind::away;
      tickets_.front().tell(look_up.token, std::move(answer));
    }
  }
}

uint64_t Runner::sum(uint64_t (Tickets::*figure)() const) const {
  uint64_t total = 0;
  for (const Tickets& tickets : tickets_) total += (tickets.*figure)();
  return total;
}

Mono Runner::wake_at() const {
  Mono at = Mono::max();
  for (const Tickets& tickets : tickets_) at = std::min(at, tickets.wake_at());
  return at;
}

bool Runner::finished() {
  std::lock_guard guard(lock_);
  if (!inbox_.submissions.empty() || !inbox_.look_ups.empty() || !waiting_.empty()) return false;
  return sum(stop_.ends ? &Tickets::waiting : &Tickets::open_jobs) == 0;
}

void Runner::deliver() {
  publish();
  std::vector<Event> events;
  for (size_t i = 0; i < tickets_.size(); ++i) {
    for (JobId job : tickets_[i].take_questions()) client_->session(i).inquire({job, 1});
    std::vector<Event> more = tickets_[i].take_events();
    if (events.empty()) {
      events = std::move(more);
    } else {
      std::move(more.begin(), more.end(), std::back_inserter(events));
    }
  }
  if (!events.empty()) callbacks_.events(std::move(events));
}

void Runner::publish() {
  for (size_t i = 0; i < client_->brokers(); ++i) {
    const Broker now{client_->session(i).broker(), client_->line(i).connected()};
    if (now == brokers_[i]) continue;
    const bool was = brokers_[i].connected;
    {
      std::lock_guard guard(lock_);
      brokers_[i] = now;
    }
    if (was != now.connected) callbacks_.link(i, now.connected);
  }
  connected_ = client_->connections();
  takes_ = client_->has_room() && (connected_ > 0 || client_->spool());
  spool_room_ = look_at_spool();
  std::lock_guard guard(lock_);
  open_jobs_ = sum(&Tickets::open_jobs) + waiting_.size();
  open_bytes_ = sum(&Tickets::open_bytes) + waiting_bytes_;
  if (Spool* spool = client_->spool())
    spool_ = {spool->jobs(), spool->bytes(), client_->emptied(), client_->spool_disk_full()};
}

std::vector<Runner::Broker> Runner::brokers() const {
  std::lock_guard guard(lock_);
  return brokers_;
}

std::optional<SpoolLevel> Runner::spool() const {
  std::lock_guard guard(lock_);
  return spool_;
}

// Nothing was left behind: whoever waits hears that nobody will answer.
void Runner::end() {
  Inbox inbox;
  {
    std::lock_guard guard(lock_);
    closed_ = true;
    std::swap(inbox, inbox_);
  }
  if (auto closed = client_->close(); !closed) callbacks_.failed(closed.error());
  connected_ = 0;
  takes_ = false;
  for (const Submission& submission : waiting_) refuse(submission.token);
  for (const Submission& submission : inbox.submissions) refuse(submission.token);
  for (const LookUp& look_up : inbox.look_ups) tickets_.front().tell(look_up.token, Answer{});
  std::vector<Event> events;
  for (Tickets& tickets : tickets_) {
    tickets.abandon();
    std::vector<Event> more = tickets.take_events();
    std::move(more.begin(), more.end(), std::back_inserter(events));
  }
  if (!events.empty()) callbacks_.events(std::move(events));
}

}  // namespace millrace::producer
