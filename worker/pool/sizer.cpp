#include "worker/pool/sizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace millrace::worker {
namespace {

constexpr double kReserve = 2;  // of the square-root rule: about 2 % of jobs wait
constexpr double kShrinkBelow = 0.75;
constexpr double kShrinkStep = 0.7;
constexpr double kSomeWait = 0.05;  // share of time with a queue that asks for more threads
constexpr double kLevelWeight = 0.25;
constexpr int kFirstSamples = 2, kCarefulSamples = 4;
constexpr int kOtherLoadSamples = 3;
constexpr double kRoom = 2;  // threads for each that could run at a time, where cores are short

}  // namespace

void Sizer::Total::add(const Sample& sample) {
  seconds += sample.seconds;
  ended += sample.ended;
  busy_seconds += sample.busy * sample.seconds;
  if (sample.run <= 0) return;
  timed += sample.ended;
  log_run += sample.ended * std::log(sample.run);
}

Sizer::Output Sizer::Total::output() const {
  return {ended / seconds, timed > 0 ? busy_seconds / seconds / std::exp(log_run / timed) : 0};
}

double Sizer::Output::best_ratio(const Output& to) const {
  const double plain = ended / to.ended;
  return by_run_time > 0 && to.by_run_time > 0 ? std::max(plain, by_run_time / to.by_run_time)
                                               : plain;
}

double Sizer::Output::worst_ratio(const Output& to) const {
  const double plain = ended / to.ended;
  return by_run_time > 0 && to.by_run_time > 0 ? std::min(plain, by_run_time / to.by_run_time)
                                               : plain;
}

Sizer::Sizer(size_t min, size_t max, size_t first)
    : min_(min), max_(max), threads_(std::clamp(first, min, max)) {}

size_t Sizer::next(const Sample& sample) {
  busy_.push_back(sample.busy);
  if (busy_.size() > kWindow) busy_.pop_front();
  room_.push_back(saturated(sample) ? kRoom * sample.busy * (1 - sample.crowd) : 0);
  if (room_.size() > kWindow) room_.pop_front();
  uses_.push_back({sample.used, sample.cpu, sample.busy * (1 - std::min(sample.crowd, 1.0))});
  if (uses_.size() > kUsedWindow) uses_.pop_front();
  bool is_pressed = sample.busy >= kBusy * double(threads_) && sample.waiting >= kWaiting;
  if (settling_) {
    settling_ = false;
    calm_ = 0;
    return threads_;
  }
  size_t before = threads_;
  if (sample.waiting > kSomeWait && used_up(sample)) {
    held_back();
  } else {
    is_pressed ? pressed(sample) : spare(sample);
  }
  calm_ = busy_.size() == kWindow && threads_ == before ? calm_ + 1 : 0;
  return threads_;
}

void Sizer::spare(const Sample& sample) {
  if (resting_ > 0) --resting_;
  level_ = {};
  fresh_ = true;
  bool tried = std::exchange(trying_, false);
  if (tried && sample.crowd >= kCrowded) {  // the load went, it was not the threads
    rest();
    return go_to(before_, "back");
  }
  bool starved = sample.waiting > kSomeWait && sample.crowd < kCrowded;
  if (starved && staffing(sample.busy) > threads_) {
    return go_to(std::min(staffing(sample.busy), clamp(std::ceil(double(threads_) * 2))),
                 "jobs waited");
  }
  if (busy_.size() < kWindow) return;
  size_t wanted = staffing(peak());
  if (double(wanted) > kShrinkBelow * double(threads_)) return;
  step_ = kStep;
  go_to(std::max(wanted, clamp(std::floor(double(threads_) * kShrinkStep))), "threads to spare");
}

void Sizer::pressed(const Sample& sample) {
  if (trying_) return judge(sample);
  if (std::exchange(fresh_, false)) return;
  Total total;
  total.add(sample);
  const Output output = total.output();
  bool changed = load_changed(output.ended);
  auto follow = [changed](double* level, double now) {
    *level = *level == 0 || now == 0 || changed ? now : *level + (now - *level) * kLevelWeight;
  };
  follow(&level_.ended, output.ended);
  follow(&level_.by_run_time, output.by_run_time);
  if (changed) {
    resting_ = 0;
    next_rest_ = kShortRest;
    step_ = kStep;
    direction_ = Direction::up;
  }
  if (resting_ > 0) {
    --resting_;
    return;
  }
  begin_try(sample);
}

// Where the handlers themselves hardly wait for a core, others have saturated the machine, and more
// threads may still pay.
bool Sizer::saturated(const Sample& sample) const {
  return sample.cpu >= kSaturated && sample.crowd >= kCrowded;
}

// A quota lets threads run in bursts, so single samples mislead. On a machine that is saturated
// others compete for the cores, and fewer threads could get less than the quota.
bool Sizer::used_up(const Sample& sample) const {
  const double count = double(uses_.size());
  double used = 0, cpu = 0;
  for (const Use& use : uses_) {
    used += use.used;
    cpu += use.cpu;
  }
  return count >= 2 && used >= kUsedUp * count && cpu < kSaturated * count &&
         sample.crowd >= kCrowded;
}

// Those that have a core or wait for something outside are enough to use it up again.
void Sizer::held_back() {
  begin_again();
  double enough = 0;
  for (const Use& use : uses_) enough = std::max(enough, use.not_held_back);
  enough = std::ceil(enough) + 1;
  const size_t half = std::max((threads_ + 1) / 2, min_);
  if (enough <= double(half)) go_to(half, "CPU time used up");
}

// The next measure is of something else.
void Sizer::begin_again() {
  trying_ = false;
  resting_ = 0;
  next_rest_ = kShortRest;
  step_ = kStep;
  direction_ = Direction::up;
  plateau_ = level_ = {};
  fresh_ = true;
}

// Once is noise.
bool Sizer::load_changed(double throughput) {
  bool other = level_.ended > 0 && std::abs(throughput - level_.ended) > kOtherLoad * level_.ended;
  other_load_ = other ? other_load_ + 1 : 0;
  if (other_load_ < kOtherLoadSamples) return false;
  other_load_ = 0;
  return true;
}

// Where cores are short, fewer threads would leave them to others: the samples of one that computes
// are too noisy to show it at once.
size_t Sizer::least() const {
  return clamp(std::ceil(*std::max_element(room_.begin(), room_.end())));
}

void Sizer::begin_try(const Sample& sample) {
  if (direction_ == Direction::up && threads_ == max_) direction_ = Direction::down;
  if (direction_ == Direction::down && threads_ <= least()) {
    direction_ = Direction::up;
    return rest();
  }
  trying_ = true;
  before_ = threads_;
  total_ = {};
  samples_ = 0;
  bool up = direction_ == Direction::up;
  if (!up && plateau_.ended == 0) plateau_ = level_;
  double step = saturated(sample) ? kSmallStep : step_;
  double target = up ? std::ceil(double(threads_) * step)
                     : std::max(std::floor(double(threads_) / kSmallStep), double(least()));
  go_to(clamp(target), up ? "trying more" : "trying fewer");
}

void Sizer::judge(const Sample& sample) {
  total_.add(sample);
  ++samples_;
  bool up = direction_ == Direction::up, large = threads_ >= 2 * before_;
  bool counts = total_.ended >= kFewEnds;
  bool enough = counts && samples_ >= (large ? kFirstSamples : kCarefulSamples);
  const Output output = total_.output();
  const double ratio = up ? output.best_ratio(level_) : output.worst_ratio(plateau_);
  double added = double(threads_) / double(before_) - 1;
  const double in_proportion = 1 + kInProportion * added;
  bool proportional = up && (large ? counts : enough) && ratio >= in_proportion;
  if (!up && counts && ratio <= in_proportion) return reject();  // each was worth as much
  if (!enough && !proportional && samples_ < kLongestTry) return;
  if (!up && enough && ratio > 1 + kOtherLoad) return begin_again();  // not by having fewer
  bool pays;
  if (proportional) {
    pays = true;
    step_ = large ? kLargeStep : kStep;
  } else if (up) {
    double worth = saturated(sample) ? kWorthItSaturated : kWorthIt;
    pays = enough ? ratio >= 1 + worth * added : sample.cpu < kSaturated;
  } else {
    pays = enough && ratio >= kNothingLost;
  }
  if (!pays) return reject();
  level_ = output;
  accept();
  if (proportional) threads_ < max_ ? begin_try(sample) : rest();
}

void Sizer::accept() {
  trying_ = false;
  if (direction_ == Direction::up) plateau_ = {};
  next_rest_ = kShortRest;
}

void Sizer::reject() {
  trying_ = false;
  bool went_up = direction_ == Direction::up;
  bool was_small = threads_ < 2 * before_;
  go_to(before_, "back");
  if (went_up && !was_small) {
    step_ = step_ > kStep ? kStep : kSmallStep;  // a smaller step may still pay
  } else if (went_up) {
    direction_ = Direction::down;
  } else {
    direction_ = Direction::up;
    rest();
  }
}

void Sizer::rest() {
  plateau_ = {};
  resting_ = next_rest_;
  next_rest_ = std::min(next_rest_ * 2, kLongRest);
}

double Sizer::peak() const {
  return busy_.empty() ? 0 : *std::max_element(busy_.begin(), busy_.end());
}

size_t Sizer::staffing(double busy) const {
  return clamp(std::ceil(busy + kReserve * std::sqrt(busy) + 1));
}

size_t Sizer::clamp(double threads) const {
  return size_t(std::clamp(threads, double(min_), double(max_)));
}

void Sizer::go_to(size_t threads, std::string_view why) {
  if (threads == threads_) return;
  threads_ = threads;
  why_ = why;
  settling_ = true;
}

}  // namespace millrace::worker
