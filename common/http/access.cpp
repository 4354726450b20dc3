#include "common/http/access.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/units.h"

namespace millrace::http {
namespace {

constexpr size_t kMaxToken = 4096;

// Takes the same time whatever the text is, so that a token can't be found out letter by letter.
bool same_secret(std::string_view secret, std::string_view text) {
  unsigned difference = secret.size() != text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    difference |= static_cast<unsigned char>(secret[i % secret.size()] ^ text[i]);
  }
  return difference == 0;
}

}  // namespace

bool Access::admits(const Request& request) const {
  if (token_.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  std::string_view given = request.header("Authorization");
  if (!given.starts_with(kScheme)) return false;
  return same_secret(token_, given.substr(kScheme.size()));
}

// A browser names the site of the page that asks. Without a token, a host's name must be one of
// loopback: any other could be a stranger's, pointed at this machine.
bool Access::from_elsewhere(const Request& request) const {
  const std::string_view origin = request.header("Origin"), host = request.header("Host");
  if (!origin.empty() && origin != "http://" + std::string(host) &&
      origin != "https://" + std::string(host))
    return true;
  if (!token_.empty() || host.starts_with("127.0.0.1:") || host.starts_with("localhost:"))
    return false;
  auto named = parse_endpoint(host, 80);
  return !named || !named->loopback();
}

Response unauthorized(std::string_view detail) {
  Response response = problem(401, detail);
  response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

Response forbidden() {
  return problem(
      403, "this was asked by a page of another site, or under a name that is not this host's");
}

Result<std::string> read_token(const std::string& path, const std::string& flag) {
  auto fails = [&](const std::string& why) {
    return Error{ExitCode::config, fmt::format("{} {}: {}", flag, path, why)};
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fails(fmt::format("can't be read: {}", std::strerror(errno)));
  struct stat status {};
  const bool known = fstat(fd, &status) == 0;
  char bytes[kMaxToken];
  const ssize_t size = read(fd, bytes, sizeof bytes);
  close(fd);
  if (!known || size < 0) return fails("can't be read");
  if (status.st_mode & 077)
    return fails(
        fmt::format("others may read it (mode {:o}); chmod 600 {}", status.st_mode & 0777, path));
  std::string token(bytes, static_cast<size_t>(size));
  token.resize(std::min(token.find('\n'), token.size()));
  if (token.empty()) return fails("holds no token; its first line is to be one");
  for (char c : token)
    if (c <= ' ' || c >= 0x7f) return fails("a token is of printable ASCII characters, no spaces");
  return token;
}

}  // namespace millrace::http
