// What comes in: recovery, frames, requests, time, and the journal's word on what is committed.
#include "broker/server/loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

#include "common/base/check.h"

namespace millrace::server {

using core::Port;

namespace {

constexpr uint64_t kFrameWork = 16;  // of decoding and answering, beside what it names
constexpr size_t kBytesPerWork = 64;
constexpr size_t kBytesPerRefusedWork = 4;  // what is refused has been looked at byte by byte
constexpr size_t kFrameOverhead = 256;      // of one that waits for its turn

SessionId session_if_readable(std::string_view frame) {
  try {
    return protocol::session_of(frame);
  } catch (const std::bad_alloc&) {
    return {};
  }
}

protocol::Decoded<protocol::FromClient> decode(const Frame& frame) {
  if (frame.malformed)
    return protocol::Fault{{}, "malformed", "a message should have exactly one frame"};
  try {
    return protocol::decode_from_client(frame.bytes);
  } catch (const std::bad_alloc&) {
    return protocol::Fault{session_if_readable(frame.bytes), "busy",
                           "the broker has no memory for this frame now: send it again later"};
  }
}

}  // namespace

Loop::Loop(const core::Settings& settings, uint64_t seed, const LoopOptions& options,
           Transport& transport, LoopObserver& observer, CoreCalls& calls)
    : options_(options),
      transport_(transport),
      observer_(observer),
      calls_(calls),
      core_(settings, seed),
      payloads_(options.payload_memory, options.read_back),
      frontend_turns_(options.turns),
      backend_turns_(options.turns) {
  core_.set_has_room([this](core::Route route) { return transport_.has_room(route); });
  core_.set_is_connected([this](core::Route route) { return transport_.is_connected(route); });
  core_.set_can_wait([this](core::Route route) { return can_wait(route); });
  core_.set_payload_size([this](JobId job) -> std::optional<uint64_t> {
    if (!payloads_.fetch(job)) return std::nullopt;
    return payloads_.size_of(job);
  });
}

Result<void> Loop::replay(const records::Record& record, journal::Place place, Now now) {
  if (auto problem = calls_.replay(core_, record, now)) return Error{ExitCode::bad_data, *problem};
  if (auto* accepted = std::get_if<records::Accepted>(&record)) payloads_.restore(*accepted, place);
  if (auto* moved = std::get_if<records::Relocated>(&record)) payloads_.restore(*moved, place);
  if (auto* result = std::get_if<records::ResultRetained>(&record))
    payloads_.restore(*result, place.segment);
  payloads_.follow(core_.state());
  return {};
}

void Loop::set_journal(journal::Journal& journal) {
  journal_ = &journal;
  payloads_.set_journal(&journal);
}

Result<void> Loop::begin(Now now, BrokerId new_broker) {
  MILLRACE_CHECK(journal_ && appended_ == 0);
  now_ = now;
  core_.begin(now_, new_broker, out_);
  const core::State& state = core_.state();
  if (auto started = journal_->start(state.broker(), state.incarnation()); !started) return started;
  absorb();
  checkpoint_bytes_ = chunk_.bytes();
  close_round();
  return {};
}

Result<void> Loop::round(Now now) {
  now_ = now;
  deliver_committed();
  if (auto read = take_read(); !read) return read;
  if (auto failure = journal_->failure()) return *failure;
  update_disk_full();
  begin_segment_if_full();
  transport_.begin_round();
  more_to_read_ = frontend_is_read_ = backend_is_read_ = false;
  drain(Port::backend);
  if (!is_backlogged()) drain(Port::frontend);
  perform_requests();
  advance_operation();
  calls_.tick(core_, now_, out_);
  absorb();
  decide_contested();
  calls_.dispatch(core_, now_, out_);
  absorb();
  transport_.disconnect_slow_readers();
  relocate();
  close_round();
  return {};
}

void Loop::deliver_committed() {
  for (const auto& commit : journal_->take_committed()) {
    MILLRACE_CHECK(commit.ticket > committed_ && commit.ticket <= appended_);
    committed_ = commit.ticket;
    tail_ = commit.place;
    payloads_.placed(commit.ticket, commit.place);
  }
  for (; !uncommitted_.empty() && uncommitted_.front().ticket <= committed_;
       uncommitted_.pop_front()) {
    const Uncommitted& chunk = uncommitted_.front();
    uncommitted_bytes_ -= chunk.bytes;
    if (chunk.ticket >= segment_opened_by_) segment_uncommitted_bytes_ -= chunk.bytes;
  }
  for (; !held_.empty() && held_.front().ticket <= committed_; held_.pop_front())
    deliver(held_.front());
  release_replies();
}

bool Loop::is_idle() const {
  return is_committed() && chunk_.empty() && held_.empty() && held_replies_.empty() &&
         frontend_turns_.empty() && backend_turns_.empty() && requests_.empty() &&
         core_.operations().pending() == 0;
}

Result<void> Loop::take_read() {
  if (auto read = payloads_.take_read(); !read) return read;
  if (const auto shortage = payloads_.take_shortage()) observer_.payload_unreadable(*shortage);
  return {};
}

void Loop::update_disk_full() {
  const journal::JournalStats stats = journal_->stats();
  const bool full =
      journal_->stalled() || options_.reserve.is_short({stats, uncommitted_bytes_}, disk_full_);
  if (full == disk_full_) return;
  disk_full_ = full;
  core_.set_disk_full(full);
  observer_.disk_full_changed(full, journal_->shortage(), stats.disk_free);
}

// ---- frames

void Loop::push(core::Route route, Frame frame) {
  const SessionId session = protocol::session_of(frame.bytes);
  const size_t size = frame.bytes.size() + kFrameOverhead;
  if (turns(route.port).push(route.id, std::move(frame), size)) return;
  // It has sent far more than its window without waiting for answers.
  observer_.peer_overran(route, core_.name_of(route));
  drop_received(route);
  refuse(route, {session, "overrun",
                 fmt::format("more than {} frames or {} MiB wait to be handled: keep to the window "
                             "of the WELCOME",
                             options_.turns.frames_per_peer, options_.turns.bytes_per_peer >> 20)});
  expel(route);
  transport_.disconnect(route, kLastWords);
}

void Loop::drain(Port port) {
  const bool is_more = transport_.receive(port);
  if (is_more) more_to_read_ = true;
  for (RoundBudget budget(options_.clock(), options_.work_per_round);
       !budget.is_over(options_.clock());) {
    auto next = turns(port).take();
    if (!next) break;
    const uint64_t before = core_.work();
    const bool is_taken = handle({port, next->peer}, next->frame);
    const size_t bytes = next->frame.bytes.size();
    const uint64_t cost = kFrameWork + bytes / (is_taken ? kBytesPerWork : kBytesPerRefusedWork) +
                          core_.work() - before;
    turns(port).charge(cost);
    budget.spend(cost);
  }
  if (!turns(port).empty()) more_to_read_ = true;
  (port == Port::frontend ? frontend_is_read_ : backend_is_read_) = !is_more && turns(port).empty();
}

// False: it is no message.
bool Loop::handle(core::Route route, const Frame& frame) {
  const auto decoded = decode(frame);
  if (const auto* fault = std::get_if<protocol::Fault>(&decoded)) {
    observer_.frame_refused(route, *fault);
    core_.refuse(route, *fault, out_);
    absorb(frame.owner);
    return false;
  }
  const auto& envelope = std::get<0>(decoded);
  receive(route, envelope, frame.key);
  if (out_.contested) hold_contested(route, envelope.session, frame);
  if (frame.descriptor >= 0) transport_.note_session(route, frame.descriptor, envelope.session);
  absorb(frame.owner);
  return true;
}

// A QUERY changes nothing, so it may fail half way: its session then begins again.
void Loop::receive(core::Route route, const CoreCalls::Envelope& envelope, core::KeyId key) {
  if (!std::holds_alternative<protocol::Query>(envelope.message))
    return calls_.receive(core_, now_, route, envelope, key, out_);
  try {
    calls_.receive(core_, now_, route, envelope, key, out_);
  } catch (const std::bad_alloc&) {
    core_.unreachable(envelope.session);
    core_.refuse(
        route,
        {envelope.session, "busy", "the broker has no memory for the answer now: ask again later"},
        out_);
  }
}

void Loop::refuse(core::Route route, const protocol::Fault& fault) {
  core_.refuse(route, fault, out_);
  absorb();
}

void Loop::unreachable(core::Route route) {
  drop_contested(route);
  core_.unreachable(route);
}

void Loop::drop_received(core::Route route) {
  turns(route.port).drop(route.id);
  drop_contested(route);
}

std::vector<SessionId> Loop::expel(core::Route route) {
  drop_contested(route);
  std::vector<SessionId> sessions = core_.expel(now_, route, out_);
  absorb();
  return sessions;
}

// ---- takeovers

bool Loop::can_wait(core::Route route) const {
  return contested_.size() < kMaxContested && contested_bytes_ < kMaxContestedBytes &&
         std::none_of(contested_.begin(), contested_.end(),
                      [&](const Contested& other) { return other.route == route; });
}

void Loop::hold_contested(core::Route route, SessionId session, const Frame& frame) {
  if (!can_wait(route)) return;  // it has sent the same again
  contested_.push_back({route, *out_.contested, session, frame});
  contested_bytes_ += frame.bytes.size() + kFrameOverhead;
}

void Loop::drop_contested(core::Route route) {
  std::erase_if(contested_, [&](const Contested& held) {
    if (!(held.route == route)) return false;
    core_.withdraw(held.older, held.newer);
    contested_bytes_ -= held.frame.bytes.size() + kFrameOverhead;
    return true;
  });
}

// After tick(), which does not count time in which this process did not run as a peer's silence.
void Loop::decide_contested() {
  for (Contested& held : std::exchange(contested_, {})) {
    const bool is_there = transport_.is_connected(held.route, held.frame.descriptor);
    const bool all_read = held.route.port == Port::frontend ? frontend_is_read_ : backend_is_read_;
    if (is_there && !core_.is_decided(now_, held.older, held.newer, all_read)) {
      contested_.push_back(std::move(held));
      continue;
    }
    contested_bytes_ -= held.frame.bytes.size() + kFrameOverhead;
    if (is_there) {
      handle(held.route, held.frame);
    } else {
      core_.withdraw(held.older, held.newer);
    }
  }
}

// ---- what people ask for

void Loop::perform_requests() {
  for (const Request& request : std::exchange(requests_, {})) {
    Reply reply = request(core_, now_, out_);
    absorb();
    if (reply) hold(std::move(reply));
  }
}

// A slice a round, as long as the disk keeps up.
void Loop::advance_operation() {
  if (!has_operation_to_advance()) return;
  const uint64_t number = core_.operations().next()->number;
  calls_.advance_operations(core_, now_, out_);
  absorb();
  const core::BulkOperation* operation = core_.operations().find(number);
  if (!operation->done || !operation_done_) return;
  if (Reply reply = operation_done_(*operation)) hold(std::move(reply));
}

}  // namespace millrace::server
