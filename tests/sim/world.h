// Time, events and their record: everything in a simulated run happens as an event of this queue.
// Shape:   at(time, action) → run(): actions in the order of (time, sequence), each told nothing but
//          now(). Whatever a run does is mixed into trace_hash(); a seed that gives another hash
//          is a bug of the simulator.
//          A violated invariant is thrown as a Violation and ends the run.
// Units:   Nanos of true time since the run's beginning; no process of the run can see it
// Limits:  kLinesKept lines of transcript; kMaxEvents a run, then it counts as one that never ends
// Threads: one
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "tests/sim/coverage.h"

namespace millrace::sim {

using Nanos = int64_t;
inline constexpr Nanos kMicro = 1000, kMilli = 1'000'000, kSecond = 1'000'000'000;

struct Violation {
  std::string invariant;  // its name: shrinking looks for the same one
  std::string what;
  uint64_t job = 0;  // the transcript is about it, if it is not 0
  std::string peer;  // and about this process, if it is not empty
};

class World {
 public:
  static constexpr size_t kLinesKept = 200'000;
  static constexpr uint64_t kMaxEvents = 20'000'000;

  explicit World(bool tracing) : tracing_(tracing) {}

  Nanos now() const { return now_; }
  uint64_t events() const { return events_; }
  void at(Nanos when, std::function<void()> action);
  void after(Nanos wait, std::function<void()> action) { at(now_ + wait, std::move(action)); }
  // Runs the next event; false when it would be later than `until`.
  bool step(Nanos until);

  bool tracing() const { return tracing_; }
  // A line of the transcript; `text` is asked only when somebody will read it.
  template <typename Text>
  void note(std::string_view who, Text&& text) {
    if (tracing_) keep({now_, std::string(who), text()});
  }
  void mix(uint64_t value) {
    hash_ = (hash_ ^ value) * 0x9FB21C651E98DF25ull, hash_ ^= hash_ >> 29;
  }
  void mix(std::string_view bytes);
  uint64_t trace_hash() const { return hash_; }

  void count(std::string_view group, std::string_view name, uint64_t times = 1) {
    coverage_.count(group, name, times);
  }
  Coverage& coverage() { return coverage_; }
  const Coverage& coverage() const { return coverage_; }

  struct Line {
    Nanos at;
    std::string who;
    std::string text;
  };
  const std::deque<Line>& lines() const { return lines_; }

  [[noreturn]] static void fail(Violation violation) { throw violation; }

 private:
  struct Event {
    Nanos at;
    uint64_t sequence;
    std::function<void()> action;
  };
  static bool later(const Event& a, const Event& b) {
    return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
  }
  void keep(Line line);

  const bool tracing_;
  Nanos now_ = 0;
  uint64_t events_ = 0;
  uint64_t sequence_ = 0;
  uint64_t hash_ = 0x6A09E667F3BCC908ull;
  std::vector<Event> queue_;  // a heap
  std::deque<Line> lines_;
  Coverage coverage_;
};

std::string describe(const World::Line& line);
// The last `most` lines that are about the violation's job and peer; faults and restarts always
// are.
std::string transcript(const World& world, const Violation& violation, size_t most);

}  // namespace millrace::sim
