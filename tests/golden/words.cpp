#include "tests/golden/words.h"

#include <sstream>

#include "tests/catch.h"

namespace millrace::test {
namespace {

using namespace protocol;

std::string text(JobRange range) {
  std::string first = std::to_string(range.first.value);
  return range.count == 1 ? first
                          : first + "-" + std::to_string(range.first.value + range.count - 1);
}
// Epochs as start.counter: each start skips kEpochSkip.
std::string text(Epoch epoch) {
  return std::to_string(epoch.value / kEpochSkip + 1) + "." +
         std::to_string(epoch.value % kEpochSkip);
}
std::string text(Lease lease) { return std::to_string(lease.job.value) + "/" + text(lease.epoch); }

template <typename List>
std::string list(const List& items) {
  std::string all;
  for (const auto& item : items) all += (all.empty() ? "" : ",") + text(item);
  return all;
}

std::vector<std::string> split(const std::string& words, char at) {
  std::vector<std::string> parts;
  std::istringstream in(words);
  for (std::string part; std::getline(in, part, at);) parts.push_back(part);
  return parts;
}

Lease lease_of(const std::string& word) {
  auto slash = word.find('/'), dot = word.find('.');
  return {{std::stoull(word.substr(0, slash))},
          {(std::stoull(word.substr(slash + 1, dot)) - 1) * kEpochSkip +
           std::stoull(word.substr(dot + 1))}};
}
std::vector<Lease> leases_of(const std::string& words) {
  std::vector<Lease> leases;
  for (const auto& word : split(words, ',')) leases.push_back(lease_of(word));
  return leases;
}
JobRange range_of(const std::string& word) {
  auto dash = word.find('-');
  uint64_t first = std::stoull(word);
  return {{first}, dash == std::string::npos ? 1 : std::stoull(word.substr(dash + 1)) - first + 1};
}

struct Describe {
  std::ostringstream out;

  void operator()(const Welcome& m) {
    out << "WELCOME incarnation=" << m.incarnation << " durability=" << m.durability
        << " stale=" << list(m.stale);
  }
  void operator()(const Confirm& m) {
    out << "CONFIRM";
    for (const auto& r : m.ranges)
      out << " seq " << text(JobRange{{r.first.value}, r.count}) << " is job "
          << text(JobRange{r.first_job, r.count}) << (r.known ? " (known)" : "");
  }
  void operator()(const Reject& m) {
    out << "REJECT";
    for (const auto& r : m.ranges)
      out << " seq " << text(JobRange{{r.first.value}, r.count}) << " " << r.reason
          << " retry_after=" << r.retry_after.count() << "ms";
  }
  void operator()(const Outcome& m) {
    out << "OUTCOME";
    for (const auto& e : m.entries) {
      out << " " << text(e.jobs) << " " << name_of(e.state) << " attempts=" << e.attempts;
      if (e.has_result) out << " result=" << e.result;
      if (e.has_error) out << " error=" << e.error;
    }
  }
  void operator()(const States& m) {
    out << "STATES";
    for (const auto& r : m.ranges) out << " " << text(r.jobs) << " " << name_of(r.state);
  }
  void operator()(const LeaseGrant& m) {
    out << "LEASE queue=" << m.queue;
    for (const auto& e : m.jobs)
      out << " " << text(e.lease) << " attempt=" << e.attempt
          << (e.wants_result ? " wants_result" : "");
  }
  void operator()(const DoneOk& m) { out << "DONE_OK batch=" << m.batch; }
  void operator()(const Stale& m) { out << "STALE " << list(m.jobs); }
  void operator()(const protocol::Cancelled& m) { out << "CANCELLED " << list(m.jobs); }
  void operator()(const Recall& m) { out << "RECALL " << list(m.jobs); }
  void operator()(const Heartbeat&) { out << "HEARTBEAT"; }
  void operator()(const Reregister&) { out << "REREGISTER"; }
  void operator()(const ErrorReply& m) { out << "ERROR " << m.code << ": " << m.message; }

  void operator()(const records::Started& r) { out << "Started incarnation=" << r.incarnation; }
  void operator()(const records::Accepted& r) {
    out << "Accepted jobs=" << text(JobRange{r.first_job, r.payloads.size()})
        << " seq=" << r.first_seq.value << " floor=" << r.floor.value << " queue=" << r.queue;
    if (r.due != WallMs{}) out << " due=" << to_int(r.due);
    if (r.expires != WallMs{}) out << " expires=" << to_int(r.expires);
    for (auto key : r.keys) out << " key=" << key;
  }
  void operator()(const records::Leased& r) {
    out << "Leased jobs=" << list(r.runs) << " epoch=" << text(r.first_epoch);
  }
  void operator()(const records::Done& r) {
    out << "Done jobs=";
    for (const auto& run : r.runs)
      out << text(JobRange{run.first, run.count}) << "/" << text(run.first_epoch) << " ";
    out << "results=" << r.results.size();
  }
  void operator()(const records::Failed& r) {
    out << "Failed " << text(r.lease) << (r.due == WallMs{} ? " dead" : " retry")
        << " error=" << r.error;
  }
  void operator()(const records::Returned& r) {
    constexpr const char* kReasons[] = {"released", "lost", "expired", "never arrived"};
    out << "Returned (" << kReasons[size_t(r.reason)] << ")";
    for (const auto& e : r.jobs) out << " " << text(e.lease) << (e.dead ? " dead" : "");
  }
  void operator()(const records::Due& r) { out << "Due " << list(r.runs); }
  void operator()(const records::Collected& r) { out << "Collected " << list(r.runs); }
  void operator()(const records::Matched& r) {
    out << "Matched seq=" << r.seq.value << " job=" << r.job.value;
  }
  void operator()(const records::Cancelled& r) {
    constexpr const char* kReasons[] = {"asked", "purged", "dropped"};
    out << "Cancelled (" << kReasons[size_t(r.reason)] << ") " << list(r.runs);
  }
  void operator()(const records::Expired& r) { out << "Expired " << list(r.runs); }
  void operator()(const records::Requeued& r) { out << "Requeued " << list(r.runs); }
  void operator()(const records::QueueSet& r) {
    out << "QueueSet " << r.queue << (r.settings.paused ? " paused" : "")
        << " concurrency=" << r.settings.concurrency << " rate=" << r.settings.rate;
  }
  void operator()(const records::Relocated& r) { out << "Relocated " << r.job.value; }
  void operator()(const records::HistoryTrimmed& r) { out << "HistoryTrimmed " << r.below.value; }
  void operator()(const records::Absent& r) {
    out << "Absent";
    for (const auto& absence : r.workers)
      out << " " << absence.worker.hex().substr(0, 6) << "/" << int(absence.periods);
  }
  void operator()(const records::ResultRetained& r) { out << "ResultRetained " << r.job.value; }
  void operator()(const records::ProducerGone&) { out << "ProducerGone"; }
  void operator()(const records::Checkpoint& r) {
    out << "Checkpoint next_job=" << r.next_job.value << " done=" << list(r.done)
        << " producers=" << r.producers.size();
  }
};

template <typename Variant>
std::string describe_any(const Variant& value) {
  Describe describe;
  std::visit(describe, value);
  return describe.out.str();
}

}  // namespace

std::string describe(const FromBroker& message) { return describe_any(message); }
std::string describe(const records::Record& record) { return describe_any(record); }

Words::Words(const std::string& line) {
  std::istringstream in(line);
  in >> name >> verb;
  for (std::string word; in >> word;) {
    auto equals = word.find('=');
    if (equals == std::string::npos)
      rest.push_back(word);
    else
      named[word.substr(0, equals)] = word.substr(equals + 1);
  }
}

FromClient Words::message(const Uuid& peer, uint64_t* batch) const {
  auto get = [&](const std::string& key, const std::string& other = "") {
    auto found = named.find(key);
    return found == named.end() ? other : found->second;
  };
  if (verb == "HELLO") return Hello{peer};
  if (verb == "SUBMIT") {
    Submit m;
    m.first = {std::stoull(get("seq"))};
    m.floor = {std::stoull(get("floor", get("seq")))};
    m.queue = "q";
    if (get("report") == "outcome") m.options.report = Report::outcome;
    if (get("report") == "result") m.options.report = Report::result;
    if (named.count("priority")) m.options.priority = uint8_t(std::stoi(get("priority")));
    if (named.count("delay")) m.options.delay = Millis(std::stoll(get("delay")));
    if (named.count("ttl")) m.options.ttl = Millis(std::stoll(get("ttl")));
    if (named.count("key")) m.keys.push_back(named.at("key"));
    if (named.count("max_attempts"))
      m.options.max_attempts = uint8_t(std::stoi(get("max_attempts")));
    m.payloads.assign(rest.begin(), rest.end());
    return m;
  }
  if (verb == "QUERY") return Query{{range_of(rest.at(0))}};
  if (verb == "CANCEL") return Cancel{{range_of(rest.at(0))}};
  if (verb == "COLLECTED") return Collected{{range_of(rest.at(0))}};
  if (verb == "REGISTER") {
    const uint64_t threads = named.count("threads") ? std::stoull(get("threads")) : 4;
    return Register{peer, "worker", {"q"}, threads, leases_of(get("claims"))};
  }
  if (verb == "CREDIT")
    return Credit{std::stoull(rest.at(0)), rest.size() > 1 ? std::stoull(rest[1]) : 0};
  if (verb == "DONE") {
    Done m{++*batch, {}};
    auto result = named.find("result");
    for (Lease lease : leases_of(rest.at(0)))
      m.jobs.push_back({lease, result != named.end(),
                        result != named.end() ? std::string_view(result->second) : ""});
    return m;
  }
  if (verb == "FAIL") {
    auto kind = get("kind", "retryable");
    auto fail_kind = kind == "crash"       ? FailKind::crash
                     : kind == "permanent" ? FailKind::permanent
                                           : FailKind::retryable;
    return Fail{++*batch, {{lease_of(rest.at(0)), fail_kind, "oops"}}};
  }
  if (verb == "RELEASE") return Release{++*batch, leases_of(rest.at(0))};
  if (verb == "EXTEND") return Extend{leases_of(rest.at(0))};
  if (verb == "BYE") return Bye{};
  REQUIRE(verb == "HEARTBEAT");
  return Heartbeat{};
}

}  // namespace millrace::test
