// Jobs that wait at one worker while threads of others are free: they are asked back (RECALL), and
// leased anew when the worker releases them.
// Shape:   tick() → RECALLs, every kRecallEvery
// Limits:  65,536 looks at leases and subscribers at a time; each lease is asked for once
// Threads: one
#pragma once

#include "broker/core/dispatch/dispatcher.h"

namespace millrace::core {

class Recalls {
 public:
  Recalls(Context& context, Sessions& sessions, Subscriptions& subscriptions,
          Dispatcher& dispatcher)
      : context_(context),
        state_(context.state),
        sessions_(sessions),
        subscriptions_(subscriptions),
        dispatcher_(dispatcher) {}

  void begin();
  void tick(Output& out);
  std::optional<Mono> wake_at() const;

 private:
  struct FreeThreads;

  bool may_recall() const;
  void recall_from(Session& session, FreeThreads& free, Output& out);
  bool take_free_thread(QueueIndex queue, FreeThreads& free);

  Context& context_;
  State& state_;
  Sessions& sessions_;
  Subscriptions& subscriptions_;
  Dispatcher& dispatcher_;
  Mono next_{};
  SessionId recalled_from_;  // the last one that was looked at
};

}  // namespace millrace::core
