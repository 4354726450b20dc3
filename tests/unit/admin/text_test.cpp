#include "broker/cli/status_text.h"

#include <nlohmann/json.hpp>

#include "broker/admin/status_json.h"
#include "broker/cli/job_text.h"
#include "tests/catch.h"
#include "tests/unit/admin/admin_sample.h"

namespace millrace::admin {
namespace {

std::string status_of(const Status& status) {
  return status_text(nlohmann::json::parse(json_text(status_json(status))));
}
nlohmann::json sample_dead() {
  return nlohmann::json::parse(
      R"({"count":16,"next":"1767323045678.9","dead":[{"id":"3f9a1c07-9","queue":"mail","attempts":5,"failures":3,)"
      R"("crashes":2,"error":"exit 1: no\nmailbox","worker":"host:1","time_ms":1767323045678}]})");
}

}  // namespace

TEST_CASE("status is a short, aligned text", "[admin]") {
  CHECK(
      status_of(sample_status()) ==
      "broker   3f9a1c07  serving  up 1 h 2 min  version 1.2.3  pid 4242\n"
      "jobs     1,212 ready  13 leased  14 retry-wait  1,515,000 done  16 dead\n"
      "         11 scheduled  17 cancelled  18 expired\n"
      "journal  fsync interval:100ms (buffered)  52.0 MiB in 51 segments  last commit 0.06 ms  "
      "3.0 GiB free  STALLED: no space\n"
      "         a power cut now would lose the last 56 ms; at most about 100 ms\n"
      "memory   61.0 KiB  producers 2\n"
      "CRITICAL journal: the disk is full, so nothing is confirmed: free space on the disk of "
      "--data; the broker continues by itself\n"
      "CRITICAL limits: unfinished jobs have reached --max-queued, so new jobs are rejected: start "
      "more workers, or raise --max-queued\n"
      "warning  connections: 66 of 67 connections are open: raise --max-connections, or find who "
      "opens them (the log names addresses)\n"
      "warning  queue mail: paused, with 31 jobs ready: millrace-broker queue resume mail\n"
      "warning  queue mail: 34 jobs dead: look at them with 'millrace-broker dead', then retry or "
      "drop them\n"
      "warning  workers: 1 with 1 job in flight is not connected: wait: their jobs are given to "
      "others after the grace period\n"
      "warning  log: 65 lines were dropped: whatever reads the broker's stderr is too slow\n"
      "\n"
      "QUEUE  READY  LEASED  RETRY-WAIT  DEAD  DONE  WORKERS\n"
      "mail      31      32          33    34    35       36\n"
      "q2         0       0           0     0     0        0\n"
      "and 81 more queues with 83 ready, 84 leased, 85 retry-wait, 86 dead\n"
      "\n"
      "WORKER  THREADS  CREDIT  IN-FLIGHT  DONE  FAILED      HEARD  QUEUES    LABELS\n"
      "host:1       41      42         43    44      45  0.2 s ago  mail, q2  gpu\n"
      "host:2        4       0          1     0       0    awaited\n");
}

TEST_CASE("a broker without queues and workers has no empty tables", "[admin]") {
  Status status;
  status.state = "recovering";
  auto text = status_of(status);
  CHECK(text.find("recovering") != std::string::npos);
  CHECK(text.find("QUEUE") == std::string::npos);
  CHECK(text.find("WORKER") == std::string::npos);
}

TEST_CASE("a worker without a name is shown by its id", "[admin]") {
  Status status = sample_status();
  status.workers = {{"", "0123456789abcdef", {}, {}, 0, 0, 7, 0, 0, 0, false}};
  CHECK(status_of(status).find("\nid 01234567        0") != std::string::npos);
}

TEST_CASE("one segment is not several", "[admin]") {
  Status status = sample_status();
  status.journal.segments = 1;
  CHECK(status_of(status).find(" in 1 segment  last") != std::string::npos);
}

TEST_CASE("queues are listed with what they were told to do", "[admin]") {
  Status status = sample_status();
  CHECK(queues_text(nlohmann::json::parse(json_text(queues_json(status)))) ==
        "QUEUE  SCHEDULED  READY  LEASED  RETRY-WAIT  DEAD  DONE  WORKERS  SETTINGS\n"
        "mail          37     31      32          33    34    35       36  paused order=fair "
        "weight=38 lease=39ms\n"
        "q2             0      0       0           0     0     0        0  -\n"
        "and 81 more queues with 83 ready, 84 leased, 85 retry-wait, 86 dead\n");
}

TEST_CASE("a job is shown line by line, and why it waits in one", "[admin]") {
  auto job = nlohmann::json::parse(
      R"({"id":"3f9a1c07-42","state":"retry-wait","why":"the next is due in 7 ms","queue":"mail","attempts":2,)"
      R"("failures":1,"crashes":1,"priority":4,"due_ms":1767323045678,"expires_ms":null,)"
      R"("history":[{"attempt":1,"worker":"host:1","error":"no\nluck","time_ms":1767323045678}]})");
  CHECK(why_text(job) == "3f9a1c07-42 is in retry-wait: the next is due in 7 ms\n");
  CHECK(job_text(job) == why_text(job) +
                             "queue     mail\n"
                             "priority  4\n"
                             "attempts  2, 1 failures, 1 crashes\n"
                             "due       2026-01-02T03:04:05Z\n"
                             "\n"
                             "ATTEMPT  ENDED                 WORKER  ERROR\n"
                             "      1  2026-01-02T03:04:05Z  host:1  no luck\n");
  auto done = nlohmann::json::parse(
      R"({"id":"1-1","state":"done","why":"a worker completed it","result":"fine"})");
  CHECK(job_text(done) == "1-1 is done: a worker completed it\nresult    fine\n");
}

TEST_CASE("dead jobs are one line each", "[admin]") {
  auto dead = sample_dead();
  CHECK(dead_text(dead) ==
        "SINCE                 JOB         QUEUE  ATTEMPTS  FAILURES  CRASHES  WORKER  ERROR\n"
        "2026-01-02T03:04:05Z  3f9a1c07-9  mail          5         3        2  host:1  "
        "exit 1: no mailbox\n"
        "the newest 1; 16 jobs are dead in all (--limit)\n");
  dead["next"] = nullptr;
  CHECK(dead_text(dead).find("newest") == std::string::npos);
  dead["dead"].clear();
  CHECK(dead_text(dead) == "no such dead jobs\n");
  dead["count"] = 0;
  CHECK(dead_text(dead) == "no dead jobs\n");
}

TEST_CASE("errors of dead jobs are counted", "[admin]") {
  const auto sums = nlohmann::json::parse(
      R"({"groups":[{"error":"exit N\u001b","jobs":1200,"newest":"7-9","newest_ms":1767323045678}],"other":3})");
  CHECK(dead_groups_text(sums) ==
        " JOBS  NEWEST                JOB  ERROR\n"
        "1,200  2026-01-02T03:04:05Z  7-9  exit N\\x1b\n"
        "and 3 jobs with other errors\n");
}

TEST_CASE("long errors are cut between characters", "[admin]") {
  auto dead = sample_dead();
  dead["dead"][0]["error"] = std::string(119, 'x') + "\u00e9\u00e9\u00e9";
  CHECK(dead_text(dead).find(std::string(119, 'x') + "...\n") != std::string::npos);
}

TEST_CASE("names from outside can't steer the terminal", "[admin]") {
  Status status = sample_status();
  status.workers[0].name = "a\x1b[31mb";
  auto dead = sample_dead();
  dead["dead"][0]["error"] = "bell\a";
  CHECK(status_of(status).find('\x1b') == std::string::npos);
  CHECK(dead_text(dead).find('\a') == std::string::npos);
}

TEST_CASE("columns count characters, not bytes", "[admin]") {
  Status status = sample_status();
  status.queues = {{"caf\u00e9", 1, 2, 3, 4, 5, 6}};
  CHECK(status_of(status).find("caf\u00e9       1       2") != std::string::npos);
}

}  // namespace millrace::admin
