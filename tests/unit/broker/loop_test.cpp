#include "broker/server/loop.h"

#include <algorithm>
#include <deque>

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::server;
using core::Port;
using core::Route;
using protocol::FromBroker;
using protocol::FromClient;

namespace {

constexpr Route kProducer{Port::frontend, 1}, kOther{Port::frontend, 2}, kWorker{Port::backend, 1};
constexpr SessionId kSession{11}, kWorkerSession{12};

Uuid uuid(uint8_t n) {
  Uuid id;
  id.bytes.fill(n);
  return id;
}

// Commits when it is told to.
class ManualJournal final : public journal::Journal {
 public:
  void commit_all() {
    for (; committed_ < appended_; place_.offset += 100) commits_.push_back({++committed_, place_});
  }
  Result<void> start(BrokerId, uint64_t) override { return {}; }
  uint64_t append(journal::Chunk, bool) override { return ++appended_; }
  void retire(SegmentId) override {}
  std::vector<journal::Committed> take_committed() override { return std::exchange(commits_, {}); }
  int wake_fd() const override { return -1; }
  std::optional<Error> failure() const override { return std::nullopt; }
  bool stalled() const override { return false; }
  std::string shortage() const override { return ""; }
  journal::JournalStats stats() const override {
    journal::JournalStats stats;
    stats.disk_free = disk_free;
    return stats;
  }
  Result<journal::Body> read(journal::Place, size_t) override { return Error{ExitCode::io, ""}; }
  void request(const journal::ReadRequest&) override {}
  std::vector<journal::ReadAnswer> take_read() override { return {}; }
  Result<void> stop() override { return {}; }
  journal::Position end() const override { return {}; }

  uint64_t disk_free = 1 << 30;

 private:
  uint64_t appended_ = 0, committed_ = 0;
  journal::Place place_{{1}, 4096};
  std::vector<journal::Committed> commits_;
};

class Harness final : public Transport, public LoopObserver {
 public:
  explicit Harness(LoopOptions options = {}, core::Settings settings = {})
      : loop(settings, 1, with_clock(std::move(options)), *this, *this, calls_) {
    loop.set_journal(journal);
    REQUIRE(loop.begin(now, BrokerId{7}));
  }

  void round() { REQUIRE(loop.round(now)); }
  void say(Route route, SessionId session, const FromClient& message) {
    (route.port == Port::frontend ? frontend : backend)
        .push_back(
            {route, std::make_shared<const std::string>(protocol::encode(session, message))});
  }
  void hello(Route route = kProducer, SessionId session = kSession, uint8_t who = 1) {
    say(route, session, protocol::Hello{uuid(who)});
  }
  void submit(uint64_t first, std::string_view payload = "x") {
    protocol::Submit message{{1}, {first}, "q"};
    message.payloads = {payload};
    say(kProducer, kSession, message);
  }
  void reg() {
    protocol::Register message;
    message.worker = uuid(9);
    message.threads = 1;
    say(kWorker, kWorkerSession, message);
  }
  // That were sent since the last call.
  template <typename Message>
  size_t count() {
    size_t found = 0;
    for (const std::string& frame : std::exchange(sent, {}))
      found +=
          std::holds_alternative<Message>(std::get<0>(protocol::decode_from_broker(frame)).message);
    return found;
  }

  void begin_round() override {}
  bool receive(Port port) override {
    auto& frames = port == Port::frontend ? frontend : backend;
    for (; !frames.empty() && !loop.is_full(port); frames.pop_front()) {
      const std::string_view bytes = *frames.front().second;
      loop.push(frames.front().first, {frames.front().second, bytes});
    }
    return false;
  }
  bool send(Route, std::string frame) override {
    sent.push_back(std::move(frame));
    return true;
  }
  void disconnect(Route route, Millis) override { disconnected.push_back(route); }
  void hold(Route, size_t bytes) override { held += bytes; }
  void release(Route, size_t bytes) override { held -= bytes; }
  void disconnect_slow_readers() override {}
  bool has_room(Route) const override { return true; }
  bool is_connected(Route) const override { return true; }
  bool is_connected(Route route, int) const override {
    return std::find(closed.begin(), closed.end(), route) == closed.end();
  }
  void note_session(Route, int, SessionId) override {}
  void frame_refused(Route, const protocol::Fault&) override { ++refused; }
  void peer_overran(Route, const std::string&) override { ++overruns; }
  void payload_unreadable(const std::string&) override {}
  void message_not_encoded() override {}
  void disk_full_changed(bool full, const std::string&, uint64_t) override {
    disk_full.push_back(full);
  }

  ManualJournal journal;
  Now now{Mono(std::chrono::hours(1)), WallMs(Millis(1'000'000))};
  Mono clock{};
  std::chrono::microseconds frame_time{1};
  std::deque<std::pair<Route, std::shared_ptr<const std::string>>> frontend, backend;
  std::vector<std::string> sent;
  std::vector<Route> disconnected, closed;
  std::vector<bool> disk_full;
  size_t held = 0, refused = 0, overruns = 0;

 private:
  LoopOptions with_clock(LoopOptions options) {
    options.clock = [this] { return clock += frame_time; };
    return options;
  }
  CoreCalls calls_;

 public:
  Loop loop;
};

}  // namespace

TEST_CASE("a CONFIRM leaves once its record is committed", "[loop]") {
  Harness h;
  h.journal.commit_all();
  h.hello();
  h.submit(1);
  h.round();
  CHECK(h.count<protocol::Confirm>() == 0);
  CHECK(h.held > 0);
  h.round();
  CHECK(h.count<protocol::Confirm>() == 0);
  h.journal.commit_all();
  h.round();
  CHECK(h.count<protocol::Confirm>() == 1);
  CHECK(h.held == 0);
}

TEST_CASE("a producer's WELCOME waits for the first commit of a start only", "[loop]") {
  Harness h;
  h.hello();
  h.round();
  CHECK(h.count<protocol::Welcome>() == 0);
  h.journal.commit_all();
  h.round();
  CHECK(h.count<protocol::Welcome>() == 1);
  h.submit(1);  // something that is not committed
  h.round();
  h.hello(kOther, {13}, 2);
  h.round();
  CHECK(h.count<protocol::Welcome>() == 1);
}

TEST_CASE("with a backlog producers are left unread, and workers are not", "[loop]") {
  LoopOptions options;
  options.backlog_bytes = 1000;
  Harness h(options);
  h.journal.commit_all();
  h.hello();
  h.submit(1, std::string(2000, 'x'));
  h.round();
  CHECK(h.loop.is_backlogged());
  h.submit(2);
  h.reg();
  h.round();
  CHECK(h.frontend.size() == 1);
  CHECK(h.backend.empty());
  CHECK_FALSE(h.loop.has_work());  // the journal wakes it
  h.journal.commit_all();
  h.round();
  CHECK_FALSE(h.loop.is_backlogged());
  CHECK(h.frontend.empty());
}

TEST_CASE("who sends more than may wait for its turn is refused and disconnected", "[loop]") {
  LoopOptions options;
  options.turns.frames_per_peer = 3;
  Harness h(options);
  h.journal.commit_all();
  h.hello();
  h.round();
  for (uint64_t seq = 1; seq <= 4; ++seq) h.submit(seq);
  h.round();
  CHECK(h.overruns == 1);
  CHECK(h.disconnected == std::vector<Route>{kProducer});
  CHECK(h.loop.core().state().live_jobs() == 0);  // what had waited is dropped
  CHECK_FALSE(h.loop.core().has_session(kProducer));
}

TEST_CASE("a round ends when its time is used up, and the next goes on", "[loop]") {
  Harness h;
  h.journal.commit_all();
  h.hello();
  h.round();
  h.frame_time = std::chrono::microseconds(200);
  for (uint64_t seq = 1; seq <= 4; ++seq) h.submit(seq);
  h.round();
  CHECK(h.loop.core().state().live_jobs() == 2);
  CHECK(h.loop.has_work());
  h.round();
  CHECK(h.loop.core().state().live_jobs() == 4);
}

TEST_CASE("the disk's reserve has two marks", "[loop]") {
  LoopOptions options;
  options.reserve = {1000, 0};
  Harness h(options);
  h.journal.commit_all();
  auto free = [&](uint64_t bytes) {
    h.journal.disk_free = bytes;
    h.round();
    return h.loop.is_disk_full();
  };
  CHECK_FALSE(free(1000));
  CHECK(free(999));
  CHECK(free(1249));
  CHECK_FALSE(free(1250));
  CHECK_FALSE(free(1000));
  CHECK(h.disk_full == std::vector<bool>{true, false});
}

TEST_CASE("a reply waits until what was done for it is committed", "[loop]") {
  Harness h;
  h.journal.commit_all();
  h.round();
  int replies = 0;
  h.loop.ask([&](core::Core& core, Now now, core::Output& out) {
    core.set_queue(now, "q", {}, out);
    return [&] { ++replies; };
  });
  h.round();
  CHECK(replies == 0);
  h.journal.commit_all();
  h.round();
  CHECK(replies == 1);
  CHECK(h.loop.is_idle());
}

TEST_CASE("what is held for a peer can be dropped", "[loop]") {
  Harness h;
  h.journal.commit_all();
  h.hello();
  h.submit(1);
  h.round();
  h.loop.drop_held(kProducer);
  CHECK(h.held == 0);
  h.count<protocol::Confirm>();
  h.journal.commit_all();
  h.round();
  CHECK(h.count<protocol::Confirm>() == 0);
}

namespace {

// Time passes as it does for a process that runs.
void pass(Harness& h, Millis time) {
  for (Millis step(50); time.count() > 0; time -= step) {
    h.now.mono += step, h.now.wall += step;
    h.round();
  }
}

}  // namespace

TEST_CASE("a HELLO waits until the older session has answered or lapsed", "[loop]") {
  LoopOptions options;
  options.backlog_bytes = 1000;
  Harness h(options);
  h.journal.commit_all();
  h.hello();
  h.round();
  CHECK(h.count<protocol::Welcome>() == 1);
  h.hello(kOther, {13});
  pass(h, Millis(1000));
  REQUIRE(h.loop.core().sessions().contains(kSession));
  CHECK(h.loop.received_bytes() > 0);
  SECTION("it is silent") {
    h.sent.clear();
    pass(h, Millis(600));
    CHECK(h.count<protocol::Welcome>() == 1);
    CHECK(h.loop.core().has_session(kOther));
    CHECK_FALSE(h.loop.core().has_session(kProducer));
    CHECK(h.loop.received_bytes() == 0);
  }
  SECTION("it answers") {
    h.say(kProducer, kSession, protocol::Heartbeat{});
    h.sent.clear();
    h.round();
    CHECK(h.count<protocol::ErrorReply>() == 1);
    pass(h, Millis(600));
    CHECK(h.loop.core().has_session(kProducer));
    CHECK_FALSE(h.loop.core().has_session(kOther));
  }
  SECTION("what it has sent waits behind a backlog") {
    constexpr Route kThird{Port::frontend, 3};
    h.hello(kThird, {14}, 7);
    const std::string payload(2000, 'x');
    protocol::Submit submit{{1}, {1}, "q"};
    submit.payloads = {payload};
    h.say(kThird, {14}, submit);
    h.round();
    REQUIRE(h.loop.is_backlogged());
    h.say(kProducer, kSession, protocol::Heartbeat{});
    pass(h, Millis(1500));
    CHECK(h.loop.core().has_session(kProducer));
    h.sent.clear();
    h.journal.commit_all();
    h.round();
    CHECK(h.count<protocol::ErrorReply>() == 1);
    CHECK(h.loop.core().has_session(kProducer));
  }
  SECTION("its connection is closed meanwhile") {
    h.closed = {kOther};
    h.round();
    CHECK(h.loop.received_bytes() == 0);
    pass(h, Millis(600));
    CHECK(h.loop.core().has_session(kProducer));
  }
  SECTION("what comes behind it on the same connection does not wait") {
    h.hello(kOther, {14}, 7);
    h.sent.clear();
    h.round();
    CHECK(h.count<protocol::Welcome>() == 1);
  }
}

TEST_CASE("64 HELLOs wait, and the next is answered at once", "[loop]") {
  Harness h;
  h.journal.commit_all();
  for (uint8_t who = 1; who <= 65; ++who) h.hello({Port::frontend, who}, {who}, who);
  h.round();
  h.sent.clear();
  for (uint8_t who = 1; who <= 65; ++who) h.hello({Port::frontend, 100u + who}, {100u + who}, who);
  h.round();
  CHECK(h.count<protocol::ErrorReply>() == 1);
  h.round();
  CHECK(h.count<protocol::ErrorReply>() == 0);
}
