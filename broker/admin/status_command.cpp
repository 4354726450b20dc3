#include "broker/admin/status_command.h"

#include <fmt/format.h>

#include <memory>

#include "broker/admin/broker_client.h"
#include "broker/admin/status_text.h"

namespace millrace::admin {
namespace {

struct QueryOptions {
  AdminOptions broker;
  bool json = false;
};

Result<ExitCode> print_status(const QueryOptions& options) {
  const std::string target = "/v1/status";
  auto reply = ask_broker(options.broker, "GET", target);
  if (!reply) return reply.error();
  try {
    fmt::print("{}", options.json ? reply->text : status_text(reply->json));
  } catch (const nlohmann::json::exception&) {
    return not_a_broker(options.broker, target);
  }
  return ExitCode::ok;
}

}  // namespace

void add_status_command(Options& options) {
  // The action keeps what its flags fill.
  auto query = std::make_shared<QueryOptions>();
  Command& command =
      options.command("status", "show jobs, queues, workers and journal of a running broker",
                      [query] { return print_status(*query); });
  add_http_flags(command, query->broker);
  command.toggle("--json", query->json, "print one JSON object");
}

}  // namespace millrace::admin
