#include "common/http/server.h"

#include <pthread.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <thread>

#include "common/http/connection.h"
#include "common/net/port_use.h"
#include "common/net/resolver.h"

namespace millrace::http {
namespace {

using namespace connection;

constexpr Millis kDesertedSearchInterval{20};
constexpr Millis kLongestLookUp{2000};  // of the own host's name
constexpr Millis kAcceptPause{100};     // after a failed accept: out of file descriptors, mostly

// Of those idle for at least `least`, the longest; none if there is none.
Connection* longest_idle(const Shared& shared, Millis least) {
  Connection* found = nullptr;
  for (Connection* open : shared.open)
    if (open->is_idle() && (!found || open->idle_since() < found->idle_since())) found = open;
  return found && Mono::clock::now() - found->idle_since() >= least ? found : nullptr;
}

// One that waits for an answer that nobody will read; none if there is none. The search asks the
// kernel about each connection, so one that finds nothing is not repeated at once.
Connection* find_deserted(Shared& shared) {
  const Mono now = Mono::clock::now();
  if (now < shared.deserted_search_at) return nullptr;
  for (Connection* open : shared.open)
    if (open->is_deserted()) return open;
  shared.deserted_search_at = now + kDesertedSearchInterval;
  return nullptr;
}

// Whether the next connection is above the maximum, after all that can be done.
bool is_full(Shared& shared) {
  if (shared.connections < shared.limits.connections) return false;
  Connection* least_needed = find_deserted(shared);
  if (!least_needed) least_needed = longest_idle(shared, shared.limits.crowded_idle_time);
  if (least_needed) least_needed->evict();
  return !least_needed;
}

void on_accept_failed(Shared& shared, error_code error) {
  if (auto held_back = shared.accept_lines.admit(Mono::clock::now()))
    log_warning("an HTTP connection can't be accepted: idle ones are closed to make room",
                {{"cause", error.message()},
                 {"open", shared.connections.load()},
                 {"held_back", *held_back}});
  if (Connection* idle = longest_idle(shared, Millis(0))) idle->evict();
}

// Waits for the end of a connection, or for the time.
awaitable<void> until_changed(Shared& shared, asio::steady_timer& timer, Mono until) {
  struct Watch {  // ends with the coroutine, also when the server is stopped in it
    Shared& shared;
    ~Watch() { shared.changed = nullptr; }
  } watch{shared};
  timer.expires_at(until);
  shared.changed = &timer;
  error_code ignored;
  co_await timer.async_wait(completes(ignored));
}

void spawn(tcp::acceptor& acceptor, tcp::socket socket, Shared& shared) {
  const bool full = is_full(shared);
  auto connection = std::make_shared<Connection>(std::move(socket), shared, full);
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

awaitable<void> accept_connections(tcp::acceptor& acceptor, Shared& shared) {
  asio::steady_timer pause(acceptor.get_executor());
  while (!shared.draining) {
    if (shared.refusals >= shared.limits.refusals) {
      co_await until_changed(shared, pause, Mono::clock::now() + kLingerTime);
      continue;
    }
    error_code error;
    tcp::socket socket = co_await acceptor.async_accept(completes(error));
    if (error) {
      if (shared.draining) break;
      on_accept_failed(shared, error);
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(completes(error));
      continue;
    }
    try {
      spawn(acceptor, std::move(socket), shared);
    } catch (const std::bad_alloc&) {  // this connection is closed; the next may fare better
    }
  }
}

awaitable<void> close_connections(tcp::acceptor& acceptor, Shared& shared, Mono until,
                                  std::promise<void>& done) {
  asio::steady_timer timer(acceptor.get_executor());
  shared.draining = true;
  error_code ignored;
  acceptor.close(ignored);
  for (Connection* connection : shared.open) connection->drain();
  while (!shared.open.empty() && Mono::clock::now() < until)
    co_await until_changed(shared, timer, until);
  done.set_value();
}

Error cannot_listen(const ServerOptions& options, error_code error) {
  std::string cause = error.message();
  if (error == asio::error::address_in_use) {
    cause = why_in_use(options.address.port);
  } else if (error == asio::error::access_denied) {
    cause = "no permission, as for ports below 1024";
  } else if (error == boost::system::errc::address_not_available) {
    cause = "this machine has no such address";
  }
  return {ExitCode::cant_create,
          fmt::format("can't listen for HTTP on {}: {}; choose another address with {}",
                      options.address.authority(), cause, options.flag)};
}

// Every step in one place, so that any of them ends in the same sentence.
void listen_at(const ServerOptions& options, const std::string& address, tcp::acceptor& acceptor,
               error_code& error) {
  const tcp::endpoint endpoint(asio::ip::make_address(address, error), options.address.port);
  if (error) return;
  if (acceptor.open(endpoint.protocol(), error); error) return;
  if (acceptor.set_option(tcp::acceptor::reuse_address(true), error); error) return;
  if (acceptor.bind(endpoint, error); error) return;
  acceptor.listen(options.limits.backlog, error);
}

}  // namespace

// ---- Responder

Responder& Responder::operator=(Responder&& other) noexcept {
  std::swap(exchange_, other.exchange_);
  return *this;
}

Responder::~Responder() {
  if (exchange_) (*this)(connection::internal_error());
}

void Responder::operator()(Response response) {
  auto exchange = std::exchange(exchange_, nullptr);
  exchange->response = std::move(response);
  exchange->on_departure = nullptr;
  if (auto waiting = std::move(exchange->waiting)) waiting->resume();
}

void Responder::on_departure(std::function<void()> call) {
  exchange_->on_departure = std::move(call);
}

// ---- Server

// Order matters: the connections die with the io_context, and refer to what stands above it.
struct Server::Engine {
  Shared shared;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  asio::steady_timer watch{io};
  std::thread thread;

  ~Engine() {
    io.stop();
    if (thread.joinable()) thread.join();
    std::vector<std::unique_ptr<Exchange::Waiting>> abandoned;
    for (Connection* connection : shared.open) connection->abandon(abandoned);
  }

  void run() {
    shared.watch = &watch;
    asio::co_spawn(io, accept_connections(acceptor, shared), asio::detached);
    thread = std::thread([this] {
      pthread_setname_np(pthread_self(), "millrace-http");
      io.run();
    });
  }
};

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, Handler handler) {
  return start(std::move(options),
               LateHandler([handler = std::move(handler)](Request request, Responder reply) {
                 reply(handler(request));
               }));
}

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, LateHandler handler) {
  auto engine = std::make_unique<Engine>();
  engine->shared.limits = options.limits;
  engine->shared.gate = std::move(options.gate);
  engine->shared.handler = std::move(handler);
  auto address = Resolver(options.address.host).wait(kLongestLookUp);
  if (!address)
    return Error{ExitCode::cant_create,
                 fmt::format("can't listen for HTTP with {} {}: {}", options.flag,
                             options.address.authority(), address.error().message)};
  error_code error;
  listen_at(options, *address, engine->acceptor, error);
  if (error) return cannot_listen(options, error);
  uint16_t port = engine->acceptor.local_endpoint(error).port();
  if (error) return cannot_listen(options, error);
  engine->run();
  return std::unique_ptr<Server>(new Server(std::move(engine), port));
}

Server::Server(std::unique_ptr<Engine> engine, uint16_t port)
    : engine_(std::move(engine)), port_(port) {}

Server::~Server() = default;

void Server::post(std::function<void()> work) { asio::post(engine_->io, std::move(work)); }

void Server::drain(Millis timeout) {
  std::promise<void> done;
  asio::co_spawn(
      engine_->io,
      close_connections(engine_->acceptor, engine_->shared, Mono::clock::now() + timeout, done),
      asio::detached);
  done.get_future().wait();
}

void Server::stop() { engine_.reset(); }

size_t Server::connections() const { return engine_ ? engine_->shared.connections.load() : 0; }

}  // namespace millrace::http
