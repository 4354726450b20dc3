#include "broker/admin/status_json.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/unit/admin/admin_sample.h"

// Scripts read these keys: they may be added to, never renamed or removed.
namespace millrace::admin {

TEST_CASE("the keys of status are as promised", "[admin]") {
  CHECK(
      json_text(status_json(sample_status())) ==
      R"({"state":"serving","fsync":"interval:100ms","durability":"buffered","version":"1.2.3",)"
      R"("broker":"3f9a1c07","incarnation":3,"uptime_ms":3723500,"pid":4242,)"
      R"("jobs":{"scheduled":11,"ready":1212,"leased":13,"retry_wait":14,"done":1515000,)"
      R"("dead":16,"cancelled":17,"expired":18},)"
      R"("totals":{"accepted":21,"done":22,"dead":23,"attempts":24,"crashes":25,"failures":26,)"
      R"("returned":27,"duplicates_known":28,"stale":29,"rejected":30},)"
      R"("queues":[{"name":"mail","ready":31,"leased":32,"retry_wait":33,"dead":34,"done":35,)"
      R"("workers":36,"scheduled":37,)"
      R"("settings":{"weight":38,"order":"fair","paused":true,"concurrency":0,"rate":0,"max_length":0,)"
      R"("max_attempts":0,"backoff_min_ms":0,"backoff_max_ms":0,"lease_ms":39,"ttl_ms":0}},)"
      R"({"name":"q2","ready":0,"leased":0,"retry_wait":0,"dead":0,"done":0,)"
      R"("workers":0,"scheduled":0,)"
      R"("settings":{"weight":1,"order":"fifo","paused":false,"concurrency":0,"rate":0,"max_length":0,)"
      R"("max_attempts":0,"backoff_min_ms":0,"backoff_max_ms":0,"lease_ms":0,"ttl_ms":0}}],)"
      R"("queue_count":83,"other_queues":{"queues":81,"scheduled":82,"ready":83,"leased":84,)"
      R"("retry_wait":85,"dead":86,"done":87},)"
      R"("workers":[{"name":"host:1","id":"00ff","queues":["mail","q2"],"labels":["gpu"],"threads":41,)"
      R"("credit":42,"in_flight":43,"done":44,"failed":45,"seconds_since_heard":0.25,)"
      R"("connected":true,"subscriptions":46},{"name":"host:2","id":"01ff","queues":[],"labels":[],"threads":4,"credit":0,)"
      R"("in_flight":1,"done":0,"failed":0,"seconds_since_heard":9.5,"connected":false,"subscriptions":0}],)"
      R"("producers":2,"largest_producers":[{"id":"0a0b","unfinished":71}],)"
      R"("unfinished_of_forgotten":72,"limits":{"max_queued":73,"max_memory":74,)"
      R"("max_queued_per_producer":75,"submit_rate_per_producer":76,"max_queues":77},)"
      R"("journal":{"segments":51,"bytes":54525952,"durable_batch":53,"commits":54,)"
      R"("last_commit_us":55,"disk_free":3221225472,"stalled":true,"rejecting":false,"loss_window_ms":56,"loss_window_max_ms":100},)"
      R"("memory":{"rss":62464,"payload_bytes":62,"jobs":65,"output":66,"transport":67,"input":68,"read_back":69},)"
      R"("held":{"jobs":{"count":81,"bytes":82},"history":{"count":83,"bytes":84}},)"
      R"("history_start":"3f9a1c07-85",)"
      R"("security":"curve","keys":63,"refused_handshakes":64,"slow_readers":71,)"
      R"("connections":{"open":66,"limit":67,"unread_bytes":68,"closed":{"capacity":69,"silent":70}},)"
      R"("log_lines_dropped":65,"alerts":[{"critical":true,"subject":"journal",)"
      R"("problem":"the disk is full, so nothing is confirmed",)"
      R"("remedy":"free space on the disk of --data; the broker continues by itself"},)"
      R"({"critical":true,"subject":"limits",)"
      R"("problem":"unfinished jobs have reached --max-queued, so new jobs are rejected",)"
      R"("remedy":"start more workers, or raise --max-queued"},)"
      R"({"critical":false,"subject":"connections",)"
      R"("problem":"66 of 67 connections are open",)"
      R"j("remedy":"raise --max-connections, or find who opens them (the log names addresses)"},)j"
      R"({"critical":false,"subject":"queue mail",)"
      R"("problem":"paused, with 31 jobs ready",)"
      R"("remedy":"millrace-broker queue resume mail"},)"
      R"({"critical":false,"subject":"queue mail",)"
      R"("problem":"34 jobs dead",)"
      R"("remedy":"look at them with 'millrace-broker dead', then retry or drop them"},)"
      R"({"critical":false,"subject":"workers",)"
      R"("problem":"1 with 1 job in flight is not connected",)"
      R"("remedy":"wait: their jobs are given to others after the grace period"},)"
      R"({"critical":false,"subject":"log",)"
      R"("problem":"65 lines were dropped",)"
      R"("remedy":"whatever reads the broker's stderr is too slow"}]})"
      "\n");
}

TEST_CASE("queues and workers are the lists of status", "[admin]") {
  auto status = status_json(sample_status());
  CHECK(queues_json(sample_status()) ==
        nlohmann::ordered_json::object(
            {{"queues", status["queues"]}, {"other_queues", status["other_queues"]}}));
  CHECK(workers_json(sample_status()) ==
        nlohmann::ordered_json::object({{"workers", status["workers"]}}));
}

TEST_CASE("lists without an element stay lists", "[admin]") {
  CHECK(json_text(queues_json({})).starts_with("{\"queues\":[],"));
  CHECK(json_text(workers_json({})) == "{\"workers\":[]}\n");
}

}  // namespace millrace::admin
