#include "producer/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/progress.h"

namespace millrace::producer {
namespace {

using Json = nlohmann::ordered_json;

double to_ms(uint64_t us) { return double(us) / 1000; }

Json percentiles(const Histogram& us) {
  return {{"p50", to_ms(us.quantile(0.5))},
          {"p90", to_ms(us.quantile(0.9))},
          {"p99", to_ms(us.quantile(0.99))},
          {"p999", to_ms(us.quantile(0.999))},
          {"max", to_ms(us.max())}};
}

void print_percentiles(std::string_view name, const Histogram& us) {
  if (us.count() == 0) return;
  fmt::print("{:<12}p50 {:.2f}  p90 {:.2f}  p99 {:.2f}  p99.9 {:.2f}  max {:.2f} ms\n", name,
             to_ms(us.quantile(0.5)), to_ms(us.quantile(0.9)), to_ms(us.quantile(0.99)),
             to_ms(us.quantile(0.999)), to_ms(us.max()));
}

}  // namespace

void LoadReport::confirmed(const Confirmed& event) {
  confirmed_ += event.seqs.count;
  if (event.known) known_ += event.seqs.count;
  if (event.durability == "buffered") buffered_ += event.seqs.count;
  record(confirm_us_, event.seqs);
  if (!jobs_.empty() && jobs_.back().first.value + jobs_.back().count == event.first_job.value) {
    jobs_.back().count += event.seqs.count;
  } else {
    jobs_.push_back({event.first_job, event.seqs.count});
  }
}

void LoadReport::ended(const Ended& event) {
  using protocol::JobState;
  record(latency_us_, event.seqs);
  if (event.state == JobState::dead) dead_ += event.seqs.count;
  if (event.state == JobState::cancelled || event.state == JobState::expired)
    dropped_ += event.seqs.count;
  if (event.state == JobState::unknown) unknown_to_broker_ += event.seqs.count;
  if (event.state != JobState::done) return;
  completed_ += event.seqs.count;
  if (compare_ && event.attempts > 0 && compare_->of(event.seqs.first) != event.result)
    ++mismatched_;
}

void LoadReport::told(protocol::JobRange jobs, protocol::JobState state) {
  using protocol::JobState;
  if (state == JobState::done) {
    told_done_ += jobs.count;
  } else if (state == JobState::dead) {
    told_dead_ += jobs.count;
  } else if (protocol::is_end(state)) {
    told_dropped_ += jobs.count;
  } else {
    (state == JobState::unknown ? told_missing_ : told_live_) += jobs.count;
  }
}

void LoadReport::record(Histogram& histogram, SeqRange seqs) {
  Mono now = clock_();
  schedule_.for_each(seqs.first, seqs.count, [&](Mono intended, uint64_t count) {
    auto late = std::chrono::duration_cast<std::chrono::microseconds>(now - intended).count();
    histogram.record(uint64_t(std::max<int64_t>(late, 0)), count);
  });
}

// Jobs that the verification found missing may be among those that ended.
uint64_t LoadReport::lost() const { return std::max(unknown_to_broker_, told_missing_); }

bool LoadReport::balanced() const {
  if (totals_.sent != confirmed_ + rejected_ + totals_.unknown) return false;
  if (totals_.waited && confirmed_ != completed_ + dead_ + dropped_ + lost() + totals_.awaited)
    return false;
  if (!verified_) return true;
  if (told_done_ + told_dead_ + told_dropped_ + told_live_ + told_missing_ != confirmed_)
    return false;
  return !totals_.waited ||
         (told_done_ == completed_ && told_dead_ == dead_ && told_dropped_ == dropped_);
}

bool LoadReport::good() const {
  return lost() == 0 && dead_ + dropped_ == 0 && told_dead_ == 0 && duplicates_ == 0 &&
         mismatched_ == 0 && rejected_ == 0 && totals_.unknown == 0 && totals_.awaited == 0 &&
         balanced();
}

void LoadReport::print_json() const {
  uint64_t passed = totals_.waited ? completed_ : confirmed_;
  Json json{{"sent", totals_.sent},
            {"confirmed", confirmed_},
            {"rejected", rejected_},
            {"unknown", totals_.unknown},
            {"completed", completed_},
            {"awaited", totals_.awaited},
            {"failed", dead_ + dropped_},
            {"dead", dead_},
            {"lost", lost()},
            {"duplicates", duplicates_},
            {"seconds", totals_.seconds},
            {"rate", totals_.seconds > 0 ? double(passed) / totals_.seconds : 0.0},
            {"confirm_ms", percentiles(confirm_us_)},
            {"latency_ms", percentiles(latency_us_)},
            {"submit_seconds", totals_.submit_seconds},
            {"resent_known", known_},
            {"buffered", buffered_},
            {"balanced", balanced()}};
  if (compare_) json["mismatched"] = mismatched_;
  if (verified_) {
    json["verified"] = {{"done", told_done_},
                        {"dead", told_dead_},
                        {"live", told_live_},
                        {"missing", told_missing_}};
  }
  fmt::print("{}\n", json.dump());
}

void LoadReport::print_text() const {
  auto row = [](std::string_view name, uint64_t count) {
    fmt::print("{:<12}{:>12}\n", name, with_thousands(count));
  };
  row("sent", totals_.sent);
  row("confirmed", confirmed_);
  if (buffered_) row(" buffered", buffered_);
  row("rejected", rejected_);
  row("unknown", totals_.unknown);
  if (totals_.waited) {
    row("completed", completed_);
    row("dead", dead_);
    if (totals_.awaited) row("no end yet", totals_.awaited);
  }
  row("lost", lost());
  row("duplicates", duplicates_);
  if (compare_) row("mismatched", mismatched_);
  if (verified_) {
    fmt::print("{:<12}{} done, {} dead, {} live, {} missing\n", "verified",
               with_thousands(told_done_), with_thousands(told_dead_), with_thousands(told_live_),
               with_thousands(told_missing_));
  }
  uint64_t passed = totals_.waited ? completed_ : confirmed_;
  fmt::print("{:<12}{:.2f} s, {} a second\n", "time", totals_.seconds,
             with_thousands(uint64_t(totals_.seconds > 0 ? double(passed) / totals_.seconds : 0)));
  print_percentiles("confirm", confirm_us_);
  print_percentiles("latency", latency_us_);
  if (!balanced()) fmt::print("The books do NOT balance.\n");
}

}  // namespace millrace::producer
