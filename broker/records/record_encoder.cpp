#include "broker/records/record_codec.h"
#include "broker/records/record_type.h"
#include "common/protocol/writer.h"

namespace millrace::records {
namespace {

using protocol::Writer;

// Below this, a copy costs less than another piece in the write, and lets the frame go early.
constexpr size_t kCopyBelow = 512;

Writer& put_time(Writer& out, WallMs time) { return out.uint(uint64_t(to_int(time))); }

void put(Writer& out, JobRange range) { out.array(2).uint(range.first.value).uint(range.count); }
void put(Writer& out, const DoneRun& run) {
  out.array(3).uint(run.first.value).uint(run.first_epoch.value).uint(run.count);
}
void put(Writer& out, const JobResult& result) {
  out.array(2).uint(result.job.value).bin(result.bytes);
}
void put(Writer& out, const Returned::Entry& entry) {
  out.array(3).uint(entry.lease.job.value).uint(entry.lease.epoch.value).boolean(entry.dead);
}
void put(Writer& out, const SeqRun& run) {
  out.array(3).uint(run.first.value).uint(run.count).uint(run.first_job.value);
}
void put(Writer& out, const ProducerState& producer);
void put(Writer& out, const QueueSet& queue);
void put(Writer& out, const KnownKey& key);
void put(Writer& out, const QueueTotal& total);
void put(Writer& out, const Absence& absence);

void put(Writer& out, const AttemptFailure& trouble) {
  put_time(out.array(4).uint(trouble.attempt).str(trouble.worker).str(trouble.error), trouble.time);
}

template <typename Item>
void put_list(Writer& out, const std::vector<Item>& items) {
  out.array(items.size());
  for (const Item& item : items) put(out, item);
}

void put(Writer& out, const ProducerState& producer) {
  out.array(4).bin(producer.id.view()).uint(producer.floor.value);
  put_time(out, producer.seen);
  put_list(out, producer.known);
}

void put(Writer& out, const QueueSet& queue) {
  const QueueSettings& s = queue.settings;
  out.array(12)
      .str(queue.queue)
      .uint(s.weight)
      .uint(uint64_t(s.order))
      .boolean(s.paused)
      .uint(s.concurrency);
  out.uint(s.rate).uint(s.max_length).uint(s.max_attempts).uint(uint64_t(s.backoff_min.count()));
  out.uint(uint64_t(s.backoff_max.count()))
      .uint(uint64_t(s.lease.count()))
      .uint(uint64_t(s.ttl.count()));
}
void put(Writer& out, const KnownKey& key) {
  put_time(out.array(3).bin(key.key).uint(key.job.value), key.time);
}
void put(Writer& out, const QueueTotal& total) { out.array(2).str(total.queue).uint(total.done); }

void put(Writer& out, const Absence& absence) {
  out.array(2).bin(absence.worker.view()).uint(absence.periods);
}

// Of Accepted and Relocated all but the payloads, which come last.
struct Encoder {
  Writer& out;

  Writer& head(Type type, size_t fields) { return out.array(1 + fields).uint(uint64_t(type)); }

  void operator()(const Started& r) {
    put_time(head(Type::started, 3).uint(r.incarnation), r.time).uint(r.first_epoch.value);
  }
  void operator()(const Accepted& r) {
    head(Type::accepted, 13)
        .uint(r.first_job.value)
        .bin(r.producer.view())
        .uint(r.first_seq.value)
        .uint(r.floor.value);
    put_time(out, r.time).str(r.queue).uint(uint64_t(r.report)).uint(r.max_attempts);
    put_time(put_time(out.uint(r.priority), r.due), r.expires);
    out.array(r.keys.size());
    for (std::string_view key : r.keys) out.bin(key);
  }
  void operator()(const Leased& r) {
    head(Type::leased, 3).bin(r.worker.view()).uint(r.first_epoch.value);
    put_list(out, r.runs);
  }
  void operator()(const Done& r) {
    put_time(head(Type::done, 4), r.time);
    put_list(out, r.runs);
    put_list(out, r.results);
    put_list(out, r.totals);
  }
  void operator()(const Failed& r) {
    head(Type::failed, 7).uint(r.lease.job.value).uint(r.lease.epoch.value);
    put_time(put_time(out, r.time).uint(uint64_t(r.kind)), r.due).str(r.worker).str(r.error);
  }
  void operator()(const Returned& r) {
    put_time(head(Type::returned, 4), r.time).uint(uint64_t(r.reason)).str(r.worker);
    put_list(out, r.jobs);
  }
  void operator()(const Due& r) { head(Type::due, 1), put_list(out, r.runs); }
  void operator()(const Collected& r) { head(Type::collected, 1), put_list(out, r.runs); }
  void operator()(const ProducerGone& r) { head(Type::producer_gone, 1).bin(r.producer.view()); }
  void operator()(const Checkpoint& r) {
    head(Type::checkpoint, r.totals ? 14 : 11)
        .uint(r.broker.value)
        .uint(r.incarnation)
        .uint(r.next_job.value)
        .uint(r.next_epoch.value);
    const Counts& c = r.counts;
    out.array(9)
        .uint(c.accepted)
        .uint(c.done)
        .uint(c.dead)
        .uint(c.attempts)
        .uint(c.crashes)
        .uint(c.failures);
    out.uint(c.cancelled).uint(c.expired).uint(c.requeued);
    put_list(out, r.done);
    put_list(out, r.cancelled);
    put_list(out, r.expired);
    put_list(out, r.producers);
    put_list(out, r.queues);
    put_list(out, r.keys);
    if (!r.totals) return;
    put_list(out, *r.totals);
    out.uint(r.history_start.value);
    put_list(out, r.absent);
  }
  void operator()(const Matched& r) {
    head(Type::matched, 5).bin(r.producer.view()).uint(r.seq.value).uint(r.floor.value);
    put_time(out, r.time).uint(r.job.value);
  }
  void operator()(const Cancelled& r) {
    put_time(head(Type::cancelled, 3), r.time).uint(uint64_t(r.reason));
    put_list(out, r.runs);
  }
  void operator()(const Expired& r) { head(Type::expired, 1), put_list(out, r.runs); }
  void operator()(const Requeued& r) {
    put_time(head(Type::requeued, 2), r.time), put_list(out, r.runs);
  }
  void operator()(const QueueSet& r) { head(Type::queue_set, 1), put(out, r); }
  void operator()(const Relocated& r) {
    head(Type::relocated, 16).uint(r.job.value).bin(r.producer.view()).str(r.queue);
    out.uint(uint64_t(r.state)).uint(uint64_t(r.report)).uint(r.max_attempts).uint(r.priority);
    out.uint(r.attempts).uint(r.failures).uint(r.crashes);
    put_time(put_time(out, r.due), r.expires).uint(r.epoch.value).bin(r.worker.view());
    put_list(out, r.history);
  }
  void operator()(const ResultRetained& r) {
    put_time(head(Type::result_retained, 4).uint(r.job.value).uint(r.attempts), r.time)
        .bin(r.result);
  }
  void operator()(const HistoryTrimmed& r) { head(Type::history_trimmed, 1).uint(r.below.value); }
  void operator()(const Absent& r) { head(Type::absent, 1), put_list(out, r.workers); }
};

std::string payload_array_of(const Accepted& accepted) {
  Writer out;
  out.array(accepted.payloads.size());
  for (std::string_view payload : accepted.payloads) out.bin(payload);
  return out.take();
}

}  // namespace

std::string_view payload_bytes(const Record& record) {
  if (const auto* accepted = std::get_if<Accepted>(&record)) return accepted->payload_array;
  if (const auto* relocated = std::get_if<Relocated>(&record)) return relocated->payload;
  return {};
}

size_t Chunk::append(const Record& record, std::shared_ptr<const void> owner) {
  Writer out;
  std::visit(Encoder{out}, record);
  size_t payloads_at = bytes() + out.size();
  std::string_view outside;
  if (const auto* accepted = std::get_if<Accepted>(&record)) {
    if (accepted->payload_array.empty()) {
      out.raw(payload_array_of(*accepted));
    } else if (!owner || accepted->payload_array.size() < kCopyBelow) {
      out.raw(accepted->payload_array);
    } else {
      outside = accepted->payload_array;
    }
  } else if (const auto* relocated = std::get_if<Relocated>(&record)) {
    out.bin(relocated->payload);
    payloads_at = bytes() + out.size() - relocated->payload.size();
  }
  put(out.take(), outside, std::move(owner));
  return payloads_at;
}

}  // namespace millrace::records
