// A spool whose disk is full, or fails.
#include <poll.h>

#include "producer/spool/spool.h"
#include "producer/submit/resume.h"
#include "tests/catch.h"
#include "tests/crash/fake_spool_place.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::test;

namespace {

struct Opened {
  std::shared_ptr<Faults> faults = std::make_shared<Faults>();
  std::shared_ptr<FakeDirectory> disk = std::make_shared<FakeDirectory>(Disk(), faults);
  std::unique_ptr<Spool> spool;

  Opened() {
    SpoolOptions options;
    options.spool_queues = {"broker:1"};
    options.segment_bytes = 64 << 10;
    auto opened = Spool::open_at(std::make_unique<FakeSpoolPlace>(disk), options);
    REQUIRE(opened.ok());
    spool = std::move(*opened);
  }
  SpoolQueue& spool_queue() { return spool->spool_queue(0); }
  void set(int write_errno, int sync_errno = 0) {
    std::lock_guard lock(faults->mutex);
    faults->write_errno = write_errno;
    faults->sync_errno = sync_errno;
  }
  void put(uint64_t number) {
    spool_queue().put({seq_of(1, number), "q", protocol::SubmitOptions(), "payload"}, false);
    spool_queue().write();
  }
  std::vector<uint64_t> load() {
    std::vector<uint64_t> numbers;
    REQUIRE(spool_queue()
                .load([&](const SpoolQueue::Entry& entry) {
                  numbers.push_back(number_of(entry.seq));
                  return true;
                })
                .ok());
    return numbers;
  }
  // What became safe until `done`.
  template <typename Done>
  std::vector<SeqRange> await(Done&& done) {
    std::vector<SeqRange> safe;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      for (SeqRange run : spool_queue().take_safe()) safe.push_back(run);
      if (done()) return safe;
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      pollfd ready{spool_queue().wake_fd(), POLLIN, 0};
      ::poll(&ready, 1, 1000);
    }
  }
};

}  // namespace

TEST_CASE(
    "on a full disk nothing is safe, what is there can be forwarded, and it goes on by itself",
    "[spool]") {
  Opened opened;
  opened.put(1);
  opened.await([&] { return opened.spool_queue().unsafe_bytes() == 0; });
  CHECK(opened.spool->has_room(1, 1));
  opened.set(ENOSPC);
  opened.put(2);
  CHECK(opened.await([&] { return opened.spool_queue().stalled(); }).empty());
  CHECK_FALSE(opened.spool->has_room(1, 1));
  CHECK_FALSE(opened.spool_queue().failure());
  CHECK(opened.load() == std::vector<uint64_t>{1, 2});
  opened.spool_queue().answered({seq_of(1, 1), 2});
  opened.spool_queue().write();
  CHECK(opened.spool_queue().jobs() == 0);
  CHECK(opened.spool_queue().floor() == seq_of(1, 1));  // another run might send them again
  opened.set(0);
  const auto safe = opened.await([&] { return opened.spool_queue().floor() == Seq{UINT64_MAX}; });
  REQUIRE(safe.size() == 1);
  CHECK(safe[0] == SeqRange{seq_of(1, 2), 1});
  CHECK_FALSE(opened.spool_queue().stalled());
  CHECK(opened.spool->has_room(1, 1));
}

TEST_CASE("after a sync that failed nothing becomes safe any more", "[spool]") {
  Opened opened;
  opened.put(1);
  opened.await([&] { return opened.spool_queue().unsafe_bytes() == 0; });
  opened.set(0, EIO);
  opened.put(2);
  CHECK(opened.await([&] { return opened.spool_queue().failure().has_value(); }).empty());
  CHECK(opened.spool_queue().failure()->code == ExitCode::io);
  opened.put(3);
  CHECK(opened.spool_queue().take_safe().empty());
  CHECK_FALSE(opened.spool->stop().ok());
}
