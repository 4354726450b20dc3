#include "worker/pool/usable_cpus.h"

#include <sched.h>

#include <filesystem>
#include <fstream>

#include "tests/catch.h"
#include "tests/support/temp_directory.h"
#include "worker/pool/cpu_meter.h"

using namespace millrace::worker;

namespace {

// A /proc and a /sys as a kernel shows them.
class FakeSystem {
 public:
  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = directory_.path() / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  UsableCpus cpus() const { return usable_cpus(directory_.path()); }
  double quota() const { return cpus().quota; }

 private:
  TempDirectory directory_;
};

}  // namespace

TEST_CASE("the affinity bounds the processors", "[cpus]") {
  cpu_set_t before, one;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  const size_t all = usable_cpus("/nowhere").count();
  CHECK(all == size_t(CPU_COUNT(&before)));
  CPU_ZERO(&one);
  for (size_t cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(usable_cpus("/nowhere").count() == 1);
  sched_setaffinity(0, sizeof before, &before);
}

TEST_CASE("the smallest quota of the group and those above it counts", "[cpus]") {
  FakeSystem it;
  CHECK(it.quota() == 0);
  it.write("proc/self/cgroup", "0::/system.slice/worker.service");
  it.write("sys/fs/cgroup/system.slice/worker.service/cpu.max", "max 100000");
  CHECK(it.quota() == 0);
  it.write("sys/fs/cgroup/system.slice/worker.service/cpu.max", "300000 100000");
  CHECK(it.quota() == 3);
  it.write("sys/fs/cgroup/system.slice/cpu.max", "150000 100000");
  CHECK(it.quota() == 1.5);
}

TEST_CASE("a container that sees its own group as the root has its quota there", "[cpus]") {
  FakeSystem it;
  it.write("proc/self/cgroup", "0::/docker/0123456789ab");
  it.write("sys/fs/cgroup/cpu.max", "50000 100000");
  CHECK(it.quota() == 0.5);
}

TEST_CASE("quotas of version 1 are read too", "[cpus]") {
  FakeSystem it;
  it.write("proc/self/cgroup", "4:memory:/a\n2:cpu,cpuacct:/a\n0::/");
  it.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1");
  it.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  CHECK(it.quota() == 0);
  it.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "250000");
  CHECK(it.quota() == 2.5);
}

TEST_CASE("a quota counts as whole processors, no more than there are", "[cpus]") {
  CHECK(UsableCpus{8, 0}.count() == 8);
  CHECK(UsableCpus{8, 0.5}.count() == 1);
  CHECK(UsableCpus{8, 1.5}.count() == 2);
  CHECK(UsableCpus{8, 100}.count() == 8);
  CHECK(UsableCpus{8, 1.5}.text() == "2 of 8 (quota 1.5)");
  CHECK(UsableCpus{8, 0}.text() == "8");
}

TEST_CASE("of the CPU time that a quota allows, the group tells how much was used", "[cpus]") {
  FakeSystem it;
  it.write("proc/self/cgroup", "0::/worker");
  it.write("sys/fs/cgroup/worker/cpu.max", "50000 100000");
  it.write("sys/fs/cgroup/worker/cpu.stat", "usage_usec 1000000\nuser_usec 900000");
  AllowanceMeter meter(it.cpus());
  CHECK(meter.share(0) == 0);
  it.write("sys/fs/cgroup/worker/cpu.stat", "usage_usec 1100000\nuser_usec 990000");
  CHECK(meter.share(0.4) == Approx(0.5));

  FakeSystem old;
  old.write("proc/self/cgroup", "2:cpu,cpuacct:/a");
  old.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "100000");
  old.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  old.write("sys/fs/cgroup/cpu,cpuacct/a/cpuacct.usage", "7000000000");
  AllowanceMeter old_meter(old.cpus());
  old_meter.share(0);
  old.write("sys/fs/cgroup/cpu,cpuacct/a/cpuacct.usage", "7300000000");
  CHECK(old_meter.share(0.3) == Approx(1));
}

TEST_CASE("where no group tells, the process counts its own CPU time", "[cpus]") {
  AllowanceMeter meter(UsableCpus{1, 0, {}});
  meter.share(0);
  double used = 0;
  for (int turn = 0; used == 0 && turn < 100'000'000; ++turn) used = meter.share(1);
  CHECK(used > 0);
}
