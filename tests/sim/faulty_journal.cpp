#include "tests/sim/faulty_journal.h"

namespace millrace::sim {

uint64_t FaultyJournal::append(journal::Chunk chunk, bool new_segment) {
  uncommitted_.push_back(chunk.bytes());
  uncommitted_bytes_ += chunk.bytes();
  appended_ = journal_.append(std::move(chunk), new_segment);
  if (stage_.mutated(Mutation::confirm_before_sync)) wake_();
  return appended_;
}

std::vector<journal::Committed> FaultyJournal::take_committed() {
  auto commits = journal_.take_committed();
  if (commits.empty() && !stage_.mutated(Mutation::confirm_before_sync)) return commits;
  stage_.model.update();
  std::erase_if(commits, [&](const journal::Committed& commit) {
    segment_ = commit.place.segment;
    return commit.ticket <= reported_;
  });
  if (!commits.empty()) reported_ = commits.back().ticket;
  if (stage_.mutated(Mutation::retire_early) && segment_.value > 1)
    journal_.retire({segment_.value - 1});
  if (stage_.mutated(Mutation::confirm_before_sync))
    while (reported_ < appended_) commits.push_back({++reported_, {segment_, journal::kBlock}});
  for (; uncommitted_.size() > appended_ - reported_; uncommitted_.pop_front())
    uncommitted_bytes_ -= uncommitted_.front();
  return commits;
}

std::vector<journal::ReadAnswer> FaultyJournal::take_read() {
  auto answers = journal_.take_read();
  if (stage_.mutated(Mutation::lose_reads) && random_.chance(200)) answers.clear();
  if (stage_.mutated(Mutation::wrong_payload))
    for (journal::ReadAnswer& answer : answers)
      if (answer.body && !answer.body->bytes.empty()) answer.body->bytes.remove_prefix(1);
  return answers;
}

}  // namespace millrace::sim
