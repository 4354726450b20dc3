#include "worker/process/process_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <cstdlib>
#include <memory>

#include "common/base/time.h"

namespace millrace::worker {
namespace {

std::string read_file(const std::string& path) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t size; file.is_open() && (size = read(file.get(), buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), size_t(size));
  return text;
}

void add_children(const std::string& text, std::vector<pid_t>* children) {
  for (const char* at = text.c_str(); *at;) {
    char* end = nullptr;
    const long pid = std::strtol(at, &end, 10);
    if (end == at) return;
    children->push_back(pid_t(pid));
    at = *end ? end + 1 : end;
  }
}

}  // namespace

// The kernel lists the children of each thread by itself.
std::vector<pid_t> children_of(pid_t process) {
  std::vector<pid_t> children;
  const std::string tasks = fmt::format("/proc/{}/task", process);
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(tasks.c_str()), closedir);
  if (!directory) return children;
  while (const dirent* entry = readdir(directory.get())) {
    if (entry->d_name[0] != '.')
      add_children(read_file(fmt::format("{}/{}/children", tasks, entry->d_name)), &children);
  }
  return children;
}

std::vector<pid_t> descendants_of(pid_t process) {
  std::vector<pid_t> all = children_of(process);
  for (size_t at = 0; at < all.size(); ++at) {
    const std::vector<pid_t> more = children_of(all[at]);
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

// Each process that is killed hands its children to this one, until there is none.
void kill_descendants() {
  const Mono end = read_clock() + kLastTry;
  do {
    for (pid_t process : descendants_of(getpid())) kill(process, SIGKILL);
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (waitpid(-1, nullptr, WNOHANG) < 0) return;  // no child is left
    poll(nullptr, 0, 1);
  } while (read_clock() < end);
}

OwnChildren::OwnChildren()
    : file_(open(fmt::format("/proc/self/task/{}/children", getpid()).c_str(),
                 O_RDONLY | O_CLOEXEC)) {}

std::vector<pid_t> OwnChildren::list() const {
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t size;
       (size = pread(file_.get(), buffer.data(), buffer.size(), off_t(text.size()))) > 0;)
    text.append(buffer.data(), size_t(size));
  std::vector<pid_t> children;
  add_children(text, &children);
  return children;
}

std::string initial_variable(pid_t process, std::string_view name) {
  const std::string environment = read_file(fmt::format("/proc/{}/environ", process));
  const std::string wanted = fmt::format("{}=", name);
  for (size_t at = 0; at < environment.size();) {
    const size_t end = std::min(environment.find('\0', at), environment.size());
    const std::string_view variable(environment.data() + at, end - at);
    if (variable.starts_with(wanted)) return std::string(variable.substr(wanted.size()));
    at = end + 1;
  }
  return {};
}

}  // namespace millrace::worker
