#include <algorithm>

#include "common/protocol/codec.h"
#include "common/protocol/plain_reader.h"
#include "common/protocol/reader.h"

namespace millrace::protocol {
namespace {

Lease as_lease(const msgpack::object& object) {
  const auto& pair = as_array(object, 2, SIZE_MAX);
  return {{as_uint(pair.ptr[0])}, {as_uint(pair.ptr[1])}};
}

JobRange as_range(const msgpack::object& object) {
  const auto& pair = as_array(object, 2, SIZE_MAX);
  JobRange range{{as_uint(pair.ptr[0])}, as_uint(pair.ptr[1])};
  if (range.count > UINT64_MAX - range.first.value)
    throw Malformed("a range of jobs ends above 2^64");
  return range;
}

template <typename Item, typename Read>
std::vector<Item> as_list(const msgpack::object& object, size_t max, Read&& read) {
  const auto& array = as_array(object, 0, max);
  std::vector<Item> items;
  items.reserve(array.size);
  for (uint32_t i = 0; i < array.size; ++i) items.push_back(read(array.ptr[i]));
  return items;
}

std::vector<Lease> as_leases(const msgpack::object& object, size_t max) {
  return as_list<Lease>(object, max, as_lease);
}

// Names as queues have them.
std::vector<std::string_view> as_names(const msgpack::object& object, size_t max,
                                       const char* otherwise,
                                       bool (*valid)(std::string_view) = valid_queue_name) {
  return as_list<std::string_view>(object, max, [=](const msgpack::object& item) {
    std::string_view name = as_bytes(item);
    if (!valid(name)) throw Malformed(otherwise);
    return name;
  });
}

Millis as_millis(const msgpack::object& object) {
  return Millis(int64_t(as_uint(object, INT64_MAX / 1000000)));
}

bool as_optional(const msgpack::object& object, std::string_view* bytes) {
  if (object.is_nil()) return false;
  *bytes = as_bytes(object);
  return true;
}

Report as_report(std::string_view name, bool* ok) {
  if (name == "outcome") return Report::outcome;
  if (name == "result") return Report::result;
  *ok = name == "none";
  return Report::none;
}

bool read_small(const msgpack::object& value, uint64_t min, uint64_t max, uint64_t* out) {
  if (value.type != msgpack::type::POSITIVE_INTEGER || value.via.u64 < min || value.via.u64 > max)
    return false;
  *out = value.via.u64;
  return true;
}

bool read_keys(const msgpack::object& value, std::vector<std::string_view>* keys) {
  if (value.type != msgpack::type::ARRAY) return false;
  for (uint32_t i = 0; i < value.via.array.size; ++i) {
    keys->push_back(as_bytes(value.via.array.ptr[i]));
    if (keys->back().empty() || keys->back().size() > kMaxKey) return false;
  }
  return true;
}

enum class OptionVerdict { good, bad_value, unknown };

OptionVerdict read_option(std::string_view key, const msgpack::object& value, Submit* submit) {
  SubmitOptions& options = submit->options;
  uint64_t number = 0;
  bool good = true;
  if (key == "report") {
    good = value.type == msgpack::type::STR;
    if (good) options.report = as_report(as_bytes(value), &good);
  } else if (key == "max_attempts") {
    good = read_small(value, 1, UINT8_MAX, &number);
    options.max_attempts = uint8_t(number);
  } else if (key == "priority") {
    good = read_small(value, 0, kMaxPriority, &number);
    options.priority = uint8_t(number);
  } else if (key == "delay_ms") {
    good = read_small(value, 0, kMaxDelayMs, &number);
    options.delay = Millis(int64_t(number));
  } else if (key == "ttl_ms") {
    good = read_small(value, 1, kMaxDelayMs, &number);
    options.ttl = Millis(int64_t(number));
  } else if (key == "keys") {
    good = read_keys(value, &submit->keys);
  } else {
    return OptionVerdict::unknown;
  }
  return good ? OptionVerdict::good : OptionVerdict::bad_value;
}

// Options that this broker can't honour are answered with a REJECT, not with an ERROR.
void read_options(const msgpack::object& object, Submit* submit) {
  const auto& map = as_map(object);
  for (uint32_t i = 0; i < map.size; ++i) {
    std::string_view key = as_bytes(map.ptr[i].key);
    OptionVerdict verdict = read_option(key, map.ptr[i].val, submit);
    if (verdict == OptionVerdict::good) continue;
    submit->refused_option = key;
    submit->option_known = verdict == OptionVerdict::bad_value;
  }
}

// Fields of one message, in order; `left` counts what the array still holds.
class Fields {
 public:
  Fields(Reader& in, size_t left) : in_(in), left_(left) {}
  const msgpack::object& next() {
    if (left_ == 0) throw Malformed("a field is missing");
    --left_;
    return in_.next();
  }
  // A list whose items are of the usual shape: `read` takes one, or returns false. Nothing is read,
  // and false returned, when one is not.
  template <typename Item, typename Read>
  bool next_plain(size_t max, std::vector<Item>* items, Read&& read) {
    PlainReader in(in_.rest());
    size_t size = 0;
    if (left_ == 0 || !in.array(&size) || size > std::min(max, in.left())) return false;
    items->reserve(size);
    for (size_t i = 0; i < size; ++i) {
      if (read(in, &items->emplace_back())) continue;
      items->clear();
      return false;
    }
    --left_;
    in_.skip(in.offset());
    return true;
  }
  bool has_next() const { return left_ > 0; }
  std::string_view element() const { return in_.element(); }
  // What an ERROR that answers this message names.
  void set_about(About::Kind kind, uint64_t number) { about_ = {kind, number}; }
  const std::optional<About>& about() const { return about_; }
  // What a later version may have added at the end.
  void skip_rest() {
    while (left_ > 0) next();
    if (!in_.at_end()) throw Malformed("bytes follow the message");
  }

 private:
  Reader& in_;
  size_t left_;
  std::optional<About> about_;
};

Hello read_hello(Fields& in) {
  std::string_view producer = as_bytes(in.next());
  if (producer.size() != 16) throw Malformed("a producer ID must have 16 bytes");
  return {Uuid::from_bytes(producer)};
}

Submit read_submit(Fields& in) {
  Submit submit;
  submit.floor = {as_uint(in.next())};
  submit.first = {as_uint(in.next())};
  in.set_about(About::Kind::seq, submit.first.value);
  submit.queue = as_bytes(in.next());
  read_options(in.next(), &submit);
  submit.payloads =
      as_list<std::string_view>(in.next(), kMaxJobsPerMessage,
                                [](const msgpack::object& object) { return as_bytes(object); });
  submit.payload_array = in.element();
  if (submit.payloads.empty()) throw Malformed("a SUBMIT must contain at least one payload");
  if (!submit.keys.empty() && submit.keys.size() != submit.payloads.size())
    submit.refused_option = "keys";
  if (submit.first.value == 0 || submit.first.value > UINT64_MAX - kMaxJobsPerMessage)
    throw Malformed("first_seq is out of range: sequences begin at 1");
  return submit;
}

std::vector<JobRange> read_ranges(Fields& in) {
  auto ranges = as_list<JobRange>(in.next(), kMaxRangesPerMessage, as_range);
  uint64_t jobs = 0;
  for (const JobRange& range : ranges) {
    if (range.count > kMaxJobsPerQuery || (jobs += range.count) > kMaxJobsPerQuery)
      throw Malformed("more than " + std::to_string(kMaxJobsPerQuery) + " jobs in one message");
  }
  return ranges;
}

Register read_register(Fields& in) {
  Register message;
  std::string_view worker = as_bytes(in.next());
  if (worker.size() != 16) throw Malformed("a worker ID must have 16 bytes");
  message.worker = Uuid::from_bytes(worker);
  message.name = as_bytes(in.next()).substr(0, kMaxWorkerName);
  message.queues =
      as_names(in.next(), kMaxQueuesPerWorker, "a queue's name is not valid", valid_subscription);
  message.threads = as_uint(in.next());
  message.claims = as_leases(in.next(), kMaxClaims);
  if (in.has_next()) message.labels = as_names(in.next(), kMaxLabels, "a label is not valid");
  return message;
}

uint64_t read_batch(Fields& in) {
  uint64_t batch = as_uint(in.next());
  in.set_about(About::Kind::batch, batch);
  return batch;
}

bool read_plain_done(PlainReader& in, Done::Entry* entry) {
  size_t size = 0;
  const bool has_lease = in.array(&size) && size == 3 && in.uint(&entry->lease.job.value) &&
                         in.uint(&entry->lease.epoch.value);
  if (!has_lease || in.nil()) return has_lease;
  return entry->has_result = in.bin(&entry->result);
}

Done read_done(Fields& in) {
  Done done{read_batch(in), {}};
  if (in.next_plain<Done::Entry>(kMaxJobsPerMessage, &done.jobs, read_plain_done)) return done;
  done.jobs =
      as_list<Done::Entry>(in.next(), kMaxJobsPerMessage, [](const msgpack::object& object) {
        const auto& item = as_array(object, 3, SIZE_MAX);
        Done::Entry entry;
        entry.lease = {{as_uint(item.ptr[0])}, {as_uint(item.ptr[1])}};
        entry.has_result = as_optional(item.ptr[2], &entry.result);
        return entry;
      });
  return done;
}

FailKind as_fail_kind(std::string_view name) {
  if (name == "retryable") return FailKind::retryable;
  if (name == "permanent") return FailKind::permanent;
  if (name == "crash") return FailKind::crash;
  throw Malformed("the kind of a FAIL must be retryable, permanent or crash");
}

Fail read_fail(Fields& in) {
  Fail fail{read_batch(in), {}};
  fail.jobs =
      as_list<Fail::Entry>(in.next(), kMaxJobsPerMessage, [](const msgpack::object& object) {
        const auto& item = as_array(object, 4, SIZE_MAX);
        return Fail::Entry{{{as_uint(item.ptr[0])}, {as_uint(item.ptr[1])}},
                           as_fail_kind(as_bytes(item.ptr[2])),
                           as_bytes(item.ptr[3]).substr(0, kMaxErrorText)};
      });
  return fail;
}

Release read_release(Fields& in) {
  Release release{read_batch(in), {}};
  release.jobs = as_leases(in.next(), kMaxJobsPerMessage);
  return release;
}

Welcome read_welcome(Fields& in) {
  Welcome welcome;
  const auto& map = as_map(in.next());
  for (uint32_t i = 0; i < map.size; ++i) {
    std::string_view key = as_bytes(map.ptr[i].key);
    const msgpack::object& value = map.ptr[i].val;
    if (key == "broker") welcome.broker = {uint32_t(as_uint(value, UINT32_MAX))};
    if (key == "incarnation") welcome.incarnation = as_uint(value);
    if (key == "heartbeat_ms") welcome.heartbeat = as_millis(value);
    if (key == "liveness") welcome.liveness = as_uint(value);
    if (key == "max_job_size") welcome.max_job_size = as_uint(value);
    if (key == "window_jobs") welcome.window_jobs = as_uint(value);
    if (key == "window_bytes") welcome.window_bytes = as_uint(value);
    if (key == "durability") welcome.durability = as_bytes(value);
    if (key == "lease_ms") welcome.lease = as_millis(value);
  }
  welcome.stale = as_leases(in.next(), kMaxClaims);
  return welcome;
}

Confirm read_confirm(Fields& in) {
  Confirm confirm{as_bytes(in.next()), {}};
  confirm.ranges = as_list<Confirm::Range>(in.next(), SIZE_MAX, [](const msgpack::object& object) {
    const auto& item = as_array(object, 4, SIZE_MAX);
    return Confirm::Range{
        {as_uint(item.ptr[0])}, as_uint(item.ptr[1]), {as_uint(item.ptr[2])}, as_bool(item.ptr[3])};
  });
  return confirm;
}

Reject read_reject(Fields& in) {
  return {as_list<Reject::Range>(in.next(), SIZE_MAX, [](const msgpack::object& object) {
    const auto& item = as_array(object, 5, SIZE_MAX);
    return Reject::Range{{as_uint(item.ptr[0])},
                         as_uint(item.ptr[1]),
                         as_bytes(item.ptr[2]),
                         as_millis(item.ptr[3]),
                         std::string(as_bytes(item.ptr[4]))};
  })};
}

JobState as_state(const msgpack::object& object) {
  JobState state;
  if (!parse_job_state(as_bytes(object), &state)) throw Malformed("a job state is unknown");
  return state;
}

Outcome read_outcome(Fields& in) {
  return {as_list<Outcome::Entry>(in.next(), SIZE_MAX, [](const msgpack::object& object) {
    const auto& item = as_array(object, 6, SIZE_MAX);
    Outcome::Entry entry;
    entry.jobs = {{as_uint(item.ptr[0])}, as_uint(item.ptr[1])};
    entry.state = as_state(item.ptr[2]);
    entry.attempts = as_uint(item.ptr[3]);
    entry.has_result = as_optional(item.ptr[4], &entry.result);
    entry.has_error = as_optional(item.ptr[5], &entry.error);
    return entry;
  })};
}

States read_states(Fields& in) {
  return {as_list<States::Range>(in.next(), SIZE_MAX, [](const msgpack::object& object) {
    const auto& item = as_array(object, 3, SIZE_MAX);
    return States::Range{{{as_uint(item.ptr[0])}, as_uint(item.ptr[1])}, as_state(item.ptr[2])};
  })};
}

LeaseGrant::Entry as_grant_entry(const msgpack::object& object) {
  const auto& item = as_array(object, 5, SIZE_MAX);
  return LeaseGrant::Entry{{{as_uint(item.ptr[0])}, {as_uint(item.ptr[1])}},
                           as_uint(item.ptr[2]),
                           as_bool(item.ptr[3]),
                           as_bytes(item.ptr[4])};
}

bool read_plain_grant(PlainReader& in, LeaseGrant::Entry* entry) {
  size_t size = 0;
  return in.array(&size) && size == 5 && in.uint(&entry->lease.job.value) &&
         in.uint(&entry->lease.epoch.value) && in.uint(&entry->attempt) &&
         in.boolean(&entry->wants_result) && in.bin(&entry->payload);
}

LeaseGrant read_grant(Fields& in) {
  LeaseGrant grant{as_bytes(in.next()), {}};
  if (!in.next_plain<LeaseGrant::Entry>(SIZE_MAX, &grant.jobs, read_plain_grant))
    grant.jobs = as_list<LeaseGrant::Entry>(in.next(), SIZE_MAX, as_grant_entry);
  grant.lease = as_millis(in.next());
  return grant;
}

// Nothing where it is missing, or of a kind that a later version has.
std::optional<About> read_about(Fields& in) {
  if (!in.has_next()) return std::nullopt;
  const msgpack::object& field = in.next();
  if (field.is_nil()) return std::nullopt;
  const auto& pair = as_array(field, 2, SIZE_MAX);
  std::string_view kind = as_bytes(pair.ptr[0]);
  if (kind == "seq") return About{About::Kind::seq, as_uint(pair.ptr[1])};
  if (kind == "batch") return About{About::Kind::batch, as_uint(pair.ptr[1])};
  if (kind == "broker") return About{About::Kind::broker, as_uint(pair.ptr[1])};
  return std::nullopt;
}

ErrorReply read_error(Fields& in) {
  ErrorReply reply{as_bytes(in.next()), std::string(as_bytes(in.next()))};
  reply.about = read_about(in);
  return reply;
}

Credit read_credit(Fields& in) {
  Credit credit{as_uint(in.next())};
  if (in.has_next()) credit.threads = as_uint(in.next());
  return credit;
}

bool read_body(Type type, Fields& in, FromClient* message) {
  switch (type) {
    case Type::hello:
      *message = read_hello(in);
      return true;
    case Type::submit:
      *message = read_submit(in);
      return true;
    case Type::query:
      *message = Query{read_ranges(in)};
      return true;
    case Type::collected:
      *message = Collected{read_ranges(in)};
      return true;
    case Type::cancel:
      *message = Cancel{read_ranges(in)};
      return true;
    case Type::register_worker:
      *message = read_register(in);
      return true;
    case Type::credit:
      *message = read_credit(in);
      return true;
    case Type::done:
      *message = read_done(in);
      return true;
    case Type::fail:
      *message = read_fail(in);
      return true;
    case Type::release:
      *message = read_release(in);
      return true;
    case Type::extend:
      *message = Extend{as_leases(in.next(), kMaxJobsPerMessage)};
      return true;
    case Type::heartbeat:
      *message = Heartbeat{};
      return true;
    case Type::bye:
      *message = Bye{};
      return true;
    default:
      return false;
  }
}

bool read_body(Type type, Fields& in, FromBroker* message) {
  switch (type) {
    case Type::welcome:
      *message = read_welcome(in);
      return true;
    case Type::confirm:
      *message = read_confirm(in);
      return true;
    case Type::reject:
      *message = read_reject(in);
      return true;
    case Type::outcome:
      *message = read_outcome(in);
      return true;
    case Type::states:
      *message = read_states(in);
      return true;
    case Type::lease:
      *message = read_grant(in);
      return true;
    case Type::done_ok:
      *message = DoneOk{as_uint(in.next())};
      return true;
    case Type::stale:
      *message = Stale{as_leases(in.next(), SIZE_MAX)};
      return true;
    case Type::cancelled:
      *message = Cancelled{as_leases(in.next(), SIZE_MAX)};
      return true;
    case Type::recall:
      *message = Recall{as_leases(in.next(), SIZE_MAX)};
      return true;
    case Type::heartbeat:
      *message = Heartbeat{};
      return true;
    case Type::reregister:
      *message = Reregister{};
      return true;
    case Type::error:
      *message = read_error(in);
      return true;
    default:
      return false;
  }
}

// Where the session stands in a message of any version; 0 if it isn't there.
SessionId read_session_behind_type(Fields& in) {
  SessionId session;
  (void)read_guarded([&] {
    in.next();
    session = {as_uint(in.next())};
  });
  return session;
}

// Of another version, only the first element is known to mean what it means here.
void check_version(Fields& in, Fault* fault) {
  uint64_t version = as_uint(in.next());
  if (version == kVersion) return;
  fault->code = "version";
  fault->session = read_session_behind_type(in);
  throw Malformed("protocol version " + std::to_string(version) +
                  " is not supported; this is version " + std::to_string(kVersion));
}

template <typename Message>
void read_message(Fields& in, Envelope<Message>* envelope, Fault* fault) {
  check_version(in, fault);
  uint64_t type = as_uint(in.next());
  fault->session = envelope->session = {as_uint(in.next())};
  if (type > UINT8_MAX || !read_body(Type(type), in, &envelope->message)) {
    fault->code = "unknown_type";
    throw Malformed("message type " + std::to_string(type) + " is unknown");
  }
  in.skip_rest();
}

void name_subject(const std::optional<About>& about, Fault* fault) {
  fault->about = about;
  if (!about) return;
  fault->message += about->kind == About::Kind::seq ? " (SUBMIT of first_seq " : " (batch ";
  fault->message += std::to_string(about->number) + ")";
}

template <typename Message>
Decoded<Message> decode_any(std::string_view frame) {
  Fault fault{{}, "malformed", ""};
  Envelope<Message> envelope;
  Reader in(frame);
  std::optional<Fields> fields;
  auto sentence = read_guarded([&] {
    fields.emplace(in, in.enter_array());
    read_message(*fields, &envelope, &fault);
  });
  if (!sentence) return envelope;
  fault.message = *sentence;
  if (fields) name_subject(fields->about(), &fault);
  return fault;
}

}  // namespace

Decoded<FromClient> decode_from_client(std::string_view frame) {
  return decode_any<FromClient>(frame);
}
Decoded<FromBroker> decode_from_broker(std::string_view frame) {
  return decode_any<FromBroker>(frame);
}

SessionId session_of(std::string_view frame) {
  SessionId session;
  (void)read_guarded([&] {
    Reader in(frame);
    Fields fields(in, in.enter_array());
    fields.next();
    session = read_session_behind_type(fields);
  });
  return session;
}

}  // namespace millrace::protocol
