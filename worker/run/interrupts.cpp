#include "worker/run/interrupts.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/os/log.h"

namespace millrace::worker {

Interrupts::Interrupts() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t ours;
  sigemptyset(&ours);
  sigaddset(&ours, SIGTERM);
  sigaddset(&ours, SIGINT);
  sigaddset(&ours, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &ours, nullptr);
  fd_ = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
  MILLRACE_CHECK(fd_ >= 0);
}

Interrupts::~Interrupts() {
  while (take() != 0) {
  }
  close(fd_);
}

int Interrupts::take() {
  signalfd_siginfo info;
  while (read(fd_, &info, sizeof info) == ssize_t(sizeof info)) {
    if (info.ssi_signo != SIGHUP) return int(info.ssi_signo);
    log_info("SIGHUP ignored: there is nothing to reload, and a closed terminal ends no worker");
  }
  return 0;
}

}  // namespace millrace::worker
