#include "broker/cli/cluster_status.h"

#include "broker/admin/status_json.h"
#include "tests/catch.h"
#include "tests/unit/admin/admin_sample.h"

namespace millrace::admin {
namespace {

using Json = nlohmann::json;

const Endpoint kFirst{"10.0.0.1", 5580}, kSecond{"10.0.0.2", 5580}, kThird{"10.0.0.3", 5580};

Json json_of(const Status& status) { return Json::parse(json_text(status_json(status))); }

// Another broker of the same workers, with few jobs.
Status second_status() {
  Status status = sample_status();
  status.broker = "00c0ffee";
  status.jobs = {1, 2, 3, 4, 5, 6, 7, 8};
  status.totals = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  status.queues = {{"mail", 1, 2, 3, 4, 5, 6, 7}};
  status.workers = {{"host:1", "99ff", {"mail"}, {}, 41, 1, 2, 3, 4, 0.25, true}};
  status.producers = 1;
  status.uptime_ms = 5'000;
  return status;
}

}  // namespace

TEST_CASE("a broker is known again by its id", "[admin]") {
  ClusterStatus cluster;
  cluster.add(kFirst, json_of(sample_status()));
  REQUIRE(cluster.find("3f9a1c07"));
  CHECK(*cluster.find("3f9a1c07") == kFirst.authority());
  CHECK_FALSE(cluster.find("00c0ffee"));
}

TEST_CASE("several brokers are one cluster", "[admin]") {
  ClusterStatus cluster;
  cluster.add(kFirst, json_of(sample_status()));
  cluster.add(kSecond, json_of(second_status()));
  CHECK(cluster.to_text() ==
        "cluster  serving  2 of 2 brokers answer\n"
        "jobs     1,214 ready  16 leased  18 retry-wait  1,515,005 done  22 dead\n"
        "         12 scheduled  24 cancelled  26 expired\n"
        "\n"
        "HTTP           BROKER    STATE    READY  LEASED  RETRY-WAIT  DEAD       DONE  WORKERS"
        "         UP\n"
        "10.0.0.1:5580  3f9a1c07  serving  1,212      13          14    16  1,515,000        1"
        "  1 h 2 min\n"
        "10.0.0.2:5580  00c0ffee  serving      2       3           4     6          5        1"
        "      5.0 s\n"
        "\n"
        "QUEUE  READY  LEASED  RETRY-WAIT  DEAD  DONE  WORKERS\n"
        "mail      32      34          36    38    40       36\n"
        "q2         0       0           0     0     0        0\n"
        "\n"
        "WORKER  BROKERS  THREADS  IN-FLIGHT  DONE  FAILED\n"
        "host:1        2       41         45    47      49\n"
        "host:2        0        4          1     0       0\n");
}

TEST_CASE("the object of a cluster has the brokers' own, and sums", "[admin]") {
  ClusterStatus cluster;
  cluster.add(kFirst, json_of(sample_status()));
  cluster.add(kSecond, json_of(second_status()));
  const Json json = cluster.to_json();
  CHECK(json["state"] == "serving");
  CHECK(json["brokers"][0]["http"] == "10.0.0.1:5580");
  CHECK(json["brokers"][0]["status"] == json_of(sample_status()));
  CHECK(json["jobs"] == Json::parse(R"({"scheduled":12,"ready":1214,"leased":16,"retry_wait":18,)"
                                    R"("done":1515005,"dead":22,"cancelled":24,"expired":26})"));
  CHECK(json["totals"]["accepted"] == 22);
  CHECK(json["totals"]["rejected"] == 40);
  CHECK(json["queues"][0]["scheduled"] == 44);
  CHECK(json["workers"][0] ==
        Json::parse(R"({"name":"host:1","brokers":2,"threads":41,"in_flight":45,"done":47,)"
                    R"("failed":49})"));
  CHECK(json["producers"] == 3);
}

TEST_CASE("a broker that can't be asked is shown as such, and counts nothing", "[admin]") {
  ClusterStatus cluster;
  cluster.add_absent(kFirst, "it is away");
  CHECK(cluster.to_json()["state"] == "unreachable");
  CHECK(cluster.to_text() ==
        "cluster  unreachable  0 of 1 brokers answer\n"
        "\n"
        "HTTP           BROKER  STATE      READY  LEASED  RETRY-WAIT  DEAD  DONE  WORKERS  UP\n"
        "10.0.0.1:5580  -       no answer      -       -           -     -     -        -   -\n");
  cluster.add(kSecond, json_of(second_status()));
  const Json json = cluster.to_json();
  CHECK(json["state"] == "degraded");
  CHECK(json["brokers"][0] == Json({{"http", "10.0.0.1:5580"}, {"error", "it is away"}}));
  CHECK(json["jobs"]["ready"] == 2);
}

TEST_CASE("a broker that has no room for new jobs says so in its line", "[admin]") {
  Status full = second_status();
  full.journal.rejecting = true;
  ClusterStatus cluster;
  cluster.add(kFirst, json_of(full));
  CHECK(cluster.to_text().find("00c0ffee  serving, disk full      2") != std::string::npos);
}

TEST_CASE("brokers of different states are a degraded cluster", "[admin]") {
  ClusterStatus cluster;
  Status draining = second_status();
  draining.state = "draining";
  cluster.add(kFirst, json_of(draining));
  CHECK(cluster.to_json()["state"] == "draining");
  cluster.add(kSecond, json_of(sample_status()));
  CHECK(cluster.to_json()["state"] == "degraded");
}

TEST_CASE("what is no broker's status adds nothing", "[admin]") {
  ClusterStatus cluster;
  cluster.add(kFirst, json_of(second_status()));
  const std::string before = cluster.to_text();
  for (const char* missing :
       {"jobs", "totals", "queues", "workers", "producers", "state", "broker", "uptime_ms"}) {
    Json other = json_of(sample_status());
    other.erase(missing);
    CHECK_THROWS_AS(cluster.add(kThird, other), Json::exception);
  }
  CHECK(cluster.to_text() == before);
}

TEST_CASE("workers without names are told apart by their ids", "[admin]") {
  Status status = second_status();
  status.workers = {{"", "0123456789abcdef", {}, {}, 0, 0, 7, 0, 0, 0, false},
                    {"", "fedcba9876543210", {}, {}, 0, 0, 8, 0, 0, 0, false}};
  ClusterStatus cluster;
  cluster.add(kFirst, json_of(status));
  CHECK(cluster.to_json()["workers"].size() == 2);
  CHECK(cluster.to_text().find("\nid 01234567        0") != std::string::npos);
}

}  // namespace millrace::admin
