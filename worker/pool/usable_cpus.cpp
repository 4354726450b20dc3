#include "worker/pool/usable_cpus.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>
#include <utility>
#include <vector>

namespace millrace::worker {
namespace {

// The processors beyond those of one cpu_set_t are asked for with larger sets.
size_t affinity() {
  for (size_t room = CPU_SETSIZE; room <= size_t{CPU_SETSIZE} * 64; room *= 2) {
    std::vector<cpu_set_t> set(room / CPU_SETSIZE);
    const size_t bytes = set.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, set.data()) == 0)
      return std::max<size_t>(size_t(CPU_COUNT_S(bytes, set.data())), 1);
  }
  return std::max<size_t>(std::thread::hardware_concurrency(), 1);
}

struct Quota {
  double cpus = 0;  // 0: none
  std::string group;
};

void keep_smaller(Quota* least, const Quota& other) {
  if (other.cpus > 0 && (least->cpus == 0 || other.cpus < least->cpus)) *least = other;
}

// "150000 100000" or "max 100000"
double quota_v2(const std::string& directory) {
  double quota = 0, period = 0;
  std::ifstream file(directory + "/cpu.max");
  return file >> quota >> period && period > 0 ? quota / period : 0;
}

double quota_v1(const std::string& directory) {
  double quota = 0, period = 0;
  std::ifstream(directory + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(directory + "/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

// Of a group and all above it. In a container the mount shows the own group as its root, so the
// path that /proc tells may not exist there.
Quota smallest(double (*read)(const std::string&), const std::string& mount, std::string group) {
  Quota least;
  for (;;) {
    keep_smaller(&least, {read(mount + group), mount + group});
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return least;
    group.erase(slash);
  }
}

bool has_cpu(const std::string& controllers) {
  return fmt::format(",{},", controllers).find(",cpu,") != std::string::npos;
}

// Lines of /proc/self/cgroup: ID:CONTROLLERS:PATH
Quota smallest_quota(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  Quota least;
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    const std::string mount = root + "/sys/fs/cgroup";
    if (controllers.empty()) {
      keep_smaller(&least, smallest(quota_v2, mount, group));
      keep_smaller(&least, smallest(quota_v2, mount + "/unified", group));
    } else if (has_cpu(controllers)) {
      keep_smaller(&least, smallest(quota_v1, mount + "/cpu", group));
      keep_smaller(&least, smallest(quota_v1, mount + "/cpu,cpuacct", group));
    }
  }
  return least;
}

}  // namespace

size_t UsableCpus::count() const {
  if (quota <= 0) return affinity;
  return std::clamp<size_t>(size_t(std::ceil(quota)), 1, affinity);
}

std::string UsableCpus::text() const {
  if (quota <= 0 || quota >= double(affinity)) return fmt::format("{}", affinity);
  return fmt::format("{} of {} (quota {:.3g})", count(), affinity, quota);
}

UsableCpus usable_cpus(const std::string& root) {
  Quota quota = smallest_quota(root);
  return {affinity(), quota.cpus, std::move(quota.group)};
}

}  // namespace millrace::worker
