#include "broker/admin/status_publisher.h"

#include <semaphore>
#include <thread>
#include <vector>

#include "tests/catch.h"

namespace millrace::admin {
namespace {

constexpr Millis kLong{60'000};  // ends only by what the test does

Status numbered(uint64_t number) {
  Status status;
  status.incarnation = number;
  return status;
}

// A thread that publishes numbered publisher when it is woken, like the core's loop.
class Publisher {
 public:
  Publisher() : thread_([this] { run(); }) {}
  ~Publisher() {
    over_ = true;
    woken_.release();
    thread_.join();
  }
  StatusPublisher publisher{[this] { woken_.release(); }};
  std::atomic<uint64_t> published = 0;

 private:
  void run() {
    for (;;) {
      woken_.acquire();
      if (over_) return;
      if (publisher.wanted()) publisher.publish(numbered(++published));
    }
  }
  std::counting_semaphore<> woken_{0};
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

}  // namespace

TEST_CASE("a request brings what is published after it", "[admin]") {
  Publisher core;
  for (uint64_t i = 1; i <= 1000; ++i) {
    Snapshot now = core.publisher.request(kLong);
    REQUIRE(now.fresh);
    REQUIRE(now.status->incarnation == i);
  }
  CHECK(core.published == 1000);
  CHECK_FALSE(core.publisher.wanted());
}

TEST_CASE("requests of several threads are all answered", "[admin]") {
  Publisher core;
  std::vector<std::thread> threads;
  std::atomic<int> fresh = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      uint64_t last = 0;
      for (int i = 0; i < 500; ++i) {
        Snapshot now = core.publisher.request(kLong);
        fresh += now.fresh && now.status->incarnation > last;
        last = now.status->incarnation;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(fresh == 2000);
  CHECK(core.published <= 2000);
}

TEST_CASE("a silent core costs the time-out once", "[admin]") {
  int wakes = 0;
  StatusPublisher publisher([&] { ++wakes; });
  Snapshot none = publisher.request(Millis(100));
  CHECK(none.status == nullptr);
  CHECK_FALSE(none.fresh);
  CHECK(publisher.wanted());

  auto start = Mono::clock::now();
  for (int i = 0; i < 100; ++i) CHECK_FALSE(publisher.request(Millis(100)).fresh);
  CHECK(Mono::clock::now() - start < Millis(5000));  // 10 s if each one waited
  CHECK(wakes == 101);
}

TEST_CASE("after the time-out the last snapshot is given, as one that is old", "[admin]") {
  StatusPublisher publisher([] {});
  publisher.publish(numbered(7));
  Snapshot old = publisher.request(Millis(1));
  CHECK_FALSE(old.fresh);
  REQUIRE(old.status != nullptr);
  CHECK(old.status->incarnation == 7);
  publisher.publish(numbered(8));
  CHECK_FALSE(publisher.wanted());
  CHECK(publisher.request(Millis(1)).status->incarnation == 8);
}

TEST_CASE("close ends all waiting", "[admin]") {
  std::binary_semaphore woken{0};
  StatusPublisher publisher([&] { woken.release(); });
  auto start = Mono::clock::now();
  std::thread closer([&] {
    woken.acquire();
    publisher.close();
  });
  CHECK_FALSE(publisher.request(kLong).fresh);
  closer.join();
  CHECK_FALSE(publisher.request(kLong).fresh);
  CHECK(Mono::clock::now() - start < kLong / 2);
}

}  // namespace millrace::admin
