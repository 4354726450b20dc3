#include "worker/pool/start_gate.h"

#include "common/base/time.h"

namespace millrace::worker {
void StartGate::open_until(Mono until) {
  const Mono::rep end = until.time_since_epoch().count();
  const Mono now = read_clock();
  // Not for each turn of a busy loop: threads read this all the time.
  const Mono::rep before = until_, left = before - now.time_since_epoch().count();
  if (before != kNoEnd && end >= before && end - before < left / 8) return;
  until_ = end;
  until_on_boottime_ =
      until == Mono::max() ? kNoEnd : read_boottime().count() + (until - now).count();
}

bool StartGate::is_open() const {
  const Mono::rep until = until_on_boottime_;
  return until == kNoEnd || read_boottime().count() < until;
}

}  // namespace millrace::worker
