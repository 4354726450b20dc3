// `millrace-broker journal verify|stat|dump|repair DIR`: a journal looked at while no broker runs
// on it (docs/OPERATIONS.md).
#pragma once

#include "common/cli/options.h"

namespace millrace::offline {

void add_journal_command(Options& options);

}  // namespace millrace::offline
