// The shape of a load: rates over time, shares of several producers, sizes, queues; its rows and
// its picture.
#include <cmath>
#include <map>

#include "producer/load/mix.h"
#include "producer/load/payload.h"
#include "producer/load/plot.h"
#include "producer/load/report.h"
#include "producer/load/schedule.h"
#include "producer/load/series.h"
#include "producer/load/summary.h"
#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

const Mono kStart = Mono() + std::chrono::hours(1);
using Seconds = std::chrono::duration<double>;

Mono at(double seconds) {
  return kStart + std::chrono::duration_cast<Mono::duration>(Seconds(seconds));
}
double seconds(Mono moment) { return Seconds(moment - kStart).count(); }

Rate rate(std::string_view text) {
  auto parsed = Rate::parse(text);
  REQUIRE(parsed);
  return *parsed;
}

Schedule::Plan plan(std::string_view text, Millis duration = Millis(0)) {
  Schedule::Plan plan;
  plan.rate = rate(text);
  if (duration > Millis(0)) plan.duration = duration;
  return plan;
}

template <typename T>
std::string refusal(Result<T> result) {
  REQUIRE_FALSE(result);
  CHECK(result.error().code == ExitCode::usage);
  return result.error().message;
}

}  // namespace

TEST_CASE("a rate is a number, a ramp or steps", "[load]") {
  CHECK(rate("max").max());
  CHECK(rate("5000").steps.front().to == 5000);
  CHECK_FALSE(rate("5000").timed());
  CHECK(rate("0..500").ramps());
  Rate steps = rate("1000:10s,1000..5000:500ms,0:1m");
  REQUIRE(steps.steps.size() == 3);
  CHECK(steps.steps[1].from == 1000);
  CHECK(steps.steps[1].to == 5000);
  CHECK(steps.steps[1].duration == Millis(500));
  CHECK(steps.timed());
  for (std::string_view bad : {"", "fast", "0", "0..0", "-1", "10,20:1s", "10:1s,20", "10:", "10:5",
                               "10:0s", "1..2..3", "10:1s,", "max:1s", "200000000", "0:5s"}) {
    INFO(bad);
    CHECK(refusal(Rate::parse(bad)).find("steps") != std::string::npos);
  }
}

TEST_CASE("a ramp sends ever faster, and as many as its area", "[load]") {
  Schedule ramp(plan("0..1000", Millis(10'000)), kStart);
  CHECK(ramp.total() == 5000u);
  // n(t) = 50 t²
  CHECK(ramp.due(at(2) - Millis(1)) == 200);
  CHECK(ramp.due(at(2)) == 201);
  CHECK(seconds(ramp.due_at(200)) == Approx(2));
  CHECK(seconds(ramp.due_at(4999)) == Approx(std::sqrt(4999.0 / 50)));
  CHECK(ramp.due(at(100)) == 5000);
  Schedule down(plan("1000..0", Millis(10'000)), kStart);
  CHECK(down.total() == 5000u);
  CHECK(down.due(at(5)) == 3751);
  CHECK(seconds(down.due_at(4999)) < 10);
}

TEST_CASE("steps follow each other without a gap", "[load]") {
  Schedule steps(plan("100:2s,0:1s,100..300:1s,50:2s"), kStart);
  CHECK(steps.total() == 200u + 0 + 200 + 100);
  CHECK(seconds(steps.due_at(199)) == Approx(1.99));
  CHECK(seconds(steps.due_at(200)) == Approx(3));
  CHECK(seconds(steps.due_at(400)) == Approx(4));
  CHECK(seconds(steps.due_at(450)) == Approx(5));
  CHECK(steps.due(at(2.5)) == 201);
  for (uint64_t number = 0; number < 500; ++number) {
    INFO(number);
    const Mono due = steps.due_at(number);
    CHECK(steps.due(due + std::chrono::microseconds(1)) >= number + 1);
    if (number > 0) CHECK(due >= steps.due_at(number - 1));
  }
}

TEST_CASE("several producers together keep the plan", "[load]") {
  Schedule::Plan whole = plan("1000:1s,1000..3000:1s");
  whole.count = 2501;
  Schedule alone(whole, kStart);
  constexpr uint64_t kProducers = 3;
  std::vector<Mono> together;
  uint64_t total = 0;
  for (uint64_t i = 0; i < kProducers; ++i) {
    Schedule share(whole, kStart, {i, kProducers});
    total += *share.total();
    for (uint64_t n = 0; n < *share.total(); ++n) together.push_back(share.due_at(n));
    CHECK(share.due_at(*share.total()) == Mono::max());
    CHECK(share.due(at(100)) == *share.total());
    uint64_t due = 0;
    for (double t : {0.0, 0.5, 1.7}) {
      due = share.due(at(t));
      if (due > 0) CHECK(share.due_at(due - 1) <= at(t) + std::chrono::microseconds(1));
      CHECK(share.due_at(due) > at(t) - std::chrono::microseconds(1));
    }
  }
  CHECK(total == 2501);
  std::sort(together.begin(), together.end());
  for (uint64_t n = 0; n < 2501; ++n) CHECK(together[n] == alone.due_at(n));
}

TEST_CASE("as fast as possible, the count is shared too", "[load]") {
  Schedule::Plan most = plan("max");
  most.count = 10;
  CHECK(Schedule(most, kStart, {0, 3}).total() == 4u);
  CHECK(Schedule(most, kStart, {1, 3}).total() == 3u);
  CHECK(Schedule(most, kStart, {2, 3}).total() == 3u);
  most.count = 1;
  CHECK(Schedule(most, kStart, {2, 3}).total() == 0u);
}

TEST_CASE("the warm-up comes before the duration, at the first rate", "[load]") {
  Schedule::Plan warm = plan("100..200", Millis(2000));
  warm.warm_up = Millis(3000);
  Schedule schedule(warm, kStart);
  CHECK(schedule.total() == 300u + 300);
  CHECK(schedule.measured_from() == at(3));
  CHECK(seconds(schedule.due_at(150)) == Approx(1.5));
  CHECK(seconds(schedule.due_at(300)) == Approx(3));
  Schedule::Plan most = plan("max", Millis(1000));
  most.warm_up = Millis(500);
  Schedule fast(most, kStart);
  CHECK_FALSE(fast.over(at(1.4), 0));
  CHECK(fast.over(at(1.5), 0));
}

TEST_CASE("what is late counts from when it was meant to be sent: nothing is omitted", "[load]") {
  Schedule schedule(plan("1000", Millis(2000)), kStart);
  Mono now = kStart;
  LoadReport report(
      schedule, [&] { return now; }, nullptr);
  // The broker stands still for a second; the producer could send nothing, and catches up at once.
  now = at(1);
  report.confirmed({{{1}, 1001}, {7}, {1}, false, "confirmed"});
  const Histogram& us = report.counts().confirm_us;
  CHECK(us.count() == 1001);
  CHECK(us.max() == 1'000'000);
  CHECK(double(us.quantile(0.5)) == Approx(500'000).epsilon(0.01));
  CHECK(double(us.quantile(0.99)) == Approx(990'000).epsilon(0.01));
}

TEST_CASE("the warm-up is in the totals and the rows, not in the figures", "[load]") {
  Schedule::Plan warm = plan("100", Millis(1000));
  warm.warm_up = Millis(1000);
  Schedule schedule(warm, kStart);
  Mono now = at(2);
  LoadReport report(
      schedule, [&] { return now; }, nullptr);
  report.confirmed({{{1}, 200}, {7}, {1}, false, "confirmed"});
  report.ended({{{1}, 200}, {7}, {1}, protocol::JobState::done, 1, false, "", ""});
  report.finish({200, 0, 0, true});
  const LoadCounts& counts = report.counts();
  CHECK(counts.good());
  CHECK(counts.confirmed == 200);
  CHECK(counts.measured_completed == 100);
  CHECK(counts.confirm_us.count() == 100);
  CHECK(counts.latency_us.max() == 1'000'000);
  LoadInterval row = report.meter().take();
  CHECK(row.completed == 200);
  CHECK(row.latency_us.count() == 200);
  CHECK(row.latency_us.max() == 2'000'000);
  CHECK(report.meter().take().completed == 0);
  LoadSummary summary;
  summary.counts = counts;
  summary.seconds = 2;
  CHECK(summary.rate() == 50);
}

TEST_CASE("counts of several producers add up, and one's hole is all's", "[load]") {
  LoadCounts one, two, all;
  one.sent = one.confirmed = 10;
  one.confirm_us.record(5, 10);
  two.sent = two.rejected = 4;
  two.confirm_us.record(7, 1);
  all.add(one);
  all.add(two);
  CHECK(all.sent == 14);
  CHECK(all.confirm_us.count() == 11);
  CHECK(all.confirm_us.max() == 7);
  CHECK(all.balanced());
  // What one has too little another has too much: the sums agree, the totals don't reconcile.
  LoadCounts hole, excess;
  hole.sent = 1;
  excess.confirmed = 1;
  all.add(hole);
  all.add(excess);
  CHECK(all.sent == all.confirmed + all.rejected);
  CHECK_FALSE(all.balanced());
}

TEST_CASE("sizes have their parts of a hundred", "[load]") {
  auto count = [](std::string_view text) {
    auto mix = SizeMix::parse(text);
    REQUIRE(mix);
    std::map<size_t, int> sizes;
    LoadPayload payload(99, *mix);
    for (uint64_t seq = 1; seq <= 20'000; ++seq) ++sizes[payload.of({seq}).size()];
    return sizes;
  };
  CHECK(count("256") == std::map<size_t, int>{{256, 20'000}});
  for (std::string_view text :
       {"64:90%,10KiB:10%", "64,10%:10KiB", "10%:10KiB,64", "90%:64,10240"}) {
    INFO(text);
    auto sizes = count(text);
    REQUIRE(sizes.size() == 2);
    CHECK(sizes[64] == Approx(18'000).epsilon(0.02));
    CHECK(sizes[10'240] == Approx(2'000).epsilon(0.1));
  }
  auto even = count("100..109");
  REQUIRE(even.size() == 10);
  CHECK(even.begin()->first == 100);
  for (auto [size, times] : even) CHECK(times == Approx(2'000).epsilon(0.15));
  auto both = count("0..1:50%,5:50%");
  CHECK(both[0] + both[1] == Approx(10'000).epsilon(0.05));
  CHECK(both[5] == Approx(10'000).epsilon(0.05));
}

TEST_CASE("what is no distribution of sizes is said so", "[load]") {
  for (std::string_view bad :
       {"", "x", "64:90%", "64:50%,10:60%", "64,10", "64:90%,10KiB", "10..5", "64:0%,1", "64:x%,1",
        "64:1:2", "1GiB", "64:10%:1", "64:1.5%,1", "..", "64:90"}) {
    INFO(bad);
    if (std::string_view(bad) == "64:90%,10KiB") {
      CHECK(SizeMix::parse(bad));  // the other takes the rest
    } else {
      CHECK(refusal(SizeMix::parse(bad)).find("64:90%,10KiB:10%") != std::string::npos);
    }
  }
}

TEST_CASE("payloads of all sizes can be made again", "[load]") {
  auto mix = SizeMix::parse("0..100:50%,1KiB..4KiB:50%");
  REQUIRE(mix);
  LoadPayload payload(5, *mix), again(5, *mix), other(6, *mix);
  int alike = 0;
  for (uint64_t seq = 1000; seq > 0; --seq) {
    CHECK(payload.of({seq}) == again.of({seq}));
    alike += payload.of({seq}).size() == other.of({seq}).size();
  }
  CHECK(alike < 100);
}

TEST_CASE("queues have their weights at every moment", "[load]") {
  auto mix = QueueMix::parse("a=3,b=1,c=1");
  REQUIRE(mix);
  std::map<std::string, uint64_t> sent;
  uint64_t all = 0;
  for (uint64_t burst : {1, 1, 1, 2, 7, 1000, 1, 3, 4095, 1, 0, 13}) {
    uint64_t here = 0;
    mix->divide(burst, [&](const std::string& queue, uint64_t count) {
      sent[queue] += count;
      here += count;
    });
    CHECK(here == burst);
    all += burst;
    CHECK(std::abs(double(sent["a"]) - double(all) * 0.6) <= 1);
    CHECK(std::abs(double(sent["b"]) - double(all) * 0.2) <= 1);
    CHECK(std::abs(double(sent["c"]) - double(all) * 0.2) <= 1);
  }
  CHECK(mix->parts()[0].sent == sent["a"]);
  for (std::string_view bad :
       {"", "a", "a=0", "a=x", "a=1,a=2", "a b=1", "a=1,", "=1", "a=1000001"}) {
    INFO(bad);
    CHECK(refusal(QueueMix::parse(bad)).find("mail=3") != std::string::npos);
  }
}

TEST_CASE("a row says what happened in its second, and how much is waiting", "[load]") {
  TempDirectory dir;
  auto series = LoadSeries::open(dir.file("csv"), true);
  REQUIRE(series);
  LoadInterval first;
  first.sent = 100;
  first.confirmed = 90;
  first.completed = 20;
  first.failed = 1;
  first.confirm_us.record(1500, 90);
  REQUIRE(series->add(1.0, first));
  LoadInterval second;
  second.completed = 69;
  second.latency_us.record(250'000, 68);
  second.latency_us.record(500'000, 1);
  REQUIRE(series->add(2.004, second));
  CHECK(TempDirectory::content_of(dir.file("csv")) == std::string(kLoadCsvHeader) +
                                                          "1.000,100,90,0,20,1,1.500,1.500,,,69\n"
                                                          "2.004,0,0,0,69,0,,,250.879,500.000,0\n");
  auto nobody_waits = LoadSeries::open("", false);
  REQUIRE(nobody_waits);
  REQUIRE(nobody_waits->add(1, first));
  CHECK(csv_line(nobody_waits->rows().front()).ends_with(",,,\n"));
  auto nowhere = LoadSeries::open("/nowhere/csv", true);
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().code == ExitCode::cant_create);
}

TEST_CASE("a picture needs gnuplot and a name that says its form", "[load]") {
  CHECK(refusal(check_plot("load.pdf")).find(".svg") != std::string::npos);
  auto nowhere = check_plot("/nowhere/load.svg");
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().code == ExitCode::cant_create);
  const std::string path = getenv("PATH");
  setenv("PATH", "/nowhere:", 1);
  auto missing = check_plot("load.svg");
  setenv("PATH", path.c_str(), 1);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ExitCode::unavailable);
  CHECK(missing.error().message.find("gnuplot-nox") != std::string::npos);
}

TEST_CASE("a picture leaves out what was not seen", "[load]") {
  LoadRow row;
  row.time_s = 1;
  row.sent = row.confirmed = 100;
  row.confirm = LoadRow::Quantiles{1, 2};
  std::string script = plot_script("it's.svg", "title", {row});
  CHECK(script.find("set output 'it''s.svg'") != std::string::npos);
  CHECK(script.find("terminal svg") != std::string::npos);
  CHECK(script.find("confirm p99") != std::string::npos);
  CHECK(script.find("end p99") == std::string::npos);
  CHECK(script.find("queue depth is not known") != std::string::npos);
  CHECK(script.find("0.5 100 100 0 1 2 NaN NaN NaN") != std::string::npos);
  row.latency = row.confirm;
  row.queue_depth = 7;
  script = plot_script("it.png", "title", {row});
  CHECK(script.find("pngcairo") != std::string::npos);
  CHECK(script.find("end p99") != std::string::npos);
  CHECK(script.find("queue depth is not known") == std::string::npos);
}
