#include "producer/submit/resume.h"

#include <algorithm>

namespace millrace::producer {

namespace {

// Its index; it is added if it is new. There are few.
template <typename Thing>
uint16_t place_in(std::vector<Thing>& things, const Thing& thing) {
  auto at = std::find(things.begin(), things.end(), thing);
  if (at == things.end()) at = things.insert(at, thing);
  return uint16_t(at - things.begin());
}

}  // namespace

ResumePlan::ResumePlan(const JoblogEntries& joblog, const LedgerEntries& ledger, Mode mode)
    : mode_(mode), joblog_(joblog) {
  for (const auto& sent : ledger.sent)
    note(sent.seqs, State::unknown, place_in(names_, sent.to), {});
  for (const auto& rejected : ledger.rejected) note(rejected.seqs, State::rejected, 0, {});
  for (const auto& confirmed : ledger.confirmed)
    note(confirmed.seqs, State::confirmed, place_in(brokers_, confirmed.broker),
         confirmed.first_job);
  confirm_from_joblog(ledger);
}

// The confirmation of a job that the joblog names may have been in the ledger's torn last line. A
// job that the ledger has too is of this round, or of an earlier one, and says nothing of a later
// sequence.
void ResumePlan::confirm_from_joblog(const LedgerEntries& ledger) {
  std::vector<bool> in_ledger(joblog_.entries.size());
  for (const auto& confirmed : ledger.confirmed) {
    const uint64_t first = number_of(confirmed.seqs.first);
    for (auto entry = joblog_.from(first);
         entry != joblog_.entries.end() && entry->number - first < confirmed.seqs.count; ++entry) {
      if (entry->broker == confirmed.broker &&
          entry->job.value == confirmed.first_job.value + (entry->number - first))
        in_ledger[size_t(entry - joblog_.entries.begin())] = true;
    }
  }
  for (size_t i = 0; i < in_ledger.size(); ++i) {
    const JoblogEntry& entry = joblog_.entries[i];
    if (in_ledger[i] || entry.job.value == 0) continue;
    const Attempt* last = this->attempt(entry.number);
    if (!last || last->state == State::none) {
      add_lost(entry, round_, false);
      continue;
    }
    Attempt& attempt = attempts_[entry.number - 1];
    if (attempt.state != State::unknown) continue;
    attempt = {State::confirmed, place_in(brokers_, entry.broker), attempt.round, entry.job};
    add_lost(entry, attempt.round, true);
  }
}

void ResumePlan::add_lost(const JoblogEntry& entry, uint64_t round, bool sent) {
  const Seq seq = seq_of(round, entry.number);
  auto& jobs = lost_.confirmed;
  if (!sent && !lost_.sent.empty() && lost_.sent.back().seqs.end() == seq) {
    ++lost_.sent.back().seqs.count;
  } else if (!sent) {
    lost_.sent.push_back({{}, {seq, 1}});
  }
  const bool joins = !jobs.empty() && jobs.back().seqs.end() == seq &&
                     jobs.back().broker == entry.broker &&
                     jobs.back().first_job.value + jobs.back().seqs.count == entry.job.value;
  if (joins) {
    ++jobs.back().seqs.count;
  } else {
    jobs.push_back({{}, {seq, 1}, entry.broker, entry.job});
  }
}

const std::string* ResumePlan::destination(uint64_t number) const {
  const Attempt* last = attempt(number);
  const bool open = last && last->state == State::unknown && last->round == round_;
  return open && !names_[last->place].empty() ? &names_[last->place] : nullptr;
}

std::vector<std::string> ResumePlan::destinations() const {
  std::vector<std::string> names;
  for (const Attempt& attempt : attempts_)
    if (attempt.state == State::unknown && attempt.round == round_)
      place_in(names, names_[attempt.place]);
  return names;
}

// Later rounds count; within one, an answer counts more than that it was sent.
void ResumePlan::note(SeqRange seqs, State state, uint16_t place, JobId first_job) {
  const uint64_t first = number_of(seqs.first);
  const auto round = uint32_t(seqs.first.value >> kRoundShift);
  round_ = std::max<uint64_t>(round_, round);
  if (attempts_.size() < first + seqs.count - 1) attempts_.resize(first + seqs.count - 1);
  for (uint64_t i = 0; i < seqs.count; ++i) {
    Attempt& attempt = attempts_[first + i - 1];
    if (attempt.state != State::none && attempt.round > round) continue;
    if (attempt.round == round && attempt.state > state) continue;
    attempt = {state, place, round, {first_job.value == 0 ? 0 : first_job.value + i}};
  }
}

const ResumePlan::Attempt* ResumePlan::attempt(uint64_t number) const {
  return number <= attempts_.size() ? &attempts_[number - 1] : nullptr;
}

const JoblogEntry* ResumePlan::line(uint64_t number) const { return joblog_.find(number); }

bool ResumePlan::ended(const Attempt& attempt, const JoblogEntry* line) const {
  return line && line->job == attempt.job && line->broker == brokers_[attempt.place];
}

ResumePlan::Act ResumePlan::act(uint64_t number) const {
  const Attempt* last = attempt(number);
  if (!last || last->state == State::none) return act_without_ledger(number);
  switch (last->state) {
    case State::none:
    case State::unknown:
      return last->round == round_ ? Act::submit : Act::again;
    case State::rejected:
      return Act::again;
    case State::confirmed:
      break;
  }
  const JoblogEntry* known = line(number);
  if (!ended(*last, known)) return mode_.wait ? Act::follow : Act::skip;
  if (known->failed && mode_.failed_again) return Act::again;
  return mode_.wait && known->without_result ? Act::fetch : Act::skip;
}

// A job that is in the joblog was made, whatever the ledger has lost.
ResumePlan::Act ResumePlan::act_without_ledger(uint64_t number) const {
  const JoblogEntry* known = line(number);
  if (!known || known->job.value == 0) return Act::submit;
  return known->failed && mode_.failed_again ? Act::again : Act::skip;
}

bool ResumePlan::contradicts(uint64_t number, uint64_t hash) const {
  const JoblogEntry* known = line(number);
  return known && known->hash != hash;
}

bool ResumePlan::lacks_line(uint64_t number) const {
  const Attempt* last = attempt(number);
  return last && last->state == State::confirmed && !ended(*last, line(number));
}

bool ResumePlan::lacks_result(uint64_t number) const {
  const JoblogEntry* known = line(number);
  return mode_.wait && known && known->without_result;
}

uint64_t ResumePlan::numbers() const {
  const auto& lines = joblog_.entries;
  return std::max<uint64_t>(attempts_.size(), lines.empty() ? 0 : lines.back().number);
}

Seq ResumePlan::seq(uint64_t number) const {
  return seq_of(attempts_.at(number - 1).round, number);
}

}  // namespace millrace::producer
