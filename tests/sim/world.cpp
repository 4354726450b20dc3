#include "tests/sim/world.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cctype>

namespace millrace::sim {

void World::at(Nanos when, std::function<void()> action) {
  queue_.push_back({std::max(when, now_), ++sequence_, std::move(action)});
  std::push_heap(queue_.begin(), queue_.end(), later);
}

bool World::step(Nanos until) {
  if (queue_.empty() || queue_.front().at > until) {
    now_ = std::max(now_, until);
    return false;
  }
  std::pop_heap(queue_.begin(), queue_.end(), later);
  Event event = std::move(queue_.back());
  queue_.pop_back();
  now_ = event.at;
  if (++events_ > kMaxEvents)
    fail({"the run ends", "more events than a run should have: something spins"});
  mix(uint64_t(event.at));
  event.action();
  return true;
}

void World::mix(std::string_view bytes) { mix(XXH3_64bits(bytes.data(), bytes.size())); }

void World::keep(Line line) {
  lines_.push_back(std::move(line));
  if (lines_.size() > kLinesKept) lines_.pop_front();
}

namespace {

// Whether a job j3, a range j3-9 or a lease j5/2.1 in the text names the job.
bool names_job(const std::string& text, uint64_t job) {
  size_t at = 0;
  auto number = [&](uint64_t* value) {
    if (at >= text.size() || !std::isdigit(uint8_t(text[at]))) return false;
    for (*value = 0; at < text.size() && std::isdigit(uint8_t(text[at])); ++at)
      *value = *value * 10 + uint64_t(text[at] - '0');
    return true;
  };
  while (at < text.size()) {
    bool begins = at > 0 && text[at - 1] == 'j';
    uint64_t first = 0, last = 0;
    if (!begins || !number(&first)) {
      ++at;
      continue;
    }
    last = first;
    if (at + 1 < text.size() && text[at] == '-') ++at, number(&last);
    if (first <= job && job <= last) return true;
  }
  return false;
}

bool is_about(const World::Line& line, const Violation& violation) {
  if (line.who == "fault" || line.who == "run") return true;
  if (violation.job == 0 && violation.peer.empty()) return true;
  if (violation.job != 0 && names_job(line.text, violation.job)) return true;
  return !violation.peer.empty() && line.who == violation.peer &&
         line.text.find("HEARTBEAT") == std::string::npos;
}

}  // namespace

std::string describe(const World::Line& line) {
  return fmt::format("{:12.6f}  {:<8} {}\n", double(line.at) / 1e9, line.who, line.text);
}

std::string transcript(const World& world, const Violation& violation, size_t most) {
  std::vector<const World::Line*> chosen;
  for (auto line = world.lines().rbegin(); line != world.lines().rend() && chosen.size() < most;
       ++line)
    if (is_about(*line, violation)) chosen.push_back(&*line);
  std::string out;
  for (auto line = chosen.rbegin(); line != chosen.rend(); ++line) out += describe(**line);
  return out;
}

}  // namespace millrace::sim
