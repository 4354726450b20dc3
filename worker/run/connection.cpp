#include "worker/run/connection.h"

#include <fmt/format.h>

#include <new>

#include "common/net/dealer.h"
#include "common/os/log.h"

namespace millrace::worker {

namespace {

// A LEASE may be as large as the broker allows a job to be, which is known only from its WELCOME.
constexpr size_t kMaxFrame = size_t{1} << 30;
constexpr ClientConnection::Role kRole{"worker", "producer", "--backend", kBackendPort};

SocketOpener socket_opener(const RunOptions& options, Source source, zmq::context_t& context) {
  const auto keys = options.keys.empty() ? std::nullopt : options.keys[source];
  return [&context, keys, source](const std::string& endpoint) {
    return Dealer::open(context, endpoint, kMaxFrame, keys, source);
  };
}

SessionSettings session_settings(const RunOptions& options, Source source, size_t threads) {
  SessionSettings settings{Uuid::random(),   options.name,   {},    threads,
                           options.prefetch, options.labels, source};
  for (const QueueSpec& spec : options.queues) settings.queues.push_back(spec.queue);
  return settings;
}

}  // namespace

Connection::Connection(const RunOptions& options, Source source, zmq::context_t& context,
                       Pool& pool)
    : source_(source),
      pool_(pool),
      connection_({options.brokers[source], kRole}, socket_opener(options, source, context)),
      session_(session_settings(options, source, pool.threads())) {}

Result<void> Connection::advance(Mono now) {
  using Step = ClientConnection::Step;
  Output out;
  for (;;) {
    const auto step = connection_.advance(now);
    if (!step) return step.error();
    if (*step == Step::none) break;
    if (*step == Step::opened) {
      session_.opened(connection_.session(), &out);
      apply(std::exchange(out, {}));
      continue;
    }
    if (*step == Step::lost)
      log_warning("lost the broker, trying again", {{"broker", broker()},
                                                    {"held", session_.held()},
                                                    {"unconfirmed", session_.unconfirmed()}});
    session_.closed();
  }
  session_.tick(now, &out);
  apply(std::move(out));
  return {};
}

Result<void> Connection::reopen(Mono now) {
  connection_.lost(now);
  auto advanced = advance(now);  // closes the session: nothing of it is read or answered any more
  give_back_waiting();
  return advanced;
}

void Connection::receive(const std::vector<zmq::pollitem_t>& items, Mono now) {
  try {
    connection_.receive(
        items, now,
        [this, now](const protocol::FromBroker& message, const ClientConnection::Frame& frame) {
          on_message(message, frame, now);
        });
  } catch (const std::bad_alloc&) {
    on_no_memory(now);
  }
}

// The next session claims what is held, so the broker learns what was lost.
void Connection::on_no_memory(Mono now) {
  ++memory_shortages_;
  if (auto not_logged = no_memory_.admit(now))
    log_warning("no memory for a message of the broker: connecting again",
                {{"broker", broker()}, {"not_logged", *not_logged}});
  connection_.lost(now);
}

void Connection::on_message(const protocol::FromBroker& message, const FramePtr& frame, Mono now) {
  if (auto* error = std::get_if<protocol::ErrorReply>(&message)) return on_error(*error, now);
  Output out;
  session_.received(message, frame, now, &out);
  apply(std::move(out));
  if (auto* welcome = std::get_if<protocol::Welcome>(&message)) {
    log_info("connected", {{"to", broker()},
                           {"broker", fmt::format("{:08x}", welcome->broker.value)},
                           {"incarnation", welcome->incarnation},
                           {"held", session_.held()},
                           {"stale", welcome->stale.size()}});
  }
}

void Connection::on_error(const protocol::ErrorReply& error, Mono now) {
  if (auto not_logged = errors_.admit(now))
    log_error("the broker refuses a message", {{"broker", broker()},
                                               {"code", error.code},
                                               {"message", error.message},
                                               {"not_logged", *not_logged}});
}

void Connection::completed(std::vector<Finished> ends) {
  Output out;
  session_.completed(std::move(ends), &out);
  apply(std::move(out));
}

void Connection::set_threads(uint64_t threads) {
  Output out;
  session_.set_threads(threads, &out);
  apply(std::move(out));
}

void Connection::set_limit(uint64_t jobs) {
  Output out;
  session_.set_limit(jobs, &out);
  apply(std::move(out));
}

void Connection::drain() {
  Output out;
  session_.drain(pool_.take_waiting(source_), &out);
  apply(std::move(out));
}

void Connection::give_back_waiting() { give_back(pool_.take_waiting(source_)); }

void Connection::give_back(const std::vector<protocol::Lease>& unstarted) {
  Output out;
  session_.give_back(unstarted, &out);
  apply(std::move(out));
}

void Connection::give_up() {
  Output out;
  session_.give_up(&out);
  apply(std::move(out));
}

void Connection::apply(Output out) {
  if (out.above_credit > 0) {
    if (auto not_logged = above_credit_.admit(read_clock()))
      log_warning("the broker leases more jobs than this worker has asked for: returning them",
                  {{"broker", broker()}, {"jobs", out.above_credit}, {"not_logged", *not_logged}});
  }
  for (std::string& frame : out.frames) connection_.send(std::move(frame), read_clock());
  if (!out.start.empty()) pool_.submit(std::move(out.start));
  pool_.forget(out.forget, source_);
  if (!out.recall.empty()) give_back(pool_.take(out.recall, source_));
}

}  // namespace millrace::worker
