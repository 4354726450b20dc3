// What the producers of a load and the thread that watches them tell each other: that all are
// connected, so that the schedule begins for all at once; that it is time to send no more, or
// to stop; that one is done.
// Shape:   each producer has a place: its Wakeup is signalled when something here changed for it
// Threads: internally locked
#pragma once

#include <deque>
#include <mutex>
#include <optional>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/os/wakeup.h"

namespace millrace::producer {

class LoadHub {
 public:
  explicit LoadHub(size_t producers) : places_(producers) {}

  // A producer is connected. The last one sets the start, a moment from now.
  void connected(Mono now);
  std::optional<Mono> start() const;
  // Nothing more is to be sent; what was is waited for.
  void end_schedule();
  bool schedule_ended() const;
  void stop(ExitCode why);  // the first reason counts
  std::optional<ExitCode> stopped() const;
  void finished();
  bool all_finished() const;

  Wakeup& place(size_t producer) { return places_[producer]; }
  Wakeup& watcher() { return watcher_; }

 private:
  void wake_all();

  mutable std::mutex mutex_;
  std::optional<Mono> start_;
  std::optional<ExitCode> stopped_;
  bool schedule_ended_ = false;
  size_t connected_ = 0;
  size_t finished_ = 0;
  std::deque<Wakeup> places_;
  Wakeup watcher_;
};

}  // namespace millrace::producer
