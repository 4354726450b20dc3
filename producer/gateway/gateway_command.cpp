#include "producer/gateway/gateway_command.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>

#include "common/os/log.h"
#include "common/os/signals.h"
#include "producer/client/flags.h"
#include "producer/client/waiter.h"

namespace millrace::producer {
namespace {

constexpr uint64_t kOtherFiles = 64;  // besides connections: the broker's, libzmq's, logs
constexpr Millis kForever = std::chrono::hours(24 * 365);

// Each connection is a file; what the process may not open it must not promise.
size_t connections_within_limit(int64_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return size_t(wanted);
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) getrlimit(RLIMIT_NOFILE, &limit);
  const uint64_t most =
      limit.rlim_cur > 2 * kOtherFiles ? limit.rlim_cur - kOtherFiles : kOtherFiles;
  if (uint64_t(wanted) <= most) return size_t(wanted);
  log_warning("fewer connections than asked for: raise the limit of open files (ulimit -n)",
              {{"max_connections", most}, {"asked", wanted}});
  return size_t(most);
}

Result<GatewayOptions> options_of(const GatewayFlags& flags) {
  GatewayOptions options;
  options.http = flags.http;
  if (!flags.token_file.empty()) {
    auto tokens = http::read_tokens(flags.token_file, "--token-file");
    if (!tokens) return tokens.error();
    options.tokens = *std::move(tokens);
  } else if (!flags.http.loopback()) {
    return Error{ExitCode::config,
                 fmt::format("--http {} can be reached from other machines, so a token is needed: "
                             "give --token-file, or use --http 127.0.0.1:{}",
                             flags.http.authority(), flags.http.port)};
  }
  options.limits.body_bytes = size_t(flags.max_body);
  options.limits.all_body_bytes = size_t(flags.body_memory);
  options.limits.request_time = flags.request_timeout;
  options.limits.idle_time = flags.idle_timeout;
  options.batch_body_bytes = size_t(flags.max_batch_body);
  options.answer_timeout = flags.answer_timeout;
  options.max_wait = flags.max_wait;
  RunnerOptions& runner = options.runner;
  runner.client.brokers = flags.brokers;
  runner.client.spool = flags.spool;
  runner.client.spool_bytes = uint64_t(flags.spool_size);
  runner.client.curve = flags.curve;
  runner.client.connect_timeout = kForever;  // it comes when it comes: /readyz tells
  runner.client.session.producer = Uuid::random();
  runner.client.session.on_reject = OnReject::report;
  runner.when_unreachable = WhenUnreachable::refuse;
  runner.max_jobs = uint64_t(flags.max_pending);
  runner.max_bytes = uint64_t(flags.pending_memory);
  options.limits.connections = connections_within_limit(flags.max_connections);
  return options;
}

// False when the gateway failed.
bool wait_for_signal(Waiter& waiter, const Gateway& gateway) {
  pollfd fds[] = {{waiter.fd(), POLLIN, 0}, {gateway.failed_fd(), POLLIN, 0}};
  while (!waiter.interrupted()) {
    poll(fds, 2, -1);
    if (fds[1].revents != 0) return false;
  }
  return true;
}

// From here on a second signal ends the program at once.
void restore_signals() { unblock_signals({SIGINT, SIGTERM}); }

}  // namespace

void declare_gateway(Command& command, GatewayFlags& flags) {
  declare_broker_addresses(command, flags.brokers);
  command.duration("--answer-timeout", flags.answer_timeout,
                   "maximum wait for the broker's answer; after it the response is 503, state "
                   "unknown",
                   "10s", Millis(1));
  declare_curve(command, flags.curve);
  command.text("--token-file", flags.token_file, "FILE",
               "tokens, one per line: a request must carry one of them and sees only the jobs "
               "submitted with it; required beyond loopback");
  declare_spool(command, flags.spool, flags.spool_size);
  command.group("HTTP");
  command.endpoint("--http", flags.http, "address to listen on", "127.0.0.1:5590");
  command.duration("--request-timeout", flags.request_timeout,
                   "maximum time from first to last byte of a request, and of a response", "10s",
                   Millis(1));
  command.duration("--idle-timeout", flags.idle_timeout,
                   "maximum idle time of a connection between two requests", "60s", Millis(1));
  command.duration("--max-wait", flags.max_wait, "upper bound of ?wait=", "60s", Millis(1));
  command.duration("--drain-timeout", flags.drain_timeout,
                   "grace period for requests in progress on SIGTERM", "30s");
  command.group("Limits");
  command.size("--max-body", flags.max_body, "largest body of a job", "1MiB", 1, 64 << 20);
  command.size("--max-batch-body", flags.max_batch_body, "largest body of a batch", "16MiB", 1,
               256 << 20);
  command.size("--body-memory", flags.body_memory,
               "memory for request bodies; above it requests get 503", "256MiB", 1 << 20);
  command.integer("--max-connections", flags.max_connections,
                  "maximum connections; further ones get 503", "4096", 1, 1'000'000);
  command.integer("--max-pending", flags.max_pending,
                  "maximum submissions that the broker has not answered; further ones get 429",
                  "65536", 1, 10'000'000);
  command.size("--pending-memory", flags.pending_memory,
               "memory for submissions that the broker has not answered; above it they get 429",
               "64MiB", 1 << 10);
  command.example("millrace-producer gateway");
  command.example(
      "millrace-producer gateway --http 0.0.0.0:5590 --token-file tokens --spool "
      "/var/spool/millrace");
  command.example("curl -d 'hello' http://127.0.0.1:5590/v1/queues/mail/jobs");
}

Result<ExitCode> run_gateway(const GatewayFlags& flags) {
  auto options = options_of(flags);
  if (!options) return options.error();
  Waiter waiter(Waiter::Signals::serve);  // before the first thread
  signal(SIGPIPE, SIG_IGN);
  auto gateway = Gateway::start(*std::move(options));
  if (!gateway) return gateway.error();
  const Endpoint bound{flags.http.host, (*gateway)->port()};
  log_info("gateway listening",
           {{"http", "http://" + bound.authority()}, {"broker", authorities_of(flags.brokers)}});
  if (!wait_for_signal(waiter, **gateway)) return (*gateway)->error();
  restore_signals();
  log_info("gateway draining", {{"longest", format_duration(flags.drain_timeout)}});
  (*gateway)->drain(flags.drain_timeout);
  return ExitCode::ok;
}

}  // namespace millrace::producer
