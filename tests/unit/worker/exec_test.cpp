#include "worker/handlers/exec_handler.h"

#include <atomic>
#include <ctime>
#include <fstream>
#include <thread>

#include "tests/support/allocations.h"
#include "tests/unit/worker/process_harness.h"

using namespace millrace;
using namespace millrace::worker;
using Kind = Completion::Kind;

namespace {

class ExecFixture : public ProcessHarness {
 public:
  Completion run(const std::string& command, std::string_view payload = "",
                 uint64_t max_result = 1 << 20) {
    ExecHandler handler(command, spawner_);
    return ProcessHarness::run(handler, payload, max_result);
  }
};

std::string random_bytes(size_t size) {
  std::string bytes(size, '\0');
  uint64_t state = 1;
  for (char& byte : bytes) byte = char((state = state * 6364136223846793005u + 1442695u) >> 56);
  return bytes;
}

}  // namespace

TEST_CASE_METHOD(ExecFixture, "stdin is the payload and stdout the result", "[exec]") {
  Completion end = run("tr a-z A-Z", "quiet");
  CHECK(end.kind == Kind::done);
  CHECK(end.text == "QUIET");
  CHECK(run("cat").text.empty());
}

TEST_CASE_METHOD(ExecFixture, "the job's names stand in the environment", "[exec]") {
  Completion end =
      run("echo $MILLRACE_JOB_ID $MILLRACE_QUEUE $MILLRACE_ATTEMPT $MILLRACE_EPOCH; "
          "test -n \"$PATH\"");
  CHECK(end.kind == Kind::done);
  CHECK(end.text == "3f9a1c07-42 images 2 52776558133255\n");
}

TEST_CASE_METHOD(ExecFixture, "a variable that the worker has itself is replaced", "[exec]") {
  setenv("MILLRACE_QUEUE", "mine", 1);
  CHECK(run("tr '\\0' '\\n' </proc/$$/environ | grep -c ^MILLRACE_QUEUE=").text == "1\n");
  CHECK(run("echo $MILLRACE_QUEUE").text == "images\n");
  unsetenv("MILLRACE_QUEUE");
}

TEST_CASE_METHOD(ExecFixture, "the exit status says how it ended", "[exec]") {
  CHECK(run("exit 0").kind == Kind::done);
  CHECK(run("exit 75").kind == Kind::retryable);
  CHECK(run("exit 65").kind == Kind::permanent);
  CHECK(run("exit 1").kind == Kind::retryable);
  CHECK(run("exit 1").text == "exit status 1");
  Completion missing = run("/nonexistent/program");
  CHECK(missing.kind == Kind::retryable);
  CHECK(missing.text.find("exit status 127: ") == 0);
  CHECK(missing.text.find("/nonexistent/program") != std::string::npos);
}

TEST_CASE_METHOD(ExecFixture, "an end by a signal is a crash", "[exec]") {
  Completion end = run("echo so far so good >&2; kill -SEGV $$");
  CHECK(end.kind == Kind::crash);
  CHECK(end.text == "killed by signal 11 (Segmentation fault): so far so good");
}

TEST_CASE_METHOD(ExecFixture, "a signal that ends the only program is a crash too", "[exec]") {
  CHECK(run("sh -c 'kill -SEGV $$'").kind == Kind::crash);
}

TEST_CASE_METHOD(ExecFixture, "secrets of our own programs stay in the worker", "[exec]") {
  setenv("MILLRACE_HTTP_TOKEN", "s3cret", 1);
  setenv("MILLRACE_curve_Key", "s3cret", 1);
  setenv("MILLRACE_BROKER", "10.0.0.1", 1);
  Spawner fresh;
  REQUIRE(fresh.start());
  ExecHandler handler("env | grep -c s3cret; echo $MILLRACE_BROKER", fresh);
  CHECK(ProcessHarness::run(handler, "").text == "0\n10.0.0.1\n");
  unsetenv("MILLRACE_HTTP_TOKEN");
  unsetenv("MILLRACE_curve_Key");
  unsetenv("MILLRACE_BROKER");
}

TEST_CASE_METHOD(ExecFixture, "memory and CPU time can be limited", "[exec]") {
  const CommandLimits limits{64 << 20, Millis(900)};
  ExecHandler shown("ulimit -v; ulimit -S -t; ulimit -H -t", spawner_, limits);
  CHECK(ProcessHarness::run(shown, "").text == "65536\n1\n2\n");
  ExecHandler spinning("while :; do :; done", spawner_, limits);
  Completion end = ProcessHarness::run(spinning, "");
  CHECK(end.kind == Kind::retryable);
  CHECK(end.text.find("CPU time limit exceeded") != std::string::npos);
}

TEST_CASE_METHOD(ExecFixture, "a command that comes too late does not start", "[exec]") {
  ExecHandler handler("echo ran", spawner_);
  start_before_ = read_boottime();
  CHECK(ProcessHarness::run(handler, "").kind == Kind::too_late);
  start_before_ = read_boottime() + std::chrono::minutes(1);
  CHECK(ProcessHarness::run(handler, "").text == "ran\n");
}

TEST_CASE_METHOD(ExecFixture, "the input is complete before the command starts", "[exec]") {
  const std::string payload(300'000, 'x');  // more than a pipe holds
  CHECK(run("stat -L -c %s /dev/stdin", payload).text == "300000\n");
  CHECK(run("echo more >> /dev/stdin || echo sealed", payload).text == "sealed\n");
}

TEST_CASE_METHOD(ExecFixture, "a payload that a pipe holds is in one, without a writer", "[exec]") {
  for (size_t size : {0, 1, 4096, 64 << 10}) {
    const std::string payload = random_bytes(size);
    CHECK(run("test -p /dev/stdin && exec cat", payload).text == payload);
  }
  const std::string more = random_bytes((64 << 10) + 1);
  CHECK(run("test -f /dev/stdin && exec cat", more).text == more);
}

TEST_CASE_METHOD(ExecFixture, "any bytes pass both ways, a mebibyte at once", "[exec]") {
  std::string payload = random_bytes(1 << 20);
  Completion end = run("cat", payload);
  CHECK(end.kind == Kind::done);
  CHECK(end.text == payload);
}

TEST_CASE_METHOD(ExecFixture, "a child that does not read its input is not an error", "[exec]") {
  std::string payload = random_bytes(1 << 20);
  CHECK(run("exec true", payload).kind == Kind::done);
  CHECK(run("exec <&-; echo closed", payload).text == "closed\n");
  CHECK(run("head -c 3 | wc -c", payload).kind == Kind::done);
}

TEST_CASE_METHOD(ExecFixture, "input that nobody takes costs no CPU while the child runs",
                 "[exec]") {
  clock_t before = clock();
  CHECK(run("exec <&-; sleep 0.3", random_bytes(1 << 20)).kind == Kind::done);
  CHECK(double(clock() - before) / CLOCKS_PER_SEC < 0.15);
}

TEST_CASE_METHOD(ExecFixture, "much output on both streams before any input is read", "[exec]") {
  std::string payload = random_bytes(1 << 20);
  Completion end =
      run("head -c 500000 /dev/zero; head -c 500000 /dev/zero >&2; wc -c >/dev/null", payload);
  CHECK(end.kind == Kind::done);
  CHECK(end.text.size() == 500'000);
}

TEST_CASE_METHOD(ExecFixture, "output above the limit kills the command", "[exec]") {
  Completion exact = run("head -c 1000 /dev/zero", "", 1000);
  CHECK(exact.kind == Kind::done);
  CHECK(exact.text.size() == 1000);
  Completion end = run("yes", "", 1000);
  CHECK(end.kind == Kind::permanent);
  CHECK(end.text.find("1000 bytes") != std::string::npos);
}

TEST_CASE_METHOD(ExecFixture, "stderr is logged line by line, and ends the error", "[exec]") {
  Completion end = run("printf 'one\\ntwo\\nthree' >&2; exit 3");
  CHECK(end.text == "exit status 3: one | two | three");
  std::string log = log_.str();
  for (auto line : {"stderr=one", "stderr=two", "stderr=three"})
    CHECK(log.find(line) != std::string::npos);
  CHECK(log.find("job=3f9a1c07-42") != std::string::npos);
}

TEST_CASE_METHOD(ExecFixture, "a flood on stderr is cut in the log and in the error", "[exec]") {
  Completion end = run("seq 1 100000 >&2; exit 1");
  CHECK(end.text.size() <= protocol::kMaxErrorText);
  CHECK(end.text.ends_with("99999 | 100000"));
  std::string log = log_.str();
  CHECK(size_t(std::count(log.begin(), log.end(), '\n')) == StderrLog::kLinesPerJob);
}

TEST_CASE_METHOD(ExecFixture, "descriptors and children are gone after each job", "[exec]") {
  run("true");
  size_t before = open_descriptors();
  run("cat", "payload");
  run("exit 1");
  run("kill -9 $$");
  run("yes", "", 1000);
  CHECK(open_descriptors() == before);
  CHECK(no_commands());
}

TEST_CASE_METHOD(ExecFixture, "the child has its three streams and nothing else", "[exec]") {
  int extra = dup(0);  // not close-on-exec
  CHECK(run("for f in /proc/self/fd/*; do echo ${f##*/}; done | sort -n | head -3 | tr '\\n' ' '; "
            "test -e /proc/self/fd/" +
            std::to_string(extra) + " && echo leaked")
            .text.find("leaked") == std::string::npos);
  close(extra);
}

TEST_CASE_METHOD(ExecFixture, "what the command leaves running ends with it", "[exec]") {
  Completion end = run("sleep 1000 & echo $!");
  CHECK(end.kind == Kind::done);
  const pid_t left = std::stoi(end.text);
  CHECK(comes_true([left] { return !is_alive(left); }));
}

TEST_CASE_METHOD(ExecFixture, "a stop kills the command and its children", "[exec]") {
  std::atomic<bool> ended{false};
  Completion end;
  std::thread runner([&] {
    end = run("sleep 1000 | sleep 1000");
    ended = true;
  });
  CHECK_FALSE(ended);
  stop_.set();
  runner.join();
  CHECK(end.kind == Kind::retryable);
  CHECK(end.text == "the worker was stopped");
  CHECK(no_commands());
}

TEST_CASE_METHOD(ExecFixture, "many threads run commands at once", "[exec]") {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        std::string payload = std::to_string(t * 100 + i);
        good += run("cat", payload).text == payload;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(good == 40);
  CHECK(no_commands());
}

TEST_CASE_METHOD(ExecFixture, "a result that the worker has no memory for releases the job",
                 "[exec]") {
  test::fail_allocations_from(1 << 20);
  const Completion end = run("head -c 3000000 /dev/zero", "", 16 << 20);
  test::stop_failing_allocations();
  CHECK(end.kind == Kind::released);
  CHECK(end.text.find("no memory") != std::string::npos);
  CHECK(comes_true([&] { return no_commands(); }));
}
