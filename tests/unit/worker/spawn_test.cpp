// The spawn server: nothing of a command outlives it, whatever it has done to get away.
#include "worker/process/spawn_server.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <optional>
#include <thread>

#include "tests/support/temp_directory.h"
#include "tests/unit/worker/process_harness.h"
#include "worker/handlers/exec_handler.h"
#include "worker/handlers/stream_handler.h"

using namespace millrace;
using namespace millrace::worker;
using Kind = Completion::Kind;

namespace {

class SpawnFixture : public ProcessHarness {
 public:
  Completion run(const std::string& command) {
    ExecHandler handler(command, spawner_);
    return ProcessHarness::run(handler, "payload");
  }
  // Runs in a thread until it has said who it is.
  struct Running {
    std::thread thread;
    Completion end;
    ~Running() {
      if (thread.joinable()) thread.join();
    }
  };
  // The number that a command writes into a file of this directory.
  pid_t pid_in(const std::string& name) {
    pid_t pid = 0;
    CHECK(comes_true([&] {
      std::ifstream file(file_of(name));
      return bool(file >> pid) && file.get() == '\n';
    }));
    return pid;
  }
  std::string file_of(const std::string& name) const { return directory_.file(name); }
  std::string says(const std::string& name) const { return " >" + file_of(name) + "; "; }

  TempDirectory directory_;
};

}  // namespace

TEST_CASE_METHOD(SpawnFixture, "a process in a session of its own ends with a stop", "[spawn]") {
  Running running;
  running.thread =
      std::thread([&] { running.end = run("setsid sleep 1000 & echo $!" + says("pid") + "wait"); });
  const pid_t pid = pid_in("pid");
  CHECK(comes_true([pid] { return getsid(pid) == pid; }));
  stop_.set();
  running.thread.join();
  CHECK(running.end.text == "the worker was stopped");
  CHECK_FALSE(is_alive(pid));
  CHECK(no_commands());
}

TEST_CASE_METHOD(SpawnFixture, "a process in a session of its own ends with its command",
                 "[spawn]") {
  CHECK(run("setsid sleep 1000 & echo $!" + says("pid")).kind == Kind::done);
  const pid_t pid = pid_in("pid");
  CHECK(comes_true([pid] { return !is_alive(pid); }));
  CHECK(comes_true([this] { return no_commands(); }));
}

TEST_CASE_METHOD(SpawnFixture, "what hides its origin ends when nothing else runs", "[spawn]") {
  Running running;
  running.thread =
      std::thread([&] { running.end = run("echo $$" + says("other") + "sleep 1000"); });
  pid_in("other");
  // Another session, without the environment, by a parent that is gone.
  CHECK(run("env -i setsid sh -c 'sleep 1000 & echo $!" + says("pid") + "' ; test -s " +
            file_of("pid"))
            .kind == Kind::done);
  const pid_t pid = pid_in("pid");
  CHECK(run("true").kind == Kind::done);
  CHECK(is_alive(pid));  // it might be the other command's
  stop_.set();
  running.thread.join();
  CHECK(comes_true([pid] { return !is_alive(pid); }));
}

TEST_CASE_METHOD(SpawnFixture, "the end of a command leaves what others have started", "[spawn]") {
  Running running;
  running.thread = std::thread(
      [&] { running.end = run("(setsid sleep 1000 & echo $!" + says("pid") + ") ; sleep 1000"); });
  const pid_t pid = pid_in("pid");
  CHECK(run("true").kind == Kind::done);
  CHECK(run("sleep 1000 & true").kind == Kind::done);
  CHECK(is_alive(pid));
  stop_.set();
  running.thread.join();
  CHECK_FALSE(is_alive(pid));
}

TEST_CASE_METHOD(SpawnFixture, "a command that is to stop can clean up", "[spawn]") {
  Running running;
  running.thread = std::thread([&] {
    running.end = run("trap 'echo 7 >" + file_of("cleaned") + "; exit 0' TERM; echo $$" +
                      says("pid") + "while :; do sleep 0.01; done");
  });
  pid_in("pid");
  stop_.set();
  running.thread.join();
  CHECK(running.end.kind == Kind::retryable);
  CHECK(pid_in("cleaned") == 7);
}

TEST_CASE_METHOD(SpawnFixture, "a command that ignores SIGTERM is killed later", "[spawn]") {
  const std::string stubborn =
      "trap '' TERM; setsid sleep 1000 & echo $!" + says("pid") + "sleep 1000; sleep 1000";
  Running running;
  running.thread = std::thread([&] { running.end = run(stubborn); });
  const pid_t pid = pid_in("pid");
  CHECK(comes_true([pid] { return getsid(pid) == pid; }));
  const Mono begin = std::chrono::steady_clock::now();
  stop_.set();
  running.thread.join();
  CHECK(std::chrono::steady_clock::now() - begin >= kKillAfter);
  CHECK_FALSE(is_alive(pid));
  CHECK(no_commands());
}

TEST_CASE_METHOD(SpawnFixture, "a leader's end does not cut short the time of the others",
                 "[spawn]") {
  Running running;
  running.thread = std::thread([&] {
    running.end = run("(trap 'sleep 0.1; echo 7 >" + file_of("cleaned") + "; exit' TERM; echo 1" +
                      says("ready") + "while :; do sleep 0.01; done) & wait");
  });
  pid_in("ready");
  stop_.set();
  running.thread.join();
  CHECK(pid_in("cleaned") == 7);
  CHECK(no_commands());
}

TEST_CASE_METHOD(SpawnFixture, "orphans are reaped while their command runs", "[spawn]") {
  const Completion end =
      run("for i in 1 2 3 4 5 6 7 8; do (sh -c 'exit 0' & exit 0); done; "
          "for i in $(seq 100); do sleep 0.02; "
          "grep -l '(sh) Z' /proc/[0-9]*/stat 2>/dev/null | while read f; do "
          "read a b c ppid rest <$f && test $ppid = " +
          std::to_string(spawner_.pid()) +
          " && echo zombie; done | grep -q zombie || exit 0; done; exit 1");
  CHECK(end.kind == Kind::done);
}

TEST_CASE_METHOD(SpawnFixture, "a spawn server that is killed takes its commands with it",
                 "[spawn]") {
  Running running;
  running.thread =
      std::thread([&] { running.end = run("echo $$" + says("pid") + "exec sleep 1000"); });
  const pid_t pid = pid_in("pid"), server = spawner_.pid();
  kill(server, SIGKILL);
  running.thread.join();
  CHECK(running.end.kind == Kind::crash);
  CHECK(comes_true([pid] { return !is_alive(pid); }));
  CHECK(run("echo next").text == "next\n");
  CHECK(spawner_.pid() != server);
  CHECK(log_.str().find("spawn server was killed") != std::string::npos);
}

TEST_CASE_METHOD(SpawnFixture,
                 "nothing that a command started outlives the spawn server or its guard",
                 "[spawn]") {
  for (bool kills_guard : {false, true}) {
    INFO("the guard is killed: " << kills_guard);
    Running running;
    running.thread = std::thread([&] {
      running.end = run("env -i setsid sh -c 'trap \"\" TERM; sleep 1000 & echo $!" + says("deep") +
                        "wait' & setsid sleep 1000 & echo $!" + says("pid") + "wait");
    });
    const pid_t deep = pid_in("deep"), pid = pid_in("pid"), server = spawner_.pid();
    CHECK(comes_true([pid] { return getsid(pid) == pid; }));
    const std::vector<pid_t> guards = children_of(getpid());
    REQUIRE(guards.size() == 1);
    const Mono begin = std::chrono::steady_clock::now();
    kill(kills_guard ? guards[0] : server, SIGKILL);
    CHECK(comes_true([&] { return !is_alive(deep) && !is_alive(pid) && !is_alive(server); }));
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(1));
    running.thread.join();
    CHECK(running.end.kind == Kind::crash);
    std::filesystem::remove(file_of("deep"));
    std::filesystem::remove(file_of("pid"));
    CHECK(run("echo next").text == "next\n");
    CHECK(spawner_.pid() != server);
    CHECK(children_of(getpid()).size() == 1);  // no zombie beside the new guard
  }
}

TEST_CASE_METHOD(SpawnFixture, "without descriptors a job is released, and some are left over",
                 "[spawn]") {
  run("true");  // what is made once
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlim_t used = open_descriptors();
  for (rlim_t room : {rlim_t(0), rlim_t(3), rlim_t(10), rlim_t(ChildProcess::kReserved)}) {
    const rlimit low{used + room, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
    const Completion end = run("true");
    setrlimit(RLIMIT_NOFILE, &before);
    CHECK(end.kind == Kind::released);
    CHECK(end.text.find("Too many open files") != std::string::npos);
    CHECK(open_descriptors() == used);
  }
  CHECK(run("true").kind == Kind::done);
}

TEST_CASE_METHOD(SpawnFixture, "a child of a stream handler gets time to end", "[spawn]") {
  StreamHandler handler("trap 'echo 7 >" + file_of("cleaned") +
                            "; exit 0' TERM; read -r line; echo 1" + says("ready") +
                            "while :; do sleep 0.01; done",
                        spawner_);
  Running running;
  running.thread = std::thread([&] { running.end = ProcessHarness::run(handler, "x"); });
  pid_in("ready");
  stop_.set();
  running.thread.join();
  CHECK(running.end.text == "the worker was stopped");
  CHECK(pid_in("cleaned") == 7);
}

// What a worker's end leaves is ours to look at: this process is its reaper.
TEST_CASE_METHOD(SpawnFixture, "nothing outlives a worker that is killed", "[spawn]") {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t worker = fork();
  if (worker == 0) {
    Spawner own;
    if (!own.start()) _exit(1);
    ExecHandler handler("trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000 & echo $!" +
                            says("deep") + "wait' & sleep 1000 & echo $!" + says("pid") + "wait",
                        own);
    ProcessHarness::run(handler, "x");
    _exit(0);
  }
  const pid_t deep = pid_in("deep"), pid = pid_in("pid");
  const Mono begin = std::chrono::steady_clock::now();
  kill(worker, SIGKILL);
  waitpid(worker, nullptr, 0);
  CHECK(comes_true([&] { return !is_alive(deep) && !is_alive(pid); }));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(1));
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  prctl(PR_SET_CHILD_SUBREAPER, 0);
}

TEST_CASE_METHOD(SpawnFixture, "a plain command is a child of the server without a shell between",
                 "[spawn]") {
  setenv("millrace.test", "kept",
         1);  // shells such as dash drop a name that none of theirs can have
  Spawner spawner;
  ExecHandler handler("/usr/bin/env --", spawner);
  const Completion end = ProcessHarness::run(handler, "payload");
  unsetenv("millrace.test");
  CHECK(end.text.find("millrace.test=kept") != std::string::npos);
  CHECK(end.kind == Kind::done);
  CHECK(end.text.find(kCommandVariable) != std::string::npos);
  CHECK(end.text.find("MILLRACE_ATTEMPT=") != std::string::npos);
}

TEST_CASE_METHOD(SpawnFixture, "what is not a program of its own is left to the shell", "[spawn]") {
  const std::string script = file_of("script");
  std::ofstream(script) << "echo of the shell\n";  // no #! line
  chmod(script.c_str(), 0700);
  CHECK(run(script + " x").text == "of the shell\n");
  const Completion missing = run(file_of("missing") + " x");
  CHECK(missing.kind == Kind::retryable);
  CHECK(missing.text.find("not found") != std::string::npos);
  chmod(script.c_str(), 0600);
  const Completion forbidden = run(script + " x");
  CHECK(forbidden.kind == Kind::retryable);
  CHECK(forbidden.text.find("script") != std::string::npos);
}
