#include "broker/admin/alerts.h"

#include "tests/catch.h"

namespace millrace::admin {
namespace {

Status calm_status() {
  Status status;
  status.state = "serving";
  status.limits.max_queued = 1000;
  status.limits.max_memory = 1000;
  status.connections.limit = 100;
  status.queues = {{"mail", 3, 1, 0, 0, 9, 1}};
  status.workers = {{"host:1", "00ff", {"mail"}}};
  return status;
}

}  // namespace

TEST_CASE("a broker that works needs no attention", "[alerts]") {
  CHECK(alerts_of(calm_status()).empty());
}

TEST_CASE("jobs that no worker takes are critical, and the remedy is a command", "[alerts]") {
  Status status = calm_status();
  status.queues[0].workers = 0;
  const auto alerts = alerts_of(status);
  REQUIRE(alerts.size() == 1);
  CHECK(alerts[0].critical);
  CHECK(alerts[0].subject == "queue mail");
  CHECK(alerts[0].problem == "3 jobs ready, no worker");
  CHECK(alerts[0].remedy == "millrace-worker run --queue mail=HANDLER");
  status.queues[0].ready = 0;
  CHECK(alerts_of(status).empty());
}

TEST_CASE("a paused queue is meant to wait, so it is a warning", "[alerts]") {
  Status status = calm_status();
  status.queues[0].settings.paused = true;
  const auto alerts = alerts_of(status);
  REQUIRE(alerts.size() == 1);
  CHECK(!alerts[0].critical);
  CHECK(alerts[0].remedy == "millrace-broker queue resume mail");
}

TEST_CASE("a limit warns from nine tenths on, and is critical when it is reached", "[alerts]") {
  Status status = calm_status();
  status.jobs.ready = 899;
  CHECK(alerts_of(status).empty());
  status.jobs.leased = 1;
  REQUIRE(alerts_of(status).size() == 1);
  CHECK(!alerts_of(status)[0].critical);
  status.jobs.scheduled = 50;
  status.jobs.retry_wait = 50;
  REQUIRE(alerts_of(status).size() == 1);
  CHECK(alerts_of(status)[0].critical);
}

TEST_CASE("what is critical comes first", "[alerts]") {
  Status status = calm_status();
  status.queues[0].dead = 1;
  status.queues.push_back({"orders", 1, 0, 0, 0, 0, 0});
  status.log_lines_dropped = 1;
  const auto alerts = alerts_of(status);
  REQUIRE(alerts.size() == 3);
  CHECK(alerts[0].subject == "queue orders");
  CHECK(alerts[1].problem == "1 job dead");
}

TEST_CASE("alerts about many queues are summed up", "[alerts]") {
  Status status = calm_status();
  status.queues.assign(kMaxQueueAlerts + 5, {"mail", 3, 0, 0, 0, 0, 0});
  const auto alerts = alerts_of(status);
  REQUIRE(alerts.size() == kMaxQueueAlerts + 1);
  CHECK(alerts.back().problem == "5 more alerts about queues");
}

}  // namespace millrace::admin
