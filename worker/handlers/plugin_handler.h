// A shared object as handler, through the C interface of worker/plugin/millrace_handler.h.
// Errors:  config (78): no such file, no plugin, another version, or the plugin refuses to open
// Owns:    the shared object and the plugin's state
// Threads: run() by many at once, as the plugin must bear
#pragma once

#include <memory>
#include <string>

#include "worker/handlers/handler.h"

namespace millrace::worker {

Result<std::unique_ptr<Handler>> open_plugin(const std::string& file);

}  // namespace millrace::worker
