// One producer of a load: its own id, connection and share of the schedule, in a thread of its own.
// It keeps to the schedule whatever the answers do.
// Shape:   open(), then run() in the thread; what it saw may be read when the thread has been joined,
//          its meter at any time
// Errors:  those of Client; running out of time is no error here: the hub says so
// Owns:    the client; plan and hub must outlive it
// Threads: run() in its own, meter() from any
#pragma once

#include <memory>
#include <optional>

#include "producer/client/client.h"
#include "producer/client/waiter.h"
#include "producer/load/coordinator.h"
#include "producer/load/mix.h"
#include "producer/load/report.h"

namespace millrace::producer {

struct LoadPlan {
  Schedule::Plan schedule;
  SizeMix sizes = SizeMix::of(256);
  QueueMix queues = QueueMix::of("default");
  protocol::SubmitOptions options;
  bool compares = false;  // results with payloads
  bool verifies = false;
  Millis timeout{};  // after the last submission
  uint64_t clients = 1;
  ClientOptions client;  // but for producer and ledger

  bool waits() const { return options.report != protocol::Report::none; }
};

class LoadClient {
 public:
  LoadClient(const LoadPlan& plan, LoadHub& hub, size_t index);
  Result<void> open();
  void run();

  LoadMeter& meter() { return report_.meter(); }
  const LoadCounts& counts() const { return report_.counts(); }
  const QueueMix& queues() const { return queues_; }
  const Result<void>& outcome() const { return outcome_; }
  Mono submitted_at() const { return submitted_at_; }
  Mono ended_at() const { return ended_at_; }

 private:
  uint64_t submitted() const { return client_->next_seq().value - 1; }
  bool stopped() const { return hub_.stopped().has_value(); }

  Result<void> work();
  Result<void> connect();
  Result<void> wait_for_start();
  Result<void> submit_all();
  Mono next_turn(uint64_t made);
  uint64_t submit_due();
  Result<void> wait_for_ends();
  Result<void> verify();
  Result<void> turn(Mono until);
  Result<void> turn();

  const LoadPlan& plan_;
  LoadHub& hub_;
  const size_t index_;
  const uint64_t run_id_;
  const uint64_t burst_;  // most submissions between two looks at the connection
  Waiter waiter_{Waiter::Signals::leave};
  Schedule schedule_;
  LoadPayload payload_;
  LoadPayload compared_;
  QueueMix queues_;
  LoadReport report_;
  std::unique_ptr<Client> client_;
  size_t last_ = 0;  // the broker of the last submission
  Result<void> outcome_;
  Mono submitted_at_;
  Mono ended_at_;
  Mono deadline_ = Mono::max();
};

}  // namespace millrace::producer
