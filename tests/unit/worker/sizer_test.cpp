// The rule of the pool that sizes itself, against models of handlers and loads.
#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/catch.h"
#include "worker/pool/sizer.h"

using namespace millrace::worker;

namespace {

constexpr double kStep = 0.2;    // seconds of a sample
constexpr int kTenSeconds = 50;  // in samples
constexpr int kThreeSeconds = 15;
constexpr double kCores = 2;
constexpr double kAlways = 1e9;  // jobs a second: more than anyone can run

// Threads, cores, a queue, and a handler that waits, computes, or shares a lock with itself.
struct Model {
  double offered = 0;      // jobs/s
  double wait = 0;         // s a job, for something outside
  double cpu = 0;          // s a job
  double lock_rate = 1e9;  // jobs/s that something shared allows
  double others = 0;       // cores that other programs use
  double crowding = 0;     // what each thread beyond the cores costs of the throughput
  double noise = 0.04;
  double quota = 0;  // cores; 0: none
  uint64_t seed = 12345;

  double capacity(double threads) const {
    double by_threads = threads / (wait + cpu);
    double by_cores = cpu > 0 ? (quota > 0 ? quota : kCores - others) / cpu : 1e12;
    double lost = 1 + crowding * std::max(0.0, threads - kCores);
    return std::min({by_threads, by_cores, lock_rate}) / lost;
  }

  Sample step(size_t threads) {
    if (quota > 0) return step_in_bursts(double(threads));
    double able = capacity(double(threads)) * kStep * (1 + noise * random());
    double wanted = backlog + std::min(offered * kStep, 1e7);
    double ended = std::min(able, wanted);
    backlog = std::min(wanted - ended, 5000.0);  // what a worker is given ahead
    bool full = wanted > able;
    double busy = full ? double(threads) : ended / kStep * (wait + cpu);
    double use = busy / double(threads);
    double cpu_share = std::min(1.0, (ended / kStep * cpu + others) / kCores);
    double crowd = full ? 1 - ended / kStep * (wait + cpu) / busy
                        : cpu / (wait + cpu) * std::pow(cpu_share, 4);
    double run = ended > 0 ? busy * kStep / ended : 0;
    return {kStep, ended, busy, full ? 1.0 : std::max(0.0, 2 * use - 1), cpu_share, crowd, 0, run};
  }

  // With a queue that never ends. The quota is used up in the first half of each period of 100 ms,
  // and the one who measures is held up too.
  Sample step_in_bursts(double threads) {
    auto bursts = [](double t) {
      return std::floor(t * 10) / 20 + std::min(t - std::floor(t * 10) / 10, 0.05);
    };
    double seconds = kStep * (1 + 0.2 * std::abs(random())), rate = capacity(threads);
    bool is_bound = rate * cpu > 0.99 * quota;
    double ran = is_bound ? 2 * (bursts(time + seconds) - bursts(time)) : seconds;
    time += seconds;
    double on_core = rate * cpu, outside = rate * wait;
    double held_up = threads - on_core - outside;
    double between =
        is_bound ? 0.3 * (1 + random()) * cpu / (cpu + wait) : 0;  // held up there, too
    double busy = threads * (1 - between);
    return {seconds,
            rate * ran,
            busy,
            0.7 + 0.3 * random(),
            on_core / kCores,
            held_up / busy,
            on_core * ran / seconds / quota,
            busy * seconds / (rate * ran)};
  }

  double random() {  // -1 to 1
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return double(int64_t(seed)) / 9.3e18;
  }

  double backlog = 0, time = 0;
};

struct Run {
  std::vector<size_t> sizes;
  std::vector<double> rates;

  double rate(size_t from, size_t to) const {
    double sum = 0;
    for (size_t i = from; i < to; ++i) sum += rates[i];
    return sum / double(to - from);
  }
  int turns() const {
    int turns = 0, last = 0;
    for (size_t i = 1; i < sizes.size(); ++i) {
      int now = sizes[i] > sizes[i - 1] ? 1 : sizes[i] < sizes[i - 1] ? -1 : 0;
      if (now == 0) continue;
      turns += last != 0 && now != last;
      last = now;
    }
    return turns;
  }
};

Run simulate(Sizer& sizer, Model& model, int steps) {
  Run run;
  for (int i = 0; i < steps; ++i) {
    Sample sample = model.step(sizer.threads());
    run.rates.push_back(sample.ended / sample.seconds);
    run.sizes.push_back(sizer.next(sample));
  }
  return run;
}

double best(const Model& model, size_t max) {
  double best = 0;
  for (size_t n = 1; n <= max; ++n) best = std::max(best, model.capacity(double(n)));
  return std::min(best, model.offered);
}

constexpr int kMostTurns = 24;  // of 300 samples: a minute

}  // namespace

TEST_CASE("waiting handlers get as many threads as they can use", "[sizer]") {
  Sizer sizer(1, 256, 4);
  Model model{.offered = kAlways, .wait = 0.002};
  Run run = simulate(sizer, model, 300);
  auto from = run.sizes.begin() + kTenSeconds;
  CHECK(*std::max_element(from, from + 5) == 256);  // fewer may be tried just then
  CHECK(run.rate(kTenSeconds, 300) >= 0.9 * best(model, 256));
  CHECK(run.turns() <= kMostTurns);
}

TEST_CASE("a load of waiting handlers gets what it needs and a reserve", "[sizer]") {
  Sizer sizer(1, 256, 4);
  Model model{.offered = 5000, .wait = 0.002};  // ten at a time
  Run run = simulate(sizer, model, 300);
  CHECK(run.rate(kTenSeconds, 300) >= 0.97 * 5000);
  for (size_t i = kTenSeconds; i < 300; ++i) {
    CHECK(run.sizes[i] >= 13);
    CHECK(run.sizes[i] <= 32);
  }
  CHECK(run.turns() <= 3);
}

TEST_CASE("computing handlers get the cores, and not many more", "[sizer]") {
  for (size_t first : {1, 2, 4}) {
    Sizer sizer(1, 256, first);
    Model model{.offered = 5000, .cpu = 0.001, .crowding = 0.002};
    Run run = simulate(sizer, model, 300);
    CHECK(run.rate(kTenSeconds, 300) >= 0.9 * best(model, 256));
    for (size_t i = kTenSeconds; i < 300; ++i) CHECK(run.sizes[i] <= 8);
    CHECK(run.turns() <= kMostTurns);
  }
}

TEST_CASE("computing handlers give threads back that bring nothing", "[sizer]") {
  Sizer sizer(1, 256, 64);
  Model model{.offered = 5000, .cpu = 0.001};
  Run run = simulate(sizer, model, 300);
  CHECK(run.sizes.back() <= 8);
  CHECK(run.rate(kTenSeconds, 300) >= 0.9 * best(model, 256));
}

TEST_CASE("computing handlers beside other programs keep more threads than cores", "[sizer]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    Sizer sizer(1, 256, 4);
    // The kernel shares the cores among threads: of two others and N handlers these get N / (N +
    // 2).
    Model model{.offered = 5000, .cpu = 0.001, .noise = 0.8};
    model.seed = seed;
    size_t least = 4;
    for (int i = 0; i < 600; ++i) {
      model.others = kCores * 2 / (double(sizer.threads()) + 2);
      Sample sample = model.step(sizer.threads());
      if (i % 3 == 0) sample.cpu = 0.93;  // for a moment it does not look saturated
      least = std::min(least, sizer.next(sample));
    }
    CHECK(least >= 3);
  }
}

TEST_CASE("threads that a quota holds up are given back, and no others tried", "[sizer]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    Sizer sizer(1, 256, 4);
    Model model{.cpu = 0.001, .quota = 0.5, .seed = seed};
    Run run = simulate(sizer, model, 600);
    CHECK(*std::max_element(run.sizes.begin(), run.sizes.end()) <= 8);
    for (size_t i = 15; i < 600; ++i) CHECK(run.sizes[i] <= 2);
    CHECK(run.turns() <= 2);
  }
}

TEST_CASE("where others compete for the cores, the quota takes no threads away", "[sizer]") {
  Sizer sizer(1, 256, 4);
  Model model{.cpu = 0.001, .quota = 0.5};
  for (int i = 0; i < 300; ++i) {
    Sample sample = model.step(sizer.threads());
    sample.cpu = 1;
    sizer.next(sample);
    CHECK(sizer.why() != "CPU time used up");
  }
}

TEST_CASE("under a quota, handlers that also wait keep the threads that use it up", "[sizer]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    Sizer sizer(1, 256, 4);
    Model model{.wait = 0.01, .cpu = 0.001, .quota = 0.5, .seed = seed};  // 5.5 threads
    Run run = simulate(sizer, model, 600);
    CHECK(run.rate(kTenSeconds, 600) >= 0.95 * 500);
    for (size_t i = kTenSeconds; i < 600; ++i) CHECK(run.sizes[i] <= 16);
    CHECK(run.turns() <= kMostTurns);
    model.cpu = 0.00001;
    Run waits = simulate(sizer, model, 2 * kTenSeconds);
    CHECK(waits.sizes.back() >= 160);
  }
}

TEST_CASE("from cold, waiting handlers have their threads within two seconds", "[sizer]") {
  Sizer sizer(1, 256, 4);
  Model model{.offered = kAlways, .wait = 0.002};
  Run run = simulate(sizer, model, 10);
  CHECK(run.sizes.back() == 256);
}

TEST_CASE("the sample in which a load began is no measure", "[sizer]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    Sizer sizer(1, 256, 4);
    Model model{.offered = kAlways, .cpu = 0.001, .seed = seed};
    Sample first = model.step(4);
    first.ended /= 3;
    first.cpu /= 3;
    first.crowd = 0;
    sizer.next(first);
    for (size_t size : simulate(sizer, model, 100).sizes) CHECK(size <= 8);
  }
}

TEST_CASE("handlers that share a lock do not get threads that would wait for it", "[sizer]") {
  Sizer sizer(1, 256, 4);
  Model model{.offered = kAlways, .wait = 0.002, .lock_rate = 4000};  // eight are enough
  Run run = simulate(sizer, model, 300);
  CHECK(run.rate(kTenSeconds, 300) >= 0.9 * 4000);
  for (size_t i = kTenSeconds; i < 300; ++i) CHECK(run.sizes[i] <= 20);
  CHECK(run.turns() <= kMostTurns);
}

TEST_CASE("a handler that becomes slower gets more, and gives them back when it is fast again",
          "[sizer]") {
  Sizer sizer(1, 256, 4);
  Model model{.offered = 5000, .wait = 0.001};
  simulate(sizer, model, 100);
  CHECK(sizer.threads() <= 16);
  model.wait = 0.02;  // a hundred at a time
  Run slow = simulate(sizer, model, 150);
  CHECK(slow.rate(kTenSeconds, 150) >= 0.9 * 5000);
  CHECK(sizer.threads() >= 100);
  model.wait = 0.001;
  Run fast = simulate(sizer, model, 150);
  CHECK(sizer.threads() <= 20);
  CHECK(fast.rate(kTenSeconds, 150) >= 0.97 * 5000);
}

TEST_CASE("under pressure a handler that begins to wait instead of compute gets more", "[sizer]") {
  Sizer sizer(1, 256, 4);
  Model model{.offered = kAlways, .cpu = 0.001};
  simulate(sizer, model, 300);
  REQUIRE(sizer.threads() <= 8);
  model.cpu = 0.0001;
  model.wait = 0.01;
  Run run = simulate(sizer, model, 2 * kTenSeconds);
  CHECK(run.rate(kTenSeconds, 2 * kTenSeconds) >= 0.8 * best(model, 256));
}

TEST_CASE("three seconds after each change between waiting and computing the output is the best",
          "[sizer]") {
  for (bool has_backlog : {false, true}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      INFO((has_backlog ? "backlog" : "part load") << ", seed " << seed);
      Sizer sizer(1, 256, 4);
      Model model{.seed = seed};
      for (int change = 0; change < 6; ++change) {
        const bool waits = change % 2 == 0;
        model.wait = waits ? 0.002 : 0;
        model.cpu = waits ? 0 : 0.001;
        model.offered = has_backlog ? kAlways : waits ? 5000 : 1500;
        const Run run = simulate(sizer, model, 2 * kThreeSeconds);
        INFO("change " << change);
        CHECK(run.rate(kThreeSeconds, 2 * kThreeSeconds) >= 0.95 * best(model, 256));
      }
    }
  }
}

TEST_CASE("an idle pool shrinks to its least, and then asks for nothing", "[sizer]") {
  Sizer sizer(2, 256, 64);
  Model model{.offered = kAlways, .wait = 0.002};
  simulate(sizer, model, 50);
  REQUIRE(sizer.threads() >= 128);
  for (int i = 0; i < 60 && !sizer.at_rest(); ++i) sizer.next({kStep, 0, 0, 0, 0, 0});
  CHECK(sizer.at_rest());
  CHECK(sizer.threads() == 2);
}

TEST_CASE("a steady part load is left alone", "[sizer]") {
  for (double use : {0.3, 0.6, 0.8, 0.95}) {
    Sizer sizer(1, 64, 4);
    Model model{.offered = use * 2000, .cpu = 0.001, .noise = 0.1};
    Run run = simulate(sizer, model, 300);
    CHECK(run.turns() <= kMostTurns / 2);
    CHECK(*std::max_element(run.sizes.begin(), run.sizes.end()) <= 8);
    CHECK(run.rate(kTenSeconds, 300) >= 0.97 * model.offered);
  }
}

TEST_CASE("a load that comes and goes does not make the pool swing within its period", "[sizer]") {
  Sizer sizer(1, 256, 4);
  Model model{.wait = 0.002};
  std::vector<size_t> sizes;
  for (int i = 0; i < 300; ++i) {
    model.offered = (i / 5) % 2 ? 8000 : 2000;  // a second each
    sizes.push_back(sizer.next(model.step(sizer.threads())));
  }
  auto [least, most] = std::minmax_element(sizes.begin() + kTenSeconds, sizes.end());
  CHECK(*least >= 16);
  CHECK(*most <= 40);
}

TEST_CASE("jobs that take too long to count are judged by the CPU", "[sizer]") {
  Sizer waits(1, 64, 4);
  for (int i = 0; i < 40; ++i) waits.next({1, 1, double(waits.threads()), 1, 0.1, 0});
  CHECK(waits.threads() >= 50);
  Sizer computes(1, 64, 4);
  for (int i = 0; i < 40; ++i) computes.next({1, 1, double(computes.threads()), 1, 1.0, 0.5});
  CHECK(computes.threads() <= 5);
}

TEST_CASE("the size stays within its bounds", "[sizer]") {
  CHECK(Sizer(8, 16, 4).threads() == 8);
  CHECK(Sizer(1, 2, 4).threads() == 2);
  Sizer sizer(3, 5, 4);
  Model model{.offered = kAlways, .wait = 0.002};
  for (size_t size : simulate(sizer, model, 300).sizes) {
    CHECK(size >= 3);
    CHECK(size <= 5);
  }
  Sizer one(1, 1, 1);
  for (size_t size : simulate(one, model, 100).sizes) CHECK(size == 1);
}
