#include "broker/core/submissions.h"

#include <algorithm>

#include "common/protocol/writer.h"

namespace millrace::core {
namespace {

constexpr Millis kRetryLater{1000};
constexpr Millis kMinRetry{100}, kMaxRetry{60000};
constexpr double kSubmitBurstSeconds = 1;  // of --submit-rate-per-producer
// Bytes of bookkeeping about a new job, at most: its slot, two timers, a run of the ready list. And
// what the first job of a chunk of the table takes.
constexpr uint64_t kMostOfAJob = 320;
constexpr uint64_t kChunkOfJobs = SlotTable<Job>::kChunkBytes;

// Above a limit, a tenth more is open to producers that hold little, so that one which fills the
// broker does not lock the others out: each may hold up to half of what it leaves free for them.
// The largest is refused at the limit itself, and newcomers always find something.
uint64_t room_in_reserve(uint64_t limit, uint64_t total, uint64_t own) {
  const uint64_t end = limit + limit / 10, used = total + 2 * own;
  return used >= end ? 0 : (end - used + 2) / 3;
}

}  // namespace

// What becomes of one sequence of a SUBMIT, and of how many after it.
struct Submissions::AdmissionDecision {
  enum class Kind { accept, known, matched, reject } kind = Kind::accept;
  uint64_t count = 1;
  JobId job;                // known, or matched by its idempotency key
  std::string_view reason;  // reject
  Millis retry_after{0};
  std::string message;

  static AdmissionDecision refused(uint64_t count, std::string_view reason, Millis retry_after,
                                   std::string message) {
    return {Kind::reject, count, {}, reason, retry_after, std::move(message)};
  }
};

void Submissions::on(Session& session, const Submit& message, Output& out) {
  protocol::Confirm confirm{settings_.durability, {}};
  protocol::Reject reject;
  for (uint64_t i = 0; i < message.payloads.size();) {
    AdmissionDecision decision = admit(session, message, i);
    Seq seq{message.first.value + i};
    if (decision.kind == AdmissionDecision::Kind::reject) {
      context_.tally.rejected += decision.count;
      reject.ranges.push_back({seq, decision.count, decision.reason, decision.retry_after,
                               std::move(decision.message)});
    } else if (decision.kind != AdmissionDecision::Kind::accept) {
      context_.tally.known += decision.count;
      if (decision.kind == AdmissionDecision::Kind::matched) {
        make_room_for(session.peer, out);
        context_.emit(
            records::Matched{session.peer, seq, message.floor, context_.now.wall, decision.job},
            out);
      }
      confirm.ranges.push_back({seq, decision.count, decision.job, true});
    } else {
      confirm.ranges.push_back({seq, decision.count, state_.next_job(), false});
      accept(session, message, i, decision.count, out);
      if (session.key != KeyId{}) state_.producers().set_key(session.peer, session.key);
    }
    i += decision.count;
  }
  if (!confirm.ranges.empty()) sessions_.send(session, std::move(confirm), out);
  if (context_.draining && !reject.ranges.empty()) session.knows_draining = true;
  // It promises nothing, and is most wanted when nothing can be committed.
  if (!reject.ranges.empty()) sessions_.send(session, std::move(reject), out, true);
}

Submissions::AdmissionDecision Submissions::admit(const Session& session, const Submit& message,
                                                  uint64_t index) {
  uint64_t rest = message.payloads.size() - index;
  Seq seq{message.first.value + index};
  const Seq floor = std::max(message.floor, state_.producers().floor_of(session.peer));
  if (seq < floor)
    return AdmissionDecision::refused(std::min(rest, floor.value - seq.value), "below_floor",
                                      Millis(0),
                                      "the producer had reported these sequences as answered");
  auto known = state_.producers().look_up(session.peer, seq, rest);
  if (known.known) return {AdmissionDecision::Kind::known, known.count, known.first_job};
  const uint64_t unknown = rest = known.count;

  if (!message.refused_option.empty()) {
    std::string name(message.refused_option.substr(0, 64));
    return message.option_known
               ? AdmissionDecision::refused(rest, "bad_option", Millis(0),
                                            "the value of option " + name + " is not valid")
               : AdmissionDecision::refused(rest, "unknown_option", Millis(0),
                                            "option " + name + " is not known here");
  }
  if (!protocol::valid_queue_name(message.queue))
    return AdmissionDecision::refused(
        rest, "bad_queue", Millis(0),
        "a queue's name is 1 to 128 of A-Z a-z 0-9 . _ : - and is neither . nor ..");
  if (!message.keys.empty()) {
    rest = 1;
    if (auto job = state_.job_of_key(message.queue, message.keys[index], context_.now.wall)) {
      if (!state_.producers().has_room_for(session.peer, message.floor, seq, *job))
        return floor_too_low(unknown);  // behind the gap that this leaves each needs a run, too
      return {AdmissionDecision::Kind::matched, 1, *job};
    }
  }
  if (!state_.producers().has_room_for(session.peer, message.floor, seq, state_.next_job()))
    return floor_too_low(unknown);
  return admit_room(session, message, index, rest);
}

Submissions::AdmissionDecision Submissions::floor_too_low(uint64_t count) const {
  return AdmissionDecision::refused(
      count, "floor_too_low", kRetryLater,
      "the sequences above this producer's floor make too many runs (" +
          std::to_string(kMaxRunsOfProducer) + " of one producer, " +
          std::to_string(kMaxSequenceRuns) +
          " of all): it has to raise its floor to its lowest sequence without an answer");
}

Submissions::AdmissionDecision Submissions::admit_room(const Session& session,
                                                       const Submit& message, uint64_t index,
                                                       uint64_t rest) {
  if (context_.draining)
    return AdmissionDecision::refused(rest, "draining", kRetryLater, "the broker is stopping");
  if (disk_full_)
    return AdmissionDecision::refused(
        rest, "disk_full", kRetryLater,
        "the journal's disk has reached its reserve, or can't be written to at the moment");
  if (memory_short_)
    return AdmissionDecision::refused(rest, "memory_full", kRetryLater,
                                      "the broker's host gives it no more memory for the moment");
  if (message.payloads[index].size() > settings_.max_job_size)
    return AdmissionDecision::refused(
        1, "too_large", Millis(0),
        std::to_string(message.payloads[index].size()) + " bytes; the limit is " +
            std::to_string(settings_.max_job_size) + " (--max-job-size of the broker)");
  uint64_t room = UINT64_MAX;
  if (auto refused = admit_quota(session, rest, &room)) return *std::move(refused);
  if (auto refused = admit_limits(session, rest, &room)) return *std::move(refused);
  const auto known = state_.find_queue(message.queue);
  if (!known && !queues_.may_make(maker_of(session))) return too_many_queues(session, rest);
  const Queue no_queue(nullptr), &queue = known ? state_.queues()[*known] : no_queue;
  if (const uint64_t most = queue.settings.max_length; most > 0) {
    if (queue.length() >= most)
      return AdmissionDecision::refused(
          rest, "queue_full", retry_after(most / 10 + 1),
          "the queue holds " + std::to_string(queue.length()) + " jobs (its max_length)");
    room = std::min(room, most - queue.length());
  }
  uint64_t count = 1;
  while (count < std::min(rest, room) &&
         message.payloads[index + count].size() <= settings_.max_job_size)
    ++count;
  return {AdmissionDecision::Kind::accept, count};
}

Submissions::AdmissionDecision Submissions::too_many_queues(const Session& session,
                                                            uint64_t rest) const {
  return AdmissionDecision::refused(
      rest, "too_many_queues", kRetryLater,
      "there are " + std::to_string(state_.queue_count()) + " queues, " +
          std::to_string(queues_.made_by(maker_of(session))) + " of them made by this producer's " +
          (session.key == KeyId{} ? "connection" : "key") +
          " (--max-queues of the broker); empty ones are removed");
}

// A producer that reconnects goes on with what it had, and one that takes another name as well.
std::vector<Account> Submissions::submitters_of(const Session& session) {
  if (session.key != KeyId{}) return {maker_of(session)};
  return {maker_of(session), {Account::Kind::producer, 0, session.peer}};
}

uint64_t Submissions::unfinished_of(const Session& session) const {
  const Producers& producers = state_.producers();
  return session.key == KeyId{} ? producers.live_of(session.peer) : producers.live_of(session.key);
}

namespace {

// Of whom a quota speaks.
const char* owner_of(const Session& session) {
  return session.key == KeyId{} ? "this producer" : "this producer's key";
}

}  // namespace

// What this producer or its key may have, whatever the others hold.
std::optional<Submissions::AdmissionDecision> Submissions::admit_quota(const Session& session,
                                                                       uint64_t rest,
                                                                       uint64_t* room) {
  if (const uint64_t most = settings_.max_queued_per_producer; most > 0) {
    const uint64_t own = unfinished_of(session);
    if (own >= most)
      return AdmissionDecision::refused(
          rest, "quota", retry_after(most / 10 + 1),
          std::string(owner_of(session)) + " has " + std::to_string(own) +
              " unfinished jobs (--max-queued-per-producer of the broker)");
    *room = std::min(*room, most - own);
  }
  if (const uint64_t rate = settings_.submit_rate_per_producer; rate > 0) {
    const double tokens = submit_tokens(session);
    if (tokens < 1) {
      const double wanted = std::min(double(rest), double(rate) * kSubmitBurstSeconds);
      const Millis wait(int64_t((wanted - tokens) / double(rate) * 1000) + 1);
      return AdmissionDecision::refused(
          rest, "quota", std::clamp(wait, kMinRetry, kMaxRetry),
          std::string(owner_of(session)) + " submits more than " + std::to_string(rate) +
              " jobs a second (--submit-rate-per-producer of the broker)");
    }
    *room = std::min(*room, uint64_t(tokens));
  }
  return std::nullopt;
}

// What all producers may have together.
std::optional<Submissions::AdmissionDecision> Submissions::admit_limits(const Session& session,
                                                                        uint64_t rest,
                                                                        uint64_t* room) {
  const uint64_t live = state_.live_jobs(), own = unfinished_of(session);
  uint64_t more = settings_.max_queued - std::min(live, settings_.max_queued);
  if (!queued_mark_.open(live)) more = room_in_reserve(settings_.max_queued, live, own);
  if (more == 0)
    return AdmissionDecision::refused(
        rest, "queue_full", retry_after(live - std::min(live, queued_mark_.low())),
        std::to_string(live) + " jobs are queued, " + std::to_string(own) + " of them of " +
            owner_of(session) + " (--max-queued of the broker)");
  *room = std::min(*room, more);
  const uint64_t memory = state_.memory_bytes();
  if (memory_mark_.open(memory)) return std::nullopt;
  const uint64_t jobs = std::max<uint64_t>(1, live + state_.dead().size());
  more = room_in_reserve(settings_.max_memory, memory + kChunkOfJobs, own * (memory / jobs)) /
         kMostOfAJob;
  if (more == 0)
    return AdmissionDecision::refused(
        rest, "memory_full", retry_after(live / 10),
        "the broker's memory for the state of jobs is at its limit (--max-memory of the broker)");
  *room = std::min(*room, more);
  return std::nullopt;
}

// Of the one that has fewest, filled up to now.
double Submissions::submit_tokens(const Session& session) {
  const double burst =
      std::max(1.0, double(settings_.submit_rate_per_producer) * kSubmitBurstSeconds);
  double fewest = burst;
  for (const Account& account : submitters_of(session)) {
    auto [found, is_new] = rates_.try_emplace(account, SubmitRate{burst, context_.now.mono});
    SubmitRate& rate = found->second;
    const double seconds = std::chrono::duration<double>(context_.now.mono - rate.refilled).count();
    rate.tokens =
        std::min(burst, rate.tokens + seconds * double(settings_.submit_rate_per_producer));
    rate.refilled = context_.now.mono;
    fewest = std::min(fewest, rate.tokens);
  }
  return fewest;
}

// Of what submit_tokens() has just told.
void Submissions::take_submit_tokens(const Session& session, uint64_t jobs) {
  for (const Account& account : submitters_of(session)) rates_.at(account).tokens -= double(jobs);
}

// Whoever has been quiet for long enough has its whole burst again, as a newcomer has.
void Submissions::tick() {
  measure_drain();
  const auto full = std::chrono::duration<double>(kSubmitBurstSeconds);
  std::erase_if(
      rates_, [&](const auto& entry) { return context_.now.mono - entry.second.refilled > full; });
}

void Submissions::begin() {
  measured_ = context_.now.mono;
  ended_before_ = state_.counts().done;
}

// How fast jobs end, for the time that a REJECT names.
void Submissions::measure_drain() {
  const double seconds = std::chrono::duration<double>(context_.now.mono - measured_).count();
  if (seconds < 0.2) return;
  const records::Counts& counts = state_.counts();
  const uint64_t ended = counts.done + counts.cancelled + counts.expired;
  const double rate = double(ended - std::min(ended, ended_before_)) / seconds;
  drain_rate_ = 0.7 * drain_rate_ + 0.3 * rate;
  ended_before_ = ended;
  measured_ = context_.now.mono;
}

// When so many jobs will have ended, at the rate of late.
Millis Submissions::retry_after(uint64_t jobs) const {
  if (drain_rate_ < 1) return kRetryLater;
  return std::clamp(Millis(int64_t(double(jobs) / drain_rate_ * 1000)), kMinRetry, kMaxRetry);
}

// Before a producer is remembered that was not.
void Submissions::make_room_for(const Uuid& producer, Output& out) {
  const Producers& producers = state_.producers();
  if (producers.knows(producer)) return;
  const Uuid* oldest =
      producers.to_forget([&](const Uuid& id) { return sessions_.of_peer(id) != nullptr; });
  if (oldest) context_.emit(records::ProducerGone{*oldest}, out);
}

void Submissions::accept(const Session& session, const Submit& message, uint64_t first,
                         uint64_t count, Output& out) {
  make_room_for(session.peer, out);
  queues_.make(maker_of(session), message.queue);
  if (settings_.submit_rate_per_producer > 0) take_submit_tokens(session, count);
  records::Accepted record;
  record.first_job = state_.next_job();
  record.producer = session.peer;
  record.first_seq = {message.first.value + first};
  record.floor = message.floor;
  record.time = context_.now.wall;
  record.queue = message.queue;
  record.report = message.options.report;
  record.max_attempts = message.options.max_attempts;
  record.priority = message.options.priority;
  if (message.options.delay.count() > 0) record.due = context_.now.wall + message.options.delay;
  const Millis own_ttl = message.options.ttl,
               ttl = own_ttl.count() > 0
                         ? own_ttl
                         : state_.queues()[state_.queue_index(message.queue)].settings.ttl;
  if (ttl.count() > 0) record.expires = context_.now.wall + ttl;
  if (!message.keys.empty())
    record.keys.assign(message.keys.begin() + long(first),
                       message.keys.begin() + long(first + count));
  if (count == message.payloads.size()) {
    record.payloads = message.payloads;
    record.payload_array = message.payload_array;
    return context_.emit(std::move(record), out);
  }
  // A part of the message: its payload array has to be packed anew.
  protocol::Writer array;
  array.array(count);
  std::vector<size_t> ends;
  for (uint64_t i = first; i < first + count; ++i) {
    array.bin(message.payloads[i]);
    ends.push_back(array.size());
  }
  auto bytes = std::make_shared<const std::string>(array.take());
  for (uint64_t i = 0; i < count; ++i) {
    size_t size = message.payloads[first + i].size();
    record.payloads.push_back(std::string_view(*bytes).substr(ends[i] - size, size));
  }
  record.payload_array = *bytes;
  context_.emit(std::move(record), out, bytes);
}

// What is not kept is not written down: a flood of these costs no disk.
void Submissions::on(Session&, const protocol::Collected& message, Output& out) {
  records::Collected record;
  for (const JobRange& range : distinct(message.jobs)) {
    auto kept = state_.results().lower_bound(range.first);
    for (; kept != state_.results().end() && kept->first.value - range.first.value < range.count;
         ++kept) {
      const uint64_t id = kept->first.value;
      if (!record.runs.empty() && record.runs.back().first.value + record.runs.back().count == id) {
        ++record.runs.back().count;
      } else {
        record.runs.push_back({{id}, 1});
      }
      ++context_.work;
    }
  }
  if (!record.runs.empty()) context_.emit(std::move(record), out);
}

}  // namespace millrace::core
