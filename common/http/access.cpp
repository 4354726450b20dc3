#include "common/http/access.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/base/units.h"

namespace millrace::http {
namespace {

// Takes the same time whatever the text is, so that a token can't be found out letter by letter.
bool same_secret(std::string_view secret, std::string_view text) {
  unsigned difference = secret.size() != text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    difference |= static_cast<unsigned char>(secret[i % secret.size()] ^ text[i]);
  }
  return difference == 0;
}

// The token of "Bearer TOKEN": the scheme in any case of letters, one space or more behind it.
// Empty: it is none.
std::string_view bearer_token(std::string_view credentials) {
  const std::string_view scheme = credentials.substr(0, credentials.find(' '));
  if (!same_word(scheme, "Bearer")) return {};
  credentials.remove_prefix(scheme.size());
  credentials.remove_prefix(std::min(credentials.find_first_not_of(' '), credentials.size()));
  return credentials;
}

// The usual case, without a copy.
bool is_port_of(std::string_view name, std::string_view host) {
  return host.starts_with(name) &&
         host.find_first_not_of("0123456789", name.size()) == std::string_view::npos;
}

// In small letters, and without the dot that may end a full name: LOCALHOST.:5590 is
// localhost:5590.
std::string plain_host(std::string_view host) {
  const size_t colon = host.ends_with(']') ? std::string_view::npos : host.rfind(':');
  std::string_view name = host.substr(0, colon);
  const std::string_view port = host.substr(name.size());
  if (name.ends_with('.')) name.remove_suffix(1);
  std::string plain = std::string(name) + std::string(port);
  for (char& c : plain)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return plain;
}

Error token_error(const std::string& path, const std::string& flag, const std::string& why) {
  return {ExitCode::config, fmt::format("{} {}: {}", flag, path, why)};
}

Result<std::string> read_private_file(const std::string& path, const std::string& flag) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return token_error(path, flag, fmt::format("can't be read: {}", std::strerror(errno)));
  struct stat status {};
  const bool known = fstat(fd, &status) == 0;
  std::string bytes(kMaxTokenFile + 1, '\0');
  const ssize_t size = read(fd, bytes.data(), bytes.size());
  close(fd);
  if (!known || size < 0) return token_error(path, flag, "can't be read");
  if (status.st_mode & 077)
    return token_error(
        path, flag,
        fmt::format("others may read it (mode {:o}); chmod 600 {}", status.st_mode & 0777, path));
  if (size_t(size) > kMaxTokenFile)
    return token_error(path, flag, fmt::format("is larger than {} bytes", kMaxTokenFile));
  bytes.resize(size_t(size));
  return bytes;
}

Result<std::string> checked(std::string token, const std::string& path, const std::string& flag) {
  if (token.empty())
    return token_error(path, flag, "contains no token; its first line must be one");
  for (char c : token)
    if (c <= ' ' || c >= 0x7f)
      return token_error(path, flag, "a token is of printable ASCII characters, no spaces");
  return token;
}

}  // namespace

std::optional<size_t> Access::token_of(const Request& request) const {
  if (tokens_.empty()) return 0;
  const std::string_view given = bearer_token(request.header("Authorization"));
  if (given.empty()) return std::nullopt;
  std::optional<size_t> shown;
  for (size_t i = 0; i < tokens_.size(); ++i)
    if (same_secret(tokens_[i], given)) shown = i;
  return shown;
}

// A browser names the site of the page that asks. Without a token, a host's name must be one of
// loopback: any other could be a stranger's, pointed at this machine. No browser leaves Host out;
// old health checks do.
bool Access::from_elsewhere(const Request& request) const {
  const std::string_view origin = request.header("Origin"), host = request.header("Host");
  if (!origin.empty() && !same_word(origin, "http://" + std::string(host)) &&
      !same_word(origin, "https://" + std::string(host)))
    return true;
  if (!tokens_.empty() || host.empty()) return false;
  if (is_port_of("127.0.0.1:", host) || is_port_of("localhost:", host)) return false;
  auto named = parse_endpoint(plain_host(host), 80);
  return !named || !named->loopback();
}

Response unauthorized(std::string_view detail) {
  Response response = problem(401, detail);
  response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

Response forbidden() {
  return problem(
      403, "this request came from a page of another site, or with a Host that is not this one");
}

Result<std::string> read_token(const std::string& path, const std::string& flag) {
  auto text = read_private_file(path, flag);
  if (!text) return text.error();
  return checked(text->substr(0, text->find('\n')), path, flag);
}

Result<std::vector<std::string>> read_tokens(const std::string& path, const std::string& flag) {
  auto text = read_private_file(path, flag);
  if (!text) return text.error();
  std::vector<std::string> tokens;
  for (std::string_view rest = *text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.empty()) continue;
    auto token = checked(std::string(line), path, flag);
    if (!token) return token.error();
    tokens.push_back(*std::move(token));
  }
  if (tokens.empty()) return checked("", path, flag).error();
  return tokens;
}

}  // namespace millrace::http
