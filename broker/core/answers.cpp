// What producers are told of their jobs: answers to QUERY and CANCEL, a slice at a time, and
// reports of a job's end.
#include <algorithm>

#include "broker/core/core.h"

namespace millrace::core {
namespace {

constexpr uint64_t kSliceJobs = 4096;        // looked at for one session before another's turn
constexpr size_t kSliceBytes = 256 << 10;    // of results and errors, likewise
constexpr uint64_t kJobsPerDispatch = 4096;  // looked at in one dispatch
// Of questions that do not fit into one slice: their STATES are gathered meanwhile, 24 bytes a job
// at the most.
constexpr size_t kMaxLongQuestions = 4;
constexpr size_t kEntryBytes = 32;  // of an OUTCOME, beside its result or error

void add(protocol::States& states, JobRange jobs, JobState state) {
  if (!states.ranges.empty()) {
    auto& last = states.ranges.back();
    if (last.state == state && last.jobs.first.value + last.jobs.count == jobs.first.value) {
      last.jobs.count += jobs.count;
      return;
    }
  }
  states.ranges.push_back({jobs, state});
}

}  // namespace

struct Core::Slice {
  uint64_t jobs = kSliceJobs;
  size_t bytes = kSliceBytes;

  bool is_used_up() const { return jobs == 0 || bytes == 0; }
  void looked_at(uint64_t count) { jobs -= std::min(jobs, count); }
  void told(size_t count) { bytes -= std::min(bytes, count); }
};

void Core::on(Session& session, const protocol::Query& message, Output& out) {
  ask(session, message.jobs, false, out);
}

void Core::on(Session& session, const protocol::Cancel& message, Output& out) {
  ask(session, message.jobs, true, out);
}

void Core::ask(Session& session, const std::vector<JobRange>& jobs, bool cancels, Output& out) {
  Question question(distinct(jobs), cancels);
  const size_t ranges = question.ranges();
  size_t pending = 0;
  for (const Question& earlier : session.questions) pending += earlier.ranges();
  if (session.questions.size() >= protocol::kMaxPendingQueries ||
      pending + ranges > protocol::kMaxPendingRanges)
    return refuse(session.route,
                  {session.id, "too_many_queries",
                   std::to_string(session.questions.size()) +
                       " QUERYs and CANCELs of this session wait for their answers, with " +
                       std::to_string(pending) + " ranges; the limits are " +
                       std::to_string(protocol::kMaxPendingQueries) + " and " +
                       std::to_string(protocol::kMaxPendingRanges) +
                       ": read the answers before you ask more"},
                  out);
  if (pending_ranges_ + ranges > protocol::kMaxPendingRangesOfAll)
    return refuse(session.route,
                  {session.id, "too_many_queries",
                   "the QUERYs of all sessions that wait for their answers are at their limit: "
                   "ask again later"},
                  out);
  session.questions.push_back(std::move(question));
  pending_ranges_ += ranges;
  if (session.questions.size() > 1) return;
  if (has_room(session)) answer_slice(session, out);
  if (!session.questions.empty()) answering_.push_back(session.id);
}

bool Core::has_room(const Session& session) const {
  return session.reachable && (!has_room_ || has_room_(session.route));
}

// A long question whose STATES are begun goes on in any case: others wait for its place.
bool Core::can_answer(const Session& session) const {
  const Question& question = session.questions.front();
  if (question.is_long) return true;
  const bool needs_place =
      question.stage() == Question::Stage::states && question.jobs() > kSliceJobs;
  return has_room(session) && !(needs_place && long_questions_ >= kMaxLongQuestions);
}

// One slice for each session that has room, as far as a dispatch goes.
void Core::answer_some(Output& out) {
  const uint64_t before = work_;
  for (size_t turns = answering_.size(); turns > 0 && work_ - before < kJobsPerDispatch; --turns) {
    const SessionId id = answering_.front();
    answering_.pop_front();
    auto found = sessions_.find(id);
    if (found == sessions_.end() || found->second.questions.empty()) continue;
    if (can_answer(found->second)) answer_slice(found->second, out);
    if (!found->second.questions.empty()) answering_.push_back(id);
  }
}

bool Core::has_answers_to_go_on_with() const {
  return std::any_of(answering_.begin(), answering_.end(), [&](SessionId id) {
    auto found = sessions_.find(id);
    return found == sessions_.end() || found->second.questions.empty() || can_answer(found->second);
  });
}

void Core::answer_slice(Session& session, Output& out) {
  Slice slice;
  protocol::Outcome outcomes;
  while (!session.questions.empty() && !slice.is_used_up()) {
    Question& question = session.questions.front();
    const bool is_fresh = slice.jobs == kSliceJobs;
    if (question.stage() != Question::Stage::outcomes && question.jobs() > slice.jobs && !is_fresh)
      break;  // it gets a slice of its own
    if (!can_answer(session)) break;
    if (question.stage() == Question::Stage::cancel) cancel_some(question, slice, out);
    if (question.stage() == Question::Stage::states) tell_states(session, question, slice, out);
    if (question.stage() != Question::Stage::outcomes) continue;
    if (!tell_outcomes(question, slice, outcomes, out)) continue;
    send_outcomes(session, outcomes, out);  // before the STATES of the next question
    outcomes.entries.clear();
    forget_question(session);
    slice.looked_at(1);
  }
  send_outcomes(session, outcomes, out);
  work_ += (kSliceJobs - slice.jobs) + (kSliceBytes - slice.bytes) / 64;
}

void Core::cancel_some(Question& question, Slice& slice, Output& out) {
  while (slice.jobs > 0) {
    auto part = question.take(slice.jobs, state_.next_job());
    if (!part) return question.enter(Question::Stage::states);
    const bool exists = part->first < state_.next_job();
    slice.looked_at(exists ? part->count : 1);
    if (exists) cancel(now_, {*part}, out);
  }
}

void Core::tell_states(Session& session, Question& question, Slice& slice, Output& out) {
  if (!question.is_long && question.jobs() > kSliceJobs) {
    if (long_questions_ >= kMaxLongQuestions) return;
    question.is_long = true;
    ++long_questions_;
  }
  while (slice.jobs > 0) {
    auto part = question.take(slice.jobs, state_.next_job());
    if (!part) {
      std::vector<JobRange> ended;  // with something to tell, perhaps
      for (const auto& range : question.states.ranges)
        if (range.state == JobState::done || range.state == JobState::dead)
          ended.push_back(range.jobs);
      send(session, std::exchange(question.states, {}), out);
      if (std::exchange(question.is_long, false)) --long_questions_;
      return question.enter(Question::Stage::outcomes, std::move(ended));
    }
    if (part->first >= state_.next_job()) {
      add(question.states, *part, JobState::unknown);
      slice.looked_at(1);
      continue;
    }
    for (uint64_t id = part->first.value; id < part->first.value + part->count; ++id)
      add(question.states, {{id}, 1}, state_.state_of({id}));
    slice.looked_at(part->count);
  }
}

// True when the last one is told.
bool Core::tell_outcomes(Question& question, Slice& slice, protocol::Outcome& outcomes,
                         Output& out) {
  while (!slice.is_used_up()) {
    auto part = question.take(1, state_.next_job());
    if (!part) return true;
    slice.looked_at(1);
    const JobId id = part->first;
    protocol::Outcome::Entry entry{{id, 1}};
    if (const RetainedResult* kept = state_.result_of(id)) {
      entry = {{id, 1}, JobState::done, kept->attempts, true, false, kept->bytes, {}};
    } else if (const Job* job = state_.find(id); job && job->state == JobState::dead) {
      const AttemptFailure* failure = state_.last_failure_of(id);
      entry = {{id, 1}, JobState::dead, job->attempts, false, true, {}, {}};
      if (failure) entry.error = failure->error;
    } else {
      continue;
    }
    slice.told(kEntryBytes + entry.result.size() + entry.error.size());
    add_outcome(outcomes, entry, out.texts);
  }
  return false;
}

void Core::forget_question(Session& session) {
  const Question& question = session.questions.front();
  pending_ranges_ -= question.ranges();
  if (question.is_long) --long_questions_;
  session.questions.pop_front();
}

// Notes a job's end for its producer; dispatch() sends what a round has gathered.
void Core::report(JobId id, const Job& job, JobState state, std::string_view result,
                  std::string_view error) {
  if (job.report == Report::none) return;
  protocol::Outcome::Entry entry{{id, 1}, state, job.attempts};
  entry.has_result = job.report == Report::result && state == JobState::done;
  entry.has_error = state == JobState::dead;
  if (entry.has_result) entry.result = result;
  if (entry.has_error) entry.error = error;
  add_outcome(reports_[job.producer], entry, report_texts_);
}

// Copies what the entry points to; entries alike become one.
void Core::add_outcome(protocol::Outcome& to, protocol::Outcome::Entry entry,
                       std::list<std::string>& texts) {
  auto& entries = to.entries;
  if (!entries.empty() && !entry.has_result && !entry.has_error) {
    auto& last = entries.back();
    const bool alike = !last.has_result && !last.has_error && last.state == entry.state &&
                       last.attempts == entry.attempts;
    if (alike && last.jobs.first.value + last.jobs.count == entry.jobs.first.value) {
      ++last.jobs.count;
      return;
    }
  }
  if (entry.has_result) entry.result = texts.emplace_back(entry.result);
  if (entry.has_error) entry.error = texts.emplace_back(entry.error);
  entries.push_back(entry);
}

void Core::flush_reports(Output& out) {
  std::vector<ProducerIndex> order;
  for (const auto& [index, outcome] : reports_) order.push_back(index);
  std::sort(order.begin(), order.end());
  for (ProducerIndex index : order) {
    const Uuid* id = state_.producers().id_of(index);
    auto session = id ? session_of_.find(*id) : session_of_.end();
    if (session == session_of_.end()) continue;  // it asks when it comes back
    send_outcomes(sessions_.at(session->second), reports_[index], out);
  }
  reports_.clear();
  out.texts.splice(out.texts.end(), report_texts_);
}

// In frames of about kTargetFrame.
void Core::send_outcomes(Session& session, const protocol::Outcome& outcomes, Output& out) {
  protocol::Outcome part;
  size_t bytes = 0;
  for (const auto& entry : outcomes.entries) {
    if (bytes > protocol::kTargetFrame) {
      send(session, std::exchange(part, {}), out);
      bytes = 0;
    }
    bytes += kEntryBytes + entry.result.size() + entry.error.size();
    part.entries.push_back(entry);
  }
  if (!part.entries.empty()) send(session, std::move(part), out);
}

}  // namespace millrace::core
