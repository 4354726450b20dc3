// A fixed pool whose number of threads is found while it runs; the rule is worker/pool/sizer.h.
// Shape:   load of the pool → Sample, every kInterval while there is work → Sizer → resize()
//          Idle it asks for nothing more once it has shrunk.
// Threads: see worker/pool/pool.h
#pragma once

#include "worker/pool/cpu_meter.h"
#include "worker/pool/fixed_pool.h"
#include "worker/pool/sizer.h"

namespace millrace::worker {

class AutoPool final : public Pool {
 public:
  static constexpr Millis kInterval{200};
  static constexpr Millis kLongest{1000};  // of an interval in which few jobs end
  static constexpr double kEnoughEnds = 20;

  AutoPool(PoolSetup setup, size_t min, size_t max);

  void submit(std::vector<Job> jobs) override;
  std::vector<Finished> collect() override;
  void forget(const std::vector<protocol::Lease>& leases, Source source) override {
    pool_.forget(leases, source);
  }
  std::vector<protocol::Lease> take(std::vector<protocol::Lease> leases, Source source) override {
    return pool_.take(std::move(leases), source);
  }
  std::vector<protocol::Lease> take_waiting(Source source) override {
    return pool_.take_waiting(source);
  }
  void allow_starts_until(Mono until) override { pool_.allow_starts_until(until); }
  bool may_start() const override { return pool_.may_start(); }
  void tick(Mono now) override;
  Mono wake_at() const override;
  size_t threads() const override { return pool_.threads(); }
  bool too_many_stuck() const override { return pool_.too_many_stuck(); }
  PoolStats stats() const override { return pool_.stats(); }
  void stop() override { pool_.stop(); }
  bool close(Millis timeout) override { return pool_.close(timeout); }

 private:
  void begin(Mono now);
  void begin_interval(Mono now, const PoolLoad& load);
  void sample(Mono now);

  FixedPool pool_;
  Sizer sizer_;
  CpuMeter cpu_;
  AllowanceMeter allowance_{usable_cpus()};
  CrowdMeter crowd_;
  Mono since_{};  // of the interval, as the rest
  std::chrono::nanoseconds busy_{0};
  std::chrono::nanoseconds waited_{0};
  double ended_ = 0;
  double timed_ = 0, log_run_ = 0;  // jobs that ran, and the sum of the logarithms of their seconds
  Mono sample_at_ = Mono::max();
};

}  // namespace millrace::worker
