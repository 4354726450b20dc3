// The oracle's part about what leaves the broker, and what must be true when all is quiet.
#include <fmt/format.h>

#include "tests/sim/oracle.h"

namespace millrace::sim {

using protocol::is_end;
using protocol::JobState;

namespace {

[[noreturn]] void too_early(std::string_view what, uint64_t job) {
  World::fail(
      {"a message leaves after its record is durable", fmt::format("{} of j{}", what, job), job});
}

}  // namespace

void Oracle::leaves(const protocol::FromBroker& message, const Uuid& peer,
                    const core::State& durable) const {
  if (auto* confirm = std::get_if<protocol::Confirm>(&message)) {
    for (const auto& range : confirm->ranges)
      for (uint64_t i = 0; i < range.count; ++i) {
        const Submission* submission = find(peer, {range.first.value + i});
        uint64_t job = range.first_job.value + i;
        if (!submission || submission->stored_as.value == 0) too_early("CONFIRM", job);
        if (submission->stored_as.value != job)
          World::fail({"a confirm names the stored job",
                       fmt::format("j{} instead of j{}", job, submission->stored_as.value), job});
      }
  } else if (auto* grant = std::get_if<protocol::LeaseGrant>(&message)) {
    for (const auto& entry : grant->jobs) {
      auto run = runs_.find(entry.lease.epoch.value);
      if (run == runs_.end() || run->second.job != entry.lease.job)
        too_early("LEASE", entry.lease.job.value);
    }
  } else if (auto* outcome = std::get_if<protocol::Outcome>(&message)) {
    for (const auto& entry : outcome->entries)
      for (uint64_t i = 0; i < entry.jobs.count; ++i)
        if (uint64_t id = entry.jobs.first.value + i;
            id > jobs_.size() || !is_true(jobs_[id - 1], entry.state))
          too_early("OUTCOME", id);
  } else if (auto* states = std::get_if<protocol::States>(&message)) {
    for (const auto& range : states->ranges)
      for (uint64_t i = 0; is_end(range.state) && i < range.jobs.count; ++i)
        if (uint64_t id = range.jobs.first.value + i;
            id > jobs_.size() || !is_true(jobs_[id - 1], range.state))
          too_early("STATES", id);
  } else if (auto* welcome = std::get_if<protocol::Welcome>(&message)) {
    if (welcome->incarnation > durable.incarnation()) too_early("WELCOME", 0);
  }
}

// ---- the end

SegmentId Oracle::oldest_needed() const {
  return needed_.empty() ? SegmentId{} : needed_.begin()->first;
}

void Oracle::check_totals(const core::State& durable) const {
  uint64_t stored = 0;
  for (const auto& [producer, submissions] : producers_) {
    for (size_t i = 0; i < submissions.size(); ++i) {
      const Submission& submission = submissions[i];
      stored += submission.stored_as.value != 0 && !submission.matched;
      auto bad = [&](std::string_view what) {
        World::fail({"the totals reconcile",
                     fmt::format("seq {} of {} (j{}) {}", i + 1, producer.hex().substr(0, 6),
                                 submission.stored_as.value, what),
                     submission.stored_as.value});
      };
      if (submission.answer == Submission::none && !submission.abandoned) bad("was never answered");
      if (submission.answer == Submission::rejected && submission.stored_as.value != 0)
        bad("was rejected, and stored");
      if (submission.stored_as.value == 0) continue;
      if (!is_end(durable.state_of(submission.stored_as))) bad("never ended");
      bool outstanding = submission.answer == Submission::confirmed &&
                         submission.options.report != protocol::Report::none;
      if (outstanding && !submission.ended && !submission.abandoned && !submission.forgotten)
        bad("ended, and its producer did not hear of it");
    }
  }
  const records::Counts& counts = durable.counts();
  uint64_t ended = counts.done + counts.cancelled + counts.expired + durable.dead().size();
  if (counts.accepted != stored || counts.accepted != ended)
    World::fail({"the totals reconcile",
                 fmt::format("accepted {}, stored {}, done {}, cancelled {}, expired {}, dead {}",
                             counts.accepted, stored, counts.done, counts.cancelled, counts.expired,
                             durable.dead().size())});
}

}  // namespace millrace::sim
