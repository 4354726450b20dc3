// `millrace-broker status`: asks a running broker over HTTP, prints what it says.
// Shape:   stdout: text for people, or with --json the broker's own object, as it came
// Errors:  unavailable (69), temporary (75), bad_data (65: not a broker's answer), config (78: its
//          token is missing or wrong)
#pragma once

#include "common/options.h"

namespace millrace::admin {

void add_status_command(Options& options);

}  // namespace millrace::admin
