#include "common/net/curve.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/base/check.h"
#include "common/cli/command.h"
#include "common/os/file_descriptor.h"

namespace millrace {
namespace {

constexpr std::string_view kSecret = "secret-key", kPublic = "public-key";
constexpr size_t kMostBytes = 4096;  // of a key file; a larger one is something else

Error config(std::string message) { return {ExitCode::config, std::move(message)}; }

Result<void> create(const std::string& path, const std::string& text, mode_t mode) {
  FileDescriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (file.get() < 0 && errno == EEXIST)
    return Error{ExitCode::cant_create,
                 fmt::format("{} exists already, and a key is never overwritten: choose another "
                             "name, or move it away first",
                             path)};
  if (file.get() < 0)
    return Error{ExitCode::cant_create, fmt::format("can't create {}: {}", path, strerror(errno))};
  const bool written = write(file.get(), text.data(), text.size()) == ssize_t(text.size());
  if (written && fsync(file.get()) == 0) return {};
  const int failure = errno;
  unlink(path.c_str());
  return Error{ExitCode::io, fmt::format("can't write {}: {}", path, strerror(failure))};
}

Result<void> check_private(const std::string& path, int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0)
    return config(fmt::format("can't access the key file {}: {}", path, strerror(errno)));
  const unsigned mode = info.st_mode & 07777;
  if ((mode & 077) == 0) return {};
  return config(
      fmt::format("the secret key file {} can be read by others (mode {:04o}): restrict it with "
                  "chmod 600 {}, and if others may have read it, generate a new key",
                  path, mode, path));
}

Result<std::string> read_all(const std::string& path, bool is_private) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0)
    return config(fmt::format("can't read the key file {}: {}; millrace-broker keygen makes one",
                              path, strerror(errno)));
  if (is_private)
    if (auto checked = check_private(path, file.get()); !checked) return checked.error();
  std::string text(kMostBytes + 1, '\0');
  const ssize_t bytes = read(file.get(), text.data(), text.size());
  if (bytes < 0)
    return config(fmt::format("can't read the key file {}: {}", path, strerror(errno)));
  text.resize(size_t(bytes));
  return text;
}

// The key behind `kind` on its line; the other kind, none, or two of them is an error.
Result<std::string> find_key(const std::string& path, std::string_view text,
                             std::string_view kind) {
  std::string key;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty() || line[0] == '#') continue;
    const size_t space = std::min(line.find(' '), line.size());
    const std::string_view word = line.substr(0, space), rest = line.substr(space);
    if (word != kind && (word == kSecret || word == kPublic))
      return config(fmt::format("{} contains a {}, but a {} is required here", path, word, kind));
    if (word != kind || rest.empty() || !valid_curve_key(rest.substr(1)) || !key.empty())
      return config(
          fmt::format("{} is not a key file: it should contain one line '{} KEY', as "
                      "millrace-broker keygen writes it",
                      path, kind));
    key = rest.substr(1);
  }
  if (key.empty()) return config(fmt::format("{} is not a key file: there is no {}", path, kind));
  return key;
}

}  // namespace

bool valid_curve_key(std::string_view text) {
  std::array<uint8_t, 32> bytes{};
  if (text.size() != kCurveKeyText || text.find('\0') != text.npos) return false;
  // libzmq's decoder looks characters up below 128 only, and does not check them all.
  constexpr std::string_view kAlphabet =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
  if (text.find_first_not_of(kAlphabet) != text.npos) return false;
  return zmq_z85_decode(bytes.data(), std::string(text).c_str()) != nullptr;
}

Result<void> curve_usable() {
  if (zmq_has("curve")) return {};
  return config("this libzmq was built without CURVE: install one that has it (Debian's does)");
}

CurvePair make_curve_pair() {
  std::array<char, kCurveKeyText + 1> open{}, secret{};
  do {
    MILLRACE_CHECK(zmq_curve_keypair(open.data(), secret.data()) == 0);
  } while (open[0] == '-');  // it would be taken for a flag
  return {open.data(), secret.data()};
}

Result<void> write_curve_pair(const std::string& path, const CurvePair& pair) {
  const std::string open_path = path + ".pub";
  if (access(open_path.c_str(), F_OK) == 0)
    return Error{ExitCode::cant_create,
                 fmt::format("{} exists already, and a key is never overwritten: choose another "
                             "name, or move it away first",
                             open_path)};
  auto written =
      create(path,
             fmt::format("# Millrace secret key: anyone who has it can act as its owner.\n{} {}\n",
                         kSecret, pair.secret_key),
             0600);
  if (!written) return written;
  written = create(open_path,
                   fmt::format("# Millrace public key\n{} {}\n", kPublic, pair.public_key), 0644);
  if (!written) unlink(path.c_str());
  return written;
}

Result<CurvePair> read_secret_key(const std::string& path) {
  auto text = read_all(path, true);
  if (!text) return text.error();
  auto secret = find_key(path, *text, kSecret);
  if (!secret) return secret.error();
  std::array<char, kCurveKeyText + 1> open{};
  if (zmq_curve_public(open.data(), secret->c_str()) != 0)
    return config(fmt::format("{} is not a valid secret key", path));
  return CurvePair{open.data(), *std::move(secret)};
}

Result<std::string> read_public_key(const std::string& path) {
  auto text = read_all(path, false);
  if (!text) return text.error();
  return find_key(path, *text, kPublic);
}

Result<std::vector<std::optional<CurveClient>>> CurveFlags::read(size_t count) const {
  std::vector<std::optional<CurveClient>> all(count);
  if (key.empty() && brokers.empty()) return all;
  if (key.empty() || brokers.empty())
    return config(
        "--curve-key and --curve-broker belong together: your own secret key, and the public key "
        "of the broker");
  if (brokers.size() != 1 && brokers.size() != count)
    return config(
        fmt::format("--curve-broker names {} keys for {} brokers: give one for all, or "
                    "one for each in their order",
                    brokers.size(), count));
  if (auto usable = curve_usable(); !usable) return usable.error();
  auto own = read_secret_key(key);
  if (!own) return own.error();
  for (size_t i = 0; i < count; ++i) {
    auto broker = read_public_key(brokers[brokers.size() == 1 ? 0 : i]);
    if (!broker) return broker.error();
    all[i] = CurveClient{*own, *std::move(broker)};
  }
  return all;
}

Result<std::optional<CurveClient>> CurveFlags::read_one() const {
  auto all = read(1);
  if (!all) return all.error();
  return std::move(all->front());
}

void declare_curve(Command& command, CurveFlags& flags) {
  auto files = [](std::string_view text) -> Result<std::vector<std::string>> {
    std::vector<std::string> paths;
    for (size_t at = 0; at <= text.size();) {
      const size_t comma = std::min(text.find(',', at), text.size());
      if (comma == at) return Error{ExitCode::usage, "an empty name among the key files"};
      paths.emplace_back(text.substr(at, comma - at));
      at = comma + 1;
    }
    return paths;
  };
  command.group("Security");
  command.text("--curve-key", flags.key, "FILE",
               "secret key of this client, for a broker that requires keys");
  command.value("--curve-broker", flags.brokers, files, "FILE.pub[,...]",
                "public key of the broker, or of each broker in the order of --broker");
}

}  // namespace millrace
