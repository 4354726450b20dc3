// Any frame that reaches a worker or a producer.
#include "tests/fuzz/frames.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::protocol;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::check_frame<FromBroker>(fuzz::view_of(data, size), decode_from_broker);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  const std::vector<Lease> leases{{{1}, Epoch{1}}, {{2}, {77}}};
  Welcome welcome;
  welcome.broker = {0xb0b};
  welcome.incarnation = 3;
  welcome.window_jobs = 1000;
  welcome.window_bytes = 1 << 20;
  welcome.durability = "confirmed";
  welcome.stale = leases;
  std::vector<std::string> all;
  for (const FromBroker& message : std::initializer_list<FromBroker>{
           welcome, Confirm{"confirmed", {{{1}, 5, {9}, false}, {{6}, 1, {2}, true}}},
           Reject{{{{1}, 5, "queue_full", Millis(500), "the queue is full"}}},
           Outcome{{{{{1}, 1}, JobState::done, 2, true, false, "result", {}},
                    {{{2}, 3}, JobState::dead, 5, false, true, {}, "no luck"}}},
           States{{{{{1}, 5}, JobState::ready}, {{{6}, 1}, JobState::retry_wait}}},
           LeaseGrant{"images",
                      {{leases[0], 1, true, "payload"}, {leases[1], 2, false, ""}},
                      Millis(30000)},
           DoneOk{3}, Stale{leases}, Cancelled{leases}, Recall{leases}, Heartbeat{}, Reregister{},
           ErrorReply{"malformed", "an array is wanted"}})
    all.push_back(encode({77}, message));
  MILLRACE_CHECK(all.size() == std::variant_size_v<FromBroker>);
  return all;
}
