// What a ProducerSession does with the broker's answers.
#include <algorithm>

#include "common/base/check.h"
#include "producer/session/ranges.h"
#include "producer/session/session.h"

namespace millrace::producer {

using namespace protocol;

Batch& ProducerSession::batch_of(Seq seq) {
  auto after = std::upper_bound(batches_.begin(), batches_.end(), seq,
                                [](Seq s, const Batch& batch) { return s < batch.range().first; });
  MILLRACE_CHECK(after != batches_.begin());
  return *std::prev(after);
}

std::vector<ProducerSession::Part> ProducerSession::unanswered_parts(SeqRange seqs) {
  std::vector<Part> parts;
  while (seqs.count > 0) {
    Batch& batch = batch_of(seqs.first);
    SeqRange here = overlap(seqs, batch.range());
    seqs = {here.end(), seqs.count - here.count};
    while (auto run = batch.find(here, Batch::State::unanswered)) {
      parts.push_back({&batch, *run});
      here = {run->end(), here.end().value - run->end().value};
    }
  }
  return parts;
}

// The part is no longer in flight.
void ProducerSession::settle(const Part& part, Batch::State state) {
  MILLRACE_CHECK(part.seqs.count > 0 && part.seqs.end() <= next_send_);
  uint64_t left = part.seqs.count;
  for (auto message = messages_.begin(); message != messages_.end() && left > 0; ++message) {
    std::vector<SeqRange> rest;
    uint64_t gone = 0;
    for (SeqRange seqs : message->open) {
      SeqRange both = overlap(seqs, part.seqs);
      gone += both.count;
      if (both.count == 0) both = {seqs.end(), 0};
      if (seqs.first < both.first)
        rest.push_back({seqs.first, both.first.value - seqs.first.value});
      if (both.end() < seqs.end())
        rest.push_back({both.end(), seqs.end().value - both.end().value});
      if (both.count == 0) continue;
      MILLRACE_CHECK(in_flight_bytes_ >= part.batch->bytes_of(both));
      in_flight_bytes_ -= part.batch->bytes_of(both);
    }
    if (gone == 0) continue;
    MILLRACE_CHECK(gone <= left && gone <= in_flight_jobs_ && open_messages_ > 0);
    left -= gone;
    in_flight_jobs_ -= gone;
    message->open = std::move(rest);
    if (message->open.empty()) --open_messages_;
  }
  while (!messages_.empty() && messages_.front().open.empty()) messages_.pop_front();
  MILLRACE_CHECK(open_messages_ > 0 || in_flight_jobs_ + in_flight_bytes_ == 0);
  MILLRACE_CHECK(open_messages_ <= messages_.size());
  if (state == Batch::State::answered) {
    MILLRACE_CHECK(unanswered_ >= part.seqs.count &&
                   unanswered_bytes_ >= part.batch->bytes_of(part.seqs));
    unanswered_ -= part.seqs.count;
    unanswered_bytes_ -= part.batch->bytes_of(part.seqs);
  }
  part.batch->mark(part.seqs, state);
}

void ProducerSession::drop_answered() {
  for (; !batches_.empty() && batches_.front().complete(); batches_.pop_front())
    if (batches_.front().is_gap())
      next_send_ = std::max(next_send_, batches_.front().range().end());
  MILLRACE_CHECK(next_send_ <= next_seq_);
  // A broker that rejects a second time what waits here would leave some of these counted.
  if (batches_.empty()) unanswered_ = unanswered_bytes_ = in_flight_jobs_ = 0;
}

void ProducerSession::take(const Confirm& confirm) {
  for (const Confirm::Range& range : confirm.ranges) {
    SeqRange sent{floor(), next_send_.value - floor().value};
    SeqRange seqs = clamp(range.first, range.count, sent);
    uint64_t fresh = 0;
    for (const Part& part : unanswered_parts(seqs)) {
      fresh += part.seqs.count;
      if (range.known && part.batch->keyed()) {
        confirm_each(part, confirm, range);
      } else {
        confirm_part(part, confirm, range);
      }
    }
    SeqRange said = clamp(range.first, range.count, {{1}, next_send_.value - 1});
    if (fresh > 0) rejects_ = false;
    if (fresh < said.count && outstanding_.contradicts(said, range.first_job)) {
      listener_.contradicted(said, range.first_job);
    }
    drop_answered();
  }
}

// Each of them may be another's job, or the same as one of these.
void ProducerSession::confirm_each(const Part& part, const Confirm& confirm,
                                   const Confirm::Range& range) {
  for (Seq seq = part.seqs.first; seq < part.seqs.end(); ++seq.value)
    confirm_part({part.batch, {seq, 1}}, confirm, range);
}

void ProducerSession::confirm_part(const Part& part, const Confirm& confirm,
                                   const Confirm::Range& range) {
  JobId first_job{range.first_job.value + (part.seqs.first.value - range.first.value)};
  settle(part, Batch::State::answered);
  listener_.confirmed({part.seqs, broker_, first_job, range.known, confirm.durability});
  Report report = part.batch->options().report;
  const bool keyed = part.batch->keyed(), has_key = range.known && keyed;
  const bool shares = has_key && outstanding_.knows(first_job);
  if (shares) outstanding_.share(part.seqs.first, first_job, report);
  if (report == Report::none) return;
  if (!shares && !outstanding_.add(part.seqs, first_job, report, keyed))
    return listener_.contradicted(part.seqs, first_job);
  if (has_key) shared_.insert(first_job);
  // It may have ended before, and its outcome been told to an earlier connection.
  if (range.known) following_.ask({first_job, part.seqs.count});
}

void ProducerSession::take(Mono now, const Reject& reject) {
  for (const Reject::Range& range : reject.ranges) {
    SeqRange sent{floor(), next_send_.value - floor().value};
    full_until_ = std::max(full_until_, now + range.retry_after);
    rejects_ = rejects_ || range.retry_after > Millis(0);
    for (const Part& part : unanswered_parts(clamp(range.first, range.count, sent))) {
      const bool patient = config_.on_reject == OnReject::retry || part.seqs.first < retry_before_;
      const bool later = patient && range.retry_after > Millis(0);
      Rejected rejected{part.seqs, range.reason, range.retry_after, range.message};
      settle(part, later ? Batch::State::postponed : Batch::State::answered);
      if (later) {
        postponed_.push_back({now + range.retry_after, part.seqs});
        held_until_ = std::max(held_until_, now + range.retry_after);
        listener_.postponed(rejected);
      } else {
        listener_.rejected(rejected);
      }
    }
    drop_answered();
  }
}

void ProducerSession::take(const Outcome& outcome) {
  for (const Outcome::Entry& entry : outcome.entries) {
    if (!protocol::is_end(entry.state)) continue;
    Ended ended;
    ended.broker = broker_;
    ended.state = entry.state;
    ended.attempts = entry.attempts;
    ended.has_result = entry.has_result;
    ended.result = entry.result;
    ended.error = entry.error;
    listener_.found(entry);
    const bool shared = shared_.contains(entry.jobs.first);
    bool ours = outstanding_.end(entry.jobs, entry.state, visits_of(ended));
    // Of a shared job the first submitter collects the result.
    if (ours && entry.has_result && !shared && listener_.collects(entry.jobs))
      collected_.push_back(entry.jobs);
  }
}

void ProducerSession::take(Mono now, const States& states) {
  if (inquiry_.on_its_way()) {
    inquiry_.answered(states,
                      [this](JobRange jobs, JobState state) { listener_.told(jobs, state); });
    return;
  }
  std::set<JobId> asked_again;
  Inquiry& asked = cancelling_.on_its_way() ? cancelling_ : following_;
  asked.answered(states, [&, now](JobRange jobs, JobState state) {
    if (!protocol::is_end(state) && state != JobState::unknown) return ask_again(now, jobs);
    end_by_state(jobs, state, &asked_again);
  });
}

// A QUERY may name a job twice, but its OUTCOME comes after all STATES: the second one ends
// nothing.
void ProducerSession::end_by_state(JobRange jobs, JobState state, std::set<JobId>* asked_again) {
  Ended ended;
  ended.broker = broker_;
  ended.state = state;
  auto end = [&](JobRange part) {
    outstanding_.end_by_state(part, state, visits_of(ended), [&](JobRange again) {
      asked_again->insert(again.first);
      following_.ask(again);
    });
  };
  const JobId last{jobs.first.value + jobs.count - 1};
  auto twice = asked_again->lower_bound(jobs.first);
  if (twice == asked_again->end() || *twice > last) return end(jobs);
  for (JobId job = jobs.first; job <= last; ++job.value)
    if (!asked_again->contains(job)) end({job, 1});
}

void ProducerSession::ask_again(Mono now, JobRange jobs) {
  const JobId end{jobs.first.value + jobs.count};
  for (auto at = shared_.lower_bound(jobs.first); at != shared_.end() && *at < end; ++at)
    ask_later_.push_back({now + kAskEach, {*at, 1}});
}

OutstandingJobs::Visits ProducerSession::visits_of(Ended ended) {
  auto tell = [this, ended](SeqRange seqs, JobId first_job) mutable {
    ended.seqs = seqs;
    ended.first_job = first_job;
    listener_.ended(ended);
    if (config_.forgetful)
      for (uint64_t i = 0; i < seqs.count && !shared_.empty(); ++i)
        shared_.erase({first_job.value + i});
  };
  return {tell, [this](SeqRange seqs, JobId job) { listener_.contradicted(seqs, job); }};
}

}  // namespace millrace::producer
