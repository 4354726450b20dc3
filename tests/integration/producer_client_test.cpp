// The producer's client over a real socket, against a broker that the test plays itself.
#include "producer/client/client.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>

#include "tests/catch.h"
#include "tests/integration/played_broker.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::protocol;
using namespace millrace::played;

namespace {

// Of this thread, which is the client's: the length of the file at the last sync, and the error
// that each sync returns from now on.
struct Syncs {
  off_t synced_bytes = -1;
  int error = 0;
};
thread_local Syncs syncs;

}  // namespace

// In place of libc's, for the client under test.
extern "C" int fdatasync(int fd) {
  if (syncs.error != 0) return errno = syncs.error, -1;
  struct stat status {};
  if (fstat(fd, &status) == 0) syncs.synced_bytes = status.st_size;
  return int(syscall(SYS_fdatasync, fd));
}

namespace {

constexpr std::chrono::seconds kDeadline{20};

struct Recorder : Listener {
  void confirmed(const Confirmed& event) override {
    confirmed_jobs += event.seqs.count;
    last_job = event.first_job;
  }
  void ended(const Ended& event) override { last_result = event.result; }
  uint64_t confirmed_jobs = 0;
  JobId last_job;
  std::string last_result;
};

ClientOptions options_for(Endpoint broker) {
  ClientOptions options;
  options.brokers = {broker};
  options.session.producer = Uuid::from_bytes("0123456789abcdef");
  return options;
}

struct Stage {
  explicit Stage(Millis connect_timeout = kDeadline) { open("", connect_timeout); }
  explicit Stage(std::string ledger) { open(std::move(ledger), kDeadline); }

  void open(std::string ledger, Millis connect_timeout) {
    ClientOptions options = options_for(broker.endpoint());
    options.ledger = std::move(ledger);
    options.connect_timeout = connect_timeout;
    auto opened = Client::open(options, recorder);
    REQUIRE(opened);
    client = *std::move(opened);
  }

  // Turns of the client until a message of this type arrives at the broker.
  template <typename Message>
  PlayedBroker::Received expect() {
    auto end = std::chrono::steady_clock::now() + kDeadline;
    while (std::chrono::steady_clock::now() < end) {
      turn();
      while (auto received = broker.receive()) {
        if (std::holds_alternative<Message>(received->message)) return *received;
      }
    }
    FAIL("the message did not come");
    return {};
  }
  void until(const std::function<bool()>& condition) {
    auto end = std::chrono::steady_clock::now() + kDeadline;
    while (!condition()) {
      REQUIRE(std::chrono::steady_clock::now() < end);
      turn();
    }
  }
  void turn() { REQUIRE(client->poll(std::chrono::steady_clock::now() + Millis(1))); }

  PlayedBroker broker;
  Recorder recorder;
  std::unique_ptr<Client> client;
};

Result<void> poll_to_the_end(Client& client) {
  auto end = std::chrono::steady_clock::now() + kDeadline;
  while (std::chrono::steady_clock::now() < end) {
    if (auto done = client.poll(end); !done) return done;
  }
  return {};
}

}  // namespace

TEST_CASE("a client says hello, submits, and says goodbye when everything is answered",
          "[client]") {
  Stage stage;
  stage.client->session().submit("q", {Report::result, 0}, "payload");
  auto hello = stage.expect<Hello>();
  CHECK(std::get<Hello>(hello.message).producer == Uuid::from_bytes("0123456789abcdef"));
  stage.broker.send(hello, welcome_message());
  auto submit = stage.expect<Submit>();
  CHECK(submit.session == hello.session);
  stage.broker.send(submit, Confirm{"confirmed", {{{1}, 1, {42}, false}}});
  stage.until([&] { return stage.recorder.confirmed_jobs == 1; });
  stage.broker.send(submit, Outcome{{{{{42}, 1}, JobState::done, 1, true, false, "result", ""}}});
  stage.expect<Collected>();
  CHECK(stage.recorder.last_result == "result");
  REQUIRE(stage.client->close());
  auto end = std::chrono::steady_clock::now() + kDeadline;
  std::optional<PlayedBroker::Received> last;
  while (!last && std::chrono::steady_clock::now() < end) last = stage.broker.receive();
  REQUIRE(last);
  CHECK(std::holds_alternative<Bye>(last->message));
}

TEST_CASE("what leaves stands in the ledger before", "[client]") {
  TempDirectory dir;
  std::string path = dir.file("ledger");
  Stage stage(path);
  stage.client->session().submit("q", {}, "payload");
  auto hello = stage.expect<Hello>();
  CHECK(TempDirectory::content_of(path).find("sent") == std::string::npos);
  stage.broker.send(hello, welcome_message());
  auto submit = stage.expect<Submit>();
  CHECK(TempDirectory::content_of(path).find("{\"sent\":[1,1],\"queue\":\"q\"}\n") !=
        std::string::npos);
  stage.broker.send(submit, Confirm{"confirmed", {{{1}, 1, {42}, false}}});
  stage.until([&] { return stage.recorder.confirmed_jobs == 1; });
  CHECK(TempDirectory::content_of(path).find(
            "{\"confirmed\":[1,1,42],\"broker\":\"3f9a1c07\"}\n") != std::string::npos);
}

TEST_CASE("nothing leaves when the ledger can't be written", "[client]") {
  TempDirectory dir;
  Stage stage(dir.file("ledger"));
  auto hello = stage.expect<Hello>();
  stage.broker.send(hello, welcome_message());
  stage.until([&] { return stage.client->connected(); });

  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit none{0, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &none) == 0);
  stage.client->session().submit("q", {}, "payload");
  auto ended = poll_to_the_end(*stage.client);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  signal(SIGXFSZ, handler);

  REQUIRE_FALSE(ended);
  CHECK(ended.error().code == ExitCode::io);
  // Another client's HELLO comes after anything that the first one sent.
  Recorder recorder;
  auto other = Client::open(options_for(stage.broker.endpoint()), recorder);
  REQUIRE(other);
  for (bool arrived = false; !arrived;) {
    REQUIRE((*other)->poll(std::chrono::steady_clock::now() + Millis(1)));
    while (auto received = stage.broker.receive()) {
      CHECK_FALSE(std::holds_alternative<Submit>(received->message));
      arrived = arrived || received->route != hello.route;
    }
  }
}

namespace {

// A client whose ledger has noted a confirm.
PlayedBroker::Received confirm_one(Stage& stage) {
  stage.client->session().submit("q", {}, "payload");
  auto hello = stage.expect<Hello>();
  stage.broker.send(hello, welcome_message());
  auto submit = stage.expect<Submit>();
  stage.broker.send(submit, Confirm{"confirmed", {{{1}, 1, {42}, false}}});
  stage.until([&] { return stage.recorder.confirmed_jobs == 1; });
  return hello;
}

}  // namespace

TEST_CASE("a client that is closed has its whole ledger on disk", "[client]") {
  TempDirectory dir;
  const std::string path = dir.file("ledger");
  Stage stage(path);
  confirm_one(stage);
  syncs = {};
  REQUIRE(stage.client->close());
  const std::string content = TempDirectory::content_of(path);
  CHECK(content.find("confirmed") != std::string::npos);
  CHECK(syncs.synced_bytes == off_t(content.size()));
}

TEST_CASE("no broker gets BYE when the ledger can't be synced", "[client]") {
  TempDirectory dir;
  Stage stage(dir.file("ledger"));
  auto hello = confirm_one(stage);
  syncs.error = EIO;
  auto closed = stage.client->close();
  syncs = {};
  REQUIRE_FALSE(closed);
  CHECK(closed.error().code == ExitCode::io);
  stage.client.reset();
  // Another client's HELLO comes after anything that the first one sent.
  Recorder recorder;
  auto other = Client::open(options_for(stage.broker.endpoint()), recorder);
  REQUIRE(other);
  for (bool arrived = false; !arrived;) {
    REQUIRE((*other)->poll(std::chrono::steady_clock::now() + Millis(1)));
    while (auto received = stage.broker.receive()) {
      if (received->route == hello.route)
        CHECK_FALSE(std::holds_alternative<Bye>(received->message));
      arrived = arrived || received->route != hello.route;
    }
  }
}

TEST_CASE("REREGISTER makes a new socket, a new session, and the same submission again",
          "[client]") {
  Stage stage;
  stage.client->session().submit("q", {}, "payload");
  auto hello = stage.expect<Hello>();
  Welcome welcome = welcome_message();
  welcome.heartbeat = Millis(60'000);  // silence would not be noticed before the deadline
  stage.broker.send(hello, welcome);
  auto submit = stage.expect<Submit>();
  stage.broker.send(submit, Reregister{});
  auto again = stage.expect<Hello>();
  CHECK(again.session != hello.session);
  CHECK(again.route != hello.route);
  stage.broker.send(again, welcome_message());
  auto resent = stage.expect<Submit>();
  CHECK(std::get<Submit>(resent.message).first == Seq{1});
  // An answer to the session before is nobody's.
  stage.broker.send({again.route, hello.session, "", Heartbeat{}},
                    Confirm{"confirmed", {{{1}, 1, {41}, false}}});
  stage.broker.send(resent, Confirm{"confirmed", {{{1}, 1, {42}, true}}});
  stage.until([&] { return stage.client->session().unanswered() == 0; });
  CHECK(stage.recorder.confirmed_jobs == 1);
  CHECK(stage.recorder.last_job == JobId{42});
}

TEST_CASE("a silent broker is left for another connection, a quiet one gets heartbeats",
          "[client]") {
  Stage stage;
  auto hello = stage.expect<Hello>();
  Welcome welcome = welcome_message();
  welcome.heartbeat = Millis(200);
  stage.broker.send(hello, welcome);
  stage.expect<Heartbeat>();
  stage.broker.send(hello, Heartbeat{});
  stage.expect<Heartbeat>();
  auto again = stage.expect<Hello>();
  CHECK(again.session != hello.session);
}

TEST_CASE("frames that no broker sends are skipped", "[client]") {
  Stage stage;
  auto hello = stage.expect<Hello>();
  stage.broker.send_raw(hello, "HTTP/1.1 400 Bad Request\r\n\r\n");
  stage.broker.send_raw(hello, "");
  stage.broker.send(hello, welcome_message());
  stage.until([&] { return stage.client->connected(); });
}

TEST_CASE("an ERROR of the broker ends the client with what it means", "[client]") {
  struct Case {
    const char* code;
    ExitCode exit;
    const char* word;
  };
  for (Case c : {Case{"wrong_port", ExitCode::unavailable, "port for workers"},
                 Case{"version", ExitCode::unavailable, "another version"},
                 Case{"malformed", ExitCode::bug, "a bug"}}) {
    Stage stage;
    auto hello = stage.expect<Hello>();
    stage.broker.send(hello, ErrorReply{c.code, "as it is"});
    auto ended = poll_to_the_end(*stage.client);
    REQUIRE_FALSE(ended);
    CHECK(ended.error().code == c.exit);
    CHECK(ended.error().message.find(c.word) != std::string::npos);
  }
}

TEST_CASE("a broker that never answers is unreachable", "[client]") {
  Recorder recorder;
  PlayedBroker silent;
  ClientOptions options = options_for(silent.endpoint());
  options.connect_timeout = Millis(100);
  auto client = Client::open(options, recorder);
  REQUIRE(client);
  auto ended = poll_to_the_end(**client);
  REQUIRE_FALSE(ended);
  CHECK(ended.error().code == ExitCode::unavailable);
  CHECK(ended.error().message.find(silent.endpoint().authority()) != std::string::npos);
  CHECK(ended.error().message.find("millrace-broker serve") != std::string::npos);
}

TEST_CASE("a broker that answered once is waited for", "[client]") {
  Stage stage(Millis(1000));
  auto hello = stage.expect<Hello>();
  Welcome welcome = welcome_message();
  welcome.heartbeat = Millis(100);
  stage.broker.send(hello, welcome);
  stage.until([&] { return stage.client->connected(); });
  // Each attempt without an answer takes heartbeat times liveness: three and the
  // waits between them last longer than the connect time-out.
  for (int attempt = 0; attempt < 3; ++attempt) stage.expect<Hello>();
  auto back = stage.expect<Hello>();
  stage.broker.send(back, welcome);
  stage.until([&] { return stage.client->connected(); });
}

namespace {

// A client of two brokers, each played by the test, with a spool before them.
struct Pair {
  explicit Pair(std::string spool = "", Millis spool_after = Millis(0),
                OnReject on_reject = OnReject::retry) {
    ClientOptions options;
    options.session.on_reject = on_reject;
    options.brokers = {a->endpoint(), b->endpoint()};
    options.spool = std::move(spool);
    options.spool_after = spool_after;
    options.session.producer = Uuid::from_bytes("0123456789abcdef");
    auto opened = Client::open(options, spooled);
    REQUIRE(opened);
    client = *std::move(opened);
  }
  struct Heard : Listener {
    void spooled(SeqRange seqs) override { safe += seqs.count; }
    void confirmed(const Confirmed& event) override { confirmed_jobs += event.seqs.count; }
    uint64_t safe = 0, confirmed_jobs = 0;
  };

  void until(const std::function<bool()>& condition) {
    auto end = std::chrono::steady_clock::now() + kDeadline;
    while (!condition()) {
      REQUIRE(std::chrono::steady_clock::now() < end);
      REQUIRE(client->poll(std::chrono::steady_clock::now() + Millis(1)));
      if (a) answer(*a, 0xa, from_a);
      if (b && b_answers) answer(*b, 0xb, from_b);
    }
  }
  void answer(PlayedBroker& broker, uint32_t id, std::vector<PlayedBroker::Received>& submits) {
    while (auto received = broker.receive()) {
      Welcome welcome = welcome_message();
      welcome.broker = {id};
      if (std::holds_alternative<Hello>(received->message)) broker.send(*received, welcome);
      if (std::holds_alternative<Heartbeat>(received->message)) broker.send(*received, Heartbeat{});
      if (std::holds_alternative<Submit>(received->message)) submits.push_back(*received);
    }
  }

  std::unique_ptr<PlayedBroker> a = std::make_unique<PlayedBroker>();
  std::unique_ptr<PlayedBroker> b = std::make_unique<PlayedBroker>();
  std::vector<PlayedBroker::Received> from_a, from_b;
  bool b_answers = true;
  Heard spooled;
  std::unique_ptr<Client> client;
};

}  // namespace

TEST_CASE("nothing is bound to a broker before all had their chance to answer", "[client]") {
  Pair pair;
  const auto opened = std::chrono::steady_clock::now();
  pair.b_answers = false;
  pair.until([&] { return pair.client->connections() == 1; });
  const bool routes = pair.client->route().has_value();
  const bool routes_key = pair.client->route("order-1").has_value();
  if (std::chrono::steady_clock::now() - opened < Client::kGather) {
    CHECK_FALSE(routes);
    CHECK_FALSE(routes_key);
  }
  // One that does not answer is not waited for any longer.
  pair.until([&] { return pair.client->route().has_value(); });
  CHECK(pair.client->connections() == 1);
  CHECK(pair.client->route("order-1") == 0);
}

TEST_CASE("a connection that ends is seen at once, and what it had goes to nobody else",
          "[client]") {
  Pair pair;
  pair.until([&] { return pair.client->connections() == 2; });
  const size_t first = *pair.client->route();
  pair.client->submit(first, "q", {}, "unknown");
  auto& submits = first == 0 ? pair.from_a : pair.from_b;
  pair.until([&] { return !submits.empty(); });
  const auto before = std::chrono::steady_clock::now();
  (first == 0 ? pair.a : pair.b).reset();
  pair.until([&] { return pair.client->connections() == 1; });
  // Three missed heartbeats would be 3 s.
  CHECK(std::chrono::steady_clock::now() - before < std::chrono::seconds(2));
  CHECK(pair.client->route() == 1 - first);
  for (int i = 0; i < 50; ++i) REQUIRE(pair.client->poll(std::chrono::steady_clock::now()));
  CHECK((first == 0 ? pair.from_b : pair.from_a).empty());
  CHECK(pair.client->unanswered() == 1);
}

TEST_CASE("each of several brokers has to answer before it gets more than a bound",
          "[client][spool]") {
  constexpr uint64_t kBound = Connection::kMaxAhead;
  TempDirectory dir;
  const bool spool_queues_are_in_use = GENERATE(false, true);
  Pair pair(spool_queues_are_in_use ? dir.file("spool") : "");
  std::array<uint64_t, 2> taken{};
  auto submit_up_to = [&](uint64_t all) {
    for (uint64_t i = 0; i < all; ++i) {
      const auto to = pair.client->route();
      if (!to) return;
      pair.client->submit(*to, "q", {}, "x");
      ++taken[*to];
    }
  };
  // Each spool queue with more than a session loads, before the brokers are heard.
  while (spool_queues_are_in_use && pair.client->spool()->jobs() < 3 * Connection::kLoadJobs) {
    submit_up_to(1000);
    REQUIRE(pair.client->poll(std::chrono::steady_clock::now() + Millis(1)));
  }
  pair.until([&] { return pair.client->connections() == 2; });
  taken = {};
  submit_up_to(4 * kBound);
  CHECK(taken[0] == kBound);
  CHECK(taken[1] == kBound);
  CHECK(pair.client->route("order-1").has_value());  // a key has one home

  pair.until([&] { return !pair.from_b.empty(); });
  const Submit& first = std::get<Submit>(pair.from_b.front().message);
  const uint64_t answered = first.payloads.size();
  pair.b->send(pair.from_b.front(), Confirm{"confirmed", {{first.first, answered, {1}, false}}});
  pair.until([&] { return pair.client->route().has_value(); });
  submit_up_to(4 * kBound);
  CHECK(taken[0] == kBound);
  CHECK(taken[1] == kBound + answered);
}

TEST_CASE("who can't wait gets a broker whatever is unanswered", "[client]") {
  Pair pair("", Millis(0), OnReject::report);
  pair.until([&] { return pair.client->connections() == 2; });
  for (uint64_t i = 0; i < 3 * Connection::kMaxAhead; ++i) {
    const auto to = pair.client->route();
    REQUIRE(to);
    pair.client->submit(*to, "q", {}, "x");
  }
}

TEST_CASE("what is unanswered when the last broker goes is in the spool", "[client][spool]") {
  TempDirectory dir;
  Pair pair(dir.file("spool"));
  pair.until([&] { return pair.client->connections() == 2; });
  pair.client->submit(*pair.client->route(), "q", {}, "sent");
  pair.until([&] { return !pair.from_a.empty() || !pair.from_b.empty(); });
  CHECK(pair.client->unsafe() == 1);
  pair.a.reset();
  pair.b.reset();
  pair.until([&] { return pair.spooled.safe == 1; });
  CHECK(pair.client->unsafe() == 0);
  pair.client->submit(*pair.client->route(), "q", {}, "new");
  pair.until([&] { return pair.spooled.safe == 2; });
  CHECK(pair.client->settled());
  CHECK(pair.client->spool()->jobs() == 2);
  REQUIRE(pair.client->close());
}
