#include "producer/load/load_client.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/time.h"
#include "producer/client/flags.h"

namespace millrace::producer {
namespace {

// Between two looks at the connection: a few full SUBMITs, and not too many bytes.
constexpr uint64_t kBurst = 4096;
constexpr uint64_t kBurstBytes = 8 << 20;
// At high rates submissions are made in small bursts, at most this late: a wake-up for each would
// cost the machine more than the jobs.
constexpr std::chrono::microseconds kLeastPause{200};
// Longest time without a look at what others say.
constexpr Millis kLongestTurn{500};

}  // namespace

LoadClient::LoadClient(const LoadPlan& plan, LoadHub& hub, size_t index)
    : plan_(plan),
      hub_(hub),
      index_(index),
      run_id_(random_session().value),
      burst_(std::clamp<uint64_t>(kBurstBytes / (plan.sizes.largest() + 1), 1, kBurst)),
      schedule_(plan.schedule, Mono::max(), {index, plan.clients}),
      payload_(run_id_, plan.sizes),
      compared_(run_id_, plan.sizes),
      queues_(plan.queues),
      report_(
          schedule_, [this] { return client_->now(); }, plan.compares ? &compared_ : nullptr) {
  waiter_.watch(hub.place(index).fd(), true);
}

Result<void> LoadClient::open() {
  ClientOptions options = plan_.client;
  options.session.producer = Uuid::random();
  // As fast as possible, what waits here would only add to the latencies.
  if (plan_.schedule.rate.max()) options.session.max_unsent_jobs = 2 * kBurst;
  if (plan_.clients > 1 && !options.ledger.empty())
    options.ledger = fmt::format("{}.{}", options.ledger, index_ + 1);
  auto client = Client::open(options, report_);
  if (!client) return client.error();
  client_ = *std::move(client);
  return {};
}

void LoadClient::run() {
  outcome_ = work();
  report_.finish({submitted(), client_->unanswered(), client_->outstanding(), plan_.waits()});
  // Without this one the load is not what was asked for.
  if (!outcome_) hub_.stop(outcome_.error().code);
  hub_.finished();
}

Result<void> LoadClient::work() {
  if (auto done = connect(); !done) return done;
  if (auto done = wait_for_start(); !done) return done;
  if (auto done = submit_all(); !done) return done;
  submitted_at_ = client_->now();
  deadline_ = deadline_after(plan_.timeout);
  if (auto done = wait_for_ends(); !done) return done;
  ended_at_ = client_->now();
  if (plan_.verifies && !stopped()) {
    if (auto done = verify(); !done) return done;
  }
  return client_->close();
}

// One turn of the client. The time-out ends the run of all.
Result<void> LoadClient::turn(Mono until) {
  if (auto done = client_->poll(std::min(until, deadline_), waiter_.fd()); !done) return done;
  hub_.place(index_).drain();
  if (client_->now() >= deadline_) hub_.stop(ExitCode::temporary);
  return {};
}
Result<void> LoadClient::turn() { return turn(client_->now() + kLongestTurn); }

// Until it has answered once: one that welcomes and ends each session would never be found
// connected.
Result<void> LoadClient::connect() {
  while (!stopped() && !hub_.schedule_ended() && !client_->knows_broker()) {
    if (auto done = turn(); !done) return done;
  }
  hub_.connected(client_->now());
  return {};
}

Result<void> LoadClient::wait_for_start() {
  while (!stopped() && !hub_.schedule_ended() && !hub_.start()) {
    if (auto done = turn(); !done) return done;
  }
  const Mono start = hub_.start().value_or(client_->now());
  schedule_ = Schedule(plan_.schedule, start, {index_, plan_.clients});
  return {};
}

Result<void> LoadClient::submit_all() {
  while (!stopped() && !hub_.schedule_ended() && !schedule_.over(client_->now(), submitted())) {
    const Mono until = next_turn(submit_due());
    waiter_.wake_at(until);
    if (auto done = turn(until); !done) return done;
  }
  waiter_.wake_at(Mono::max());
  return {};
}

Mono LoadClient::next_turn(uint64_t made) {
  const Mono latest = client_->now() + kLongestTurn;
  if (!client_->has_room()) return latest;  // answers make room, and wake us
  if (schedule_.max()) return made > 0 ? client_->now() : latest;
  return std::min(latest, std::max(schedule_.due_at(submitted()), client_->now() + kLeastPause));
}

uint64_t LoadClient::submit_due() {
  const Mono now = read_clock();
  const uint64_t before = submitted();
  const uint64_t due = schedule_.due(now);
  if (due <= before || !client_->has_room()) return 0;
  schedule_.burst(client_->next_seq(), now);
  queues_.divide(std::min(due - before, burst_), [this](const std::string& queue, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      const size_t broker = client_->route().value_or(last_);
      client_->submit(broker, queue, plan_.options, payload_.of(client_->next_seq()));
      last_ = broker;
    }
  });
  const uint64_t made = submitted() - before;
  meter().note([made](LoadInterval& interval) { interval.sent += made; });
  return made;
}

Result<void> LoadClient::wait_for_ends() {
  while (!stopped() && (client_->unanswered() > 0 || client_->outstanding() > 0)) {
    if (auto done = turn(); !done) return done;
  }
  return {};
}

Result<void> LoadClient::verify() {
  report_.verifying();
  for (const JobsAt& jobs : report_.jobs())
    if (auto at = client_->find(jobs.broker)) client_->session(*at).inquire(jobs.jobs);
  while (!stopped() && client_->inquiring()) {
    if (auto done = turn(); !done) return done;
  }
  return {};
}

}  // namespace millrace::producer
