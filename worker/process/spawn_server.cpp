#include "worker/process/spawn_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/base/check.h"
#include "common/base/time.h"
#include "common/os/descriptors.h"
#include "common/os/process_state.h"
#include "common/os/secrets.h"
#include "worker/process/boottime.h"
#include "worker/process/shell_command.h"
#include "worker/process/start_command.h"

namespace millrace::worker {
namespace {

// Of an event that is no command's; their serial numbers are larger.
enum Event : uint64_t { kRequest, kWorkerEnd, kChildEnd, kFirstSerial = 16 };

void watch(const FileDescriptor& events, int fd, uint64_t event) {
  epoll_event item{};
  item.events = EPOLLIN;
  item.data.u64 = event;
  MILLRACE_CHECK(epoll_ctl(events.get(), EPOLL_CTL_ADD, fd, &item) == 0);
}

void unwatch(const FileDescriptor& events, int fd) {
  epoll_ctl(events.get(), EPOLL_CTL_DEL, fd, nullptr);
}

// Commands begin with each signal at its default; here none may disturb.
FileDescriptor take_signals() {
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t all, ends;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  sigemptyset(&ends);
  sigaddset(&ends, SIGCHLD);
  return FileDescriptor(signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK));
}

// False when the process is not ours to end.
bool kill_tree(pid_t process) {
  for (pid_t descendant : descendants_of(process)) kill(descendant, SIGKILL);
  return kill(process, SIGKILL) == 0;
}

void send_reply(const FileDescriptor& control, SpawnReply reply) {
  send(control.get(), &reply, sizeof reply, MSG_NOSIGNAL | MSG_DONTWAIT);
}

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

// With the sign behind it.
std::string_view name_and_sign(std::string_view variable) {
  return variable.substr(0, variable.find('=') + 1);
}

// Our own programs' secrets are none of a command's business.
std::vector<std::string> inherited_environment() {
  std::vector<std::string> variables;
  for (char** at = environ; *at; ++at) {
    if (name_of(*at) != kCommandVariable && !is_secret(*at)) variables.emplace_back(*at);
  }
  return variables;
}

// A hard limit that is lower than what was inherited can't be raised, and need not be.
void add_limit(__rlimit_resource resource, rlim_t soft, rlim_t hard,
               std::vector<ResourceLimit>* limits) {
  rlimit inherited{};
  getrlimit(resource, &inherited);
  hard = std::min(hard, inherited.rlim_max);
  limits->push_back({resource, {std::min(soft, hard), hard}});
}

// From now on.
void allow_cpu(pid_t process, int64_t seconds) {
  clockid_t clock;
  timespec used{};
  rlimit limit{};
  if (clock_getcpuclockid(process, &clock) != 0 || clock_gettime(clock, &used) != 0 ||
      prlimit(process, RLIMIT_CPU, nullptr, &limit) != 0)
    return;  // it has ended, or is another user's
  limit.rlim_cur = std::min(rlim_t(used.tv_sec + 1 + seconds), limit.rlim_max);
  prlimit(process, RLIMIT_CPU, &limit, nullptr);
}

}  // namespace

SpawnServer::SpawnServer(FileDescriptor requests, FileDescriptor worker, FileDescriptor guard,
                         const SpawnSettings& settings)
    : requests_(std::move(requests)),
      worker_(std::move(worker)),
      guard_(std::move(guard)),
      signals_(take_signals()),
      events_(epoll_create1(EPOLL_CLOEXEC)),
      settings_(settings),
      environment_(inherited_environment()),
      buffer_(kMaxSpawnRequest),
      last_serial_(kFirstSerial) {
  MILLRACE_CHECK(signals_.is_open() && events_.is_open());
  prctl(PR_SET_NAME, "millrace-spawn");
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  setpgid(0, 0);  // a SIGKILL for the worker's group is not meant for this process
  raise_descriptor_limit();
  watch(events_, requests_.get(), kRequest);
  watch(events_, worker_.get(), kWorkerEnd);
  watch(events_, guard_.get(), kWorkerEnd);
  watch(events_, signals_.get(), kChildEnd);
}

void SpawnServer::run() {
  const pid_t self = getpid();
  send(requests_.get(), &self, sizeof self, MSG_NOSIGNAL);
  for (bool serving = true; serving;) {
    std::array<epoll_event, 64> events;
    const int count =
        epoll_wait(events_.get(), events.data(), int(events.size()), until_deadline(read_clock()));
    for (int i = 0; i < count; ++i) {
      const uint64_t event = events[size_t(i)].data.u64;
      if (event == kRequest) serving &= receive();
      if (event == kWorkerEnd) serving = false;
      if (event == kChildEnd) reap();
      if (event > kFirstSerial) on_control(event);
    }
    on_deadlines(read_clock());
  }
  kill_descendants();
}

// One request; false when the worker has closed the socket.
bool SpawnServer::receive() {
  iovec data{buffer_.data(), buffer_.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kSpawnFds)> control;
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = recvmsg(requests_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN || errno == EINTR || errno == ENOMEM;
  if (size == 0) return false;
  std::vector<FileDescriptor> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  start({buffer_.data(), size_t(size)}, std::move(fds));
  return true;
}

void SpawnServer::start(std::string_view request, std::vector<FileDescriptor> fds) {
  if (fds.empty()) return;  // the worker sees that nobody has its control socket
  // The kernel leaves out descriptors for which there is no room.
  if (fds.size() < kSpawnFds) return send_reply(fds[kControlFd], {EMFILE, 0});
  SpawnHead head;
  if (request.size() <= sizeof head) return send_reply(fds[kControlFd], {EINVAL, 0});
  memcpy(&head, request.data(), sizeof head);
  if (read_boottime().count() >= head.start_before)
    return send_reply(fds[kControlFd], {ECANCELED, 0});
  const uint64_t serial = ++last_serial_;
  const std::string id = fmt::format("{}={}.{}", kCommandVariable, getpid(), serial);
  std::vector<char*> texts;  // the command, and its variables
  for (size_t at = sizeof head; at < request.size(); at = request.find('\0', at) + 1)
    texts.push_back(buffer_.data() + at);
  std::vector<std::string_view> names;
  for (size_t i = 1; i < texts.size(); ++i) names.push_back(name_and_sign(texts[i]));
  std::vector<char*> environment;
  for (const std::string& variable : environment_) {
    const bool replaced = std::any_of(names.begin(), names.end(), [&](std::string_view name) {
      return variable.starts_with(name);
    });
    if (!replaced) environment.push_back(const_cast<char*>(variable.c_str()));
  }
  environment.insert(environment.end(), texts.begin() + 1, texts.end());
  environment.push_back(const_cast<char*>(id.c_str()));
  environment.push_back(nullptr);
  std::vector<std::string> words = plain_words(texts[0]);
  std::vector<char*> direct;
  for (std::string& word : words) direct.push_back(word.data());
  direct.push_back(nullptr);
  char shell[] = "sh", flag[] = "-c";
  char* arguments[] = {shell, flag, texts[0], nullptr};
  const std::vector<ResourceLimit> limits = limits_of(head);
  const pid_t leader =
      start_command({words.empty() ? nullptr : direct.data(),
                     "/bin/sh",
                     arguments,
                     environment.data(),
                     {fds[kStdinFd].get(), fds[kStdoutFd].get(), fds[kStderrFd].get()},
                     &limits});
  if (leader < 0) return send_reply(fds[kControlFd], {-leader, 0});
  watch(events_, fds[kControlFd].get(), serial);
  commands_[serial] = {.leader = leader,
                       .control = std::move(fds[kControlFd]),
                       .cpu_s = head.renews_cpu ? head.cpu_s : 0};
  leaders_[leader] = groups_[leader] = serial;
}

// Some commands close all descriptors up to the limit, or use select(), which ends at 1024: they
// get the one that the worker was started with.
std::vector<ResourceLimit> SpawnServer::limits_of(const SpawnHead& head) const {
  std::vector<ResourceLimit> limits;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && inherited_descriptor_limit() > 0) {
    files.rlim_cur = std::min<rlim_t>(inherited_descriptor_limit(), files.rlim_max);
    limits.push_back({RLIMIT_NOFILE, files});
  }
  if (head.memory > 0) add_limit(RLIMIT_AS, rlim_t(head.memory), rlim_t(head.memory), &limits);
  if (head.cpu_s > 0) {
    // SIGXCPU at the soft limit, SIGKILL at the hard one, which could not be raised for the next
    // job.
    const auto grace = std::chrono::ceil<std::chrono::seconds>(settings_.kill_after).count();
    const rlim_t hard = head.renews_cpu ? RLIM_INFINITY : rlim_t(head.cpu_s + grace);
    add_limit(RLIMIT_CPU, rlim_t(head.cpu_s), hard, &limits);
  }
  return limits;
}

// A process that it starts from now on begins with what its parent may use now.
void SpawnServer::renew_cpu(const Command& command) {
  if (command.cpu_s > 0 && !command.status) {
    allow_cpu(command.leader, command.cpu_s);
    for (pid_t process : descendants_of(command.leader)) allow_cpu(process, command.cpu_s);
  }
  const char done = 0;
  send(command.control.get(), &done, sizeof done, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void SpawnServer::on_control(uint64_t serial) {
  auto command = commands_.find(serial);
  if (command == commands_.end()) return;
  CommandOrder order = CommandOrder::kill;
  const ssize_t size = recv(command->second.control.get(), &order, sizeof order, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size == sizeof order && order == CommandOrder::terminate) return stop(command);
  if (size == sizeof order && order == CommandOrder::renew_cpu) return renew_cpu(command->second);
  // Who has closed the socket hears no more of it.
  if (size <= 0) unwatch(events_, command->second.control.get());
  kill_now(command);
}

void SpawnServer::stop(Commands::iterator command) {
  if (command->second.state != Command::State::running) return;
  if (settings_.kill_after <= Millis(0)) return kill_now(command);
  command->second.state = Command::State::stopping;
  command->second.kill_at = read_clock() + settings_.kill_after;
  signal_all(*command, SIGTERM);
  signal_all(*command, SIGCONT);  // so that one that stands still can end
}

void SpawnServer::kill_now(Commands::iterator command) {
  command->second.state = Command::State::killed;
  signal_all(*command, SIGKILL);
  if (command->second.status) sweep();
}

// The number of the group can't be another one's as long as its leader has not been reaped.
void SpawnServer::signal_all(Commands::value_type& command, int signal) {
  auto& [serial, state] = command;
  std::vector<pid_t> all = descendants_of(state.leader);
  for (pid_t child : children_.list()) {
    if (leaders_.contains(child) || adopted(child).command != serial) continue;
    all.push_back(child);
    const std::vector<pid_t> more = descendants_of(child);
    all.insert(all.end(), more.begin(), more.end());
  }
  state.signalled.insert(all.begin(), all.end());
  const bool has_group = !state.status;
  if (has_group) kill(-state.leader, signal);
  for (pid_t process : all)
    if (!has_group || getpgid(process) != state.leader) kill(process, signal);
}

void SpawnServer::on_deadlines(Mono now) {
  auto is_due = [now](const Commands::value_type& command) {
    return command.second.state == Command::State::stopping && now >= command.second.kill_at;
  };
  for (;;) {
    auto due = std::find_if(commands_.begin(), commands_.end(), is_due);
    if (due == commands_.end()) return;
    kill_now(due);
  }
}

int SpawnServer::until_deadline(Mono now) const {
  Mono first = Mono::max();
  for (const auto& [serial, command] : commands_)
    if (command.state == Command::State::stopping) first = std::min(first, command.kill_at);
  if (first == Mono::max()) return -1;
  return int(std::max<int64_t>(std::chrono::ceil<Millis>(first - now).count(), 0));
}

void SpawnServer::reap() {
  signalfd_siginfo info;  // one stands for all
  if (read(signals_.get(), &info, sizeof info) < 0) return;
  bool any = false;
  for (;; any = true) {
    siginfo_t ended{};
    if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0) break;
    auto leader = leaders_.find(ended.si_pid);
    if (leader != leaders_.end()) {
      on_leader_ended(commands_.find(leader->second));
    } else {
      waitpid(ended.si_pid, nullptr, 0);
      adopted_.erase(ended.si_pid);
    }
  }
  if (any) sweep();
}

// What is left of its group is killed, unless it has been given time.
void SpawnServer::on_leader_ended(Commands::iterator command) {
  Command& state = command->second;
  if (state.state == Command::State::running) state.state = Command::State::killed;
  if (state.state == Command::State::killed) kill(-state.leader, SIGKILL);
  int status = 0;
  waitpid(state.leader, &status, 0);
  leaders_.erase(state.leader);
  state.status = status;
}

void SpawnServer::sweep() {
  std::set<uint64_t> alive;  // commands that have more than their leader
  std::vector<pid_t> unknown;
  for (pid_t child : children_.list()) {
    if (leaders_.contains(child)) continue;
    const auto serial = adopted(child).command;
    if (!serial) {
      unknown.push_back(child);
      continue;
    }
    auto command = commands_.find(*serial);
    const bool is_over =
        command == commands_.end() || command->second.state == Command::State::killed;
    if (!is_over || kill_tree(child)) alive.insert(*serial);
  }
  finish_all_but(alive);
  const uint64_t oldest = commands_.empty() ? UINT64_MAX : commands_.begin()->first;
  for (pid_t child : unknown)
    if (adopted(child).newest < oldest) kill_tree(child);
}

// Those whose leaders have ended.
void SpawnServer::finish_all_but(const std::set<uint64_t>& alive) {
  for (auto at = commands_.begin(); at != commands_.end();) {
    const Command& command = at->second;
    const bool is_over = command.status && !alive.contains(at->first);
    if (is_over) {
      send_reply(command.control, {0, *command.status});
      auto group = groups_.find(command.leader);
      if (group != groups_.end() && group->second == at->first) groups_.erase(group);
    }
    at = is_over ? commands_.erase(at) : std::next(at);
  }
}

const SpawnServer::Adopted& SpawnServer::adopted(pid_t process) {
  Adopted& entry = adopted_.try_emplace(process, Adopted{{}, last_serial_}).first->second;
  if (!entry.command) entry.command = command_of(process);  // it may have executed nothing yet
  return entry;
}

std::optional<uint64_t> SpawnServer::command_of(pid_t process) const {
  const std::string id = initial_variable(process, kCommandVariable);
  const std::string prefix = fmt::format("{}.", getpid());
  if (id.starts_with(prefix)) return std::strtoull(id.c_str() + prefix.size(), nullptr, 10);
  for (pid_t number : {getpgid(process), getsid(process)}) {
    auto group = groups_.find(number);
    if (group != groups_.end()) return group->second;
  }
  for (const auto& [serial, command] : commands_)
    if (command.signalled.contains(process)) return serial;
  return std::nullopt;
}

}  // namespace millrace::worker
