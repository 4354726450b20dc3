// Any bytes on a connection of the HTTP server: each request is answered, in order, with a whole
// response; what the handler is shown is within the limits; and the connection ends with its peer.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

// This Asio forgets that it needs <utility>.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include "common/base/check.h"
#include "common/http/connection.h"
#include "common/http/reply_parser.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::http;
using connection::Connection;

namespace {

constexpr size_t kHeader = 2048, kBody = 4096;
constexpr std::chrono::seconds kHang{20};

// The server's side of one connection, and the peer that has sent all of the input and its end.
class Exchanged {
 public:
  explicit Exchanged(std::string_view input) {
    int ends[2];
    MILLRACE_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    peer_ = ends[1];
    MILLRACE_CHECK(fcntl(peer_, F_SETFL, O_NONBLOCK) == 0);
    shared_.limits.header_bytes = kHeader;
    shared_.limits.body_bytes = kBody;
    shared_.limits.all_body_bytes = 2 * kBody;
    shared_.handler = [this](Request request, Responder reply) {
      answer(request, std::move(reply));
    };
    connection::tcp::socket socket(io_);
    socket.assign(connection::tcp::v4(), ends[0]);
    auto served = std::make_shared<Connection>(std::move(socket), shared_, false);
    boost::asio::co_spawn(
        io_, [served]() -> connection::awaitable<void> { co_await served->serve(); },
        boost::asio::detached);
    served.reset();
    run(input);
  }
  ~Exchanged() { ::close(peer_); }

  const std::string& output() const { return output_; }
  size_t requests() const { return requests_; }

 private:
  void answer(const Request& request, Responder reply) {
    ++requests_;
    size_t header = request.method.size() + request.target.size();
    for (const auto& [name, value] : request.headers) header += name.size() + value.size();
    MILLRACE_CHECK(!request.method.empty() && !request.target.empty());
    MILLRACE_CHECK(header <= kHeader + 4096 && request.body.size() <= kBody);
    MILLRACE_CHECK(request.target.starts_with(request.path));
    reply(ok("text/plain", request.body));
  }
  void run(std::string_view input) {
    const auto end = std::chrono::steady_clock::now() + kHang;
    while (!shared_.open.empty()) {
      MILLRACE_CHECK(std::chrono::steady_clock::now() < end);
      send_some(&input);
      io_.poll();
      receive();
    }
    receive();
  }
  void send_some(std::string_view* input) {
    if (ended_) return;
    ssize_t sent = ::send(peer_, input->data(), input->size(), MSG_NOSIGNAL);
    if (sent > 0) input->remove_prefix(size_t(sent));
    ended_ = input->empty() || (sent < 0 && errno != EAGAIN);
    if (ended_) ::shutdown(peer_, SHUT_WR);
  }
  void receive() {
    char bytes[16384];
    for (ssize_t got; (got = ::recv(peer_, bytes, sizeof bytes, 0)) > 0;)
      output_.append(bytes, size_t(got));
  }

  connection::Shared
      shared_;  // outlives the connection, which dies with the io_context at the last
  boost::asio::io_context io_{1};
  int peer_ = -1;
  bool ended_ = false;
  std::string output_;
  size_t requests_ = 0;
};

}  // namespace

// What a connection answers is one response for each request, and at most one refusal at its end.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Exchanged exchanged(fuzz::view_of(data, size));
  MILLRACE_CHECK(exchanged.requests() <= size / 16 + 1);
  size_t finals = 0;
  const std::string& output = exchanged.output();
  for (size_t at = output.find("HTTP/1.1 "); at != std::string::npos;
       at = output.find("\r\nDate: ", at + 1))
    ++finals;
  MILLRACE_CHECK(output.empty() || output.starts_with("HTTP/1.1 "));
  MILLRACE_CHECK(finals >= exchanged.requests());
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  return {"GET /v1/status?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
          "POST /v1/queues/q/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / "
          "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
          "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
          "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
          "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n",
          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
          "\x16\x03\x01\x02",
          "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"};
}
