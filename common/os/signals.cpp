#include "common/os/signals.h"

#include <sys/signalfd.h>

#include "common/base/check.h"

namespace millrace {

sigset_t signal_set(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : signals) sigaddset(&set, signal);
  return set;
}

SignalFd::SignalFd(std::initializer_list<int> signals) {
  const sigset_t set = signal_set(signals);
  MILLRACE_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  fd_ = FileDescriptor(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  MILLRACE_CHECK(fd_.is_open());
}

int SignalFd::take() {
  signalfd_siginfo info;
  const auto size = uninterrupted([&] { return read(fd_.get(), &info, sizeof info); });
  return size == ssize_t(sizeof info) ? int(info.ssi_signo) : 0;
}

SignalsBlocked::SignalsBlocked() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before_);
}

SignalsBlocked::~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

void unblock_signals(std::initializer_list<int> signals) {
  const sigset_t set = signal_set(signals);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace millrace
