#include "common/http/server.h"

#include <fmt/format.h>
#include <pthread.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <ctime>
#include <optional>
#include <thread>

#include "common/log.h"
#include "common/repeat_limiter.h"

namespace millrace::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using Parser = beast::http::request_parser<beast::http::string_body>;
using Message = beast::http::response<beast::http::string_body>;

constexpr size_t kReadBytes = 4096;
constexpr size_t kBodyPiece = 64 << 10;  // what Beast reads of a body at once
// Connections above the maximum that are kept for the moment that their 503 takes; one above
// these is closed without a word.
constexpr size_t kRefusalsAtOnce = 32;
// After the last response the peer may still be sending. To close at once would reset the
// connection, and could destroy the response before it is read.
constexpr Millis kLingerTime{1000};
constexpr Millis kAcceptPause{100};  // after a failed accept: out of file descriptors, mostly
constexpr Millis kFaultLogInterval{1000};

// What all connections share; the server's thread only.
struct Shared {
  Limits limits;
  Handler handler;
  size_t connections = 0;
  RepeatLimiter fault_lines{kFaultLogInterval};
};

auto completes(error_code& error) { return asio::redirect_error(asio::use_awaitable, error); }

std::string text_of(beast::string_view view) { return {view.data(), view.size()}; }

Request to_request(const Parser::value_type& message) {
  Request request;
  bool head = message.method() == beast::http::verb::head;
  request.method = head ? "GET" : text_of(message.method_string());
  request.target = text_of(message.target());
  size_t mark = std::min(request.target.find('?'), request.target.size());
  request.path = request.target.substr(0, mark);
  if (mark < request.target.size()) request.query = request.target.substr(mark + 1);
  for (const auto& field : message) {
    request.headers.emplace_back(text_of(field.name_string()), text_of(field.value()));
  }
  request.body = message.body();
  return request;
}

std::string http_date() {
  std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

Message to_message(Response response, bool keep_alive) {
  Message message;
  message.result(static_cast<unsigned>(response.status));
  message.set(beast::http::field::date, http_date());
  message.set(beast::http::field::content_type, response.content_type);
  message.set(beast::http::field::cache_control, "no-store");
  message.set("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : response.headers) message.set(name, value);
  message.body() = std::move(response.body);
  message.keep_alive(keep_alive);
  message.prepare_payload();
  return message;
}

// What to answer to a request that could not be read; nothing when its sender is gone.
std::optional<Response> refusal(error_code failed, bool late, const Limits& limits) {
  if (late) {
    return problem(
        408, fmt::format("the request was not complete within {} ms", limits.request_time.count()));
  }
  using beast::http::error;
  if (failed == error::header_limit || failed == error::buffer_overflow) {
    return problem(431, fmt::format("the request line and headers are limited to {} bytes",
                                    limits.header_bytes));
  }
  if (failed == error::body_limit) {
    return problem(413, fmt::format("the body is limited to {} bytes", limits.body_bytes));
  }
  bool gone = failed == error::end_of_stream || failed == error::partial_message ||
              failed.category() != beast::http::make_error_code(error::bad_method).category();
  if (gone) return std::nullopt;
  return problem(400, fmt::format("not an HTTP/1.1 request: {}", failed.message()));
}

// One connection. Each thing that it does has a deadline, at which the socket's operation is
// cancelled. The timer's callback may come after the end, so it shares the ownership.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Shared& shared)
      : socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        shared_(shared),
        buffer_(shared.limits.header_bytes + kBodyPiece) {
    ++shared_.connections;
  }
  ~Connection() { --shared_.connections; }

  awaitable<void> serve() {
    while (co_await await_request()) {
      bool more = co_await exchange();
      if (!more) break;
    }
    if (!late_) co_await linger();  // a peer that neither sends nor reads has had its time
  }

  awaitable<void> refuse() {
    Response full = problem(503, fmt::format("{} connections are open already, the maximum",
                                             shared_.limits.connections));
    full.headers.emplace_back("Retry-After", "1");
    co_await send(std::move(full), false, false);
    co_await linger();
  }

 private:
  // From now on: the operation under way, or the next, is cancelled when `limit` is over.
  void deadline_in(Millis limit) {
    late_ = false;
    timer_.expires_after(limit);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (error || self->timer_.expiry() > Mono::clock::now()) return;  // moved meanwhile
      self->late_ = true;
      error_code ignored;
      self->socket_.cancel(ignored);
    });
  }

  // The first byte of the next request, however long after the one before.
  awaitable<bool> await_request() {
    if (buffer_.size() > 0) co_return true;
    deadline_in(shared_.limits.idle_time);
    error_code error;
    auto space = buffer_.prepare(kReadBytes);
    size_t bytes = co_await socket_.async_read_some(space, completes(error));
    buffer_.commit(bytes);
    co_return !error;
  }

  // One request and its response; false when the connection can't or shall not go on.
  awaitable<bool> exchange() {
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(shared_.limits.header_bytes));
    parser.body_limit(shared_.limits.body_bytes);
    deadline_in(shared_.limits.request_time);
    error_code error = co_await read(parser);
    bool head = parser.get().method() == beast::http::verb::head;
    if (error) {
      auto refused = refusal(error, late_, shared_.limits);
      if (refused) co_await send(*std::move(refused), head, false);
      co_return false;
    }
    if (parser.get().version() >= 11 && parser.get().count(beast::http::field::host) != 1) {
      co_await send(problem(400, "an HTTP/1.1 request names its Host, once"), head, false);
      co_return false;
    }
    bool keep_alive = parser.get().keep_alive();
    bool sent = co_await send(answer(to_request(parser.get())), head, keep_alive);
    co_return sent&& keep_alive;
  }

  awaitable<error_code> read(Parser& parser) {
    error_code error;
    co_await beast::http::async_read_header(socket_, buffer_, parser, completes(error));
    if (error) co_return error;
    if (!parser.is_done() && beast::iequals(parser.get()["Expect"], "100-continue")) {
      auto go_on = asio::buffer("HTTP/1.1 100 Continue\r\n\r\n", 25);
      co_await asio::async_write(socket_, go_on, completes(error));
      if (error) co_return error;
    }
    co_await beast::http::async_read(socket_, buffer_, parser, completes(error));
    co_return error;
  }

  Response answer(const Request& request) {
    try {
      return shared_.handler(request);
    } catch (const std::exception& fault) {
      if (auto held_back = shared_.fault_lines.admit(Mono::clock::now())) {
        log_error("http handler failed", {{"method", request.method},
                                          {"target", request.target},
                                          {"error", fault.what()},
                                          {"held_back", *held_back}});
      }
      return problem(500, "an error inside the program; its log says more");
    }
  }

  awaitable<bool> send(Response response, bool head, bool keep_alive) {
    Message message = to_message(std::move(response), keep_alive);
    beast::http::response_serializer<beast::http::string_body> serializer(message);
    deadline_in(shared_.limits.request_time);
    error_code error;
    if (head) {
      co_await beast::http::async_write_header(socket_, serializer, completes(error));
    } else {
      co_await beast::http::async_write(socket_, serializer, completes(error));
    }
    co_return !error;
  }

  // Says that nothing more will come, and reads what the peer still sends.
  awaitable<void> linger() {
    error_code error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    deadline_in(kLingerTime);
    char discarded[kReadBytes];
    while (!error) {
      co_await socket_.async_read_some(asio::buffer(discarded), completes(error));
    }
    timer_.cancel();
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  Shared& shared_;
  beast::flat_buffer buffer_;
  bool late_ = false;  // the deadline has passed
};

awaitable<void> accept_connections(tcp::acceptor& acceptor, Shared& shared) {
  asio::steady_timer pause(acceptor.get_executor());
  for (;;) {
    error_code error;
    tcp::socket socket = co_await acceptor.async_accept(completes(error));
    if (error) {
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(completes(error));
      continue;
    }
    size_t maximum = shared.limits.connections;
    if (shared.connections >= maximum + kRefusalsAtOnce) continue;
    bool full = shared.connections >= maximum;
    auto connection = std::make_shared<Connection>(std::move(socket), shared);
    asio::co_spawn(
        acceptor.get_executor(),
        [connection, full]() -> awaitable<void> {
          if (full) {
            co_await connection->refuse();
          } else {
            co_await connection->serve();
          }
        },
        asio::detached);
  }
}

Error cannot_listen(const ServerOptions& options, error_code error) {
  std::string cause = error.message();
  if (error == asio::error::address_in_use) {
    cause = "another program listens there already";
  } else if (error == asio::error::access_denied) {
    cause = "no permission, as for ports below 1024";
  } else if (error == boost::system::errc::address_not_available) {
    cause = "this machine has no such address";
  } else if (error.category() == asio::error::get_netdb_category()) {
    cause = "the host's name is not known";
  }
  return {ExitCode::cant_create,
          fmt::format("can't listen for HTTP on {}: {}; choose another address with {}",
                      options.address.authority(), cause, options.flag)};
}

// Every step in one place, so that any of them ends in the same sentence.
void listen_at(const ServerOptions& options, asio::io_context& io, tcp::acceptor& acceptor,
               error_code& error) {
  const auto& [host, port] = options.address;
  auto found = tcp::resolver(io).resolve(host, std::to_string(port), tcp::resolver::passive, error);
  if (error) return;
  tcp::endpoint endpoint = found.begin()->endpoint();
  if (acceptor.open(endpoint.protocol(), error); error) return;
  if (acceptor.set_option(tcp::acceptor::reuse_address(true), error); error) return;
  if (acceptor.bind(endpoint, error); error) return;
  acceptor.listen(options.limits.backlog, error);
}

}  // namespace

// Order matters: the connections die with the io_context, and refer to what stands above it.
struct Server::Engine {
  Shared shared;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  std::thread thread;

  ~Engine() {
    io.stop();
    if (thread.joinable()) thread.join();
  }

  void run() {
    asio::co_spawn(io, accept_connections(acceptor, shared), asio::detached);
    thread = std::thread([this] {
      pthread_setname_np(pthread_self(), "millrace-http");
      io.run();
    });
  }
};

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, Handler handler) {
  auto engine = std::make_unique<Engine>();
  engine->shared.limits = options.limits;
  engine->shared.handler = std::move(handler);
  error_code error;
  listen_at(options, engine->io, engine->acceptor, error);
  if (error) return cannot_listen(options, error);
  uint16_t port = engine->acceptor.local_endpoint(error).port();
  if (error) return cannot_listen(options, error);
  engine->run();
  return std::unique_ptr<Server>(new Server(std::move(engine), port));
}

Server::Server(std::unique_ptr<Engine> engine, uint16_t port)
    : engine_(std::move(engine)), port_(port) {}

Server::~Server() = default;

void Server::stop() { engine_.reset(); }

}  // namespace millrace::http
