// Whose frame is handled next, when more have come than a round has time for: peers take turns by
// the work that they cause, not by the number of their frames.
// Shape:   push() what was read; take() → the next frame, and charge() what it cost, in turn.
//          1. A peer's frames keep their order.
//          2. The next frame is of the peer that has been charged least since it began to wait; who
//             was idle begins level with the one that is served, not with what it saved up.
//          3. Nobody waits while nothing else does: a single busy peer is not slowed.
// Units:   cost in units of work; one of it is what the owner of this says
// Limits:  per peer, then push() refuses; in sum, then is_full(), and the owner reads no more
// Owns:    the frames
// Threads: one
// Source:  start-time fair queueing (Goyal, Vin, Cheng 1996). Deficit round robin needs a frame's cost
//          before it is handled, and lets a peer wait for a whole round of the others' quanta.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "common/base/check.h"

namespace millrace::server {

struct TurnLimits {
  size_t frames_per_peer = 0, bytes_per_peer = 0;
  size_t frames = 0, bytes = 0;
};

template <typename Frame>
class Turns {
 public:
  using Peer = uint64_t;
  struct Next {
    Peer peer = 0;
    Frame frame;
    size_t bytes = 0;
  };

  explicit Turns(TurnLimits limits) : limits_(limits) {}

  // False: the peer has passed its limit, and the frame is dropped.
  [[nodiscard]] bool push(Peer peer, Frame frame, size_t bytes) {
    forget_idle();
    Waiting& waiting = peers_[peer];
    if (waiting.frames.size() >= limits_.frames_per_peer ||
        waiting.bytes + bytes > limits_.bytes_per_peer)
      return false;
    if (waiting.frames.empty()) {
      if (waiting.start < now_) waiting.start = now_;
      order_.insert({waiting.start, peer});
    }
    waiting.frames.emplace_back(std::move(frame), bytes);
    waiting.bytes += bytes;
    bytes_ += bytes;
    ++frames_;
    return true;
  }

  std::optional<Next> take() {
    MILLRACE_CHECK(!taken_);
    if (order_.empty()) return std::nullopt;
    const auto [start, peer] = *order_.begin();
    order_.erase(order_.begin());
    now_ = start;
    Waiting& waiting = peers_.at(peer);
    auto [frame, bytes] = std::move(waiting.frames.front());
    waiting.frames.pop_front();
    waiting.bytes -= bytes;
    bytes_ -= bytes;
    --frames_;
    taken_ = peer;
    return Next{peer, std::move(frame), bytes};
  }

  // What the frame that was taken last has cost.
  void charge(uint64_t cost) {
    MILLRACE_CHECK(taken_);
    const Peer peer = *std::exchange(taken_, std::nullopt);
    auto found = peers_.find(peer);
    if (found == peers_.end()) return;  // dropped meanwhile
    Waiting& waiting = found->second;
    waiting.start += cost;
    if (!waiting.frames.empty()) order_.insert({waiting.start, peer});
    if (order_.empty() && now_ < waiting.start) now_ = waiting.start;
  }

  void drop(Peer peer) {
    auto found = peers_.find(peer);
    if (found == peers_.end()) return;
    order_.erase({found->second.start, peer});
    bytes_ -= found->second.bytes;
    frames_ -= found->second.frames.size();
    peers_.erase(found);
  }

  bool is_full() const { return frames_ >= limits_.frames || bytes_ >= limits_.bytes; }
  bool empty() const { return frames_ == 0; }
  size_t bytes() const { return bytes_; }
  size_t known_peers() const { return peers_.size(); }

 private:
  struct Waiting {
    std::deque<std::pair<Frame, size_t>> frames;
    size_t bytes = 0;
    uint64_t start = 0;  // of the first frame, in virtual time
  };

  // Those that have nothing to wait for, nor to make up for.
  void forget_idle() {
    if (peers_.size() < crowd_) return;
    std::erase_if(peers_, [&](const auto& peer) {
      return peer.second.frames.empty() && peer.second.start <= now_ && peer.first != taken_;
    });
    crowd_ = kLeastCrowd + 2 * peers_.size();
  }

  static constexpr size_t kLeastCrowd = 1024;

  const TurnLimits limits_;
  std::unordered_map<Peer, Waiting> peers_;
  std::set<std::pair<uint64_t, Peer>> order_;  // peers with frames, by start
  std::optional<Peer> taken_;
  uint64_t now_ = 0;  // virtual: the start of the frame that was taken last
  size_t frames_ = 0, bytes_ = 0;
  size_t crowd_ = kLeastCrowd;
};

}  // namespace millrace::server
