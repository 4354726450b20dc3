// How many threads a pool should have, from what was measured with the number that it has.
// Shape:   Sample of an interval → next() → threads for the next one; docs/POOLS.md tells the rule
//          1. With threads to spare the load decides: Little's law gives the threads in use, the
//             square-root rule the reserve. Up at once, down by the peak of the last samples.
//          2. With all threads busy and jobs waiting, the output decides: another number is tried, and
//             kept only if it pays. There are two measures of it, since a few long jobs change the
//             throughput of an interval by more than another number of threads does.
//          3. After a try that did not pay it rests, each time longer, unless throughput changes.
//          4. The sample after a change says nothing yet: it is skipped. So is the first with jobs
//             waiting, which may have begun before them.
//          5. While the process uses up the CPU time that it may use (its quota) and the machine has
//             more, other threads can bring nothing: none are tried, and those that are held back for
//             CPU time leave.
// Units:   intervals are the caller's, about 200 ms; rates per second; shares 0 to 1
// Limits:  between min and max
// Threads: one; no clock, no randomness
// Source:  J. D. C. Little, "A proof for the queuing formula L = λW", 1961. S. Halfin and W. Whitt,
//          "Heavy-traffic limits for queues with many exponential servers", 1981: the reserve.
//          J. L. Hellerstein, V. Morrison, E. Eilebrecht, "Applying control theory in the real world:
//          experience with building a controller for the .NET thread pool", 2009: hill climbing by
//          throughput. Its rejected part is the steady wave on N that filters noise: two tries in
//          16 s disturb less. Netflix, "Performance under load" (concurrency limits), 2018: a
//          gradient of latency, which can't tell a costlier handler from a crowded machine.
#pragma once

#include <cstddef>
#include <deque>
#include <string_view>

namespace millrace::worker {

// What an interval showed.
struct Sample {
  double seconds = 0;
  double ended = 0;    // jobs
  double busy = 0;     // threads that ran a handler, in the mean
  double waiting = 0;  // share of the time in which jobs waited for a thread
  double cpu = 0;      // share of the machine's CPU time in use, by whomever
  double crowd = 0;    // share of the handlers' time in which they were ready and had no core
  double used = 0;     // share of the CPU time that this process may use, in use by it
  double run = 0;      // seconds that a job ran, the geometric mean; 0: unknown
};

class Sizer {
 public:
  static constexpr double kBusy = 0.7;        // share of threads in use: the others are waking up
  static constexpr double kWaiting = 0.5;     // share of time with a queue: there is one
  static constexpr double kSaturated = 0.95;  // share of the machine's CPU time
  static constexpr double kUsedUp = 0.9;      // share of the CPU time that may be used
  static constexpr size_t kUsedWindow = 5;    // samples: several periods (100 ms) of a quota
  static constexpr double kCrowded = 0.2;     // busy threads are so because they wait for a core
  static constexpr double kWorthIt = 0.25;    // of what equal threads would bring
  static constexpr double kWorthItSaturated = 0.5;
  static constexpr double kInProportion = 0.75;  // so much that the next step may be larger
  static constexpr double kNothingLost = 0.97;
  static constexpr double kOtherLoad = 0.33;  // change of throughput
  static constexpr size_t kWindow = 10;       // samples whose peak holds the pool up
  static constexpr int kShortRest = 10, kLongRest = 80;
  static constexpr double kFewEnds = 20;  // fewer tell nothing of throughput
  static constexpr int kLongestTry = 5;   // samples; then the CPU decides

  static constexpr double kLargeStep = 4, kStep = 2, kSmallStep = 1.25;  // threads, times

  Sizer(size_t min, size_t max, size_t first);

  size_t next(const Sample& sample);
  size_t threads() const { return threads_; }
  std::string_view why() const { return why_; }
  // Without work nothing more would change.
  bool at_rest() const { return calm_ > 0 && peak() == 0; }

 private:
  enum class Direction { up, down };

  struct Use {
    double used = 0, cpu = 0;  // as in Sample
    double not_held_back = 0;  // threads in handlers that had a core or did not ask for one
  };

  // Jobs per second, as they ended, and as busy threads and typical run times have it (Little's
  // law). Where one job in a hundred takes a hundred times as long, the first depends on how many
  // of those run just now; the second tells that the others run no slower beside more threads.
  struct Output {
    double ended = 0;
    double by_run_time = 0;  // 0: unknown
    // To another one, by the measure that shows more, or less.
    double best_ratio(const Output& to) const;
    double worst_ratio(const Output& to) const;
  };
  // Of several samples.
  struct Total {
    double seconds = 0, ended = 0, busy_seconds = 0;
    double timed = 0, log_run = 0;  // ends whose run time is known, and the sum of its logarithms
    void add(const Sample& sample);
    Output output() const;
  };

  void spare(const Sample& sample);
  void pressed(const Sample& sample);
  void begin_try(const Sample& sample);
  size_t least() const;  // to try
  bool saturated(const Sample& sample) const;
  bool used_up(const Sample& sample) const;
  void held_back();
  void begin_again();
  void judge(const Sample& sample);
  void accept();
  void reject();
  void rest();
  bool load_changed(double throughput);
  double peak() const;
  size_t staffing(double busy) const;
  size_t clamp(double threads) const;
  void go_to(size_t threads, std::string_view why);

  size_t min_, max_, threads_;
  std::string_view why_ = "start";
  bool settling_ = false;
  int calm_ = 0;             // samples in a row that changed nothing
  std::deque<double> busy_;  // of the last kWindow samples
  std::deque<double> room_;  // threads that each of them could have used, where cores are short
  std::deque<Use> uses_;     // of the last kUsedWindow samples

  // Of the number in force, while jobs wait
  Output level_;         // 0: not known
  Output plateau_;       // that going down must not lose
  bool fresh_ = true;    // no sample with jobs waiting has been seen yet
  double step_ = kStep;  // upwards
  Direction direction_ = Direction::up;
  int resting_ = 0;
  int next_rest_ = kShortRest;
  int other_load_ = 0;  // samples in a row with another throughput

  // Of a try
  bool trying_ = false;
  size_t before_ = 0;
  Total total_;
  int samples_ = 0;
};

}  // namespace millrace::worker
