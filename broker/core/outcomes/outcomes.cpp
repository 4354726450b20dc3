#include "broker/core/outcomes/outcomes.h"

#include <algorithm>

namespace millrace::core {

void Outcomes::report(JobId id, const Job& job, JobState state, std::string_view result,
                      std::string_view error) {
  if (job.report == Report::none) return;
  protocol::Outcome::Entry entry{{id, 1}, state, job.attempts};
  entry.has_result = job.report == Report::result && state == JobState::done;
  entry.has_error = state == JobState::dead;
  if (entry.has_result) entry.result = result;
  if (entry.has_error) entry.error = error;
  add(reports_[job.producer], entry, texts_);
}

void Outcomes::add(protocol::Outcome& to, protocol::Outcome::Entry entry,
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

void Outcomes::flush(Output& out) {
  if (reports_.empty()) return;
  std::vector<ProducerIndex> order;
  for (const auto& [index, outcome] : reports_) order.push_back(index);
  std::sort(order.begin(), order.end());
  for (ProducerIndex index : order) {
    const Uuid* id = context_.state.producers().id_of(index);
    Session* session = id ? sessions_.of_peer(*id) : nullptr;
    if (session) send(*session, reports_[index], out);  // else it asks when it comes back
  }
  reports_.clear();
  out.texts.splice(out.texts.end(), texts_);
}

void Outcomes::send(Session& session, const protocol::Outcome& outcomes, Output& out) {
  protocol::Outcome part;
  size_t bytes = 0;
  for (const auto& entry : outcomes.entries) {
    if (bytes > protocol::kTargetFrame) {
      sessions_.send(session, std::exchange(part, {}), out);
      bytes = 0;
    }
    bytes += kOutcomeEntryBytes + entry.result.size() + entry.error.size();
    part.entries.push_back(entry);
  }
  if (!part.entries.empty()) sessions_.send(session, std::move(part), out);
}

Held Outcomes::held() const {
  uint64_t bytes = hash_map_bytes(reports_);
  for (const auto& [producer, outcome] : reports_)
    bytes += outcome.entries.capacity() * sizeof(outcome.entries[0]);
  for (const std::string& text : texts_)
    bytes += allocation_bytes(16 + sizeof(text)) + string_bytes(text);
  return {"reports", reports_.size(), bytes};
}

}  // namespace millrace::core
