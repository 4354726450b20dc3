#include "broker/server/server.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <random>

#include "broker/records/replay.h"
#include "broker/server/operations.h"
#include "broker/server/round_budget.h"
#include "broker/server/snapshot.h"
#include "common/log.h"
#include "common/protocol/codec.h"

namespace millrace::server {

using core::Port;

namespace {

constexpr size_t kBacklogBytes = 32 << 20;
// Read from each socket. libzmq gives one frame of each connection in turn, so that few do.
constexpr int kFramesPerRound = 256;
constexpr size_t kBytesPerRound = 4 << 20;
constexpr uint64_t kFrameWork = 16;        // of decoding and answering, beside what it names
constexpr size_t kBytesPerWork = 64;
constexpr size_t kFrameOverhead = 256;  // of one that waits for its turn
// Frames that were read and wait. An honest producer's are at most its window; a worker's are fewer.
constexpr TurnLimits kTurnLimits{4 * 16384, 40 << 20, 1 << 18, 128 << 20};
// What may be on its way to a connection before it is told more. A worker needs some payloads ahead.
constexpr size_t kFrontendRoom = 512 << 10;
constexpr size_t kBackendRoom = 8 << 20;
constexpr uint64_t kSegmentSlack =
    8 << 20;  // a segment ends early by this: the next round may be large
constexpr uint64_t kRecordsPerLook = 256;  // at the clock, while replaying
constexpr size_t kCarryBytes = 256 << 10;  // in one round
constexpr Millis kDrainTime{250};  // in which a stopping broker still tells producers that it stops
constexpr size_t kSmallFrame = 16384;  // libzmq receives smaller ones in shared 8 KiB buffers

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
      snapshots_([this] { poke_.signal(); }),
      mailbox_([this] { poke_.signal(); }),
      core_(options_.core, std::random_device{}()),
      payloads_(options_.memory),
      // Besides what one turn may send to a worker that reads.
      send_budget_(options_.send_buffer + 2 * kBackendRoom + options_.core.max_job_size,
                   options_.send_buffer_total, poke_),
      frontend_turns_(kTurnLimits),
      backend_turns_(kTurnLimits) {
  core_.set_has_room([this](core::Route route) {
    return router(route.port)
        .has_room(route.id, route.port == Port::frontend ? kFrontendRoom : kBackendRoom);
  });
  core_.set_is_connected([this](core::Route route) { return is_connected(route); });
  core_.set_payload_size([this](JobId job) -> std::optional<uint64_t> {
    if (!payloads_.fetch(job)) return std::nullopt;
    return payloads_.size_of(job);
  });
}

Server::~Server() {
  snapshots_.close();
  mailbox_.close();
}

Result<bool> Server::open(int stop_fd) {
  if (auto door = open_door(); !door) return door.error();
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
  snapshots_.publish(recovering);
}

Result<bool> Server::open_journal(int stop_fd) {
  publish_recovering();
  journal::Recovered recovered;
  const Now now = Now::read();
  uint64_t replayed = 0;
  RepeatLimiter progress(Millis(1000));
  (void)progress.admit(now.mono);
  auto replay = [&](const records::Record& record, journal::Place place) -> Result<void> {
    if (auto problem = core_.replay(record, now)) return Error{ExitCode::bad_data, *problem};
    if (auto* accepted = std::get_if<records::Accepted>(&record))
      payloads_.restore(*accepted, place);
    if (auto* carried = std::get_if<records::Carried>(&record)) payloads_.restore(*carried, place);
    if (auto* kept = std::get_if<records::Kept>(&record)) payloads_.restore(*kept, place.segment);
    payloads_.follow(core_.state());
    if (++replayed % kRecordsPerLook != 0) return {};
    if (takes_stop(stop_fd)) return Error{ExitCode::interrupted, "the replay was stopped"};
    if (progress.admit(Mono::clock::now())) {
      log_info("replaying the journal", {{"segment", place.segment.value},
                                         {"records", replayed},
                                         {"jobs", core_.state().counts().accepted}});
      publish_recovering();
    }
    return {};
  };
  auto snapshot = Snapshot::read(options_.journal.directory);
  journal::JournalOptions options = options_.journal;
  options.free_beside_spares = free_to_resume();
  auto journal = journal::Journal::open(options, records::replay(replay), &recovered,
                                        snapshot ? std::optional(snapshot->end()) : std::nullopt);
  if (!journal && journal.error().code == ExitCode::interrupted) {
    log_info("stopped while the journal was replayed: nothing has changed",
             {{"records", replayed}});
    return false;
  }
  if (!journal) return journal.error();
  journal_ = *std::move(journal);
  payloads_.set_journal(journal_.get());
  if (recovered.resumed)
    if (auto restored = snapshot->restore(now, &core_, &payloads_); !restored)
      return restored.error();
  Snapshot::remove(options_.journal.directory);  // of no use once anything is written
  if (recovered.torn_tail)
    log_warning(
        "dropped a commit that was cut off: no confirm left for it, unless the file was cut by "
        "hand",
        {{"at", *recovered.torn_tail}});
  const core::State& state = core_.state();
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
  now_ = Now::read();
  core_.begin(now_, recovered.broker.value_or(random_broker()), out_);
  if (auto started = journal_->start(state.broker(), state.incarnation()); !started)
    return started.error();
  absorb(nullptr);
  commit_chunk();
  return true;
}

Result<void> Server::run(int stop_fd) {
  while (!poll(stop_fd))
    if (auto done = round(); !done) return done;
  return stop();
}

bool Server::poll(int stop_fd, Mono until) {
  const short frontend_events = is_backlogged() ? 0 : ZMQ_POLLIN;
  zmq::pollitem_t items[] = {{frontend_->socket().handle(), 0, frontend_events, 0},
                             {backend_->socket().handle(), 0, ZMQ_POLLIN, 0},
                             {nullptr, journal_->wake_fd(), ZMQ_POLLIN, 0},
                             {nullptr, poke_.fd(), ZMQ_POLLIN, 0},
                             {nullptr, stop_fd, ZMQ_POLLIN, 0}};
  Millis timeout(0);
  if (!more_to_read_ && !has_work()) {
    const Mono wake = std::min(core_.wake_at(now_), until);
    timeout = std::chrono::ceil<Millis>(wake - Mono::clock::now());
    if (frontend_->is_blocked() || backend_->is_blocked()) timeout = std::min(timeout, Millis(2));
    timeout = std::max(timeout, Millis(0));
  }
  try {
    zmq::poll(items, std::size(items) - (stop_fd < 0 ? 1 : 0), timeout);
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) throw;
  }
  if (items[3].revents) poke_.drain();
  return items[4].revents != 0 && takes_stop(stop_fd);
}

// The signal that came; a closed terminal and `systemctl reload` end no broker.
bool Server::takes_stop(int stop_fd) {
  signalfd_siginfo signal;
  while (::read(stop_fd, &signal, sizeof signal) == ssize_t(sizeof signal)) {
    if (signal.ssi_signo != SIGHUP) return true;
    if (door_) {
      log_info("SIGHUP: the allow-list is read again", {{"file", options_.curve->allow_file}});
      door_->read_again();
    } else {
      log_info("SIGHUP ignored: there is nothing to reload");
    }
  }
  return false;
}

Result<void> Server::round() {
  now_ = Now::read();
  take_committed();
  if (auto read = take_read(); !read) return read;
  take_changed_keys();
  if (auto failure = journal_->failure()) return *failure;
  update_limits();
  begin_segment_if_full();
  for (Port port : {Port::frontend, Port::backend})
    for (uint64_t route : router(port).flush()) {
      core_.unreachable(core::Route{port, route});
      guard_->close({port, route});
    }
  expel_slow_readers();
  more_to_read_ = false;
  drain(Port::backend);
  if (!is_backlogged()) drain(Port::frontend);
  perform_operations();
  work_on_operations();
  core_.tick(now_, out_);
  absorb(nullptr);
  core_.dispatch(now_, out_);
  absorb(nullptr);
  expel_slow_readers();
  carry_stragglers();
  commit_chunk();
  publish_if_wanted();
  return {};
}

void Server::take_committed() {
  for (const auto& commit : journal_->take_committed()) {
    committed_ = commit.ticket;
    tail_ = commit.place;
    payloads_.placed(commit.ticket, commit.place);
  }
  for (; !uncommitted_.empty() && uncommitted_.front().first <= committed_;
       uncommitted_.pop_front()) {
    const auto [ticket, bytes] = uncommitted_.front();
    uncommitted_bytes_ -= bytes;
    if (ticket >= segment_opened_by_) segment_uncommitted_bytes_ -= bytes;
  }
  for (; !held_.empty() && held_.front().ticket <= committed_; held_.pop_front())
    deliver(held_.front());
  release_answers();
}

Result<void> Server::take_read() {
  if (auto read = payloads_.take_read(); !read) return read;
  const auto shortage = payloads_.take_shortage();
  if (!shortage) return {};
  if (auto held_back = shortages_.admit(now_.mono))
    log_warning("a payload can't be read back for now: its job waits, and it is retried",
                {{"cause", *shortage}, {"not_logged", *held_back}});
  return {};
}

// An answer waits for the round's chunk, in which the records of its operation are.
void Server::perform_operations() {
  for (const admin::Letter& letter : mailbox_.take()) {
    Performed performed = perform(core_, now_, letter.operation, out_);
    absorb(nullptr);
    if (auto* deleted = std::get_if<admin::DeleteQueue>(&letter.operation);
        deleted && performed.answer.status == 200)
      log_info("an operator deleted a queue", {{"queue", deleted->queue}});
    if (performed.pending) {
      pending_letters_.emplace(*performed.pending, letter.number);
      mailbox_.accepted(letter.number, std::move(performed.answer));
    } else {
      hold_answer(letter.number, std::move(performed.answer));
    }
  }
}

void Server::hold_answer(uint64_t letter, admin::Answer answer) {
  held_answers_.push_back(
      {chunk_.empty() ? appended_ : appended_ + 1, letter, std::move(answer)});
}

// A slice a round, as long as the disk keeps up.
void Server::work_on_operations() {
  const auto* operation = std::as_const(core_).operations().next();
  if (!operation || is_backlogged()) return;
  const uint64_t number = operation->number;
  core_.advance_operations(now_, out_);
  absorb(nullptr);
  operation = core_.operations().find(number);
  if (!operation->done) return;
  auto letter = pending_letters_.extract(number);
  hold_answer(letter.mapped(), answer_of(*operation));
}

void Server::release_answers() {
  for (; !held_answers_.empty() && held_answers_.front().ticket <= committed_;
       held_answers_.pop_front())
    mailbox_.answer(held_answers_.front().letter, std::move(held_answers_.front().answer));
}

// Takes frames off the socket, so that each peer's wait in a line of their own.
void Server::read(Port port) {
  Router::Received received;
  size_t bytes = 0;
  for (int i = 0; i < kFramesPerRound && bytes < kBytesPerRound; ++i) {
    if (turns(port).is_full()) return;
    if (!router(port).receive(&received)) return guard_->counters().drained(port);
    const core::Route route{port, received.route};
    const bool has_session = guard_->counters().took(received.descriptor, route, received.bytes);
    if (!admits(route, received)) continue;
    const core::KeyId key = key_of(received);
    const size_t size = received.frame.size();
    bytes += size;
    auto [owner, view] = keep(std::move(received.frame));
    const SessionId session = protocol::session_of(view);
    if (!turns(port).push(
            route.id,
            {std::move(owner), view, received.malformed, has_session ? -1 : received.descriptor, key},
            size + kFrameOverhead))
      expel_overrunning(route, session);
  }
  more_to_read_ = true;
}

void Server::drain(Port port) {
  read(port);
  for (RoundBudget budget(Mono::clock::now()); !budget.is_over(Mono::clock::now());) {
    auto next = turns(port).take();
    if (!next) return;
    const uint64_t before = core_.work();
    const bool is_taken = handle({port, next->peer}, next->frame);
    // What is refused has been looked at byte by byte.
    const size_t bytes = next->frame.bytes.size();
    const uint64_t cost =
        kFrameWork + (is_taken ? bytes / kBytesPerWork : bytes / 4) + core_.work() - before;
    turns(port).charge(cost);
    budget.spend(cost);
  }
  if (!turns(port).empty()) more_to_read_ = true;
}

// It has sent far more than its window without waiting for answers.
void Server::expel_overrunning(core::Route route, SessionId session) {
  if (auto held_back = overruns_.admit(now_.mono))
    log_warning("a peer that sends more than its window is disconnected: have it wait for answers",
                {{"port", route.port == Port::frontend ? "frontend" : "backend"},
                 {"peer", core_.name_of(route)},
                 {"not_logged", *held_back}});
  turns(route.port).drop(route.id);
  core_.refuse(
      route,
      {session, "overrun",
       fmt::format("more than {} frames or {} MiB wait to be handled: keep to the window of "
                   "the WELCOME",
                   kTurnLimits.frames_per_peer, kTurnLimits.bytes_per_peer >> 20)},
      out_);
  core_.expel(now_, route, out_);
  absorb(nullptr);
  guard_->close(route, kLastWords);
}

namespace {

SessionId session_if_readable(std::string_view frame) {
  try {
    return protocol::session_of(frame);
  } catch (const std::bad_alloc&) {
    return {};
  }
}

}  // namespace

// False: it is no message.
bool Server::handle(core::Route route, const Frame& frame) {
  auto decode = [&]() -> protocol::Decoded<protocol::FromClient> {
    if (frame.malformed)
      return protocol::Fault{{}, "malformed", "a message should have exactly one frame"};
    try {
      return protocol::decode_from_client(frame.bytes);
    } catch (const std::bad_alloc&) {
      return protocol::Fault{session_if_readable(frame.bytes), "busy",
                             "the broker has no memory for this frame now: send it again later"};
    }
  };
  auto decoded = decode();
  auto* fault = std::get_if<protocol::Fault>(&decoded);
  if (fault) {
    if (auto held_back = foreign_frames_.admit(now_.mono))
      log_warning("frame refused", {{"port", route.port == Port::frontend ? "frontend" : "backend"},
                                    {"code", fault->code},
                                    {"why", fault->message},
                                    {"not_logged", *held_back}});
    core_.refuse(route, *fault, out_);
  } else {
    receive(route, std::get<0>(decoded), frame.key);
    if (frame.descriptor >= 0) note_session(route, frame.descriptor, std::get<0>(decoded).session);
  }
  absorb(frame.owner);
  return !fault;
}

// A QUERY changes nothing, so it may fail half way: its session then begins again.
void Server::receive(core::Route route, const protocol::Envelope<protocol::FromClient>& envelope,
                     core::KeyId key) {
  if (!std::holds_alternative<protocol::Query>(envelope.message))
    return core_.receive(now_, route, envelope, out_, key);
  try {
    core_.receive(now_, route, envelope, out_, key);
  } catch (const std::bad_alloc&) {
    core_.unreachable(envelope.session);
    core_.refuse(
        route,
        {envelope.session, "busy", "the broker has no memory for the answer now: ask again later"},
        out_);
  }
}

void Server::absorb(Owner frame_owner) {
  for (auto& [record, owner] : out_.records) {
    auto* accepted = std::get_if<records::Accepted>(&record);
    auto keeper = accepted && !owner ? frame_owner : owner;
    size_t offset = chunk_.append(record, keeper);
    if (accepted) payloads_.accept(*accepted, std::move(keeper), appended_ + 1, offset);
    if (auto* carried = std::get_if<records::Carried>(&record))
      payloads_.carry(carried->job, appended_ + 1, offset);
    if (auto* kept = std::get_if<records::Kept>(&record))
      payloads_.carry(kept->job, appended_ + 1, offset);
  }
  for (const core::Send& send : out_.sends) queue_send(send);
  payloads_.follow(core_.state());
  out_.clear();
}

void Server::queue_send(const core::Send& send) {
  if (auto* grant = std::get_if<protocol::LeaseGrant>(&send.message))
    return encode_grant(send, *grant);
  std::string frame;
  try {
    frame = protocol::encode(send.session, send.message);
  } catch (const std::bad_alloc&) {  // as if it were lost on its way: the peer begins again
    if (auto held_back = shortages_.admit(now_.mono))
      log_warning("no memory to encode a message: its session must register again",
                  {{"not_logged", *held_back}});
    return core_.unreachable(send.session);
  }
  // What a WELCOME tells a producer is durable since this start's first commit: a producer should
  // hear
  // of a full disk from us, not take us for dead.
  const bool is_durable = send.route.port == Port::frontend && committed_ > 0 &&
                          std::holds_alternative<protocol::Welcome>(send.message);
  if (send.at_once || is_durable) return deliver(send.route, send.session, std::move(frame));
  hold(send, std::move(frame));
}

void Server::hold(const core::Send& send, std::string frame) {
  router(send.route.port).hold(send.route.id, frame.size());
  round_.push_back({0, send.route, send.session, std::move(frame)});
}

// Fills in the payloads, and cuts the grant into frames of about kTargetFrame.
void Server::encode_grant(const core::Send& send, const protocol::LeaseGrant& grant) {
  protocol::LeaseGrant part{grant.queue, {}, grant.lease};
  size_t bytes = 0;
  auto flush = [&] {
    if (!part.jobs.empty()) hold(send, protocol::encode(send.session, protocol::FromBroker(part)));
    part.jobs.clear();
    bytes = 0;
  };
  for (auto entry : grant.jobs) {
    const PayloadStore::Bytes payload = payloads_.payload(entry.lease.job);
    if (!part.jobs.empty() && bytes + payload.view.size() > protocol::kTargetFrame) flush();
    entry.payload = payload.view;
    bytes += payload.view.size();
    part.jobs.push_back(entry);
  }
  flush();
}

void Server::deliver(core::Route route, SessionId session, std::string frame) {
  if (router(route.port).send(route.id, std::move(frame)) != Router::Sent::nobody) return;
  core_.unreachable(session);
  guard_->close(route);  // if it is there still, it reads too slowly
}

void Server::deliver(Held& held) {
  if (held.frame.empty()) return;  // discarded
  router(held.route.port).release(held.route.id, held.frame.size());
  deliver(held.route, held.session, std::move(held.frame));
}

void Server::discard_held(core::Route route) {
  auto discard = [&](Held& held) {
    if (!(held.route == route) || held.frame.empty()) return;
    router(route.port).release(route.id, held.frame.size());
    held.frame = {};
  };
  std::for_each(held_.begin(), held_.end(), discard);
  std::for_each(round_.begin(), round_.end(), discard);
}

// Who reads too slowly for what it asks loses its session, and what waits for it is freed: one that
// passed its own limit, and while all together pass theirs, whoever has the most waiting.
void Server::expel_slow_readers() {
  while (send_budget_.is_over()) {
    const auto front = frontend_->largest(), back = backend_->largest();
    const Port port = front.second > back.second ? Port::frontend : Port::backend;
    const uint64_t route = port == Port::frontend ? front.first : back.first;
    if (std::max(front.second, back.second) == 0) break;
    router(port).drop(route);
    discard_held({port, route});
  }
  for (Port port : {Port::frontend, Port::backend}) {
    for (const Router::Dropped& dropped : router(port).take_dropped()) {
      const core::Route route{port, dropped.route};
      discard_held(route);
      ++send_budget_.disconnected;
      if (auto held_back = slow_readers_.admit(now_.mono))
        log_warning(
            "a peer that does not read is disconnected: have it read its messages, or raise "
            "--send-buffer or --send-buffer-total",
            {{"port", port == Port::frontend ? "frontend" : "backend"},
             {"peer", core_.name_of(route)},
             {"waiting_bytes", dropped.bytes},
             {"not_logged", *held_back}});
      core_.expel(now_, route, out_);
      guard_->close(route);
    }
  }
  absorb(nullptr);
}

// Closes the round: what the core said waits for the round's chunk, or for the last one before.
void Server::commit_chunk() {
  if (!chunk_.empty()) {
    uncommitted_bytes_ += chunk_.bytes();
    uncommitted_.emplace_back(appended_ + 1, chunk_.bytes());
    if (opens_segment_) segment_opened_by_ = appended_ + 1, segment_uncommitted_bytes_ = 0;
    segment_uncommitted_bytes_ += chunk_.bytes();
    appended_ = journal_->append(std::exchange(chunk_, {}), std::exchange(opens_segment_, false));
  }
  if (auto last = payloads_.retirable(tail_.segment)) journal_->retire(*last);
  for (Held& send : round_) {
    send.ticket = appended_;
    if (held_.empty() && appended_ <= committed_) {
      deliver(send);
    } else {
      held_.push_back(std::move(send));
    }
  }
  round_.clear();
  release_answers();
}

// What waits from before the segment began does not count: with a long backlog each round would
// begin one more.
void Server::begin_segment_if_full() {
  const uint64_t used =
      (committed_ >= segment_opened_by_ ? tail_.offset : 0) + segment_uncommitted_bytes_;
  if (used + kSegmentSlack < options_.journal.segment_bytes) return;
  core_.checkpoint(out_);
  opens_segment_ = true;
  absorb(nullptr);
}

// One old job must not pin the segments that came after it. When the journal is much larger than
// what lives in it, the jobs and results of its oldest segment are written anew; at rest earlier
// than under load,
// where most of them end by themselves.
void Server::carry_stragglers() {
  if (disk_full_) return;
  const uint64_t live = payloads_.live_bytes() + core_.state().history_bytes();
  const uint64_t segment = options_.journal.segment_bytes;
  const uint64_t slack = uncommitted_bytes_ == 0 ? segment * 7 / 2 : segment * 6;
  if (journal_->stats().bytes_on_disk <= slack + 2 * live) return;
  for (JobId job : payloads_.stragglers(tail_.segment, kCarryBytes)) {
    PayloadStore::Bytes payload;
    if (!payloads_.is_settled(job)) payload = payloads_.payload(job);
    core_.carry(job, payload.view, out_);
    absorb(nullptr);
  }
}

bool Server::has_work() const {
  return queue_listing_.is_running() || (core_.operations().pending() > 0 && !is_backlogged());
}

bool Server::is_backlogged() const { return uncommitted_bytes_ > kBacklogBytes; }

void Server::update_limits() {
  update_memory_reserve();
  const uint64_t free = journal_->stats().disk_free;
  const bool full =
      journal_->stalled() || free < (disk_full_ ? free_to_resume() : options_.disk_reserve);
  if (full == disk_full_) return;
  disk_full_ = full;
  core_.set_disk_full(full);
  const std::string shortage = journal_->shortage();
  if (full && !shortage.empty()) {
    log_warning("the journal can't be written to for now: new jobs are rejected, and it is retried",
                {{"cause", shortage}, {"free", free}});
  } else if (full) {
    log_warning("the journal's disk is full: new jobs are rejected, completions are taken",
                {{"free", free}, {"reserve", options_.disk_reserve}});
  } else {
    log_info("the journal can be written to again: new jobs are taken", {{"free", free}});
  }
}

void Server::update_memory_reserve() {
  constexpr Millis kInterval{10};
  if (now_.mono - memory_checked_ < kInterval) return;
  memory_checked_ = now_.mono;
  const uint64_t held = payloads_.bytes_in_memory() + core_.state().memory_bytes();
  const bool is_short = memory_reserve_.is_short(held);
  if (is_short == memory_short_) return;
  memory_short_ = is_short;
  core_.set_memory_short(is_short);
  if (is_short) {
    log_warning(
        "the host gives the broker no more memory: new jobs are rejected, completions are taken; "
        "raise the limit of its memory, or lower --memory, --max-memory and --max-queued",
        {{"limits", "ulimit -v, vm.overcommit_memory"}});
  } else {
    log_info("there is memory again: new jobs are taken");
  }
}

void Server::publish_if_wanted() {
  if (!snapshots_.wanted() || !queue_listing_.advance(core_)) return;
  admin::Status now = status();
  queue_listing_.move_to(&now);
  snapshots_.publish(std::move(now));
}

// Only of what is in the journal: with a full disk the last round may have been given up.
void Server::write_snapshot() {
  const bool is_worth = journal_->stats().bytes_on_disk >= journal::kWorthSnapshot;
  if (committed_ != appended_ || !is_worth) return;
  auto written =
      Snapshot::write(options_.journal.directory, journal_->end(), core_.state(), payloads_);
  if (!written)
    log_warning("no snapshot: the next start replays the journal",
                {{"why", written.error().message}});
}

// Producers that submit now are told why it is of no use; otherwise what they send would be lost with
// the connection, in silence. It is over once all of them know: a busy one does not hold it up.
Result<void> Server::answer_while_draining() {
  const Mono until = Mono::clock::now() + kDrainTime;
  auto answered = round();
  while (answered && !core_.every_producer_knows_draining() && Mono::clock::now() < until) {
    poll(kNoStop, until);
    answered = round();
  }
  return answered;
}

Result<void> Server::stop() {
  log_info("broker stopping", {{"live", core_.state().live_jobs()}});
  core_.drain();
  if (auto last = answer_while_draining(); !last) return last;
  auto stopped = journal_->stop();
  take_committed();
  frontend_.reset(), backend_.reset();  // peers see at once that nobody listens any more
  if (!stopped) return stopped;
  write_snapshot();
  log_info("broker stopped", {{"live", core_.state().live_jobs()}});
  return {};
}

}  // namespace millrace::server
