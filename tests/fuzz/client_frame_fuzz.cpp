// Any frame that reaches the broker.
#include "tests/fuzz/frames.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::protocol;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::check_frame<FromClient>(fuzz::view_of(data, size), decode_from_client);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  const Uuid id = Uuid::from_bytes("0123456789abcdef");
  Submit submit;
  submit.floor = {3};
  submit.first = {5};
  submit.queue = "images";
  submit.options = {Report::result, 7, 9, Millis(500), Millis(9000), ""};
  submit.keys = {"k1", "k2"};
  submit.payloads = {"one", std::string_view("t\0o", 3)};
  const std::vector<JobRange> ranges{{{1}, 5}, {{9}, 1}};
  const std::vector<Lease> leases{{{1}, Epoch{1}}, {{2}, {77}}};
  std::vector<std::string> all;
  for (const FromClient& message : std::initializer_list<FromClient>{
           Hello{id}, submit, Query{ranges}, Collected{ranges}, Cancel{ranges},
           Register{id, "host:1", {"images", "mail"}, 4, leases}, Credit{100},
           Done{3, {{leases[0], true, "result"}, {leases[1], false, {}}}},
           Fail{4, {{leases[0], FailKind::crash, "signal 11"}}}, Release{5, leases}, Extend{leases},
           Heartbeat{}, Bye{}})
    all.push_back(encode({77}, message));
  MILLRACE_CHECK(all.size() == std::variant_size_v<FromClient>);
  return all;
}
