#include "common/cli/options.h"
#include "common/version/version_command.h"
#include "producer/audit/audit.h"
#include "producer/gateway/gateway_command.h"
#include "producer/load/load.h"
#include "producer/submit/forward.h"
#include "producer/submit/submit.h"

using namespace millrace;
using namespace millrace::producer;

int main(int argc, char** argv) {
  Options options("millrace-producer", "Submit jobs and track them to completion");

  SubmitFlags submit;
  declare_submit(
      options.command("submit", "Submit jobs; print their IDs, or their results with --wait",
                      [&] { return run_submit(submit); }),
      submit);

  LoadFlags load;
  declare_load(options.command("load", "Submit at a given rate and measure latency and throughput",
                               [&] { return run_load(load); }),
               load);

  GatewayFlags gateway;
  declare_gateway(options.command("gateway", "Accept submissions over HTTP",
                                  [&] { return run_gateway(gateway); }),
                  gateway);

  ForwardFlags forward;
  declare_forward(options.command("forward", "Forward the submissions in a spool to the brokers",
                                  [&] { return run_forward(forward); }),
                  forward);

  AuditFlags audit;
  declare_audit(options.command("audit", "Check that everything submitted is accounted for",
                                [&] { return run_audit(audit); }),
                audit);

  add_version_command(options);
  return options.run(argc, argv);
}
