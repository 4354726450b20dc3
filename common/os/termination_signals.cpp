#include "common/os/termination_signals.h"

#include "common/os/log.h"

namespace millrace {

TerminationSignals::TerminationSignals() : signals_({SIGTERM, SIGINT, SIGHUP}) {
  signal(SIGPIPE, SIG_IGN);
}

int TerminationSignals::take() {
  int signal = signals_.take();
  for (; signal == SIGHUP; signal = signals_.take())
    log_info("SIGHUP ignored: there is nothing to reload");
  return signal;
}

}  // namespace millrace
