#include "producer/runner/runner.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "common/check.h"

namespace millrace::producer {
namespace {

// Many wait for each answer, and nobody hands over so much at once that it fills a batch. Measured
// by scripts/bench-gateway.sh with 64 connections: 2 gives 62,000 a second and a p99 of 1.7 ms, 4
// gives 54,000 and 3.6 ms, 1 gives 52,000.
constexpr size_t kEager = 2;

Mono read_clock() { return std::chrono::steady_clock::now(); }

// A sum that can't pass the clock's end.
Mono after(Millis patience) {
  constexpr Millis kForever = std::chrono::hours(24 * 365);
  return read_clock() + std::min(patience, kForever);
}

}  // namespace

Runner::Runner(RunnerOptions options, Callbacks callbacks)
    : options_(std::move(options)), callbacks_(std::move(callbacks)) {}

Result<std::unique_ptr<Runner>> Runner::start(RunnerOptions options, Callbacks callbacks) {
  options.client.session.max_unsent_jobs = UINT64_MAX;  // the limits here count
  options.client.session.max_unsent_bytes = UINT64_MAX;
  options.client.session.forgetful = true;
  options.client.session.eager = kEager;
  std::unique_ptr<Runner> runner(new Runner(std::move(options), std::move(callbacks)));
  auto client = Client::open(runner->options_.client, runner->tickets_);
  if (!client) return client.error();
  runner->client_ = *std::move(client);
  // The process's signals are not for this thread, which could be anyone's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  runner->thread_ = std::thread([&self = *runner] {
    pthread_setname_np(pthread_self(), "millrace-runner");
    self.run();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
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

void Runner::stop(Millis patience, bool ends) {
  {
    std::lock_guard guard(lock_);
    closed_ = true;
    stop_ = {after(patience), true, ends};
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
  feed(std::move(inbox));
  if (stop.asked && (finished() || client_->now() >= stop.by)) return false;
  auto polled = client_->poll(std::min(tickets_.wake_at(), stop.by), wakeup_.fd());
  tickets_.expire(client_->now());
  deliver();
  if (!polled) callbacks_.failed(polled.error());
  return polled.ok();
}

void Runner::feed(Inbox inbox) {
  const bool refuse = options_.when_away == WhenAway::refuse && !client_->connected();
  for (Submission& submission : inbox.submissions) {
    if (refuse) {
      Answer answer;
      answer.kind = Answer::Kind::away;
      tickets_.tell(submission.token, std::move(answer));
      continue;
    }
    auto& session = client_->session();
    tickets_.add(session.next_seq(), submission);
    session.submit(submission.queue, submission.options, submission.payload);
  }
  for (const LookUp& look_up : inbox.look_ups) {
    if (client_->connected()) {
      tickets_.look_up(look_up);
    } else {
      Answer answer;
      answer.kind = Answer::Kind::away;
      tickets_.tell(look_up.token, std::move(answer));
    }
  }
  for (JobId job : tickets_.take_questions()) client_->session().inquire({job, 1});
  deliver();
}

bool Runner::finished() {
  std::lock_guard guard(lock_);
  if (!inbox_.submissions.empty() || !inbox_.look_ups.empty()) return false;
  return stop_.ends ? tickets_.waiting() == 0 : tickets_.open_jobs() == 0;
}

void Runner::deliver() {
  {
    std::lock_guard guard(lock_);
    open_jobs_ = tickets_.open_jobs();
    open_bytes_ = tickets_.open_bytes();
  }
  broker_ = client_->session().broker().value;
  if (connected_ != client_->connected()) {
    connected_ = client_->connected();
    callbacks_.link(connected_);
  }
  for (JobId job : tickets_.take_questions()) client_->session().inquire({job, 1});
  if (auto events = tickets_.take_events(); !events.empty()) callbacks_.events(std::move(events));
}

// Nothing was left behind: whoever waits hears that nobody will answer.
void Runner::end() {
  Inbox inbox;
  {
    std::lock_guard guard(lock_);
    closed_ = true;
    std::swap(inbox, inbox_);
  }
  client_->close();
  connected_ = false;
  for (const Submission& submission : inbox.submissions) {
    Answer answer;
    answer.kind = Answer::Kind::away;
    tickets_.tell(submission.token, std::move(answer));
  }
  for (const LookUp& look_up : inbox.look_ups) tickets_.tell(look_up.token, Answer{});
  tickets_.abandon();
  if (auto events = tickets_.take_events(); !events.empty()) callbacks_.events(std::move(events));
}

}  // namespace millrace::producer
