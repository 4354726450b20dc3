#include "broker/server/server.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <random>

#include "broker/listing/payload_answer.h"
#include "broker/replay/replay.h"
#include "broker/server/operations.h"
#include "broker/server/snapshot.h"
#include "common/os/log.h"
#include "common/protocol/codec.h"

namespace millrace::server {

using core::Port;

namespace {

// Read from each socket. libzmq gives one frame of each connection in turn, so that few do.
constexpr int kFramesPerRound = 256;
constexpr size_t kBytesPerRound = 4 << 20;
// What may be on its way to a connection before it is told more. A worker needs some payloads
// ahead.
constexpr size_t kFrontendRoom = 512 << 10;
constexpr size_t kBackendRoom = 8 << 20;
constexpr uint64_t kRecordsPerLook = 256;  // at the clock, while replaying
constexpr Millis kDrainTime{250};  // in which a stopping broker still tells producers that it stops
constexpr size_t kSmallFrame = 16384;  // libzmq receives smaller ones in shared 8 KiB buffers

LoopOptions loop_options(const ServerOptions& options) {
  LoopOptions loop;
  loop.segment_bytes = options.journal.segment_bytes;
  loop.reserve = {options.disk_reserve, options.for_completions};
  loop.payload_memory = options.memory;
  return loop;
}

// What keeps a frame's bytes: its message, or a copy of a small one, which would pin a buffer that
// it shares with its neighbours.
std::pair<std::shared_ptr<const void>, std::string_view> keep(zmq::message_t frame) {
  if (frame.size() < kSmallFrame) {
    auto copy = std::make_shared<const std::string>(frame.to_string());
    return {copy, *copy};
  }
  auto message = std::make_shared<const zmq::message_t>(std::move(frame));
  return {message, {static_cast<const char*>(message->data()), message->size()}};
}

}  // namespace

Server::Server(ServerOptions options)
    : options_(std::move(options)),
      publisher_([this] { wake_.signal(); }),
      admin_queue_([this] { wake_.signal(); }),
      log_(options_.disk_reserve),
      loop_(options_.core, std::random_device{}(), loop_options(options_), *this, log_,
            core_calls_),
      // Besides what one turn may send to a worker that reads.
      send_budget_(options_.send_buffer + 2 * kBackendRoom + options_.core.max_job_size,
                   options_.send_buffer_total, wake_) {
  loop_.on_operation_done(
      [this](const core::BulkOperation& operation) { return finish(operation); });
}

Server::~Server() {
  publisher_.close();
  admin_queue_.close();
}

Result<bool> Server::open(int stop_fd) {
  if (auto door = start_authenticator(); !door) return door.error();
  if (auto opened = open_journal(stop_fd); !opened || !*opened) return opened;
  if (auto routers = open_routers(); !routers) return routers.error();
  log_info("broker serving", {{"frontend", options_.frontend},
                              {"backend", options_.backend},
                              {"security", options_.curve ? "curve" : "none"},
                              {"fsync", options_.fsync_name},
                              {"max_connections", options_.max_connections}});
  return true;
}

void Server::publish_recovering() {
  admin::Status recovering = status();
  recovering.state = "recovering";
  publisher_.publish(recovering);
}

Result<bool> Server::open_journal(int stop_fd) {
  publish_recovering();
  journal::Recovered recovered;
  const Now now = Now::read();
  uint64_t replayed = 0;
  RepeatLimiter progress(Millis(1000));
  (void)progress.admit(now.mono);
  auto replay = [&](const records::Record& record, journal::Place place) -> Result<void> {
    if (auto replayed_one = loop_.replay(record, place, now); !replayed_one) return replayed_one;
    if (++replayed % kRecordsPerLook != 0) return {};
    if (takes_stop(stop_fd)) return Error{ExitCode::interrupted, "the replay was stopped"};
    if (progress.admit(Mono::clock::now())) {
      log_info("replaying the journal", {{"segment", place.segment.value},
                                         {"records", replayed},
                                         {"jobs", loop_.core().state().counts().accepted}});
      publish_recovering();
    }
    return {};
  };
  auto snapshot = Snapshot::read(options_.journal.directory);
  journal::JournalOptions options = options_.journal;
  options.free_beside_spares = loop_options(options_).reserve.free_to_resume();
  auto journal = journal::Journal::open(options, records::replay(replay), &recovered,
                                        snapshot ? std::optional(snapshot->end()) : std::nullopt);
  if (!journal && journal.error().code == ExitCode::interrupted) {
    log_info("stopped while the journal was replayed: nothing has changed",
             {{"records", replayed}});
    return false;
  }
  if (!journal) return journal.error();
  journal_ = *std::move(journal);
  loop_.set_journal(*journal_);
  if (recovered.resumed)
    if (auto restored = snapshot->restore(now, &loop_.core(), &loop_.payloads()); !restored)
      return restored.error();
  Snapshot::remove(options_.journal.directory);  // of no use once anything is written
  if (recovered.torn_tail)
    log_warning(
        "dropped an incomplete commit: it was never confirmed, unless the file was truncated by "
        "hand",
        {{"at", *recovered.torn_tail}});
  const core::State& state = loop_.core().state();
  if (recovered.broker && state.has_begun() && state.broker() != *recovered.broker)
    return Error{ExitCode::bad_data,
                 fmt::format("{}: the checkpoints are of another broker than the segments: restore "
                             "the directory from a copy, or save what can be saved with "
                             "'millrace-broker journal repair {} --to NEWDIR'",
                             options_.journal.directory, options_.journal.directory)};
  log_info(
      recovered.resumed ? "snapshot read" : "journal replayed",
      {{"records", recovered.records},
       {"bytes", recovered.bytes},
       {"ready", state.ready_jobs()},
       {"leased", state.leased_jobs()},
       {"retry_wait", state.retry_wait_jobs()},
       {"dead", state.dead().size()},
       {"ms", Millis(std::chrono::duration_cast<Millis>(Mono::clock::now() - now.mono)).count()}});
  for (std::string_view name : {".", ".."})
    if (state.has_queue(name))
      log_warning(
          "a queue of an older release has a name that is no longer accepted: only workers of '*' "
          "take its jobs",
          {{"queue", name}, {"remedy", fmt::format("millrace-broker queue purge {}", name)}});
  if (auto begun = loop_.begin(Now::read(), recovered.broker.value_or(random_broker())); !begun)
    return begun.error();
  return true;
}

Result<void> Server::run(int stop_fd) {
  while (!poll(stop_fd))
    if (auto done = round(); !done) return done;
  return stop();
}

bool Server::poll(int stop_fd, Mono until) {
  const short frontend_events = loop_.is_backlogged() ? 0 : ZMQ_POLLIN;
  zmq::pollitem_t items[] = {{frontend_->socket().handle(), 0, frontend_events, 0},
                             {backend_->socket().handle(), 0, ZMQ_POLLIN, 0},
                             {nullptr, journal_->wake_fd(), ZMQ_POLLIN, 0},
                             {nullptr, wake_.fd(), ZMQ_POLLIN, 0},
                             {nullptr, stop_fd, ZMQ_POLLIN, 0}};
  try {
    zmq::poll(items, std::size(items) - (stop_fd < 0 ? 1 : 0), poll_timeout(until));
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) throw;
  }
  if (items[3].revents) wake_.drain();
  return items[4].revents != 0 && takes_stop(stop_fd);
}

Millis Server::poll_timeout(Mono until) const {
  if (has_work()) return Millis(0);
  const Mono wake = std::min(loop_.wake_at(), until);
  auto timeout = std::chrono::ceil<Millis>(wake - Mono::clock::now());
  if (frontend_->is_blocked() || backend_->is_blocked()) timeout = std::min(timeout, Millis(2));
  return std::max(timeout, Millis(0));
}

// The signal that came; a closed terminal and `systemctl reload` end no broker.
bool Server::takes_stop(int stop_fd) {
  signalfd_siginfo signal;
  while (::read(stop_fd, &signal, sizeof signal) == ssize_t(sizeof signal)) {
    if (signal.ssi_signo != SIGHUP) return true;
    if (door_) {
      log_info("SIGHUP: reloading the allow-list", {{"file", options_.curve->allow_file}});
      door_->read_again();
    } else {
      log_info("SIGHUP ignored: there is nothing to reload");
    }
  }
  return false;
}

Result<void> Server::round() {
  auto done = loop_.round(Now::read());
  if (done) publish_if_wanted(), advance_listing(), answer_payloads();
  return done;
}

// ---- what people ask for

void Server::take_requests() {
  for (admin::AdminRequest& request : admin_queue_.take())
    loop_.ask([this, request = std::move(request)](core::Core&, Now now, core::Output& out) {
      return perform(request, now, out);
    });
}

// The answer waits for the round's chunk, in which the records of its operation are; that of a bulk
// operation until it is done.
Loop::Reply Server::perform(const admin::AdminRequest& request, Now now, core::Output& out) {
  Performed performed = server::perform(loop_.core(), now, request.operation, out);
  if (auto* deleted = std::get_if<admin::DeleteQueue>(&request.operation);
      deleted && performed.answer.status == 200)
    log_info("an operator deleted a queue", {{"queue", deleted->queue}});
  if (performed.listing) {
    listings_.push_back({request.number, *std::move(performed.listing)});
    return nullptr;
  }
  if (performed.payload) {
    wanted_payloads_.emplace_back(request.number, *performed.payload);
    return nullptr;
  }
  if (performed.pending) {
    pending_requests_.emplace(*performed.pending, request.number);
    admin_queue_.accepted(request.number, std::move(performed.answer));
    return nullptr;
  }
  return [this, number = request.number, answer = std::move(performed.answer)]() mutable {
    admin_queue_.answer(number, std::move(answer));
  };
}

Loop::Reply Server::finish(const core::BulkOperation& operation) {
  auto request = pending_requests_.extract(operation.number);
  return [this, number = request.mapped(), answer = answer_of(operation)]() mutable {
    admin_queue_.answer(number, std::move(answer));
  };
}

// A slice a round.
void Server::advance_listing() {
  if (listings_.empty()) return;
  PendingListing& first = listings_.front();
  const core::Core& core = loop_.core();
  if (!std::visit([&](auto& listing) { return listing.advance(core); }, first.listing)) return;
  admin_queue_.answer(first.request, std::visit([&](auto& listing) { return listing.answer(core); },
                                                first.listing));
  listings_.pop_front();
}

// Those that are read back come when the journal wakes the loop.
void Server::answer_payloads() {
  std::erase_if(wanted_payloads_,
                [&](const auto& wanted) { return answer_payload(wanted.first, wanted.second); });
}

bool Server::answer_payload(uint64_t request, JobId job) {
  const core::State& state = loop_.core().state();
  std::string name = job_text(state.broker(), job);
  if (!state.find(job)) {
    admin_queue_.answer(
        request,
        http::problem(404, fmt::format("job {} is {}: payloads of ended jobs are not stored", name,
                                       name_of(state.state_of(job)))));
    return true;
  }
  PayloadStore& payloads = loop_.payloads();
  if (const size_t bytes = payloads.size_of(job); bytes > listing::kMaxPayloadShown) {
    admin_queue_.answer(request, listing::payload_too_large(name, bytes));
    return true;
  }
  if (!payloads.fetch(job)) return false;
  admin_queue_.answer(request, [name = std::move(name), payload = payloads.shared_payload(job)] {
    return listing::payload_answer(name, payload.view);
  });
  return true;
}

// ---- the loop's transport

void Server::begin_round() {
  take_changed_keys();
  update_memory_watch();
  for (Port port : {Port::frontend, Port::backend})
    for (uint64_t route : router(port).flush()) {
      loop_.unreachable({port, route});
      guard_->close({port, route});
    }
  disconnect_slow_readers();
  take_requests();
}

// Takes frames off the socket, so that each peer's wait in a line of their own.
bool Server::receive(Port port) {
  Router::Received received;
  size_t bytes = 0;
  for (int i = 0; i < kFramesPerRound && bytes < kBytesPerRound; ++i) {
    if (loop_.is_full(port)) return false;
    if (!router(port).receive(&received)) {
      guard_->counters().drained(port);
      return false;
    }
    const core::Route route{port, received.route};
    const bool has_session = guard_->counters().took(received.descriptor, route, received.bytes);
    if (!admits(route, received)) continue;
    const core::KeyId key = key_of(received);
    bytes += received.frame.size();
    auto [owner, view] = keep(std::move(received.frame));
    loop_.push(route, {std::move(owner), view, received.malformed,
                       has_session ? -1 : received.descriptor, key});
  }
  return true;
}

bool Server::send(core::Route route, std::string frame) {
  if (router(route.port).send(route.id, std::move(frame)) != Router::Sent::nobody) return true;
  guard_->close(route);  // if it is there still, it reads too slowly
  return false;
}

bool Server::has_room(core::Route route) const {
  return router(route.port)
      .has_room(route.id, route.port == Port::frontend ? kFrontendRoom : kBackendRoom);
}

// Who reads too slowly for what it asks loses its session, and what waits for it is freed: one that
// passed its own limit, and while all together pass theirs, whoever has the most waiting.
void Server::disconnect_slow_readers() {
  drop_largest_readers();
  for (Port port : {Port::frontend, Port::backend})
    for (const Router::Dropped& dropped : router(port).take_dropped())
      on_slow_reader({port, dropped.route}, dropped);
}

void Server::drop_largest_readers() {
  while (send_budget_.is_over()) {
    const auto front = frontend_->largest(), back = backend_->largest();
    const Port port = front.second > back.second ? Port::frontend : Port::backend;
    const uint64_t route = port == Port::frontend ? front.first : back.first;
    if (std::max(front.second, back.second) == 0) return;
    router(port).drop(route, Router::Limit::total);
    loop_.drop_held({port, route});
  }
}

void Server::on_slow_reader(core::Route route, const Router::Dropped& dropped) {
  loop_.drop_held(route);
  ++send_budget_.disconnected;
  if (auto held_back = slow_readers_.admit(Mono::clock::now()))
    log_dropped(route, dropped, *held_back);
  loop_.expel(route);
  guard_->close(route);
}

void Server::log_dropped(core::Route route, const Router::Dropped& dropped,
                         uint64_t held_back) const {
  const bool is_own = dropped.passed == Router::Limit::per_peer;
  const bool is_unread = dropped.unread > 0;  // it has not read all that it could
  log_warning(
      is_own ? "a peer is disconnected: its send queue exceeds --send-buffer"
             : "a peer is disconnected: all send queues together exceed --send-buffer-total, and "
               "its queue is the longest",
      {{"cause", is_unread ? "it does not read, or too slowly"
                           : "a slow commit of the journal, not a peer that does not read"},
       {"remedy", is_unread ? "have it read its messages, or raise the limit"
                            : "a faster disk for the journal, or raise the limit"},
       {"port", name_of(route.port)},
       {"peer", loop_.core().name_of(route)},
       {"unread_bytes", dropped.unread},
       {"uncommitted_bytes", dropped.uncommitted},
       {"not_logged", held_back}});
}

void Server::update_memory_watch() {
  constexpr Millis kInterval{10};
  const Mono now = Mono::clock::now();
  if (now - memory_checked_ < kInterval) return;
  memory_checked_ = now;
  const uint64_t held = loop_.payloads().bytes_in_memory() + loop_.core().state().memory_bytes();
  const bool is_short = memory_watch_.is_short(held);
  if (is_short == memory_short_) return;
  memory_short_ = is_short;
  loop_.core().set_memory_short(is_short);
  if (is_short) {
    log_warning(
        "the host has no more memory for the broker: new jobs are rejected, completions are "
        "accepted; raise the limit of its memory, or lower --memory, --max-memory and --max-queued",
        {{"limits", "ulimit -v, vm.overcommit_memory"}});
  } else {
    log_info("there is memory again: new jobs are accepted");
  }
}

void Server::publish_if_wanted() {
  if (!publisher_.wanted() || !queue_listing_.advance(loop_.core())) return;
  admin::Status now = status();
  queue_listing_.move_to(&now);
  publisher_.publish(std::move(now));
}

// Only of what is in the journal: with a full disk the last round may have been given up.
void Server::write_snapshot() {
  const core::State& state = loop_.core().state();
  const uint64_t singly = state.live_jobs() - state.ready_jobs() + state.dead().size();
  if (!loop_.is_committed() || !Snapshot::is_worth(journal_->stats().bytes_on_disk, singly)) return;
  auto written =
      Snapshot::write(options_.journal.directory, journal_->end(), state, loop_.payloads());
  if (!written)
    log_warning("no snapshot: the next start replays the journal",
                {{"why", written.error().message}});
}

// Producers that submit now are told why it is of no use; otherwise what they send would be lost
// with the connection, in silence. It is over once all of them know: a busy one does not hold it
// up.
Result<void> Server::answer_while_draining() {
  const Mono until = Mono::clock::now() + kDrainTime;
  auto answered = round();
  while (answered && !loop_.core().every_producer_knows_draining() && Mono::clock::now() < until) {
    poll(kNoStop, until);
    answered = round();
  }
  return answered;
}

Result<void> Server::stop() {
  log_info("broker stopping", {{"live", loop_.core().state().live_jobs()}});
  loop_.core().drain();
  if (auto last = answer_while_draining(); !last) return last;
  auto stopped = journal_->stop();
  loop_.deliver_committed();
  frontend_.reset(), backend_.reset();  // peers see at once that nobody listens any more
  if (!stopped) return stopped;
  write_snapshot();
  log_info("broker stopped", {{"live", loop_.core().state().live_jobs()}});
  return {};
}

}  // namespace millrace::server
