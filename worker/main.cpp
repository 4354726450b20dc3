#include "common/cli/options.h"
#include "worker/direct/direct.h"
#include "worker/run/run_options.h"
#include "worker/run/run_worker.h"
#include "worker/run/status_server.h"

using namespace millrace;
using namespace millrace::worker;

namespace {

void add_run_command(Options& options, RunOptions& run) {
  auto& cmd = options.command("run", "run jobs until SIGTERM, then drain",
                              [&run] { return run_worker(run); });
  cmd.endpoints("--broker", run.brokers, kBackendPort,
                "the brokers' backends: their jobs are drawn alike", "127.0.0.1:5571");
  declare_curve(cmd, run.curve);
  cmd.list("--queue", run.queues, parse_queue, "NAME=HANDLER[@N]",
           "draw from this queue, or from all that begin with a prefix (tenant.*), with N threads of "
           "its own or those of --pool; HANDLER is echo, "
           "sleep:DURATION, burn:DURATION, fail:PERCENT, exec:COMMAND, stream:COMMAND or so:FILE; "
           "can be repeated");
  cmd.require("--queue");
  cmd.value("--pool", run.pool, parse_pool, "POOL",
            "single, per-job[:MAX], fixed[:N] (by default a thread for each usable processor, at "
            "least 4) or "
            "auto[:MIN-MAX]",
            "fixed");
  cmd.value("--prefetch", run.prefetch, parse_prefetch, "auto|N",
            "jobs to hold: auto is about 20 ms of work by measured run time", "auto");
  cmd.duration("--run-timeout", run.run_timeout,
               "a job that runs longer has failed and is stopped (default: none)", "", Millis(1));
  cmd.integer("--breaker", run.breaker,
              "failures in a row, each within 1s, after which one job at a time is tried; 0 never",
              "20", 0, 1'000'000);
  cmd.duration("--drain-timeout", run.drain_timeout,
               "what running jobs get on SIGTERM before they are given back", "30s");
  declare_commands(cmd, run.commands);
  cmd.duration("--connect-timeout", run.connect_timeout,
               "give up if no broker has answered for that long (default: never)");
  cmd.duration("--idle-exit", run.idle_exit,
               "drain and exit 0 after that long without a job (default: never)", "", Millis(1));
  cmd.text("--name", run.name, "NAME", "how the broker shows this worker", default_name());
  cmd.list("--label", run.labels, parse_label, "LABEL",
           "show this beside the name, such as gpu or rack-3; can be repeated");
  cmd.only_from_command_line();  // MILLRACE_HTTP is the broker's
  cmd.value(
      "--http", run.http, [](std::string_view text) { return parse_endpoint(text); }, "HOST:PORT",
      "show this worker's status there (default: nowhere)");
}

}  // namespace

int main(int argc, char** argv) {
  Options options("millrace-worker", "draws jobs from a broker and runs them in a pool of threads");
  RunOptions run;
  add_run_command(options, run);
  add_status_command(options);
  add_direct_command(options);
  return options.run(argc, argv);
}
