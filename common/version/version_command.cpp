#include "common/version/version_command.h"

#include <fmt/core.h>
#include <spdlog/version.h>
#include <xxhash.h>
#include <zmq.h>

#include <CLI/Version.hpp>
#include <boost/version.hpp>
#include <memory>
#include <msgpack/version.hpp>
#include <nlohmann/json.hpp>

#include "common/journal/format.h"
#include "common/protocol/limits.h"
#include "common/version/commit.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

std::string dotted(int major, int minor, int patch) {
  return fmt::format("{}.{}.{}", major, minor, patch);
}

// Of what is linked as it runs, of what is headers as it was built.
Json libraries() {
  int major = 0, minor = 0, patch = 0;
  zmq_version(&major, &minor, &patch);
  const unsigned xxhash = XXH_versionNumber();
  return {
      {"libzmq", dotted(major, minor, patch)},
      {"msgpack", msgpack_version()},
      {"spdlog", dotted(SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
      {"fmt", dotted(FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
      {"xxhash", dotted(int(xxhash / 10000), int(xxhash / 100 % 100), int(xxhash % 100))},
      {"boost", dotted(BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100)},
      {"cli11", CLI11_VERSION}};
}

Json facts(const std::string& program) {
  return {{"program", program},
          {"version", MILLRACE_VERSION},
          {"commit", kCommit},
          {"protocol", protocol::kVersion},
          {"journal_format", journal::kFormatVersion},
          {"compiler", __VERSION__},
          {"libraries", libraries()}};
}

std::string text_of(const Json& facts) {
  std::string out = fmt::format("{} {}\n", facts["program"].get<std::string>(),
                                facts["version"].get<std::string>());
  for (const auto& [name, value] : facts.items()) {
    if (name == "program" || name == "version" || value.is_object()) continue;
    out += fmt::format("{:<15} {}\n", name == "journal_format" ? "journal format" : name,
                       value.is_string() ? value.get<std::string>() : value.dump());
  }
  for (const auto& [name, value] : facts["libraries"].items())
    out += fmt::format("{:<15} {}\n", name, value.get<std::string>());
  return out;
}

}  // namespace

void add_version_command(Options& options) {
  auto json = std::make_shared<bool>(false);
  Command& command =
      options.command("version", "Print the versions of this program and of what it is built from",
                      [json, program = options.program()]() -> Result<ExitCode> {
                        const Json all = facts(program);
                        fmt::print("{}", *json ? all.dump() + "\n" : text_of(all));
                        return ExitCode::ok;
                      });
  command.group("Output");
  command.toggle("--json", *json, "print one JSON object");
  command.example(options.program() + " version --json");
}

}  // namespace millrace
