#include "broker/core/outcomes/answers.h"

#include <algorithm>

namespace millrace::core {
namespace {

constexpr uint64_t kSliceJobs = 4096;        // looked at for one session before another's turn
constexpr size_t kSliceBytes = 256 << 10;    // of results and errors, likewise
constexpr uint64_t kJobsPerDispatch = 4096;  // looked at in one dispatch
// Of questions that do not fit into one slice: their STATES are gathered meanwhile, 24 bytes a job
// at the most.
constexpr size_t kMaxLongQuestions = 4;

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

struct Answers::Slice {
  uint64_t jobs = kSliceJobs;
  size_t bytes = kSliceBytes;

  bool is_used_up() const { return jobs == 0 || bytes == 0; }
  void looked_at(uint64_t count) { jobs -= std::min(jobs, count); }
  void told(size_t count) { bytes -= std::min(bytes, count); }
};

void Answers::on(Session& session, const protocol::Query& message, Output& out) {
  ask(session, message.jobs, false, out);
}

void Answers::on(Session& session, const protocol::Cancel& message, Output& out) {
  ask(session, message.jobs, true, out);
}

void Answers::ask(Session& session, const std::vector<JobRange>& jobs, bool cancels, Output& out) {
  Question question(distinct(jobs), cancels);
  const size_t ranges = question.ranges();
  size_t pending = 0;
  for (const Question& earlier : session.questions) pending += earlier.ranges();
  if (session.questions.size() >= protocol::kMaxPendingQueries ||
      pending + ranges > protocol::kMaxPendingRanges)
    return sessions_.refuse(
        session.route,
        {session.id, "too_many_queries",
         std::to_string(session.questions.size()) +
             " QUERYs and CANCELs of this session wait for their answers, with " +
             std::to_string(pending) + " ranges; the limits are " +
             std::to_string(protocol::kMaxPendingQueries) + " and " +
             std::to_string(protocol::kMaxPendingRanges) +
             ": read the answers before you ask more"},
        out);
  if (pending_ranges_ + ranges > protocol::kMaxPendingRangesOfAll)
    return sessions_.refuse(
        session.route,
        {session.id, "too_many_queries",
         "the QUERYs of all sessions that wait for their answers are at their limit: "
         "ask again later"},
        out);
  session.questions.push_back(std::move(question));
  pending_ranges_ += ranges;
  if (session.questions.size() > 1) return;
  if (sessions_.has_room(session)) answer_slice(session, out);
  if (!session.questions.empty()) answering_.push_back(session.id);
}

// A long question whose STATES are begun goes on in any case: others wait for its place.
bool Answers::can_answer(const Session& session) const {
  const Question& question = session.questions.front();
  if (question.is_long) return true;
  const bool needs_place =
      question.stage() == Question::Stage::states && question.jobs() > kSliceJobs;
  return sessions_.has_room(session) && !(needs_place && long_questions_ >= kMaxLongQuestions);
}

// One slice for each session that has room, as far as a dispatch goes.
void Answers::advance(Output& out) {
  const uint64_t before = context_.work;
  for (size_t turns = answering_.size(); turns > 0 && context_.work - before < kJobsPerDispatch;
       --turns) {
    const SessionId id = answering_.front();
    answering_.pop_front();
    Session* session = sessions_.find(id);
    if (!session || session->questions.empty()) continue;
    if (can_answer(*session)) answer_slice(*session, out);
    if (!session->questions.empty()) answering_.push_back(id);
  }
}

bool Answers::has_more() const {
  return std::any_of(answering_.begin(), answering_.end(), [&](SessionId id) {
    const Session* session = sessions_.find(id);
    return !session || session->questions.empty() || can_answer(*session);
  });
}

void Answers::answer_slice(Session& session, Output& out) {
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
    outcomes_.send(session, outcomes, out);  // before the STATES of the next question
    outcomes.entries.clear();
    forget_first(session);
    slice.looked_at(1);
  }
  outcomes_.send(session, outcomes, out);
  context_.work += (kSliceJobs - slice.jobs) + (kSliceBytes - slice.bytes) / 64;
}

void Answers::cancel_some(Question& question, Slice& slice, Output& out) {
  while (slice.jobs > 0) {
    auto part = question.take(slice.jobs, state_.next_job());
    if (!part) return question.enter(Question::Stage::states);
    const bool exists = part->first < state_.next_job();
    slice.looked_at(exists ? part->count : 1);
    if (exists) operations_.cancel({*part}, out);
  }
}

void Answers::tell_states(Session& session, Question& question, Slice& slice, Output& out) {
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
      sessions_.send(session, std::exchange(question.states, {}), out);
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
bool Answers::tell_outcomes(Question& question, Slice& slice, protocol::Outcome& outcomes,
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
    slice.told(kOutcomeEntryBytes + entry.result.size() + entry.error.size());
    Outcomes::add(outcomes, entry, out.texts);
  }
  return false;
}

void Answers::forget_first(Session& session) {
  const Question& question = session.questions.front();
  pending_ranges_ -= question.ranges();
  if (question.is_long) --long_questions_;
  session.questions.pop_front();
}

void Answers::forget(Session& session) {
  if (!session.questions.empty()) std::erase(answering_, session.id);
  while (!session.questions.empty()) forget_first(session);
}

Held Answers::held() const {
  uint64_t count = 0, bytes = 0;
  for (const auto& [id, session] : sessions_.all()) {
    count += session.questions.size();
    for (const Question& question : session.questions) bytes += question.memory_bytes();
  }
  return {"queries", count, bytes};
}

}  // namespace millrace::core
