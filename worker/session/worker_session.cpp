#include "worker/session/worker_session.h"

#include <algorithm>
#include <new>

#include "common/base/check.h"
#include "common/protocol/codec.h"

namespace millrace::worker {

using protocol::FailKind;
using protocol::Lease;

namespace {

// A lease is extended once a third of it has gone; looking four times in that third keeps it below
// a half, with a sweep over a few thousand jobs every few seconds.
constexpr int kExtendAfter = 3;
constexpr int kSweepsPerLease = 12;
constexpr Millis kLeastSweep{1};

FailKind fail_kind(Completion::Kind kind) {
  switch (kind) {
    case Completion::Kind::permanent:
      return FailKind::permanent;
    case Completion::Kind::crash:
      return FailKind::crash;
    default:
      return FailKind::retryable;
  }
}

// At the limit, or before the character that it would tear: errors are UTF-8.
void cut_error(std::string* error) {
  size_t end = protocol::kMaxErrorText;
  if (error->size() <= end) return;
  while (end > 0 && ((*error)[end] & 0xC0) == 0x80) --end;
  error->resize(end);
}

}  // namespace

WorkerSession::WorkerSession(SessionSettings settings)
    : settings_(std::move(settings)),
      matcher_(settings_.queues),
      threads_(settings_.threads),
      credit_(settings_.threads, settings_.prefetch) {
  MILLRACE_CHECK(settings_.queues.size() <= protocol::kMaxQueuesPerWorker);
}

void WorkerSession::opened(SessionId session, Output* out) {
  MILLRACE_CHECK(session != SessionId{} && session != session_);
  session_ = session;
  welcomed_ = false;
  threads_sent_ = threads_.told(held_);
  protocol::Register message{settings_.worker, settings_.name, {}, threads_sent_, {}};
  message.queues.assign(settings_.queues.begin(), settings_.queues.end());
  message.claims = held_.claims();
  message.labels.assign(settings_.labels.begin(), settings_.labels.end());
  MILLRACE_CHECK(message.claims.size() <= protocol::kMaxClaims);
  out->frames.push_back(encode(session_, std::move(message)));
}

void WorkerSession::received(const protocol::FromBroker& message, const FramePtr& frame, Mono now,
                             Output* out) {
  if (auto* welcome = std::get_if<protocol::Welcome>(&message))
    return on_welcome(*welcome, now, out);
  if (!welcomed_) return;
  if (auto* grant = std::get_if<protocol::LeaseGrant>(&message)) on_lease(*grant, frame, now, out);
  if (auto* done_ok = std::get_if<protocol::DoneOk>(&message)) on_done_ok(*done_ok, out);
  if (auto* stale = std::get_if<protocol::Stale>(&message)) drop(stale->jobs, out);
  if (auto* cancelled = std::get_if<protocol::Cancelled>(&message)) drop(cancelled->jobs, out);
  if (auto* recall = std::get_if<protocol::Recall>(&message)) out->recall = recall->jobs;
}

void WorkerSession::on_welcome(const protocol::Welcome& welcome, Mono now, Output* out) {
  if (welcomed_) return;
  bool other_broker = broker_ != BrokerId{} && broker_ != welcome.broker;
  broker_ = welcome.broker;
  max_result_ = welcome.max_job_size;
  // What is held may be of a queue whose leases are shorter.
  lease_ = held_.size() > 0 ? std::min(lease_, welcome.lease) : welcome.lease;
  MILLRACE_CHECK(session_ != SessionId{});  // it has said REGISTER
  welcomed_ = true;
  credit_sent_ = 0;
  sweep_at_ = now + std::max(lease_ / kSweepsPerLease, kLeastSweep);
  // Another broker's job numbers mean other jobs: what is held belongs to the broker before.
  drop(other_broker ? held_.claims() : welcome.stale, out);
  held_.renew(now);
  outbox_.resend(session_, &out->frames);
  flush(out);
}

void WorkerSession::on_lease(const protocol::LeaseGrant& grant, const FramePtr& frame, Mono now,
                             Output* out) {
  try {
    take_leases(grant, frame, now, out);
  } catch (const std::bad_alloc&) {
    for (const protocol::LeaseGrant::Entry& entry : grant.jobs) held_.drop(entry.lease);
    throw;
  }
}

void WorkerSession::take_leases(const protocol::LeaseGrant& grant, const FramePtr& frame, Mono now,
                                Output* out) {
  std::optional<uint16_t> queue = matcher_.find(grant.queue);
  if (grant.lease > Millis(0) &&
      grant.lease < lease_) {  // a queue's own; the shortest sets the pace
    lease_ = grant.lease;
    sweep_at_ = std::min(sweep_at_, now + std::max(lease_ / kSweepsPerLease, kLeastSweep));
  }
  out->start.reserve(out->start.size() + grant.jobs.size());
  for (const protocol::LeaseGrant::Entry& entry : grant.jobs) {
    if (held_.size() >= kMaxHeld) {
      ++out->above_credit;
      continue;
    }
    const bool has_credit = held_.size() - held_.finished() < largest_credit_;
    HeldJobs::Granted granted = held_.grant(entry.lease, entry.wants_result, now);
    if (granted.replaced != Epoch{}) forget({{entry.lease.job, granted.replaced}}, out);
    if (!granted.taken) continue;
    largest_payload_ = std::max<uint64_t>(largest_payload_, entry.payload.size());
    if (!has_credit) ++out->above_credit;
    if (draining_ || !queue || !has_credit || limit_ == 0) {
      release({entry.lease});
    } else {
      MILLRACE_CHECK(held_.size() - held_.finished() <= largest_credit_);
      out->start.push_back({entry.lease, entry.payload, frame, max_result_, entry.attempt, broker_,
                            *queue, grant.queue, entry.wants_result, settings_.source});
    }
  }
  MILLRACE_CHECK(held_.size() <= kMaxHeld);
  peak_ = std::max<uint64_t>(peak_, held_.size());
  flush(out);
}

void WorkerSession::on_done_ok(const protocol::DoneOk& done_ok, Output* out) {
  for (Lease lease : outbox_.confirm(done_ok.batch)) {
    held_.confirm(lease);
    ++confirmed_total_;
  }
  flush(out);
}

void WorkerSession::drop(const std::vector<Lease>& stale, Output* out) {
  for (Lease lease : stale) held_.drop(lease);
  forget(stale, out);
}

void WorkerSession::forget(const std::vector<Lease>& leases, Output* out) {
  outbox_.drop(leases);
  out->forget.insert(out->forget.end(), leases.begin(), leases.end());
}

void WorkerSession::completed(std::vector<Finished> finished, Output* out) {
  for (Finished& end : finished) {
    MILLRACE_CHECK(end.run >= std::chrono::nanoseconds(0));
    if (!end.completion.goes_back()) credit_.observe(end.run);
    settle(std::move(end));
  }
  credit_.update();
  if (welcomed_) flush(out);
}

void WorkerSession::settle(Finished finished) {
  HeldJobs::End end = held_.finish(finished.lease);
  if (end == HeldJobs::End::unknown) return;
  Completion& completion = finished.completion;
  const bool by_stop = releases_failures_ && completion.kind == Completion::Kind::retryable;
  if (completion.goes_back() || by_stop) {
    outbox_.released(finished.lease);
  } else if (completion.kind != Completion::Kind::done) {
    cut_error(&completion.text);
    outbox_.failed(finished.lease, fail_kind(completion.kind), std::move(completion.text));
  } else if (completion.text.size() > max_result_) {
    outbox_.failed(finished.lease, FailKind::permanent,
                   protocol::result_too_large(completion.text.size(), max_result_));
  } else {
    bool wanted = end == HeldJobs::End::wants_result;
    outbox_.done(finished.lease, wanted, wanted ? std::move(completion.text) : std::string());
  }
}

void WorkerSession::tick(Mono now, Output* out) {
  if (!welcomed_ || now < sweep_at_) return;
  sweep_at_ = now + std::max(lease_ / kSweepsPerLease, kLeastSweep);
  Mono before = now - lease_ / kExtendAfter;
  std::vector<Lease> overdue = held_.take_overdue(before, now);
  for (Lease lease : outbox_.unsent()) {
    if (held_.take_overdue(lease, before, now)) overdue.push_back(lease);
  }
  for (size_t at = 0; at < overdue.size(); at += protocol::kMaxJobsPerMessage) {
    size_t end = std::min(overdue.size(), at + protocol::kMaxJobsPerMessage);
    protocol::Extend extend{{overdue.begin() + ptrdiff_t(at), overdue.begin() + ptrdiff_t(end)}};
    out->frames.push_back(encode(session_, std::move(extend)));
  }
}

void WorkerSession::set_threads(uint64_t threads, Output* out) {
  if (threads == threads_.now()) return;
  threads_.set(threads, held_);
  credit_.set_threads(threads);
  if (welcomed_) flush(out);
}

void WorkerSession::set_limit(uint64_t jobs, Output* out) {
  limit_ = jobs;
  if (welcomed_) flush(out);
}

uint64_t WorkerSession::take_peak() { return std::exchange(peak_, held_.size()); }

void WorkerSession::drain(const std::vector<Lease>& waiting, Output* out) {
  draining_ = true;
  release(waiting);
  if (welcomed_) flush(out);
}

void WorkerSession::give_back(const std::vector<Lease>& waiting, Output* out) {
  release(waiting);
  if (welcomed_) flush(out);
}

void WorkerSession::give_up(Output* out) {
  MILLRACE_CHECK(draining_);
  release(held_.unfinished());
  if (welcomed_) flush(out);
}

void WorkerSession::release(const std::vector<Lease>& leases) {
  for (Lease lease : leases) {
    if (held_.finish(lease) != HeldJobs::End::unknown) outbox_.released(lease);
  }
}

uint64_t WorkerSession::credit_now() const {
  if (draining_ || held_.finished() >= kMaxUnconfirmed) return 0;
  return std::min(limit_, credit_.credit());
}

void WorkerSession::flush(Output* out) {
  MILLRACE_CHECK(welcomed_);
  outbox_.flush(session_, &out->frames);
  const uint64_t threads = threads_.told(held_);
  if (credit_now() == credit_sent_ && threads == threads_sent_) return;
  credit_sent_ = credit_now();
  threads_sent_ = threads;
  MILLRACE_CHECK(credit_sent_ <= limit_ && (!draining_ || credit_sent_ == 0));
  largest_credit_ = std::max(largest_credit_, credit_sent_);
  out->frames.push_back(encode(session_, protocol::Credit{credit_sent_, threads_sent_}));
}

}  // namespace millrace::worker
