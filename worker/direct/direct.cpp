#include "worker/direct/direct.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/base64.h"
#include "common/base/utf8.h"
#include "common/http/server.h"
#include "common/os/log.h"
#include "common/os/termination_signals.h"
#include "common/protocol/limits.h"
#include "worker/process/spawner.h"
#include "worker/run/run_options.h"

namespace millrace::worker {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kQueues = "/v1/queues/";
constexpr std::string_view kJobs = "/jobs";

struct DirectOptions {
  Endpoint http;
  std::string handler;
  int64_t backlog = 0;
  int64_t max_connections = 0;
  SpawnSettings commands;
  CommandLimits limits;
};

// The queue's name in /v1/queues/{queue}/jobs; empty for every other path.
std::string_view queue_of(std::string_view path) {
  if (!path.starts_with(kQueues) || !path.ends_with(kJobs)) return {};
  if (path.size() <= kQueues.size() + kJobs.size()) return {};
  return path.substr(kQueues.size(), path.size() - kQueues.size() - kJobs.size());
}

http::Response json_response(const Json& body) {
  return http::ok("application/json",
                  body.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void wait_for_signal(TerminationSignals& signals) {
  pollfd ready{signals.fd(), POLLIN, 0};
  while (signals.take() == 0) poll(&ready, 1, -1);
}

Result<ExitCode> run_direct(const DirectOptions& options) {
  if (!options.http.loopback()) {
    return Error{
        ExitCode::config,
        fmt::format(
            "--http {} would run anyone's requests, without authentication: use a loopback address",
            options.http.authority())};
  }
  TerminationSignals signals;  // before the first thread
  Spawner spawner(options.commands);
  auto handler = make_handler(options.handler, spawner, options.limits);
  if (!handler) return handler.error();
  Direct direct(*std::move(handler));
  http::ServerOptions server_options{.address = options.http, .limits = {}};
  server_options.limits.connections = size_t(options.max_connections);
  server_options.limits.backlog = int(options.backlog);
  auto server = http::Server::start(
      std::move(server_options),
      [&direct](const http::Request& request) { return direct.answer(request); });
  if (!server) return server.error();
  log_info("serving without a queue",
           {{"http", fmt::format("{}:{}", options.http.host, (*server)->port())},
            {"handler", options.handler}});
  wait_for_signal(signals);
  direct.stop();
  (*server)->stop();
  log_info("stopped", {{"done", direct.done()}, {"failed", direct.failed()}});
  return ExitCode::ok;
}

}  // namespace

http::Response Direct::answer(const http::Request& request) {
  if (request.path != "/healthz" && access_.from_elsewhere(request)) return http::forbidden();
  if (request.path == "/healthz" || request.path == "/v1/status") {
    if (request.method != "GET") return http::method_not_allowed("GET, HEAD");
    if (request.path == "/healthz") return http::ok("text/plain", "ok\n");
    return json_response({{"state", "serving"},
                          {"version", MILLRACE_VERSION},
                          {"pid", getpid()},
                          {"totals", {{"done", done_}, {"failed", failed_}}}});
  }
  std::string_view queue = queue_of(request.path);
  if (queue.empty())
    return http::problem(404, "there are /v1/queues/{queue}/jobs, /v1/status and /healthz");
  if (request.method != "POST") return http::method_not_allowed("POST");
  if (!protocol::valid_queue_name(queue)) {
    return http::problem(
        400, fmt::format("'{}' is not a queue name: use 1 to {} of A-Z a-z 0-9 . _ : -", queue,
                         protocol::kMaxQueueName));
  }
  return run(queue, request.body);
}

http::Response Direct::run(std::string_view queue, const std::string& payload) {
  Job job;
  job.lease.job = {done_ + failed_ + 1};
  job.payload = payload;
  job.max_result = protocol::kDefaultMaxJobSize;
  job.attempt = 1;
  job.wants_result = true;
  const Completion ended = handler_->run({job, queue, stop_});
  if (ended.kind != Completion::Kind::done) {
    failed_++;
    return http::problem(ended.goes_back() ? 503 : 500, ended.text);
  }
  done_++;
  Json body{{"state", "done"}, {"attempts", 1}};
  if (protocol::is_utf8(ended.text)) {
    body["result"] = ended.text;
  } else {
    body["result_base64"] = base64(ended.text);
  }
  return json_response(body);
}

void add_direct_command(Options& options) {
  auto direct = std::make_shared<DirectOptions>();  // the action keeps what its flags fill
  Command& command = options.command("direct", "Run requests directly, without a queue (baseline)",
                                     [direct] { return run_direct(*direct); });
  command.only_from_command_line();  // MILLRACE_HTTP is the broker's
  command.group("HTTP");
  command.endpoint("--http", direct->http, "address to listen on", "127.0.0.1:5595");
  command.integer("--backlog", direct->backlog,
                  "connections that may wait to be accepted; further ones get no answer", "100", 1,
                  4096);
  command.integer("--max-connections", direct->max_connections,
                  "maximum connections; further ones get 503", "4096", 1, 1'000'000);
  command.group("Execution");
  command.text("--handler", direct->handler, "HANDLER",
               "handler of each request, as in --queue of 'run'");
  command.require("--handler");
  command.group("Commands (exec: and stream:)");
  command.duration("--kill-after", direct->commands.kill_after,
                   "time between SIGTERM and SIGKILL for a command that has to stop", "5s");
  command.size("--limit-memory", direct->limits.memory,
               "maximum address space of each process (default: inherited)", "", 1 << 20);
  command.duration(
      "--limit-cpu", direct->limits.cpu,
      "maximum CPU time of each process for a request, rounded up to seconds (default: "
      "inherited)",
      "", std::chrono::seconds(1));
  command.example("millrace-worker direct --handler 'exec:./send-mail'");
}

}  // namespace millrace::worker
