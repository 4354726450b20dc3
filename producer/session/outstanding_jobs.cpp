#include "producer/session/outstanding_jobs.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace millrace::producer {
namespace {

constexpr uint64_t kNoJob = UINT64_MAX;

SeqRange slice(SeqRange seqs, uint64_t from, uint64_t to) {
  return {{seqs.first.value + from}, to - from};
}

uint64_t end_of(protocol::JobRange jobs) {
  return jobs.count > kNoJob - jobs.first.value ? kNoJob : jobs.first.value + jobs.count;
}

bool overlap(uint64_t a, uint64_t b, uint64_t count_a, uint64_t count_b) {
  return a < b + count_b && b < a + count_a;
}

}  // namespace

OutstandingJobs::Mark OutstandingJobs::mark_of(JobState state) {
  switch (state) {
    case JobState::done:
      return Mark::done;
    case JobState::dead:
      return Mark::dead;
    case JobState::cancelled:
    case JobState::expired:
      return Mark::dropped;
    case JobState::ended:
      return Mark::over;
    default:
      return Mark::lost;
  }
}

bool OutstandingJobs::add(SeqRange seqs, JobId first_job, protocol::Report report, bool keyed) {
  if (!parts_of({first_job, seqs.count}).empty()) return false;
  MILLRACE_CHECK(seqs.count > 0);
  runs_.emplace(first_job.value, Run{seqs, report, keyed, seqs.count});
  pending_ += seqs.count;
  return true;
}

void OutstandingJobs::share(Seq seq, JobId job, protocol::Report report) {
  if (!forgetful_ && !shared_.emplace(seq, job).second) return;
  if (report == protocol::Report::none) return;
  waiting_.emplace(job.value, Shared{seq, report});
  ++pending_;
}

std::pair<OutstandingJobs::Sharers::iterator, OutstandingJobs::Sharers::iterator>
OutstandingJobs::sharers_of(Range jobs) {
  return {waiting_.lower_bound(jobs.first.value), waiting_.lower_bound(end_of(jobs))};
}

OutstandingJobs::Sharers::iterator OutstandingJobs::end_shared(Sharers::iterator at,
                                                               const Visits& visits) {
  const auto [job, shared] = *at;
  at = waiting_.erase(at);
  MILLRACE_CHECK(pending_ > 0);
  --pending_;
  visits.ended({shared.seq, 1}, {job});
  return at;
}

bool OutstandingJobs::end(Range jobs, JobState state, const Visits& visits) {
  const Mark mark = mark_of(state);
  auto parts = parts_of(jobs);
  for (const Part& part : parts) end_part(part, mark, visits);
  merge(parts);
  for (auto [at, last] = sharers_of(jobs); at != last;) at = end_shared(at, visits);
  return !parts.empty();
}

void OutstandingJobs::end_by_state(Range jobs, JobState state, const Visits& visits,
                                   const std::function<void(Range)>& again) {
  auto parts = parts_of(jobs);
  auto more_may_come = [state](protocol::Report report) {
    return state == JobState::dead ||
           (state == JobState::done && report == protocol::Report::result);
  };
  for (auto [at, last] = sharers_of(jobs); at != last;) {
    if (!more_may_come(at->second.report) || std::exchange(at->second.expected, true)) {
      at = end_shared(at, visits);
    } else {
      again({{at->first}, 1});
      ++at;
    }
  }
  for (const Part& part : parts) {
    if (more_may_come(part.run->second.report)) {
      expect_part(part, state, visits, again);
    } else {
      end_part(part, mark_of(state), visits);
    }
  }
  merge(parts);
}

std::vector<protocol::JobRange> OutstandingJobs::pending_ranges() const {
  std::vector<Range> ranges;
  auto add_range = [&ranges](uint64_t first, uint64_t count) {
    if (!ranges.empty() && end_of(ranges.back()) == first) {
      ranges.back().count += count;
    } else {
      ranges.push_back({{first}, count});
    }
  };
  for (const auto& [first_job, run] : runs_) {
    if (run.pending == 0) continue;
    if (run.marks.empty()) add_range(first_job, run.seqs.count);
    for (size_t i = 0; i < run.marks.size(); ++i) {
      if (waits(run.marks[i])) add_range(first_job + i, 1);
    }
  }
  for (const auto& [job, shared] : waiting_) add_range(job, 1);
  return ranges;
}

bool OutstandingJobs::contradicts(SeqRange seqs, JobId first_job) const {
  const uint64_t offset = first_job.value - seqs.first.value;
  auto is_another_job = [offset](const auto& shared) {
    return shared.second.value - shared.first.value != offset;
  };
  auto differs = [&](const auto& entry) {
    const auto& [job, run] = entry;
    if (job - run.seqs.first.value == offset) return false;
    return overlap(run.seqs.first.value, seqs.first.value, run.seqs.count, seqs.count) ||
           (!run.keyed && overlap(job, first_job.value, run.seqs.count, seqs.count));
  };
  return std::any_of(shared_.lower_bound(seqs.first), shared_.lower_bound(seqs.end()),
                     is_another_job) ||
         std::any_of(runs_.begin(), runs_.end(), differs);
}

void OutstandingJobs::clear(const Visit& visit) {
  for (auto& [first_job, run] : runs_) {
    if (run.pending == 0) continue;
    unfold(run);
    for (size_t i = 0; i < run.marks.size();) {
      size_t from = i;
      while (i < run.marks.size() && waits(run.marks[i])) ++i;
      if (i > from) visit(slice(run.seqs, from, i), {first_job + from});
      if (i < run.marks.size()) ++i;
    }
  }
  for (const auto& [job, shared] : waiting_) visit({shared.seq, 1}, {job});
  runs_.clear();
  waiting_.clear();
  shared_.clear();
  pending_ = 0;
}

std::vector<OutstandingJobs::Part> OutstandingJobs::parts_of(Range jobs) {
  std::vector<Part> parts;
  uint64_t end = end_of(jobs);
  auto at = runs_.upper_bound(jobs.first.value);
  if (at != runs_.begin()) --at;
  for (; at != runs_.end() && at->first < end; ++at) {
    uint64_t from = std::max(jobs.first.value, at->first) - at->first;
    uint64_t to = std::min(end - at->first, at->second.seqs.count);
    if (from < to) parts.push_back({at, from, to});
  }
  return parts;
}

// Ends what waits in the part, and reports what had ended otherwise, in runs of equal marks.
void OutstandingJobs::end_part(const Part& part, Mark mark, const Visits& visits) {
  auto& [first_job, run] = *part.run;
  auto visit = [&](const Visit& function, uint64_t from, uint64_t to) {
    function(slice(run.seqs, from, to), {first_job + from});
  };
  if (run.marks.empty() && run.pending == run.seqs.count) {
    set(part, mark);
    visit(visits.ended, part.from, part.to);
  } else {
    unfold(run);
    for (uint64_t i = part.from; i < part.to;) {
      uint64_t from = i;
      Mark old = run.marks[from];
      while (i < part.to && run.marks[i] == old) ++i;
      if (waits(old)) {
        set({part.run, from, i}, mark);
        visit(visits.ended, from, i);
      } else if (old != mark && old != Mark::over && mark != Mark::over) {
        visit(visits.contradicted, from, i);
      }
    }
  }
  fold(part.run->second);
}

void OutstandingJobs::expect_part(const Part& part, JobState state, const Visits& visits,
                                  const std::function<void(Range)>& again) {
  Run& run = part.run->second;
  unfold(run);
  for (uint64_t i = part.from; i < part.to; ++i) {
    if (run.marks[i] == Mark::pending) {
      run.marks[i] = Mark::expected;
      again({{part.run->first + i}, 1});
    } else if (run.marks[i] == Mark::expected) {
      Mark mark = state == JobState::done ? Mark::done : Mark::dead;
      set({part.run, i, i + 1}, mark);
      visits.ended(slice(run.seqs, i, i + 1), {part.run->first + i});
    }
  }
  fold(part.run->second);
}

// Only for parts that wait.
void OutstandingJobs::set(const Part& part, Mark mark) {
  Run& run = part.run->second;
  uint64_t count = part.to - part.from;
  if (run.marks.empty() && count == run.seqs.count) {
    run.end = mark;
  } else {
    unfold(run);
    std::fill(run.marks.begin() + ptrdiff_t(part.from), run.marks.begin() + ptrdiff_t(part.to),
              mark);
  }
  MILLRACE_CHECK(run.pending >= count && pending_ >= count);
  run.pending -= count;
  pending_ -= count;
}

void OutstandingJobs::unfold(Run& run) {
  MILLRACE_CHECK(run.pending <= run.seqs.count);
  if (run.marks.empty()) run.marks.assign(run.seqs.count, run.pending ? Mark::pending : run.end);
}

// A complete run whose jobs ended alike needs no byte for each.
void OutstandingJobs::fold(Run& run) {
  if (run.pending > 0 || run.marks.empty()) return;
  Mark mark = run.marks.front();
  if (std::any_of(run.marks.begin(), run.marks.end(), [mark](Mark m) { return m != mark; })) return;
  run.end = mark;
  run.marks = {};
}

// Joins a run to the one before it, if they are alike; the iterator of what is left.
OutstandingJobs::Runs::iterator OutstandingJobs::merge_left(Runs::iterator at) {
  if (at == runs_.begin() || at == runs_.end()) return at;
  auto left = std::prev(at);
  if (!can_merge(*left, *at)) return at;
  left->second.seqs.count += at->second.seqs.count;
  runs_.erase(at);
  return left;
}

// Only when all parts have been dealt with, since it erases runs.
void OutstandingJobs::merge(const std::vector<Part>& parts) {
  if (forgetful_) {
    for (const Part& part : parts)
      if (part.run->second.pending == 0) runs_.erase(part.run);
    return;
  }
  auto last = runs_.end();
  for (const Part& part : parts) last = merge_left(part.run);
  if (last != runs_.end()) merge_left(std::next(last));
}

bool OutstandingJobs::can_merge(const Runs::value_type& left, const Runs::value_type& right) {
  const Run& a = left.second;
  const Run& b = right.second;
  return a.pending == 0 && b.pending == 0 && a.marks.empty() && b.marks.empty() && a.end == b.end &&
         a.report == b.report && a.keyed == b.keyed && a.seqs.end() == b.seqs.first &&
         left.first + a.seqs.count == right.first;
}

}  // namespace millrace::producer
