// The broker's rules: one deterministic state machine without I/O.
// Shape:   receive(), tick(), dispatch() → Output: records to persist, then messages to send.
//          1. Durable state changes only by emitting a record; emit() applies it at once.
//          2. A message goes out after everything emitted before it is durable, unless it is marked
//             at_once (it then promises nothing).
//          3. There is one way in which a peer is gone: close_session().
// Units:   Now carries both clocks: leases and heartbeats count monotonic time, dues wall time
// Limits:  docs/PROTOCOL.md, section 6
// Errors:  a client's mistake is answered with REJECT, STALE, ERROR or REREGISTER
// Owns:    the durable state and the sessions; nothing of the outside
// Threads: one
// Source:  etcd's raft Ready, ScyllaDB's raft fsm: persist this, then send that
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/core/bulk.h"
#include "broker/core/high_water_mark.h"
#include "broker/core/question.h"
#include "broker/core/state/account.h"
#include "broker/core/state/state.h"
#include "broker/core/subscriptions.h"
#include "common/protocol/codec.h"

namespace millrace::core {

enum class Port : uint8_t { frontend, backend };

// A connection, as the loop around the core knows it.
struct Route {
  Port port = Port::frontend;
  uint64_t id = 0;
  bool operator==(const Route&) const = default;
};

inline constexpr size_t kMaxSessionsPerConnection = 64;  // ours have one
inline constexpr uint64_t kMaxLeasesOfWorker =
    16384;  // whatever its credit: they may return at once

struct Settings {
  Millis heartbeat{1000};
  uint64_t liveness = 3;
  Millis lease{30000};
  uint8_t max_attempts = 5;
  uint8_t crash_limit = 5;
  Millis backoff_min{500};
  Millis backoff_max{300000};
  uint64_t max_job_size = protocol::kDefaultMaxJobSize;
  uint64_t max_queued = 10'000'000;         // jobs that have not ended
  uint64_t max_memory = uint64_t{4} << 30;  // bytes of bookkeeping about them
  uint64_t max_queued_per_producer = 0;     // 0: no limit
  uint64_t submit_rate_per_producer = 0;    // jobs a second; 0: no limit
  uint64_t max_queues = 1'000'000;
  Millis empty_queue_ttl{60000};  // how long a queue without anything in it stays
  RetentionLimits retention;
  uint64_t history = 100'000;  // runs of ended jobs of which it is known how they ended
  uint64_t window_jobs = 16384;
  uint64_t window_bytes = 32 << 20;
  uint64_t bulk_slice = 4096;  // jobs of a pending operation that a slice ends or looks at
  std::string_view durability = "confirmed";
};

struct OutRecord {
  Record record;
  std::shared_ptr<const void>
      owner;  // keeps what the record points to beyond the frame; may be null
};
struct Send {
  Route route;
  SessionId session;
  protocol::FromBroker message;
  bool at_once = false;
};

// What must happen next, in this order: persist the records, then (unless at_once) send. Views in
// it hold until the next call into the core, and as long as the frame that was received.
struct Output {
  std::vector<OutRecord> records;
  std::vector<Send> sends;
  std::list<std::string> texts;  // results and errors that OUTCOMEs among the sends point into
  void clear() { records.clear(), sends.clear(), texts.clear(); }
};

struct Session {
  SessionId id;
  Route route;
  KeyId key;  // that opened it, and that alone may use it
  Mono last_received, last_sent;
  bool reachable = true;
  bool is_worker = false;
  bool knows_draining = false;  // a submission of it was rejected so
  Uuid peer;
  // Workers
  std::string name;
  std::vector<std::string> labels;
  std::vector<std::string> subscriptions;  // names of queues, and prefixes that end in '*'
  WorkerIndex worker = 0;
  double pass = 0;  // of the queue that it was last granted jobs of
  uint64_t threads = 0, credit = 0;
  Mono last_suspect{};  // when it was given one, or claimed what it held
  Epoch careful_up_to;  // while it holds a lease up to this one, it prefetches none; 0: it may
  uint64_t done = 0, failed = 0;
  uint64_t granted_bytes = 0, granted_in = 0;  // in the dispatch of this number
  // Producers
  std::deque<Question> questions;  // the first is being answered
};

// Where a job is, and what it waits for.
struct Explanation {
  JobState state = JobState::unknown;
  std::string why;  // a sentence
};

// Since this process began; for people, not durable.
struct Tally {
  uint64_t known = 0, rejected = 0, stale = 0, returned = 0, errors = 0;
};

class Core {
 public:
  Core(Settings settings, uint64_t seed);

  // Recovery: records in order, then begin(), which opens this incarnation. In a new journal
  // `new_broker` names the broker.
  std::optional<std::string> replay(const Record& record, Now now);
  void begin(Now now, BrokerId new_broker, Output& out);
  void checkpoint(Output& out);  // the first record of a segment
  // Writes anew what is left of a job, so that the segment it stands in can go: all of it, live or
  // dead, or its result (then without the payload).
  void relocate(JobId job, std::string_view payload, Output& out);

  void receive(Now now, Route route, const protocol::Envelope<protocol::FromClient>& envelope,
               Output& out, KeyId key = {});
  void refuse(Route route, const protocol::Fault& fault,
              Output& out);  // a frame that is no message
  // A message was dropped: its session gets no grants, and must register again.
  void unreachable(SessionId session);
  void unreachable(Route route);
  // Whether a connection takes more output now. Answers to QUERY wait until theirs does; who asks
  // is told so by wake_at().
  using HasRoom = std::function<bool(Route)>;
  void set_has_room(HasRoom has_room) { has_room_ = std::move(has_room); }
  // Whether a connection is still open, as far as is known: while it is, no other takes over its
  // producer or worker.
  using IsConnected = std::function<bool(Route)>;
  void set_is_connected(IsConnected is_connected) { is_connected_ = std::move(is_connected); }
  // Of a job that is ready: LEASEs to one worker are cut so that a dispatch sends it no more
  // than kGrantBytes of payloads, or one job. Nothing: its payload is not in memory yet, so it
  // waits, with those behind it; dispatch again when it may be there.
  using PayloadSize = std::function<std::optional<uint64_t>(JobId)>;
  void set_payload_size(PayloadSize size) { payload_size_ = std::move(size); }
  bool has_session(Route route) const { return sessions_on_.contains(number_of(route)); }
  // Who it is that uses this connection, for people.
  std::string name_of(Route route) const;
  // What was done so far, in jobs looked at (about 0.1 us each): what a message has cost is the
  // difference.
  uint64_t work() const { return work_; }
  // This connection's peer must go: as if it had fallen silent. Returns its sessions.
  std::vector<SessionId> expel(Now now, Route route, Output& out);
  void tick(Now now, Output& out);  // what time brings; call at wake_at()
  void dispatch(Now now,
                Output& out);  // grants what can be granted; call after a round of receives
  Mono wake_at(Now now) const;

  // What people ask for; cancel() says how many jobs it concerned.
  uint64_t cancel(Now now, const std::vector<JobRange>& jobs, Output& out);
  // A purge cancels all jobs of a queue that are not leased. Begins nothing, and returns null,
  // while too many operations are pending.
  const BulkOperation* start(Now now, BulkRequest request);
  void advance_operations(Now now, Output& out);  // a slice of a pending one
  const BulkOperations& operations() const { return operations_; }
  void set_queue(Now now, std::string_view queue, const records::QueueSettings& settings,
                 Output& out);
  // Must be without jobs. Its settings go with it; workers that ask for it by name make it anew.
  void delete_queue(Now now, QueueIndex queue, Output& out);
  Explanation explain(Now now, JobId job) const;

  void drain() { draining_ = true; }  // no new jobs, no new leases
  void set_disk_full(bool full) { disk_full_ = full; }
  void set_memory_short(bool is_short) { memory_short_ = is_short; }

  const State& state() const { return state_; }
  State& state() { return state_; }
  const Settings& settings() const { return settings_; }
  const std::unordered_map<SessionId, Session>& sessions() const { return sessions_; }
  const Tally& tally() const { return tally_; }
  // That take jobs of this queue.
  uint64_t workers_of(QueueIndex queue) const;
  std::vector<Held> held() const;  // by the state and by this, by kind
  bool draining() const { return draining_; }
  // How many jobs of this queue the worker may be leased now.
  uint64_t room(SessionId worker, QueueIndex queue) { return room(sessions_.at(worker), queue); }
  bool every_producer_knows_draining() const;

 private:
  using Hello = protocol::Hello;
  using Submit = protocol::Submit;

  // core.cpp: sessions and time
  void emit(Record record, Output& out, std::shared_ptr<const void> owner = nullptr);
  void put(Record record, Output& out, std::shared_ptr<const void> owner = nullptr);
  void trim_history(Output& out);
  void send(Session& session, protocol::FromBroker message, Output& out, bool at_once = false);
  static uint64_t number_of(Route route) {
    return route.id << 1 | uint64_t(route.port == Port::backend);
  }
  // Of one connection, in the order in which they were opened.
  const std::vector<SessionId>& sessions_on(Route route) const;
  std::optional<protocol::Fault> why_not_open(Route route, KeyId key, SessionId id,
                                              const Uuid& peer) const;
  Session& open_session(Route route, KeyId key, SessionId id, const Uuid& peer, Output& out);
  void close_session(SessionId id, records::ReturnReason reason, Output& out);
  void send_welcome(Session& session, std::vector<Lease> stale, Output& out);
  void tick_peers(Output& out);
  void tick_sessions(Output& out);
  void tick_clock(Output& out);
  void tick_due(Output& out);
  void tick_expiries(Output& out);
  void let_results_go(Output& out);
  void tick_rate();
  void tick_leases(Output& out);
  // What a LEASE of the queue says now.
  Millis lease_time(QueueIndex queue) const {
    const Millis own = state_.queues()[queue].settings.lease;
    return own.count() > 0 ? own : settings_.lease;
  }
  Millis grace_period() const {
    return (2 * settings_.heartbeat * settings_.liveness + protocol::kLongestPause) /
           records::kGracePeriods;
  }
  void end_grace_period(Output& out);
  Epoch next_first_epoch() const;

  // submissions.cpp: producers
  void on(Session& session, const Submit& message, Output& out);
  void on(Session& session, const protocol::Collected& message, Output& out);
  void open_producer(Route route, KeyId key, SessionId id, const Hello& message, Output& out);
  struct AdmissionDecision;
  AdmissionDecision admit(const Session& session, const Submit& message, uint64_t index);
  AdmissionDecision floor_too_low(uint64_t count) const;
  AdmissionDecision admit_room(const Session& session, const Submit& message, uint64_t index,
                               uint64_t rest);
  AdmissionDecision too_many_queues(const Session& session, uint64_t rest) const;
  std::optional<AdmissionDecision> admit_quota(const Session& session, uint64_t rest,
                                               uint64_t* room);
  std::optional<AdmissionDecision> admit_limits(const Session& session, uint64_t rest,
                                                uint64_t* room);
  static Account maker_of(const Session& session);
  static std::vector<Account> submitters_of(const Session& session);
  uint64_t unfinished_of(const Session& session) const;
  double submit_tokens(const Session& session);
  void take_submit_tokens(const Session& session, uint64_t jobs);
  void tick_submit_rates();
  Millis retry_after(uint64_t jobs) const;
  void make_room_for(const Uuid& producer, Output& out);
  void accept(const Session& session, const Submit& message, uint64_t first, uint64_t count,
              Output& out);

  // answers.cpp: what producers are told of their jobs
  void on(Session& session, const protocol::Query& message, Output& out);
  void on(Session& session, const protocol::Cancel& message, Output& out);
  void ask(Session& session, const std::vector<JobRange>& jobs, bool cancels, Output& out);
  bool has_room(const Session& session) const;
  bool can_answer(const Session& session) const;
  bool has_answers_to_go_on_with() const;
  void answer_some(Output& out);
  struct Slice;
  void answer_slice(Session& session, Output& out);
  void cancel_some(Question& question, Slice& slice, Output& out);
  void tell_states(Session& session, Question& question, Slice& slice, Output& out);
  bool tell_outcomes(Question& question, Slice& slice, protocol::Outcome& outcomes, Output& out);
  void forget_question(Session& session);
  void report(JobId job, const Job& live, JobState state, std::string_view result,
              std::string_view error);
  void add_outcome(protocol::Outcome& to, protocol::Outcome::Entry entry,
                   std::list<std::string>& texts);
  void send_outcomes(Session& session, const protocol::Outcome& outcomes, Output& out);
  void flush_reports(Output& out);

  // leases.cpp: workers
  void open_worker(Route route, KeyId key, SessionId id, const protocol::Register& message,
                   Output& out);
  void on(Session& session, const protocol::Credit& message, Output& out);
  void on(Session& session, const protocol::Done& message, Output& out);
  void finish(Session& session, const std::vector<protocol::Done::Entry>& jobs, uint64_t batch,
              Output& out);
  void on(Session& session, const protocol::Fail& message, Output& out);
  void on(Session& session, const protocol::Release& message, Output& out);
  void on(Session& session, const protocol::Extend& message, Output& out);
  void on(Session& session, const protocol::Bye& message, Output& out);
  void on(Session&, const protocol::Heartbeat&, Output&) {}
  std::vector<Lease> adopt_claims(Session& session, const std::vector<Lease>& claims, Output& out);
  bool holds(const Session& session, Lease lease) const;
  bool may_still_finish(const Session& session, Lease lease) const;
  void return_leases(const std::vector<Lease>& leases, records::ReturnReason reason,
                     std::string_view worker, Output& out);
  // Leases that ended otherwise than by their worker's word: those up to this epoch may have been
  // started, the others only waited there.
  struct LostLeases {
    std::vector<Lease> started, waited;
    void add(Lease lease, Epoch last_started) {
      (lease.epoch <= last_started ? started : waited).push_back(lease);
    }
  };
  void charge(const LostLeases& leases, records::ReturnReason reason, std::string_view worker,
              Output& out);
  // Up to which epoch the leases of a worker may have been started.
  Epoch last_started(WorkerIndex worker);
  static uint64_t threads_of(const Session& worker);
  void fail(Session& session, const protocol::Fail::Entry& entry, Output& out,
            std::shared_ptr<const void> owner = nullptr);
  void fail_too_large(Session& session, const protocol::Done::Entry& entry,
                      std::vector<Lease>* stale, Output& out);
  Millis backoff(const records::QueueSettings& queue, uint32_t failures);
  void finish_batch(Session& session, uint64_t batch, std::vector<Lease> stale, Output& out);

  // operations.cpp
  void end_jobs(const std::vector<JobRange>& jobs, records::CancelReason reason, Output& out);
  std::vector<JobRange> purge_slice(BulkOperation& operation);
  std::vector<JobRange> dead_slice(BulkOperation& operation) const;
  bool is_meant(const BulkOperation& operation, JobId dead) const;
  void note_deaths(const Record& record);
  std::string explain_ready(JobId job, const Job& live) const;

  // recall.cpp: jobs that wait at one worker, for threads that are free at others
  static constexpr Millis kRecallEvery{100};
  bool may_recall() const;
  void tick_recalls(Output& out);
  struct FreeThreads;
  void recall_from(Session& session, FreeThreads& free, Output& out);
  bool take_free_thread(QueueIndex queue, FreeThreads& free);

  // queues.cpp: which queues there are, and who subscribes to them
  bool may_make_queue(const Account& maker) const;
  void make_queue(const Account& maker, std::string_view name);
  void subscribe(Session& session, const std::vector<std::string_view>& patterns);
  void unsubscribe(Session& session);
  void match(QueueIndex queue);
  void match_some();
  void tick_queues();
  void remove_if_unused(QueueIndex queue);
  void remove(QueueIndex queue);

  // dispatch.cpp
  struct Flow;
  Flow& flow_of(QueueIndex queue);
  void place(QueueIndex queue);
  void displace(QueueIndex queue);
  void set_waiting(QueueIndex queue, bool waits);
  uint64_t allowance(QueueIndex queue);
  uint64_t dispatch_some(QueueIndex queue, bool alone, Output& out);
  void dispatch_suspects(Output& out);
  bool dispatch_suspect(QueueIndex queue, Output& out);
  Session* least_busy(Subscriptions::Audience& audience);
  bool takes_suspect(Session& worker);
  bool has_bytes_left(Session& worker);
  uint64_t credit_of(Session& worker);
  uint64_t room(Session& worker, QueueIndex queue);
  uint64_t fit_bytes(Session& worker, QueueIndex queue, uint64_t count);
  uint64_t count_fitting(const std::vector<JobRange>& runs, uint64_t* bytes) const;
  bool some_worker_has_room();
  Session* least_loaded(QueueIndex queue, uint64_t* candidates);
  void grant(Session& session, QueueIndex queue, std::vector<JobRange> runs, uint64_t count,
             Output& out);

  // What the core knows of a queue beside its state; begins anew with the process.
  struct Flow {
    Subscriptions::Audience* audience = nullptr;
    double pass = 0;    // jobs leased so far, divided by the weight
    double tokens = 0;  // of its rate: jobs that may be leased now
    Mono refilled{};
    bool waits = false;             // it is among its audience's waiting
    std::optional<Mono> throttled;  // held by its rate alone until then
    Account maker;                  // whose message made the queue
    uint64_t careful = 0;           // so many of its next leases are without prefetch
  };

  Settings settings_;
  State state_;
  std::mt19937_64 random_;
  Now now_{};
  bool draining_ = false;
  bool disk_full_ = false, memory_short_ = false;
  std::unordered_map<SessionId, Session> sessions_;
  std::unordered_map<uint64_t, std::vector<SessionId>> sessions_on_;  // by number_of() their route
  std::unordered_map<Uuid, SessionId> session_of_;  // the current session of a producer or worker
  Subscriptions subscriptions_;
  Tally tally_;
  BulkOperations operations_;

  Now ticked_{};
  bool clock_went_back_ = false;  // as far as is known
  Mono next_tick_{};
  // How much later than it was due the last look at peers came: for so long this process did not
  // run, and what it has not received since is not their silence.
  Mono::duration late_{};
  Mono next_recall_{};
  SessionId recalled_from_;  // the last one that was looked at
  std::optional<Mono> grace_ends_;
  Mono next_grace_period_{};
  std::deque<Flow> flows_;                     // by queue
  std::set<Subscriptions::Turn> first_turns_;  // of each audience in which queues wait
  std::set<std::pair<Mono, QueueIndex>> throttled_;
  std::vector<QueueIndex>
      reading_;  // passed over in the last round: their next payload was not there
  std::unordered_map<Account, uint64_t> made_;  // queues that there are, by who made them
  std::unordered_map<KeyId, size_t> sessions_of_key_;
  QueueIndex suspect_queue_ = 0;  // that had the last turn
  QueueIndex swept_ = 0;          // where the sweep of empty queues goes on
  QueueIndex matched_ = 0;        // where match_some() goes on
  size_t to_match_ = 0;           // queues that it still has to look at
  Mono prefixes_swept_{};
  // With --submit-rate-per-producer: jobs that each may still submit of this second's.
  struct SubmitRate {
    double tokens = 0;
    Mono refilled{};
  };
  std::unordered_map<Account, SubmitRate> submit_rates_;
  HighWaterMark queued_mark_, memory_mark_;
  uint64_t ended_before_ = 0;  // jobs, at the last measurement
  Mono measured_{};
  double drain_rate_ = 0;  // jobs ended a second, smoothed
  std::unordered_map<ProducerIndex, protocol::Outcome> reports_;
  std::list<std::string> report_texts_;  // that reports_ point into

  PayloadSize payload_size_;  // none: nothing is known of sizes
  uint64_t dispatches_ = 0;
  bool more_to_grant_ = false;       // but for kGrantBytes
  HasRoom has_room_;                 // none: everyone has
  IsConnected is_connected_;         // none: nobody is, so that the newer session wins
  std::deque<SessionId> answering_;  // sessions with questions, the next to be answered first
  size_t pending_ranges_ = 0;        // of all questions
  size_t long_questions_ = 0;
  uint64_t work_ = 0;
};

}  // namespace millrace::core
