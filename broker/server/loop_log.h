// The loop's observer in production: lines in the log, with cause and remedy.
// Limits:  what a peer or the disk can repeat is logged once a second
// Threads: the loop's
#pragma once

#include "broker/server/loop_environment.h"
#include "common/base/repeat_limiter.h"

namespace millrace::server {

const char* name_of(core::Port port);

class LoopLog final : public LoopObserver {
 public:
  explicit LoopLog(uint64_t disk_reserve) : disk_reserve_(disk_reserve) {}

  void frame_refused(core::Route route, const protocol::Fault& fault) override;
  void peer_overran(core::Route route, const std::string& peer) override;
  void payload_unreadable(const std::string& cause) override;
  void message_not_encoded() override;
  void disk_full_changed(bool full, const std::string& shortage, uint64_t free) override;

 private:
  const uint64_t disk_reserve_;
  RepeatLimiter refused_{Millis(1000)}, overruns_{Millis(1000)}, shortages_{Millis(1000)};
};

}  // namespace millrace::server
