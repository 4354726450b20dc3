#include "producer/client/waiter.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/base/check.h"
#include "common/os/log.h"

namespace millrace::producer {
namespace {

bool add(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

Waiter::Waiter(Signals taken) {
  sigset_t signals;
  sigemptyset(&signals);
  if (taken != Signals::leave) {
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    if (taken == Signals::serve) sigaddset(&signals, SIGHUP);
  }
  MILLRACE_CHECK(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  signals_ = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  MILLRACE_CHECK(epoll_ >= 0 && signals_ >= 0 && timer_ >= 0);
  MILLRACE_CHECK(add(epoll_, signals_) && add(epoll_, timer_));
}

Waiter::~Waiter() {
  close(timer_);
  close(signals_);
  close(epoll_);
}

// std::chrono::steady_clock is CLOCK_MONOTONIC on Linux. Setting the timer also clears it.
void Waiter::wake_at(Mono at) {
  itimerspec spec{};
  if (at != Mono::max()) {
    auto since = std::max(at.time_since_epoch(), Mono::duration(1));
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
    spec.it_value.tv_sec = seconds.count();
    spec.it_value.tv_nsec = (since - seconds).count();
  }
  MILLRACE_CHECK(timerfd_settime(timer_, TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
}

void Waiter::watch(int fd, bool on) {
  if (on && watched_ < 0 && add(epoll_, fd)) watched_ = fd;
  if (!on && watched_ >= 0) {
    epoll_ctl(epoll_, EPOLL_CTL_DEL, watched_, nullptr);
    watched_ = -1;
  }
}

void Waiter::take_signals() {
  signalfd_siginfo info;
  while (read(signals_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGHUP) {
      log_info("SIGHUP ignored: there is nothing to reload");
    } else {
      (info.ssi_signo == SIGINT ? by_int_ : by_term_) = true;
    }
  }
}

bool Waiter::interrupted() {
  take_signals();
  return by_int_ || by_term_;
}

bool Waiter::terminated() {
  take_signals();
  return by_term_ && !by_int_;
}

}  // namespace millrace::producer
