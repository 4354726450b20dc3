#include "tests/load/open_loop.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <deque>

#include "tests/load/answer_reader.h"

namespace millrace::load {
namespace {

constexpr uint64_t kTimer = ~uint64_t(0);
constexpr uint64_t kNone = ~uint64_t(0);
constexpr int kEventsAtOnce = 512;
constexpr size_t kReadBytes = 16 << 10;

class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct Connection {
  File file;
  bool connected = false;
  uint64_t request = kNone;  // under way
  size_t sent = 0;           // of its bytes
  AnswerReader reader;
};

class Loop {
 public:
  explicit Loop(const Plan& plan) : plan_(plan) {}

  Result<Outcome> run();

 private:
  struct Due {
    size_t slot;
    uint64_t request;
  };

  Result<void> open();
  Mono due(uint64_t request) const {
    return start_ + std::chrono::nanoseconds(request * 1'000'000'000 / plan_.rate);
  }
  void set_timer(Mono now);
  void begin_due(Mono now);
  void expire(Mono now);
  void begin(uint64_t request, Mono now);
  bool connect(size_t slot);
  void on_event(size_t slot, uint32_t events);
  void on_connected(size_t slot);
  void send(size_t slot);
  void receive(size_t slot, bool ending);
  void on_answer(size_t slot);
  void on_closed(size_t slot);
  void end(uint64_t request, End how);
  void drop(size_t slot);

  const Plan& plan_;
  Outcome out_;
  std::string message_;
  sockaddr_storage address_{};
  socklen_t address_size_ = 0;
  File epoll_;
  File timer_;
  Mono start_{};
  uint64_t begun_ = 0;
  uint64_t ended_ = 0;
  uint64_t open_ = 0;
  std::vector<Connection> slots_;
  std::vector<size_t> idle_;   // the last used at the end
  std::vector<size_t> empty_;  // without a connection
  std::deque<Due> due_;        // in order of time
};

void allow_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Error failure(std::string_view what) {
  return {ExitCode::io, fmt::format("{}: {}", what, std::strerror(errno))};
}

Result<void> Loop::open() {
  addrinfo* found = nullptr;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  const std::string port = std::to_string(plan_.server.port);
  if (getaddrinfo(plan_.server.host.c_str(), port.c_str(), &hints, &found) != 0) {
    return Error{
        ExitCode::unavailable,
        fmt::format("the host name '{}' can't be resolved: check its spelling and the name server",
                    plan_.server.host)};
  }
  std::memcpy(&address_, found->ai_addr, found->ai_addrlen);
  address_size_ = found->ai_addrlen;
  freeaddrinfo(found);
  epoll_ = File(epoll_create1(EPOLL_CLOEXEC));
  timer_ = File(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kTimer}};
  if (!epoll_.open() || !timer_.open() ||
      epoll_ctl(epoll_.fd(), EPOLL_CTL_ADD, timer_.fd(), &event) != 0)
    return failure("epoll or a timer can't be created");
  return {};
}

Result<Outcome> Loop::run() {
  if (auto opened = open(); !opened) return opened.error();
  allow_files();
  message_ = fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{}",
                         plan_.target, plan_.server.authority(), plan_.body.size(), plan_.body);
  out_.seconds.resize((plan_.count + plan_.rate - 1) / plan_.rate);
  start_ = Mono::clock::now();
  std::array<epoll_event, kEventsAtOnce> events;
  while (ended_ < plan_.count) {
    set_timer(Mono::clock::now());
    const int count = epoll_wait(epoll_.fd(), events.data(), kEventsAtOnce, -1);
    if (count < 0 && errno != EINTR) return failure("epoll_wait");
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 != kTimer) on_event(events[i].data.u64, events[i].events);
    }
    const Mono now = Mono::clock::now();
    expire(now);
    begin_due(now);
  }
  out_.offered = begun_;
  out_.elapsed_seconds = std::chrono::duration<double>(Mono::clock::now() - start_).count();
  return std::move(out_);
}

// To the next request, or the first that runs out of time.
void Loop::set_timer(Mono now) {
  Mono next = Mono::max();
  if (begun_ < plan_.count) next = due(begun_);
  if (!due_.empty()) next = std::min(next, due(due_.front().request) + plan_.timeout);
  next = std::max(next, now + std::chrono::nanoseconds(1));
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(next.time_since_epoch());
  itimerspec at{};
  at.it_value.tv_sec = since.count() / 1'000'000'000;
  at.it_value.tv_nsec = since.count() % 1'000'000'000;
  timerfd_settime(timer_.fd(), TFD_TIMER_ABSTIME, &at, nullptr);
}

void Loop::begin_due(Mono now) {
  while (begun_ < plan_.count && due(begun_) <= now) begin(begun_++, now);
}

void Loop::expire(Mono now) {
  for (; !due_.empty() && due(due_.front().request) + plan_.timeout <= now; due_.pop_front()) {
    const auto [slot, request] = due_.front();
    if (slots_[slot].request != request) continue;  // it has ended
    end(request, End::timed_out);
    drop(slot);
  }
}

void Loop::begin(uint64_t request, Mono now) {
  out_.seconds[request / plan_.rate].offered++;
  out_.lag.record(
      uint64_t(std::chrono::duration_cast<std::chrono::microseconds>(now - due(request)).count()));
  size_t slot;
  if (!idle_.empty()) {
    slot = idle_.back();
    idle_.pop_back();
  } else {
    if (empty_.empty()) {
      empty_.push_back(slots_.size());
      slots_.emplace_back();
    }
    slot = empty_.back();
    if (!connect(slot)) return end(request, End::unreachable);
    empty_.pop_back();
  }
  slots_[slot].request = request;
  slots_[slot].sent = 0;
  due_.push_back({slot, request});
  if (slots_[slot].connected) send(slot);
}

bool Loop::connect(size_t slot) {
  Connection& made = slots_[slot];
  made = Connection{};
  made.file = File(socket(address_.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!made.file.open()) return false;
  const int on = 1;
  setsockopt(made.file.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const auto* address = reinterpret_cast<const sockaddr*>(&address_);
  if (::connect(made.file.fd(), address, address_size_) != 0 && errno != EINPROGRESS) {
    made.file = File();
    return false;
  }
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u64 = slot}};
  if (epoll_ctl(epoll_.fd(), EPOLL_CTL_ADD, made.file.fd(), &event) != 0) {
    made.file = File();
    return false;
  }
  out_.connections = std::max(out_.connections, ++open_);
  return true;
}

void Loop::on_event(size_t slot, uint32_t events) {
  if (!slots_[slot].file.open()) return;  // closed by an event before this one
  if (!slots_[slot].connected) {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) on_connected(slot);
  } else if ((events & EPOLLOUT) != 0) {
    send(slot);
  }
  const bool ending = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  if (ending || (events & EPOLLIN) != 0) receive(slot, ending);
}

void Loop::on_connected(size_t slot) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(slots_[slot].file.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    end(slots_[slot].request, End::unreachable);
    return drop(slot);
  }
  slots_[slot].connected = true;
  send(slot);
}

void Loop::send(size_t slot) {
  Connection& to = slots_[slot];
  if (to.request == kNone || to.sent == message_.size()) return;
  const ssize_t sent = ::send(to.file.fd(), message_.data() + to.sent, message_.size() - to.sent,
                              MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) to.sent += size_t(sent);
  if (sent < 0 && errno != EAGAIN) on_closed(slot);
}

// `ending`: the other side has closed, so that no further event will come.
void Loop::receive(size_t slot, bool ending) {
  char bytes[kReadBytes];
  while (slots_[slot].file.open()) {
    const ssize_t size = recv(slots_[slot].file.fd(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return on_closed(slot);
    const auto state = slots_[slot].reader.feed({bytes, size_t(size)});
    if (state == AnswerReader::State::bad || slots_[slot].request == kNone) return on_closed(slot);
    if (state == AnswerReader::State::whole) on_answer(slot);
    if (size_t(size) < sizeof bytes && !ending) return;
  }
}

void Loop::on_answer(size_t slot) {
  Connection& from = slots_[slot];
  const int status = from.reader.status();
  out_.statuses[status]++;
  end(std::exchange(from.request, kNone), status / 100 == 2 ? End::answered : End::refused);
  if (from.reader.closes() || !from.reader.empty()) return drop(slot);
  idle_.push_back(slot);
}

void Loop::on_closed(size_t slot) {
  if (slots_[slot].request != kNone) {
    end(slots_[slot].request, End::cut);
  } else {
    std::erase(idle_, slot);
  }
  drop(slot);
}

void Loop::end(uint64_t request, End how) {
  ended_++;
  Second& second = out_.seconds[request / plan_.rate];
  const auto latency =
      std::chrono::duration_cast<std::chrono::microseconds>(Mono::clock::now() - due(request));
  // It came before this program looked, but not before the time was over.
  if (how == End::answered && latency > plan_.timeout) how = End::timed_out;
  switch (how) {
    case End::answered:
      out_.answered++;
      second.answered++;
      out_.latency.record(uint64_t(latency.count()));
      break;
    case End::refused:
      out_.refused++;
      break;
    case End::timed_out:
      out_.timed_out++;
      second.timed_out++;
      break;
    case End::unreachable:
      out_.unreachable++;
      break;
    case End::cut:
      out_.cut++;
      break;
  }
}

void Loop::drop(size_t slot) {
  slots_[slot] = Connection{};
  empty_.push_back(slot);
  open_--;
}

}  // namespace

Result<Outcome> run(const Plan& plan) { return Loop(plan).run(); }

}  // namespace millrace::load
