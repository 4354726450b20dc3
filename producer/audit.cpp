#include "producer/audit.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/progress.h"
#include "producer/books.h"
#include "producer/flags.h"
#include "producer/waiter.h"

namespace millrace::producer {
namespace {

// Hears the broker's answers into the books.
class Auditor : public Listener {
 public:
  explicit Auditor(Books& books) : books_(books) {}
  void told(protocol::JobRange jobs, protocol::JobState state) override {
    books_.told(jobs, state);
    answered_ += jobs.count;
  }
  uint64_t answered() const { return answered_; }

 private:
  Books& books_;
  uint64_t answered_ = 0;
};

void print_json(const Books& books) {
  nlohmann::ordered_json json{
      {"sent", books.sent},       {"confirmed", books.confirmed}, {"rejected", books.rejected},
      {"unknown", books.unknown}, {"done", books.done},           {"dead", books.dead},
      {"live", books.live},       {"cancelled", books.cancelled}, {"expired", books.expired},
      {"missing", books.missing}, {"balanced", books.balanced()}, {"holes", books.holes()}};
  fmt::print("{}\n", json.dump());
}

void print_table(const Books& books) {
  auto row = [](std::string_view name, uint64_t count, std::string_view note = "") {
    fmt::print("{:<12}{:>14}  {}\n", name, with_thousands(count), note);
  };
  row("sent", books.sent);
  row("  confirmed", books.confirmed);
  row("  rejected", books.rejected);
  row("  unknown", books.unknown, books.unknown ? "no answer came; the broker may have them" : "");
  row("confirmed", books.confirmed);
  row("  done", books.done);
  row("  dead", books.dead);
  row("  live", books.live);
  row("  cancelled", books.cancelled);
  row("  expired", books.expired);
  row("  missing", books.missing);
  fmt::print("{}\n", books.balanced() ? "The books balance." : "The books do NOT balance:");
  for (const std::string& hole : books.holes()) fmt::print("  {}\n", hole);
}

// Asks the broker for every job of its own that the books know.
Result<void> ask(const AuditFlags& flags, Books& books) {
  Auditor auditor(books);
  Waiter waiter;
  ClientOptions options;
  options.broker = flags.broker;
  options.curve = flags.curve;
  options.session.producer = Uuid::random();
  options.connect_timeout = first_answer_timeout(flags.connect_timeout, flags.timeout);
  auto opened = Client::open(options, auditor);
  if (!opened) return opened.error();
  Client& client = **opened;
  Mono deadline = deadline_after(flags.timeout);
  Progress progress(Progress::style_for_stderr(flags.quiet), client.now());
  bool asked = false;
  while (!asked || client.session().inquiring()) {
    if (auto done = client.poll(deadline, waiter.fd()); !done) return done;
    if (waiter.interrupted())
      return Error{ExitCode::interrupted, "interrupted; nothing was changed"};
    if (client.now() >= deadline && client.session().knows_broker()) {
      return Error{ExitCode::temporary,
                   fmt::format("the broker has not answered everything within {}; "
                               "raise --timeout",
                               format_duration(flags.timeout))};
    }
    progress.show(client.now(),
                  {{{"asked", auditor.answered()}}, auditor.answered(), books.confirmed});
    if (asked || !client.connected()) continue;
    asked = true;
    for (const auto& range : books.jobs_of(client.session().broker()))
      client.session().inquire(range);
  }
  books.close(client.session().broker());
  client.close();
  return {};
}

}  // namespace

void declare_audit(Command& command, AuditFlags& flags) {
  command.texts("--ledger", flags.ledgers, "FILE",
                "a ledger of submit or load; may be given several times");
  command.require("--ledger");
  declare_broker(command, flags.broker, flags.connect_timeout);
  declare_curve(command, flags.curve);
  command.duration("--timeout", flags.timeout, "longest wait for all answers; 0s: for ever", "5m");
  command.toggle("--json", flags.json, "one JSON object on stdout");
  command.toggle("--quiet", flags.quiet, "no progress");
}

Result<ExitCode> run_audit(const AuditFlags& flags) {
  LedgerEntries entries;
  for (const std::string& path : flags.ledgers) {
    if (auto read = read_ledger(path, &entries); !read) return read.error();
  }
  Books books(entries);
  if (auto asked = ask(flags, books); !asked) return asked.error();
  if (flags.json) {
    print_json(books);
  } else {
    print_table(books);
  }
  return books.balanced() ? ExitCode::ok : ExitCode::failed;
}

}  // namespace millrace::producer
