// The handlers that need no other program: for tests, demonstrations and measurements. The result
// of each is the payload, so that a producer can verify what it gets.
// Threads: see worker/handlers/handler.h; these hold nothing that changes
#pragma once

#include "worker/handlers/handler.h"

namespace millrace::worker {

class EchoHandler : public Handler {
 public:
  Completion run(const JobContext& context) override;
};

// Waits, as for a database or another service; some jobs longer than the others, the same ones in
// every run: a hash of the job decides.
class SleepHandler : public Handler {
 public:
  explicit SleepHandler(Millis duration, int64_t slow_per_mille = 0, Millis slow = {})
      : duration_(duration), slow_per_mille_(slow_per_mille), slow_(slow) {}
  Completion run(const JobContext& context) override;

 private:
  Millis duration_;
  int64_t slow_per_mille_;
  Millis slow_;
};

// Uses that much CPU time of its thread, however long it takes.
class BurnHandler : public Handler {
 public:
  explicit BurnHandler(Millis duration) : duration_(duration) {}
  Completion run(const JobContext& context) override;

 private:
  Millis duration_;
};

// Fails this share of the attempts, the same ones in every run: a hash of job and attempt decides.
class FailHandler : public Handler {
 public:
  explicit FailHandler(int64_t percent) : percent_(percent) {}
  Completion run(const JobContext& context) override;

 private:
  int64_t percent_;
};

}  // namespace millrace::worker
