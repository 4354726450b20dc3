#include "broker/cli/status_command.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <memory>

#include "broker/admin/status_json.h"
#include "broker/cli/broker_client.h"
#include "broker/cli/cluster_status.h"
#include "broker/cli/status_text.h"
#include "common/base/terminal_text.h"
#include "common/os/termination_signals.h"

namespace millrace::admin {
namespace {

const std::string kTarget = "/v1/status";

struct QueryOptions {
  std::vector<Endpoint> brokers;
  std::string token;
  bool json = false, watch = false;
  Millis interval{1000};
};

Result<ExitCode> print_one(const AdminOptions& broker, bool json) {
  auto reply = ask_broker(broker, "GET", kTarget);
  if (!reply) return reply.error();
  try {
    fmt::print("{}", json ? terminal_json(reply->text) : status_text(reply->json));
  } catch (const nlohmann::json::exception&) {
    return not_a_broker(broker, kTarget);
  }
  return ExitCode::ok;
}

// All at once: those that are away cost the time of one.
std::vector<std::future<Result<BrokerReply>>> ask_all(const QueryOptions& query) {
  std::vector<std::future<Result<BrokerReply>>> replies;
  for (const Endpoint& http : query.brokers)
    replies.push_back(std::async(std::launch::async, [broker = AdminOptions{http, query.token}] {
      return ask_broker(broker, "GET", kTarget);
    }));
  return replies;
}

Result<void> add(const AdminOptions& broker, const Result<BrokerReply>& reply,
                 ClusterStatus* cluster) {
  if (!reply) return reply.error();
  try {
    cluster->add(broker.http, reply->json);
  } catch (const nlohmann::json::exception&) {
    return not_a_broker(broker, kTarget);
  }
  return {};
}

std::string id_of(const Result<BrokerReply>& reply) {
  if (!reply || !reply->json.is_object()) return "";
  const auto id = reply->json.find("broker");
  return id != reply->json.end() && id->is_string() ? id->get<std::string>() : "";
}

Result<ExitCode> print_cluster(const QueryOptions& query) {
  ClusterStatus cluster;
  std::string absent;
  size_t count = 0;
  auto replies = ask_all(query);
  for (size_t i = 0; i < replies.size(); ++i) {
    const auto reply = replies[i].get();
    if (auto other = cluster.find(id_of(reply)))  // its jobs would be counted twice
      return Error{ExitCode::config,
                   fmt::format("--http names one broker twice: {} and {} are both broker {}",
                               *other, query.brokers[i].authority(), id_of(reply))};
    auto added = add({query.brokers[i], query.token}, reply, &cluster);
    if (added) continue;
    cluster.add_absent(query.brokers[i], added.error().message);
    absent += (absent.empty() ? "" : "; ") + added.error().message;
    ++count;
  }
  fmt::print("{}", query.json ? json_text(cluster.to_json()) : cluster.to_text());
  if (count == 0) return ExitCode::ok;
  return Error{ExitCode::unavailable, fmt::format("{} of {} brokers can't be queried: {}", count,
                                                  query.brokers.size(), absent)};
}

Result<ExitCode> print_once(const QueryOptions& query) {
  return query.brokers.size() > 1 ? print_cluster(query)
                                  : print_one({query.brokers[0], query.token}, query.json);
}

// Until SIGINT or SIGTERM, or until nobody reads any more. A broker that is away is asked again.
Result<ExitCode> watch(const QueryOptions& query) {
  TerminationSignals signals;
  const bool clear = isatty(STDOUT_FILENO) && !query.json;
  pollfd item{signals.fd(), POLLIN, 0};
  for (Mono next = read_clock(); !signals.take(); next += query.interval) {
    if (clear) fmt::print("\x1b[H\x1b[2J");
    if (auto printed = print_once(query); !printed) {
      if (printed.error().code != ExitCode::unavailable &&
          printed.error().code != ExitCode::temporary)
        return printed.error();
      fmt::print(stderr, "{}\n", printed.error().message);
    }
    if (!clear && !query.json) fmt::print("\n");
    if (std::fflush(stdout) != 0) return Error{ExitCode::io, "can't write to standard output"};
    next = std::max(next, read_clock() - query.interval);
    poll(&item, 1, int(std::chrono::ceil<Millis>(next + query.interval - read_clock()).count()));
  }
  return ExitCode::ok;
}

Result<ExitCode> print_status(const QueryOptions& query) {
  for (auto broker = query.brokers.begin(); broker != query.brokers.end(); ++broker)
    if (std::find(query.brokers.begin(), broker, *broker) != broker)
      return Error{ExitCode::usage, fmt::format("--http names {} twice", broker->authority())};
  return query.watch ? watch(query) : print_once(query);
}

}  // namespace

void add_status_command(Options& options) {
  // The action keeps what its flags fill.
  auto query = std::make_shared<QueryOptions>();
  Command& command =
      options.command("status", "Show jobs, queues, workers and journal of running brokers",
                      [query] { return print_status(*query); });
  command.group("HTTP");
  command.endpoints("--http", query->brokers, kHttpPort,
                    "HTTP addresses of the brokers; for several, their totals and a line for each",
                    fmt::format("127.0.0.1:{}", kHttpPort));
  command.text("--http-token", query->token, "TOKEN", "the --http-token of the brokers");
  command.group("Output");
  command.toggle("--json", query->json, "print one JSON object; with --watch, one in each line");
  command.toggle("--watch", query->watch, "print it again and again, until interrupted");
  command.duration("--interval", query->interval, "time between two outputs of --watch", "1s",
                   Millis(100));
  command.example("millrace-broker status");
  command.example("millrace-broker status --http 10.0.0.1,10.0.0.2:5580 --json");
  command.example("millrace-broker status --watch --interval 5s");
}

}  // namespace millrace::admin
