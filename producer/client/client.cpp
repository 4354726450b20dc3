#include "producer/client/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/time.h"
#include "common/net/dealer.h"
#include "common/os/log.h"
#include "common/os/start_resources.h"
#include "producer/session/rounds.h"

namespace millrace::producer {
namespace {

// zmq_poll takes an int of milliseconds.
constexpr Millis kLongestWait{60'000};
// Brokers that were lost together.
constexpr Millis kLately{10'000};

constexpr unsigned kThreads = 3;  // libzmq's two, and one that resolves names
constexpr uint64_t kStartBytes = 48 << 20;

Millis until_in(Mono at, Mono now) {
  if (at <= now) return Millis(0);
  return std::min(std::chrono::ceil<Millis>(std::min(at - now, Mono::duration(kLongestWait))),
                  kLongestWait);
}

}  // namespace

Client::Client(ClientOptions options)
    : options_(std::move(options)),
      context_(int(std::min(options_.brokers.size(), Dealer::kMaxIoThreads))),
      now_(read_clock()),
      gather_by_(options_.brokers.size() > 1 ? now_ + kGather : Mono::min()),
      give_up_at_(options_.spool.empty() ? now_ + options_.connect_timeout : Mono::max()) {}

Result<std::unique_ptr<Client>> Client::open(ClientOptions options, Listener& listener) {
  const std::vector<Listener*> listeners(options.brokers.size(), &listener);
  return open(std::move(options), listeners);
}

Result<std::unique_ptr<Client>> Client::open(ClientOptions options,
                                             const std::vector<Listener*>& listeners) {
  MILLRACE_CHECK(!options.brokers.empty() && listeners.size() == options.brokers.size());
  if (auto enough = check_start_resources(kThreads, kStartBytes); !enough) return enough.error();
  auto client = std::unique_ptr<Client>(new Client(std::move(options)));
  if (auto done = client->prepare(listeners); !done) return done.error();
  return client;
}

Result<void> Client::prepare(const std::vector<Listener*>& listeners) {
  auto keys = options_.curve.read(options_.brokers.size());
  if (!keys) return keys.error();
  if (!options_.spool.empty()) {
    if (auto done = open_spool(); !done) return done;
  }
  SessionConfig config = options_.session;
  if (spool_) config.producer = spool_->producer();
  if (!options_.ledger.empty()) {
    auto ledger = Ledger::open(options_.ledger, config.producer, options_.resumed);
    if (!ledger) return ledger.error();
    ledger_.emplace(*std::move(ledger));
    if (auto written = ledger_->restore(options_.lost, options_.lost_queue); !written)
      return written;
  }
  for (size_t i = 0; i < options_.brokers.size(); ++i) {
    Connection::Parts parts;
    parts.broker = options_.brokers[i];
    parts.keys = keys->empty() ? std::nullopt : (*keys)[i];
    parts.context = &context_;
    parts.io_thread = i;
    parts.ledger = ledger_ ? &*ledger_ : nullptr;
    parts.spool_queue = spool_ ? &spool_->spool_queue(i) : nullptr;
    parts.spool_after = options_.spool_after;
    parts.alone = options_.brokers.size() == 1;
    parts.first = next_seq_;
    lines_.emplace_back(std::move(parts), config, *listeners[i], now_);
  }
  look();
  return {};
}

Result<void> Client::open_spool() {
  SpoolOptions spool;
  spool.directory = options_.spool;
  spool.max_bytes = options_.spool_bytes;
  for (const Endpoint& broker : options_.brokers) spool.spool_queues.push_back(broker.authority());
  auto opened = Spool::open(std::move(spool));
  if (!opened) return opened.error();
  spool_ = *std::move(opened);
  next_seq_ = seq_of(spool_->run(), 1);
  return {};
}

// ---- submissions

// What spread_ has to know. Those that are not connected count only where all are gone, and only
// with a spool: then those that were there until lately, or all, if none ever was.
void Client::look() {
  const bool any = connected();
  Mono newest = Mono::min();
  for (const Connection& line : lines_) newest = std::max(newest, line.last_seen());
  seen_.resize(lines_.size());
  for (size_t i = 0; i < lines_.size(); ++i) {
    const Connection& line = lines_[i];
    const bool lately = newest == Mono::min() || line.last_seen() > newest - kLately;
    seen_[i].id = line.session().knows_broker() ? line.session().broker().value
                                                : Spread::weight(line.broker().authority(), 0);
    seen_[i].up =
        lines_.size() == 1 || line.connected() || (!any && line.is_unreachable() && lately);
    seen_[i].load = line.load();
  }
}

bool Client::is_gathering() {
  if (now_ >= gather_by_) return false;
  const bool complete = std::all_of(lines_.begin(), lines_.end(), [](const Connection& line) {
    const ClientConnection& connection = line.connection();
    return connection.connected() || connection.refusal() || connection.unreachable();
  });
  if (complete) gather_by_ = Mono::min();
  return !complete;
}

// One that is full is left out. Without a key so are one whose spool queue is not empty, as long as
// another takes submissions at first hand, and, for who waits for answers anyway, one that has to
// answer first.
std::optional<size_t> Client::route(std::string_view key, uint64_t bytes) {
  if (is_gathering()) return std::nullopt;
  const uint64_t spooled = bytes > 0 ? bytes + key.size() : 0;
  const bool alone = lines_.size() == 1;
  const bool reports = options_.session.on_reject == OnReject::report;
  bool has_free = false, has_direct = false;
  for (const Connection& line : lines_) {
    const bool is_free = line.connected() && !line.session().full(now_);
    has_free = has_free || is_free;
    has_direct = has_direct || (is_free && !line.fills_spool_queue());
  }
  for (size_t i = 0; i < lines_.size(); ++i) {
    const Connection& line = lines_[i];
    const bool answers_first =
        !reports && line.connected() && line.ahead() >= Connection::kMaxAhead;
    const bool is_left_out =
        (line.connected() && line.session().full(now_)) ||
        (key.empty() && (answers_first || (has_direct && line.fills_spool_queue())));
    seen_[i].room = (alone || !is_left_out) && has_room_at(line, spooled);
  }
  auto to = spread_.pick(seen_, key);
  if (to || alone || (key.empty() && has_free)) return to;
  // All are full, or the key's home is: it goes to the spool queue, or is rejected with the time to
  // wait.
  for (size_t i = 0; i < lines_.size(); ++i)
    seen_[i].room = (reports || lines_[i].fills_spool_queue()) && has_room_at(lines_[i], spooled);
  return spread_.pick(seen_, key);
}

// What a line that is not connected holds in memory may have to go to the spool as well.
bool Client::has_room_at(const Connection& line, uint64_t bytes) const {
  if (!line.takes()) return false;
  if (!spool_ || (line.connected() && !line.fills_spool_queue())) return true;
  const ProducerSession& session = line.session();
  if (line.fills_spool_queue()) return spool_->has_room(1, bytes);
  return spool_->has_room(session.unanswered() + 1, session.unanswered_bytes() + bytes);
}

void Client::skip_to(Seq next) {
  MILLRACE_CHECK(next >= next_seq_);
  next_seq_ = next;
}

Seq Client::submit(size_t to, std::string_view queue, const protocol::SubmitOptions& options,
                   std::string_view payload) {
  lines_[to].submit(next_seq_, queue, options, payload);
  ++seen_[to].load;
  spread_.took(to);
  return {next_seq_.value++};
}

void Client::cancel_outstanding() {
  for (Connection& line : lines_)
    if (line.session().knows_broker()) line.session().cancel_outstanding();
}

// ---- what is known of all of them

uint64_t Client::sum(uint64_t (Connection::*figure)() const) const {
  uint64_t total = 0;
  for (const Connection& line : lines_) total += (line.*figure)();
  return total;
}

bool Client::inquiring() const {
  return std::any_of(lines_.begin(), lines_.end(),
                     [](const Connection& line) { return line.session().inquiring(); });
}

bool Client::knows_broker() const {
  return std::any_of(lines_.begin(), lines_.end(),
                     [](const Connection& line) { return line.session().knows_broker(); });
}

bool Client::connected() const { return connections() > 0; }

size_t Client::connections() const {
  return size_t(std::count_if(lines_.begin(), lines_.end(),
                              [](const Connection& line) { return line.connected(); }));
}

std::optional<size_t> Client::find(BrokerId broker) const {
  for (size_t i = 0; i < lines_.size(); ++i)
    if (lines_[i].session().knows_broker() && lines_[i].session().broker() == broker) return i;
  return std::nullopt;
}

bool Client::spool_is_full() const { return spool_ && !spool_->has_room(1, 0); }

bool Client::is_unreachable() const {
  return std::all_of(lines_.begin(), lines_.end(),
                     [](const Connection& line) { return line.is_unreachable(); });
}

bool Client::settled() const {
  return std::all_of(lines_.begin(), lines_.end(), [](const Connection& line) {
    const bool empty = line.unanswered() == 0 && line.spooled() == 0;
    return empty || (line.is_unreachable() && line.unsafe() == 0);
  });
}

// ---- a turn

Result<void> Client::poll(Mono until, int extra_fd) {
  now_ = read_clock();
  for (Connection& line : lines_) {
    if (auto done = line.advance(now_); !done) return done;
  }
  if (auto done = check_brokers(); !done) return done;
  if (auto done = send_pending(); !done) return done;
  if (!knows_broker()) until = std::min(until, give_up_at_);
  if (is_gathering()) until = std::min(until, gather_by_);
  for (const Connection& line : lines_) until = std::min(until, line.wake_at());
  wait(until, extra_fd);
  now_ = read_clock();
  for (Connection& line : lines_) line.receive(items_, now_);
  if (auto done = check_brokers(); !done) return done;
  if (auto done = check_duplicate_brokers(); !done) return done;
  auto sent = send_pending();
  spread_.new_turn();
  look();
  tell_of_disk();
  return sent;
}

void Client::tell_of_disk() {
  const bool is_full = spool_disk_full();
  if (is_full == std::exchange(disk_full_logged_, is_full)) return;
  if (is_full) {
    log_warning(
        "the spool's disk is full: no submission is reported as stored until there is space",
        {{"spool", options_.spool}});
  } else {
    log_info("the spool's disk has space again", {{"spool", options_.spool}});
  }
}

void Client::wait(Mono until, int extra_fd) {
  items_.clear();
  for (Connection& line : lines_) line.add_to(&items_);
  if (extra_fd >= 0) items_.push_back({nullptr, extra_fd, ZMQ_POLLIN, 0});
  try {
    zmq::poll(items_, until_in(until, now_));
  } catch (const zmq::error_t& error) {
    MILLRACE_CHECK(error.num() == EINTR);
  }
}

// As long as none has ever answered, the client may give up; later it never does.
Result<void> Client::check_brokers() const {
  bool all_refuse = true;
  for (const Connection& line : lines_) {
    if (const Error* refusal = line.final_refusal()) return *refusal;
    all_refuse = all_refuse && line.connection().refusal();
  }
  if (knows_broker()) return {};
  if (all_refuse) return lines_.front().connection().refusal()->error;
  if (now_ >= give_up_at_) return unreachable();
  return {};
}

// Both would speak for one producer, and each end the other's session. Nothing was given to the
// second one yet.
Result<void> Client::check_duplicate_brokers() const {
  for (const Connection& line : lines_) {
    for (const Connection& other : lines_) {
      if (&other == &line || !line.connected()) continue;
      const BrokerId broker = line.session().broker();
      if (other.connected() ? other.session().broker() != broker
                            : other.connection().in_use_at() != broker)
        continue;
      return Error{
          ExitCode::config,
          fmt::format("--broker names one broker twice: {} and {} are both broker {:08x}",
                      line.broker().authority(), other.broker().authority(), broker.value)};
    }
  }
  return {};
}

Result<void> Client::send_pending() {
  bool any = false;
  for (Connection& line : lines_) any = line.gather(now_) || any;
  if (ledger_) {
    if (auto written = ledger_->write(); !written) return written;
  }
  if (any && options_.before_send) {
    if (auto done = options_.before_send(); !done) return done;
  }
  for (Connection& line : lines_) line.send(now_);
  return {};
}

Result<void> Client::close() {
  if (std::exchange(closed_, true)) return {};
  for (Connection& line : lines_) line.spool_all();
  Result<void> stopped;
  if (spool_) {
    stopped = spool_->stop();
    for (Connection& line : lines_) line.report_spooled();
  }
  if (ledger_) {
    auto safe = ledger_->write();
    if (safe) safe = ledger_->sync();
    if (!safe) return safe;  // without a BYE: the broker keeps the session's state
  }
  for (Connection& line : lines_) line.close();
  return stopped;
}

Error Client::unreachable() const {
  for (const Connection& line : lines_)
    if (const auto& error = line.connection().unresolved()) return *error;
  return {ExitCode::unavailable,
          fmt::format("no broker answers at {} within {}: is 'millrace-broker serve' running "
                      "there, with --frontend on that port?",
                      authorities_of(options_.brokers), format_duration(options_.connect_timeout))};
}

}  // namespace millrace::producer
