#include "broker/admin/metrics.h"

#include <map>
#include <sstream>
#include <string_view>

#include "tests/catch.h"
#include "tests/unit/admin/admin_sample.h"

namespace millrace::admin {
namespace {

struct Metric {
  std::string type;
  std::map<std::string, std::string> samples;  // labels in braces, or nothing → value
};

// The part of `line` up to `end`, which must be there; `line` goes on behind it.
std::string take(std::string_view& line, std::string_view end) {
  size_t at = line.find(end);
  REQUIRE(at != std::string_view::npos);
  std::string part(line.substr(0, at));
  line.remove_prefix(at + end.size());
  return part;
}

void check_name(const std::string& name) {
  REQUIRE_FALSE(name.empty());
  CHECK(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos);
}

// Takes {a="b",c="d"}; a value ends at a quote that is not escaped.
std::string take_labels(std::string_view& line) {
  std::string_view all = line;
  do {
    line.remove_prefix(1);  // { or ,
    check_name(take(line, "=\""));
    while (!line.empty() && line[0] != '"') {
      bool escape = line[0] == '\\';
      if (escape) REQUIRE((line[1] == '\\' || line[1] == '"' || line[1] == 'n'));
      line.remove_prefix(escape ? 2 : 1);
    }
    REQUIRE(line.size() > 1);
    line.remove_prefix(1);
  } while (line[0] == ',');
  REQUIRE(line[0] == '}');
  line.remove_prefix(1);
  return std::string(all.substr(0, all.size() - line.size()));
}

// Reads the format strictly: HELP, then TYPE, then all samples of that one name.
std::map<std::string, Metric> parse(const std::string& text) {
  REQUIRE(text.ends_with('\n'));
  std::map<std::string, Metric> metrics;
  std::istringstream lines(text);
  std::string name, read;
  bool typed = true;
  while (std::getline(lines, read)) {
    CAPTURE(read);
    std::string_view line = read;
    if (line.starts_with("# HELP ")) {
      REQUIRE(typed);
      take(line, "# HELP ");
      check_name(name = take(line, " "));
      REQUIRE(line.ends_with('.'));
      REQUIRE(metrics.count(name) == 0);
      typed = false;
    } else if (line.starts_with('#')) {
      take(line, "# TYPE ");
      REQUIRE(take(line, " ") == name);
      REQUIRE((line == "gauge" || line == "counter"));
      metrics[name].type = line;
      typed = true;
    } else {
      REQUIRE(typed);
      REQUIRE(line.starts_with(name));
      line.remove_prefix(name.size());
      std::string labels = line.starts_with('{') ? take_labels(line) : "";
      REQUIRE(line.starts_with(' '));
      line.remove_prefix(1);
      REQUIRE(line.find_first_not_of("0123456789.e-") == std::string_view::npos);
      REQUIRE(metrics[name].samples.emplace(labels, line).second);
    }
  }
  return metrics;
}

}  // namespace

TEST_CASE("metrics are well-formed, and named by the rules", "[admin]") {
  for (const auto& [name, metric] : parse(metrics_text(sample_status()))) {
    CAPTURE(name);
    CHECK(name.starts_with("millrace_"));
    CHECK(name.ends_with("_total") == (metric.type == "counter"));
    CHECK(name.find("_ms") == std::string::npos);
    CHECK(name.find("_us") == std::string::npos);
    CHECK_FALSE(metric.samples.empty());
  }
}

TEST_CASE("metrics carry every number of the status, in base units", "[admin]") {
  auto metrics = parse(metrics_text(sample_status()));
  auto value = [&](const std::string& name, const std::string& labels = "") {
    CAPTURE(name, labels);
    auto& samples = metrics["millrace_" + name].samples;
    REQUIRE(samples.count(labels) == 1);
    return samples[labels];
  };
  CHECK(value("build_info", R"({version="1.2.3",broker="3f9a1c07"})") == "1");
  CHECK(value("state", R"({state="serving"})") == "1");
  CHECK(value("state", R"({state="draining"})") == "0");
  CHECK(value("durable") == "0");
  CHECK(value("uptime_seconds") == "3723.5");
  const char* states[] = {"scheduled", "ready", "leased",    "retry_wait",
                          "done",      "dead",  "cancelled", "expired"};
  const char* jobs[] = {"11", "1212", "13", "14", "1515000", "16", "17", "18"};
  for (int i = 0; i < 8; ++i) {
    CHECK(value("jobs", std::string("{state=\"") + states[i] + "\"}") == jobs[i]);
  }
  const char* totals[] = {"jobs_accepted_total",     "jobs_done_total",
                          "jobs_dead_total",         "attempts_total",
                          "crashes_total",           "failures_total",
                          "returned_total",          "submissions_known_total",
                          "stale_completions_total", "submissions_rejected_total"};
  for (int i = 0; i < 10; ++i) CHECK(value(totals[i]) == std::to_string(21 + i));
  CHECK(value("queue_jobs", R"({queue="mail",state="ready"})") == "31");
  CHECK(value("queue_jobs", R"({queue="mail",state="dead"})") == "34");
  CHECK(value("queue_done_total", R"({queue="mail"})") == "35");
  CHECK(value("queue_workers", R"({queue="mail"})") == "36");
  std::string worker = R"({worker="host:1",id="00ff"})";
  CHECK(value("worker_connected", worker) == "1");
  CHECK(value("worker_connected", R"({worker="host:2",id="01ff"})") == "0");
  CHECK(value("worker_in_flight", worker) == "43");
  CHECK(value("worker_done_total", worker) == "44");
  CHECK(value("worker_failed_total", worker) == "45");
  CHECK(value("worker_silence_seconds", worker) == "0.25");
  CHECK(value("producers") == "2");
  CHECK(value("journal_size_bytes") == "54525952");
  CHECK(value("journal_durable_batch") == "53");
  CHECK(value("journal_last_commit_seconds") == "5.5e-05");
  CHECK(value("journal_stalled") == "1");
  CHECK(value("journal_loss_window_seconds") == "0.056");
  CHECK(value("resident_memory_bytes") == "62464");
  CHECK(value("payload_memory_bytes") == "62");
  CHECK(value("held", R"({kind="history"})") == "83");
  CHECK(value("held_bytes", R"({kind="jobs"})") == "82");
}

TEST_CASE("a worker's name can't break the format", "[admin]") {
  Status status;
  status.workers.resize(1);
  status.workers[0].name = "a\"b\\c\nd\xff";
  status.workers[0].id = "0f";
  auto metrics = parse(metrics_text(status));
  CHECK(metrics["millrace_worker_threads"].samples.count(
            "{worker=\"a\\\"b\\\\c\\nd?\",id=\"0f\"}") == 1);
}

TEST_CASE("a broker without queues and workers has metrics too", "[admin]") {
  CHECK(parse(metrics_text({})).count("millrace_jobs") == 1);
}

}  // namespace millrace::admin
