#include "worker/pool/cpu_meter.h"

#include <time.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>

namespace millrace::worker {

// cpu user nice system idle iowait irq softirq steal …, in ticks since the start
double CpuMeter::share() {
  std::ifstream file("/proc/stat");
  std::string name;
  file >> name;
  uint64_t ticks = 0, busy = 0, total = 0;
  for (int field = 0; field < 8 && file >> ticks; ++field) {
    bool idle = field == 3 || field == 4;
    busy += idle ? 0 : ticks;
    total += ticks;
  }
  uint64_t busy_now = busy - busy_, total_now = total - total_;
  bool first = total_ == 0;
  busy_ = busy;
  total_ = total;
  return first || total_now == 0 ? 0 : double(busy_now) / double(total_now);
}

AllowanceMeter::AllowanceMeter(UsableCpus cpus) : cpus_(std::move(cpus)) {}

double AllowanceMeter::share(double seconds) {
  const double now = used(), before = std::exchange(before_, now);
  double allowed = double(cpus_.affinity);
  if (cpus_.quota > 0) allowed = std::min(allowed, cpus_.quota);
  return before < 0 || seconds <= 0 ? 0 : (now - before) / (seconds * allowed);
}

double AllowanceMeter::used() const {
  if (!cpus_.group.empty()) {
    std::ifstream stat(cpus_.group + "/cpu.stat");  // version 2
    double value = 0;
    for (std::string name; stat >> name >> value;)
      if (name == "usage_usec") return value / 1e6;
    if (std::ifstream(cpus_.group + "/cpuacct.usage") >> value) return value / 1e9;  // version 1
  }
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) + double(time.tv_nsec) / 1e9;
}

std::chrono::nanoseconds CrowdMeter::ready_without_core(const std::vector<pid_t>& threads) {
  std::map<pid_t, uint64_t> now;
  uint64_t sum = 0, looked_at = 0;
  for (size_t i = 0; i < std::min(threads.size(), kMostThreads); ++i) {
    std::ifstream file("/proc/self/task/" + std::to_string(threads[i]) + "/schedstat");
    uint64_t ran = 0, waited = 0;
    if (!(file >> ran >> waited)) continue;
    now[threads[i]] = waited;
    auto before = before_.find(threads[i]);
    if (before == before_.end() || before->second > waited) continue;
    sum += waited - before->second;
    ++looked_at;
  }
  before_ = std::move(now);
  if (looked_at == 0) return std::chrono::nanoseconds(0);
  return std::chrono::nanoseconds(sum / looked_at * threads.size());
}

}  // namespace millrace::worker
