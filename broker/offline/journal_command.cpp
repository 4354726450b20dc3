#include "broker/offline/journal_command.h"

#include <fmt/format.h>

#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "broker/offline/dump.h"
#include "broker/offline/repair.h"
#include "broker/offline/report.h"
#include "common/base/terminal_text.h"
#include "common/cli/progress.h"

namespace millrace::offline {
namespace {

struct Flags {
  std::string action, directory, to;
  DumpOptions dump;
  std::optional<std::string> job;
  bool json = false, quiet = false;
};

Error usage(std::string message) { return {ExitCode::usage, std::move(message)}; }

// 12, 0xc, or the name of the file.
Result<SegmentId> parse_segment(std::string_view text) {
  if (auto named = journal::parse_segment_name(text)) return *named;
  const bool is_hex = text.starts_with("0x");
  const std::string_view digits = is_hex ? text.substr(2) : text;
  SegmentId segment;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), segment.value,
                                      is_hex ? 16 : 10);
  if (error == std::errc() && end == digits.data() + digits.size() && !digits.empty())
    return segment;
  return usage(fmt::format("'{}' is not a segment number; examples are 12, 0xc and {}", text,
                           journal::segment_name({12})));
}

Result<void> set_job(Flags& flags) {
  if (!flags.job) return {};
  BrokerId broker;
  JobId job;
  if (parse_job_text(*flags.job, &broker, &job)) {
    flags.dump.broker = broker;
  } else {
    const std::string& text = *flags.job;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), job.value);
    if (error != std::errc() || end != text.data() + text.size())
      return usage(fmt::format("'{}' is not a job ID; a job ID looks like 3f9a1c07-42", text));
  }
  flags.dump.job = job;
  return {};
}

Result<void> check(const Flags& flags) {
  constexpr const char* kActions = "verify, stat, dump or repair, and a DIR";
  const std::string& action = flags.action;
  if (action.empty()) return usage(fmt::format("journal needs an action: {}", kActions));
  if (action != "verify" && action != "stat" && action != "dump" && action != "repair")
    return usage(fmt::format("unknown action '{}': journal takes {}", action, kActions));
  if (flags.directory.empty())
    return usage(fmt::format("journal {} needs a DIR, the --data directory of a broker", action));
  if (action == "repair" && flags.to.empty())
    return usage(
        "journal repair needs --to with a new directory; a journal is never repaired in place");
  if (action != "repair" && !flags.to.empty())
    return usage("--to applies to journal repair only; the other actions write nothing");
  if (action != "dump" && (flags.dump.from || flags.job || flags.dump.payloads))
    return usage("--from, --job and --payloads apply to journal dump only");
  return {};
}

class Shown {
 public:
  explicit Shown(bool quiet) : progress_(Progress::style_for_stderr(quiet), Mono::clock::now()) {}

  void operator()(const SurveyProgress& at) {
    const Mono now = Mono::clock::now();
    if (!progress_.due(now)) return;
    progress_.show(now, {{{"batches", at.batches}, {"records", at.records}}, at.bytes, at.total});
  }

 private:
  Progress progress_;
};

void print(const Flags& flags, const nlohmann::ordered_json& json, const std::string& text) {
  using Json = nlohmann::ordered_json;
  fmt::print("{}",
             flags.json
                 ? terminal_json(json.dump(-1, ' ', false, Json::error_handler_t::replace)) + "\n"
                 : text);
}

Result<ExitCode> run_survey(const Flags& flags, journal::Directory& directory) {
  Result<Survey> found = [&] {
    Shown shown(flags.quiet);
    auto show = [&](const SurveyProgress& at) { shown(at); };
    auto first = survey(directory, nullptr, show);
    if (!first || first->unsaved.empty()) return first;
    return survey(directory, nullptr, show, std::move(first->unsaved));
  }();
  if (!found) return found.error();
  const std::string& name = flags.directory;
  if (flags.action == "verify") {
    print(flags, verify_json(name, *found), verify_text(name, *found));
  } else {
    print(flags, stat_json(name, *found), stat_text(name, *found));
  }
  return found->is_whole() ? ExitCode::ok : ExitCode::bad_data;
}

Result<ExitCode> run_repair(const Flags& flags, journal::Directory& directory) {
  Result<Survey> found = [&] {
    Shown shown(flags.quiet);
    return repair(directory, flags.to, [&](const SurveyProgress& at) { shown(at); });
  }();
  if (!found) return found.error();
  print(flags, repair_json(flags.directory, flags.to, *found),
        repair_text(flags.directory, flags.to, *found));
  return found->lost.empty() ? ExitCode::ok : ExitCode::failed;
}

Result<ExitCode> run_dump(const Flags& flags, journal::Directory& directory) {
  auto found = [&] {
    Shown shown(flags.quiet);
    return dump(directory, flags.dump, [&](const SurveyProgress& at) { shown(at); });
  }();
  if (!found) return found.error();
  bool is_whole = true;
  for (const journal::Finding& finding : *found) {
    fmt::print(stderr, "{}\n", terminal_text(finding.what));
    is_whole &= finding.kind == journal::Finding::Kind::torn_tail;
  }
  return is_whole ? ExitCode::ok : ExitCode::bad_data;
}

Result<ExitCode> run(Flags& flags) {
  if (auto checked = check(flags); !checked) return checked.error();
  if (auto set = set_job(flags); !set) return set.error();
  flags.dump.json = flags.json;
  auto directory = journal::open_directory_to_read(flags.directory);
  if (!directory) return directory.error();
  if (flags.action == "dump") return run_dump(flags, **directory);
  if (flags.action == "repair") return run_repair(flags, **directory);
  return run_survey(flags, **directory);
}

}  // namespace

void add_journal_command(Options& options) {
  // The action keeps what its flags fill.
  auto flags = std::make_shared<Flags>();
  Command& command =
      options.command("journal", "Verify, describe, dump or repair the journal of a stopped broker",
                      [flags] { return run(*flags); });
  command.synopsis("verify|stat|dump|repair DIR [OPTIONS]");
  command.group("Output");
  command.toggle("--json", flags->json, "print one JSON object; with dump, one per line");
  command.toggle("--quiet", flags->quiet, "print no progress to stderr");
  command.only_from_command_line();
  command.argument("ACTION", flags->action,
                   "verify: check every record; stat: print totals; dump: print the records; "
                   "repair: copy all that is intact into a new directory");
  command.argument("DIR", flags->directory, "the --data directory of the broker");
  command.group("Repair");
  command.text("--to", flags->to, "NEWDIR", "directory to create for the repaired journal");
  command.group("Dump");
  command.value("--from", flags->dump.from, parse_segment, "SEGMENT", "first segment to print");
  command.text("--job", flags->job, "ID", "only records about this job");
  command.toggle("--payloads", flags->dump.payloads, "print payloads and results too, in base64");
  command.example("millrace-broker journal verify /var/lib/millrace");
  command.example("millrace-broker journal dump /var/lib/millrace --job 3f9a1c07-42 --json");
  command.example("millrace-broker journal repair /var/lib/millrace --to /var/lib/millrace.new");
}

}  // namespace millrace::offline
