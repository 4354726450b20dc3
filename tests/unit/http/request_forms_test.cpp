// What each form of a request gives (RFC 9112), in one table: the forms that every server must
// take, those that it may refuse, and those that must not be taken, for what is behind them could
// be smuggled past a proxy.
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/http/server.h"
#include "tests/unit/http/http_test_client.h"

namespace millrace::http {
namespace {

using namespace std::string_view_literals;

struct Form {
  std::string_view name, bytes, replies;  // statuses, and what the handler has seen
};

constexpr std::string_view kNext = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";

// "GET /path host body" of each request in turn.
Response show(const Request& request) {
  return ok("text/plain", fmt::format("{} {} {} {}", request.method, request.target,
                                      request.header("Host"), request.body));
}

// Of all that comes back: "100", "400", or 200 with what was shown, "GET / h ".
std::vector<std::string> replies_to(uint16_t port, std::string_view bytes) {
  RawClient client(port);
  client.send(bytes);
  client.finish();
  std::vector<std::string> replies;
  while (!client.closed()) {
    const RawReply reply = client.reply();
    replies.push_back(reply.status() == 200 ? reply.body : std::to_string(reply.status()));
  }
  return replies;
}

}  // namespace

TEST_CASE("what each form of a request gives", "[http]") {
  const Form forms[] = {
      {"origin form", "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a?b h "},
      {"absolute form", "GET http://x:1/a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a x:1 "},
      {"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * h "},
      {"authority form", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "CONNECT x:443 x:443 "},
      {"an unknown method", "BREW / HTTP/1.1\r\nHost: h\r\n\r\n", "BREW / h "},
      {"a method in small letters", "get / HTTP/1.1\r\nHost: h\r\n\r\n", "get / h "},
      {"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "GET /  "},
      {"HTTP/1.2 is 1.1", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", "GET / h "},
      {"HTTP/1.9 needs a Host too", "GET / HTTP/1.9\r\n\r\n", "400"},
      {"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
      {"HTTP/0.9 with a version", "GET / HTTP/0.9\r\n\r\n", "505"},
      {"HTTP/0.9", "GET /\r\n\r\n", "400"},
      {"a version of two digits", "GET / HTTP/1.10\r\nHost: h\r\n\r\n", "400"},
      {"a version in small letters", "GET / http/1.1\r\nHost: h\r\n\r\n", "400"},
      {"two spaces in the request line", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
      {"a space behind the version", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n", "400"},
      {"a space before the method", " GET / HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
      {"a space in the target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
      {"empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / h "},
      {"lines that end with LF alone", "GET / HTTP/1.1\nHost: h\n\n", "400"},
      {"a header line that ends with LF alone", "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", "400"},
      {"CR within a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", "400"},
      {"NUL within a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n"sv, "400"},
      {"no Host", "GET / HTTP/1.1\r\n\r\n", "400"},
      {"Host twice", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", "400"},
      {"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET /  "},
      {"a space before a colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", "400"},
      {"a space before the first header", "GET / HTTP/1.1\r\n X: y\r\nHost: h\r\n\r\n", "400"},
      {"a folded line", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "GET / h "},
      {"a folded Host", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "GET / a b "},
      {"a line without a colon", "GET / HTTP/1.1\r\nHost: h\r\nnothing\r\n\r\n", "400"},
      {"a header without a name", "GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n", "400"},

      {"a length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", "POST / h hi"},
      {"POST without a length", "POST / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / h "},
      {"GET with a body", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", "GET / h hi"},
      {"a length of +2", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\nhi", "400"},
      {"a length of 0x2", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x2\r\n\r\nhi", "400"},
      {"an empty length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", "400"},
      {"a length beyond 2^64",
       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n", "400"},
      {"two lengths",
       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", "400"},
      {"a length twice",
       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
       "POST / h hi"},
      {"a list of equal lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2, 2\r\n\r\nhi",
       "POST / h hi"},
      {"a list of lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2, 3\r\n\r\nhi!", "400"},
      {"a length and chunks",
       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
       "2\r\nhi\r\n0\r\n\r\n",
       "400"},
      {"chunks with extension and trailer",
       "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
       "2;a=b;c=\"d\"\r\nhi\r\n01\r\n!\r\n0\r\nX: y\r\nHost: evil\r\n\r\n",
       "POST / h hi!"},
      {"a chunk's size that is none",
       "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n",
       "400"},
      {"a chunk beyond its size",
       "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
       "400"},
      {"a chunk beyond 2^64",
       "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nhi",
       "400"},
      {"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       "400"},
      {"another coding", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
      {"a body that is asked for",
       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
       "POST / h hi"},
      {"an unknown expectation",
       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 200-maybe\r\n\r\nhi",
       "POST / h hi"},
      {"an upgrade",
       "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
       "GET / h "},
  };
  auto server = Server::start({}, Handler(show));
  REQUIRE(server.ok());
  for (const Form& form : forms) {
    CAPTURE(form.name);
    const bool taken = form.replies.find(' ') != std::string_view::npos;
    const bool stays = taken && form.bytes.find("HTTP/1.0") == std::string_view::npos;
    // What follows is the next request, unless the connection is closed; it is never part of this
    // one.
    std::vector<std::string> expected{std::string(form.replies)};
    if (stays) expected.emplace_back("GET /next h ");
    CHECK(replies_to((*server)->port(), std::string(form.bytes) + std::string(kNext)) == expected);
  }
}

TEST_CASE("wherever a header is cut, only the request line has the version", "[http]") {
  constexpr std::string_view kRequest =
      "GET /a HTTP/1.2\r\nUpgrade: HTTP/2.0\r\nVia: HTTP/1.2\r\nHost: h\r\n\r\n";
  auto show_via = [](const Request& request) {
    return ok("text/plain", fmt::format("{} {}", request.target, request.header("Via")));
  };
  auto server = Server::start({}, Handler(show_via));
  REQUIRE(server.ok());
  RawClient fence((*server)->port());
  for (size_t cut = 1; cut < kRequest.size(); ++cut) {
    CAPTURE(kRequest.substr(0, cut));
    RawClient client((*server)->port());
    client.send(kRequest.substr(0, cut));
    fence.ask(kNext);  // the server has read what came before
    const RawReply reply = client.ask(kRequest.substr(cut));
    CHECK(reply.status() == 200);
    CHECK(reply.body == "/a HTTP/1.2");
  }
}

TEST_CASE("lines that end with LF alone are answered without waiting for more", "[http]") {
  auto server = Server::start({}, Handler(show));
  REQUIRE(server.ok());
  for (std::string_view bytes : {"GET / HTTP/1.1\nHost: h\n\n", "GET / HTTP/1.1\r\nHost: h\n"}) {
    RawClient client((*server)->port());
    CHECK(client.ask(bytes).status() == 400);  // 408 comes as late as the limit of a request's time
  }
}

}  // namespace millrace::http
