#include "common/net/port_use.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "tests/catch.h"

using namespace millrace;

namespace {

class Socket {
 public:
  explicit Socket(int fd = ::socket(AF_INET, SOCK_STREAM, 0)) : fd_(fd) { REQUIRE(fd_ >= 0); }
  ~Socket() { ::close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_; }
  bool bind(uint16_t port = 0) const {
    const sockaddr_in address = loopback(port);
    return ::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  uint16_t port() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    return ntohs(address.sin_port);
  }
  void connect(uint16_t port) const {
    const sockaddr_in address = loopback(port);
    REQUIRE(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }

 private:
  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  int fd_;
};

}  // namespace

TEST_CASE("a port at which somebody listens is another program's", "[port_use]") {
  Socket listener;
  REQUIRE(listener.bind());
  REQUIRE(::listen(listener.fd(), 1) == 0);
  CHECK(why_in_use(listener.port()) == "another program listens there already");
}

TEST_CASE("a port in TIME_WAIT is nobody's", "[port_use]") {
  Socket listener;
  REQUIRE(listener.bind());
  REQUIRE(::listen(listener.fd(), 1) == 0);
  uint16_t port = 0;
  {
    auto client = std::make_unique<Socket>();
    client->connect(listener.port());
    port = client->port();
    Socket accepted(::accept(listener.fd(), nullptr, nullptr));
    client.reset();  // the side that closes first waits
    char byte = 0;
    CHECK(::read(accepted.fd(), &byte, 1) == 0);
  }
  Socket next;
  const int reuse = 1;
  REQUIRE(::setsockopt(next.fd(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) == 0);
  REQUIRE_FALSE(next.bind(port));
  CHECK(errno == EADDRINUSE);
  CHECK(why_in_use(port).find("TIME_WAIT") != std::string::npos);
}
