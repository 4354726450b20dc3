// The worker's loop with real sockets, threads and signals, against a broker that is this test.
#include "worker/run/runner.h"

#include <csignal>

#include <atomic>
#include <deque>
#include <semaphore>
#include <thread>

#include "common/protocol/codec.h"
#include "tests/catch.h"
#include "worker/handlers/simple_handlers.h"

using namespace millrace;
using namespace millrace::protocol;
using namespace millrace::worker;
using namespace std::chrono_literals;

namespace {

constexpr Millis kDeadline = 30s;  // of waits that only a bug lets run out
constexpr Lease kA{{1}, {10}}, kB{{2}, {11}}, kC{{3}, {12}};

class FakeBroker {
 public:
  FakeBroker() : socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvtimeo, int(kDeadline.count()));
    socket_.bind("tcp://127.0.0.1:*");
  }

  Endpoint endpoint() const {
    auto parsed = parse_endpoint(socket_.get(zmq::sockopt::last_endpoint));
    REQUIRE(parsed);
    return *parsed;
  }

  // The next message of this kind; what comes before is dropped.
  template <typename Message>
  Message expect() {
    for (auto end = std::chrono::steady_clock::now() + kDeadline;;) {
      REQUIRE(std::chrono::steady_clock::now() < end);  // heartbeats don't count
      zmq::message_t route;
      REQUIRE(socket_.recv(route));
      REQUIRE(socket_.recv(frames_.emplace_back()));
      auto decoded = decode_from_client(view(frames_.back()));
      REQUIRE(decoded.index() == 0);
      route_ = route.to_string();
      session = std::get<0>(decoded).session;
      if (auto* found = std::get_if<Message>(&std::get<0>(decoded).message)) return *found;
    }
  }
  void send(const FromBroker& message) { send_bytes(encode(session, message)); }
  void send_bytes(const std::string& bytes) {
    socket_.send(zmq::buffer(route_), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(bytes), zmq::send_flags::none);
  }
  void welcome(Millis heartbeat = 1s) {
    Welcome message{.broker = {0x3f9a1c07}, .incarnation = 1, .heartbeat = heartbeat};
    send(message);
  }
  void lease(std::vector<Lease> leases) {
    LeaseGrant grant{"q", {}};
    for (Lease lease : leases) grant.jobs.push_back({lease, 1, true, "payload"});
    send(grant);
  }

  // Answers each Done, or Release, until so many jobs were in them.
  template <typename Message>
  void confirm(size_t jobs) {
    for (size_t confirmed = 0; confirmed < jobs;) {
      const Message message = expect<Message>();
      confirmed += message.jobs.size();
      send(DoneOk{message.batch});
    }
  }

  SessionId session;

 private:
  zmq::context_t context_{1};
  zmq::socket_t socket_;
  std::string route_;
  std::deque<zmq::message_t> frames_;
};

// Runs until it is let go, or stopped.
class GateHandler : public Handler {
 public:
  struct Gate {
    std::counting_semaphore<> started{0};
    std::atomic<bool> open{false};
  };
  explicit GateHandler(Gate& gate) : gate_(gate) {}
  Completion run(const JobContext& context) override {
    gate_.started.release();
    while (!gate_.open) {
      if (!context.stop.sleep_for(1ms)) return Completion::failed(Completion::Kind::retryable, "");
    }
    return Completion::done({});
  }

 private:
  Gate& gate_;
};

// A runner in a thread of its own, and the signals of this process for it.
class RunnerUnderTest {
 public:
  RunnerUnderTest(const Endpoint& broker, std::unique_ptr<Handler> handler)
      : RunnerUnderTest(std::vector{broker}, std::move(handler)) {}
  RunnerUnderTest(std::vector<Endpoint> brokers, std::unique_ptr<Handler> handler) {
    handlers_.push_back({"q", std::move(handler)});
    options_.brokers = std::move(brokers);
    options_.queues = {{"q", "of the test"}};
    options_.pool = *parse_pool("fixed:2");
    options_.prefetch = 8;
    options_.drain_timeout = kDeadline;
    options_.name = "test";
  }
  ~RunnerUnderTest() {
    if (!thread_.joinable()) return;
    interrupt(SIGTERM);
    interrupt(SIGTERM);
    thread_.join();
  }

  void start() {
    runner_.emplace(options_, std::move(handlers_), inbox_, context_);
    thread_ = std::thread([this] { result_.emplace(runner_->run()); });
  }
  void interrupt(int signal) { inbox_.post(signal); }
  Result<ExitCode> join() {
    thread_.join();
    runner_.reset();
    return *result_;
  }

  RunOptions& options() { return options_; }

 private:
  zmq::context_t context_{1};
  SignalInbox inbox_;
  RunOptions options_;
  std::vector<QueueHandler> handlers_;
  std::optional<Runner> runner_;
  std::optional<Result<ExitCode>> result_;
  std::thread thread_;
};

// A worker and its only broker.
struct OneBroker {
  explicit OneBroker(bool is_gated)
      : worker(broker.endpoint(), is_gated ? std::unique_ptr<Handler>(new GateHandler(gate))
                                           : std::make_unique<EchoHandler>()) {}

  // Until the broker has the worker's credit.
  void connect(Millis heartbeat = 1s) {
    worker.start();
    broker.expect<Register>();
    broker.welcome(heartbeat);
    CHECK(broker.expect<Credit>().jobs == 8);
  }

  FakeBroker broker;
  GateHandler::Gate gate;
  RunnerUnderTest worker;
};
struct EchoWorker : OneBroker {
  EchoWorker() : OneBroker(false) {}
};
struct GatedWorker : OneBroker {
  GatedWorker() : OneBroker(true) {}
};

}  // namespace

TEST_CASE_METHOD(EchoWorker, "a worker registers, runs what it is given, and says BYE",
                 "[runner]") {
  worker.start();
  CHECK(broker.expect<Register>().name == "test");
  broker.welcome();
  CHECK(broker.expect<Credit>().jobs == 8);
  broker.lease({kA});
  Done done = broker.expect<Done>();
  CHECK(done.jobs.at(0).lease == kA);
  CHECK(done.jobs.at(0).result == "payload");
  broker.send(DoneOk{done.batch});
  worker.interrupt(SIGTERM);
  broker.expect<Bye>();
  auto result = worker.join();
  REQUIRE(result);
  CHECK(*result == ExitCode::ok);
}

TEST_CASE_METHOD(GatedWorker, "a worker that is told to register again claims what it holds",
                 "[runner]") {
  connect(60s);  // so that only what is said here can end the session
  const SessionId first = broker.session;
  broker.lease({kA});
  broker.send(Reregister{});
  Register again = broker.expect<Register>();
  CHECK(broker.session != first);
  REQUIRE(again.claims.size() == 1);
  CHECK(again.claims[0] == kA);
}

TEST_CASE("two brokers share a worker, and their jobs with the same numbers don't mix",
          "[runner]") {
  FakeBroker one, two;
  RunnerUnderTest worker({one.endpoint(), two.endpoint()}, std::make_unique<EchoHandler>());
  worker.start();
  const Uuid first = one.expect<Register>().worker;
  CHECK(two.expect<Register>().worker != first);
  one.welcome(60s);
  two.welcome(60s);
  // While nobody has jobs each has half of the 8, once both are known.
  while (one.expect<Credit>().jobs != 4) {
  }
  while (two.expect<Credit>().jobs != 4) {
  }
  one.lease({kA, kB});
  two.lease({kA});
  CHECK(two.expect<Done>().jobs.size() == 1);
  one.confirm<Done>(2);
  worker.interrupt(SIGTERM);
  one.expect<Credit>();
}

TEST_CASE("a worker with one of two brokers away works for the other", "[runner]") {
  FakeBroker broker;
  RunnerUnderTest worker({{"127.0.0.1", 1}, broker.endpoint()}, std::make_unique<EchoHandler>());
  worker.options().connect_timeout = 50ms;
  worker.start();
  broker.expect<Register>();
  broker.welcome(100ms);
  CHECK(broker.expect<Credit>().jobs == 8);
  broker.lease({kA});
  Done done = broker.expect<Done>();
  broker.send(DoneOk{done.batch});
  for (int i = 0; i < 3; ++i) {  // past the time-out
    broker.expect<Heartbeat>();
    broker.send(Heartbeat{});
  }
  worker.interrupt(SIGTERM);
  broker.expect<Bye>();
  auto result = worker.join();
  REQUIRE(result);
  CHECK(*result == ExitCode::ok);
}

TEST_CASE_METHOD(GatedWorker, "a recalled job goes back unless it runs", "[runner]") {
  connect();
  broker.lease({kA, kB, kC});
  for (int i = 0; i < 2; ++i) REQUIRE(gate.started.try_acquire_for(kDeadline));
  broker.send(Recall{{kA, kB, kC}});
  Release release = broker.expect<Release>();
  CHECK(release.jobs == std::vector<Lease>{kC});
  broker.send(DoneOk{release.batch});
  gate.open = true;
  broker.confirm<Done>(2);
  CHECK_FALSE(gate.started.try_acquire());
}

TEST_CASE_METHOD(EchoWorker, "a broker that falls silent is lost, and looked for again",
                 "[runner]") {
  worker.start();
  broker.expect<Register>();
  SessionId first = broker.session;
  broker.welcome(20ms);
  broker.expect<Heartbeat>();
  broker.expect<Heartbeat>();
  broker.expect<Register>();
  CHECK(broker.session != first);
}

TEST_CASE_METHOD(EchoWorker, "an end is sent again to a broker that did not confirm it",
                 "[runner]") {
  connect(60s);  // so that only what is said here can end the session
  broker.lease({kA});
  uint64_t batch = broker.expect<Done>().batch;
  broker.send(Reregister{});
  broker.expect<Register>();
  broker.welcome();
  CHECK(broker.expect<Done>().batch == batch);
}

TEST_CASE_METHOD(EchoWorker, "frames that are no messages, and ERRORs, change nothing",
                 "[runner]") {
  connect();
  broker.send_bytes("");
  broker.send_bytes("GET / HTTP/1.1\r\n");
  broker.send_bytes(std::string(100'000, '\xff'));
  broker.send(ErrorReply{"malformed", "for the test"});
  broker.send_bytes(encode({4711}, FromBroker(DoneOk{1})));  // of another session
  broker.lease({kA});
  CHECK(broker.expect<Done>().jobs.at(0).lease == kA);
}

TEST_CASE_METHOD(GatedWorker, "a drain gives back what waits, and lets what runs end", "[runner]") {
  connect();
  broker.lease({kA, kB, kC});  // for two threads
  gate.started.acquire();
  gate.started.acquire();
  worker.interrupt(SIGINT);
  Release release = broker.expect<Release>();
  CHECK(release.jobs == std::vector<Lease>{kC});
  CHECK(broker.expect<Credit>().jobs == 0);
  broker.send(DoneOk{release.batch});
  gate.open = true;
  broker.confirm<Done>(2);
  broker.expect<Bye>();
  CHECK(*worker.join() == ExitCode::ok);
}

TEST_CASE_METHOD(GatedWorker,
                 "what still runs when the drain's time is over is stopped and given back",
                 "[runner]") {
  worker.options().drain_timeout = 50ms;
  connect();
  broker.lease({kA, kB});
  gate.started.acquire();
  gate.started.acquire();
  worker.interrupt(SIGTERM);
  CHECK(broker.expect<Credit>().jobs == 0);
  broker.confirm<Release>(2);  // each as its handler returns
  broker.expect<Bye>();
  CHECK(*worker.join() == ExitCode::ok);
}

TEST_CASE_METHOD(GatedWorker, "a second signal ends the worker at once", "[runner]") {
  connect();
  broker.lease({kA});
  gate.started.acquire();
  worker.interrupt(SIGTERM);
  worker.interrupt(SIGINT);
  CHECK(broker.expect<Release>().jobs.at(0) == kA);
  broker.expect<Bye>();
  CHECK(*worker.join() == ExitCode::interrupted);
}

TEST_CASE_METHOD(EchoWorker,
                 "a worker whose broker does not come back says that ends are unconfirmed",
                 "[runner]") {
  worker.options().drain_timeout = 50ms;
  connect();
  broker.lease({kA});
  broker.expect<Done>();
  worker.interrupt(SIGTERM);
  CHECK(*worker.join() == ExitCode::unavailable);
}

TEST_CASE("a worker without a broker goes on trying, until the time-out if there is one",
          "[runner]") {
  RunnerUnderTest worker({"127.0.0.1", 1}, std::make_unique<EchoHandler>());
  worker.options().connect_timeout = 200ms;
  worker.start();
  auto result = worker.join();
  REQUIRE_FALSE(result);
  CHECK(result.error().code == ExitCode::unavailable);
  CHECK(result.error().message.find("127.0.0.1:1") != std::string::npos);
}

TEST_CASE_METHOD(EchoWorker, "a worker that every broker refuses for good ends, and says why",
                 "[runner]") {
  worker.start();
  broker.expect<Register>();
  broker.send(ErrorReply{"wrong_port", "for the test"});
  auto result = worker.join();
  REQUIRE_FALSE(result);
  CHECK(result.error().code == ExitCode::unavailable);
  CHECK(result.error().message.find("workers connect to its --backend, port 5571") !=
        std::string::npos);
}

TEST_CASE_METHOD(EchoWorker, "a worker that a broker refuses for now tries again", "[runner]") {
  worker.start();
  broker.expect<Register>();
  const SessionId first = broker.session;
  broker.send(ErrorReply{"not_yours", "for the test"});
  broker.expect<Register>();
  CHECK(broker.session != first);
  broker.welcome(60s);
  broker.expect<Credit>();
  broker.send(ErrorReply{"revoked", "for the test"});  // later it never gives up
  broker.expect<Register>();
}
