#include "tests/sim/worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "common/net/link.h"
#include "common/protocol/codec.h"
#include "tests/sim/describe.h"

namespace millrace::sim {

using protocol::Lease;

namespace {

constexpr int kFramesPerTurn = 256;
constexpr int kLinkSteps = 4;

worker::SessionSettings settings_of(const Plan& plan, Random& random, const std::string& name,
                                    bool all_queues) {
  worker::SessionSettings settings{random.uuid(), name, {}, uint64_t(random.between(1, 4)), {}};
  for (const std::string& queue : plan.queues)
    if (random.chance(700) || all_queues) settings.queues.push_back(queue);
  if (settings.queues.empty()) settings.queues = plan.queues;
  if (random.chance(500)) settings.prefetch = uint64_t(random.spread(1, 64));
  return settings;
}

}  // namespace

struct Worker::Life {
  Life(worker::SessionSettings s, uint64_t seed) : settings(s), session(s), link(seed, {}) {}

  worker::SessionSettings settings;
  worker::WorkerSession session;
  Link link;
  std::unique_ptr<Socket> socket;
  bool draining = false;

  struct Running {
    worker::Finished end;
    Nanos at = 0;
  };
  std::deque<worker::Job> waiting;
  std::vector<Running> running;

  // The shell's own.
  std::unordered_map<uint64_t, std::vector<Lease>> batches;
  uint64_t most_credit = 0;
  uint64_t last_batch = 0;  // of those sent before this connection
  uint64_t newest_batch = 0;
};

Worker::Worker(Stage& stage, size_t number)
    : Process(stage, stage.random.fork("worker drift", number).between(-100, 100)),
      number_(number),
      path_(stage.network.add_path(fmt::format("w{}", number), stage.plan.latency)),
      random_(stage.random.fork("worker", number)) {}
Worker::~Worker() = default;

void Worker::begin() {
  name_ = fmt::format("w{}.{}", number_, ++lives_);
  stage_.world.count("processes", "worker starts");
  life_ = std::make_unique<Life>(settings_of(stage_.plan, random_, name_, number_ == 0),
                                 random_.next());
  stage_.oracle.worker_began(life_->settings.worker, name_, life_->settings.threads);
  stage_.world.note("run", [&] {
    return fmt::format("{} ({}) begins, {} threads", name_,
                       life_->settings.worker.hex().substr(0, 6), life_->settings.threads);
  });
  wake();
}

void Worker::kill(bool power_lost) {
  if (!life_) return;
  stage_.oracle.worker_ended(life_->settings.worker);
  if (power_lost) stage_.network.lose_host(path_);
  life_.reset();
}

void Worker::touch() {
  if (life_) stage_.oracle.touched(life_->settings.worker);
}

void Worker::drain() {
  if (!life_ || life_->draining) return;
  life_->draining = true;
  std::vector<Lease> waiting;
  for (const worker::Job& job : std::exchange(life_->waiting, {})) waiting.push_back(job.lease);
  worker::Output out;
  life_->session.drain(waiting, &out);
  apply(std::move(out));
  wake();
}

bool Worker::idle() const {
  return life_ && life_->session.welcomed() && life_->session.held() == 0 &&
         life_->waiting.empty() && life_->running.empty();
}

void Worker::turn() {
  if (!life_) return;
  Now at = now();
  receive(at);
  collect();
  if (!life_) return;  // a poisonous job
  advance_link(at);
  worker::Output out;
  life_->session.tick(at.mono, &out);
  apply(std::move(out));
  if (life_->draining && life_->session.drained()) {
    if (life_->socket && life_->session.welcomed())
      send(encode(life_->link.session(), protocol::FromClient(protocol::Bye{})));
    stage_.world.note("run", [&] { return name_ + " has drained"; });
    kill(false);
    return exited_();
  }
  wake_at(std::min(life_->link.wake_at(), life_->session.wake_at()));
  for (const auto& running : life_->running) wake_at(running.at);
}

void Worker::advance_link(Now at) {
  for (int i = 0; i < kLinkSteps; ++i) {
    switch (life_->link.next(at.mono)) {
      case Link::Step::none:
        return;
      case Link::Step::open: {
        life_->socket.reset();
        life_->socket =
            std::make_unique<Socket>(stage_.network, path_, Port::backend, [this] { wake(); });
        life_->last_batch = life_->newest_batch;
        worker::Output out;
        life_->session.opened(life_->link.session(), &out);
        apply(std::move(out));
        break;
      }
      case Link::Step::close:
        stage_.world.note(name_, [] { return "has lost the broker"; });
        life_->socket.reset();
        life_->session.closed();
        break;
      case Link::Step::heartbeat:
        send(encode(life_->link.session(), protocol::FromClient(protocol::Heartbeat{})));
        break;
    }
  }
}

void Worker::receive(Now at) {
  Bytes frame;
  for (int i = 0; i < kFramesPerTurn && life_->socket && life_->socket->receive(&frame); ++i)
    take(frame, at);
}

void Worker::take(const Bytes& frame, Now at) {
  auto decoded = protocol::decode_from_broker(*frame);
  auto& envelope = std::get<0>(decoded);
  if (envelope.session != life_->link.session()) return;
  life_->link.received(at.mono);
  if (std::holds_alternative<protocol::Heartbeat>(envelope.message)) life_->link.asked();
  if (std::holds_alternative<protocol::Reregister>(envelope.message))
    return life_->link.lost(at.mono);
  if (auto* error = std::get_if<protocol::ErrorReply>(&envelope.message)) {
    // Its connection before this one still stands at the broker, or was heard late.
    if (error->code == "not_yours") return life_->link.lost(at.mono);
    World::fail(
        {"clients speak the protocol", std::string(error->code) + ": " + error->message, 0, name_});
  }
  if (auto* welcome = std::get_if<protocol::Welcome>(&envelope.message))
    life_->link.welcomed(at.mono, welcome->heartbeat, welcome->liveness);
  if (!note_received(envelope.message)) return;
  worker::Output out;
  life_->session.received(envelope.message, frame, at.mono, &out);
  apply(std::move(out));
}

void Worker::collect() {
  std::vector<worker::Finished> finished;
  auto& running = life_->running;
  std::erase_if(running, [&](Life::Running& run) {
    if (run.at > stage_.world.now()) return false;
    finished.push_back(std::move(run.end));
    return true;
  });
  if (finished.empty()) return;
  for (const worker::Finished& end : finished) {
    if (end.run == std::chrono::nanoseconds(0)) {  // it takes the whole process with it
      stage_.world.note(
          "run", [&] { return fmt::format("{} is killed by j{}", name_, end.lease.job.value); });
      stage_.world.count("processes", "workers killed by a job");
      kill(false);
      return exited_();
    }
    stage_.oracle.run_ended(end);
  }
  worker::Output out;
  life_->session.completed(std::move(finished), &out);
  apply(std::move(out));
  start_waiting();
}

void Worker::apply(worker::Output out) {
  for (std::string& frame : out.frames) send(std::move(frame));
  for (worker::Job& job : out.start) life_->waiting.push_back(std::move(job));
  forget(out.forget);
  if (!out.recall.empty()) {
    worker::Output released;
    life_->session.give_back(take(out.recall), &released);
    apply(std::move(released));
  }
  start_waiting();
}

std::vector<Lease> Worker::take(const std::vector<Lease>& leases) {
  std::vector<Lease> taken;
  std::erase_if(life_->waiting, [&](const worker::Job& job) {
    const bool is_meant = std::find(leases.begin(), leases.end(), job.lease) != leases.end();
    if (is_meant) taken.push_back(job.lease);
    return is_meant;
  });
  return taken;
}

void Worker::forget(const std::vector<Lease>& leases) {
  for (Lease lease : leases)
    std::erase_if(life_->waiting, [lease](const worker::Job& job) { return job.lease == lease; });
}

void Worker::start_waiting() {
  while (!life_->waiting.empty() && life_->running.size() < life_->settings.threads) {
    worker::Job job = std::move(life_->waiting.front());
    life_->waiting.pop_front();
    stage_.oracle.run_began(life_->settings.worker, job);
    ScriptedJob scripted = scripted_job_of(stage_.plan, hash_of(job.payload), job.attempt);
    stage_.world.note(name_, [&] {
      return fmt::format("runs j{} for {} ms", job.lease.job.value, scripted.run / kMilli);
    });
    Nanos run = scripted.kills_worker ? 0 : std::max<Nanos>(scripted.run, 1);
    Nanos end = stage_.world.now() + scripted.run;
    life_->running.push_back(
        {{job.lease, std::move(scripted.completion), std::chrono::nanoseconds(run)}, end});
    wake_at(end);
  }
}

void Worker::send(std::string frame) {
  if (!note_sent(&frame)) return;
  if (!life_->socket) return life_->link.lost(now().mono);
  life_->socket->send(std::move(frame));
  life_->link.sent(now().mono);
}

// ---- the shell

bool Worker::note_sent(std::string* frame) {
  auto decoded = protocol::decode_from_client(*frame);
  auto& envelope = std::get<0>(decoded);
  stage_.world.note(name_, [&] { return "says " + describe(envelope.message); });
  auto keep = [this](uint64_t batch, std::vector<Lease> leases) {
    life_->batches[batch] = std::move(leases);
    life_->newest_batch = std::max(life_->newest_batch, batch);
    return !(stage_.mutated(Mutation::forget_completions) && batch <= life_->last_batch);
  };
  auto leases_of = [](const auto& jobs) {
    std::vector<Lease> leases;
    for (const auto& entry : jobs) leases.push_back(entry.lease);
    return leases;
  };
  if (auto* credit = std::get_if<protocol::Credit>(&envelope.message))
    life_->most_credit = std::max(life_->most_credit, credit->jobs);
  if (auto* done = std::get_if<protocol::Done>(&envelope.message))
    return keep(done->batch, leases_of(done->jobs));
  if (auto* fail = std::get_if<protocol::Fail>(&envelope.message))
    return keep(fail->batch, leases_of(fail->jobs));
  if (auto* release = std::get_if<protocol::Release>(&envelope.message))
    return keep(release->batch, release->jobs);
  auto* reg = std::get_if<protocol::Register>(&envelope.message);
  if (reg && !reg->claims.empty() && stage_.mutated(Mutation::forget_completions)) {
    std::erase_if(reg->claims, [this](Lease lease) {
      auto runs = [lease](const auto& run) { return run.end.lease == lease; };
      auto waits = [lease](const auto& job) { return job.lease == lease; };
      return std::none_of(life_->running.begin(), life_->running.end(), runs) &&
             std::none_of(life_->waiting.begin(), life_->waiting.end(), waits);
    });
    *frame = protocol::encode(envelope.session, envelope.message);
  }
  if (reg && !reg->claims.empty() && stage_.mutated(Mutation::new_claim_epoch)) {
    for (Lease& lease : reg->claims) ++lease.epoch.value;
    *frame = protocol::encode(envelope.session, envelope.message);
  }
  return true;
}

bool Worker::note_received(const protocol::FromBroker& message) {
  const Uuid& id = life_->settings.worker;
  bool welcomed = life_->session.welcomed();
  if (auto* welcome = std::get_if<protocol::Welcome>(&message); welcome && !welcomed)
    for (Lease lease : welcome->stale) stage_.oracle.let_go(id, lease);
  if (!welcomed) return true;
  if (auto* grant = std::get_if<protocol::LeaseGrant>(&message))
    for (const auto& entry : grant->jobs) stage_.oracle.granted(id, entry, life_->most_credit);
  if (auto* stale = std::get_if<protocol::Stale>(&message))
    for (Lease lease : stale->jobs) stage_.oracle.let_go(id, lease);
  if (auto* cancelled = std::get_if<protocol::Cancelled>(&message))
    for (Lease lease : cancelled->jobs) stage_.oracle.let_go(id, lease);
  if (auto* done_ok = std::get_if<protocol::DoneOk>(&message)) {
    if (stage_.mutated(Mutation::ignore_done_ok) && random_.chance(50)) return false;
    auto batch = life_->batches.find(done_ok->batch);
    if (batch == life_->batches.end()) return true;
    for (Lease lease : batch->second) {
      const auto* held = stage_.model.state().lease_of(lease.job);
      if (held && held->epoch == lease.epoch)
        World::fail({"DONE_OK says that it is on disk", fmt::format("j{}", lease.job.value),
                     lease.job.value, name_});
      stage_.oracle.let_go(id, lease);
    }
    life_->batches.erase(batch);
  }
  return true;
}

}  // namespace millrace::sim
