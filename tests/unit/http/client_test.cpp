#include "common/http/client.h"

#include <string>
#include <thread>

#include "common/http/server.h"
#include "tests/unit/http/http_test_client.h"

namespace millrace::http {
namespace {

// Accepts nothing by itself; a connection waits in its backlog until told otherwise.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(bind(fd_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(listen(fd_, 8) == 0);
    REQUIRE(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  ~Listener() { shut(); }

  uint16_t port() const { return port_; }
  void shut() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  void answer(std::string_view bytes) {
    int peer = accept(fd_, nullptr, nullptr);
    char request[4096];
    if (recv(peer, request, sizeof request, 0) > 0) {
      [[maybe_unused]] auto sent = ::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }
    close(peer);
  }

 private:
  int fd_;
  uint16_t port_ = 0;
};

// The error, after checking its code and that it names the address.
std::string fails(Result<Reply> reply, ExitCode code, uint16_t port) {
  REQUIRE_FALSE(reply.ok());
  CHECK(reply.error().code == code);
  CHECK(reply.error().message.find("127.0.0.1:" + std::to_string(port)) != std::string::npos);
  return reply.error().message;
}

}  // namespace

TEST_CASE("request carries method and body, and says that it is JSON", "[http]") {
  auto server = Server::start({}, [](const Request& heard) {
    return ok("text/x-test", heard.method + "|" + heard.body + "|" +
                                 std::string(heard.header("Content-Type")) + "|" +
                                 std::string(heard.header("Content-Length")));
  });
  REQUIRE(server.ok());
  Endpoint there{"127.0.0.1", (*server)->port()};
  CHECK(request("PATCH", there, "/", "{}", Millis(5000))->body == "PATCH|{}|application/json|2");
  CHECK(request("POST", there, "/", "", Millis(5000))->body == "POST|||0");
}

TEST_CASE("get brings status, type and body, and carries the token", "[http]") {
  auto server = Server::start({}, [](const Request& request) {
    if (request.path == "/none") return problem(404, "nothing here");
    return ok("text/x-test", std::string(request.header("Authorization")) + request.target);
  });
  REQUIRE(server.ok());
  Endpoint there{"127.0.0.1", (*server)->port()};
  auto reply = get(there, "/a?b", Millis(5000), "secret");
  REQUIRE(reply.ok());
  CHECK(reply->status == 200);
  CHECK(reply->content_type == "text/x-test");
  CHECK(reply->body == "Bearer secret/a?b");
  CHECK(get(there, "/a", Millis(5000))->body == "/a");
  CHECK(get(there, "/none", Millis(5000))->status == 404);
}

TEST_CASE("nobody there is exit 69", "[http]") {
  Listener listener;
  listener.shut();
  auto reply = get({"127.0.0.1", listener.port()}, "/", Millis(5000));
  auto message = fails(reply, ExitCode::unavailable, listener.port());
  CHECK(message.find("refused") != std::string::npos);
  CHECK(message.find("--http") != std::string::npos);
  CHECK(get({"no.such.host.invalid", 1}, "/", Millis(5000)).error().code == ExitCode::unavailable);
}

TEST_CASE("no answer in time is exit 75", "[http]") {
  Listener listener;
  auto reply = get({"127.0.0.1", listener.port()}, "/", Millis(20));
  CHECK(fails(reply, ExitCode::temporary, listener.port()).find("20 ms") != std::string::npos);
}

TEST_CASE("an answer that isn't HTTP is exit 65, a connection that breaks exit 69", "[http]") {
  Listener listener;
  Endpoint there{"127.0.0.1", listener.port()};
  for (auto [bytes, code] :
       {std::pair{"SSH-2.0-x\r\n\r\n", ExitCode::bad_data}, std::pair{"", ExitCode::unavailable},
        std::pair{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", ExitCode::unavailable}}) {
    CAPTURE(bytes);
    std::thread server([&, text = bytes] { listener.answer(text); });
    auto reply = get(there, "/", Millis(5000));
    server.join();
    fails(reply, code, listener.port());
  }
}

TEST_CASE("a reply that claims a huge body is refused before memory is taken for it", "[http]") {
  Listener listener;
  std::thread peer([&] {
    listener.answer("HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\nthe beginning");
  });
  auto reply = get({"127.0.0.1", listener.port()}, "/", Millis(5000));
  peer.join();
  CHECK(fails(reply, ExitCode::bad_data, listener.port()).find("body limit") != std::string::npos);
}

}  // namespace millrace::http
