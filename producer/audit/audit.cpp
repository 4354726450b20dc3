#include "producer/audit/audit.h"

#include <fmt/format.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/cli/progress.h"
#include "producer/audit/reconciliation.h"
#include "producer/client/flags.h"
#include "producer/client/waiter.h"

namespace millrace::producer {
namespace {

// Takes the broker's answers into the reconciliation.
class Auditor : public Listener {
 public:
  explicit Auditor(Reconciliation& books) : reconciliation_(books) {}
  void told(protocol::JobRange jobs, protocol::JobState state) override {
    reconciliation_.told(jobs, state);
    answered_ += jobs.count;
  }
  uint64_t answered() const { return answered_; }

 private:
  Reconciliation& reconciliation_;
  uint64_t answered_ = 0;
};

void print_json(const Reconciliation& books) {
  nlohmann::ordered_json json{
      {"sent", books.sent},       {"confirmed", books.confirmed}, {"rejected", books.rejected},
      {"unknown", books.unknown}, {"done", books.done},           {"dead", books.dead},
      {"live", books.live},       {"cancelled", books.cancelled}, {"expired", books.expired},
      {"ended", books.ended},     {"missing", books.missing},     {"balanced", books.balanced()},
      {"holes", books.holes()}};
  fmt::print("{}\n", json.dump());
}

void print_table(const Reconciliation& books) {
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
  if (books.ended > 0)
    row("  ended", books.ended, "outcome no longer stored: older than the broker's --history");
  row("  missing", books.missing);
  fmt::print("{}\n", books.balanced() ? "Totals reconcile: everything submitted is accounted for."
                                      : "Totals do NOT reconcile:");
  for (const std::string& hole : books.holes()) fmt::print("  {}\n", hole);
}

// Asks each broker for every job of its own that the ledgers name.
class Inquirer {
 public:
  Inquirer(const AuditFlags& flags, Reconciliation& books)
      : flags_(flags),
        reconciliation_(books),
        auditor_(books),
        deadline_(deadline_after(flags.timeout)),
        connect_by_(deadline_after(first_answer_timeout(flags.connect_timeout, flags.timeout))),
        asked_(flags.brokers.size(), false) {}

  Result<void> run() {
    ClientOptions options;
    options.brokers = flags_.brokers;
    options.curve = flags_.curve;
    options.session.producer = Uuid::random();
    options.connect_timeout = first_answer_timeout(flags_.connect_timeout, flags_.timeout);
    auto opened = Client::open(options, auditor_);
    if (!opened) return opened.error();
    client_ = *std::move(opened);
    Progress progress(Progress::style_for_stderr(flags_.quiet), client_->now());
    while (!has_asked_all() || client_->inquiring()) {
      const Mono until = has_asked_all() ? deadline_ : std::min(deadline_, connect_by_);
      if (auto done = client_->poll(until, waiter_.fd()); !done) return done;
      if (auto late = stop_reason()) return *late;
      progress.show(
          client_->now(),
          {{{"asked", auditor_.answered()}}, auditor_.answered(), reconciliation_.confirmed});
      ask_new_ones();
    }
    std::vector<BrokerId> brokers;
    for (size_t i = 0; i < asked_.size(); ++i) brokers.push_back(client_->session(i).broker());
    reconciliation_.close(brokers);
    return client_->close();
  }

 private:
  bool has_asked_all() const {
    return std::find(asked_.begin(), asked_.end(), false) == asked_.end();
  }

  void ask_new_ones() {
    for (size_t i = 0; i < asked_.size(); ++i) {
      if (asked_[i] || !client_->line(i).connected()) continue;
      asked_[i] = true;
      for (const auto& range : reconciliation_.jobs_of(client_->session(i).broker()))
        client_->session(i).inquire(range);
    }
  }

  std::optional<Error> stop_reason() {
    if (waiter_.interrupted())
      return Error{ExitCode::interrupted, "interrupted; nothing was changed"};
    const size_t missing = size_t(std::find(asked_.begin(), asked_.end(), false) - asked_.begin());
    if (missing < asked_.size() && client_->now() >= connect_by_ &&
        !client_->line(missing).connected())
      return Error{ExitCode::unavailable,
                   fmt::format("the broker at {} does not answer, and the audit is incomplete "
                               "without it: is it running?",
                               flags_.brokers[missing].authority())};
    if (client_->now() < deadline_ || !client_->knows_broker()) return std::nullopt;
    return Error{ExitCode::temporary,
                 fmt::format("not everything was answered within {}; raise --timeout",
                             format_duration(flags_.timeout))};
  }

  const AuditFlags& flags_;
  Reconciliation& reconciliation_;
  Auditor auditor_;
  Waiter waiter_;
  const Mono deadline_, connect_by_;
  std::vector<bool> asked_;  // each broker
  std::unique_ptr<Client> client_;
};

}  // namespace

void declare_audit(Command& command, AuditFlags& flags) {
  command.group("Input");
  command.texts("--ledger", flags.ledgers, "FILE", "ledger written by submit or load; repeatable");
  command.require("--ledger");
  declare_brokers(command, flags.brokers, flags.connect_timeout);
  declare_curve(command, flags.curve);
  command.group("Limits");
  command.duration("--timeout", flags.timeout, "maximum wait for all answers; 0s means no limit",
                   "5m");
  command.group("Output");
  command.toggle("--json", flags.json, "print one JSON object to stdout");
  command.toggle("--quiet", flags.quiet, "print no progress");
  command.example("millrace-producer audit --ledger load.ledger");
  command.example("millrace-producer audit --ledger a.ledger --ledger b.ledger --broker 10.0.0.1");
}

Result<ExitCode> run_audit(const AuditFlags& flags) {
  LedgerEntries entries;
  for (const std::string& path : flags.ledgers) {
    if (std::count(flags.ledgers.begin(), flags.ledgers.end(), path) > 1)
      return Error{ExitCode::usage, fmt::format("--ledger names {} twice", path)};
    if (auto read = read_ledger(path, &entries); !read) return read.error();
  }
  Reconciliation books(entries);
  if (auto asked = Inquirer(flags, books).run(); !asked) return asked.error();
  if (flags.json) {
    print_json(books);
  } else {
    print_table(books);
  }
  return books.balanced() ? ExitCode::ok : ExitCode::failed;
}

}  // namespace millrace::producer
