#include <algorithm>

#include "broker/core/state.h"

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
  line(out, "broker", broker_.value, "incarnation", incarnation_, "next_job", next_job_.value, "next_epoch",
       next_epoch_.value);
  line(out, "counts", counts_.accepted, counts_.done, counts_.dead, counts_.attempts, counts_.crashes,
       counts_.failures);
  for (const JobRange& run : done_.runs()) line(out, "done", run.first.value, run.count);
  jobs_.for_each([&](JobId id, const Job& job) {
    const Uuid* producer = producers_.id_of(job.producer);
    line(out, "job", id.value, queues_[job.queue].name, name_of(job.state), "attempts", job.attempts, "failures",
         job.failures, "crashes", job.crashes, "max", job.max_attempts, "report", int(job.report), "producer",
         producer ? producer->hex() : "gone");
    if (const LeaseInfo* lease = lease_of(id))
      line(out, "  leased", lease->epoch.value, workers_[lease->worker].id.hex(), "queue",
           queues_[job.queue].ready.contains(id) ? "and ready" : "only");
    if (Epoch last = last_epoch_of(id); last.value != 0) line(out, "  last epoch", last.value);
    if (auto due = due_of_.find(id); due != due_of_.end()) line(out, "  due", to_int(due->second));
    if (const Trouble* trouble = trouble_of(id))
      line(out, "  trouble", trouble->worker, trouble->error, to_int(trouble->time));
  });
  for (const Queue& queue : queues_) {
    if (queue.ready.empty() && queue.leased + queue.retry_wait + queue.dead == 0) continue;
    line(out, "queue", queue.name, queue.ready.size(), queue.leased, queue.retry_wait, queue.dead);
  }
  for (const auto& producer : producers_.all()) {
    line(out, "producer", producer.id.hex(), producer.floor.value, to_int(producer.seen));
    for (const auto& run : producer.known) line(out, "  knows", run.first.value, run.count, run.first_job.value);
  }
  for (const auto& [id, outcome] : outcomes_)
    line(out, "outcome", id.value, name_of(outcome.state), outcome.attempts, outcome.result.size());
  return out;
}

}  // namespace millrace::core
