#include "broker/serve.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/core/checkpoint_limit.h"
#include "common/base/check.h"
#include "common/os/descriptors.h"
#include "common/os/log.h"
#include "common/os/signals.h"
#include "common/os/start_resources.h"

namespace millrace {
namespace {

constexpr uint64_t kMinHistory = 1000;
// The journal's two, HTTP's, libzmq's two, the one that watches connections, the one that checks
// keys, and one that answers GETs. Beside their stacks a start takes what is set aside for a
// shortage, and a segment to read.
constexpr unsigned kThreads = 8;
constexpr uint64_t kStartBytes = server::MemoryWatch::kReserveBytes +
                                 server::MemoryWatch::kHeadroomBytes + journal::kSegmentBytes;
constexpr uint64_t kEndsOfJobs = 8
                                 << 20;  // bytes of the journal, for what ends jobs on a full disk

struct Fsync {
  journal::FsyncMode mode = journal::FsyncMode::always;
  Millis interval{0};
};

Result<Fsync> parse_fsync(std::string_view text) {
  constexpr std::string_view kInterval = "interval:";
  if (text == "always") return Fsync{};
  if (text == "never") return Fsync{journal::FsyncMode::never, Millis(0)};
  if (text.starts_with(kInterval)) {
    auto interval = parse_duration(text.substr(kInterval.size()));
    if (interval && interval->count() > 0) return Fsync{journal::FsyncMode::interval, *interval};
  }
  return Error{ExitCode::usage, fmt::format("bad value for --fsync: '{}' is not always, never or "
                                            "interval:DURATION, as in interval:100ms",
                                            text)};
}

Result<void> check_exposed(const Endpoint& endpoint, const char* flag, bool insecure) {
  if (endpoint.loopback()) return {};
  if (insecure) {
    log_warning(
        "listening beyond this machine without authentication: anyone who reaches the port can "
        "submit and take jobs",
        {{"flag", flag}, {"address", endpoint.authority()}});
    return {};
  }
  return Error{
      ExitCode::config,
      fmt::format("{} {}: beyond loopback anyone who reaches the port could submit and take jobs; "
                  "give --curve-key and --curve-allow (millrace-broker keygen makes keys), bind to "
                  "127.0.0.1, or accept that with --insecure on a network that you trust",
                  flag, endpoint.authority())};
}

Result<void> read_keys(ServeOptions& serve) {
  if (serve.curve_key.empty() && serve.curve_allow.empty()) return {};
  if (serve.curve_allow.empty())
    return Error{ExitCode::config,
                 "--curve-key without --curve-allow would accept any key: give the list of keys "
                 "that may connect ('millrace-broker keys add' creates one)"};
  if (serve.curve_key.empty())
    return Error{ExitCode::config,
                 "--curve-allow needs the broker's own --curve-key ('millrace-broker keygen' makes "
                 "one)"};
  if (auto usable = curve_usable(); !usable) return usable;
  auto own = read_secret_key(serve.curve_key);
  if (!own) return own.error();
  serve.server.curve = server::CurveServer{*std::move(own), serve.curve_allow};
  return {};
}

// What the journal, the HTTP port and libzmq need is set aside before connections get the rest.
void divide_descriptors(ServeOptions& serve) {
  serve.server.descriptors = raise_descriptor_limit();
  const auto budget = DescriptorBudget::of(serve.server.descriptors);
  const auto wanted = uint64_t(serve.max_connections);
  serve.server.max_connections =
      wanted == 0 ? budget.connections : std::min(wanted, budget.connections);
  serve.admin.max_connections = size_t(budget.http);
  if (wanted > budget.connections)
    log_warning("fewer connections than asked for: raise the limit of open files (ulimit -n)",
                {{"max_connections", budget.connections}, {"asked", wanted}});
}

// A Checkpoint begins each segment, and must leave room in it.
Result<void> check_checkpoint_size(const server::ServerOptions& server) {
  const uint64_t most = core::max_history(server.core, server.journal.segment_bytes);
  if (server.core.history <= most) return {};
  if (most < kMinHistory)
    return Error{ExitCode::usage,
                 fmt::format("--key-memory {} is too large: the keys would fill the checkpoints of "
                             "the journal, whose segments have {} MiB; lower it",
                             server.core.retention.key_bytes, server.journal.segment_bytes >> 20)};
  return Error{ExitCode::usage,
               fmt::format("--history {} is too large: with --key-memory {} a checkpoint of the "
                           "journal could take more than {:.0f} % of its segments of {} MiB; lower "
                           "--history to {} or less, or lower --key-memory",
                           server.core.history, server.core.retention.key_bytes,
                           core::kCheckpointShare * 100, server.journal.segment_bytes >> 20, most)};
}

// With less a full disk could take no completion, and would stay full for good. An operator's
// setting that was taken before must not keep a broker from starting, and more than was asked for
// does no harm; 0 is taken at its word.
void raise_disk_reserve(server::ServerOptions& server) {
  constexpr uint64_t kMiB = 1 << 20;
  const uint64_t checkpoint = core::max_checkpoint_bytes(server.core);
  server.for_completions = (checkpoint + kEndsOfJobs + kMiB - 1) / kMiB * kMiB;
  const std::string least = fmt::format("{}MiB", server.for_completions / kMiB);
  if (server.disk_reserve == 0) {
    log_warning(
        "--disk-reserve 0: on a full disk nothing can be recorded, not even that jobs are done, "
        "until "
        "space is freed by hand",
        {{"remedy", "--disk-reserve " + least + " or more"}});
  } else if (server.disk_reserve < server.for_completions) {
    log_warning("--disk-reserve is raised to what a checkpoint of the journal and completions need",
                {{"asked", server.disk_reserve}, {"disk_reserve", least}});
    server.disk_reserve = server.for_completions;
  }
}

Result<void> apply(ServeOptions& serve) {
  auto fsync = parse_fsync(serve.fsync);
  if (!fsync) return fsync.error();
  auto& server = serve.server;
  for (Endpoint* endpoint : {&serve.frontend, &serve.backend})
    if (endpoint->host == "localhost") endpoint->host = "127.0.0.1";  // a bind takes no names
  server.frontend = serve.frontend.uri();
  server.backend = serve.backend.uri();
  server.fsync_name = serve.fsync;
  server.journal.fsync = fsync->mode;
  server.journal.fsync_interval = fsync->interval;
  server.core.durability = fsync->mode == journal::FsyncMode::always ? "confirmed" : "buffered";
  server.core.backoff_min = serve.backoff.min;
  server.core.backoff_max = serve.backoff.max;
  server.core.max_attempts = uint8_t(serve.max_attempts);
  server.core.crash_limit = uint8_t(serve.crash_limit);
  server.core.liveness = uint64_t(serve.liveness);
  server.core.max_job_size = uint64_t(serve.max_job_size);
  server.core.max_queued = uint64_t(serve.max_queued);
  server.core.max_memory = uint64_t(serve.max_memory);
  server.core.max_queues = uint64_t(serve.max_queues);
  server.core.max_queued_per_producer = uint64_t(serve.max_queued_per_producer);
  server.core.submit_rate_per_producer = uint64_t(serve.submit_rate_per_producer);
  server.core.retention.key_bytes = uint64_t(serve.key_memory);
  server.core.retention.result_bytes = uint64_t(serve.result_memory);
  server.memory = uint64_t(serve.memory);
  server.send_buffer = uint64_t(serve.send_buffer);
  server.send_buffer_total = uint64_t(serve.send_buffer_total);
  server.disk_reserve = uint64_t(serve.disk_reserve);
  if (auto fits = check_checkpoint_size(server); !fits) return fits;
  raise_disk_reserve(server);
  divide_descriptors(serve);
  if (server.frontend == server.backend)
    return Error{ExitCode::usage, "--frontend and --backend are both " + server.frontend +
                                      "; producers and workers need an address each"};
  if (auto keys = read_keys(serve); !keys) return keys;
  if (server.curve) return {};
  for (auto [endpoint, flag] :
       {std::pair{&serve.frontend, "--frontend"}, {&serve.backend, "--backend"}})
    if (auto exposed = check_exposed(*endpoint, flag, serve.insecure); !exposed) return exposed;
  return {};
}

// Distributions give each user a group of their own, and its directories to that: no reason to
// refuse.
void warn_if_group_may_write(const std::string& directory) {
  struct stat info {};
  if (stat(directory.c_str(), &info) == 0 && (info.st_mode & S_IWGRP) != 0)
    log_warning(
        "the members of a group can write to the data directory, and could replace the journal: "
        "unless you are the only member, allow only the owner to write to it",
        {{"directory", directory}, {"remedy", "chmod g-w " + directory}});
}

Result<ExitCode> run(ServeOptions& serve) {
  if (auto applied = apply(serve); !applied) return applied.error();
  if (auto enough = check_start_resources(kThreads, kStartBytes); !enough) return enough.error();
  signal(SIGPIPE, SIG_IGN);
  SignalFd signals({SIGTERM, SIGINT, SIGHUP});  // before the first thread
  server::Server server(serve.server);
  auto admin = admin::AdminServer::start(serve.admin, server.publisher(), server.admin_queue());
  if (!admin) return admin.error();
  auto opened = server.open(signals.fd());
  if (opened) warn_if_group_may_write(serve.server.journal.directory);
  const auto ended = opened && *opened ? server.run(signals.fd()) : Result<void>();
  (*admin)->stop();
  if (!opened) return opened.error();
  if (!ended) return ended.error();
  return ExitCode::ok;
}

}  // namespace

void add_serve_command(Options& options, ServeOptions& serve) {
  auto& command =
      options.command("serve", "Run the broker: store jobs durably and hand them out to workers",
                      [&serve] { return run(serve); });
  auto& core = serve.server.core;
  command.group("Connection");
  command.endpoint("--frontend", serve.frontend, "address where producers connect",
                   "tcp://127.0.0.1:5570");
  command.endpoint("--backend", serve.backend, "address where workers connect",
                   "tcp://127.0.0.1:5571");
  command.duration("--heartbeat", core.heartbeat, "interval between heartbeats", "1s", Millis(10));
  command.integer("--liveness", serve.liveness,
                  "missed heartbeats after which a peer is treated as gone", "3", 2, 100);
  admin::add_http_flags(command, serve.admin);
  command.group("Security");
  command.text("--curve-key", serve.curve_key, "FILE",
               "secret key of this broker; producers and workers then need keys too");
  command.text("--curve-allow", serve.curve_allow, "FILE",
               "public keys that may connect; reloaded automatically when it changes");
  command.toggle("--insecure", serve.insecure,
                 "allow addresses beyond loopback without authentication");
  command.group("Journal");
  command.text("--data", serve.server.journal.directory, "DIR", "directory of the journal",
               "./millrace-data");
  command.text("--fsync", serve.fsync, "always|interval:DURATION|never",
               "when to sync the journal to disk; with anything but always, submissions are "
               "confirmed as buffered",
               "always");
  command.size("--disk-reserve", serve.disk_reserve,
               "free disk space below which submissions are rejected; 0 means no reserve",
               "128MiB");
  command.group("Queueing");
  command.duration("--lease", core.lease, "duration of a lease unless the worker extends it", "30s",
                   Millis(100));
  command.integer("--max-attempts", serve.max_attempts,
                  "failed attempts before a job is marked dead", "5", 1, 255);
  command.integer("--crash-limit", serve.crash_limit,
                  "crashed attempts before a job is marked dead", "5", 1, 255);
  command.duration_range("--backoff", serve.backoff,
                         "delay before a retry; doubles from MIN up to MAX", "500ms..5m");
  command.group("Retention");
  command.integer("--history", core.history,
                  "ranges of ended jobs whose outcome is stored; the oldest are evicted first",
                  "100000", kMinHistory, 10'000'000);
  command.duration("--key-window", core.retention.key_window,
                   "time during which an idempotency key refers to its job", "24h");
  command.size("--key-memory", serve.key_memory,
               "memory for idempotency keys; the oldest are evicted first", "16MiB");
  command.duration("--result-ttl", core.retention.result_ttl,
                   "time for which a result is stored for its producer", "1h");
  command.size("--result-memory", serve.result_memory,
               "memory for stored results; the oldest are evicted first", "64MiB");
  command.group("Limits");
  command.size("--max-job-size", serve.max_job_size, "largest payload or result", "1MiB", 1,
               64 << 20);
  command.integer("--max-queued", serve.max_queued,
                  "maximum unfinished jobs; further submissions are rejected", "10000000", 1);
  command.integer("--max-queued-per-producer", serve.max_queued_per_producer,
                  "maximum unfinished jobs of one producer or key; 0 means no limit", "0", 0,
                  1'000'000'000);
  command.integer("--submit-rate-per-producer", serve.submit_rate_per_producer,
                  "maximum jobs per second that one producer or key may submit; 0 means no limit",
                  "0", 0, 1'000'000'000);
  command.integer("--max-queues", serve.max_queues,
                  "maximum queues; new ones are rejected until empty ones are removed", "1000000",
                  1, 100'000'000);
  command.size("--memory", serve.memory,
               "memory for payloads; further ones are read back from the journal", "256MiB");
  command.size("--max-memory", serve.max_memory,
               "memory for the state of jobs; above it submissions are rejected", "4GiB");
  command.integer("--max-connections", serve.max_connections,
                  "maximum connections of producers and workers together; 0 means as many as the "
                  "limit of open files allows",
                  "0", 0);
  command.size("--send-buffer", serve.send_buffer,
               "largest send queue of one peer; above it the peer is disconnected", "16MiB",
               1 << 20);
  command.size("--send-buffer-total", serve.send_buffer_total,
               "send queues of all peers together; above it the peers with the longest are "
               "disconnected",
               "256MiB", 1 << 20);
  command.example("millrace-broker serve --data /var/lib/millrace");
  command.example(
      "millrace-broker serve --frontend 0.0.0.0:5570 --backend 0.0.0.0:5571 --curve-key "
      "broker.key --curve-allow clients.allow");
  command.example("MILLRACE_LEASE=2m millrace-broker serve --config broker.toml");
}

}  // namespace millrace
