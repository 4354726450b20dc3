#include "broker/transport/connection_table.h"

#include <algorithm>

namespace millrace::server {
namespace {

constexpr size_t kMostLooks = 1024;  // at connections without a session, in one pass

}  // namespace

std::string_view name_of(CloseReason reason) {
  constexpr std::string_view kNames[] = {"capacity",     "no_session",   "silent",
                                         "unread_bytes", "unread_total", "requested"};
  static_assert(std::size(kNames) == kCloseReasons);
  return kNames[size_t(reason)];
}

void ConnectionTable::opened(int descriptor, const ConnectionSample& base, Mono now) {
  closed(descriptor);
  Connection& connection = open_[descriptor];
  connection.order = next_order_++;
  connection.opened = connection.last_received = now;
  connection.base = connection.last = base;
  by_age_[connection.order] = descriptor;
  without_session_[connection.order] = descriptor;
}

void ConnectionTable::closed(int descriptor) {
  auto found = open_.find(descriptor);
  if (found == open_.end()) return;
  set_unread(found->second, 0);
  by_age_.erase(found->second.order);
  without_session_.erase(found->second.order);
  over_limit_.erase(descriptor);
  open_.erase(found);
}

void ConnectionTable::sampled(int descriptor, const ConnectionSample& sample, Mono now) {
  auto found = open_.find(descriptor);
  if (found == open_.end() || found->second.is_closing) return;
  Connection& connection = found->second;
  if (!connection.has_session && sample.session_messages > connection.base.session_messages) {
    connection.has_session = true;
    without_session_.erase(connection.order);
  }
  if (sample.received != connection.last.received || sample.waiting > 0)
    connection.last_received = now;
  connection.last = sample;
  // A connection that has taken over the descriptor unseen has received less.
  const uint64_t read = sample.received > sample.waiting ? sample.received - sample.waiting : 0;
  const uint64_t gone = sample.taken - connection.base.taken + connection.corrected;
  set_unread(connection, read > gone ? read - gone : 0);
  advance_mark(connection, sample);
  if (connection.unread > limits_.unread_bytes ||
      now - connection.last_received >= limits_.silence_time)
    over_limit_.insert(descriptor);
}

void ConnectionTable::set_unread(Connection& connection, uint64_t bytes) {
  unread_total_ += bytes - connection.unread;
  connection.unread = bytes;
}

void ConnectionTable::advance_mark(Connection& connection, const ConnectionSample& sample) {
  auto& mark = connection.mark;
  if (!mark) {
    mark = Mark{sample.received - std::min(sample.waiting, sample.received), sample.drains, {}};
  } else if (!mark->messages) {
    // The first of them may have begun before the mark.
    if (sample.drains >= mark->drains + 2) mark->messages = sample.messages;
  } else if (sample.messages > *mark->messages) {
    const uint64_t most = sample.received - std::min(mark->received, sample.received);
    if (connection.unread > most) {
      connection.corrected += connection.unread - most;
      set_unread(connection, most);
    }
    mark.reset();
  }
}

void ConnectionTable::close_at(int descriptor, Mono due) {
  auto found = open_.find(descriptor);
  if (found != open_.end()) requested_.emplace(due, found->second.order);
}

bool ConnectionTable::is_closing(int descriptor) const {
  auto found = open_.find(descriptor);
  return found != open_.end() && found->second.is_closing;
}

void ConnectionTable::close(int descriptor, CloseReason reason, std::vector<Closing>& out) {
  Connection& connection = open_.at(descriptor);
  if (connection.is_closing) return;
  out.push_back({descriptor, reason, connection.unread});
  ++by_reason_[size_t(reason)];
  connection.is_closing = true;
  set_unread(connection, 0);
  by_age_.erase(connection.order);
  without_session_.erase(connection.order);
}

std::vector<ConnectionTable::Closing> ConnectionTable::close_due(Mono now, const Refresh& refresh) {
  std::vector<Closing> out;
  while (!requested_.empty() && requested_.begin()->first <= now) {
    auto asked = by_age_.find(requested_.begin()->second);
    if (asked != by_age_.end()) close(asked->second, CloseReason::requested, out);
    requested_.erase(requested_.begin());
  }
  for (int descriptor : over_limit_)
    close(descriptor,
          open_.at(descriptor).unread > limits_.unread_bytes ? CloseReason::unread_bytes
                                                             : CloseReason::silent,
          out);
  over_limit_.clear();
  close_hoarders(out);
  close_without_session(now, refresh, out);
  close_crowd(now, refresh, out);
  return out;
}

void ConnectionTable::close_hoarders(std::vector<Closing>& out) {
  while (unread_total_ > limits_.unread_total) {
    auto most = std::max_element(open_.begin(), open_.end(), [](const auto& a, const auto& b) {
      return a.second.unread < b.second.unread;
    });
    close(most->first, CloseReason::unread_total, out);
  }
}

bool ConnectionTable::lacks_session(int descriptor, Mono now, const Refresh& refresh) {
  sampled(descriptor, refresh(descriptor), now);
  return !open_.at(descriptor).has_session;
}

void ConnectionTable::close_without_session(Mono now, const Refresh& refresh,
                                            std::vector<Closing>& out) {
  size_t looks = 0;
  for (auto at = without_session_.begin(); at != without_session_.end() && looks < kMostLooks;
       ++looks) {
    const int descriptor = at++->second;
    const Connection& connection = open_.at(descriptor);
    if (now - connection.opened < limits_.session_time) return;
    if (!lacks_session(descriptor, now, refresh)) continue;
    // A loop that leaves a port unread, or has not come to its end, may not have seen the HELLO.
    if (connection.last.drains >= connection.base.drains + 2)
      close(descriptor, CloseReason::no_session, out);
  }
}

void ConnectionTable::close_crowd(Mono now, const Refresh& refresh, std::vector<Closing>& out) {
  while (by_age_.size() > limits_.connections) {
    int descriptor = by_age_.rbegin()->second;
    if (!without_session_.empty()) {
      descriptor = without_session_.begin()->second;
      if (!lacks_session(descriptor, now, refresh)) continue;
    }
    close(descriptor, CloseReason::capacity, out);
  }
}

std::vector<ConnectionTable::Closing> ConnectionTable::close_above_maximum(Mono now,
                                                                           const Refresh& refresh) {
  std::vector<Closing> out;
  close_crowd(now, refresh, out);
  return out;
}

std::vector<ConnectionTable::Closing> ConnectionTable::shed(size_t count) {
  std::vector<Closing> out;
  while (out.size() < count && !without_session_.empty())
    close(without_session_.begin()->second, CloseReason::capacity, out);
  return out;
}

}  // namespace millrace::server
