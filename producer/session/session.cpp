#include "producer/session/session.h"

#include <algorithm>

#include "common/base/check.h"
#include "producer/session/ranges.h"

namespace millrace::producer {

using namespace protocol;

namespace {

// A message takes at most this part of the window: the broker can work on one while the next come.
constexpr uint64_t kWindowParts = 4;

}  // namespace

ProducerSession::ProducerSession(SessionConfig config, Listener& listener)
    : config_(config), listener_(listener), outstanding_(config.forgetful) {}

bool ProducerSession::has_room() const {
  return unsent_jobs_ < config_.max_unsent_jobs && unsent_bytes_ < config_.max_unsent_bytes;
}

Seq ProducerSession::submit(std::string_view queue, const SubmitOptions& options,
                            std::string_view payload) {
  // A batch is retried as a whole, or not at all.
  const bool apart = batches_.empty() || next_seq_ == retry_before_;
  if (apart || !batches_.back().takes(queue, options, payload.size())) {
    MILLRACE_CHECK(valid_queue_name(queue));
    if (!batches_.empty()) batches_.back().close();
    batches_.emplace_back(next_seq_, queue, options);
  }
  batches_.back().add(payload, options.key);
  unsent_bytes_ += payload.size();
  ++unsent_jobs_;
  ++unanswered_;
  unanswered_bytes_ += payload.size();
  return {next_seq_.value++};
}

void ProducerSession::skip_to(Seq next) {
  MILLRACE_CHECK(next >= next_seq_);
  if (next == next_seq_) return;
  const uint64_t count = next.value - next_seq_.value;
  if (batches_.empty()) {
    next_send_ = next;
  } else {
    batches_.back().close();
    batches_.push_back(Batch::gap({next_seq_, count}));
  }
  next_seq_ = next;
}

void ProducerSession::follow(SeqRange seqs, JobId first_job, Report report) {
  if (!outstanding_.add(seqs, first_job, report)) return listener_.contradicted(seqs, first_job);
  following_.ask({first_job, seqs.count});
}

void ProducerSession::cancel_outstanding() {
  for (const JobRange& jobs : outstanding_.pending_ranges()) cancelling_.ask(jobs);
}

Seq ProducerSession::floor() const {
  if (batches_.empty()) return next_seq_;
  const Batch& front = batches_.front();
  auto open = front.find(front.range(), Batch::State::unanswered);
  auto later = front.find(front.range(), Batch::State::postponed);
  MILLRACE_CHECK(open || later);  // or it would have been dropped
  if (!open) return later->first;
  return later ? std::min(open->first, later->first) : open->first;
}

std::vector<SeqRange> ProducerSession::without_answer(SeqRange seqs) const {
  std::vector<SeqRange> open;
  auto add = [&open](Seq first, Seq end) {
    if (first >= end) return;
    if (!open.empty() && open.back().end() == first) {
      open.back().count += end.value - first.value;
    } else {
      open.push_back({first, end.value - first.value});
    }
  };
  for (const Batch& batch : batches_) {
    const SeqRange here = overlap(seqs, batch.range());
    if (batch.complete()) continue;
    for (Seq seq = here.first; seq < here.end(); ++seq.value)
      if (!batch.answered(seq)) add(seq, {seq.value + 1});
  }
  add(std::max(seqs.first, next_seq_), seqs.end());
  return open;
}

void ProducerSession::each_unanswered(Seq from, const Visit& visit) const {
  for (const Batch& batch : batches_) {
    if (batch.complete()) continue;  // a gap is, too
    for (Seq seq = std::max(from, batch.range().first); seq < batch.range().end(); ++seq.value) {
      if (batch.answered(seq)) continue;
      SubmitOptions options = batch.options();
      if (batch.keyed()) options.key = batch.key(seq);
      visit(seq, batch.queue(), options, batch.payload(seq));
    }
  }
}

void ProducerSession::welcomed(const Welcome& welcome) {
  if (broker_ != welcome.broker) follow_to(welcome.broker);
  welcomed_ = true;
  max_job_size_ = welcome.max_job_size;
  window_jobs_ = std::max<uint64_t>(std::min(welcome.window_jobs, config_.window_jobs), 1);
  window_bytes_ = std::max<uint64_t>(welcome.window_bytes, 1);
  held_until_ = full_until_ = Mono::min();
  rejects_ = false;
  again_.clear();
  for (const Part& part : unanswered_parts({floor(), next_send_.value - floor().value})) {
    again_.push_back(part.seqs);
  }
  for (const JobRange& jobs : outstanding_.pending_ranges()) following_.ask(jobs);
}

// Job numbers are a broker's own: those of the one before mean nothing to another.
void ProducerSession::follow_to(BrokerId broker) {
  Ended ended;
  ended.broker = broker_;
  outstanding_.clear(visits_of(ended).ended);
  collected_.clear();
  cancelling_.clear();
  shared_.clear();
  broker_ = broker;
}

void ProducerSession::lost() {
  welcomed_ = false;
  messages_.clear();
  open_messages_ = 0;
  in_flight_jobs_ = in_flight_bytes_ = 0;
  following_.clear();
  ask_later_.clear();
  cancelling_.restart();
  inquiry_.restart();
}

void ProducerSession::received(Mono now, const FromBroker& message) {
  if (!welcomed_) return;
  if (auto* confirm = std::get_if<Confirm>(&message)) take(*confirm);
  if (auto* reject = std::get_if<Reject>(&message)) take(now, *reject);
  if (auto* outcome = std::get_if<Outcome>(&message)) take(*outcome);
  if (auto* states = std::get_if<States>(&message)) take(now, *states);
}

// ---- sending

void ProducerSession::flush(Mono now, SessionId session, Frames* frames) {
  if (!welcomed_) return;
  MILLRACE_CHECK(session != SessionId{});
  Outbox out{session, frames};
  release_due(now);
  for (; !ask_later_.empty() && ask_later_.front().due <= now; ask_later_.pop_front())
    following_.ask(ask_later_.front().jobs);
  if (now >= held_until_) {
    send_again(out);
    if (again_.empty()) send_new(out);
  }
  send_query(out);
  send_collected(out);
}

Mono ProducerSession::wake_at() const {
  Mono at = Mono::max();
  if (!welcomed_) return at;
  for (const Postponed& postponed : postponed_) at = std::min(at, postponed.due);
  if (!ask_later_.empty()) at = std::min(at, ask_later_.front().due);
  if (held_until_ != Mono::min() && unanswered_ > 0) at = std::min(at, held_until_);
  return at;
}

void ProducerSession::release_due(Mono now) {
  for (const Postponed& postponed : postponed_) {
    if (postponed.due > now) continue;
    batch_of(postponed.seqs.first).mark(postponed.seqs, Batch::State::unanswered);
    again_.push_back(postponed.seqs);
  }
  std::erase_if(postponed_, [now](const Postponed& p) { return p.due <= now; });
  if (now >= held_until_) held_until_ = Mono::min();
}

void ProducerSession::send_again(const Outbox& out) {
  if (batches_.empty()) again_.clear();  // all answered meanwhile
  while (!again_.empty()) {
    SeqRange& seqs = again_.front();
    Batch& batch = batch_of(std::max(seqs.first, batches_.front().range().first));
    auto run = batch.find(overlap(seqs, batch.range()), Batch::State::unanswered);
    if (!run) {  // answered meanwhile
      again_.pop_front();
      continue;
    }
    SeqRange part = chunk_of(batch, *run);
    MILLRACE_CHECK(part.end() <= next_send_);  // it was sent before
    if (!window_takes(batch, part)) return;
    send_jobs(out, batch, part);
    seqs = {part.end(), seqs.end().value - part.end().value};
  }
}

void ProducerSession::send_new(const Outbox& out) {
  while (next_send_ < next_seq_) {
    Batch& batch = batch_of(next_send_);
    if (batch.is_gap()) {
      next_send_ = batch.range().end();
      continue;
    }
    if (open_messages_ >= config_.eager && !batch.closed() && !batch.full()) return;
    SeqRange rest{next_send_, batch.range().end().value - next_send_.value};
    if (batch.largest() > max_job_size_) rest = before_too_large(batch, rest);
    if (rest.count == 0) {
      reject_too_large(batch, next_send_);
      continue;
    }
    SeqRange part = chunk_of(batch, rest);
    if (!window_takes(batch, part)) return;
    batch.close();
    next_send_ = part.end();
    MILLRACE_CHECK(unsent_jobs_ >= part.count && unsent_bytes_ >= batch.bytes_of(part));
    unsent_jobs_ -= part.count;
    unsent_bytes_ -= batch.bytes_of(part);
    listener_.sent({part, batch.queue(), batch.keyed()});
    send_jobs(out, batch, part);
  }
}

void ProducerSession::send_jobs(const Outbox& out, const Batch& batch, SeqRange seqs) {
  Submit submit;
  submit.floor = std::min(floor(), floor_limit_);
  submit.first = seqs.first;
  submit.queue = batch.queue();
  submit.options = batch.options();
  submit.payloads.reserve(seqs.count);
  for (Seq seq = seqs.first; seq < seqs.end(); ++seq.value) {
    submit.payloads.push_back(batch.payload(seq));
    if (batch.keyed()) submit.keys.push_back(batch.key(seq));
  }
  MILLRACE_CHECK(seqs.count > 0 && seqs.count <= kTargetJobs);
  MILLRACE_CHECK(submit.floor <= seqs.first && seqs.end() <= next_send_);
  messages_.push_back({{seqs}});
  ++open_messages_;
  in_flight_jobs_ += seqs.count;
  in_flight_bytes_ += batch.bytes_of(seqs);
  MILLRACE_CHECK(open_messages_ == 1 ||
                 (in_flight_jobs_ <= window_jobs_ && in_flight_bytes_ <= window_bytes_));
  out.put(submit);
}

SeqRange ProducerSession::chunk_of(const Batch& batch, SeqRange seqs) const {
  return {seqs.first,
          batch.fitting(seqs, window_jobs_ / kWindowParts, window_bytes_ / kWindowParts)};
}

// A single message is always taken, or a small window could stop everything.
bool ProducerSession::window_takes(const Batch& batch, SeqRange seqs) const {
  if (open_messages_ == 0) return true;
  return in_flight_jobs_ + seqs.count <= window_jobs_ &&
         in_flight_bytes_ + batch.bytes_of(seqs) <= window_bytes_;
}

SeqRange ProducerSession::before_too_large(const Batch& batch, SeqRange seqs) const {
  uint64_t count = 0;
  while (count < seqs.count && batch.payload({seqs.first.value + count}).size() <= max_job_size_) {
    ++count;
  }
  return {seqs.first, count};
}

// Not sent: far above the limit the broker would close the connection, again and again.
void ProducerSession::reject_too_large(Batch& batch, Seq seq) {
  size_t size = batch.payload(seq).size();
  SeqRange one{seq, 1};
  batch.close();
  next_send_ = one.end();
  MILLRACE_CHECK(unsent_jobs_ > 0 && unsent_bytes_ >= size);
  --unsent_jobs_;
  unsent_bytes_ -= size;
  listener_.sent({one, batch.queue(), batch.keyed()});
  std::string message = "the payload has " + std::to_string(size) + " bytes, the broker takes " +
                        std::to_string(max_job_size_) + " (raise its --max-job-size)";
  settle({&batch, one}, Batch::State::answered);
  listener_.rejected({one, "too_large", Millis(0), message});
  drop_answered();
}

// One at a time of both, so that STATES can be told apart.
void ProducerSession::send_query(const Outbox& out) {
  if (inquiry_.on_its_way() || following_.on_its_way() || cancelling_.on_its_way()) return;
  if (auto unwanted = cancelling_.next()) return out.put(Cancel{unwanted->jobs});
  auto query = following_.next();
  if (!query) query = inquiry_.next();
  if (query) out.put(*query);
}

void ProducerSession::send_collected(const Outbox& out) {
  for (size_t i = 0; i < collected_.size();) {
    Collected message;
    uint64_t jobs = 0;
    for (; i < collected_.size() && message.jobs.size() < kMaxRangesPerMessage; ++i) {
      jobs += collected_[i].count;
      if (jobs > kMaxJobsPerQuery && !message.jobs.empty()) break;
      if (!message.jobs.empty() && message.jobs.back().first.value + message.jobs.back().count ==
                                       collected_[i].first.value) {
        message.jobs.back().count += collected_[i].count;
      } else {
        message.jobs.push_back(collected_[i]);
      }
    }
    out.put(message);
  }
  collected_.clear();
}

}  // namespace millrace::producer
