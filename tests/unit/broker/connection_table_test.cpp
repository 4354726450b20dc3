#include "broker/transport/connection_table.h"

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::server;

namespace {

constexpr uint64_t kMiB = 1 << 20;

// A table, a clock, and what each descriptor's numbers are just now.
struct Ports {
  ConnectionTable table{{10, 64 * kMiB, 256 * kMiB, Millis(10'000), Millis(60'000)}};
  Mono now{};
  std::unordered_map<int, ConnectionSample> samples;

  void open(int descriptor) { table.opened(descriptor, samples[descriptor], now); }
  void open_with_session(int descriptor) {
    open(descriptor);
    take(descriptor, 100, true);
  }
  // Received and taken by the loop, whole.
  void take(int descriptor, uint64_t bytes, bool has_session) {
    ConnectionSample& sample = samples[descriptor];
    sample.received += bytes;
    sample.taken += bytes;
    ++sample.messages;
    sample.session_messages += has_session;
  }
  void drain(int descriptor) { ++samples[descriptor].drains; }
  void sample(int descriptor) { table.sampled(descriptor, samples[descriptor], now); }

  std::vector<int> due(std::optional<CloseReason> reason = std::nullopt) {
    std::vector<int> found;
    for (const auto& closing :
         table.close_due(now, [this](int descriptor) { return samples[descriptor]; })) {
      if (reason) CHECK(name_of(closing.reason) == name_of(*reason));
      found.push_back(closing.descriptor);
    }
    return found;
  }
};

using Descriptors = std::vector<int>;

}  // namespace

TEST_CASE("above the maximum the oldest connection without a session is closed", "[connections]") {
  Ports ports;
  ports.open_with_session(1);
  for (int i = 2; i <= 10; ++i) ports.open(i);
  CHECK(ports.due().empty());
  ports.open(11);
  CHECK(ports.due(CloseReason::capacity) == Descriptors{2});
  CHECK(ports.table.is_closing(2));
  CHECK(ports.due().empty());  // once
  ports.table.closed(2);
  ports.take(3, 100, true);  // since the last sample
  ports.open(12);
  const auto refresh = [&](int descriptor) { return ports.samples[descriptor]; };
  const auto above = ports.table.close_above_maximum(ports.now, refresh);
  REQUIRE(above.size() == 1);
  CHECK(above[0].descriptor == 4);
  CHECK(ports.due().empty());
}

TEST_CASE("where all have a session, the newcomer is closed", "[connections]") {
  Ports ports;
  for (int i = 1; i <= 11; ++i) ports.open_with_session(i);
  CHECK(ports.due(CloseReason::capacity) == Descriptors{11});
}

TEST_CASE("a connection without a session is closed after the time for it, a port being read",
          "[connections]") {
  Ports ports;
  ports.open(1);
  ports.open_with_session(2);
  ports.now += Millis(9'999);
  for (int i : {1, 1, 2, 2}) ports.drain(i);
  CHECK(ports.due().empty());
  ports.now += Millis(1);
  CHECK(ports.due(CloseReason::no_session) == Descriptors{1});
}

TEST_CASE("a loop that leaves the port unread does not blame the peer", "[connections]") {
  Ports ports;
  ports.open(1);
  ports.now += Millis(20'000);
  ports.drain(1);
  CHECK(ports.due().empty());
  ports.drain(1);
  CHECK(ports.due(CloseReason::no_session) == Descriptors{1});
}

TEST_CASE("frames of a descriptor's predecessor give no session", "[connections]") {
  Ports ports;
  ports.open_with_session(1);
  ports.sample(1);
  ports.table.closed(1);
  ports.samples[1].received = 0;
  ports.open(1);
  for (int i : {1, 1}) ports.drain(i);
  ports.now += Millis(10'000);
  CHECK(ports.due(CloseReason::no_session) == Descriptors{1});
}

TEST_CASE("a silent connection is closed, one whose bytes are not read yet is not",
          "[connections]") {
  Ports ports;
  ports.open_with_session(1);
  ports.open_with_session(2);
  ports.samples[2].waiting = 1;
  ports.sample(1);
  ports.sample(2);
  ports.now += Millis(60'000);
  ports.sample(1);
  ports.sample(2);
  CHECK(ports.due(CloseReason::silent) == Descriptors{1});
}

TEST_CASE("an endless message is closed at the limit of a connection's bytes", "[connections]") {
  Ports ports;
  ports.open_with_session(1);
  ports.samples[1].received += 64 * kMiB;
  ports.sample(1);
  CHECK(ports.due().empty());
  CHECK(ports.table.unread_total() == 64 * kMiB);
  ports.samples[1].received += 1;
  ports.sample(1);
  CHECK(ports.due(CloseReason::unread_bytes) == Descriptors{1});
  CHECK(ports.table.unread_total() == 0);
}

TEST_CASE("what the kernel holds, and what the loop has taken, is not held by libzmq",
          "[connections]") {
  Ports ports;
  ports.open_with_session(1);
  ports.take(1, 1000 * kMiB, true);
  ports.samples[1].received += 70 * kMiB;
  ports.samples[1].waiting = 60 * kMiB;
  ports.sample(1);
  CHECK(ports.due().empty());
  CHECK(ports.table.unread_total() == 10 * kMiB);
}

TEST_CASE("above the limit of all, those that hold most are closed", "[connections]") {
  Ports ports;
  for (int i = 1; i <= 6; ++i) {
    ports.open_with_session(i);
    ports.samples[i].received += (40 + uint64_t(i)) * kMiB;
    ports.sample(i);
  }
  CHECK(ports.due(CloseReason::unread_total) == Descriptors{6});
  CHECK(ports.table.unread_total() <= 256 * kMiB);
}

TEST_CASE("what nobody takes, as a peer's pings, does not add up", "[connections]") {
  Ports ports;
  ports.open_with_session(1);
  for (int day = 0; day < 1000; ++day) {
    ports.samples[1].received += kMiB;  // never taken
    ports.take(1, 50, true);
    ports.drain(1);
    ports.sample(1);
    REQUIRE(ports.due().empty());
  }
  CHECK(ports.table.unread_total() < 10 * kMiB);
}

TEST_CASE("messages that end let no unfinished one behind them pass", "[connections]") {
  Ports ports;
  ports.open_with_session(1);
  uint64_t held = 0;
  for (int step = 0; step < 70 && !ports.table.is_closing(1); ++step) {
    if (step % 3 == 2) ports.take(1, 50, true);  // taken before what is held began
    held += kMiB;
    ports.samples[1].received += kMiB;
    ports.sample(1);
    ports.due();
  }
  CHECK(ports.table.is_closing(1));
  CHECK(held <= 66 * kMiB);
}

TEST_CASE("a connection that is to go goes when its time has come, and nobody in its place",
          "[connections]") {
  Ports ports;
  ports.open_with_session(1);
  ports.open_with_session(2);
  ports.table.close_at(1, ports.now + Millis(1000));
  ports.table.close_at(2, ports.now + Millis(1000));
  CHECK(ports.due().empty());
  ports.table.closed(2);
  ports.open_with_session(2);
  ports.now += Millis(1000);
  CHECK(ports.due(CloseReason::requested) == Descriptors{1});
  CHECK(ports.table.closed_by_reason()[size_t(CloseReason::requested)] == 1);
}
