// A raw TCP client for tests of HTTP servers: sends any bytes, reads whole responses.
// Limits:  a read that takes 10 s fails the test
// Threads: one
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "tests/catch.h"

namespace millrace::http {

struct RawReply {
  std::string head;  // status line and headers
  std::string body;

  int status() const { return std::stoi(head.substr(head.find(' ') + 1, 3)); }
  bool has(std::string_view text) const { return head.find(text) != std::string::npos; }
};

class RawClient {
 public:
  // `before`: called when the socket is there, and not connected yet.
  explicit RawClient(uint16_t port, const std::function<void()>& before = {})
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (before) before();
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  ~RawClient() { close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // False when the server has closed its side.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  RawReply reply(bool head_only = false) {
    RawReply reply;
    while (received_.find("\r\n\r\n") == std::string::npos) REQUIRE(receive());
    size_t end = received_.find("\r\n\r\n") + 4;
    reply.head = received_.substr(0, end);
    received_.erase(0, end);
    size_t length_at = reply.head.find("Content-Length: ");
    if (head_only || length_at == std::string::npos) return reply;
    size_t length = std::stoul(reply.head.substr(length_at + 16));
    while (received_.size() < length) REQUIRE(receive());
    reply.body = received_.substr(0, length);
    received_.erase(0, length);
    return reply;
  }

  RawReply ask(std::string_view bytes) {
    REQUIRE(send(bytes));
    return reply();
  }

  // Something came, which may be the end.
  bool readable() {
    pollfd ready{fd_, POLLIN, 0};
    return !received_.empty() || poll(&ready, 1, 20) == 1;
  }
  // Says that nothing more is sent.
  void finish() { shutdown(fd_, SHUT_WR); }

  // True when nothing more comes and the server has closed its side, or reset the connection.
  bool closed() { return received_.empty() && !receive(); }

 private:
  bool receive() {
    pollfd ready{fd_, POLLIN, 0};
    REQUIRE(poll(&ready, 1, 10'000) == 1);
    char bytes[65536];
    ssize_t size = recv(fd_, bytes, sizeof bytes, 0);
    if (size <= 0) return false;
    received_.append(bytes, static_cast<size_t>(size));
    return true;
  }

  int fd_;
  std::string received_;
};

}  // namespace millrace::http
