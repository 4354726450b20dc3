#include "tests/sim/producer.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/net/link.h"
#include "common/protocol/codec.h"
#include "producer/session/session.h"
#include "tests/sim/describe.h"

namespace millrace::sim {

using namespace producer;

namespace {

constexpr int kFramesPerTurn = 256;
constexpr int kLinkSteps = 4;
constexpr uint64_t kMostUnanswered = 3000;
constexpr uint64_t kTooLargePerMille = 3;

}  // namespace

// A session counts its sequences from 1; one that begins again counts on from `before`.
struct Producer::Life final : Listener {
  Life(Producer& producer, SessionConfig config, uint64_t seed, uint64_t sequences_before)
      : owner(producer), session(config, *this), link(seed, {}), before(sequences_before) {}

  SeqRange global(SeqRange seqs) const { return {{seqs.first.value + before}, seqs.count}; }
  void confirmed(const Confirmed& event) override {
    Confirmed told = event;
    told.seqs = global(event.seqs);
    owner.stage_.oracle.confirmed(owner.name_, owner.id_, told);
    for (uint64_t i = 0; i < event.seqs.count; ++i) jobs.push_back({event.first_job.value + i});
  }
  void rejected(const Rejected& event) override {
    Rejected told = event;
    told.seqs = global(event.seqs);
    owner.stage_.oracle.rejected(owner.id_, told);
  }
  void ended(const Ended& event) override {
    Ended told = event;
    told.seqs = global(event.seqs);
    owner.stage_.oracle.ended(owner.name_, owner.id_, told);
  }
  void told(protocol::JobRange range, protocol::JobState state) override {
    owner.stage_.oracle.told(owner.name_, range, state);
  }
  void contradicted(SeqRange seqs, JobId job) override {
    owner.stage_.oracle.contradicted(owner.name_, global(seqs), job);
  }

  Producer& owner;
  ProducerSession session;
  Link link;
  std::unique_ptr<Socket> socket;
  const uint64_t before;
  std::vector<JobId> jobs;   // confirmed, to ask about
  uint64_t sent_before = 0;  // sequences that were sent before this connection
  uint64_t sent = 0;
};

Producer::Producer(Stage& stage, size_t number)
    : Process(stage, stage.random.fork("producer drift", number).between(-100, 100)),
      number_(number),
      path_(stage.network.add_path(fmt::format("p{}", number), stage.plan.latency)),
      random_(stage.random.fork("producer", number)) {}
Producer::~Producer() = default;

void Producer::begin(bool same) {
  name_ = fmt::format("p{}.{}", number_, ++lives_);
  leaving_ = false;
  stage_.world.count("processes", "producer starts");
  if (!same || lives_ == 1) {
    if (lives_ > 1) stage_.oracle.abandoned(id_);
    id_ = random_.uuid();
    spool_.clear();
    next_seq_ = floor_ = 1;
  }
  SessionConfig config;
  config.producer = id_;
  config.on_reject = random_.chance(600) ? OnReject::retry : OnReject::report;
  life_ = std::make_unique<Life>(*this, config, random_.next(), floor_ - 1);
  stage_.world.note("run", [&] {
    return fmt::format("{} ({}) begins{}", name_, id_.hex().substr(0, 6),
                       floor_ > 1 ? fmt::format(" again at seq {}", floor_) : "");
  });
  stage_.oracle.forgotten(id_, {floor_});
  for (uint64_t seq = floor_; seq < next_seq_; ++seq) {
    const Spooled& job = spool_[seq - 1];
    stage_.oracle.submitted_again(id_, {seq});
    life_->session.submit(job.queue, job.options, job.payload);
  }
  wake();
}

void Producer::kill(bool power_lost) {
  if (!life_) return;
  floor_ = life_->before + life_->session.floor().value;
  if (power_lost) stage_.network.lose_host(path_);
  life_.reset();
}

bool Producer::idle() const {
  return life_ && finishing_ && life_->session.unanswered() == 0 &&
         life_->session.outstanding() == 0 && !life_->session.inquiring();
}

std::string Producer::waits_for() const {
  if (!life_) return name_ + " is down";
  return fmt::format("{}: {} unanswered, {} awaited{}", name_, life_->session.unanswered(),
                     life_->session.outstanding(),
                     life_->link.connected() ? "" : ", not connected");
}

void Producer::turn() {
  if (!life_) return;
  Now at = now();
  receive(at);
  work();
  if (!life_) return;
  advance_link(at);
  flush(at);
  floor_ = life_->before + life_->session.floor().value;
  wake_at(std::min(life_->link.wake_at(), life_->session.wake_at()));
  if (!finishing_ && !leaving_) wake_at(next_burst_);
}

void Producer::advance_link(Now at) {
  for (int i = 0; i < kLinkSteps; ++i) {
    switch (life_->link.next(at.mono)) {
      case Link::Step::none:
        return;
      case Link::Step::open:
        life_->socket.reset();
        life_->socket =
            std::make_unique<Socket>(stage_.network, path_, Port::frontend, [this] { wake(); });
        life_->sent_before = life_->sent;
        send(encode(life_->link.session(), protocol::FromClient(life_->session.hello())));
        break;
      case Link::Step::close:
        stage_.world.note(name_, [] { return "has lost the broker"; });
        life_->session.lost();
        life_->socket.reset();
        break;
      case Link::Step::heartbeat:
        send(encode(life_->link.session(), protocol::FromClient(protocol::Heartbeat{})));
        break;
    }
  }
}

void Producer::receive(Now at) {
  Bytes frame;
  for (int i = 0; i < kFramesPerTurn && life_->socket && life_->socket->receive(&frame); ++i)
    take(frame, at);
}

void Producer::take(const Bytes& frame, Now at) {
  auto decoded = protocol::decode_from_broker(*frame);
  auto& envelope = std::get<0>(decoded);
  if (envelope.session != life_->link.session()) return;
  life_->link.received(at.mono);
  if (std::holds_alternative<protocol::Heartbeat>(envelope.message)) life_->link.asked();
  auto& message = envelope.message;
  if (auto* error = std::get_if<protocol::ErrorReply>(&message)) {
    // Its connection before this one still stands at the broker, or was heard late.
    if (error->code == "not_yours") return life_->link.lost(at.mono);
    World::fail(
        {"clients speak the protocol", std::string(error->code) + ": " + error->message, 0, name_});
  }
  if (std::holds_alternative<protocol::Reregister>(message)) return life_->link.lost(at.mono);
  if (auto* welcome = std::get_if<protocol::Welcome>(&message)) {
    if (life_->link.connected()) return;
    life_->link.welcomed(at.mono, welcome->heartbeat, welcome->liveness);
    if (life_->link.connected()) life_->session.welcomed(*welcome);
    return;
  }
  if (!life_->link.connected()) return;
  // The session's own sequences begin at 1.
  if (auto* confirm = std::get_if<protocol::Confirm>(&message))
    for (auto& range : confirm->ranges) range.first.value -= life_->before;
  if (auto* reject = std::get_if<protocol::Reject>(&message))
    for (auto& range : reject->ranges) range.first.value -= life_->before;
  life_->session.received(at.mono, message);
}

// What the application does.
void Producer::work() {
  if (leaving_) return leave();
  if (finishing_ || stage_.world.now() < next_burst_) return;
  uint64_t burst = uint64_t(random_.spread(1, 60));
  double mean = double(burst) * double(stage_.plan.producers) / stage_.plan.jobs_per_second;
  next_burst_ =
      stage_.world.now() + Nanos(mean * 2e9 * double(random_.below(1000)) / 1000) + kMilli;
  for (uint64_t i = 0; i < burst; ++i) {
    if (life_->session.has_room() && life_->session.unanswered() < kMostUnanswered) submit_one();
  }
  if (random_.chance(100) && !life_->jobs.empty())
    life_->session.inquire({random_.pick(life_->jobs), 1});
  if (random_.chance(stage_.plan.cancel_per_mille) && !life_->jobs.empty()) cancel_some();
  leaving_ = random_.chance(10);
}

// The session has no words for it; the answer, STATES, it takes for one that it did not ask for.
void Producer::cancel_some() {
  if (!life_->link.connected()) return;
  protocol::Cancel cancel{{{random_.pick(life_->jobs), 1 + random_.below(3)}}};
  send(encode(life_->link.session(), protocol::FromClient(cancel)));
}

void Producer::submit_one() {
  const Plan& plan = stage_.plan;
  Spooled job;
  bool too_large = random_.chance(kTooLargePerMille);
  size_t size = too_large ? plan.settings.max_job_size + 1
                          : size_t(random_.spread(16, int64_t(plan.settings.max_job_size / 4)));
  job.payload = fmt::format("{} {} ", name_, next_seq_);
  while (job.payload.size() < size) job.payload.push_back(char(random_.next()));
  job.queue = random_.pick(plan.queues);
  // A burst goes mostly to one queue, with one set of options: only then are there batches.
  job.options.report = protocol::Report(random_.below(3));
  if (!spool_.empty() && random_.chance(800))
    job.queue = spool_.back().queue, job.options = spool_.back().options;
  if (random_.chance(30)) job.options.max_attempts = uint8_t(random_.between(1, 5));
  draw_options(&job.options);
  count(job.options, too_large);
  stage_.oracle.submitted(id_, {next_seq_}, {hash_of(job.payload), job.queue, job.options});
  Seq seq = life_->session.submit(job.queue, job.options, job.payload);
  if (seq.value + life_->before != next_seq_)
    World::fail({"the simulator is right", "a session counts otherwise"});
  ++next_seq_;
  spool_.push_back(std::move(job));
}

// What of the further options this job has; each for itself, or batches would be few.
void Producer::draw_options(protocol::SubmitOptions* options) {
  const Plan& plan = stage_.plan;
  options->key.clear();
  options->delay = options->ttl = Millis(0);
  if (random_.chance(plan.priority_per_mille)) options->priority = uint8_t(random_.below(10));
  if (random_.chance(plan.delay_per_mille)) options->delay = Millis(random_.spread(1, 30'000));
  if (random_.chance(plan.delay_per_mille / 10))
    options->delay = std::chrono::hours(24 * 365 * random_.between(1, 99));
  if (random_.chance(plan.ttl_per_mille)) options->ttl = Millis(random_.spread(50, 60'000));
  if (random_.chance(plan.key_per_mille)) options->key = "key " + std::to_string(random_.below(50));
}

void Producer::count(const protocol::SubmitOptions& options, bool too_large) {
  constexpr std::string_view kReports[] = {"report none", "report outcome", "report result"};
  auto add = [this](bool is, std::string_view what) {
    if (is) stage_.world.count("submissions", what);
  };
  const bool far = options.delay > std::chrono::hours(24);
  add(true, kReports[size_t(options.report)]);
  add(too_large, "too large");
  add(options.delay.count() > 0 && !far, "with a delay");
  add(far, "due after years");
  add(options.ttl.count() > 0, "with a TTL");
  add(options.priority != protocol::kDefaultPriority, "with a priority");
  add(!options.key.empty(), "with a key");
  add(options.max_attempts > 0, "with max attempts");
}

// Says goodbye when nothing is owed, and comes back as another.
void Producer::leave() {
  if (!life_->link.connected() || life_->session.unanswered() > 0 ||
      life_->session.outstanding() > 0 || life_->session.inquiring())
    return;
  stage_.world.count("processes", "goodbyes");
  send(encode(life_->link.session(), protocol::FromClient(protocol::Bye{})));
  kill(false);
  stage_.world.after(100 * kMilli, [this] {
    if (!life_) begin(false);
  });
}

void Producer::flush(Now at) {
  if (!life_->link.connected()) return;
  ProducerSession::Frames frames;
  life_->session.flush(at.mono, life_->link.session(), &frames);
  for (std::string& frame : frames) send(std::move(frame));
}

void Producer::send(std::string frame) {
  change(&frame);
  if (!life_->socket) return life_->link.lost(now().mono);
  life_->socket->send(std::move(frame));
  life_->link.sent(now().mono);
}

void Producer::change(std::string* frame) {
  auto decoded = protocol::decode_from_client(*frame);
  auto& envelope = std::get<0>(decoded);
  if (auto* submit = std::get_if<protocol::Submit>(&envelope.message)) {
    submit->first.value += life_->before;
    submit->floor.value += life_->before;
    bool again = submit->first.value <= life_->sent_before;
    life_->sent = std::max(life_->sent, submit->first.value + submit->payloads.size() - 1);
    if (again) stage_.world.count("submissions", "sent again", submit->payloads.size());
    if (again && stage_.mutated(Mutation::resend_as_new)) submit->first.value = next_seq_;
    if (stage_.mutated(Mutation::floor_too_high)) submit->floor.value += submit->payloads.size();
    stage_.world.note(name_, [&] { return "says " + describe(envelope.message); });
    bool changed = life_->before > 0 || stage_.mutated(Mutation::resend_as_new) ||
                   stage_.mutated(Mutation::floor_too_high);
    if (changed) *frame = protocol::encode(envelope.session, envelope.message);
    return;
  }
  stage_.world.note(name_, [&] { return "says " + describe(envelope.message); });
}

}  // namespace millrace::sim
