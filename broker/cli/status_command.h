// `millrace-broker status`: asks running brokers over HTTP, prints what they say.
// Shape:   stdout: text for people, or with --json the broker's own object, as it came; of several
//          brokers what cluster_status.h makes of their answers, with those that gave none named
// Errors:  of one broker unavailable (69), temporary (75), bad_data (65: not a broker's answer),
//          config (78: its token is missing or wrong); of several unavailable, whatever keeps one
//          of them from being asked, after the others have been shown
#pragma once

#include "common/cli/options.h"

namespace millrace::admin {

void add_status_command(Options& options);

}  // namespace millrace::admin
