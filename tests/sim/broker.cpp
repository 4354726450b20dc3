#include "tests/sim/broker.h"

#include <fmt/format.h>

#include "broker/replay/replay.h"
#include "broker/server/snapshot.h"
#include "common/protocol/codec.h"
#include "tests/sim/broker_life.h"
#include "tests/sim/describe.h"

namespace millrace::sim {

using core::Port;

namespace {

constexpr int kFramesPerRound = 256;

}  // namespace

Broker::Broker(Stage& stage)
    : Process(stage, 0),
      random_(stage.random.fork("broker")),
      snapshot_random_(random_.fork("snapshots")) {}
Broker::~Broker() = default;

bool Broker::serving() const { return life_ && life_->serving; }

void Broker::start() {
  ++starts_;
  stage_.world.note("run", [&] { return fmt::format("the broker starts, {}", starts_); });
  stage_.world.count("processes", "broker starts");
  if (stage_.mutated(Mutation::drop_last_batch)) forget_last_batch();
  const Plan& plan = stage_.plan;
  life_ = std::make_unique<Life>(*this, random_.next());
  life_->started_at = stage_.world.now();
  life_->journal =
      std::make_unique<SimJournal>(stage_.world, stage_.disk, stage_.trouble,
                                   SimJournal::Timing{plan.sync_time, plan.segment_bytes},
                                   random_.fork("journal", starts_), [this] { wake(); });
  life_->faulty_journal.emplace(*life_->journal, stage_, random_.fork("faulty journal", starts_),
                                [this] { wake(); });
  life_->loop.set_journal(*life_->faulty_journal);
  if (auto recovered = recover(); !recovered) fail(recovered.error());
}

// From the snapshot, if there is one and it counts; a replay would say the same (after_recovery()).
Result<journal::Recovered> Broker::recover() {
  Life& life = *life_;
  const auto snapshot = server::Snapshot::parse(std::exchange(snapshot_, nullptr));
  auto recovered = life.journal->open(
      records::replay([&](const records::Record& record, journal::Place place) {
        return life.loop.replay(record, place, now());
      }),
      snapshot ? std::optional(snapshot->end()) : std::nullopt, [this] { opened(); });
  if (!recovered) return recovered;
  stage_.world.count("starts", recovered->resumed ? "from a snapshot" : "by replay");
  if (snapshot && !recovered->resumed) stage_.world.count("starts", "snapshot of no use");
  if (!recovered->resumed) return recovered;
  auto restored = snapshot->restore(now(), &life.core, &life.loop.payloads());
  return restored ? recovered : Result<journal::Recovered>(restored.error());
}

// Small, so that the edges are met often.
server::LoopOptions Broker::loop_options() const {
  server::LoopOptions options;
  options.segment_bytes = stage_.plan.segment_bytes;
  options.segment_slack = 32 << 10;
  const bool is_low = stage_.mutated(Mutation::low_disk_mark);
  options.reserve = {is_low ? kDiskReserve / 5 * 4 : kDiskReserve, 1 << 20};
  options.payload_memory = stage_.plan.payload_memory;
  options.read_back = {64 << 10, 8, 4, 16 << 10};  // what was read is evicted, reads wait
  options.backlog_bytes = stage_.plan.backlog_bytes;
  options.relocated_per_round = 8 << 10;
  options.work_per_round = stage_.plan.work_per_round;
  options.clock = [this] {
    return life_->round_time += std::chrono::nanoseconds(stage_.plan.frame_time);
  };
  return options;
}

void Broker::opened() {
  Life& life = *life_;
  stage_.model.update();
  after_recovery();
  life.next_look = now().mono + stage_.plan.settings.heartbeat / 4;
  if (auto begun = life.loop.begin(now(), BrokerId{uint32_t(stage_.plan.seed | 1)}); !begun)
    return fail(begun.error());
  life.serving = true;
  stage_.network.listen([this](Port port, uint64_t route, Bytes frame) {
    (port == Port::frontend ? life_->frontend : life_->backend)
        .push_back({route, std::move(frame)});
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
    stage_.model.update();
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
  life_->loop.ask([operation = std::move(operation)](core::Core& core, Now now, core::Output& out) {
    operation(core, now, out);
    return nullptr;
  });
  wake();
}

void Broker::turn() {
  if (!life_) return;
  Life& life = *life_;
  if (auto failure = life.journal->failure()) return fail(*failure);
  if (!life.serving) return;
  const Now at = now();
  life.round_time = at.mono;
  life.free_at_round = life.journal->stats().disk_free;
  if (auto done = life.loop.round(at); !done) return fail(done.error());
  check_limits();
  if (life.stopping && life.loop.is_committed() && life.journal->idle()) return close();
  wake_at(life.loop.wake_at());
  if (life.loop.has_work()) wake();
}

void Broker::close() {
  life_->serving = false;
  stage_.network.stop_listening(false);
  life_->journal->close([this] {
    stage_.world.count("processes", "clean stops");
    if (snapshot_random_.chance(500))
      snapshot_ = std::make_shared<const std::string>(server::Snapshot::encode(
          life_->journal->end(), life_->core.state(), life_->loop.payloads()));
    fail({ExitCode::io, "stopped"});
  });
}

// ---- the loop's transport

bool Broker::receive(Port port) {
  const size_t waiting = life_->faulty_journal->uncommitted_bytes();
  if (port == Port::frontend && waiting > stage_.plan.backlog_bytes)
    World::fail({"producers are left unread while the disk is behind",
                 fmt::format("{} bytes are not committed", waiting)});
  auto& frames = port == Port::frontend ? life_->frontend : life_->backend;
  for (int i = 0; i < kFramesPerRound && !frames.empty(); ++i) {
    if (life_->loop.is_full(port)) return false;
    Arrived frame = std::move(frames.front());
    frames.pop_front();
    const std::string_view bytes = *frame.bytes;
    life_->loop.push({port, frame.route}, {std::move(frame.bytes), bytes});
  }
  return !frames.empty();
}

bool Broker::send(core::Route route, std::string frame) {
  auto decoded = protocol::decode_from_broker(frame);
  auto* envelope = std::get_if<0>(&decoded);
  if (!envelope) World::fail({"the broker speaks the protocol", std::get<1>(decoded).message});
  stage_.world.note(
      "broker", [&] { return fmt::format("to {}: {}", route.id, describe(envelope->message)); });
  auto peer = life_->peers.find(envelope->session);
  stage_.oracle.leaves(envelope->message, peer == life_->peers.end() ? Uuid{} : peer->second,
                       stage_.model.state());
  return stage_.network.send(route.id, std::move(frame));
}

void Broker::hold(core::Route route, size_t bytes) { life_->held[route.id] += bytes; }

void Broker::release(core::Route route, size_t bytes) {
  size_t& held = life_->held[route.id];
  if (held < bytes)
    World::fail({"what is held for a peer is released once",
                 fmt::format("{} bytes of {} for {}", bytes, held, route.id)});
  held -= bytes;
  if (held == 0) life_->held.erase(route.id);
}

bool Broker::is_connected(core::Route route) const { return stage_.network.is_connected(route.id); }

// ---- what the loop reports

void Broker::frame_refused(core::Route, const protocol::Fault& fault) {
  World::fail({"clients speak the protocol", fault.message});
}

void Broker::peer_overran(core::Route, const std::string& peer) {
  World::fail({"clients keep to their windows", peer});
}

void Broker::payload_unreadable(const std::string&) {
  stage_.world.count("broker", "payloads not read for now");
}

void Broker::message_not_encoded() { World::fail({"there is memory", ""}); }

void Broker::disk_full_changed(bool full, const std::string& shortage, uint64_t free) {
  stage_.world.count("high-water marks", full ? "disk full" : "disk no longer full");
  life_->disk_full = full;
  check_disk_mark(full, free);
  stage_.world.note("broker", [&] {
    return fmt::format("the disk is {}, {} bytes are free {}", full ? "full" : "full no more", free,
                       shortage);
  });
}

}  // namespace millrace::sim
