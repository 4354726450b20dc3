// The loop's calls into the broker's core: planted faults that change what goes in and out of it,
// and checks that need to see both sides.
#include <fmt/format.h>

#include <algorithm>

#include "common/journal/segment_reader.h"
#include "tests/sim/broker_life.h"
#include "tests/sim/describe.h"

namespace millrace::sim {

namespace {

constexpr uint64_t kAllThreads = 4096;  // of a worker, when a planted fault says so

void drop_lines(std::string* text, std::string_view prefix) {
  std::string kept;
  for (size_t at = 0; at < text->size();) {
    size_t end = text->find('\n', at) + 1;
    if (std::string_view(*text).substr(at, prefix.size()) != prefix)
      kept.append(*text, at, end - at);
    at = end;
  }
  *text = std::move(kept);
}

// Fails with the first line that differs.
void compare(const core::State& state, const core::State& durable, bool wall_jumped,
             const std::string& invariant) {
  std::string here = state.describe(), there = durable.describe();
  drop_lines(&here, "  next ");  // turns begin anew with a restart
  drop_lines(&there, "  next ");
  // How long keys are kept is counted in wall time: after a jump a restart may let other ones go.
  if (wall_jumped) drop_lines(&here, "key "), drop_lines(&there, "key ");
  if (here == there) return;
  size_t at = size_t(std::mismatch(here.begin(), here.end(), there.begin(), there.end()).first -
                     here.begin());
  auto line = [at](const std::string& text) {
    size_t begin = at == 0 ? 0 : text.rfind('\n', at - 1) + 1;
    return begin < text.size() ? text.substr(begin, text.find('\n', begin) - begin)
                               : std::string("(nothing)");
  };
  World::fail({invariant, fmt::format("it is: {}; it should be: {}", line(here), line(there))});
}

}  // namespace

core::Settings Broker::settings_of_core() const {
  core::Settings settings = stage_.plan.settings;
  if (stage_.mutated(Mutation::impatient)) --settings.liveness;
  if (stage_.mutated(Mutation::patient)) ++settings.liveness;
  auto raise = [](uint64_t& mark) { mark += mark / 10; };
  auto lower = [](uint64_t& mark) { mark -= mark / 10; };
  if (stage_.mutated(Mutation::high_queued_mark)) raise(settings.max_queued);
  if (stage_.mutated(Mutation::low_queued_mark)) lower(settings.max_queued);
  if (stage_.mutated(Mutation::high_memory_mark)) raise(settings.max_memory);
  if (stage_.mutated(Mutation::low_memory_mark)) lower(settings.max_memory);
  return settings;
}

// ---- recovery

std::optional<std::string> Broker::replay(core::Core& core, const records::Record& record,
                                          Now now) {
  records::Record changed = record;
  if (stage_.mutated(Mutation::forget_keys)) {
    if (auto* accepted = std::get_if<records::Accepted>(&changed)) accepted->keys.clear();
    if (auto* checkpoint = std::get_if<records::Checkpoint>(&changed)) checkpoint->keys.clear();
  }
  return core.replay(changed, now);
}

// Writes over the last valid batch of the last segment that has one.
void Broker::forget_last_batch() {
  const auto& names = stage_.disk.names();
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    if (!journal::parse_segment_name(name->first)) continue;
    const std::string& bytes = stage_.disk.content(name->second);
    auto header = journal::decode_segment_header(bytes);
    if (!header) return;
    journal::SegmentReader reader(bytes, *header);
    uint64_t last = 0;
    for (uint64_t at = reader.end(); auto batch = reader.next(); at = reader.end())
      if (!(batch->header.flags & journal::kSealed)) last = at;
    if (last == 0 || reader.sealed()) return;
    stage_.disk.damage(name->second, last, std::string(journal::kBlock, '\0'));
    return;
  }
}

void Broker::after_recovery() {
  core::Core& core = life_->core;
  compare(core.state(), stage_.model.state(), stage_.oracle.has_wall_jumped(),
          "recovered state is what was durable");
  if (stage_.mutated(Mutation::forget_dedupe))
    for (const auto& producer : core.state().producers().all())
      core.state().producers().forget(producer.id);
}

// ---- at the core's edge

bool Broker::let_in(core::Route& route, Envelope* envelope) {
  Life& life = *life_;
  auto& message = envelope->message;
  // The core answers a session that comes over another connection, or that missed something, but
  // does not count it as alive.
  auto session = life.core.sessions().find(envelope->session);
  bool opens = std::holds_alternative<protocol::Hello>(message) ||
               std::holds_alternative<protocol::Register>(message);
  bool leaves = std::holds_alternative<protocol::Bye>(message);
  if (!opens && (session == life.core.sessions().end() || !(session->second.route == route) ||
                 !(session->second.reachable || leaves)))
    return true;
  life.last_received[envelope->session] = now().mono;
  stage_.world.note("broker",
                    [&] { return fmt::format("from {}: {}", route.id, describe(message)); });
  if (auto* hello = std::get_if<protocol::Hello>(&message))
    life.peers[envelope->session] = hello->producer;
  if (auto* reg = std::get_if<protocol::Register>(&message)) {
    life.peers[envelope->session] = reg->worker;
    life.credit[envelope->session] = 0;
    if (!reg->claims.empty() || life.started_at > kSecond)
      life.registered_again.push_back(envelope->session);
    if (stage_.mutated(Mutation::charge_waiting)) reg->threads = kAllThreads;
    if (stage_.mutated(Mutation::drop_claim) && !reg->claims.empty()) reg->claims.pop_back();
  }
  if (auto* credit = std::get_if<protocol::Credit>(&message)) {
    if (stage_.mutated(Mutation::charge_waiting)) credit->threads = kAllThreads;
    if (stage_.mutated(Mutation::credit_leak)) credit->jobs += life.credit[envelope->session];
    life.credit[envelope->session] = credit->jobs;
    if (stage_.mutated(Mutation::credit_lost) &&
        std::erase(life.registered_again, envelope->session))
      return false;
  }
  if (auto* done = std::get_if<protocol::Done>(&message);
      done && stage_.mutated(Mutation::accept_stale_epoch)) {
    for (auto entry : done->jobs) {
      const auto* lease = life.core.state().lease_of(entry.lease.job);
      if (!lease || lease->epoch == entry.lease.epoch) continue;
      // As if its holder had said it.
      for (const auto& [id, holder] : life.core.sessions()) {
        if (!holder.is_worker || !holder.reachable || holder.worker != lease->worker) continue;
        entry.lease.epoch = lease->epoch;
        done->jobs = {entry};
        envelope->session = id;
        route = holder.route;
        return true;
      }
    }
  }
  if (std::holds_alternative<protocol::Extend>(message) && stage_.mutated(Mutation::ignore_extend))
    return false;
  if (std::holds_alternative<protocol::Release>(message) && stage_.mutated(Mutation::release_lost))
    return false;
  if (auto* submit = std::get_if<protocol::Submit>(&message)) {
    if (stage_.mutated(Mutation::forget_ttl)) submit->options.ttl = Millis(0);
    if (stage_.mutated(Mutation::wrong_priority))
      submit->options.priority = protocol::kDefaultPriority;
  }
  if (auto* fail = std::get_if<protocol::Fail>(&message);
      fail && stage_.mutated(Mutation::crash_is_failure))
    for (auto& entry : fail->jobs)
      if (entry.kind == protocol::FailKind::crash) entry.kind = protocol::FailKind::retryable;
  return true;
}

std::vector<records::QueueSet> Broker::pretend() {
  std::vector<records::QueueSet> real;
  core::State& state = life_->core.state();
  for (const core::Queue& queue : state.queues()) {
    auto settings = queue.settings;
    if (stage_.mutated(Mutation::ignore_pause)) settings.paused = false;
    if (stage_.mutated(Mutation::ignore_concurrency)) settings.concurrency = 0;
    if (stage_.mutated(Mutation::ignore_rate)) settings.rate = 0;
    if (stage_.mutated(Mutation::ignore_max_length)) settings.max_length = 0;
    if (stage_.mutated(Mutation::ignore_fair)) settings.order = records::Order::fifo;
    if (stage_.mutated(Mutation::ignore_weight)) settings.weight = 1;
    if (settings == queue.settings) continue;
    real.push_back({queue.name, queue.settings});
    state.apply(records::QueueSet{queue.name, settings}, now().mono);
  }
  return real;
}

void Broker::restore(const std::vector<records::QueueSet>& real) {
  for (const records::QueueSet& queue : real) life_->core.state().apply(queue, now().mono);
}

void Broker::dispatch(core::Core& core, Now at, core::Output& out) {
  if (stage_.mutated(Mutation::skip_dispatch) && random_.chance(20)) return;
  QueueShares& shares = life_->shares;
  shares.before(core, [this](JobId job) { return life_->loop.payloads().is_in_memory(job); });
  const size_t sent = out.sends.size();
  auto real = pretend();
  core.dispatch(at, out);
  restore(real);
  const size_t compared = shares.after(core, std::span(out.sends).subspan(sent));
  if (compared > 0) stage_.world.count("queue shares", "compared", compared);
}

void Broker::receive(core::Core& core, Now at, core::Route route, const Envelope& said,
                     core::KeyId key, core::Output& out) {
  stage_.world.count("said to the broker", kind_of(said.message));
  Envelope envelope = said;
  if (!let_in(route, &envelope)) return;
  const bool pretends = stage_.mutated(Mutation::ignore_max_length);
  auto real = pretends ? pretend() : std::vector<records::QueueSet>();
  open_marks();
  const std::vector<SessionId> in_use = in_use_by_others(envelope, route);
  const MemoryLevel before = memory_level(envelope.session);
  const size_t recorded = out.records.size();
  core.receive(at, route, envelope, out, key);
  restore(real);
  const bool accepts = std::any_of(
      out.records.begin() + long(recorded), out.records.end(), [](const core::OutRecord& written) {
        return std::holds_alternative<records::Accepted>(written.record);
      });
  if (accepts) check_memory_mark(before);
  check_taken_over(in_use, at);
}

// The sessions over other connections, as far as they stand, that a HELLO or REGISTER asks for.
std::vector<SessionId> Broker::in_use_by_others(const Envelope& envelope, core::Route route) const {
  Uuid peer;
  if (auto* hello = std::get_if<protocol::Hello>(&envelope.message)) peer = hello->producer;
  if (auto* reg = std::get_if<protocol::Register>(&envelope.message)) peer = reg->worker;
  std::vector<SessionId> found;
  if (peer == Uuid{}) return found;
  for (const auto& [id, session] : life_->core.sessions())
    if (session.peer == peer && !(session.route == route) && session.reachable &&
        is_connected(session.route))
      found.push_back(id);
  return found;
}

// Whoever sends something in each heartbeat keeps its session.
void Broker::check_taken_over(const std::vector<SessionId>& in_use, Now at) const {
  for (SessionId id : in_use) {
    if (life_->core.sessions().contains(id)) {
      stage_.world.count("takeovers", "refused or waiting");
      continue;
    }
    stage_.world.count("takeovers", "of a silent session");
    const auto silence = at.mono - life_->last_received.at(id);
    if (silence < stage_.plan.settings.heartbeat * 3 / 2)
      World::fail({"a session that is alive is not taken over",
                   fmt::format("after {} ms of silence",
                               std::chrono::duration_cast<Millis>(silence).count())});
  }
}

void Broker::tick(core::Core& core, Now at, core::Output& out) {
  Life& life = *life_;
  forgive_lateness(at);
  std::vector<std::pair<SessionId, Mono>> before;
  for (const auto& [id, session] : core.sessions()) before.emplace_back(id, life.last_received[id]);
  Now told = at;
  if (stage_.mutated(Mutation::lost_wakeup)) {
    if (life.frozen.wall == WallMs{}) life.frozen = at;
    told.wall = life.frozen.wall;
  }
  if (stage_.mutated(Mutation::early_due)) told.wall += Millis(2000);
  if (stage_.mutated(Mutation::no_grace) && life.started_at >= 0) {
    const core::Settings& settings = stage_.plan.settings;
    const Mono end = at.mono + 3 * settings.heartbeat * settings.liveness;
    for (; told.mono < end; told.mono += settings.heartbeat / 4) core.tick(told, out);
    life.started_at = -1;
    return;
  }
  core.tick(told, out);
  check_silence(before, at);
  for (const auto* timers : {&core.state().due(), &core.state().expiries()})
    if (!timers->empty() && timers->begin()->first <= at.wall)
      World::fail({"what is due becomes due", fmt::format("j{}", timers->begin()->second.value),
                   timers->begin()->second.value});
}

// Time for which the broker was kept from looking at its peers is not their silence.
void Broker::forgive_lateness(Now at) {
  Life& life = *life_;
  if (at.mono < life.next_look) return;
  const auto late = at.mono - life.next_look;
  for (auto& [id, last_received] : life.last_received)
    last_received = std::min(last_received + late, at.mono);
  life.next_look = at.mono + stage_.plan.settings.heartbeat / 4;
}

// A session ends by silence when its peer was silent for heartbeat x liveness, and not much later.
void Broker::check_silence(const std::vector<std::pair<SessionId, Mono>>& before, Now at) const {
  const core::Settings& s = stage_.plan.settings;
  const Millis limit = s.heartbeat * int64_t(s.liveness);
  for (auto [id, last_received] : before) {
    bool there = life_->core.sessions().contains(id);
    if (!there && at.mono - last_received <= limit)
      World::fail({"a peer is gone after its time",
                   fmt::format("after {} ms of silence instead of {}",
                               std::chrono::duration_cast<Millis>(at.mono - last_received).count(),
                               limit.count())});
    // Whoever was away itself hears first what came meanwhile.
    if (there && at.mono - last_received > limit + s.heartbeat / 2 + Millis(1))
      World::fail(
          {"a silent peer is gone in time",
           fmt::format("after {} ms of silence it is still there",
                       std::chrono::duration_cast<Millis>(at.mono - last_received).count())});
  }
}

void Broker::check_limits() const {
  const core::Core& core = life_->core;
  for (const auto& [id, session] : core.sessions()) {
    if (!session.is_worker) continue;
    auto credit = life_->credit.find(id);
    uint64_t said = credit == life_->credit.end() ? 0 : credit->second;
    if (session.credit != said && !stage_.mutated(Mutation::credit_lost))
      World::fail({"credit is what the worker said",
                   fmt::format("{} instead of {}", session.credit, said)});
  }
  if (!core.draining()) check_busy();
}

bool matches(std::string_view pattern, std::string_view queue) {
  return pattern.ends_with('*') ? queue.starts_with(pattern.substr(0, pattern.size() - 1))
                                : pattern == queue;
}

// A job that may be leased does not wait while a worker of its queue has room, but for its payload,
// which is then being read.
void Broker::check_busy() const {
  const core::State& state = life_->core.state();
  for (const core::Queue& queue : state.queues()) {
    const auto& limits = queue.settings;
    if (queue.ready_jobs() == 0 || limits.paused || limits.rate > 0) continue;
    if (limits.concurrency > 0 && queue.leased >= limits.concurrency) continue;
    for (const auto& [id, session] : life_->core.sessions()) {
      bool subscribes =
          std::any_of(session.subscriptions.begin(), session.subscriptions.end(),
                      [&](std::string_view pattern) { return matches(pattern, queue.name); });
      const uint64_t held = state.leases_of(session.worker);
      if (!session.is_worker || !session.reachable || !subscribes || held >= session.credit)
        continue;
      const bool is_idle = held < session.threads;
      const bool takes_suspect =
          is_idle && queue.suspects > 0 && state.suspects_of(session.worker) == 0;
      const bool takes_other = !queue.ready.empty() &&
                               (is_idle || life_->core.room(id, *state.find_queue(queue.name)) > 0);
      if (!takes_suspect && !takes_other) continue;
      const core::QueueIndex index = *state.find_queue(queue.name);
      const JobId next =
          (takes_suspect ? state.suspects().at(index).lowest(1) : queue.ready.next(1))[0].first;
      if (!life_->loop.payloads().is_in_memory(next)) {
        if (life_->loop.payloads().is_outstanding(next)) break;
        World::fail({"a payload that a worker could have is being read",
                     fmt::format("j{} of {} is not", next.value, queue.name), next.value});
      }
      World::fail({"no job waits while a worker has room",
                   fmt::format("{} jobs of {} are ready, {} has a credit of {} and {} leases",
                               queue.ready_jobs(), queue.name, session.name, session.credit,
                               state.leases_of(session.worker))});
    }
  }
}

// A slice of what people asked for; what came after they asked is left alone.
void Broker::advance_operations(core::Core& core, Now at, core::Output& out) {
  const core::BulkOperations& operations = core.operations();
  const uint64_t number = operations.next()->number;
  const JobId end = operations.next()->end;
  core.advance_operations(at, out);
  if (!operations.find(number)->done) stage_.world.count("people", "several slices");
  auto check = [&](const std::vector<protocol::JobRange>& runs) {
    if (!runs.empty() && runs.back().first.value + runs.back().count > end.value)
      World::fail({"an operation is about what was there",
                   fmt::format("up to j{}, not j{}", end.value - 1,
                               runs.back().first.value + runs.back().count - 1)});
  };
  for (const auto& [record, owner] : out.records) {
    if (auto* cancelled = std::get_if<records::Cancelled>(&record)) check(cancelled->runs);
    if (auto* requeued = std::get_if<records::Requeued>(&record)) check(requeued->runs);
  }
}

// After a job was accepted of this producer.
void Broker::check_quotas(const Uuid& producer) const {
  const core::State& state = life_->core.state();
  const core::Settings& settings = stage_.plan.settings;
  if (state.live_jobs() > settings.max_queued + settings.max_queued / 10)
    World::fail(
        {"no more jobs than --max-queued and its reserve", fmt::format("{}", state.live_jobs())});
  const uint64_t own = state.producers().live_of(producer);
  if (settings.max_queued_per_producer > 0 && own > settings.max_queued_per_producer)
    World::fail({"no more jobs of a producer than its quota", fmt::format("{}", own)});
  // While the mark is shut, a producer may have half of what it leaves free of a tenth more.
  const uint64_t reserve_end = settings.max_queued + settings.max_queued / 10;
  if (life_->queued_shut && state.live_jobs() + 2 * own > reserve_end + 2)
    World::fail({"--max-queued opens again below nine tenths",
                 fmt::format("{} jobs of {}, {} of this producer", state.live_jobs(),
                             settings.max_queued, own)});
}

uint64_t Broker::low_water() const {
  const uint64_t high = stage_.plan.settings.max_queued;
  return high - high / 10;
}

uint64_t Broker::low_memory_water() const {
  const uint64_t high = stage_.plan.settings.max_memory;
  return high - high / 10;
}

void Broker::open_marks() {
  const core::State& state = life_->core.state();
  if (state.live_jobs() < low_water()) life_->queued_shut = false;
  if (state.memory_bytes() < low_memory_water()) life_->memory_shut = false;
}

Broker::MemoryLevel Broker::memory_level(SessionId session) const {
  const core::State& state = life_->core.state();
  const uint64_t total = state.memory_bytes();
  const uint64_t jobs = std::max<uint64_t>(1, state.live_jobs() + state.dead().size());
  auto peer = life_->peers.find(session);
  const uint64_t own =
      peer == life_->peers.end() ? 0 : state.producers().live_of(peer->second) * (total / jobs);
  return {total, own};
}

// Jobs were accepted of a producer. While the mark is shut, it may have half of what it leaves free
// of a tenth more.
void Broker::check_memory_mark(MemoryLevel before) const {
  const uint64_t most = stage_.plan.settings.max_memory;
  if (!life_->memory_shut && before.total < most) return;
  stage_.world.count("high-water marks", "accepted from the reserve of --max-memory");
  if (before.total + 2 * before.own > most + most / 10)
    World::fail(
        {"--max-memory opens again below nine tenths",
         fmt::format("{} bytes of {}, {} of this producer", before.total, most, before.own)});
}

void Broker::check_reject(const protocol::Reject& reject) {
  const core::State& state = life_->core.state();
  for (const auto& range : reject.ranges) {
    stage_.world.count("rejects", range.reason, range.count);
    auto speaks_of = [&](std::string_view option) {
      return range.message.find(option) != std::string::npos;
    };
    if (range.reason == "queue_full" && speaks_of("--max-queued ")) {
      if (state.live_jobs() < low_water())
        World::fail(
            {"--max-queued rejects from nine tenths on",
             fmt::format("{} jobs of {}", state.live_jobs(), stage_.plan.settings.max_queued)});
      life_->queued_shut = true;
      stage_.world.count("high-water marks", "--max-queued");
    }
    if (range.reason == "memory_full" && speaks_of("--max-memory ")) {
      if (state.memory_bytes() < low_memory_water())
        World::fail(
            {"--max-memory rejects from nine tenths on",
             fmt::format("{} bytes of {}", state.memory_bytes(), stage_.plan.settings.max_memory)});
      life_->memory_shut = true;
      stage_.world.count("high-water marks", "--max-memory");
    }
  }
}

// Below the reserve no job is accepted, until 5/4 of it are free.
void Broker::check_disk_mark(bool full, uint64_t free) const {
  const bool stalled = life_->journal->stalled();
  const uint64_t uncommitted = life_->faulty_journal->uncommitted_bytes();
  if (full && !stalled && free >= kDiskReserve + uncommitted)
    World::fail({"the disk is full below --disk-reserve", fmt::format("{} bytes are free", free)});
  if (!full && (stalled || free < kDiskReserve / 4 * 5))
    World::fail({"the disk is full until 5/4 of --disk-reserve are free",
                 fmt::format("{} bytes are free", free)});
}

void Broker::inspect(core::Output& out) {
  open_marks();
  std::erase_if(out.records,
                [&](core::OutRecord& out_record) { return !is_written(&out_record.record); });
  std::vector<core::Send> more;
  std::erase_if(out.sends, [&](core::Send& send) { return !let_out(&send, &more); });
  for (core::Send& send : more) out.sends.push_back(std::move(send));
  if (stage_.mutated(Mutation::forget_results))
    for (const auto& settled : life_->core.state().take_settled())
      life_->loop.payloads().retire({settled.job, 1});
}

// False: a planted fault loses it.
bool Broker::is_written(records::Record* record) {
  Life& life = *life_;
  bool may_vanish = !std::holds_alternative<records::Checkpoint>(*record) &&
                    !std::holds_alternative<records::Started>(*record) &&
                    !std::holds_alternative<records::Accepted>(*record);
  if (stage_.mutated(Mutation::lose_record) && may_vanish && random_.chance(20)) return false;
  if (stage_.mutated(Mutation::cancel_lost) &&
      std::holds_alternative<records::Cancelled>(*record) && random_.chance(100))
    return false;
  if (life.disk_full && std::holds_alternative<records::Relocated>(*record))
    stage_.world.count("disk", "jobs relocated while full");
  stage_.oracle.timely(*record, now().wall);
  // What is left of a queue's rate is not taken back when it is set anew.
  if (auto* set = std::get_if<records::QueueSet>(record)) life.buckets.erase(set->queue);
  if (auto* accepted = std::get_if<records::Accepted>(record)) {
    check_quotas(accepted->producer);
    if (life.free_at_round < kDiskReserve)
      World::fail({"the disk is full below --disk-reserve",
                   fmt::format("{} bytes were free, and a job is accepted", life.free_at_round)});
  }
  if (auto* done = std::get_if<records::Done>(record);
      done && stage_.mutated(Mutation::done_without_result))
    done->results.clear();
  if (auto* checkpoint = std::get_if<records::Checkpoint>(record);
      checkpoint && stage_.mutated(Mutation::old_checkpoint)) {
    auto older = std::exchange(life.older_checkpoint, *checkpoint);
    if (older) *record = *older;
  }
  return true;
}

// False: a planted fault loses it.
bool Broker::let_out(core::Send* send, std::vector<core::Send>* more) {
  stage_.world.count("said by the broker", kind_of(send->message));
  if (auto* confirm = std::get_if<protocol::Confirm>(&send->message))
    for (auto& range : confirm->ranges) {
      stage_.world.count("confirms", range.known ? "known" : "new", range.count);
      if (range.known && stage_.mutated(Mutation::wrong_job)) ++range.first_job.value;
    }
  if (auto* reject = std::get_if<protocol::Reject>(&send->message)) check_reject(*reject);
  if (auto* grant = std::get_if<protocol::LeaseGrant>(&send->message)) {
    if (stage_.mutated(Mutation::lease_time_lost)) grant->lease = Millis(0);
    check_rate(*grant);
    if (stage_.mutated(Mutation::grant_twice) && random_.chance(20))
      if (auto second = grant_to_another(*send, *grant)) more->push_back(*std::move(second));
  }
  auto* outcome = std::get_if<protocol::Outcome>(&send->message);
  if (outcome && stage_.mutated(Mutation::drop_outcome)) return !random_.chance(100);
  if (outcome && stage_.mutated(Mutation::result_lost) && random_.chance(100))
    for (auto& entry : outcome->entries) entry.has_result = false;
  return true;
}

// A bucket that leaks at the queue's rate must never hold more than a burst.
void Broker::check_rate(const protocol::LeaseGrant& grant) {
  const core::State& state = life_->core.state();
  for (const core::Queue& queue : state.queues()) {
    if (queue.name != grant.queue || queue.settings.rate == 0) continue;
    auto& bucket = life_->buckets[queue.name];
    double rate = double(queue.settings.rate), burst = std::max(1.0, rate * 0.1);
    Mono at = now().mono;
    if (bucket.rate != queue.settings.rate) bucket = {queue.settings.rate, 0, at};
    bucket.level =
        std::max(0.0,
                 bucket.level - std::chrono::duration<double>(at - bucket.seen).count() * rate) +
        double(grant.jobs.size());
    bucket.seen = at;
    if (bucket.level > burst + 0.01)
      World::fail({"a queue's rate is respected", fmt::format("{} leases at once at {} a second",
                                                              bucket.level, queue.settings.rate)});
  }
}

std::optional<core::Send> Broker::grant_to_another(const core::Send& send,
                                                   const protocol::LeaseGrant& grant) {
  std::vector<const core::Session*> others;
  for (const auto& [id, session] : life_->core.sessions())
    if (session.is_worker && id != send.session) others.push_back(&session);
  if (others.empty()) return std::nullopt;
  const core::Session& other = *others[random_.below(others.size())];
  return core::Send{other.route, other.id, grant, false};
}

// ---- for whoever watches

uint64_t Broker::live_jobs() const { return life_ ? life_->core.state().live_jobs() : 1; }

bool Broker::quiet() const {
  return serving() && life_->loop.is_idle() && life_->journal->idle() && life_->frontend.empty() &&
         life_->backend.empty();
}

void Broker::check_live_is_durable() const {
  if (!life_->held.empty())
    World::fail({"what is held for a peer is released once",
                 fmt::format("{} peers have some held", life_->held.size())});
  compare(life_->core.state(), stage_.model.state(), stage_.oracle.has_wall_jumped(),
          "live state is replayed state");
}

// When everything has ended, what is left must be little.
void Broker::check_bounds() const {
  const Life& life = *life_;
  uint64_t peers = stage_.plan.producers + stage_.plan.workers;
  if (life.core.sessions().size() > peers)
    World::fail({"memory is bounded",
                 fmt::format("{} sessions of {} peers", life.core.sessions().size(), peers)});
  bool any_dead = !life.core.state().dead().empty();
  if (!any_dead && life.loop.payloads().bytes_in_memory() > 0)
    World::fail(
        {"memory is bounded", fmt::format("{} bytes of payloads are kept of jobs that ended",
                                          life.loop.payloads().bytes_in_memory())});
  SegmentId needed = stage_.oracle.oldest_needed();
  uint64_t current = stage_.model.segment().value;
  uint64_t most = needed.value == 0 ? 1 : current - std::min(current, needed.value) + 1;
  uint64_t there = 0;
  for (const auto& [name, file] : stage_.disk.names())
    there += journal::parse_segment_name(name).has_value();
  if (there > most + 1)
    World::fail({"the journal is bounded",
                 fmt::format("{} segments are there, {} are needed", there, most)});
  const uint64_t live = life.loop.payloads().live_bytes() + life.core.state().history_bytes();
  const uint64_t bytes = life.journal->stats().bytes_on_disk;
  if (bytes > 3 * live + 4 * stage_.plan.segment_bytes)
    World::fail(
        {"the journal is bounded", fmt::format("{} bytes, segments of {}, for {} live bytes", bytes,
                                               stage_.plan.segment_bytes, live)});
}

}  // namespace millrace::sim
