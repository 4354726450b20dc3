// A client's connection against a socket and a clock that are the test's.
#include "common/net/client_connection.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <thread>

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::protocol;
using Step = ClientConnection::Step;

namespace {

const Mono kStart = Mono() + std::chrono::hours(1);

// What the test makes the sockets do, and what they were asked to do.
struct Script {
  std::deque<std::string> arriving;
  std::vector<std::string> sent;
  std::vector<std::string> endpoints;  // of the sockets that were opened
  std::optional<std::string> refusal;
  bool is_full = false, is_cut = false;
  Millis linger{0};
  size_t open = 0;
};

class FakeSocket : public ClientSocket {
 public:
  explicit FakeSocket(Script& script) : script_(script) { ++script_.open; }
  ~FakeSocket() override { --script_.open; }

  bool send(std::string frame) override {
    if (!script_.is_full) script_.sent.push_back(std::move(frame));
    return !script_.is_full;
  }
  bool receive(zmq::message_t& message) override {
    if (script_.arriving.empty()) return false;
    message.rebuild(script_.arriving.front().data(), script_.arriving.front().size());
    script_.arriving.pop_front();
    return true;
  }
  void linger(Millis time) override { script_.linger = time; }
  std::optional<std::string> refusal() override { return std::exchange(script_.refusal, {}); }
  bool cut() const override { return script_.is_cut; }
  bool unreachable() const override { return false; }
  void add_to(std::vector<zmq::pollitem_t>* items) override {
    items->insert(items->end(), 2, {nullptr, -1, ZMQ_POLLIN, ZMQ_POLLIN});
  }

 private:
  Script& script_;
};

struct Stage {
  explicit Stage(std::string host = "192.0.2.7", bool caller_reports = false,
                 Resolver::LookUp look_up = Resolver::look_up_host)
      : connection({{std::move(host), 5570},
                    {"producer", "worker", "--frontend", 5570},
                    caller_reports,
                    std::move(look_up)},
                   [this](const std::string& endpoint) -> Result<std::unique_ptr<ClientSocket>> {
                     script.endpoints.push_back(endpoint);
                     return std::unique_ptr<ClientSocket>(new FakeSocket(script));
                   }) {}

  Step advance() {
    auto step = connection.advance(now);
    REQUIRE(step);
    return *step;
  }
  void open() {
    now = std::max(now, connection.wake_at());
    REQUIRE(advance() == Step::opened);
    REQUIRE(connection.send(encode(connection.session(), FromClient(Hello{})), now));
    REQUIRE(advance() == Step::none);
    script.sent.clear();
  }
  void connect() {
    open();
    arrive(welcome());
    receive();
    REQUIRE(connection.connected());
    delivered.clear();
  }
  static Welcome welcome() {
    Welcome welcome;
    welcome.broker = {7};
    welcome.heartbeat = Millis(1000);
    welcome.liveness = 3;
    return welcome;
  }
  void arrive(const FromBroker& message) { arrive(connection.session(), message); }
  void arrive(SessionId session, const FromBroker& message) {
    script.arriving.push_back(encode(session, message));
  }
  void receive() {
    std::vector<zmq::pollitem_t> items{{nullptr, -1, 0, 0}};  // another one's
    connection.add_to(&items);
    connection.receive(items, now,
                       [this](const FromBroker& message, const ClientConnection::Frame& frame) {
                         REQUIRE(frame);
                         delivered.push_back(message.index());
                         if (give_up_at_first) connection.lost(now);
                       });
  }
  FromClient sent(size_t index) const {
    auto decoded = decode_from_client(script.sent.at(index));
    REQUIRE(decoded.index() == 0);
    CHECK(std::get<0>(decoded).session == connection.session());
    return std::get<0>(decoded).message;
  }

  Mono now = kStart;
  Script script;
  std::vector<size_t> delivered;  // indices of FromBroker
  bool give_up_at_first = false;
  ClientConnection connection;
};

const size_t kWelcome = FromBroker(Welcome{}).index();
const size_t kHeartbeat = FromBroker(Heartbeat{}).index();

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a connection opens a socket, and is connected with the WELCOME", "[connection]") {
  Stage stage;
  CHECK(stage.connection.wake_at() <= stage.now);
  stage.open();
  CHECK(stage.script.endpoints == std::vector<std::string>{"tcp://192.0.2.7:5570"});
  CHECK_FALSE(stage.connection.connected());
  stage.arrive(Heartbeat{});  // before the WELCOME: dropped
  stage.arrive(Stage::welcome());
  stage.arrive(Stage::welcome());  // a second one: dropped
  stage.arrive(Heartbeat{});
  stage.receive();
  CHECK(stage.connection.connected());
  CHECK(stage.connection.ever_connected());
  CHECK(stage.delivered == std::vector{kWelcome, kHeartbeat});
}

TEST_CASE("messages of other sessions, and frames that are none, are dropped", "[connection]") {
  Stage stage;
  stage.connect();
  stage.arrive({stage.connection.session().value + 1}, Heartbeat{});
  stage.arrive(SessionId{}, Heartbeat{});
  stage.script.arriving.push_back("HTTP/1.1 400 Bad Request\r\n\r\n");
  stage.script.arriving.push_back("");
  stage.arrive(Heartbeat{});
  stage.receive();
  CHECK(stage.delivered == std::vector{kHeartbeat});
}

TEST_CASE("heartbeats are sent, and a silent broker is lost", "[connection]") {
  Stage stage;
  stage.connect();
  const SessionId first = stage.connection.session();
  CHECK(stage.connection.gone_at(stage.now) == kStart + Millis(3000));
  stage.now = stage.connection.wake_at();
  CHECK(stage.advance() == Step::none);
  CHECK(std::holds_alternative<Heartbeat>(stage.sent(0)));
  Step step = Step::none;
  while (step == Step::none) {
    stage.now = stage.connection.wake_at();
    step = stage.advance();
  }
  CHECK(step == Step::lost);
  CHECK(stage.now == kStart + Millis(3000));
  CHECK(stage.script.open == 0);
  CHECK_FALSE(stage.connection.send("frame", stage.now));
  CHECK(stage.connection.wake_at() > stage.now);  // the back-off
  stage.open();
  CHECK(stage.connection.session() != first);
  CHECK(stage.script.open == 1);
}

TEST_CASE("an attempt without a WELCOME is unanswered", "[connection]") {
  Stage stage;
  stage.open();
  stage.now = stage.connection.wake_at();
  CHECK(stage.advance() == Step::unanswered);
  CHECK_FALSE(stage.connection.ever_connected());
}

TEST_CASE("REREGISTER and a full socket lose the session; no more of it is sent or delivered",
          "[connection]") {
  Stage stage;
  stage.connect();
  SECTION("REREGISTER") {
    stage.arrive(Reregister{});
    stage.arrive(Heartbeat{});
    stage.arrive(ErrorReply{"malformed", "as it is"});
    stage.receive();
    CHECK(stage.delivered.empty());
  }
  SECTION("a full socket") {
    stage.script.is_full = true;
    CHECK_FALSE(stage.connection.send("frame", stage.now));
    stage.script.is_full = false;
  }
  SECTION("its owner gives it up") {
    stage.give_up_at_first = true;
    stage.arrive(Heartbeat{});
    stage.arrive(Heartbeat{});
    stage.receive();
    CHECK(stage.delivered.size() == 1);
  }
  CHECK_FALSE(stage.connection.send("frame", stage.now));
  CHECK(stage.script.sent.empty());
  CHECK(stage.advance() == Step::lost);
  stage.open();
}

TEST_CASE("what had arrived when the connection was cut is delivered before the loss",
          "[connection]") {
  Stage stage;
  stage.connect();
  const size_t many = ClientConnection::kFramesPerTurn + 10;
  for (size_t i = 0; i < many; ++i) stage.arrive(Heartbeat{});
  SECTION("cut") {
    stage.script.is_cut = true;
    stage.receive();
    CHECK(stage.delivered.size() == many);
    CHECK(stage.advance() == Step::lost);
  }
  SECTION("not cut: as much as one turn takes") {
    stage.receive();
    CHECK(stage.delivered.size() == ClientConnection::kFramesPerTurn);
    stage.receive();
    CHECK(stage.delivered.size() == many);
    CHECK(stage.advance() == Step::none);
  }
}

TEST_CASE("a rejected handshake is for good until the broker has accepted the client once",
          "[connection]") {
  Stage stage;
  bool for_good = true;
  SECTION("before the first WELCOME") { stage.open(); }
  SECTION("after it") {
    stage.connect();
    for_good = false;
  }
  stage.script.refusal = "its reason";
  stage.arrive(Heartbeat{});
  stage.receive();
  CHECK(stage.delivered.empty());
  REQUIRE(stage.connection.refusal());
  CHECK(stage.connection.refusal()->for_good == for_good);
  const Error& error = stage.connection.refusal()->error;
  CHECK(error.code == ExitCode::unavailable);
  CHECK(error.message == "the broker at 192.0.2.7:5570 refuses the connection: its reason");
  CHECK(stage.advance() == (for_good ? Step::unanswered : Step::lost));
  stage.connect();
  CHECK_FALSE(stage.connection.refusal());
}

TEST_CASE("an ERROR that refuses the session says what to do, and the client tries again",
          "[connection]") {
  struct Case {
    const char* code;
    bool for_good;
    const char* part;
  };
  const Case each =
      GENERATE(Case{"wrong_port", true,
                    "its port for workers; producers connect to its --frontend, port 5570"},
               Case{"version", true, "another version of the protocol (as it is); use a producer"},
               Case{"revoked", true, "'millrace-broker keys add'"},
               Case{"not_yours", false, "as it is"}, Case{"too_many_sessions", false, "as it is"});
  CAPTURE(each.code);
  Stage stage;
  stage.open();
  stage.arrive(ErrorReply{each.code, "as it is", About{About::Kind::broker, 9}});
  stage.receive();
  CHECK(stage.delivered.empty());
  REQUIRE(stage.connection.refusal());
  CHECK(stage.connection.refusal()->for_good == each.for_good);
  CHECK(mentions(stage.connection.refusal()->error.message, each.part));
  const bool names_broker = each.code == std::string("not_yours");
  CHECK(stage.connection.in_use_at() == (names_broker ? std::optional(BrokerId{9}) : std::nullopt));
  CHECK(stage.advance() == Step::unanswered);
  stage.connect();
  CHECK_FALSE(stage.connection.refusal());
  CHECK_FALSE(stage.connection.in_use_at());
}

TEST_CASE("any other ERROR is the owner's, whichever session it names", "[connection]") {
  Stage stage;
  stage.open();
  stage.arrive(ErrorReply{"malformed", "as it is"});
  stage.arrive(SessionId{}, ErrorReply{"malformed", "as it is"});
  stage.arrive({stage.connection.session().value + 1}, ErrorReply{"malformed", "as it is"});
  stage.receive();
  CHECK(stage.delivered.size() == 2);
  CHECK_FALSE(stage.connection.refusal());
}

TEST_CASE("BYE waits to leave, if the socket takes it", "[connection]") {
  Stage stage;
  SECTION("not connected: none") {
    stage.open();
    stage.connection.say_bye();
    CHECK(stage.script.sent.empty());
  }
  SECTION("connected") {
    stage.connect();
    stage.connection.say_bye();
    CHECK(std::holds_alternative<Bye>(stage.sent(0)));
    CHECK(stage.script.linger == ClientConnection::kShutdownGrace);
  }
  SECTION("a full socket") {
    stage.connect();
    stage.script.is_full = true;
    stage.connection.say_bye();
    CHECK(stage.script.linger == Millis(0));
  }
  stage.connection.close();
  CHECK(stage.script.open == 0);
}

TEST_CASE("a name is resolved for each attempt, and one without an address says why",
          "[connection]") {
  Result<std::string> answer = Error{ExitCode::unavailable, "nobody has no address"};
  std::atomic<bool> answers = true;
  Stage stage("nobody", false, [&](const std::string&) {
    while (!answers) std::this_thread::yield();
    return answer;
  });
  const auto advance_to_the_answer = [&] {
    Step step = Step::none;
    while (step == Step::none) {
      step = stage.advance();
      std::this_thread::yield();
    }
    return step;
  };
  CHECK(advance_to_the_answer() == Step::unanswered);
  REQUIRE(stage.connection.unresolved());
  CHECK(stage.connection.unresolved()->message == "nobody has no address");
  CHECK(stage.connection.unreachable());

  // A name server that does not answer in the time of an attempt.
  answers = false;
  stage.now = stage.connection.wake_at();
  CHECK(stage.advance() == Step::none);
  CHECK(stage.connection.wake_at() == stage.now + Resolver::kPollEvery);
  Step step = Step::none;
  while (step == Step::none) {
    stage.now = stage.connection.wake_at();
    step = stage.advance();
  }
  CHECK(step == Step::unanswered);
  CHECK(mentions(stage.connection.unresolved()->message, "has not answered yet"));

  answer = std::string("192.0.2.9");
  answers = true;
  stage.now = stage.connection.wake_at();
  CHECK(advance_to_the_answer() == Step::opened);
  CHECK(stage.script.endpoints == std::vector<std::string>{"tcp://192.0.2.9:5570"});
  CHECK_FALSE(stage.connection.unresolved());
}
