// What goes out: records into the round's chunk, messages once it is committed; which segments
// there are.
#include <algorithm>
#include <new>

#include "broker/server/loop.h"
#include "common/base/check.h"

namespace millrace::server {

using core::Port;

void Loop::absorb(const Owner& frame_owner) {
  calls_.inspect(out_);
  for (const core::OutRecord& record : out_.records) append(record, frame_owner);
  for (const core::Send& send : out_.sends) queue_send(send);
  payloads_.follow(core_.state());
  out_.clear();
}

void Loop::append(const core::OutRecord& out, const Owner& frame_owner) {
  const uint64_t ticket = appended_ + 1;
  auto* accepted = std::get_if<records::Accepted>(&out.record);
  auto owner = accepted && !out.owner ? frame_owner : out.owner;
  const size_t offset = chunk_.append(out.record, owner);
  if (accepted) payloads_.accept(*accepted, std::move(owner), ticket, offset);
  if (auto* moved = std::get_if<records::Relocated>(&out.record))
    payloads_.relocate(moved->job, ticket, offset);
  if (auto* result = std::get_if<records::ResultRetained>(&out.record))
    payloads_.relocate(result->job, ticket, offset);
}

// ---- messages

void Loop::queue_send(const core::Send& send) {
  if (auto* grant = std::get_if<protocol::LeaseGrant>(&send.message))
    return encode_grant(send, *grant);
  auto frame = encode(send);
  if (!frame) return;
  if (may_leave_at_once(send)) return deliver(send.route, send.session, *std::move(frame));
  hold(send, *std::move(frame));
}

// Nothing for want of memory: as if it were lost on its way, the peer begins again.
std::optional<std::string> Loop::encode(const core::Send& send) {
  try {
    return protocol::encode(send.session, send.message);
  } catch (const std::bad_alloc&) {
    observer_.message_not_encoded();
    core_.unreachable(send.session);
    return std::nullopt;
  }
}

// What a WELCOME tells a producer is durable since this start's first commit: it should hear of a
// full disk from us, not take us for dead.
bool Loop::may_leave_at_once(const core::Send& send) const {
  return send.at_once || (send.route.port == Port::frontend && committed_ > 0 &&
                          std::holds_alternative<protocol::Welcome>(send.message));
}

// Fills in the payloads, and cuts the grant into frames of about kTargetFrame.
void Loop::encode_grant(const core::Send& send, const protocol::LeaseGrant& grant) {
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

void Loop::hold(const core::Send& send, std::string frame) {
  transport_.hold(send.route, frame.size());
  round_.push_back({0, send.route, send.session, std::move(frame)});
}

void Loop::hold(Reply reply) {
  held_replies_.push_back({chunk_.empty() ? appended_ : appended_ + 1, std::move(reply)});
}

void Loop::deliver(core::Route route, SessionId session, std::string frame) {
  if (!transport_.send(route, std::move(frame))) core_.unreachable(session);
}

void Loop::deliver(Held& held) {
  if (held.frame.empty()) return;  // dropped
  transport_.release(held.route, held.frame.size());
  deliver(held.route, held.session, std::move(held.frame));
}

void Loop::drop_held(core::Route route) {
  auto drop = [&](Held& held) {
    if (!(held.route == route) || held.frame.empty()) return;
    transport_.release(route, held.frame.size());
    held.frame = {};
  };
  std::for_each(held_.begin(), held_.end(), drop);
  std::for_each(round_.begin(), round_.end(), drop);
}

void Loop::release_replies() {
  for (; !held_replies_.empty() && held_replies_.front().ticket <= committed_;
       held_replies_.pop_front())
    held_replies_.front().reply();
}

// ---- segments

// What waits from before the segment began does not count: with a long backlog each round would
// begin one more.
void Loop::begin_segment_if_full() {
  const uint64_t used =
      (committed_ >= segment_opened_by_ ? tail_.offset : 0) + segment_uncommitted_bytes_;
  if (used + options_.segment_slack < options_.segment_bytes) return;
  core_.checkpoint(out_);
  opens_segment_ = true;
  const size_t before = chunk_.bytes();
  absorb();
  checkpoint_bytes_ = chunk_.bytes() - before;
}

bool Loop::should_relocate() const {
  return disk_full_ ? has_room_to_relocate() : has_much_garbage();
}

// While the disk is full.
bool Loop::has_room_to_relocate() const {
  auto oldest = payloads_.oldest(tail_.segment);
  if (oldest.segments == 0 || journal_->stalled()) return false;
  oldest.bytes += core_.state().history_bytes() * oldest.live / payloads_.live();
  return options_.reserve.may_relocate({journal_->stats(), uncommitted_bytes_}, oldest,
                                       options_.segment_bytes, checkpoint_bytes_);
}

// At rest earlier than under load, where most jobs of an old segment end by themselves.
bool Loop::has_much_garbage() const {
  const uint64_t live = payloads_.live_bytes() + core_.state().history_bytes();
  const uint64_t segment = options_.segment_bytes;
  const uint64_t slack = uncommitted_bytes_ == 0 ? segment * 7 / 2 : segment * 6;
  return journal_->stats().bytes_on_disk > slack + 2 * live;
}

// One old job must not pin the segments that came after it: what is live in the oldest segment is
// written anew.
void Loop::relocate() {
  if (!should_relocate()) return;
  for (JobId job : payloads_.oldest_live_jobs(tail_.segment, options_.relocated_per_round)) {
    PayloadStore::Bytes payload;
    if (!payloads_.is_settled(job)) payload = payloads_.payload(job);
    core_.relocate(job, payload.view, out_);
    absorb();
  }
}

// What the core said waits for the round's chunk, or for the last one before.
void Loop::close_round() {
  if (!chunk_.empty()) append_chunk();
  if (auto last = payloads_.retirable(tail_.segment)) journal_->retire(*last);
  for (Held& send : round_) {
    send.ticket = appended_;
    if (held_.empty() && is_committed()) {
      deliver(send);
    } else {
      held_.push_back(std::move(send));
    }
  }
  round_.clear();
  release_replies();
}

void Loop::append_chunk() {
  const Uncommitted chunk{appended_ + 1, chunk_.bytes()};
  uncommitted_.push_back(chunk);
  uncommitted_bytes_ += chunk.bytes;
  if (opens_segment_) segment_opened_by_ = chunk.ticket, segment_uncommitted_bytes_ = 0;
  segment_uncommitted_bytes_ += chunk.bytes;
  appended_ = journal_->append(std::exchange(chunk_, {}), std::exchange(opens_segment_, false));
  MILLRACE_CHECK(appended_ == chunk.ticket);
}

}  // namespace millrace::server
