#include "producer/runner/tickets.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::producer {

using protocol::JobState;

void Tickets::add(Seq seq, const Submission& submission) {
  Ticket ticket;
  ticket.token = submission.token;
  ticket.keyed = !submission.options.key.empty();
  ticket.reports = submission.options.report != protocol::Report::none;
  ticket.bytes = uint32_t(submission.payload.size());
  ticket.end_by = submission.end_by;
  ++open_jobs_;
  open_bytes_ += ticket.bytes;
  auto [at, fresh] = open_.emplace(seq, ticket);
  MILLRACE_CHECK(fresh);
  schedule(seq, at.value(), submission.answer_by);
}

void Tickets::look_up(const LookUp& look_up) {
  look_ups_.emplace(look_up.job, Question{look_up.token, look_up.answer_by});
  ask(look_up.job);
}

// ---- deadlines

void Tickets::schedule(Seq seq, Ticket& ticket, Mono deadline) {
  ++waiting_;
  ticket.deadline = deadline;
  if (deadline == Mono::max()) return;
  const Mono bucket{std::chrono::ceil<Millis>(deadline.time_since_epoch()) / kBucket * kBucket +
                    kBucket};
  deadlines_[bucket].push_back(seq);
}

void Tickets::unschedule(Ticket& ticket) {
  if (ticket.waits) --waiting_;
}

void Tickets::expire(Mono now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    auto bucket = deadlines_.extract(deadlines_.begin());
    for (Seq seq : bucket.mapped()) {
      auto at = open_.find(seq);
      if (at == open_.end() || !at->second.waits || at->second.deadline > now) continue;
      give_up(at);
    }
  }
  for (auto at = look_ups_.begin(); at != look_ups_.end();) {
    if (at->second.deadline > now) {
      ++at;
      continue;
    }
    tell(at->second.token, Answer{});
    at = look_ups_.erase(at);
  }
}

void Tickets::abandon() {
  std::vector<Seq> waiting;
  for (const auto& [seq, ticket] : open_)
    if (ticket.waits) waiting.push_back(seq);
  std::sort(waiting.begin(), waiting.end());
  for (Seq seq : waiting) give_up(open_.find(seq));
  for (const auto& [job, question] : look_ups_) tell(question.token, Answer{});
  look_ups_.clear();
}

void Tickets::forget(const std::set<Token>& tokens) {
  for (auto at = open_.begin(); at != open_.end();) {
    Ticket& ticket = at.value();
    if (!ticket.waits || !tokens.contains(ticket.token)) {
      ++at;
      continue;
    }
    unschedule(ticket);
    ticket.waits = false;
    // An unanswered one takes room until it is answered.
    at = ticket.answered ? open_.erase(at) : std::next(at);
  }
  std::erase_if(look_ups_, [&](const auto& entry) { return tokens.contains(entry.second.token); });
}

Mono Tickets::wake_at() const {
  Mono at = deadlines_.empty() ? Mono::max() : deadlines_.begin()->first;
  for (const auto& [job, question] : look_ups_) at = std::min(at, question.deadline);
  return at;
}

// Its maker hears the last of it. An unanswered one stays, since it takes room until it is.
void Tickets::give_up(Open::iterator at) {
  Ticket& ticket = at.value();
  unschedule(ticket);
  ticket.waits = false;
  if (!ticket.answered) return tell(ticket.token, Answer{});
  events_.emplace_back(ticket.token, Expired{});
  open_.erase(at);
}

// ---- the session's word

void Tickets::settle(Ticket& ticket) {
  MILLRACE_CHECK(!ticket.answered);
  ticket.answered = true;
  --open_jobs_;
  open_bytes_ -= ticket.bytes;
}

void Tickets::confirmed(const Confirmed& event) {
  const auto kind =
      event.durability == "confirmed" ? Answer::Kind::confirmed : Answer::Kind::buffered;
  for (uint64_t i = 0; i < event.seqs.count; ++i) {
    const Seq seq{event.seqs.first.value + i};
    auto at = open_.find(seq);
    if (at == open_.end()) continue;
    Ticket& ticket = at.value();
    if (ticket.answered) continue;  // by the spool: its end is what counts now
    settle(ticket);
    unschedule(ticket);
    if (ticket.waits) {
      Answer answer;
      answer.kind = kind;
      answer.broker = event.broker;
      answer.job = {event.first_job.value + i};
      // Without a key only its own resend can make it known, which is no news to its maker.
      answer.known = event.known && ticket.keyed;
      tell(ticket.token, std::move(answer));
    }
    wait_for_end(at);
  }
}

void Tickets::wait_for_end(Open::iterator at) {
  Ticket& ticket = at.value();
  if (ticket.waits && ticket.reports) {
    schedule(at->first, ticket, ticket.end_by);
  } else {
    open_.erase(at);
  }
}

void Tickets::spooled(SeqRange seqs) {
  for (Seq seq = seqs.first; seq < seqs.end(); ++seq.value) {
    auto at = open_.find(seq);
    if (at == open_.end() || at->second.answered) continue;
    settle(at.value());
    unschedule(at.value());
    if (at->second.waits) {
      Answer answer;
      answer.kind = Answer::Kind::spooled;
      tell(at->second.token, std::move(answer));
    }
    wait_for_end(at);
  }
}

void Tickets::rejected(const Rejected& event) {
  for (uint64_t i = 0; i < event.seqs.count; ++i) {
    const Seq seq{event.seqs.first.value + i};
    auto at = open_.find(seq);
    if (at == open_.end()) continue;
    if (at->second.answered) {  // by the spool; there will be no end
      give_up(at);
      continue;
    }
    settle(at.value());
    unschedule(at.value());
    if (at->second.waits) {
      Answer answer;
      answer.kind = Answer::Kind::rejected;
      answer.reason = event.reason;
      answer.message = event.message;
      answer.retry_after = event.retry_after;
      tell(at->second.token, std::move(answer));
    }
    open_.erase(at);
  }
}

void Tickets::ended(const Ended& event) {
  taken_ = false;
  for (uint64_t i = 0; i < event.seqs.count; ++i) {
    const Seq seq{event.seqs.first.value + i};
    auto at = open_.find(seq);
    if (at == open_.end() || !at->second.answered) continue;
    unschedule(at.value());
    JobView view{event.broker,
                 {event.first_job.value + i},
                 event.state,
                 event.attempts,
                 event.has_result,
                 std::string(event.result),
                 std::string(event.error)};
    events_.emplace_back(at->second.token, std::move(view));
    open_.erase(at);
    taken_ = true;
  }
}

// ---- look-ups

Tickets::Questions::iterator Tickets::answer(Questions::iterator question, JobView view) {
  view.job = question->first;
  events_.emplace_back(question->second.token, std::move(view));
  return look_ups_.erase(question);
}

void Tickets::found(const protocol::Outcome::Entry& entry) {
  if (look_ups_.empty()) return;
  const JobId end{entry.jobs.first.value + entry.jobs.count};
  for (auto at = look_ups_.lower_bound(entry.jobs.first);
       at != look_ups_.end() && at->first < end;) {
    at = answer(at, {{},
                     {},
                     entry.state,
                     entry.attempts,
                     entry.has_result,
                     std::string(entry.result),
                     std::string(entry.error)});
  }
}

// One question for a job at a time: two could go in one QUERY, whose STATES all come before what is
// kept.
void Tickets::ask(JobId job) {
  if (asked_.insert(job).second) questions_.push_back(job);
}

// What the broker keeps of a job that is done or dead comes behind its state, and before the answer
// to the next question: so that is asked, and tells that nothing came.
void Tickets::told(protocol::JobRange jobs, JobState state) {
  const bool more_may_come = state == JobState::done || state == JobState::dead;
  const JobId end{jobs.first.value + jobs.count};
  asked_.erase(asked_.lower_bound(jobs.first), asked_.lower_bound(end));
  for (auto at = look_ups_.lower_bound(jobs.first); at != look_ups_.end() && at->first < end;) {
    if (more_may_come && !std::exchange(at->second.asked_again, true)) {
      ask(at->first);
      ++at;
    } else {
      at = answer(at, {{}, {}, state, 0, false, {}, {}});
    }
  }
}

}  // namespace millrace::producer
