#include "broker/core/checkpoint_limit.h"

#include <algorithm>

namespace millrace::core {
namespace {

constexpr uint64_t kNumber = 9, kUuid = 18, kArray = 5;  // as msgpack encodes them, at most
constexpr uint64_t kRun = 1 + 2 * kNumber, kSequenceRun = 1 + 3 * kNumber;
constexpr uint64_t kProducer = 1 + kUuid + 2 * kNumber + kArray;
constexpr uint64_t kTotal = 1 + 2 + protocol::kMaxQueueName + kNumber;
constexpr uint64_t kAbsence = 1 + kUuid + kNumber;
constexpr uint64_t kFixed = 4096;  // of the numbers and counts

// A key takes at least 136 bytes of --key-memory, and a long one twice its length besides: it is
// never more than four tenths of that in a Checkpoint.
uint64_t key_bytes(const RetentionLimits& retention) { return retention.key_bytes * 4 / 10; }

uint64_t all_but_history(const Settings& settings) {
  return kFixed + 2 * kMaxSequenceRuns * kSequenceRun + kMaxProducers * kProducer +
         kMaxQueueSettingBytes + kMaxTotals * kTotal + protocol::kMaxSessions * kAbsence +
         key_bytes(settings.retention);
}

}  // namespace

uint64_t max_checkpoint_bytes(const Settings& settings) {
  return all_but_history(settings) + (settings.history + settings.history / 8 + 1) * kRun;
}

uint64_t max_history(const Settings& settings, uint64_t segment_bytes) {
  const auto share = uint64_t(double(segment_bytes) * kCheckpointShare);
  const uint64_t rest = all_but_history(settings);
  return rest >= share ? 0 : (share - rest) / kRun * 8 / 9 - 1;
}

}  // namespace millrace::core
