// `millrace-broker keygen` makes a pair of keys; `keys` edits a broker's allow-list, also while the
// broker runs: it takes the new list by itself.
// Errors:  usage (64), bad_data (65: no such key, or no key), cant_create (73), config (78)
#pragma once

#include "common/cli/options.h"

namespace millrace::keys {

void add_keys_commands(Options& options);

}  // namespace millrace::keys
