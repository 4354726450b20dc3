#include "producer/load/report.h"

#include <algorithm>

namespace millrace::producer {

// ---- totals

uint64_t LoadCounts::lost() const { return std::max(unknown_to_broker, told_missing); }

bool LoadCounts::balanced() const {
  if (!others_balanced_) return false;
  if (sent != confirmed + rejected + unknown) return false;
  if (waited && confirmed != completed + dead + dropped + lost() + outstanding) return false;
  if (!verified) return true;
  if (told_done + told_dead + told_dropped + told_live + told_missing != confirmed) return false;
  return !waited || (told_done == completed && told_dead == dead && told_dropped == dropped);
}

bool LoadCounts::good() const {
  return lost() == 0 && dead + dropped == 0 && told_dead == 0 && duplicates == 0 &&
         mismatched == 0 && rejected == 0 && unknown == 0 && outstanding == 0 && balanced();
}

void LoadCounts::add(const LoadCounts& other) {
  others_balanced_ = others_balanced_ && other.balanced();
  waited = waited || other.waited;
  compared = compared || other.compared;
  verified = verified || other.verified;
  constexpr uint64_t LoadCounts::*kSums[] = {&LoadCounts::sent,
                                             &LoadCounts::unknown,
                                             &LoadCounts::outstanding,
                                             &LoadCounts::confirmed,
                                             &LoadCounts::buffered,
                                             &LoadCounts::known,
                                             &LoadCounts::rejected,
                                             &LoadCounts::completed,
                                             &LoadCounts::dead,
                                             &LoadCounts::unknown_to_broker,
                                             &LoadCounts::dropped,
                                             &LoadCounts::duplicates,
                                             &LoadCounts::mismatched,
                                             &LoadCounts::told_done,
                                             &LoadCounts::told_dead,
                                             &LoadCounts::told_dropped,
                                             &LoadCounts::told_live,
                                             &LoadCounts::told_missing,
                                             &LoadCounts::measured_confirmed,
                                             &LoadCounts::measured_completed};
  for (auto member : kSums) this->*member += other.*member;
  confirm_us.add(other.confirm_us);
  latency_us.add(other.latency_us);
}

// ---- events

void LoadReport::finish(const Totals& totals) {
  counts_.sent = totals.sent;
  counts_.unknown = totals.unknown;
  counts_.outstanding = totals.outstanding;
  counts_.waited = totals.waited;
}

void LoadReport::confirmed(const Confirmed& event) {
  counts_.confirmed += event.seqs.count;
  if (event.known) counts_.known += event.seqs.count;
  if (event.durability == "buffered") counts_.buffered += event.seqs.count;
  meter_.note([&](LoadInterval& interval) {
    interval.confirmed += event.seqs.count;
    counts_.measured_confirmed += record(event.seqs, counts_.confirm_us, interval.confirm_us);
  });
  JobsAt* last = jobs_.empty() ? nullptr : &jobs_.back();
  if (last && last->broker == event.broker &&
      last->jobs.first.value + last->jobs.count == event.first_job.value) {
    last->jobs.count += event.seqs.count;
  } else {
    jobs_.push_back({event.broker, {event.first_job, event.seqs.count}});
  }
}

void LoadReport::rejected(const Rejected& event) {
  counts_.rejected += event.seqs.count;
  meter_.note([&](LoadInterval& interval) { interval.rejected += event.seqs.count; });
}

void LoadReport::ended(const Ended& event) {
  using protocol::JobState;
  const bool done = event.state == JobState::done;
  uint64_t measured = 0;
  meter_.note([&](LoadInterval& interval) {
    (done ? interval.completed : interval.failed) += event.seqs.count;
    measured = record(event.seqs, counts_.latency_us, interval.latency_us);
  });
  if (event.state == JobState::dead) counts_.dead += event.seqs.count;
  if (event.state == JobState::cancelled || event.state == JobState::expired ||
      event.state == JobState::ended)
    counts_.dropped += event.seqs.count;
  if (event.state == JobState::unknown) counts_.unknown_to_broker += event.seqs.count;
  if (!done) return;
  counts_.completed += event.seqs.count;
  counts_.measured_completed += measured;
  if (compare_ && event.attempts > 0 && compare_->of(event.seqs.first) != event.result)
    ++counts_.mismatched;
}

void LoadReport::told(protocol::JobRange jobs, protocol::JobState state) {
  using protocol::JobState;
  if (state == JobState::done) {
    counts_.told_done += jobs.count;
  } else if (state == JobState::dead) {
    counts_.told_dead += jobs.count;
  } else if (protocol::is_end(state)) {
    counts_.told_dropped += jobs.count;
  } else {
    (state == JobState::unknown ? counts_.told_missing : counts_.told_live) += jobs.count;
  }
}

// How many of them were meant to be sent after the warm-up: only these are among all.
uint64_t LoadReport::record(SeqRange seqs, Histogram& all, Histogram& interval) const {
  const Mono now = clock_();
  const Mono measured_from = schedule_.measured_from();
  uint64_t measured = 0;
  schedule_.for_each(seqs.first, seqs.count, [&](Mono intended, uint64_t count) {
    auto late = std::chrono::duration_cast<std::chrono::microseconds>(now - intended).count();
    const auto us = uint64_t(std::max<int64_t>(late, 0));
    interval.record(us, count);
    if (intended < measured_from) return;
    all.record(us, count);
    measured += count;
  });
  return measured;
}

}  // namespace millrace::producer
