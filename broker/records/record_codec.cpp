#include "broker/records/record_codec.h"

#include <fmt/format.h>

#include "common/protocol/reader.h"
#include "common/protocol/writer.h"

namespace millrace::records {
namespace {

using protocol::as_array;
using protocol::as_bool;
using protocol::as_bytes;
using protocol::as_uint;
using protocol::Malformed;
using protocol::Reader;
using protocol::Writer;

enum class Type : uint8_t {
  started = 1,
  accepted,
  leased,
  done,
  failed,
  returned,
  due,
  collected,
  producer_gone,
  checkpoint,
  matched,
  cancelled,
  expired,
  revived,
  queue_set,
  carried,
};

// Below this, a copy costs less than another piece in the write, and lets the frame go early.
constexpr size_t kCopyBelow = 512;
// The reader's zone grows with what it has read; a new one is taken after so many bytes.
constexpr size_t kReaderSpan = 256 << 10;

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

void put(Writer& out, const Trouble& trouble) {
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

// Of Accepted and Carried all but the payloads, which come last.
struct Encoder {
  Writer& out;

  Writer& head(Type type, size_t fields) { return out.array(1 + fields).uint(uint64_t(type)); }

  void operator()(const Started& r) {
    put_time(head(Type::started, 2).uint(r.incarnation), r.time);
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
    put_time(head(Type::done, 3), r.time);
    put_list(out, r.runs);
    put_list(out, r.results);
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
    head(Type::checkpoint, 11)
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
    out.uint(c.cancelled).uint(c.expired).uint(c.revived);
    put_list(out, r.done);
    put_list(out, r.cancelled);
    put_list(out, r.expired);
    put_list(out, r.producers);
    put_list(out, r.queues);
    put_list(out, r.keys);
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
  void operator()(const Revived& r) {
    put_time(head(Type::revived, 2), r.time), put_list(out, r.runs);
  }
  void operator()(const QueueSet& r) { head(Type::queue_set, 1), put(out, r); }
  void operator()(const Carried& r) {
    head(Type::carried, 16).uint(r.job.value).bin(r.producer.view()).str(r.queue);
    out.uint(uint64_t(r.state)).uint(uint64_t(r.report)).uint(r.max_attempts).uint(r.priority);
    out.uint(r.attempts).uint(r.failures).uint(r.crashes);
    put_time(put_time(out, r.due), r.expires).uint(r.epoch.value).bin(r.worker.view());
    put_list(out, r.history);
  }
};

std::string payload_array_of(const Accepted& accepted) {
  Writer out;
  out.array(accepted.payloads.size());
  for (std::string_view payload : accepted.payloads) out.bin(payload);
  return out.take();
}

void enter(Reader& in, size_t fields) {
  if (in.enter_array() != fields)
    throw Malformed("an array has not the number of fields that version 1 gives it");
}

uint64_t read_uint(Reader& in, uint64_t max = UINT64_MAX) { return as_uint(in.next(), max); }
WallMs read_time(Reader& in) { return wall_from_int(int64_t(read_uint(in, INT64_MAX))); }
Millis read_millis(Reader& in) { return Millis(int64_t(read_uint(in, protocol::kMaxDelayMs))); }
std::string_view read_bytes(Reader& in) { return as_bytes(in.next()); }
Uuid read_uuid(Reader& in) {
  std::string_view bytes = read_bytes(in);
  if (bytes.size() != 16) throw Malformed("an id should have 16 bytes");
  return Uuid::from_bytes(bytes);
}
template <typename Enum>
Enum read_enum(Reader& in, Enum last) {
  return Enum(read_uint(in, uint64_t(last)));
}

uint64_t field(const msgpack::object_array& array, size_t i) { return as_uint(array.ptr[i]); }
const msgpack::object_array& tuple(Reader& in, size_t fields) {
  return as_array(in.next(), fields, fields);
}
void check_span(uint64_t first, uint64_t count) {
  if (count > UINT64_MAX - first) throw Malformed("a range ends beyond 2^64");
}

void read(Reader& in, JobRange* range) {
  const auto& array = tuple(in, 2);
  *range = {{field(array, 0)}, field(array, 1)};
  check_span(range->first.value, range->count);
}
void read(Reader& in, DoneRun* run) {
  const auto& array = tuple(in, 3);
  *run = {{field(array, 0)}, {field(array, 1)}, field(array, 2)};
  check_span(run->first.value, run->count);
  check_span(run->first_epoch.value, run->count);
}
void read(Reader& in, JobResult* result) {
  const auto& array = tuple(in, 2);
  *result = {{field(array, 0)}, as_bytes(array.ptr[1])};
}
void read(Reader& in, Returned::Entry* entry) {
  const auto& array = tuple(in, 3);
  *entry = {{{field(array, 0)}, {field(array, 1)}}, as_bool(array.ptr[2])};
}
void read(Reader& in, SeqRun* run) {
  const auto& array = tuple(in, 3);
  *run = {{field(array, 0)}, field(array, 1), {field(array, 2)}};
  check_span(run->first.value, run->count);
  check_span(run->first_job.value, run->count);
}
void read(Reader& in, QueueSet* queue) {
  enter(in, 12);
  QueueSettings& s = queue->settings;
  queue->queue = read_bytes(in);
  s.weight = read_uint(in);
  s.order = read_enum(in, Order::fair);
  s.paused = as_bool(in.next());
  s.concurrency = read_uint(in);
  s.rate = read_uint(in);
  s.max_length = read_uint(in);
  s.max_attempts = uint8_t(read_uint(in, UINT8_MAX));
  s.backoff_min = read_millis(in);
  s.backoff_max = read_millis(in);
  s.lease = read_millis(in);
  s.ttl = read_millis(in);
}
void read(Reader& in, KnownKey* key) {
  enter(in, 3);
  key->key = read_bytes(in);
  key->job = {read_uint(in)};
  key->time = read_time(in);
}
void read(Reader& in, Trouble* trouble) {
  enter(in, 4);
  trouble->attempt = uint32_t(read_uint(in, UINT32_MAX));
  trouble->worker = read_bytes(in);
  trouble->error = read_bytes(in);
  trouble->time = read_time(in);
}
void read(Reader& in, ProducerState* producer);

// Element by element: a Checkpoint's lists may be longer than the reader takes in one piece.
template <typename Item>
void read_list(Reader& in, std::vector<Item>* items) {
  size_t count = in.enter_array();
  items->reserve(std::min<size_t>(count, 4096));  // the count is not to be believed yet
  for (size_t i = 0; i < count; ++i) read(in, &items->emplace_back());
}

void read(Reader& in, ProducerState* producer) {
  enter(in, 4);
  producer->id = read_uuid(in);
  producer->floor = {read_uint(in)};
  producer->seen = read_time(in);
  read_list(in, &producer->known);
}

void read(Reader& in, Started* r) {
  r->incarnation = read_uint(in);
  r->time = read_time(in);
}
void read(Reader& in, Accepted* r) {
  r->first_job = {read_uint(in)};
  r->producer = read_uuid(in);
  r->first_seq = {read_uint(in)};
  r->floor = {read_uint(in)};
  r->time = read_time(in);
  r->queue = read_bytes(in);
  r->report = read_enum(in, Report::result);
  r->max_attempts = uint8_t(read_uint(in, UINT8_MAX));
  r->priority = uint8_t(read_uint(in, protocol::kMaxPriority));
  r->due = read_time(in);
  r->expires = read_time(in);
  const auto& keys = as_array(in.next(), 0, SIZE_MAX);
  for (uint32_t i = 0; i < keys.size; ++i) r->keys.push_back(as_bytes(keys.ptr[i]));
  const auto& payloads = as_array(in.next(), 1, SIZE_MAX);
  r->payload_array = in.element();
  r->payloads.reserve(payloads.size);
  for (uint32_t i = 0; i < payloads.size; ++i) r->payloads.push_back(as_bytes(payloads.ptr[i]));
  if (!r->keys.empty() && r->keys.size() != r->payloads.size())
    throw Malformed("keys don't match the payloads");
  check_span(r->first_job.value, payloads.size);
  check_span(r->first_seq.value, payloads.size);
}
void read(Reader& in, Leased* r) {
  r->worker = read_uuid(in);
  r->first_epoch = {read_uint(in)};
  read_list(in, &r->runs);
}
void read(Reader& in, Done* r) {
  r->time = read_time(in);
  read_list(in, &r->runs);
  read_list(in, &r->results);
}
void read(Reader& in, Failed* r) {
  r->lease.job = {read_uint(in)};
  r->lease.epoch = {read_uint(in)};
  r->time = read_time(in);
  r->kind = read_enum(in, FailKind::crash);
  r->due = read_time(in);
  r->worker = read_bytes(in);
  r->error = read_bytes(in);
}
void read(Reader& in, Returned* r) {
  r->time = read_time(in);
  r->reason = read_enum(in, ReturnReason::never_arrived);
  r->worker = read_bytes(in);
  read_list(in, &r->jobs);
}
void read(Reader& in, Due* r) { read_list(in, &r->runs); }
void read(Reader& in, Collected* r) { read_list(in, &r->runs); }
void read(Reader& in, ProducerGone* r) { r->producer = read_uuid(in); }
void read(Reader& in, Checkpoint* r) {
  r->broker = {uint32_t(read_uint(in, UINT32_MAX))};
  r->incarnation = read_uint(in);
  r->next_job = {read_uint(in)};
  r->next_epoch = {read_uint(in)};
  const auto& c = tuple(in, 9);
  r->counts = {field(c, 0), field(c, 1), field(c, 2), field(c, 3), field(c, 4),
               field(c, 5), field(c, 6), field(c, 7), field(c, 8)};
  read_list(in, &r->done);
  read_list(in, &r->cancelled);
  read_list(in, &r->expired);
  read_list(in, &r->producers);
  read_list(in, &r->queues);
  read_list(in, &r->keys);
}
void read(Reader& in, Matched* r) {
  r->producer = read_uuid(in);
  r->seq = {read_uint(in)};
  r->floor = {read_uint(in)};
  r->time = read_time(in);
  r->job = {read_uint(in)};
}
void read(Reader& in, Cancelled* r) {
  r->time = read_time(in);
  r->reason = read_enum(in, CancelReason::dropped);
  read_list(in, &r->runs);
}
void read(Reader& in, Expired* r) { read_list(in, &r->runs); }
void read(Reader& in, Revived* r) {
  r->time = read_time(in);
  read_list(in, &r->runs);
}

bool can_be_carried(protocol::JobState state) {
  using protocol::JobState;
  return state == JobState::dead || (state != JobState::unknown && !protocol::is_end(state));
}
void read(Reader& in, Carried* r) {
  r->job = {read_uint(in)};
  r->producer = read_uuid(in);
  r->queue = read_bytes(in);
  r->state = read_enum(in, protocol::JobState::expired);
  if (!can_be_carried(r->state)) throw Malformed("a job that is carried on has not ended");
  r->report = read_enum(in, Report::result);
  r->max_attempts = uint8_t(read_uint(in, UINT8_MAX));
  r->priority = uint8_t(read_uint(in, protocol::kMaxPriority));
  r->attempts = uint16_t(read_uint(in, UINT16_MAX));
  r->failures = uint8_t(read_uint(in, UINT8_MAX));
  r->crashes = uint8_t(read_uint(in, UINT8_MAX));
  r->due = read_time(in);
  r->expires = read_time(in);
  r->epoch = {read_uint(in)};
  r->worker = read_uuid(in);
  read_list(in, &r->history);
  r->payload = read_bytes(in);
}

template <typename Item>
Record read_as(Reader& in, size_t fields, size_t expected) {
  if (fields != 1 + expected)
    throw Malformed("a record has not the number of fields that version 1 gives it");
  Item item;
  read(in, &item);
  return item;
}

Record read_record(Reader& in) {
  size_t fields = in.enter_array();
  if (fields == 0) throw Malformed("an empty record");
  uint64_t type = read_uint(in);
  switch (type <= uint64_t(Type::carried) ? Type(type) : Type(0)) {
    case Type::started:
      return read_as<Started>(in, fields, 2);
    case Type::accepted:
      return read_as<Accepted>(in, fields, 13);
    case Type::leased:
      return read_as<Leased>(in, fields, 3);
    case Type::done:
      return read_as<Done>(in, fields, 3);
    case Type::failed:
      return read_as<Failed>(in, fields, 7);
    case Type::returned:
      return read_as<Returned>(in, fields, 4);
    case Type::due:
      return read_as<Due>(in, fields, 1);
    case Type::collected:
      return read_as<Collected>(in, fields, 1);
    case Type::producer_gone:
      return read_as<ProducerGone>(in, fields, 1);
    case Type::checkpoint:
      return read_as<Checkpoint>(in, fields, 11);
    case Type::matched:
      return read_as<Matched>(in, fields, 5);
    case Type::cancelled:
      return read_as<Cancelled>(in, fields, 3);
    case Type::expired:
      return read_as<Expired>(in, fields, 1);
    case Type::revived:
      return read_as<Revived>(in, fields, 2);
    case Type::queue_set:
      return read_as<QueueSet>(in, fields, 1);
    case Type::carried:
      return read_as<Carried>(in, fields, 16);
  }
  throw Malformed(fmt::format("record type {} is unknown", type));
}

}  // namespace

std::string_view payload_bytes(const Record& record) {
  if (const auto* accepted = std::get_if<Accepted>(&record)) return accepted->payload_array;
  if (const auto* carried = std::get_if<Carried>(&record)) return carried->payload;
  return {};
}

size_t Chunk::append(const Record& record, std::shared_ptr<const void> owner) {
  Writer out;
  std::visit(Encoder{out}, record);
  size_t payloads_at = bytes_ + out.size();
  std::string_view outside;
  if (const auto* accepted = std::get_if<Accepted>(&record)) {
    if (accepted->payload_array.empty()) {
      out.raw(payload_array_of(*accepted));
    } else if (!owner || accepted->payload_array.size() < kCopyBelow) {
      out.raw(accepted->payload_array);
    } else {
      outside = accepted->payload_array;
    }
  } else if (const auto* carried = std::get_if<Carried>(&record)) {
    out.bin(carried->payload);
    payloads_at = bytes_ + out.size() - carried->payload.size();
  }
  bytes_ += out.size() + outside.size();
  ++records_;
  if (parts_.empty() || parts_.back().owner) parts_.emplace_back();
  parts_.back().inline_bytes += out.take();
  if (!outside.empty()) parts_.push_back({{}, outside, std::move(owner)});
  return payloads_at;
}

std::vector<std::string_view> Chunk::parts() const {
  std::vector<std::string_view> views;
  views.reserve(parts_.size());
  for (const Part& part : parts_) views.push_back(part.owner ? part.outside : part.inline_bytes);
  return views;
}

Result<void> decode_all(std::string_view body,
                        const std::function<void(const Record&, size_t)>& visit) {
  size_t start = 0;
  while (start < body.size()) {
    size_t base = start;
    auto problem = protocol::read_guarded([&] {
      Reader in(body.substr(base));
      for (; !in.at_end() && in.offset() < kReaderSpan; start = base + in.offset()) {
        Record record = read_record(in);
        visit(record, start);
      }
    });
    if (problem)
      return Error{ExitCode::bad_data,
                   fmt::format("the record at byte {} of the batch: {}", start, *problem)};
  }
  return {};
}

}  // namespace millrace::records
