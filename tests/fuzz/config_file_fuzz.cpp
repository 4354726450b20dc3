// Any text as a configuration file: its entries, each with its place, or an error that names it.
#include "common/cli/config_file.h"

#include "common/base/check.h"
#include "tests/fuzz/target.h"

using namespace millrace;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto entries = parse_config(std::string(fuzz::view_of(data, size)), "broker.toml");
  if (!entries) {
    MILLRACE_CHECK(entries.error().code == ExitCode::config);
    MILLRACE_CHECK(entries.error().message.starts_with("broker.toml:"));
    return 0;
  }
  for (const ConfigEntry& entry : *entries) {
    MILLRACE_CHECK(entry.place.starts_with("broker.toml:"));
    MILLRACE_CHECK(!entry.table.empty() || !entry.key.empty() || !entry.texts.empty());
  }
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  return {
      "heartbeat = \"1s\"\n# a comment\n[serve]\ndata = '/var/lib/millrace'\nmax-queued = 1_000\n",
      "queue = [\"a=echo\", \"b=exec:cat\"]\nverbose = true\nratio = 0.5\n",
      "[load.deep]\nkey = 1\n",
      "when = 2026-01-01T00:00:00Z\n",
      "a = {b = {c = 1}}\n",
      "text = \"\"\"\nseveral\nlines \\u00e9\"\"\"\nnan = nan\nhex = 0xff\n"};
}
