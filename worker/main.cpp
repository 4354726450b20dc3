#include "common/options.h"
#include "worker/run_options.h"
#include "worker/runner.h"

using namespace millrace;
using namespace millrace::worker;

int main(int argc, char** argv) {
  Options options("millrace-worker", "draws jobs from a broker and runs them in a pool of threads");
  RunOptions run;
  auto& cmd = options.command("run", "run jobs until SIGTERM, then drain",
                              [&run] { return run_worker(run); });
  cmd.endpoints("--broker", run.brokers, kBackendPort, "the broker's backend", "127.0.0.1:5571");
  cmd.list("--queue", run.queues, parse_queue, "NAME=HANDLER",
           "draw from this queue; HANDLER is echo, sleep:DURATION, burn:DURATION, fail:PERCENT or "
           "exec:COMMAND; can be repeated");
  cmd.require("--queue");
  cmd.value("--pool", run.threads, parse_pool, "POOL",
            "fixed:N (threads), fixed (one for each core, at least 4) or single", "fixed");
  cmd.value("--prefetch", run.prefetch, parse_prefetch, "auto|N",
            "jobs to hold: auto is about 20 ms of work by measured run time", "auto");
  cmd.duration("--drain-timeout", run.drain_timeout,
               "what running jobs get on SIGTERM before they are given back", "30s");
  cmd.duration("--connect-timeout", run.connect_timeout,
               "give up if no broker has answered for that long (default: never)");
  cmd.text("--name", run.name, "NAME", "how the broker shows this worker", default_name());
  return options.run(argc, argv);
}
