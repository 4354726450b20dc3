#include "common/os/stderr_output.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

namespace millrace {
namespace {

class StderrOutput {
 public:
  bool write(std::string_view text, Millis timeout) {
    std::lock_guard lock(lock_);
    refresh();
    const Mono until = Mono::clock::now() + timeout;
    if (is_cut_off_) {
      if (!write_all("\n", until)) return false;
      is_cut_off_ = false;
    }
    return write_all(text, until);
  }

 private:
  enum class Kind { file, socket, reopened, inherited };

  // Something else may stand at the descriptor since the last time.
  void refresh() {
    struct stat now {};
    if (fstat(STDERR_FILENO, &now) != 0) return;
    if (is_known_ && now.st_dev == device_ && now.st_ino == inode_) return;
    if (own_ >= 0) close(own_);
    own_ = -1;
    device_ = now.st_dev, inode_ = now.st_ino, is_known_ = true;
    is_cut_off_ = false;
    if (S_ISREG(now.st_mode)) {
      kind_ = Kind::file;
    } else if (S_ISSOCK(now.st_mode)) {
      kind_ = Kind::socket;
    } else {
      own_ = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
      kind_ = own_ >= 0 ? Kind::reopened : Kind::inherited;
    }
  }

  bool write_all(std::string_view text, Mono until) {
    const size_t whole = text.size();
    while (!text.empty()) {
      const ssize_t written = write_some(text);
      if (written > 0) {
        text.remove_prefix(size_t(written));
      } else if (written == 0 || (errno != EINTR && !(errno == EAGAIN && wait_for_room(until)))) {
        is_cut_off_ |= text.size() < whole;
        return false;
      }
    }
    return true;
  }

  ssize_t write_some(std::string_view text) {
    switch (kind_) {
      case Kind::file:
        return ::write(STDERR_FILENO, text.data(), text.size());
      case Kind::socket:
        return send(STDERR_FILENO, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      case Kind::reopened:
        return ::write(own_, text.data(), text.size());
      case Kind::inherited:
        break;
    }
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    if (poll(&room, 1, 0) > 0)
      return ::write(STDERR_FILENO, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    errno = EAGAIN;
    return -1;
  }

  static bool wait_for_room(Mono until) {
    const auto left = std::chrono::ceil<Millis>(until - Mono::clock::now());
    if (left.count() <= 0) return false;
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    return poll(&room, 1, int(left.count())) != 0;
  }

  std::mutex lock_;
  bool is_known_ = false;
  dev_t device_{};
  ino_t inode_{};
  Kind kind_ = Kind::inherited;
  int own_ = -1;
  bool is_cut_off_ = false;
};

}  // namespace

// Never destroyed: threads may log until the process is gone.
bool write_to_stderr(std::string_view text, Millis timeout) {
  static auto* output = new StderrOutput;
  return output->write(text, timeout);
}

}  // namespace millrace
