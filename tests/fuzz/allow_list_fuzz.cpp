// Any text as a list of keys that a broker lets in: the list, which its own text gives again, or an
// error that names the line.
#include "broker/keys/allow_list.h"

#include "common/base/check.h"
#include "common/net/curve.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::keys;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto list = parse_allow_list("allow", fuzz::view_of(data, size));
  if (!list) {
    MILLRACE_CHECK(list.error().code == ExitCode::config);
    MILLRACE_CHECK(list.error().message.starts_with("allow:"));
    return 0;
  }
  for (const AllowedKey& allowed : list->keys) {
    MILLRACE_CHECK(valid_curve_key(allowed.key) && valid_key_name(allowed.name));
    MILLRACE_CHECK(list->find(allowed.key) == &allowed);
  }
  auto back = parse_allow_list("allow", format_allow_list(*list));
  MILLRACE_CHECK(back.ok() && back->keys == list->keys);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  const std::string a = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
  const std::string b = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
  return {a + " alice\n# a comment\n\n" + b + "\n", a + "\n" + a + " twice\n", "short name\n"};
}
