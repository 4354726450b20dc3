// A fixed pool whose number of threads is found while it runs; the rule is worker/pool/sizer.h.
// Shape:   counters → Sample, every kInterval while there is work → Sizer → resize()
//          Idle it asks for nothing more once it has shrunk.
// Threads: see worker/pool/pool.h
#pragma once

#include "worker/pool/cpu_meter.h"
#include "worker/pool/fixed_pool.h"
#include "worker/pool/sizer.h"

namespace millrace::worker {

class AutoPool final : public FixedPool {
 public:
  static constexpr Millis kInterval{200};
  static constexpr Millis kLongest{1000};  // of an interval in which few jobs end
  static constexpr double kEnoughEnds = 20;

  AutoPool(PoolSetup setup, size_t min, size_t max);

  void submit(std::vector<Job> jobs) override;
  std::vector<Finished> collect() override;
  void tick(Mono now) override;
  Mono wake_at() const override;

 private:
  struct Counters {
    Mono at;
    std::chrono::nanoseconds busy{0};
    std::chrono::nanoseconds waited{0};
    std::chrono::nanoseconds crowded{0};  // since the last read
  };
  Counters read(Mono now);
  void begin(Mono now);
  void sample(Mono now);

  CpuMeter cpu_;
  CrowdMeter crowd_;
  Sizer sizer_;
  Counters before_;
  double ended_ = 0;
  Mono sample_at_ = Mono::max();
};

}  // namespace millrace::worker
