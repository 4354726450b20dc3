#include "producer/client/connection.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/time.h"
#include "common/os/log.h"

namespace millrace::producer {
namespace {

using namespace protocol;

// How long close() waits for the BYE to leave.
constexpr Millis kShutdownGrace{500};
// Of rejected.ndjson, in a turn and at the end: heartbeats have to go out meanwhile.
constexpr Millis kRefusedPerTurn{50}, kRefusedAtEnd{10'000};
constexpr Millis kKeepAgain{1000};

// What is below a sequence, of which spooled() was told, and what is not.
template <typename Event>
std::pair<Event, Event> split(const Event& event, Seq at) {
  at = std::clamp(at, event.seqs.first, event.seqs.end());
  Event below = event, rest = event;
  below.seqs.count = at.value - event.seqs.first.value;
  below.spooled = true;
  rest.seqs = {at, event.seqs.count - below.seqs.count};
  return {below, rest};
}

}  // namespace

Connection::Connection(Parts parts, const SessionConfig& config, Listener& listener, Mono now)
    : parts_(std::move(parts)),
      listener_(listener),
      link_(random_session().value, Link::Timing{}),
      resolver_(parts_.broker.host),
      session_(config, static_cast<Listener&>(*this)),
      spool_queue_end_(parts_.first) {
  update_reachability(now);
}

// ---- submissions

void Connection::submit(Seq seq, std::string_view queue, const SubmitOptions& options,
                        std::string_view payload) {
  ++unanswered_;
  ++ahead_;
  if (fills_spool_queue()) {
    spool_queue()->put({seq, queue, options, payload}, false);
    spool_queue_end_ = {seq.value + 1};
    ++unwritten_;
    return;
  }
  session_.skip_to(seq);
  session_.submit(queue, options, payload);
  ++direct_;
}

void Connection::keep_all() {
  if (!spool_queue()) return;
  keep_unanswered();
  keep_again_at_ = Mono();
  keep_refused(read_clock(), kRefusedAtEnd);
}

void Connection::keep_unanswered() {
  session_.each_unanswered(spool_queue_end_,
                           [this](Seq seq, std::string_view queue, const SubmitOptions& options,
                                  std::string_view payload) {
                             spool_queue()->put({seq, queue, options, payload}, true);
                             ++unwritten_;
                           });
  direct_ = 0;
  spool_queue_end_ = std::max(spool_queue_end_, session_.next_seq());
  session_.retry_before(spool_queue_end_);
}

// What another run has left is nobody's to wait for.
Result<void> Connection::load_client() {
  session_.retry_before(spool_queue_end_);
  return spool_queue()->load([this](const SpoolQueue::Entry& entry) {
    const bool has_enough = session_.unanswered() >= kLoadJobs ||
                            session_.unanswered_bytes() >= kLoadBytes || !session_.has_room();
    if (has_enough) return false;
    SubmitOptions options = entry.options;
    if (!ours({entry.seq, 1})) options.report = Report::none;
    session_.skip_to(entry.seq);
    session_.submit(entry.queue, options, entry.payload);
    return true;
  });
}

void Connection::take_safe() {
  for (const SeqRange& seqs : spool_queue()->take_safe()) {
    unwritten_ -= seqs.count;
    safe_end_ = seqs.end();
    for (const SeqRange& open : session_.without_answer(seqs)) listener_.spooled(open);
  }
}

// ---- a turn

Result<void> Connection::advance(Mono now) {
  for (auto step = link_.next(now); step != Link::Step::none; step = link_.next(now)) {
    switch (step) {
      case Link::Step::open:
        dealer_.reset();
        is_opening_ = true;
        if (auto done = connect(now); !done) return done;
        break;
      case Link::Step::close:
        drop();
        break;
      default:
        if (!dealer_->send(encode(link_.session(), FromClient(Heartbeat{})))) link_.lost(now);
    }
  }
  if (is_opening_)
    if (auto done = connect(now); !done) return done;
  update_reachability(now);
  if (!spool_queue()) return {};
  keep_refused(now, kRefusedPerTurn);
  if (auto failure = spool_queue()->failure()) return *failure;
  if (connected() && spool_queue()->unloaded() > 0) return load_client();
  return {};
}

// A spool queue that the broker holds back is like one that is unreachable: what comes new would
// wait behind it.
void Connection::update_reachability(Mono now) {
  const bool was_held = std::exchange(held_, connected() && spooled() > 0 && session_.held(now));
  if (held_ && !was_held) keep_unanswered();
  if (connected()) {
    last_seen_ = now;
    return since_.reset();
  }
  if (!since_) since_ = now;
  if (unreachable_ || !spool_queue() || now < *since_ + parts_.spool_after) return;
  unreachable_ = true;
  keep_unanswered();
}

// As much as a turn has time for: each costs a sync. What can't be written now stays in the
// spool queue.
void Connection::keep_refused(Mono now, Millis longest) {
  if (pending_rejects_.empty() || now < keep_again_at_) return;
  const Mono end = read_clock() + longest;
  for (; !pending_rejects_.empty() && read_clock() < end; pending_rejects_.pop_front()) {
    const PendingReject& next = pending_rejects_.front();
    auto kept = spool_queue()->rejected(next.seqs, next.reason, next.message);
    if (kept) continue;
    keep_again_at_ = now + kKeepAgain;
    if (auto held_back = pending_rejects_logged_.admit(now))
      log_error("a rejected submission can't be recorded, trying again",
                {{"why", kept.error().message}, {"not_logged", *held_back}});
    return;
  }
}

// Once the broker's address is known.
Result<void> Connection::connect(Mono now) {
  auto address = resolver_.poll();
  if (!address) return {};
  is_opening_ = false;
  if (!*address) {
    unresolved_ = address->error();
    link_.lost(now);
    return {};
  }
  unresolved_.reset();
  const Endpoint numeric{**address, broker().port};
  auto dealer =
      Dealer::open(*parts_.context, numeric.uri(), kMaxFrame, parts_.keys, parts_.io_thread);
  if (!dealer) return dealer.error();
  dealer_.emplace(*std::move(dealer));
  // A new socket has room for its first message.
  MILLRACE_CHECK(dealer_->send(encode(link_.session(), FromClient(session_.hello()))));
  link_.sent(now);
  log_debug("connecting", {{"broker", broker().uri()}, {"attempt", link_.attempts()}});
  return {};
}

void Connection::drop() {
  if (session_.welcome_heard()) {  // one line for a loss, none for attempts that find nobody
    log_warning("lost the broker, trying again",
                {{"broker", broker().uri()}, {"unanswered", session_.unanswered()}});
  } else if (link_.attempts() == 1 && !parts_.alone && !refusal_) {
    log_warning("the broker does not answer, trying again", {{"broker", broker().uri()}});
  }
  session_.lost();
  dealer_.reset();
  if (std::exchange(is_opening_, false)) unresolved_ = resolver_.still_pending();
}

bool Connection::takes() const {
  if (!parts_.alone && !connected() && !(spool_queue() && unreachable_)) return false;
  return fills_spool_queue() || session_.has_room();
}

bool Connection::gather(Mono now) {
  if (spool_queue()) session_.limit_floor(spool_queue()->floor());
  if (connected()) session_.flush(now, link_.session(), &frames_);
  return !frames_.empty();
}

void Connection::send(Mono now) {
  if (spool_queue()) spool_queue()->write();
  if (frames_.empty()) return;
  for (std::string& frame : std::exchange(frames_, {})) {
    if (dealer_->send(std::move(frame))) continue;
    return link_.lost(now);
  }
  link_.sent(now);
}

void Connection::add_to(std::vector<zmq::pollitem_t>* items) {
  items_at_ = items->size();
  if (dealer_) {
    items->push_back({dealer_->socket().handle(), 0, ZMQ_POLLIN, 0});
    items->push_back({dealer_->handshakes().handle(), 0, ZMQ_POLLIN, 0});
  }
  if (spool_queue()) items->push_back({nullptr, spool_queue()->wake_fd(), ZMQ_POLLIN, 0});
}

Result<void> Connection::receive(const std::vector<zmq::pollitem_t>& items, Mono now) {
  auto ready = [&](size_t index) { return (items[items_at_ + index].revents & ZMQ_POLLIN) != 0; };
  if (spool_queue() && ready(dealer_ ? 2 : 0)) take_safe();
  if (!dealer_) return {};
  if (ready(1)) on_handshake_rejected(now);
  zmq::message_t message;
  for (size_t i = 0; ready(0) && (i < kFramesPerTurn || dealer_->cut()); ++i) {
    if (!dealer_->receive(message)) break;
    take(view(message), now);
  }
  if (dealer_->cut()) link_.lost(now);
  update_reachability(now);
  return {};
}

Mono Connection::wake_at() const {
  Mono at = std::min(link_.wake_at(), session_.wake_at());
  if (is_opening_) at = std::min(at, read_clock() + Resolver::kPollEvery);
  if (!pending_rejects_.empty()) at = std::min(at, keep_again_at_);
  const bool waits = spool_queue() && !unreachable_ && since_;
  return waits ? std::min(at, *since_ + parts_.spool_after) : at;
}

void Connection::close() {
  if (!dealer_) return;
  // Of what is in the spool queue, the broker still has to know, and so of what has an answer that
  // is not on disk.
  const bool spool_queue_is_empty =
      !spool_queue() || (spooled() == 0 && spool_queue()->floor() == Seq{UINT64_MAX});
  if (connected() && session_.unanswered() == 0 && spool_queue_is_empty) {
    dealer_->linger(kShutdownGrace);
    if (!dealer_->send(encode(link_.session(), FromClient(Bye{})))) dealer_->linger(Millis(0));
  }
  dealer_.reset();
}

// ---- messages

void Connection::take(std::string_view frame, Mono now) {
  auto decoded = decode_from_broker(frame);
  if (auto* fault = std::get_if<Fault>(&decoded)) {
    if (auto held_back = bad_frames_.admit(now))
      log_warning("a message that is not a broker message", {{"from", broker().uri()},
                                                             {"bytes", frame.size()},
                                                             {"why", fault->message},
                                                             {"not_logged", *held_back}});
    return;
  }
  auto& envelope = std::get<0>(decoded);
  const bool about_us = envelope.session == link_.session();
  if (auto* reply = std::get_if<ErrorReply>(&envelope.message);
      reply && (about_us || envelope.session.value == 0))
    return refused(*reply, now);
  if (!about_us) return;
  link_.received(now);
  take(envelope.message, now);
}

void Connection::take(const FromBroker& message, Mono now) {
  if (auto* hello_back = std::get_if<Welcome>(&message)) {
    welcome(*hello_back, now);
  } else if (std::holds_alternative<Reregister>(message)) {
    link_.lost(now);
  } else if (connected()) {
    session_.received(now, message);
  }
}

void Connection::welcome(const Welcome& message, Mono now) {
  if (connected()) return;
  const bool again = session_.knows_broker();
  link_.welcomed(now, message.heartbeat, message.liveness);
  if (!connected()) return;  // of a session that was given up meanwhile
  if (again && session_.broker() != message.broker) {
    log_warning(
        "another broker answers at this address; it does not have what the first one confirmed",
        {{"broker", broker().uri()}, {"id", fmt::format("{:08x}", message.broker.value)}});
  }
  refusal_.reset();
  in_use_at_.reset();
  unreachable_ = false;
  ahead_ = 0;
  session_.welcomed(message);
  LogFields fields{{"broker", broker().uri()}, {"id", fmt::format("{:08x}", message.broker.value)}};
  if (again) {
    log_info("connected again", fields);
  } else {
    log_debug("connected", fields);
  }
}

// ---- a broker that will not have us

// Who was let in before may be again: the broker's list has changed, or another one stands there.
void Connection::on_handshake_rejected(Mono now) {
  auto why = dealer_->refusal();
  if (!why) return;
  refuse({ExitCode::unavailable,
          fmt::format("the broker at {} refuses the connection: {}", broker().authority(), *why)},
         !session_.knows_broker(), now);
}

void Connection::refused(const ErrorReply& reply, Mono now) {
  const std::string where = broker().authority();
  if (reply.code == "wrong_port") {
    return refuse({ExitCode::unavailable,
                   fmt::format("{} is the broker's port for workers; producers connect to its "
                               "--frontend, port {} unless configured otherwise",
                               where, kFrontendPort)},
                  true, now);
  }
  if (reply.code == "version") {
    return refuse({ExitCode::unavailable,
                   fmt::format("the broker at {} speaks another version of the protocol ({}); use "
                               "a producer of its release",
                               where, reply.message)},
                  true, now);
  }
  if (reply.code == "revoked") {
    return refuse(
        {ExitCode::unavailable, fmt::format("the broker at {} has removed this --curve-key from "
                                            "its list; 'millrace-broker keys add' puts it back",
                                            where)},
        true, now);
  }
  if (reply.code == "not_yours" && reply.about && reply.about->kind == About::Kind::broker)
    in_use_at_ = BrokerId{uint32_t(reply.about->number)};
  if (reply.code == "not_yours" || reply.code == "too_many_sessions") {
    return refuse({ExitCode::unavailable,
                   fmt::format("the broker at {} refuses the session: {}", where, reply.message)},
                  false, now);
  }
  refuse({ExitCode::bug, fmt::format("the broker at {} refused a message as {}: {}; this is a bug, "
                                     "please report it",
                                     where, reply.code, reply.message)},
         true, now);
}

// With others there, none is final: an operator may mend it meanwhile.
void Connection::refuse(Error why, bool for_good, Mono now) {
  refusal_ = std::move(why);
  final_ = parts_.alone && for_good;
  link_.lost(now);
  if (final_) return;
  if (auto held_back = refusals_.admit(now))
    log_warning(
        "the broker refuses the connection",
        {{"broker", broker().uri()}, {"why", refusal_->message}, {"not_logged", *held_back}});
}

// ---- events: ranges lie within one batch, and batches end where the spool queue does

void Connection::sent(const Sent& event) {
  if (parts_.ledger) parts_.ledger->sent(event, parts_.alone ? "" : broker().authority());
  if (ours(event.seqs)) listener_.sent(event);
}

void Connection::confirmed(const Confirmed& event) {
  if (parts_.ledger) parts_.ledger->confirmed(event);
  ahead_ -= std::min(ahead_, event.seqs.count);
  if (event.seqs.first >= spool_queue_end_) direct_ -= event.seqs.count;
  if (in_spool_queue(event.seqs)) {
    spool_queue()->answered(event.seqs);
    emptied_ += event.seqs.count;
  }
  if (!ours(event.seqs)) {
    forwarded_ += event.seqs.count;
    return;
  }
  unanswered_ -= event.seqs.count;
  const auto [safe, rest] = split(event, safe_end_);
  if (safe.seqs.count > 0) listener_.confirmed(safe);
  Confirmed direct = rest;
  direct.first_job.value += safe.seqs.count;
  if (rest.seqs.count > 0) listener_.confirmed(direct);
}

void Connection::rejected(const Rejected& event) {
  if (parts_.ledger) parts_.ledger->rejected(event);
  ahead_ -= std::min(ahead_, event.seqs.count);
  if (event.seqs.first >= spool_queue_end_) direct_ -= event.seqs.count;
  if (in_spool_queue(event.seqs))
    pending_rejects_.push_back({event.seqs, std::string(event.reason), std::string(event.message)});
  if (!ours(event.seqs)) {
    refused_ += event.seqs.count;
    return;
  }
  unanswered_ -= event.seqs.count;
  const auto [safe, rest] = split(event, safe_end_);
  if (safe.seqs.count > 0) listener_.rejected(safe);
  if (rest.seqs.count > 0) listener_.rejected(rest);
}

void Connection::ended(const Ended& event) {
  if (ours(event.seqs)) listener_.ended(event);
}

}  // namespace millrace::producer
