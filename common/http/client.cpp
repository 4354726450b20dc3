#include "common/http/client.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include "common/http/reply_parser.h"
#include "common/net/resolver.h"

namespace millrace::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using boost::system::error_code;

// Starts one asynchronous step, for only those obey the stream's time-out, and waits for its end.
template <typename Start>
error_code await(asio::io_context& io, Start&& start) {
  error_code outcome;
  start([&outcome](error_code error, auto&&...) { outcome = error; });
  io.restart();
  io.run();
  return outcome;
}

using Message = beast::http::request<beast::http::string_body>;

Message message_for(const std::string& method, const std::string& authority,
                    const std::string& target, std::string body, const std::string& token) {
  Message message;
  message.version(11);
  message.method_string(method);
  message.target(target);
  message.set(beast::http::field::host, authority);
  message.set(beast::http::field::user_agent, "millrace/" MILLRACE_VERSION);
  message.set(beast::http::field::connection, "close");
  if (!token.empty()) message.set(beast::http::field::authorization, "Bearer " + token);
  if (!body.empty()) message.set(beast::http::field::content_type, "application/json");
  message.body() = std::move(body);
  if (method != "GET") message.prepare_payload();
  return message;
}

Error failure(const std::string& authority, std::string_view program, error_code failed,
              Millis timeout) {
  if (failed == beast::error::timeout) {
    return {ExitCode::temporary,
            fmt::format("http://{} did not answer within {} ms: the {} is overloaded or "
                        "stopped in a debugger; try again, or look at its log",
                        authority, timeout.count(), program)};
  }
  using beast::http::error;
  bool cut_short = failed == error::end_of_stream || failed == error::partial_message;
  if (!cut_short && failed.category() == make_error_code(error::bad_method).category()) {
    return {ExitCode::bad_data,
            fmt::format("what answers at {} does not speak HTTP ({}); --http must name the "
                        "{}'s HTTP address",
                        authority, failed.message(), program)};
  }
  return {ExitCode::unavailable,
          fmt::format("can't reach the {} at http://{}: {}; start it, or name its HTTP address "
                      "with --http",
                      program, authority, failed.message())};
}

error_code read_reply(asio::io_context& io, beast::tcp_stream& stream, ReplyParser* parser) {
  std::array<char, 16384> bytes;
  while (!parser->is_done()) {
    size_t size = 0;
    error_code error = await(io, [&](auto done) {
      stream.async_read_some(asio::buffer(bytes), [&size, done](error_code failed, size_t got) {
        size = got;
        done(failed);
      });
    });
    if (error == asio::error::eof) return parser->end();
    if (!error) error = parser->put({bytes.data(), size});
    if (error) return error;
  }
  return {};
}

}  // namespace

Result<Reply> request(const std::string& method, const Endpoint& server, const std::string& target,
                      std::string body, Millis timeout, const std::string& token,
                      std::string_view program) {
  const std::string authority = server.authority();
  const Mono end = Mono::clock::now() + timeout;
  auto host = Resolver(server.host).wait(timeout);
  if (!host) return host.error();
  error_code error;
  const auto address = asio::ip::make_address(*host, error);
  if (error) return failure(authority, program, error, timeout);

  asio::io_context io;
  beast::tcp_stream stream(io);
  stream.expires_at(end);
  const asio::ip::tcp::endpoint to(address, server.port);
  error = await(io, [&](auto done) { stream.async_connect(to, done); });
  if (error) return failure(authority, program, error, timeout);
  auto message = message_for(method, authority, target, std::move(body), token);
  error = await(io, [&](auto done) { beast::http::async_write(stream, message, done); });
  if (error) return failure(authority, program, error, timeout);

  ReplyParser parser;
  if (error = read_reply(io, stream, &parser); error)
    return failure(authority, program, error, timeout);
  return parser.take();
}

Result<Reply> get(const Endpoint& server, const std::string& target, Millis timeout,
                  const std::string& token, std::string_view program) {
  return request("GET", server, target, "", timeout, token, program);
}

}  // namespace millrace::http
