// `millrace-broker top`: a live view of a running broker in the terminal.
// Errors:  as terminal.h and broker_client.h; a broker that goes away is shown and asked again
// Threads: one, and one for the request that is under way
#pragma once

#include "common/cli/options.h"

namespace millrace::top {

void add_top_command(Options& options);

}  // namespace millrace::top
