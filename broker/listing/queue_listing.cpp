#include "broker/listing/queue_listing.h"

#include <algorithm>

namespace millrace::listing {

admin::QueueStatus queue_status(const core::Core& core, core::QueueIndex index) {
  const core::Queue& queue = core.state().queues()[index];
  return {queue.name, queue.ready_jobs(),     queue.leased,    queue.retry_wait, queue.dead,
          queue.done, core.workers_of(index), queue.scheduled, queue.settings};
}

bool QueueListing::advance(const core::Core& core) {
  const auto& queues = core.state().queues();
  const size_t end = std::min(queues.size(), next_ + looks_per_round_);
  for (; next_ < end; ++next_) {
    const core::Queue& queue = queues[next_];
    if (queue.in_use())
      see({queue.length() + queue.dead, queue.done, next_, queue_status(core, next_)});
  }
  return next_ >= queues.size();
}

void QueueListing::see(Entry entry) {
  if (shown_.size() == admin::kMaxQueuesListed) {
    if (shown_.front() < entry) return leave_out(entry.queue);
    std::pop_heap(shown_.begin(), shown_.end());
    leave_out(shown_.back().queue);
    shown_.pop_back();
  }
  shown_.push_back(std::move(entry));
  std::push_heap(shown_.begin(), shown_.end());
}

void QueueListing::leave_out(const admin::QueueStatus& queue) {
  ++others_.queues;
  others_.scheduled += queue.scheduled;
  others_.ready += queue.ready;
  others_.leased += queue.leased;
  others_.retry_wait += queue.retry_wait;
  others_.dead += queue.dead;
  others_.done += queue.done;
}

void QueueListing::move_to(admin::Status* status) {
  std::sort(shown_.begin(), shown_.end(),
            [](const Entry& x, const Entry& y) { return x.index < y.index; });
  status->queues.clear();
  for (Entry& entry : shown_) status->queues.push_back(std::move(entry.queue));
  status->other_queues = others_;
  *this = QueueListing(looks_per_round_);
}

}  // namespace millrace::listing
