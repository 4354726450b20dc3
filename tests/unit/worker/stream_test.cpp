#include "worker/handlers/stream_handler.h"

#include <thread>

#include "common/base/base64.h"
#include "tests/support/allocations.h"
#include "tests/unit/worker/process_harness.h"
#include "worker/handlers/stream_line.h"

using namespace millrace;
using namespace millrace::worker;
using Kind = Completion::Kind;

namespace {

// Answers each job with what `body` prints for it; $id is the job's.
std::string each(const std::string& body) {
  return "while read -r line; do id=${line#*id\\\":\\\"}; id=${id%%\\\"*}; " + body + "; done";
}
const std::string kAnswer = R"(printf '{"id":"%s","result":"%s"}\n' "$id" )";

Completion parse(std::string_view line) {
  auto answer = parse_answer(line, "3f9a1c07-42");
  REQUIRE(answer);
  return *answer;
}

}  // namespace

TEST_CASE_METHOD(ProcessHarness, "a job is a line of JSON with its names and payload", "[stream]") {
  StreamHandler echo("read -r line; printf '%s' \"$line\" | base64 -w0 >&2; exit 1", spawner_);
  std::string seen = run(echo, "Mühle \"1\"\n").text;
  CHECK(seen.ends_with(
      base64(R"({"id":"3f9a1c07-42","queue":"images","attempt":2,"epoch":52776558133255,)"
             R"("payload":"Mühle \"1\"\n"})")));
  seen = run(echo, "\xff").text;
  CHECK(seen.ends_with(
      base64(R"({"id":"3f9a1c07-42","queue":"images","attempt":2,"epoch":52776558133255,)"
             R"("payload_base64":"/w=="})")));
}

TEST_CASE("an answer is a result, bytes, or an error", "[stream]") {
  CHECK(parse(R"({"id":"3f9a1c07-42","result":"fine"})").text == "fine");
  CHECK(parse(R"({"id":"3f9a1c07-42"})").kind == Kind::done);
  CHECK(parse(R"({"id":"3f9a1c07-42","result_base64":"AP8="})").text == std::string("\0\xff", 2));
  CHECK(parse(R"({"id":"3f9a1c07-42","error":"later"})").kind == Kind::retryable);
  CHECK(parse(R"({"id":"3f9a1c07-42","error":"later","kind":"retryable"})").text == "later");
  CHECK(parse(R"({"id":"3f9a1c07-42","error":"no","kind":"permanent"})").kind == Kind::permanent);
  CHECK(parse(R"({"id":"3f9a1c07-42","result":"fine","more":[1]})").text == "fine");
}

TEST_CASE("what is no answer to the job is not taken for one", "[stream]") {
  for (auto line :
       {"", "fine", "[]", "{}", R"({"result":"fine"})", R"({"id":"3f9a1c07-4","result":"fine"})",
        R"({"id":42,"result":"fine"})", R"({"id":"3f9a1c07-42","result":7})",
        R"({"id":"3f9a1c07-42","result_base64":"AP8"})",
        R"({"id":"3f9a1c07-42","result_base64":"AP8=","result":"x"})",
        R"({"id":"3f9a1c07-42","error":7})", R"({"id":"3f9a1c07-42","error":"x","kind":"later"})",
        R"({"id":"3f9a1c07-42","error":"x","kind":7})",
        R"({"id":"3f9a1c07-42","result":"fine"})"
        "\x01"})
    CHECK_FALSE(parse_answer(line, "3f9a1c07-42"));
}

TEST_CASE("only what base64 writes is read as base64", "[stream]") {
  std::string bytes;
  for (std::string_view plain : {"", "a", "ab", "abc", "abcd"}) {
    CHECK(parse_base64(base64(plain), &bytes));
    CHECK(bytes == plain);
  }
  for (auto bad : {"A", "AA", "AAA", "A===", "AB==", "AA=A", "AAAA=", "AA A", "____", "AAA\n"})
    CHECK_FALSE(parse_base64(bad, &bytes));
}

TEST_CASE_METHOD(ProcessHarness, "one child takes one job after the other", "[stream]") {
  StreamHandler handler("n=0; " + each("n=$((n+1)); " + kAnswer + "$n.$$"), spawner_);
  std::string first = run(handler, "a").text, second = run(handler, "b").text;
  CHECK(first.substr(0, 2) == "1.");
  CHECK(second.substr(0, 2) == "2.");
  CHECK(first.substr(2) == second.substr(2));
}

TEST_CASE_METHOD(ProcessHarness, "threads that run at once have a child each", "[stream]") {
  StreamHandler handler(each(kAnswer + "$$"), spawner_);
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i)
        good += run(handler, "x", 1 << 20, uint64_t(t * 100 + i)).kind == Kind::done;
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(good == 80);
}

TEST_CASE_METHOD(ProcessHarness, "a megabyte passes both ways, whatever its bytes", "[stream]") {
  std::string payload(1 << 20, '\xff');
  StreamHandler handler(
      "/usr/bin/python3 -uc 'import sys,json\n"
      "for line in sys.stdin:\n"
      "  job=json.loads(line)\n"
      "  print(json.dumps({\"id\":job[\"id\"],\"result_base64\":job[\"payload_base64\"]}))'",
      spawner_);
  CHECK(run(handler, payload).text == payload);
}

TEST_CASE_METHOD(ProcessHarness, "a child that ends before its answer says how it failed",
                 "[stream]") {
  auto end_of = [&](const std::string& end) {
    StreamHandler handler("read -r line; " + end, spawner_);
    return run(handler, "x");
  };
  CHECK(end_of("exit 65").kind == Kind::permanent);
  CHECK(end_of("exit 75").kind == Kind::retryable);
  Completion silent = end_of("exit 0");
  CHECK(silent.kind == Kind::retryable);
  CHECK(silent.text == "ended before it had answered: exit status 0");
  Completion crash = end_of("echo so far so good >&2; kill -SEGV $$");
  CHECK(crash.kind == Kind::crash);
  CHECK(crash.text.find("Segmentation fault): so far so good") != std::string::npos);
  CHECK(no_commands());
}

TEST_CASE_METHOD(ProcessHarness, "the job behind a child's end gets a new child", "[stream]") {
  StreamHandler handler("read -r line; " + std::string(R"(id=${line#*id\":\"}; id=${id%%\"*}; )") +
                            kAnswer + "$$; exit 3",
                        spawner_);
  std::string first = run(handler, "x").text;
  // The child may still be on its way out; then the second attempt fails and the third is new.
  std::string second;
  for (int i = 0; i < 1000 && second.empty(); ++i) {
    Completion end = run(handler, "x");
    if (end.kind == Kind::done) second = end.text;
  }
  CHECK_FALSE(second.empty());
  CHECK(first != second);
}

TEST_CASE_METHOD(ProcessHarness, "a child that answers badly is killed, and the next one is new",
                 "[stream]") {
  StreamHandler handler(each("case $line in *good*) " + kAnswer + "$$;; *two*) " + kAnswer +
                             "1; echo more;; *) echo rubbish;; esac"),
                        spawner_);
  std::string first = run(handler, "good").text;
  Completion bad = run(handler, "bad");
  CHECK(bad.kind == Kind::retryable);
  CHECK(bad.text.find("rubbish") != std::string::npos);
  CHECK(bad.text.find("3f9a1c07-42") != std::string::npos);
  std::string second = run(handler, "good").text;
  CHECK(first != second);
  CHECK(run(handler, "good").text == second);
}

TEST_CASE_METHOD(ProcessHarness, "an answer without an end is cut off", "[stream]") {
  StreamHandler handler("read -r line; tr '\\0' x </dev/zero", spawner_);
  Completion end = run(handler, "x", 1000);
  CHECK(end.kind == Kind::permanent);
  CHECK(end.text.find("1000 bytes") != std::string::npos);
  CHECK(no_commands());
}

TEST_CASE_METHOD(ProcessHarness, "a stop kills the child and what it has started", "[stream]") {
  StreamHandler handler("read -r line; sleep 1000 | sleep 1000", spawner_);
  Completion end;
  std::thread runner([&] { end = run(handler, "x"); });
  stop_.set();
  runner.join();
  CHECK(end.text == "the worker was stopped");
  CHECK(no_commands());
}

TEST_CASE_METHOD(ProcessHarness, "children end with their handler, and leave nothing", "[stream]") {
  size_t before = open_descriptors();
  {
    StreamHandler handler(each(kAnswer + "1"), spawner_);
    CHECK(run(handler, "x").kind == Kind::done);
    run(handler, "x");
  }
  CHECK(no_commands());
  stop_.clear();
  CHECK(open_descriptors() <= before + 1);  // and the descriptor of the stop signal
}

TEST_CASE_METHOD(ProcessHarness, "a child's stderr is logged with the job", "[stream]") {
  StreamHandler handler(each("echo working on it >&2; " + kAnswer + "1"), spawner_);
  run(handler, "x");
  CHECK(log_.str().find("job=3f9a1c07-42") != std::string::npos);
  CHECK(log_.str().find("working on it") != std::string::npos);
}

TEST_CASE_METHOD(ProcessHarness, "a child that waits for jobs gets none that comes too late",
                 "[stream]") {
  StreamHandler handler(each("echo ran >&2; " + kAnswer + "1"), spawner_);
  CHECK(run(handler, "").kind == Kind::done);
  start_before_ = read_boottime();
  CHECK(run(handler, "").kind == Kind::too_late);
  start_before_ = kNoDeadline;
  CHECK(run(handler, "").kind == Kind::done);
  CHECK(children_of(spawner_.pid()).size() == 1);
}

TEST_CASE_METHOD(ProcessHarness, "a limit of CPU time is of each job, not of all together",
                 "[stream]") {
  // The limits as the child and one of its processes find them; what both have used is below 1 s.
  StreamHandler handler(each("shown=$(ulimit -S -t); " + kAnswer + "$shown"), spawner_,
                        {.cpu = std::chrono::seconds(3)});
  CHECK(run(handler, "").text == "3");
  CHECK(run(handler, "").text == "4");  // what it has used, rounded up, and three more
  StreamHandler spinning(
      each(R"(case $line in *spin*) while :; do :; done;; esac; )" + kAnswer + "fine"), spawner_,
      {.cpu = std::chrono::seconds(1)});
  CHECK(run(spinning, "").text == "fine");
  const Completion end = run(spinning, "spin");
  CHECK(end.kind == Kind::retryable);
  CHECK(end.text.find("CPU time limit exceeded") != std::string::npos);
  CHECK(run(spinning, "").text == "fine");
}

TEST_CASE_METHOD(ProcessHarness, "a payload that the worker has no memory for releases the job",
                 "[stream]") {
  StreamHandler handler(each(kAnswer + "fine"), spawner_);
  const std::string payload(2 << 20, 'x');
  test::fail_allocations_from(1 << 20);
  const Completion end = run(handler, payload);
  test::stop_failing_allocations();
  CHECK(end.kind == Kind::released);
  CHECK(run(handler, payload).text == "fine");
}
