#include "producer/spool/records.h"

#include "common/base/check.h"
#include "common/protocol/codec.h"
#include "common/protocol/queue_name.h"
#include "common/protocol/reader.h"
#include "common/protocol/writer.h"
#include "producer/session/rounds.h"

namespace millrace::producer {
namespace {

using namespace protocol;

enum class RecordType : uint64_t { checkpoint = 101, put = 102, answered = 103 };

struct Encoder {
  Writer& out;

  Writer& head(RecordType type, size_t fields) {
    return out.array(1 + fields).uint(uint64_t(type));
  }
  void operator()(const SpoolCheckpoint& record) {
    head(RecordType::checkpoint, 3)
        .uint(kSpoolVersion)
        .bin(record.producer.view())
        .uint(record.run);
  }
  void operator()(const SpoolPut& record) {
    MILLRACE_CHECK(is_spoolable(record.submit.queue, record.submit.options));
    head(RecordType::put, 1).bin(protocol::encode(SessionId{0}, FromClient(record.submit)));
  }
  void operator()(const SpoolAnswered& record) {
    MILLRACE_CHECK(record.runs.size() <= kMaxRunsPerRecord);
    head(RecordType::answered, 1).array(record.runs.size());
    for (SeqRange run : record.runs) out.array(2).uint(run.first.value).uint(run.count);
  }
};

uint64_t run_of(uint64_t seq) { return seq >> kRoundShift; }

SeqRange checked(SeqRange seqs) {
  if (run_of(seqs.first.value) == 0 || number_of(seqs.first) == 0 || seqs.count == 0)
    throw Malformed("sequences should be those of a run");
  if (seqs.first.value > UINT64_MAX - seqs.count)
    throw Malformed("sequences go beyond the last one");
  return seqs;
}

SpoolCheckpoint read_checkpoint(Reader& in, size_t fields) {
  const uint64_t version = fields > 1 ? as_uint(in.next()) : 0;
  if (version != kSpoolVersion)
    throw Malformed("a spool of version " + std::to_string(version) +
                    ", and this producer reads version " + std::to_string(kSpoolVersion));
  if (fields != 4) throw Malformed("a Checkpoint should have 4 fields");
  const std::string_view producer = as_bytes(in.next());
  if (producer.size() != 16) throw Malformed("a producer's id should have 16 bytes");
  const Uuid id = Uuid::from_bytes(producer);
  return {id, as_uint(in.next(), UINT64_MAX >> kRoundShift)};
}

SpoolPut read_put(Reader& in, size_t fields) {
  if (fields != 2) throw Malformed("a Put should have 2 fields");
  auto decoded = decode_from_client(as_bytes(in.next()));
  if (const auto* fault = std::get_if<Fault>(&decoded)) throw Malformed(fault->message);
  auto& [session, message] = std::get<Envelope<FromClient>>(decoded);
  auto* submit = std::get_if<Submit>(&message);
  if (!submit || session.value != 0 || submit->floor.value != 0)
    throw Malformed("a Put should hold a SUBMIT of session 0 and floor 0");
  if (!submit->refused_option.empty() || !submit->option_known || !stored_queue_name(submit->queue))
    throw Malformed("a SUBMIT has a queue or an option that is not valid");
  SpoolPut put{std::move(*submit)};
  const SeqRange seqs = checked(put.seqs());
  if (run_of(seqs.first.value) != run_of(seqs.end().value - 1))
    throw Malformed("a Put should hold the sequences of one run");
  return put;
}

SpoolAnswered read_answered(Reader& in, size_t fields) {
  if (fields != 2) throw Malformed("an Answered should have 2 fields");
  SpoolAnswered answered;
  const auto& runs = as_array(in.next(), 1, kMaxRunsPerRecord);
  answered.runs.reserve(runs.size);
  for (uint32_t i = 0; i < runs.size; ++i) {
    const auto& run = as_array(runs.ptr[i], 2, 2);
    answered.runs.push_back(checked({{as_uint(run.ptr[0])}, as_uint(run.ptr[1])}));
  }
  return answered;
}

SpoolRecord read_record(Reader& in) {
  const size_t fields = in.enter_array();
  if (fields == 0) throw Malformed("an empty record");
  const uint64_t type = as_uint(in.next());
  switch (RecordType(type)) {
    case RecordType::checkpoint:
      return read_checkpoint(in, fields);
    case RecordType::put:
      return read_put(in, fields);
    case RecordType::answered:
      return read_answered(in, fields);
  }
  throw Malformed("record type " + std::to_string(type) + " is none of a spool's");
}

}  // namespace

uint64_t SpoolPut::bytes() const {
  uint64_t bytes = 0;
  for (std::string_view payload : submit.payloads) bytes += payload.size();
  for (std::string_view key : submit.keys) bytes += key.size();
  return bytes;
}

std::string encode(const SpoolRecord& record) {
  Writer out;
  std::visit(Encoder{out}, record);
  return out.take();
}

Result<void> decode_spool(std::string_view body, const SpoolVisit& visit, size_t* at) {
  for (size_t start = 0; start < body.size();) {
    if (at) *at = start;
    Result<void> visited;
    size_t size = 0;
    // A reader of its own for each, since it keeps what it has read.
    auto problem = read_guarded([&] {
      Reader in(body.substr(start));
      const SpoolRecord record = read_record(in);
      size = in.offset();
      visited = visit(record, {start, size});
    });
    if (problem)
      return Error{ExitCode::bad_data,
                   "the record at byte " + std::to_string(start) + " of the batch: " + *problem};
    if (!visited) return visited;
    start += size;
  }
  return {};
}

bool is_spoolable(std::string_view queue, const SubmitOptions& options) {
  auto fits = [](Millis time) {
    return time.count() >= 0 && uint64_t(time.count()) <= kMaxDelayMs;
  };
  return valid_queue_name(queue) && options.priority <= kMaxPriority && fits(options.delay) &&
         fits(options.ttl) && options.key.size() <= kMaxKey;
}

}  // namespace millrace::producer
