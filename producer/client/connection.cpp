#include "producer/client/connection.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/net/dealer.h"
#include "common/os/log.h"

namespace millrace::producer {
namespace {

using namespace protocol;

constexpr ClientConnection::Role kRole{"producer", "worker", "--frontend", kFrontendPort};

// For writing rejected.ndjson, in each turn and at the end: heartbeats have to be sent meanwhile.
constexpr Millis kRecordPerTurn{50}, kRecordAtEnd{10'000};
constexpr Millis kRecordAgain{1000};

ClientConnection::Options connection_options(const Connection::Parts& parts) {
  return {.broker = parts.broker, .role = kRole, .caller_reports = parts.alone};
}

SocketOpener socket_opener(const Connection::Parts& parts) {
  return [context = parts.context, keys = parts.keys,
          io_thread = parts.io_thread](const std::string& endpoint) {
    return Dealer::open(*context, endpoint, Connection::kMaxFrame, keys, io_thread);
  };
}

// The part of an event below a sequence, which was reported as spooled, and the rest.
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
      connection_(connection_options(parts_), socket_opener(parts_)),
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

void Connection::spool_all() {
  if (!spool_queue()) return;
  spool_unanswered();
  record_again_at_ = Mono();
  record_rejects(read_clock(), kRecordAtEnd);
}

void Connection::spool_unanswered() {
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

// Nobody waits for what an earlier run has left.
Result<void> Connection::load_from_spool() {
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

void Connection::report_spooled() {
  for (const SeqRange& seqs : spool_queue()->take_safe()) {
    unwritten_ -= seqs.count;
    safe_end_ = seqs.end();
    for (const SeqRange& open : session_.without_answer(seqs)) listener_.spooled(open);
  }
}

// ---- a turn

Result<void> Connection::advance(Mono now) {
  using Step = ClientConnection::Step;
  for (;;) {
    const auto step = connection_.advance(now);
    if (!step) return step.error();
    if (*step == Step::none) break;
    if (*step == Step::opened) {
      // A new socket has room for its first message.
      const FromClient hello = session_.hello();
      MILLRACE_CHECK(connection_.send(encode(connection_.session(), hello), now));
    } else {
      drop(*step == Step::lost);
    }
  }
  update_reachability(now);
  if (!spool_queue()) return {};
  record_rejects(now, kRecordPerTurn);
  if (auto failure = spool_queue()->failure()) return *failure;
  if (connected() && spool_queue()->unloaded() > 0) return load_from_spool();
  return {};
}

void Connection::drop(bool was_connected) {
  if (was_connected)
    log_warning("lost the broker, trying again",
                {{"broker", broker().uri()}, {"unanswered", session_.unanswered()}});
  session_.lost();
}

// A broker that accepts nothing for now is treated like an unreachable one while its spool queue
// waits: new submissions would wait behind it.
void Connection::update_reachability(Mono now) {
  const bool was_held = std::exchange(held_, connected() && spooled() > 0 && session_.held(now));
  if (held_ && !was_held) spool_unanswered();
  if (connected()) {
    last_seen_ = now;
    return disconnected_since_.reset();
  }
  if (!disconnected_since_) disconnected_since_ = now;
  if (unreachable_ || !spool_queue() || now < *disconnected_since_ + parts_.spool_after) return;
  unreachable_ = true;
  spool_unanswered();
}

// As many as the time allows: each costs a sync. Those that can't be written now stay in the spool
// queue.
void Connection::record_rejects(Mono now, Millis longest) {
  if (pending_rejects_.empty() || now < record_again_at_) return;
  const Mono end = read_clock() + longest;
  for (; !pending_rejects_.empty() && read_clock() < end; pending_rejects_.pop_front()) {
    const PendingReject& next = pending_rejects_.front();
    auto kept = spool_queue()->rejected(next.seqs, next.reason, next.message);
    if (kept) continue;
    record_again_at_ = now + kRecordAgain;
    if (auto held_back = pending_rejects_logged_.admit(now))
      log_error("a rejected submission can't be recorded, trying again",
                {{"why", kept.error().message}, {"not_logged", *held_back}});
    return;
  }
}

bool Connection::takes() const {
  if (!parts_.alone && !connected() && !(spool_queue() && unreachable_)) return false;
  return fills_spool_queue() || session_.has_room();
}

bool Connection::gather(Mono now) {
  if (spool_queue()) session_.limit_floor(spool_queue()->floor());
  if (connected()) session_.flush(now, connection_.session(), &frames_);
  return !frames_.empty();
}

void Connection::send(Mono now) {
  if (spool_queue()) spool_queue()->write();
  for (std::string& frame : std::exchange(frames_, {}))
    if (!connection_.send(std::move(frame), now)) return;
}

void Connection::add_to(std::vector<zmq::pollitem_t>* items) {
  connection_.add_to(items);
  spool_item_ = items->size();
  if (spool_queue()) items->push_back({nullptr, spool_queue()->wake_fd(), ZMQ_POLLIN, 0});
}

void Connection::receive(const std::vector<zmq::pollitem_t>& items, Mono now) {
  if (spool_queue() && (items[spool_item_].revents & ZMQ_POLLIN)) report_spooled();
  connection_.receive(items, now,
                      [this, now](const FromBroker& message, const ClientConnection::Frame&) {
                        on_message(message, now);
                      });
  update_reachability(now);
}

Mono Connection::wake_at() const {
  Mono at = std::min(connection_.wake_at(), session_.wake_at());
  if (!pending_rejects_.empty()) at = std::min(at, record_again_at_);
  const bool waits = spool_queue() && !unreachable_ && disconnected_since_;
  return waits ? std::min(at, *disconnected_since_ + parts_.spool_after) : at;
}

void Connection::close() {
  // The session must stay known to the broker while the spool queue holds submissions, or answers
  // that are not on disk.
  const bool spool_queue_is_empty =
      !spool_queue() || (spooled() == 0 && spool_queue()->floor() == Seq{UINT64_MAX});
  if (session_.unanswered() == 0 && spool_queue_is_empty) connection_.say_bye();
  connection_.close();
}

// ---- messages

void Connection::on_message(const FromBroker& message, Mono now) {
  if (auto* welcome = std::get_if<Welcome>(&message)) return on_welcome(*welcome);
  auto* error = std::get_if<ErrorReply>(&message);
  if (!error) return session_.received(now, message);
  connection_.refuse(ExitCode::bug,
                     fmt::format("it refused a message of this producer as {}: {}; this is a bug, "
                                 "please report it",
                                 error->code, error->message),
                     true, now);
}

void Connection::on_welcome(const Welcome& welcome) {
  const bool again = session_.knows_broker();
  const std::string id = fmt::format("{:08x}", welcome.broker.value);
  if (again && session_.broker() != welcome.broker) {
    log_warning(
        "another broker answers at this address; it does not have what the first one confirmed",
        {{"broker", broker().uri()}, {"id", id}});
  }
  unreachable_ = false;
  ahead_ = 0;
  session_.welcomed(welcome);
  const LogFields fields{{"broker", broker().uri()}, {"id", id}};
  if (again) {
    log_info("connected again", fields);
  } else {
    log_debug("connected", fields);
  }
}

// ---- events: each range lies within one batch, and no batch crosses spool_queue_end_

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
