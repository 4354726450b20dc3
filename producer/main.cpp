#include "common/cli/options.h"
#include "producer/audit/audit.h"
#include "producer/submit/forward.h"
#include "producer/gateway/gateway_command.h"
#include "producer/load/load.h"
#include "producer/submit/submit.h"

using namespace millrace;
using namespace millrace::producer;

int main(int argc, char** argv) {
  Options options("millrace-producer",
                  "gives jobs to a Millrace broker and follows them to their end");

  SubmitFlags submit;
  declare_submit(options.command("submit", "submit payloads; print job ids, or results with --wait",
                                 [&] { return run_submit(submit); }),
                 submit);

  LoadFlags load;
  declare_load(options.command("load", "submit at a rate and measure what becomes of it",
                               [&] { return run_load(load); }),
               load);

  GatewayFlags gateway;
  declare_gateway(
      options.command("gateway", "take submissions by HTTP", [&] { return run_gateway(gateway); }),
      gateway);

  ForwardFlags forward;
  declare_forward(options.command("forward", "give the brokers what lies in a spool",
                                  [&] { return run_forward(forward); }),
                  forward);

  AuditFlags audit;
  declare_audit(
      options.command("audit", "compare the ledgers of submit and load with the broker's state",
                      [&] { return run_audit(audit); }),
      audit);

  return options.run(argc, argv);
}
