#include "producer/client/waiter.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <utility>

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

SignalFd signals_of(Waiter::Signals taken) {
  switch (taken) {
    case Waiter::Signals::take:
      return SignalFd({SIGINT, SIGTERM});
    case Waiter::Signals::serve:
      return SignalFd({SIGINT, SIGTERM, SIGHUP});
    case Waiter::Signals::leave:
      break;
  }
  return SignalFd({});
}

}  // namespace

Waiter::Waiter(Signals taken)
    : signals_(signals_of(taken)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      timer_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  MILLRACE_CHECK(epoll_.is_open() && timer_.is_open());
  MILLRACE_CHECK(add(epoll_.get(), signals_.fd()) && add(epoll_.get(), timer_.get()));
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
  MILLRACE_CHECK(timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
}

void Waiter::watch(int fd, bool on) {
  if (on && watched_ < 0 && add(epoll_.get(), fd)) watched_ = fd;
  if (!on && watched_ >= 0) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watched_, nullptr);
    watched_ = -1;
  }
}

void Waiter::take_signals() {
  while (int signal = signals_.take()) {
    if (signal == SIGHUP) {
      log_info("SIGHUP ignored: there is nothing to reload");
    } else if (signal == SIGINT) {
      by_int_ = true;
    } else {
      by_second_term_ = std::exchange(by_term_, true);
    }
  }
}

bool Waiter::interrupted() {
  take_signals();
  return by_int_ || by_term_;
}

bool Waiter::terminated() {
  take_signals();
  return by_term_ && !by_int_ && !by_second_term_;
}

}  // namespace millrace::producer
