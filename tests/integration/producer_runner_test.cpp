// A producer's thread and the library made of it, against a broker that the test plays itself.
#include <atomic>
#include <thread>

#include "producer/runner/runner.h"
#include "producer/sdk/producer.h"
#include "tests/catch.h"
#include "tests/integration/played_broker.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::protocol;
using namespace millrace::played;

namespace {

constexpr std::chrono::seconds kDeadline{30};

// Answers in the test's thread, until a condition is true.
class Answering {
 public:
  std::string address() { return broker_.endpoint().authority(); }
  bool confirms = true;
  Welcome welcome = welcome_message();
  uint64_t submits = 0, jobs = 0;

  template <typename Condition>
  void until(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + kDeadline;
    while (!condition()) {
      REQUIRE(std::chrono::steady_clock::now() < end);
      auto received = broker_.receive();
      if (received) {
        take(*received);
      } else {
        std::this_thread::yield();
      }
    }
  }
  void reregister() { broker_.send(*last_, Reregister{}); }

 private:
  void take(const PlayedBroker::Received& received) {
    last_ = received;
    if (std::holds_alternative<Hello>(received.message)) broker_.send(received, welcome);
    if (std::holds_alternative<Heartbeat>(received.message)) broker_.send(received, Heartbeat{});
    auto* submit = std::get_if<Submit>(&received.message);
    if (!submit) return;
    ++submits;
    if (!confirms) return;
    // Sequence and job are the same, so a resend gets the job that it was.
    const uint64_t first = submit->first.value, count = submit->payloads.size();
    const bool known = first + count - 1 <= jobs;
    jobs = std::max(jobs, first + count - 1);
    broker_.send(received, Confirm{"confirmed", {{submit->first, count, {first}, known}}});
    if (submit->options.report == Report::none) return;
    Outcome outcome;
    for (uint64_t i = 0; i < count; ++i)
      outcome.entries.push_back(
          {{{first + i}, 1}, JobState::done, 1, true, false, submit->payloads[i], ""});
    broker_.send(received, outcome);
  }

  PlayedBroker broker_;
  std::optional<PlayedBroker::Received> last_;
};

ProducerSettings settings_for(Answering& broker) {
  ProducerSettings settings;
  settings.broker = broker.address();
  settings.log_level = "error";
  return settings;
}

template <typename T>
bool ready(const std::future<T>& future) {
  return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

}  // namespace

TEST_CASE("many threads submit, each gets its own receipts, and batches form", "[runner]") {
  Answering broker;
  Producer producer(settings_for(broker));
  constexpr int kThreads = 4, kEach = 5000;
  std::atomic<int> confirmed{0}, wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i)
        producer.submit("q", "payload", {}, [&](const Receipt& receipt) {
          ++(receipt.state == Receipt::State::confirmed && !receipt.known ? confirmed : wrong);
        });
    });
  }
  broker.until([&] { return confirmed + wrong == kThreads * kEach; });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(broker.jobs == kThreads * kEach);
  CHECK(broker.submits < kThreads * kEach / 2);
  CHECK(producer.pending() == 0);
}

TEST_CASE("the end of a job comes to its future", "[runner]") {
  Answering broker;
  Producer producer(settings_for(broker));
  auto end = producer.run("q", "echo me");
  broker.until([&] { return ready(end); });
  JobEnd ended = end.get();
  CHECK(ended.done());
  CHECK(ended.id == "3f9a1c07-1");
  CHECK(ended.result == "echo me");
}

TEST_CASE("what was not answered is sent again after a reconnect", "[runner]") {
  Answering broker;
  broker.confirms = false;
  Producer producer(settings_for(broker));
  auto receipt = producer.submit("q", "payload");
  broker.until([&] { return broker.submits == 1; });
  broker.reregister();
  broker.confirms = true;
  broker.until([&] { return ready(receipt); });
  CHECK(receipt.get().accepted());
  CHECK(broker.submits == 2);
  CHECK(broker.jobs == 1);
}

TEST_CASE("without room try_submit says no, and submit waits for answers", "[runner]") {
  Answering broker;
  broker.confirms = false;
  ProducerSettings settings = settings_for(broker);
  settings.max_pending = 3;
  Producer producer(settings);
  std::atomic<int> receipts{0};
  auto count = [&](const Receipt&) { ++receipts; };
  for (int i = 0; i < 3; ++i) CHECK(producer.try_submit("q", "x", {}, count));
  CHECK_FALSE(producer.try_submit("q", "x", {}, count));
  CHECK(producer.pending() == 3);
  std::thread waiting([&] { producer.submit("q", "the fourth", {}, count); });
  broker.until([&] { return broker.submits >= 1; });
  broker.confirms = true;
  broker.reregister();
  broker.until([&] { return receipts == 4; });
  waiting.join();
  CHECK(broker.jobs == 4);
}

TEST_CASE("at the end what is left is unknown", "[runner]") {
  Answering broker;
  broker.confirms = false;
  std::future<Receipt> receipt;
  std::future<JobEnd> end;
  {
    Producer producer(settings_for(broker));
    receipt = producer.submit("q", "x");
    end = producer.run("q", "y");
    broker.until([&] { return broker.submits == 2; });
    CHECK_FALSE(producer.flush(Millis(1)));
    CHECK_FALSE(producer.close(Millis(1)));
    CHECK(producer.submit("q", "late").get().state == Receipt::State::rejected);
  }
  CHECK(receipt.get().state == Receipt::State::unknown);
  CHECK(end.get().state == "unknown");
}

TEST_CASE("a broker that never answers is an error, and nothing hangs", "[runner]") {
  PlayedBroker silent;
  ProducerSettings settings;
  settings.broker = silent.endpoint().authority();
  settings.connect_timeout = Millis(50);
  settings.log_level = "error";
  Producer producer(settings);
  CHECK_FALSE(producer.submit_and_wait("q", "x").accepted());
  CHECK_FALSE(producer.run_and_wait("q", "x").done());
  CHECK(producer.error().find(settings.broker) != std::string::npos);
  CHECK_FALSE(producer.connected());
}

TEST_CASE("what can't be is refused at once", "[runner]") {
  PlayedBroker silent;
  ProducerSettings settings;
  settings.broker = silent.endpoint().authority();
  settings.log_level = "error";
  Producer producer(settings);
  JobOptions bad;
  bad.priority = 10;
  CHECK_THROWS_AS(producer.submit("no queue", "x"), std::invalid_argument);
  CHECK_THROWS_AS(producer.submit("q", "x", bad), std::invalid_argument);
  const Millis ages = std::chrono::hours(24 * 365 * 101);
  for (auto time : {&JobOptions::delay, &JobOptions::ttl}) {
    JobOptions late;
    late.*time = ages;
    CHECK_THROWS_AS(producer.submit("q", "x", late), std::invalid_argument);
  }
  settings.broker = "a:1,b:x";
  CHECK_THROWS_AS(Producer(settings), std::invalid_argument);
}

TEST_CASE("while no broker is there submissions are refused, if that is wanted", "[runner]") {
  PlayedBroker silent;
  std::atomic<int> away{0};
  RunnerOptions options;
  options.client.brokers = {silent.endpoint()};
  options.when_unreachable = WhenUnreachable::refuse;
  Runner::Callbacks callbacks;
  callbacks.events = [&](Runner::Events events) {
    for (const Event& event : events)
      if (auto* answer = std::get_if<Answer>(&event.what))
        away += answer->kind == Answer::Kind::away;
  };
  auto runner = Runner::start(options, std::move(callbacks));
  REQUIRE(runner);
  Submission one;
  one.queue = "q";
  REQUIRE((*runner)->submit(std::move(one)));
  REQUIRE((*runner)->look_up(LookUp{{2}, {0x3f9a1c07}, {7}}));
  (*runner)->stop(Millis(10'000));
  CHECK(away == 2);
  CHECK((*runner)->open_jobs() == 0);
}
