#include "worker/run/status_server.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/terminal_text.h"
#include "common/base/time.h"
#include "common/http/access.h"
#include "common/http/client.h"
#include "common/os/log.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {
namespace {

using Json = nlohmann::ordered_json;

constexpr Millis kAskTimeout{5000};

Json percentiles_json(const Percentiles& values) {
  return {{"count", values.count}, {"p50", values.p50},   {"p90", values.p90},
          {"p99", values.p99},     {"p999", values.p999}, {"max", values.max}};
}

Json threads_json(const PoolStats& threads) {
  return {{"busy", threads.busy}, {"total", threads.threads}, {"stuck", threads.stuck}};
}

Json brokers_json(const std::vector<BrokerStatus>& brokers) {
  Json list = Json::array();
  for (const BrokerStatus& broker : brokers)
    list.push_back({{"address", broker.address},
                    {"connected", broker.connected},
                    {"prefetch", broker.prefetch},
                    {"held", broker.held},
                    {"unconfirmed", broker.unconfirmed},
                    {"confirmed", broker.confirmed}});
  return list;
}

Json sizes_json(const std::vector<PoolSize>& sizes) {
  Json list = Json::array();
  for (const PoolSize& size : sizes)
    list.push_back(
        {{"since_ms", to_int(size.since)}, {"threads", size.threads}, {"why", size.why}});
  return list;
}

Json throttled_json(const ExecutorStatus& executor) {
  if (!executor.throttled) return nullptr;
  return {{"state", executor.throttled->state},
          {"why", executor.throttled->why},
          {"limit", std::min(executor.throttled->limit, WorkerSession::kMaxPrefetch)},
          {"pause_ms", executor.throttled->pause.count()}};
}

Json executor_json(const ExecutorStatus& executor) {
  return {{"name", executor.name},
          {"queues", executor.queues},
          {"connected", executor.connected},
          {"pool", executor.pool},
          {"threads", threads_json(executor.threads)},
          {"waiting", executor.threads.waiting},
          {"prefetch", executor.prefetch},
          {"held", executor.held},
          {"unconfirmed", executor.unconfirmed},
          {"totals",
           {{"confirmed", executor.confirmed},
            {"done", executor.done},
            {"failed", executor.failed},
            {"released", executor.released}}},
          {"throttled", throttled_json(executor)},
          {"run_ms", percentiles_json(executor.run_ms)},
          {"wait_ms", percentiles_json(executor.wait_ms)},
          {"sizes", sizes_json(executor.threads.sizes)},
          {"brokers", brokers_json(executor.brokers)}};
}

std::string line_of(const Json& text) { return terminal_text(text.get<std::string>()); }

std::string text_of(const Json& status) {
  std::string text =
      fmt::format("{} (pid {})\n", line_of(status["state"]), status["pid"].get<int64_t>());
  text += fmt::format("{:<28} {:>12} {:>11} {:>8} {:>12} {:>10} {:>10}\n", "lane", "pool",
                      "busy/total", "held", "done", "run p99", "wait p99");
  for (const Json& executor : status["lanes"]) {
    const Json& threads = executor["threads"];
    text += fmt::format("{:<28} {:>12} {:>5}/{:<5} {:>8} {:>12} {:>7.1f} ms {:>7.1f} ms\n",
                        line_of(executor["name"]), line_of(executor["pool"]),
                        threads["busy"].get<int64_t>(), threads["total"].get<int64_t>(),
                        executor["held"].get<int64_t>(), executor["totals"]["done"].get<int64_t>(),
                        executor["run_ms"]["p99"].get<double>(),
                        executor["wait_ms"]["p99"].get<double>());
    const Json& throttled = executor["throttled"];
    if (throttled.is_object())
      text += fmt::format("  {}: at most {} jobs at a time: {}\n", line_of(throttled["state"]),
                          throttled["limit"].get<uint64_t>(), line_of(throttled["why"]));
  }
  return text;
}

// All threads that ever were, also those that have ended.
Json process_json() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto ms = [](timeval time) { return time.tv_sec * 1000 + time.tv_usec / 1000; };
  return {{"cpu_ms", ms(usage.ru_utime) + ms(usage.ru_stime)},
          {"max_rss_kib", usage.ru_maxrss},
          {"switches", {{"voluntary", usage.ru_nvcsw}, {"involuntary", usage.ru_nivcsw}}}};
}

struct Query {
  Endpoint http;
  bool json = false;
};

Result<ExitCode> print_status(const Query& query) {
  auto reply = http::get(query.http, "/v1/status", kAskTimeout, "", "worker");
  if (!reply) return reply.error();
  auto status = Json::parse(reply->body, nullptr, false);
  if (reply->status != 200 || !status.is_object() || !status.contains("lanes")) {
    return Error{
        ExitCode::bad_data,
        fmt::format("what answers at {} is not a Millrace worker: was it started with --http {}?",
                    query.http.authority(), query.http.authority())};
  }
  fmt::print("{}", query.json ? terminal_json(reply->body) : text_of(status));
  return ExitCode::ok;
}

}  // namespace

std::string status_json(const std::vector<ExecutorStatus>& executors, Millis uptime) {
  PoolStats sum;
  bool draining = false, connected = true;
  Json list = Json::array();
  for (const ExecutorStatus& executor : executors) {
    sum.busy += executor.threads.busy;
    sum.threads += executor.threads.threads;
    sum.stuck += executor.threads.stuck;
    draining |= executor.draining;
    connected &= executor.connected;
    list.push_back(executor_json(executor));
  }
  Json status{{"state", draining    ? "draining"
                        : connected ? "serving"
                                    : "connecting"},
              {"version", MILLRACE_VERSION},
              {"pid", getpid()},
              {"uptime_ms", uptime.count()},
              {"process", process_json()},
              {"log_lines_dropped", log_lines_dropped()},
              {"threads", threads_json(sum)},
              {"lanes", list}};
  return status.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<void> StatusServer::start(const RunOptions& options) {
  if (!options.http) return {};
  auto answer =
      [this, access = http::Access(std::string())](const http::Request& request) -> http::Response {
    if (request.path != "/healthz" && access.from_elsewhere(request)) return http::forbidden();
    if (request.method != "GET") return http::method_not_allowed("GET, HEAD");
    if (request.path == "/healthz") return http::ok("text/plain", "ok\n");
    if (request.path != "/v1/status")
      return http::problem(404, "there are /v1/status and /healthz");
    auto uptime = std::chrono::duration_cast<Millis>(read_clock() - started_);
    return http::ok("application/json", status_json(supervisor_.status(), uptime));
  };
  auto server = http::Server::start({.address = *options.http, .limits = {}}, answer);
  if (!server) return server.error();
  server_ = *std::move(server);
  log_info("status", {{"http", fmt::format("{}:{}", options.http->host, server_->port())}});
  return {};
}

void StatusServer::stop() {
  if (server_) server_->stop();
  server_.reset();
}

void add_status_command(Options& options) {
  auto query = std::make_shared<Query>();  // the action keeps what its flags fill
  Command& command = options.command("status", "Show threads and jobs of a running worker",
                                     [query] { return print_status(*query); });
  command.only_from_command_line();
  command.group("HTTP");
  command.value(
      "--http", query->http, [](std::string_view text) { return parse_endpoint(text); },
      "HOST:PORT", "the --http address of the worker");
  command.require("--http");
  command.group("Output");
  command.toggle("--json", query->json, "print one JSON object");
  command.example("millrace-worker status --http 127.0.0.1:5585");
}

}  // namespace millrace::worker
