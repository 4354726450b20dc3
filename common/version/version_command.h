// `version`: what exactly is running, for bug reports and for fleets of many releases.
// Shape:   a line for each fact; with --json one object: program, version, commit, protocol,
//          journal_format, compiler, libraries{name: version}
// Threads: one thread
#pragma once

#include "common/cli/options.h"

namespace millrace {

void add_version_command(Options& options);

}  // namespace millrace
