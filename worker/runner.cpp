#include "worker/runner.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/log.h"
#include "common/protocol/codec.h"

namespace millrace::worker {

using std::chrono::steady_clock;

namespace {

// A LEASE may be as large as the broker allows a job to be, which is known only from its WELCOME.
constexpr size_t kMaxFrame = size_t{1} << 30;
const protocol::FromClient kHeartbeat = protocol::Heartbeat{};

// For handlers to return in, once they have been told to stop and nobody waits for their jobs.
constexpr Millis kPatience{2000};

SessionSettings session_settings(const RunOptions& options, size_t threads) {
  SessionSettings settings{Uuid::random(), options.name,     {},
                           threads,        options.prefetch, options.labels};
  for (const QueueSpec& spec : options.queues) settings.queues.push_back(spec.queue);
  return settings;
}

// Up, so that what is due has come when the wait is over.
Millis until(Mono when, Mono now) {
  constexpr Millis kLongest{60'000};
  if (when <= now) return Millis(0);
  if (when - now > kLongest) return kLongest;
  return std::chrono::ceil<Millis>(when - now);
}

}  // namespace

Runner::Runner(const RunOptions& options, std::vector<QueueHandler> handlers, SignalInbox& inbox,
               zmq::context_t& context)
    : options_(options),
      handlers_(std::move(handlers)),
      inbox_(inbox),
      context_(context),
      link_(random_session().value, {}),
      board_(options.name, options.pool.text(), handlers_),
      pool_(
          make_pool(options.pool, {handlers_, [this] { wakeup_.signal(); }, options.run_timeout})),
      session_(session_settings(options, pool_->threads())) {
  if (options.connect_timeout) deadline_ = steady_clock::now() + *options.connect_timeout;
}

Result<ExitCode> Runner::run() {
  log_info("worker starts", {{"name", options_.name},
                             {"broker", options_.brokers.front().uri()},
                             {"queues", options_.queues.size()},
                             {"pool", options_.pool.text()},
                             {"threads", pool_->threads()}});
  auto result = loop();
  pool_->stop();
  has_runaways_ = !pool_->close(kPatience);
  return result;
}

Result<ExitCode> Runner::loop() {
  for (;;) {
    Mono now = steady_clock::now();
    if (auto linked = advance_link(now); !linked) return linked.error();
    Output out;
    session_.tick(now, &out);
    apply(std::move(out));
    if (phase_ == Phase::serving && now >= deadline_) {
      return Error{
          ExitCode::unavailable,
          fmt::format("no broker answers at {} within {}: is one running there, and is this "
                      "its backend port?",
                      options_.brokers.front().uri(), format_duration(*options_.connect_timeout))};
    }
    if (auto result = drain_result(now)) return *result;
    board_.post(session_);
    wait(now);
    if (auto heeded = heed_refusal(); !heeded) return heeded.error();
    if (int signal = inbox_.take()) on_signal(signal, steady_clock::now());
    receive();
    tend_pool(steady_clock::now());
    collect();
  }
}

Result<void> Runner::advance_link(Mono now) {
  switch (link_.next(now)) {
    case Link::Step::none:
      return {};
    case Link::Step::open:
      return open();
    case Link::Step::close:
      close();
      return {};
    case Link::Step::heartbeat:
      send(encode(link_.session(), kHeartbeat));
      return {};
  }
  return {};
}

Result<void> Runner::open() {
  dealer_.reset();
  auto dealer = Dealer::open(context_, options_.brokers.front().uri(), kMaxFrame,
                             options_.keys.empty() ? std::nullopt : options_.keys.front());
  if (!dealer) return dealer.error();
  dealer_.emplace(*std::move(dealer));
  Output out;
  session_.opened(link_.session(), &out);
  apply(std::move(out));
  return {};
}

void Runner::close() {
  dealer_.reset();
  bool was_connected = session_.welcomed();
  session_.closed();
  // One line for each loss, not for each attempt that finds nobody.
  if (was_connected) {
    log_warning("broker lost, trying again",
                {{"held", session_.held()}, {"unconfirmed", session_.unconfirmed()}});
  } else if (link_.attempts() == 1) {
    log_warning("broker does not answer, trying again",
                {{"broker", options_.brokers.front().uri()}});
  }
}

Mono Runner::wake_at() const {
  return std::min({link_.wake_at(), session_.wake_at(), pool_->wake_at(), deadline_});
}

void Runner::wait(Mono now) {
  zmq::pollitem_t items[4] = {
      {nullptr, wakeup_.fd(), ZMQ_POLLIN, 0},
      {nullptr, inbox_.fd(), ZMQ_POLLIN, 0},
      {dealer_ ? dealer_->socket().handle() : nullptr, 0, ZMQ_POLLIN, 0},
      {dealer_ ? dealer_->handshakes().handle() : nullptr, 0, ZMQ_POLLIN, 0}};
  try {
    zmq::poll(items, dealer_ ? 4 : 2, until(wake_at(), now));
  } catch (const zmq::error_t& error) {
    MILLRACE_CHECK(error.num() == EINTR);
  }
}

// Who was let in before may be again: the broker's list has changed, or another one stands there.
Result<void> Runner::heed_refusal() {
  auto why = dealer_ ? dealer_->refusal() : std::nullopt;
  if (!why) return {};
  const std::string broker = options_.brokers.front().uri();
  if (!ever_connected_)
    return Error{ExitCode::unavailable,
                 fmt::format("the broker at {} refuses the connection: {}", broker, *why)};
  Mono now = steady_clock::now();
  link_.lost(now);
  if (auto held_back = refusals_.admit(now))
    log_warning("the broker refuses the connection",
                {{"broker", broker}, {"why", *why}, {"not_logged", *held_back}});
  return {};
}

void Runner::receive() {
  Mono now = steady_clock::now();
  zmq::message_t message;
  for (int i = 0; i < kFramesPerTurn && dealer_ && dealer_->receive(message); ++i)
    on_frame(std::make_shared<zmq::message_t>(std::move(message)), now);
}

void Runner::on_frame(std::shared_ptr<zmq::message_t> frame, Mono now) {
  auto decoded = protocol::decode_from_broker(view(*frame));
  if (auto* fault = std::get_if<protocol::Fault>(&decoded)) {
    if (auto held_back = bad_frames_.admit(now)) {
      log_warning("a frame that is no message of a broker",
                  {{"why", fault->message}, {"more", *held_back}});
    }
    return;
  }
  auto& envelope = std::get<protocol::Envelope<protocol::FromBroker>>(decoded);
  bool error = std::holds_alternative<protocol::ErrorReply>(envelope.message);
  if (envelope.session != link_.session() && !(error && envelope.session == SessionId{})) return;
  link_.received(now);
  on_message(envelope.message, std::move(frame), now);
}

void Runner::on_message(const protocol::FromBroker& message, const FramePtr& frame, Mono now) {
  if (std::holds_alternative<protocol::Reregister>(message)) return link_.lost(now);
  if (auto* error = std::get_if<protocol::ErrorReply>(&message)) {
    if (error->code == "revoked") link_.lost(now);
    log_error("the broker refuses a message", {{"code", error->code}, {"message", error->message}});
    return;
  }
  auto* welcome = std::get_if<protocol::Welcome>(&message);
  if (welcome) {
    link_.welcomed(now, welcome->heartbeat, welcome->liveness);
    if (!ever_connected_ && phase_ == Phase::serving) deadline_ = Mono::max();
    ever_connected_ = true;
  }
  Output out;
  session_.received(message, frame, now, &out);
  apply(std::move(out));
  if (welcome) {
    log_info("connected", {{"broker", fmt::format("{:08x}", welcome->broker.value)},
                           {"incarnation", welcome->incarnation},
                           {"held", session_.held()},
                           {"stale", welcome->stale.size()}});
  }
}

void Runner::collect() {
  wakeup_.drain();
  std::vector<Finished> finished = pool_->collect();
  if (finished.empty()) return;
  board_.count(finished);
  Output out;
  session_.completed(std::move(finished), &out);
  apply(std::move(out));
}

// Its size decides how many jobs are worth holding.
void Runner::tend_pool(Mono now) {
  if (now < pool_->wake_at()) return;
  pool_->tick(now);
  Output out;
  session_.set_threads(pool_->threads(), &out);
  apply(std::move(out));
  if (!worn_out_ && pool_->worn_out()) on_worn_out(now);
}

void Runner::apply(Output out) {
  for (std::string& frame : out.frames) send(std::move(frame));
  if (!out.start.empty()) pool_->submit(std::move(out.start));
  pool_->forget(out.forget);
}

void Runner::send(std::string frame) {
  Mono now = steady_clock::now();
  if (dealer_ && dealer_->send(std::move(frame))) return link_.sent(now);
  link_.lost(now);
}

}  // namespace millrace::worker
