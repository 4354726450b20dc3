#include "broker/cli/operation_commands.h"
#include "broker/cli/status_command.h"
#include "broker/keys/keys_command.h"
#include "broker/offline/journal_command.h"
#include "broker/serve.h"
#include "broker/top/top_command.h"
#include "common/cli/options.h"
#include "common/version/version_command.h"

int main(int argc, char** argv) {
  millrace::Options options("millrace-broker", "Store jobs durably and hand them out to workers");
  millrace::ServeOptions serve;
  millrace::add_serve_command(options, serve);
  millrace::admin::add_status_command(options);
  millrace::top::add_top_command(options);
  millrace::admin::add_operation_commands(options);
  millrace::keys::add_keys_commands(options);
  millrace::offline::add_journal_command(options);
  millrace::add_version_command(options);
  return options.run(argc, argv);
}
