// One connection of the server, and what all of them share. Included by server.cpp and its fuzz
// target alone, for Beast is slow to compile.
// Owns:    its socket and its timers; Shared must outlive it
// Threads: the server's
#pragma once

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <unordered_set>
#include <vector>

#include "common/base/repeat_limiter.h"
#include "common/http/server.h"
#include "common/http/wire.h"
#include "common/os/log.h"

namespace millrace::http {

// What a Responder and its connection share; either may go first.
struct Exchange {
  struct Waiting {  // the connection's coroutine, which owns it
    virtual ~Waiting() = default;
    virtual void resume() = 0;
  };
  std::unique_ptr<Waiting> waiting;
  std::optional<Response> response;
  std::function<void()> on_departure;
};

namespace connection {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using Parser = beast::http::request_parser<beast::http::string_body>;
using beast::http::error;

constexpr size_t kReadBytes = 4096;
constexpr size_t kBodyPiece = 64 << 10;  // what is read of a body at once
// After the last response the peer may still be sending. To close at once would reset the
// connection, and could destroy the response before it is read.
constexpr Millis kLingerTime{1000};
// How often those are looked for that wait for an answer; from the second time on, whether their
// client leaves is watched. Most answers come before, and cost nothing for it.
constexpr Millis kWatchInterval{40};
constexpr Millis kFaultLogInterval{1000};
constexpr Millis kAcceptLogInterval{10'000};

class Connection;
struct Shared;
void watch_waiting(Shared& shared);

// What all connections share; the server's thread only, but for the count.
struct Shared {
  Limits limits;
  Gate gate;
  LateHandler handler;
  std::unordered_set<Connection*> open;
  std::atomic<size_t> connections{0};
  std::atomic<size_t> refusals{0};
  size_t body_bytes = 0;
  bool draining = false;
  asio::steady_timer* changed = nullptr;  // of who waits for the end of a connection
  asio::steady_timer* watch = nullptr;
  bool watches = false;  // the timer runs
  WireFormat wire;
  RepeatLimiter fault_lines{kFaultLogInterval}, accept_lines{kAcceptLogInterval};
  Mono deserted_search_at{};  // no earlier
};

inline auto completes(error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

inline std::string text_of(beast::string_view view) { return {view.data(), view.size()}; }

// Takes scheme and authority off a target in absolute form, as clients send it to a proxy, and
// returns the authority, which counts in place of Host (RFC 9112, section 3.2.2). Otherwise empty.
inline std::string take_authority(std::string& target) {
  for (const beast::string_view scheme : {"http://", "https://"}) {
    if (!beast::iequals(target.substr(0, scheme.size()), scheme)) continue;
    const size_t path = std::min(target.find_first_of("/?", scheme.size()), target.size());
    std::string authority = target.substr(scheme.size(), path - scheme.size());
    target.erase(0, path);
    if (!target.starts_with('/')) target.insert(0, "/");
    return authority;
  }
  return {};
}

inline Request to_request(const Parser::value_type& message) {
  Request request;
  bool head = message.method() == beast::http::verb::head;
  request.method = head ? "GET" : text_of(message.method_string());
  request.target = text_of(message.target());
  const std::string authority = take_authority(request.target);
  size_t mark = std::min(request.target.find('?'), request.target.size());
  request.path = request.target.substr(0, mark);
  if (mark < request.target.size()) request.query = request.target.substr(mark + 1);
  if (!authority.empty()) request.headers.emplace_back("Host", authority);
  for (const auto& field : message) {
    if (!authority.empty() && field.name() == beast::http::field::host) continue;
    request.headers.emplace_back(text_of(field.name_string()), text_of(field.value()));
  }
  return request;
}

inline Response internal_error() {
  return problem(500, "an error inside the program; its log says more");
}

// What a supervisor asks, and acts upon.
inline bool is_health_check(std::string_view path) {
  return path == "/healthz" || path == "/readyz";
}

inline Response come_again(std::string_view detail) {
  Response response = problem(503, detail);
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

inline Response out_of_memory() { return come_again("there is no memory for this request now"); }

// What to answer to a request whose head can be read, and does not say what is asked, or how long
// it is: Beast takes a transfer coding that it does not know for the absence of a body.
inline std::optional<Response> unclear(const Parser::value_type& message) {
  using beast::http::field;
  if (message.version() >= 11 && message.count(field::host) != 1)
    return problem(400, "an HTTP/1.1 request names its Host, once");
  const auto [first, last] = message.equal_range(field::authorization);
  for (auto at = first; at != last; ++at)
    if (at->value() != first->value())
      return problem(400, "a request shows one Authorization, not several different ones");
  const size_t codings = message.count(field::transfer_encoding);
  if (codings == 0) return std::nullopt;
  if (message.version() < 11) return problem(400, "HTTP/1.0 knows no Transfer-Encoding");
  if (codings == 1 && beast::iequals(message[field::transfer_encoding], "chunked"))
    return std::nullopt;
  return problem(501, "the only Transfer-Encoding that is understood is: chunked");
}

// What to answer to a request that could not be read; nothing when its sender is gone.
inline std::optional<Response> refusal(error_code failed, bool late, const Limits& limits,
                                       size_t body) {
  if (late) {
    return problem(
        408, fmt::format("the request was not complete within {} ms", limits.request_time.count()));
  }
  if (failed == error::header_limit || failed == error::buffer_overflow) {
    return problem(431, fmt::format("the request line and headers are limited to {} bytes",
                                    limits.header_bytes));
  }
  if (failed == error::body_limit) {
    return problem(413, fmt::format("the body is limited to {} bytes", body));
  }
  if (failed == boost::system::errc::protocol_not_supported)
    return problem(505, "this server speaks HTTP/1.1");
  if (failed == asio::error::no_buffer_space)
    return come_again("the bodies of other requests take all memory that there is for them");
  bool gone = failed == error::end_of_stream || failed == error::partial_message ||
              failed.category() != beast::http::make_error_code(error::bad_method).category();
  if (gone) return std::nullopt;
  return problem(400, fmt::format("not an HTTP/1.1 request: {}", failed.message()));
}

// Keeps the coroutine that awaits it, until a response is there.
struct Park {
  template <typename Resume>
  struct Parked : Exchange::Waiting {
    explicit Parked(Resume to_call) : call(std::move(to_call)) {}
    void resume() override { std::move(call)(); }
    Resume call;
  };
  template <typename Resume>
  void operator()(Resume&& call) const {
    exchange->waiting = std::make_unique<Parked<std::decay_t<Resume>>>(std::forward<Resume>(call));
  }
  Exchange* exchange;
};

// One connection. Each thing that it does has a deadline, at which the socket's operation is
// cancelled; but while its handler works, which has deadlines of its own.
// (GCC 12 builds wrong code for a co_await in a condition, or among the arguments of another.)
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Shared& shared, bool refused)
      : socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        shared_(shared),
        refused_(refused),
        buffer_(shared.limits.header_bytes + kBodyPiece) {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    shared_.open.insert(this);
    ++count();
  }
  ~Connection() {
    shared_.open.erase(this);
    --count();
    if (shared_.changed) shared_.changed->cancel();
  }

  awaitable<void> serve() {
    bool more = true;
    while (more) {
      more = co_await await_request(shared_.limits.idle_time);
      if (more) more = co_await exchange_in_memory();
    }
    // A peer that neither sends nor reads has had its time.
    if (!late_ && !evicted_) co_await linger();
  }

  bool is_idle() const { return idle_ && !evicted_ && !refused_; }
  Mono idle_since() const { return idle_since_; }
  // Waits for a handler's answer, and the peer has closed its side. Most such peers have gone; one
  // that still reads can't be told from them.
  bool is_deserted() {
    if (!waits()) return false;
    tcp_info info{};
    socklen_t size = sizeof info;
    if (getsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
    return info.tcpi_state == TCP_CLOSE_WAIT || info.tcpi_state == TCP_CLOSE;
  }
  // Of an idle or deserted one: ends it, without the time to linger.
  void evict() {
    evicted_ = true;
    error_code ignored;
    socket_.cancel(ignored);
    if (!exchange_ || !exchange_->waiting) return;
    deserted_ = true;
    if (auto tell = std::exchange(exchange_->on_departure, nullptr)) tell();
    exchange_->response.emplace();
    std::exchange(exchange_->waiting, nullptr)->resume();
  }

  // Answers the first request, so that its sender has reason to read.
  awaitable<void> refuse() {
    const bool asked = co_await await_request(kLingerTime);
    if (!asked) co_return;
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(shared_.limits.header_bytes));
    const error_code error = co_await read_header(parser);
    Response full = come_again(
        fmt::format("{} connections are open already, the maximum", shared_.limits.connections));
    Request request = to_request(parser.get());
    if (!error && is_health_check(request.path)) full = co_await answer(request);
    WireFormat::Form form;
    form.keep_alive = false;
    co_await send(full, form);
    co_await linger();
  }

  // Whether it waits for an answer and its client is not watched yet.
  bool watch() {
    if (!waits() || watched_) return false;
    watched_ = std::exchange(seen_waiting_, true);
    if (watched_) read_ahead();
    return !watched_;
  }

  // For the server's end: nothing that waits for a response may outlive it.
  void abandon(std::vector<std::unique_ptr<Exchange::Waiting>>& abandoned) {
    if (exchange_ && exchange_->waiting) abandoned.push_back(std::move(exchange_->waiting));
  }

  void drain() {
    error_code ignored;
    if (idle_) socket_.cancel(ignored);
  }

 private:
  std::atomic<size_t>& count() { return refused_ ? shared_.refusals : shared_.connections; }

  // From now on: the operation under way, or the next, is cancelled when `limit` is over. The timer
  // is set anew only when it would come too late.
  void deadline_in(Millis limit) {
    late_ = false;
    due_ = Mono::clock::now() + limit;
    if (due_ < timer_at_) set_timer();
  }
  void set_timer() {
    timer_at_ = due_;
    timer_.expires_at(due_);
    timer_.async_wait([weak = weak_from_this()](error_code error) {
      auto self = weak.lock();
      if (!error && self) self->time_is_over();
    });
  }
  void time_is_over() {
    timer_at_ = Mono::max();
    if (due_ == Mono::max()) return;
    if (due_ > Mono::clock::now()) return set_timer();
    late_ = true;
    error_code ignored;
    socket_.cancel(ignored);
  }

  // The first byte of the next request, however long after the one before.
  awaitable<bool> await_request(Millis limit) {
    if (buffer_.size() > 0) co_return true;
    if (shared_.draining) co_return false;
    deadline_in(limit);
    idle_ = true;
    idle_since_ = Mono::clock::now();
    error_code error = co_await read_some(kReadBytes);
    idle_ = false;
    co_return !error;
  }

  awaitable<error_code> read_some(size_t most) {
    error_code error = beast::http::error::buffer_overflow;
    const size_t room = buffer_.max_size() - buffer_.size();
    if (room == 0) co_return error;
    auto space = buffer_.prepare(std::min(room, most));
    size_t bytes = co_await socket_.async_read_some(space, completes(error));
    buffer_.commit(bytes);
    co_return error;
  }

  // A request for which there is no memory is refused; others go on.
  awaitable<bool> exchange_in_memory() {
    bool more = false;
    bool starved = false;
    try {
      more = co_await exchange();
    } catch (const std::bad_alloc&) {
      starved = true;
    }
    if (starved) more = co_await refuse_with(out_of_memory(), false);
    co_return more;
  }

  // One request and its response; false when the connection can't or shall not go on.
  awaitable<bool> exchange() {
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(shared_.limits.header_bytes));
    parser.body_limit(UINT64_MAX);  // until the gate has said it
    deadline_in(shared_.limits.request_time);
    error_code error = co_await read_header(parser);
    const bool head = parser.get().method() == beast::http::verb::head;
    std::optional<Response> refused;
    if (error) {
      refused = refusal(error, late_, shared_.limits, 0);
    } else {
      refused = unclear(parser.get());
    }
    if (error || refused) co_return co_await refuse_with(refused, head);
    WireFormat::Form form{head, parser.get().keep_alive(), parser.get().version() < 11};
    Request request = to_request(parser.get());
    size_t body_bytes = shared_.limits.body_bytes;
    if (shared_.gate) {
      Admission admission = shared_.gate(request);
      if (admission.refusal) {
        form.keep_alive &= parser.is_done();
        co_return co_await send(*admission.refusal, form);
      }
      if (admission.body_bytes > 0) body_bytes = admission.body_bytes;
    }
    parser.body_limit(body_bytes);
    Held held(shared_);
    if (parser.content_length().value_or(0) > body_bytes) {
      error = beast::http::error::body_limit;
    } else {
      error = co_await read_body(parser, held);
    }
    if (error) {
      refused = refusal(error, late_, shared_.limits, body_bytes);
      co_return co_await refuse_with(refused, head);
    }
    request.body = std::move(parser.get().body());
    const Response response = co_await answer(request);
    if (deserted_) co_return false;
    co_return co_await send(response, form);
  }

  // Bytes of a body that are in memory.
  struct Held {
    explicit Held(Shared& shared_by_all) : shared(shared_by_all) {}
    ~Held() { shared.body_bytes -= bytes; }
    [[nodiscard]] bool grow_to(size_t size) {
      shared.body_bytes += size - bytes;
      bytes = size;
      return shared.body_bytes <= shared.limits.all_body_bytes;
    }
    Shared& shared;
    size_t bytes = 0;
  };

  // Feeds the parser with what is there, and says whether it wants more.
  error_code parse(Parser& parser) {
    error_code error;
    buffer_.consume(parser.put(buffer_.data(), error));
    return error;
  }

  // Beast knows the versions 1.0 and 1.1. A higher minor version means 1.1 to a server that does
  // not know it, another major version is another protocol (RFC 9110, section 2.5).
  error_code settle_version() {
    char* bytes = static_cast<char*>(buffer_.data().data());
    const std::string_view head(bytes, buffer_.size());
    // Beast looks at the version as soon as its last digit is there.
    const std::string_view line = head.substr(0, std::min(head.find('\r'), head.size()));
    if (line.size() < 9) return {};
    const std::string_view version = line.substr(line.size() - 9);
    auto is_digit = [&](size_t at) { return version[at] >= '0' && version[at] <= '9'; };
    if (!version.starts_with(" HTTP/") || !is_digit(6) || version[7] != '.' || !is_digit(8))
      return {};
    if (version[6] != '1') return make_error_code(boost::system::errc::protocol_not_supported);
    if (version[8] > '1') bytes[line.size() - 1] = '1';
    return {};
  }

  bool has_bare_line_end() const {
    const std::string_view head(static_cast<const char*>(buffer_.data().data()), buffer_.size());
    for (size_t at = head.find('\n'); at != std::string_view::npos; at = head.find('\n', at + 1))
      if (at == 0 || head[at - 1] != '\r') return true;
    return false;
  }

  void skip_line_ends() {
    const std::string_view bytes(static_cast<const char*>(buffer_.data().data()), buffer_.size());
    buffer_.consume(std::min(bytes.find_first_not_of("\r\n"), bytes.size()));
  }

  awaitable<error_code> read_header(Parser& parser) {
    parser.eager(false);
    size_t before = buffer_.size(), taken = 0;  // Beast's limit is of what it has not taken yet
    bool has_request_line = false;
    for (error_code error;;) {
      // Some clients send an empty line after a body (RFC 9112, section 2.2).
      if (!parser.got_some()) skip_line_ends();
      if (buffer_.size() > 0) {
        if (!has_request_line) error = settle_version();
        if (error) co_return error;
        const size_t there = buffer_.size();
        error = parse(parser);
        has_request_line |= buffer_.size() < there;  // Beast takes whole lines
        taken += before - buffer_.size();
        if (taken > shared_.limits.header_bytes) co_return error::header_limit;
        if (error != error::need_more) co_return error;
        if (has_bare_line_end()) co_return error::bad_line_ending;  // or we would wait for another
      }
      error = co_await read_some(kReadBytes);
      if (error) co_return error;
      before = buffer_.size();
    }
  }

  awaitable<error_code> read_body(Parser& parser, Held& held) {
    error_code error;
    if (parser.is_done()) co_return error;
    if (buffer_.size() == 0 && beast::iequals(parser.get()["Expect"], "100-continue")) {
      auto go_on = asio::buffer("HTTP/1.1 100 Continue\r\n\r\n", 25);
      co_await asio::async_write(socket_, go_on, completes(error));
      if (error) co_return error;
    }
    parser.eager(true);
    while (!parser.is_done()) {
      if (buffer_.size() > 0) {
        error = parse(parser);
        if (error && error != error::need_more) co_return error;
        if (!held.grow_to(parser.get().body().size())) co_return asio::error::no_buffer_space;
        if (parser.is_done()) break;
        if (!error && buffer_.size() > 0) continue;
      }
      error = co_await read_some(kBodyPiece);
      if (error) co_return error;
    }
    co_return error_code();
  }

  awaitable<Response> answer(Request& request) {
    exchange_ = std::make_shared<Exchange>();
    seen_waiting_ = watched_ = false;
    ask(request, Responder(exchange_));
    due_ = Mono::max();
    if (!exchange_->response) {
      watch_waiting(shared_);
      co_await asio::async_initiate<const asio::use_awaitable_t<>&, void()>(Park{exchange_.get()},
                                                                            asio::use_awaitable);
    }
    Response response = *std::move(exchange_->response);
    exchange_.reset();
    while (reads_ahead_ || awaits_reset_) {
      error_code ignored;
      socket_.cancel(ignored);
      co_await asio::post(socket_.get_executor(), asio::use_awaitable);
    }
    co_return response;
  }

  // ---- a client that waits for an answer

  bool waits() const { return !evicted_ && !refused_ && exchange_ && exchange_->waiting; }

  // Whether it has closed its side stands behind the requests that it has sent meanwhile. Where
  // these fill the buffer, it is not watched any more.
  void read_ahead() {
    const size_t room = buffer_.max_size() - buffer_.size();
    if (room == 0) return;
    reads_ahead_ = true;
    socket_.async_read_some(buffer_.prepare(std::min(room, kReadBytes)),
                            [self = shared_from_this()](error_code error, size_t bytes) {
                              self->reads_ahead_ = false;
                              self->buffer_.commit(bytes);
                              self->on_read_ahead(error);
                            });
  }

  void on_read_ahead(error_code error) {
    if (!waits()) return;
    if (!error) return read_ahead();
    if (error == asio::error::eof) return probe();
    if (error != asio::error::operation_aborted) evict();
  }

  // It has closed its side. One that still reads takes the first bytes of its answer, which are
  // always the same; the kernel of one that has gone resets the connection.
  void probe() {
    constexpr std::string_view start = WireFormat::kStart;
    const ssize_t sent =
        ::send(socket_.native_handle(), start.data(), start.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) begun_ = size_t(sent);
    awaits_reset_ = true;
    socket_.async_wait(tcp::socket::wait_error, [self = shared_from_this()](error_code error) {
      self->awaits_reset_ = false;
      if (!error && self->waits()) self->evict();
    });
  }

  void ask(Request& request, Responder reply) {
    try {
      shared_.handler(std::move(request), std::move(reply));
    } catch (const std::bad_alloc&) {
      exchange_->response = out_of_memory();
    } catch (const std::exception& fault) {  // the Responder that was dropped has answered
      if (auto held_back = shared_.fault_lines.admit(Mono::clock::now()))
        log_error("http handler failed", {{"error", fault.what()}, {"held_back", *held_back}});
    }
  }

  awaitable<bool> refuse_with(const std::optional<Response>& response, bool head) {
    WireFormat::Form form;
    form.head_only = head;
    form.keep_alive = false;
    if (response) co_await send(*response, form);
    co_return false;
  }

  awaitable<bool> send(const Response& response, WireFormat::Form form) {
    form.keep_alive &= !response.close && !shared_.draining;
    const std::string wire = shared_.wire.encode(response, form);
    const auto rest = asio::buffer(wire) + std::exchange(begun_, 0);
    deadline_in(shared_.limits.request_time);
    error_code error;
    co_await asio::async_write(socket_, rest, completes(error));
    co_return !error && form.keep_alive;
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
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  Shared& shared_;
  const bool refused_;
  beast::flat_buffer buffer_;
  std::shared_ptr<Exchange> exchange_;
  Mono due_ = Mono::max();
  Mono timer_at_ = Mono::max();
  bool late_ = false;  // the deadline has passed
  bool idle_ = false;
  Mono idle_since_{};
  bool evicted_ = false;
  bool deserted_ = false;  // and evicted: nobody reads the answer
  bool seen_waiting_ = false, watched_ = false;
  bool reads_ahead_ = false, awaits_reset_ = false;  // operations besides the coroutine's
  size_t begun_ = 0;  // bytes of the next response that are sent already
};

// Starts the timer, which goes on as long as a client waits that is not watched.
inline void watch_waiting(Shared& shared) {
  if (!shared.watch || std::exchange(shared.watches, true)) return;
  shared.watch->expires_after(kWatchInterval);
  shared.watch->async_wait([&shared](error_code error) {
    shared.watches = false;
    bool more = false;
    for (Connection* open : shared.open) more |= open->watch();
    if (more && !error) watch_waiting(shared);
  });
}

}  // namespace connection

}  // namespace millrace::http
