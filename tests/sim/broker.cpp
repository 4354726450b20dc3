#include "tests/sim/broker.h"

#include <fmt/format.h>

#include "broker/records/replay.h"
#include "common/protocol/codec.h"
#include "tests/sim/broker_life.h"
#include "tests/sim/describe.h"

namespace millrace::sim {

using core::Port;

namespace {

constexpr size_t kBacklogBytes = 1 << 20;
constexpr int kFramesPerRound = 256;
constexpr uint64_t kSegmentSlack = 32 << 10;
constexpr size_t kCarryBytes = 8 << 10;
constexpr uint64_t kDiskReserve = 4 << 20;

}  // namespace

Broker::Broker(Stage& stage) : Process(stage, 0), random_(stage.random.fork("broker")) {}
Broker::~Broker() = default;

bool Broker::serving() const { return life_ && life_->serving; }

void Broker::start() {
  ++starts_;
  stage_.world.note("run", [&] { return fmt::format("the broker starts, {}", starts_); });
  stage_.world.count("processes", "broker starts");
  if (stage_.mutated(Mutation::drop_last_batch)) forget_last_batch();
  const Plan& plan = stage_.plan;
  life_ = std::make_unique<Life>(settings_of_core(), random_.next(), plan.payload_memory);
  life_->started_at = stage_.world.now();
  life_->journal =
      std::make_unique<SimJournal>(stage_.world, stage_.disk, stage_.trouble,
                                   SimJournal::Timing{plan.sync_time, plan.segment_bytes},
                                   random_.fork("journal", starts_), [this] { wake(); });
  life_->payloads.set_journal(life_->journal.get());
  life_->core.set_is_connected(
      [this](core::Route route) { return stage_.network.is_connected(route.id); });
  life_->core.set_payload_size([life = life_.get()](JobId job) -> std::optional<uint64_t> {
    if (!life->payloads.fetch(job)) return std::nullopt;
    return life->payloads.size_of(job);
  });
  auto recovered = life_->journal->open(
      records::replay([this](const records::Record& record, journal::Place place) {
        return replay(record, place);
      }),
      [this] { opened(); });
  if (!recovered) fail(recovered.error());
}

void Broker::opened() {
  Life& life = *life_;
  stage_.mirror.update();
  after_recovery();
  life.core.begin(now(), BrokerId{uint32_t(stage_.plan.seed | 1)}, life.out);
  life.next_look = now().mono + stage_.plan.settings.heartbeat / 4;
  if (auto started =
          life.journal->start(life.core.state().broker(), life.core.state().incarnation());
      !started)
    return fail(started.error());
  absorb(nullptr);
  commit_chunk();
  life.serving = true;
  stage_.network.listen([this](Port port, uint64_t route, Bytes frame) {
    (port == Port::frontend ? life_->frontend : life_->backend)
        .push_back({{port, route}, std::move(frame)});
    wake();
  });
  wake();
}

// As the real process: an exit code and a sentence; data that recovery refuses is lost data.
void Broker::fail(const Error& error) {
  stage_.world.note("run", [&] { return "the broker ends: " + error.message; });
  if (error.code != ExitCode::io)
    World::fail({"recovery takes what a crash leaves", error.message});
  stage_.world.after(0, [this, life = life_.get()] {
    if (life_.get() != life) return;
    kill(false);
    if (exited_) exited_();
  });
}

void Broker::kill(bool power_lost) {
  if (life_ && life_->serving) stage_.network.stop_listening(power_lost);
  life_.reset();
  if (power_lost) {
    stage_.disk.power_loss();
    stage_.mirror.update();
  }
}

void Broker::stop() {
  if (!serving() || life_->stopping) return;
  life_->stopping = true;
  life_->core.drain();
  wake();
}

void Broker::ask(Operation operation) {
  if (!serving()) return;
  life_->operations.push_back(std::move(operation));
  wake();
}

void Broker::turn() {
  if (!life_) return;
  Life& life = *life_;
  if (auto failure = life.journal->failure()) return fail(*failure);
  if (!life.serving) return;
  Now at = now();
  take_committed();
  if (stage_.mutated(Mutation::lose_reads) && random_.chance(200)) life.journal->take_read();
  if (auto read = life.payloads.take_read(); !read) return fail(read.error());
  if (life.stopping && life.journal->idle() && life.appended == life.committed &&
      life.held.empty()) {
    life.serving = false;
    stage_.network.stop_listening(false);
    life.journal->close([this] {
      stage_.world.count("processes", "clean stops");
      fail({ExitCode::io, "stopped"});
    });
    return;
  }
  update_limits();
  begin_segment_if_full();
  drain(Port::backend);
  bool backlogged = life.uncommitted_bytes > kBacklogBytes;
  if (!backlogged) drain(Port::frontend);
  for (Operation& operation : std::exchange(life.operations, {})) {
    operation(life.core, at, life.out);
    absorb(nullptr);
  }
  work(at);
  tick(at);
  absorb(nullptr);
  dispatch(at);
  absorb(nullptr);
  carry_stragglers();
  commit_chunk();
  check_limits();
  wake_at(life.core.wake_at(at));
  if (life.core.operations().pending() > 0) wake();
  if (!life.backend.empty() || (!life.frontend.empty() && !backlogged)) wake();
}

void Broker::take_committed() {
  Life& life = *life_;
  auto commits = life.journal->take_committed();
  if (!commits.empty()) stage_.mirror.update();
  for (const auto& commit : commits) {
    life.committed = commit.ticket;
    life.tail = commit.place;
    life.payloads.placed(commit.ticket, commit.place);
  }
  for (; !life.uncommitted.empty() && life.uncommitted.front().first <= life.committed;
       life.uncommitted.pop_front()) {
    auto [ticket, bytes] = life.uncommitted.front();
    life.uncommitted_bytes -= bytes;
    if (ticket >= life.segment_opened_by) life.segment_uncommitted_bytes -= bytes;
  }
  for (; !life.held.empty() && life.held.front().ticket <= life.committed; life.held.pop_front())
    deliver(life.held.front());
}

void Broker::update_limits() {
  Life& life = *life_;
  uint64_t free = life.journal->stats().disk_free;
  bool full =
      life.journal->stalled() || free < (life.disk_full ? kDiskReserve * 5 / 4 : kDiskReserve);
  if (full == life.disk_full) return;
  life.disk_full = full;
  life.core.set_disk_full(full);
}

void Broker::begin_segment_if_full() {
  Life& life = *life_;
  uint64_t used = (life.committed >= life.segment_opened_by ? life.tail.offset : 0) +
                  life.segment_uncommitted_bytes;
  if (used + kSegmentSlack < stage_.plan.segment_bytes) return;
  stage_.world.note("broker", [&] {
    return fmt::format("begins a segment: the last commit is at {}, {} bytes are not committed",
                       life.tail.offset, life.uncommitted_bytes);
  });
  life.core.checkpoint(life.out);
  life.opens_segment = true;
  absorb(nullptr);
}

void Broker::carry_stragglers() {
  Life& life = *life_;
  if (life.disk_full) return;
  const uint64_t live = life.payloads.live_bytes() + life.core.state().history_bytes();
  const uint64_t segment = stage_.plan.segment_bytes;
  const uint64_t slack = life.uncommitted_bytes == 0 ? segment * 3 / 2 : segment * 4;
  const uint64_t held =
      life.tail.segment.value + 1 - life.payloads.oldest_segment(life.tail.segment).value;
  if (held * segment <= slack + 2 * live) return;
  for (JobId job : life.payloads.oldest_live_jobs(life.tail.segment, kCarryBytes)) {
    server::PayloadStore::Bytes payload;
    if (!life.payloads.is_settled(job)) payload = life.payloads.payload(job);
    life.core.relocate(job, payload.view, life.out);
    absorb(nullptr);
  }
}

void Broker::drain(Port port) {
  auto& frames = port == Port::frontend ? life_->frontend : life_->backend;
  for (int i = 0; i < kFramesPerRound && !frames.empty(); ++i) {
    Frame frame = std::move(frames.front());
    frames.pop_front();
    handle(frame);
  }
}

void Broker::handle(const Frame& frame) {
  auto decoded = protocol::decode_from_client(*frame.bytes);
  if (auto* fault = std::get_if<protocol::Fault>(&decoded)) {
    World::fail({"clients speak the protocol", fault->message});
  }
  auto& envelope = std::get<0>(decoded);
  stage_.world.count("said to the broker", kind_of(envelope.message));
  core::Route route = frame.route;
  if (let_in(route, &envelope)) receive(route, envelope);
  absorb(frame.bytes);
}

void Broker::absorb(const Owner& frame_owner) {
  Life& life = *life_;
  for (auto& [record, owner] : life.out.records) {
    auto* accepted = std::get_if<records::Accepted>(&record);
    auto keeper = accepted && !owner ? frame_owner : owner;
    auto written = before_journal(record);
    if (!written) continue;
    size_t offset = life.chunk.append(*written, keeper);
    if (accepted) life.payloads.accept(*accepted, std::move(keeper), life.appended + 1, offset);
    if (auto* carried = std::get_if<records::Carried>(&*written))
      life.payloads.relocate(carried->job, life.appended + 1, offset);
    if (auto* kept = std::get_if<records::Kept>(&*written))
      life.payloads.relocate(kept->job, life.appended + 1, offset);
  }
  for (const core::Send& send : life.out.sends) queue_send(send);
  if (stage_.mutated(Mutation::forget_results))
    for (const auto& settled : life.core.state().take_settled())
      life.payloads.retire({settled.job, 1});
  life.payloads.follow(life.core.state());
  life.out.clear();
}

void Broker::queue_send(const core::Send& send) {
  stage_.world.count("said by the broker", kind_of(send.message));
  if (auto* confirm = std::get_if<protocol::Confirm>(&send.message))
    for (const auto& range : confirm->ranges)
      stage_.world.count("confirms", range.known ? "known" : "new", range.count);
  if (auto* reject = std::get_if<protocol::Reject>(&send.message))
    for (const auto& range : reject->ranges)
      stage_.world.count("rejects", range.reason, range.count);
  if (auto* grant = std::get_if<protocol::LeaseGrant>(&send.message))
    return encode_grant(send, *grant);
  core::Send changed = send;
  if (let_out(send, &changed.message)) hold(send, protocol::encode(send.session, changed.message));
}

void Broker::encode_grant(const core::Send& send, const protocol::LeaseGrant& grant) {
  protocol::LeaseGrant part{grant.queue, {}, grant.lease};
  if (stage_.mutated(Mutation::lease_time_lost)) part.lease = Millis(0);
  size_t bytes = 0;
  auto flush = [&] {
    if (part.jobs.empty()) return;
    hold(send, protocol::encode(send.session, protocol::FromBroker(part)));
    after_grant(send, part);
    part.jobs.clear();
    bytes = 0;
  };
  for (auto entry : grant.jobs) {
    const server::PayloadStore::Bytes payload = life_->payloads.payload(entry.lease.job);
    if (!part.jobs.empty() && bytes + payload.view.size() > protocol::kTargetFrame) flush();
    entry.payload = payload.view;
    if (payload.owner && stage_.mutated(Mutation::wrong_payload) && !entry.payload.empty())
      entry.payload.remove_prefix(1);
    bytes += payload.view.size();
    part.jobs.push_back(entry);
  }
  flush();
}

void Broker::hold(const core::Send& send, std::string frame) {
  Held held{0, send.route, send.session, std::move(frame)};
  if (send.at_once) return deliver(held);
  life_->round.push_back(std::move(held));
}

void Broker::deliver(const Held& send) {
  auto decoded = protocol::decode_from_broker(send.frame);
  auto* envelope = std::get_if<0>(&decoded);
  if (!envelope) World::fail({"the broker speaks the protocol", std::get<1>(decoded).message});
  stage_.world.note("broker", [&] {
    return fmt::format("to {}: {}", send.route.id, describe(envelope->message));
  });
  auto peer = life_->peers.find(send.session);
  stage_.oracle.leaves(envelope->message, peer == life_->peers.end() ? Uuid{} : peer->second,
                       stage_.mirror.state());
  if (!stage_.network.send(send.route.id, send.frame)) life_->core.unreachable(send.session);
}

void Broker::commit_chunk() {
  Life& life = *life_;
  if (!life.chunk.empty()) {
    life.uncommitted_bytes += life.chunk.bytes();
    life.uncommitted.emplace_back(life.appended + 1, life.chunk.bytes());
    if (life.opens_segment)
      life.segment_opened_by = life.appended + 1, life.segment_uncommitted_bytes = 0;
    life.segment_uncommitted_bytes += life.chunk.bytes();
    life.appended = life.journal->append(std::exchange(life.chunk, {}),
                                         std::exchange(life.opens_segment, false));
  }
  if (auto last = life.payloads.retirable(life.tail.segment)) life.journal->retire(*last);
  if (stage_.mutated(Mutation::retire_early) && life.tail.segment.value > 1)
    life.journal->retire({life.tail.segment.value - 1});
  for (Held& send : life.round) {
    send.ticket = life.appended;
    bool now = life.held.empty() && life.appended <= life.committed;
    if (now || stage_.mutated(Mutation::confirm_before_sync)) {
      deliver(send);
    } else {
      life.held.push_back(std::move(send));
    }
  }
  life.round.clear();
}

}  // namespace millrace::sim
