// `millrace-broker job`, `queue` and `dead`: what people ask of a running broker, over HTTP.
// Shape:   job ls [--queue Q] [--state S] … · job show|why|cancel ID
//          queue ls · queue set NAME --weight N … · queue pause|resume|purge NAME
//          dead [ls] · dead retry|drop [ID] [--queue Q] [--error TEXT] [--older DUR] [--all]
//          stdout: text for people, or with --json the broker's own object, as it came
// Errors:  usage (64): no such action, or a name or a condition is missing; else as broker_client.h
#pragma once

#include "common/cli/options.h"

namespace millrace::admin {

void add_operation_commands(Options& options);
void add_job_command(Options& options);
void add_dead_command(Options& options);

}  // namespace millrace::admin
