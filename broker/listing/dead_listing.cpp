#include "broker/listing/dead_listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>

#include "broker/listing/job_record.h"

namespace millrace::listing {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kJobsPerLook = 32;       // at the clock; each takes 0.1 to 2 us
constexpr size_t kMaxGroupName = 200;  // bytes

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_word(char c) {
  return is_hex(c) || (c >= 'g' && c <= 'z') || (c >= 'G' && c <= 'Z') || c == '_';
}

// How many characters from here on stand for a number: digits, or a word of hexadecimal digits that
// is as long as an ID, with a digit among them. The parts of a UUID or job ID are one word.
size_t number_at(std::string_view text, bool begins_word) {
  constexpr size_t kShortestId = 8;
  size_t digits = 0, hex = 0;
  while (begins_word && hex < text.size() &&
         (is_hex(text[hex]) ||
          (text[hex] == '-' && hex > 0 && hex + 1 < text.size() && is_hex(text[hex + 1]))))
    ++hex;
  const bool ends_word = hex == text.size() || !is_word(text[hex]);
  if (begins_word && ends_word && hex >= kShortestId &&
      std::any_of(text.begin(), text.begin() + long(hex), is_digit))
    return hex;
  while (digits < text.size() && is_digit(text[digits])) ++digits;
  return digits;
}

// The last job of the set that has a lower number.
std::optional<JobId> last_below(const core::IdSet& jobs, uint64_t number) {
  const auto& runs = jobs.ends_by_first();
  const auto next = runs.lower_bound(number);
  if (next == runs.begin()) return std::nullopt;
  return JobId{std::min(std::prev(next)->second, number) - 1};
}

}  // namespace

std::string error_group(std::string_view error) {
  std::string group;
  for (size_t i = 0; i < error.size() && group.size() < kMaxGroupName;) {
    const bool begins_word = i == 0 || !is_word(error[i - 1]);
    if (const size_t number = number_at(error.substr(i), begins_word); number > 0) {
      group += 'N';
      i += number;
    } else {
      group += error[i++];
    }
  }
  return group;
}

DeadListing::DeadListing(const admin::ListDead& asked, const core::Core& core, Now now)
    : matcher_(asked.filter, core, now),
      limit_(asked.limit),
      grouped_(asked.grouped),
      begun_(now),
      below_(core.state().next_job().value) {
  if (!asked.cursor) return;
  if (grouped_) {
    below_ = asked.cursor->second.value;
  } else {
    cursor_ = asked.cursor;
  }
}

bool DeadListing::advance(const core::Core& core, const std::function<Mono()>& clock) {
  for (const Mono end = clock() + JobListing::kSlice;;) {
    if (searched_) {
      write_some(core);
    } else {
      look_at_some(core.state());
    }
    const Mono now = clock();
    if (!searched_ && now >= begun_.mono + kTime) finish_search();
    if (is_over()) return true;
    if (now >= end) return false;
  }
}

void DeadListing::look_at_some(const core::State& state) {
  const std::string& queue = matcher_.filter().queue;
  const auto index = state.find_queue(queue);  // it may have been removed, or made anew
  for (int looks = 0; looks < kJobsPerLook; ++looks) {
    const auto id = last_below(state.dead(), below_);
    if (!id) {
      below_ = 0;
      return finish_search();
    }
    below_ = id->value;
    ++examined_;
    const core::Job& job = *state.find(*id);
    if (!queue.empty() && (!index || job.queue != *index)) continue;
    if (!matcher_.matches(state, *id, job)) continue;
    ++matched_;
    const core::AttemptFailure* failure = state.last_failure_of(*id);
    const Death death{failure ? failure->time : WallMs{}, *id};
    if (grouped_) {
      count(death, failure);
    } else {
      keep(death);
    }
  }
}

void DeadListing::keep(const Death& death) {
  if (cursor_ && death >= *cursor_) return;
  if (newest_.size() == limit_) {
    if (death < newest_.front()) return;
    std::pop_heap(newest_.begin(), newest_.end(), std::greater<>());
    newest_.pop_back();
  }
  newest_.push_back(death);
  std::push_heap(newest_.begin(), newest_.end(), std::greater<>());
}

void DeadListing::count(const Death& death, const core::AttemptFailure* failure) {
  const std::string name = error_group(failure ? failure->error : "");
  auto group = groups_.find(name);
  if (group == groups_.end()) {
    if (groups_.size() == kMaxGroups) {
      ++other_;
      return;
    }
    group = groups_.emplace(name, Group{}).first;
  }
  ++group->second.jobs;
  group->second.newest = std::max(group->second.newest, death);
}

void DeadListing::finish_search() {
  searched_ = true;
  std::sort(newest_.begin(), newest_.end(), std::greater<>());
}

// Those that were retried or dropped since it found them are left out.
void DeadListing::write_some(const core::Core& core) {
  const core::State& state = core.state();
  for (int looks = 0; looks < kJobsPerLook && written_ < newest_.size(); ++looks) {
    const Death& death = newest_[written_++];
    const core::Job* job = state.find(death.second);
    if (!job || job->state != protocol::JobState::dead) continue;
    const core::AttemptFailure* failure = state.last_failure_of(death.second);
    body_ +=
        (body_.empty() ? "" : ",") + dumped({{"id", job_text(state.broker(), death.second)},
                                             {"queue", state.queues()[job->queue].name},
                                             {"attempts", job->attempts},
                                             {"failures", job->failures},
                                             {"crashes", job->crashes},
                                             {"reason", death_reason(core, death.second, *job)},
                                             {"error", failure ? failure->error : ""},
                                             {"worker", failure ? failure->worker : ""},
                                             {"time_ms", to_int(death.first)}});
  }
}

admin::Answer DeadListing::answer(const core::Core& core) const {
  const core::State& state = core.state();
  std::string items = body_, next = "null";
  for (const auto& [error, group] : groups_)
    items += (items.empty() ? "" : ",") +
             dumped({{"error", error},
                     {"jobs", group.jobs},
                     {"newest", job_text(state.broker(), group.newest.second)},
                     {"newest_ms", to_int(group.newest.first)}});
  if (grouped_ && below_ > 0) next = fmt::format("\"0.{}\"", below_);
  if (!grouped_ && newest_.size() == limit_)
    next = fmt::format("\"{}.{}\"", to_int(newest_.back().first), newest_.back().second.value);
  const std::string sums =
      grouped_ ? fmt::format("\"matched\":{},\"other\":{},", matched_, other_) : "";
  return http::ok("application/json",
                  fmt::format("{{\"count\":{},\"{}\":[{}],{}\"examined\":{},\"next\":{},"
                              "\"now_ms\":{}}}\n",
                              state.dead().size(), grouped_ ? "groups" : "dead", items, sums,
                              examined_, next, to_int(begun_.wall)));
}

}  // namespace millrace::listing
