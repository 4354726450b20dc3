#include <algorithm>

#include "broker/core/state/state.h"

namespace millrace::core {
namespace {

template <typename... Words>
void line(std::string& out, const Words&... words) {
  auto put = [&](const auto& word) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(word)>>) {
      out += std::to_string(word);
    } else {
      out += word;
    }
    out += ' ';
  };
  (put(words), ...);
  out.back() = '\n';
}

}  // namespace

std::string State::describe() const {
  std::string out;
  line(out, "broker", broker_.value, "incarnation", incarnation_, "next_job", next_job_.value,
       "next_epoch", next_epoch_.value);
  line(out, "counts", counts_.accepted, counts_.done, counts_.dead, counts_.attempts,
       counts_.crashes, counts_.failures, counts_.cancelled, counts_.expired, counts_.requeued);
  line(out, "history_start", history_start_.value);
  for (const JobRange& run : done_.runs()) line(out, "done", run.first.value, run.count);
  for (const JobRange& run : cancelled_.runs()) line(out, "cancelled", run.first.value, run.count);
  for (const JobRange& run : expired_.runs()) line(out, "expired", run.first.value, run.count);
  jobs_.for_each([&](JobId id, const Job& job) {
    const Uuid* producer = producers_.id_of(job.producer);
    line(out, "job", id.value, queues_[job.queue].name, name_of(job.state), "attempts",
         job.attempts, "failures", job.failures, "crashes", job.crashes, "max", job.max_attempts,
         "priority", job.priority, "report", int(job.report), "producer",
         producer ? producer->hex() : "gone");
    if (const LeaseInfo* lease = lease_of(id))
      line(out, "  leased", lease->epoch.value, workers_[lease->worker].id.hex(), "queue",
           queues_[job.queue].ready.contains(id, job.rank()) ? "and ready" : "only");
    if (const LastLease* last = last_lease_of(id))
      line(out, "  last lease", last->epoch.value, last->worker.hex());
    if (auto due = due_of(id)) line(out, "  due", to_int(*due));
    if (auto expiry = expiry_of(id))
      line(out, "  expires", to_int(*expiry),
           expiries_.contains({*expiry, id}) ? "counting" : "held");
    if (const auto* history = history_of(id))
      for (const AttemptFailure& failure : *history)
        line(out, "  trouble", failure.attempt, failure.worker, failure.error,
             to_int(failure.time));
  });
  std::map<std::string_view, const Queue*> queues;  // a restart may number them otherwise
  for_each_queue([&](QueueIndex, const Queue& queue) { queues[queue.name] = &queue; });
  for (auto [name, queue] : queues) {
    const records::QueueSettings& s = queue->settings;
    if (queue->is_empty()) continue;
    line(out, "queue", queue->name, queue->scheduled, queue->ready_jobs(), queue->leased,
         queue->retry_wait, queue->dead);
    line(out, "  set", s.weight, int(s.order), int(s.paused), s.concurrency, s.rate, s.max_length,
         s.max_attempts, s.backoff_min.count(), s.backoff_max.count(), s.lease.count(),
         s.ttl.count());
    for (const JobRange& run : queue->ready.next(queue->ready.size()))
      line(out, "  next", run.first.value, run.count);
    if (auto suspects = suspects_.find(queue_names_.at(name)); suspects != suspects_.end())
      for (const JobRange& run : suspects->second.runs())
        line(out, "  suspects", run.first.value, run.count);
  }
  for (const auto& producer : producers_.all()) {
    line(out, "producer", producer.id.hex(), producer.floor.value, to_int(producer.seen), "live",
         producers_.live_of(producer.id));
    for (const auto& run : producer.known)
      line(out, "  knows", run.first.value, run.count, run.first_job.value);
  }
  for (const auto& [id, result] : results_)
    line(out, "result", id.value, to_int(result.time), result.attempts, result.bytes.size(),
         std::hash<std::string>()(result.bytes));
  for (const auto& [worker, periods] : absent_) line(out, "absent", worker.hex(), periods);
  for (const auto& [time, name] : key_order_)
    line(out, "key", name, to_int(time), keys_.at(name).job.value);
  return out;
}

}  // namespace millrace::core
