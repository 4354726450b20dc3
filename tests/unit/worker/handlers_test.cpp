#include <ctime>

#include "tests/catch.h"
#include "worker/handlers/handler.h"
#include "worker/handlers/stderr_log.h"
#include "worker/process/spawner.h"
#include "worker/run/run_options.h"

using namespace millrace;
using namespace millrace::worker;
using namespace std::chrono_literals;
using Kind = Completion::Kind;

namespace {

std::unique_ptr<Handler> handler(std::string_view text) {
  Spawner spawner;
  auto made = make_handler(text, spawner, {});
  REQUIRE(made);
  return *std::move(made);
}

Completion run(Handler& handler, const StopSignal& stop, uint64_t id = 1, uint64_t attempt = 1) {
  Job job;
  job.lease = {{id}, {1}};
  job.attempt = attempt;
  job.payload = "payload";
  job.wants_result = true;
  return handler.run({job, "q", stop});
}

// Whether a job of "sleep:0ms,P%:1h" is one of the slow ones: those notice that they are to stop.
bool slept(Handler& handler, uint64_t id) {
  StopSignal stop;
  stop.set();
  return run(handler, stop, id).kind == Kind::retryable;
}

std::string refusal(std::string_view text) {
  Spawner spawner;
  auto made = make_handler(text, spawner, {});
  REQUIRE_FALSE(made);
  CHECK(made.error().code == ExitCode::usage);
  return made.error().message;
}

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

std::chrono::nanoseconds thread_cpu() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

TEST_CASE("an unknown handler is refused with those that there are", "[handlers]") {
  std::string message = refusal("ecko");
  for (auto known : {"ecko", "echo", "sleep:", "burn:", "fail:", "exec:", "stream:", "so:"})
    CHECK(holds(message, known));
  CHECK(holds(refusal(""), "there is no such handler"));
}

TEST_CASE("a handler's argument is checked before anything starts", "[handlers]") {
  CHECK(holds(refusal("sleep"), "needs an argument"));
  CHECK(holds(refusal("sleep:"), "needs an argument"));
  for (auto bare : {"exec:", "stream:", "so:", "stream"})
    CHECK(holds(refusal(bare), "needs an argument"));
  CHECK(holds(refusal("sleep:2"), "duration"));
  CHECK(holds(refusal("burn:25h"), "24h"));
  CHECK(holds(refusal("fail:101"), "100"));
  CHECK(holds(refusal("fail:x"), "'x'"));
  CHECK(holds(refusal("echo:x"), "no argument"));
}

TEST_CASE("echo gives the payload back, if it is wanted", "[handlers]") {
  StopSignal stop;
  auto echo = handler("echo");
  Completion end = run(*echo, stop);
  CHECK(end.kind == Kind::done);
  CHECK(end.text == "payload");
  Job unasked;
  unasked.payload = "payload";
  CHECK(echo->run({unasked, "q", stop}).text.empty());
}

TEST_CASE("sleep lasts as long as it says, and ends early on a stop", "[handlers]") {
  StopSignal stop;
  auto before = std::chrono::steady_clock::now();
  CHECK(run(*handler("sleep:2ms"), stop).kind == Kind::done);
  CHECK(std::chrono::steady_clock::now() - before >= 2ms);
  stop.set();
  CHECK(run(*handler("sleep:1h"), stop).kind == Kind::retryable);
}

TEST_CASE("some jobs sleep longer than others, the same ones each time", "[handlers]") {
  auto some = handler("sleep:0ms,20%:1h");
  int slow = 0, again = 0;
  for (uint64_t id = 1; id <= 1'000; ++id) {
    bool first = slept(*some, id);
    slow += first;
    again += first != slept(*some, id);
  }
  CHECK(slow > 150);
  CHECK(slow < 250);
  CHECK(again == 0);
  for (auto bad :
       {"sleep:1ms,", "sleep:1ms,1%", "sleep:1ms,101%:1s", "sleep:1ms,1%:25h",
        "sleep:1ms,100.1%:1s", "sleep:1ms,0.25%:1s", "sleep:1ms,.5%:1s", "sleep:1ms,1.%:1s"})
    refusal(bad);
  auto few = handler("sleep:0ms,2.5%:1h"), fewer = handler("sleep:0ms,2%:1h");
  int of_few = 0, of_fewer = 0;
  for (uint64_t id = 1; id <= 10'000; ++id) {
    of_few += slept(*few, id);
    of_fewer += slept(*fewer, id);
  }
  CHECK(of_fewer > 150);
  CHECK(of_few > of_fewer + 25);
  CHECK(of_few < 300);
}

TEST_CASE("burn uses that much CPU time, and ends early on a stop", "[handlers]") {
  StopSignal stop;
  auto before = thread_cpu();
  CHECK(run(*handler("burn:5ms"), stop).kind == Kind::done);
  auto used = thread_cpu() - before;
  CHECK(used >= 5ms);
  CHECK(used < 50ms);
  stop.set();
  CHECK(run(*handler("burn:1h"), stop).kind == Kind::retryable);
}

TEST_CASE("fail fails its share of the attempts, the same ones each time", "[handlers]") {
  StopSignal stop;
  auto some = handler("fail:30");
  int failed = 0, again = 0, cured = 0;
  for (uint64_t id = 1; id <= 10'000; ++id) {
    bool fails = run(*some, stop, id).kind == Kind::retryable;
    failed += fails;
    again += (run(*some, stop, id).kind == Kind::retryable) != fails;
    cured += fails && run(*some, stop, id, 2).kind == Kind::done;
  }
  CHECK(failed > 2'800);
  CHECK(failed < 3'200);
  CHECK(again == 0);
  CHECK(cured > failed / 2);  // another attempt has another chance
  CHECK(run(*handler("fail:0"), stop).text == "payload");
  Completion always = run(*handler("fail:100"), stop);
  CHECK(always.kind == Kind::retryable);
  CHECK(holds(always.text, "attempt 1"));
}

TEST_CASE("what a process writes becomes printable UTF-8", "[handlers]") {
  CHECK(printable("plain\ttext\n\n") == "plain\ttext");
  CHECK(printable("one\ntwo\n") == "one | two");
  CHECK(printable("Mühle €😀") == "Mühle €😀");
  CHECK(printable("a\x1b[31mb\x7f") == "a?[31mb?");
  CHECK(printable("a\xc2\x9b"
                  "b\xc2\xa0") == "a??b\xc2\xa0");
  CHECK(printable("\xff\xc3") == "??");
  CHECK(printable("\xc0\xaf") == "??");            // longer than need be
  CHECK(printable("\xed\xa0\x80") == "???");       // a surrogate
  CHECK(printable("\xf4\x90\x80\x80") == "????");  // beyond the last character
  CHECK(printable(std::string_view("a\0b", 3)) == "a?b");
}

TEST_CASE("the tail keeps the end, in whole characters", "[handlers]") {
  LineBudget budget;
  StderrLog log("3f9a1c07-1", budget);
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "ü";
  log.add("first");
  log.add(many + "x");  // 900 bytes back begins inside a character
  CHECK(log.tail().size() <= StderrLog::kTail);
  CHECK(log.tail().size() >= StderrLog::kTail - 1);
  CHECK(log.tail().starts_with("ü"));
  CHECK(log.tail().ends_with("üx"));
}

TEST_CASE("a second's lines are bounded, and a new second begins anew", "[handlers]") {
  LineBudget budget;
  Mono now = Mono() + 1h;
  int taken = 0;
  for (int i = 0; i < 1000; ++i) taken += budget.take(now);
  CHECK(taken == LineBudget::kLinesPerSecond);
  CHECK_FALSE(budget.take(now + 999ms));
  CHECK(budget.take(now + 1s));
}

TEST_CASE("--queue is NAME=HANDLER", "[handlers]") {
  auto spec = parse_queue("a.b=exec:X=1 ./run");
  REQUIRE(spec);
  CHECK(spec->queue == "a.b");
  CHECK(spec->handler == "exec:X=1 ./run");
  for (auto bad : {"", "q", "q=", "=echo", "a b=echo", "a/b=echo"}) CHECK_FALSE(parse_queue(bad));
}

TEST_CASE("only @ and digits at the end are a share", "[handlers]") {
  auto share = [](std::string_view text) { return parse_queue(text)->share; };
  CHECK(share("q=echo") == 0);
  CHECK(share("q=echo@4") == 4);
  CHECK(share("q=exec:mail ops@example.org") == 0);
  CHECK(parse_queue("q=exec:mail ops@example.org@4")->handler == "exec:mail ops@example.org");
  CHECK(share("q=exec:mail ops@example.org@4") == 4);
  CHECK(share("q=exec:notify team@7 ") == 0);
  CHECK(share("q=exec:echo 42") == 0);
  CHECK(share("q=exec:x@") == 0);
  for (auto bad : {"q=echo@0", "q=echo@1025", "q=echo@99999999999999999999"}) {
    auto spec = parse_queue(bad);
    REQUIRE_FALSE(spec);
    CHECK(holds(spec.error().message, "share"));
  }
}

TEST_CASE("--pool takes what there is, and names it otherwise", "[handlers]") {
  using Pools = PoolSpec::Kind;
  CHECK(*parse_pool("single") == PoolSpec{Pools::single, 1, 1});
  CHECK(*parse_pool("fixed:16") == PoolSpec{Pools::fixed, 1, 16});
  CHECK(parse_pool("fixed")->max >= 4);
  CHECK(*parse_pool("per-job") == PoolSpec{Pools::per_job, 1, kMostPerJob});
  CHECK(*parse_pool("per-job:9") == PoolSpec{Pools::per_job, 1, 9});
  CHECK(*parse_pool("auto") == PoolSpec{Pools::automatic, 1, kAutoMax});
  CHECK(*parse_pool("auto:2-64") == PoolSpec{Pools::automatic, 2, 64});
  for (auto text : {"single", "fixed:16", "per-job", "per-job:9", "auto:2-64"})
    CHECK(parse_pool(text)->text() == text);
  for (auto bad :
       {"auto:", "auto:8", "auto:8-4", "auto:0-4", "auto:1-1025", "per-job:", "per-job:0",
        "single:1", "fixed:0", "fixed:1025", "fixed:", "fixed:x", "7", ""}) {
    auto pool = parse_pool(bad);
    REQUIRE_FALSE(pool);
    CHECK(pool.error().code == ExitCode::usage);
  }
  CHECK(holds(parse_pool("elastic").error().message, "auto[:MIN-MAX]"));
}

TEST_CASE("--prefetch is auto or a number", "[handlers]") {
  CHECK(*parse_prefetch("auto") == std::nullopt);
  CHECK(*parse_prefetch("12") == 12);
  for (auto bad : {"0", "16385", "all", ""}) CHECK_FALSE(parse_prefetch(bad));
}

TEST_CASE("options that can't go together are refused", "[handlers]") {
  RunOptions options;
  options.brokers = {{"a", 5571}};
  options.queues = {{"a", "echo"}, {"b", "echo"}};
  CHECK(check(options));
  options.queues.push_back({"a", "sleep:1s"});
  CHECK(holds(check(options).error().message, "twice"));
  options.queues.clear();
  for (int i = 0; i < 10'001; ++i) options.queues.push_back({"q" + std::to_string(i), "echo"});
  CHECK(holds(check(options).error().message, "10000"));
  options.queues = {{"a.*", "echo"}, {"a.b", "echo"}, {"c", "echo", 2}};
  CHECK(check(options));
  options.queues.push_back({"a.c", "echo", 2});
  CHECK(holds(check(options).error().message, "a.* also covers a.c"));
  options.queues = {{"a.b", "echo"}, {"a.*", "echo", 1}};
  CHECK(holds(check(options).error().message, "covers"));
  options.queues.resize(1);
  options.http = Endpoint{"192.0.2.1", 5600};
  CHECK(check(options).error().code == ExitCode::config);
  options.http = Endpoint{"127.0.0.1", 5600};
  CHECK(check(options));
  options.brokers = {{"a", 5571}, {"b", 5571}, {"a", 5572}};
  CHECK(check(options));
  options.brokers.push_back({"b", 5571});
  CHECK(holds(check(options).error().message, "b:5571 twice"));
  options.brokers.clear();
  for (uint16_t i = 1; i <= kMaxBrokers; ++i) options.brokers.push_back({"a", i});
  CHECK(check(options));
  options.brokers.push_back({"a", 1000});
  CHECK(holds(check(options).error().message, "65 brokers"));
}
