#include "common/protocol/codec.h"
#include "common/protocol/writer.h"

namespace millrace::protocol {
namespace {

// The head of every body: version, type, session; `fields` more follow.
Writer& head(Writer& out, Type type, SessionId session, size_t fields) {
  return out.array(3 + fields).uint(kVersion).uint(uint64_t(type)).uint(session.value);
}

void put(Writer& out, Lease lease) { out.array(2).uint(lease.job.value).uint(lease.epoch.value); }
void put(Writer& out, JobRange range) { out.array(2).uint(range.first.value).uint(range.count); }

void put_optional(Writer& out, bool present, std::string_view bytes) {
  if (present) {
    out.bin(bytes);
  } else {
    out.nil();
  }
}

std::string_view name_of(FailKind kind) {
  constexpr std::string_view kNames[] = {"retryable", "permanent", "crash"};
  return kNames[size_t(kind)];
}

std::string_view name_of(About::Kind kind) {
  switch (kind) {
    case About::Kind::seq:
      return "seq";
    case About::Kind::batch:
      return "batch";
    case About::Kind::broker:
      break;
  }
  return "broker";
}

void put(Writer& out, const Confirm::Range& range) {
  out.array(4)
      .uint(range.first.value)
      .uint(range.count)
      .uint(range.first_job.value)
      .boolean(range.known);
}
void put(Writer& out, const Reject::Range& range) {
  out.array(5).uint(range.first.value).uint(range.count).str(range.reason);
  out.uint(uint64_t(range.retry_after.count())).str(range.message);
}
void put(Writer& out, const Outcome::Entry& entry) {
  out.array(6)
      .uint(entry.jobs.first.value)
      .uint(entry.jobs.count)
      .str(name_of(entry.state))
      .uint(entry.attempts);
  put_optional(out, entry.has_result, entry.result);
  if (entry.has_error) {
    out.str(entry.error);
  } else {
    out.nil();
  }
}
void put(Writer& out, const States::Range& range) {
  out.array(3).uint(range.jobs.first.value).uint(range.jobs.count).str(name_of(range.state));
}
void put(Writer& out, const Done::Entry& entry) {
  out.array(3).uint(entry.lease.job.value).uint(entry.lease.epoch.value);
  put_optional(out, entry.has_result, entry.result);
}
void put(Writer& out, const Fail::Entry& entry) {
  out.array(4)
      .uint(entry.lease.job.value)
      .uint(entry.lease.epoch.value)
      .str(name_of(entry.kind))
      .str(entry.error);
}
void put(Writer& out, const LeaseGrant::Entry& entry) {
  out.array(5).uint(entry.lease.job.value).uint(entry.lease.epoch.value).uint(entry.attempt);
  out.boolean(entry.wants_result).bin(entry.payload);
}

template <typename Item>
void put_list(Writer& out, const std::vector<Item>& items) {
  out.array(items.size());
  for (const Item& item : items) put(out, item);
}

struct Encoder {
  Writer& out;
  SessionId session;

  void operator()(const Hello& m) { head(out, Type::hello, session, 1).bin(m.producer.view()); }
  void operator()(const Submit& m) {
    head(out, Type::submit, session, 5).uint(m.floor.value).uint(m.first.value).str(m.queue);
    put_options(m);
    out.array(m.payloads.size());
    for (std::string_view payload : m.payloads) out.bin(payload);
  }
  void operator()(const Query& m) { head(out, Type::query, session, 1), put_list(out, m.jobs); }
  void operator()(const Collected& m) {
    head(out, Type::collected, session, 1), put_list(out, m.jobs);
  }
  void operator()(const Cancel& m) { head(out, Type::cancel, session, 1), put_list(out, m.jobs); }
  void operator()(const Register& m) {
    head(out, Type::register_worker, session, 6)
        .bin(m.worker.view())
        .str(m.name)
        .array(m.queues.size());
    for (std::string_view queue : m.queues) out.str(queue);
    out.uint(m.threads);
    put_list(out, m.claims);
    out.array(m.labels.size());
    for (std::string_view label : m.labels) out.str(label);
  }
  void operator()(const Credit& m) {
    head(out, Type::credit, session, 2).uint(m.jobs).uint(m.threads);
  }
  void operator()(const Done& m) {
    head(out, Type::done, session, 2).uint(m.batch), put_list(out, m.jobs);
  }
  void operator()(const Fail& m) {
    head(out, Type::fail, session, 2).uint(m.batch), put_list(out, m.jobs);
  }
  void operator()(const Release& m) {
    head(out, Type::release, session, 2).uint(m.batch), put_list(out, m.jobs);
  }
  void operator()(const Extend& m) { head(out, Type::extend, session, 1), put_list(out, m.jobs); }
  void operator()(const Heartbeat&) { head(out, Type::heartbeat, session, 0); }
  void operator()(const Bye&) { head(out, Type::bye, session, 0); }

  void operator()(const Welcome& m) {
    head(out, Type::welcome, session, 2).map(9);
    out.str("broker").uint(m.broker.value).str("incarnation").uint(m.incarnation);
    out.str("heartbeat_ms").uint(uint64_t(m.heartbeat.count())).str("liveness").uint(m.liveness);
    out.str("max_job_size").uint(m.max_job_size).str("window_jobs").uint(m.window_jobs);
    out.str("window_bytes").uint(m.window_bytes).str("durability").str(m.durability);
    out.str("lease_ms").uint(uint64_t(m.lease.count()));
    put_list(out, m.stale);
  }
  void operator()(const Confirm& m) {
    head(out, Type::confirm, session, 2).str(m.durability), put_list(out, m.ranges);
  }
  void operator()(const Reject& m) { head(out, Type::reject, session, 1), put_list(out, m.ranges); }
  void operator()(const Outcome& m) {
    head(out, Type::outcome, session, 1), put_list(out, m.entries);
  }
  void operator()(const States& m) { head(out, Type::states, session, 1), put_list(out, m.ranges); }
  void operator()(const LeaseGrant& m) {
    head(out, Type::lease, session, 3).str(m.queue), put_list(out, m.jobs);
    out.uint(uint64_t(m.lease.count()));
  }
  void operator()(const DoneOk& m) { head(out, Type::done_ok, session, 1).uint(m.batch); }
  void operator()(const Stale& m) { head(out, Type::stale, session, 1), put_list(out, m.jobs); }
  void operator()(const Cancelled& m) {
    head(out, Type::cancelled, session, 1), put_list(out, m.jobs);
  }
  void operator()(const Recall& m) { head(out, Type::recall, session, 1), put_list(out, m.jobs); }
  void operator()(const Reregister&) { head(out, Type::reregister, session, 0); }
  void operator()(const ErrorReply& m) {
    head(out, Type::error, session, m.about ? 3 : 2).str(m.code).str(m.message);
    if (m.about) out.array(2).str(name_of(m.about->kind)).uint(m.about->number);
  }

 private:
  // Only what differs from the default.
  void put_options(const Submit& m) {
    constexpr std::string_view kReports[] = {"none", "outcome", "result"};
    const SubmitOptions& o = m.options;
    const bool report = o.report != Report::none, attempts = o.max_attempts != 0,
               priority = o.priority != kDefaultPriority, delay = o.delay.count() != 0,
               ttl = o.ttl.count() != 0, keys = !m.keys.empty();
    out.map(size_t(report) + attempts + priority + delay + ttl + keys);
    if (report) out.str("report").str(kReports[size_t(o.report)]);
    if (attempts) out.str("max_attempts").uint(o.max_attempts);
    if (priority) out.str("priority").uint(o.priority);
    if (delay) out.str("delay_ms").uint(uint64_t(o.delay.count()));
    if (ttl) out.str("ttl_ms").uint(uint64_t(o.ttl.count()));
    if (keys) {
      out.str("keys").array(m.keys.size());
      for (std::string_view key : m.keys) out.bin(key);
    }
  }
};

// So that the string grows once: payloads are most of a frame.
size_t estimate(const FromClient& message) {
  size_t size = 128;
  if (auto* submit = std::get_if<Submit>(&message)) {
    for (std::string_view payload : submit->payloads) size += payload.size() + 5;
  } else if (auto* done = std::get_if<Done>(&message)) {
    for (const Done::Entry& entry : done->jobs) size += entry.result.size() + 24;
  }
  return size;
}

size_t estimate(const FromBroker& message) {
  size_t size = 128;
  if (auto* grant = std::get_if<LeaseGrant>(&message)) {
    for (const LeaseGrant::Entry& entry : grant->jobs) size += entry.payload.size() + 32;
  }
  return size;
}

template <typename Message>
std::string encode_any(SessionId session, const Message& message) {
  Writer out(estimate(message));
  std::visit(Encoder{out, session}, message);
  return out.take();
}

}  // namespace

std::string encode(SessionId session, const FromClient& message) {
  return encode_any(session, message);
}
std::string encode(SessionId session, const FromBroker& message) {
  return encode_any(session, message);
}

}  // namespace millrace::protocol
