#include <fmt/format.h>

#include "broker/records/record_codec.h"
#include "broker/records/record_type.h"
#include "common/protocol/reader.h"

namespace millrace::records {
namespace {

using protocol::as_array;
using protocol::as_bool;
using protocol::as_bytes;
using protocol::as_uint;
using protocol::Malformed;
using protocol::Reader;

// The reader's zone grows with what it has read; a new one is taken after so many bytes.
constexpr size_t kReaderSpan = 256 << 10;

void enter(Reader& in, size_t fields) {
  if (in.enter_array() != fields) throw Malformed("an array has the wrong number of fields");
}

uint64_t read_uint(Reader& in, uint64_t max = UINT64_MAX) { return as_uint(in.next(), max); }
WallMs read_time(Reader& in) { return wall_from_int(int64_t(read_uint(in, INT64_MAX))); }
Millis read_millis(Reader& in) { return Millis(int64_t(read_uint(in, protocol::kMaxDelayMs))); }
std::string_view read_bytes(Reader& in) { return as_bytes(in.next()); }
Uuid read_uuid(Reader& in) {
  std::string_view bytes = read_bytes(in);
  if (bytes.size() != 16) throw Malformed("an ID must have 16 bytes");
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
void read(Reader& in, QueueTotal* total) {
  enter(in, 2);
  total->queue = read_bytes(in);
  total->done = read_uint(in);
}
void read(Reader& in, KnownKey* key) {
  enter(in, 3);
  key->key = read_bytes(in);
  key->job = {read_uint(in)};
  key->time = read_time(in);
}
void read(Reader& in, Absence* absence) {
  enter(in, 2);
  absence->worker = read_uuid(in);
  absence->periods = uint8_t(read_uint(in, kGracePeriods));
}
void read(Reader& in, AttemptFailure* trouble) {
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

// `fields` counts those that a later version added at the end; a record of an older one lacks them.
void read(Reader& in, size_t fields, Started* r) {
  r->incarnation = read_uint(in);
  r->time = read_time(in);
  if (fields > 2) r->first_epoch = {read_uint(in)};
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
    throw Malformed("the number of keys differs from the number of payloads");
  check_span(r->first_job.value, payloads.size);
  check_span(r->first_seq.value, payloads.size);
}
void read(Reader& in, Leased* r) {
  r->worker = read_uuid(in);
  r->first_epoch = {read_uint(in)};
  read_list(in, &r->runs);
}
void read(Reader& in, size_t fields, Done* r) {
  r->time = read_time(in);
  read_list(in, &r->runs);
  read_list(in, &r->results);
  if (fields > 3) read_list(in, &r->totals);
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
void read(Reader& in, size_t fields, Checkpoint* r) {
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
  if (fields <= 11) return;
  read_list(in, &r->totals.emplace());
  r->history_start = {read_uint(in)};
  read_list(in, &r->absent);
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
void read(Reader& in, Requeued* r) {
  r->time = read_time(in);
  read_list(in, &r->runs);
}

bool can_be_relocated(protocol::JobState state) {
  using protocol::JobState;
  return state == JobState::dead || (state != JobState::unknown && !protocol::is_end(state));
}
void read(Reader& in, Relocated* r) {
  r->job = {read_uint(in)};
  r->producer = read_uuid(in);
  r->queue = read_bytes(in);
  r->state = read_enum(in, protocol::JobState::expired);
  if (!can_be_relocated(r->state)) throw Malformed("a relocated job has not ended");
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

void read(Reader& in, ResultRetained* r) {
  r->job = {read_uint(in)};
  r->attempts = uint16_t(read_uint(in, UINT16_MAX));
  r->time = read_time(in);
  r->result = read_bytes(in);
}

void read(Reader& in, HistoryTrimmed* r) { r->below = {read_uint(in)}; }
void read(Reader& in, Absent* r) { read_list(in, &r->workers); }

// Of a record that had `oldest` fields in version 1, and has `newest` today (0: as many).
template <typename Item>
Record read_as(Reader& in, size_t fields, size_t oldest, size_t newest = 0) {
  if (fields != 1 + oldest && fields != 1 + newest)
    throw Malformed("the record has the wrong number of fields");
  Item item;
  if constexpr (requires { read(in, fields, &item); }) {
    read(in, fields - 1, &item);
  } else {
    read(in, &item);
  }
  return item;
}

Record read_record(Reader& in) {
  size_t fields = in.enter_array();
  if (fields == 0) throw Malformed("an empty record");
  uint64_t type = read_uint(in);
  switch (type <= uint64_t(Type::absent) ? Type(type) : Type(0)) {
    case Type::started:
      return read_as<Started>(in, fields, 2, 3);
    case Type::accepted:
      return read_as<Accepted>(in, fields, 13);
    case Type::leased:
      return read_as<Leased>(in, fields, 3);
    case Type::done:
      return read_as<Done>(in, fields, 3, 4);
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
      return read_as<Checkpoint>(in, fields, 11, 14);
    case Type::matched:
      return read_as<Matched>(in, fields, 5);
    case Type::cancelled:
      return read_as<Cancelled>(in, fields, 3);
    case Type::expired:
      return read_as<Expired>(in, fields, 1);
    case Type::requeued:
      return read_as<Requeued>(in, fields, 2);
    case Type::queue_set:
      return read_as<QueueSet>(in, fields, 1);
    case Type::relocated:
      return read_as<Relocated>(in, fields, 16);
    case Type::result_retained:
      return read_as<ResultRetained>(in, fields, 4);
    case Type::history_trimmed:
      return read_as<HistoryTrimmed>(in, fields, 1);
    case Type::absent:
      return read_as<Absent>(in, fields, 1);
  }
  throw Malformed(fmt::format("record type {} is unknown", type));
}

}  // namespace

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
