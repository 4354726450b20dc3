#include "producer/submit/forward.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/cli/progress.h"
#include "producer/client/client.h"
#include "producer/client/flags.h"
#include "producer/client/waiter.h"

namespace millrace::producer {
namespace {

class Forwarding {
 public:
  Forwarding(const ForwardFlags& flags, Client& client, Waiter& waiter)
      : flags_(flags),
        client_(client),
        waiter_(waiter),
        timeout_(first_answer_timeout(flags.connect_timeout, flags.timeout)),
        last_seen_(client.now()),
        deadline_(deadline_after(flags.timeout)),
        all_(client.spool()->jobs()) {}

  Result<ExitCode> run() {
    auto stopped = work();
    if (auto closed = client_.close(); !closed) return closed.error();
    report();
    if (stopped) return Error{stopped->code, fmt::format("{}: {}", stopped->message, account())};
    if (client_.refused() > 0)
      return Error{ExitCode::bad_data,
                   fmt::format("{}; see {}/rejected.ndjson", account(), flags_.spool)};
    return ExitCode::ok;
  }

 private:
  std::optional<Error> work() {
    Progress progress(Progress::style_for_stderr(flags_.quiet), client_.now());
    while (left() > 0) {
      const Mono wake = client_.now() + Millis(500);
      if (auto done = client_.poll(std::min(wake, deadline_), waiter_.fd()); !done)
        return done.error();
      progress.show(client_.now(), {{{"forwarded", client_.forwarded()}}, all_ - left(), all_});
      if (waiter_.interrupted()) return Error{ExitCode::interrupted, "interrupted"};
      if (auto lost = nobody_to_give_to()) return lost;
      if (client_.now() >= deadline_)
        return Error{ExitCode::temporary, "timed out after " + format_duration(flags_.timeout)};
    }
    progress.finish();
    return std::nullopt;
  }

  // What is left is for brokers that were not there for as long as one is waited for.
  std::optional<Error> nobody_to_give_to() {
    std::vector<Endpoint> missing;
    for (size_t i = 0; i < client_.brokers(); ++i) {
      const Connection& line = client_.line(i);
      if (line.spooled() == 0) continue;
      if (line.connected()) last_seen_ = client_.now();
      missing.push_back(line.broker());
    }
    if (missing.empty() || client_.now() < last_seen_ + timeout_) return std::nullopt;
    return Error{ExitCode::unavailable,
                 fmt::format("no broker answers at {} within {}", authorities_of(missing),
                             format_duration(flags_.connect_timeout))};
  }

  uint64_t left() const { return client_.spool()->jobs(); }

  std::string account() const {
    return fmt::format("{} of {} forwarded, {} rejected, {} left in {}", client_.forwarded(), all_,
                       client_.refused(), left(), flags_.spool);
  }

  void report() const {
    if (!flags_.json) return fmt::print("{}\n", account());
    fmt::print("{}\n", nlohmann::ordered_json{{"forwarded", client_.forwarded()},
                                              {"rejected", client_.refused()},
                                              {"left", left()}}
                           .dump());
  }

  const ForwardFlags& flags_;
  Client& client_;
  Waiter& waiter_;
  const Millis timeout_;
  Mono last_seen_;
  const Mono deadline_;
  const uint64_t all_;
};

}  // namespace

void declare_forward(Command& command, ForwardFlags& flags) {
  command.group("Spool");
  command.text("--spool", flags.spool, "DIR", "spool of a submit or gateway that is not running");
  command.require("--spool");
  declare_brokers(command, flags.brokers, flags.connect_timeout);
  declare_curve(command, flags.curve);
  command.group("Limits");
  command.duration("--timeout", flags.timeout, "overall timeout; 0s means none", "0s");
  command.group("Output");
  command.toggle("--json", flags.json, "print one JSON object to stdout");
  command.toggle("--quiet", flags.quiet, "print no progress");
  command.example("millrace-producer forward --spool /var/spool/millrace");
}

Result<ExitCode> run_forward(const ForwardFlags& flags) {
  std::error_code unknown;  // then open() says why
  if (!std::filesystem::exists(flags.spool + "/producer", unknown) && !unknown)
    return Error{
        ExitCode::bad_data,
        fmt::format("there is no spool {}: give the --spool of submit or gateway", flags.spool)};
  Waiter waiter;
  ClientOptions options;
  options.brokers = flags.brokers;
  options.curve = flags.curve;
  options.spool = flags.spool;
  Listener nobody;
  auto client = Client::open(std::move(options), nobody);
  if (!client) return client.error();
  return Forwarding(flags, **client, waiter).run();
}

}  // namespace millrace::producer
