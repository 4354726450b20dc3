#include "common/cli/options.h"
#include "common/version/version_command.h"
#include "worker/direct/direct.h"
#include "worker/run/run_options.h"
#include "worker/run/run_worker.h"
#include "worker/run/status_server.h"

using namespace millrace;
using namespace millrace::worker;

namespace {

void add_run_command(Options& options, RunOptions& run) {
  auto& cmd = options.command("run", "Run jobs until SIGTERM, then drain and exit",
                              [&run] { return run_worker(run); });
  cmd.group("Connection");
  cmd.endpoints("--broker", run.brokers, kBackendPort,
                "backends of the brokers; the worker takes jobs from all of them",
                "127.0.0.1:5571");
  cmd.duration("--connect-timeout", run.connect_timeout,
               "exit if no broker has answered within this time (default: never)");
  declare_curve(cmd, run.curve);
  cmd.group("Queueing");
  cmd.list("--queue", run.queues, parse_queue, "NAME=HANDLER[@N]",
           "take jobs from this queue, or from all queues with a prefix (tenant.*), and run them "
           "with N threads of their own or those of --pool; HANDLER is echo, sleep:DURATION, "
           "burn:DURATION, fail:PERCENT, exec:COMMAND, stream:COMMAND or so:FILE; repeatable");
  cmd.require("--queue");
  cmd.value("--prefetch", run.prefetch, parse_prefetch, "auto|N",
            "jobs to hold in advance; auto: about 20 ms of work by measured run time", "auto");
  cmd.group("Execution");
  cmd.value("--pool", run.pool, parse_pool, "POOL",
            "threads: single, per-job[:MAX], fixed[:N] (one per usable processor, at least 4, "
            "unless N is given) or auto[:MIN-MAX]",
            "fixed");
  cmd.duration("--run-timeout", run.run_timeout,
               "time after which a job is stopped and counts as failed (default: none)", "",
               Millis(1));
  cmd.integer("--breaker", run.breaker,
              "consecutive failures, each within 1 s, after which one job at a time is tried; 0 "
              "means never",
              "20", 0, 1'000'000);
  cmd.duration("--drain-timeout", run.drain_timeout,
               "grace period for running jobs on SIGTERM, after which they are returned", "30s");
  cmd.duration("--idle-exit", run.idle_exit,
               "drain and exit 0 after this time without a job (default: never)", "", Millis(1));
  cmd.group("Commands (exec: and stream:)");
  cmd.duration("--kill-after", run.commands.kill_after,
               "time between SIGTERM and SIGKILL for a command that has to stop", "5s");
  cmd.list("--limit-memory", run.commands.memory, parse_memory_limit, "[NAME=]SIZE",
           "maximum address space of each process, of queue NAME or of all that are not named; "
           "repeatable (default: inherited)");
  cmd.list("--limit-cpu", run.commands.cpu, parse_cpu_limit, "[NAME=]DURATION",
           "maximum CPU time of each process for a job, rounded up to seconds, likewise; "
           "repeatable (default: inherited)");
  cmd.group("Status");
  cmd.text("--name", run.name, "NAME", "name of this worker in the broker's status",
           default_name());
  cmd.list("--label", run.labels, parse_label, "LABEL",
           "label shown beside the name, such as gpu or rack-3; repeatable");
  cmd.only_from_command_line();  // MILLRACE_HTTP is the broker's
  cmd.value(
      "--http", run.http, [](std::string_view text) { return parse_endpoint(text); }, "HOST:PORT",
      "loopback address that serves the status of this worker (default: none)");
  cmd.example("millrace-worker run --queue mail=exec:./send-mail");
  cmd.example(
      "millrace-worker run --broker 10.0.0.1,10.0.0.2 --queue 'thumbs=stream:python3 thumbs.py@4' "
      "--pool auto:2-16");
  cmd.example("millrace-worker run --queue 'tenant.*=so:./handlers.so' --http 127.0.0.1:5585");
}

}  // namespace

int main(int argc, char** argv) {
  Options options("millrace-worker", "Take jobs from brokers and run them in a pool of threads");
  RunOptions run;
  add_run_command(options, run);
  add_status_command(options);
  add_direct_command(options);
  add_version_command(options);
  return options.run(argc, argv);
}
