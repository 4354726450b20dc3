#include "tests/sim/describe.h"

#include <fmt/format.h>

namespace millrace::sim {
namespace {

using namespace protocol;

std::string text(JobRange range) {
  if (range.count == 1) return fmt::format("j{}", range.first.value);
  return fmt::format("j{}-{}", range.first.value, range.first.value + range.count - 1);
}
std::string text(Seq first, uint64_t count) {
  if (count == 1) return fmt::format("seq {}", first.value);
  return fmt::format("seq {}-{}", first.value, first.value + count - 1);
}
std::string text(Epoch epoch) {
  return fmt::format("{}.{}", epoch.value / kEpochSkip + 1, epoch.value % kEpochSkip);
}
std::string text(Lease lease) { return fmt::format("j{}/{}", lease.job.value, text(lease.epoch)); }
template <typename List>
std::string list(const List& items) {
  std::string all;
  for (const auto& item : items) all += " " + text(item);
  return all;
}

struct Describe {
  // Client
  std::string operator()(const Hello&) { return "HELLO"; }
  std::string operator()(const Submit& m) {
    std::string out =
        fmt::format("SUBMIT {} floor={} queue={} report={}", text(m.first, m.payloads.size()),
                    m.floor.value, m.queue, int(m.options.report));
    if (m.options.priority != kDefaultPriority)
      out += fmt::format(" priority={}", m.options.priority);
    if (m.options.delay.count() > 0) out += fmt::format(" delay={}ms", m.options.delay.count());
    if (m.options.ttl.count() > 0) out += fmt::format(" ttl={}ms", m.options.ttl.count());
    for (std::string_view key : m.keys) out += fmt::format(" key={}", key);
    return out;
  }
  std::string operator()(const Query& m) { return "QUERY" + list(m.jobs); }
  std::string operator()(const Collected& m) { return "COLLECTED" + list(m.jobs); }
  std::string operator()(const Cancel& m) { return "CANCEL" + list(m.jobs); }
  std::string operator()(const Register& m) { return "REGISTER claims" + list(m.claims); }
  std::string operator()(const Credit& m) { return fmt::format("CREDIT {}", m.jobs); }
  std::string operator()(const Done& m) {
    std::string out = fmt::format("DONE batch={}", m.batch);
    for (const auto& entry : m.jobs) out += " " + text(entry.lease);
    return out;
  }
  std::string operator()(const Fail& m) {
    std::string out = fmt::format("FAIL batch={}", m.batch);
    for (const auto& entry : m.jobs)
      out += fmt::format(" {} kind={}", text(entry.lease), int(entry.kind));
    return out;
  }
  std::string operator()(const Release& m) {
    return fmt::format("RELEASE batch={}{}", m.batch, list(m.jobs));
  }
  std::string operator()(const Extend& m) { return "EXTEND" + list(m.jobs); }
  std::string operator()(const Heartbeat&) { return "HEARTBEAT"; }
  std::string operator()(const Bye&) { return "BYE"; }
  // Broker
  std::string operator()(const Welcome& m) {
    return fmt::format("WELCOME incarnation={} stale{}", m.incarnation, list(m.stale));
  }
  std::string operator()(const Confirm& m) {
    std::string out = "CONFIRM";
    for (const auto& r : m.ranges)
      out += fmt::format(" {} is {}{}", text(r.first, r.count),
                         text(JobRange{r.first_job, r.count}), r.known ? " (known)" : "");
    return out;
  }
  std::string operator()(const Reject& m) {
    std::string out = "REJECT";
    for (const auto& r : m.ranges)
      out += fmt::format(" {} {} retry_after={}ms", text(r.first, r.count), r.reason,
                         r.retry_after.count());
    return out;
  }
  std::string operator()(const Outcome& m) {
    std::string out = "OUTCOME";
    for (const auto& e : m.entries)
      out += fmt::format(" {} {}{}", text(e.jobs), name_of(e.state), e.has_result ? "+result" : "");
    return out;
  }
  std::string operator()(const States& m) {
    std::string out = "STATES";
    for (const auto& r : m.ranges) out += fmt::format(" {} {}", text(r.jobs), name_of(r.state));
    return out;
  }
  std::string operator()(const LeaseGrant& m) {
    std::string out = fmt::format("LEASE {}", m.queue);
    for (const auto& e : m.jobs) out += fmt::format(" {} attempt={}", text(e.lease), e.attempt);
    return out;
  }
  std::string operator()(const DoneOk& m) { return fmt::format("DONE_OK batch={}", m.batch); }
  std::string operator()(const Stale& m) { return "STALE" + list(m.jobs); }
  std::string operator()(const protocol::Cancelled& m) { return "CANCELLED" + list(m.jobs); }
  std::string operator()(const protocol::Recall& m) { return "RECALL" + list(m.jobs); }
  std::string operator()(const Reregister&) { return "REREGISTER"; }
  std::string operator()(const ErrorReply& m) {
    return fmt::format("ERROR {}: {}", m.code, m.message);
  }
  // Records
  std::string operator()(const records::Started& r) {
    return fmt::format("Started {}", r.incarnation);
  }
  std::string operator()(const records::Accepted& r) {
    return fmt::format(
        "Accepted {} {} of {} floor={}", text(JobRange{r.first_job, r.payloads.size()}),
        text(r.first_seq, r.payloads.size()), r.producer.hex().substr(0, 6), r.floor.value);
  }
  std::string operator()(const records::Leased& r) {
    return fmt::format("Leased{} from epoch {} to {}", list(r.runs), text(r.first_epoch),
                       r.worker.hex().substr(0, 6));
  }
  std::string operator()(const records::Done& r) {
    std::string out = "Done";
    for (const auto& run : r.runs)
      out += fmt::format(" {}/{}", text(JobRange{run.first, run.count}), text(run.first_epoch));
    return out + fmt::format(" results={}", r.results.size());
  }
  std::string operator()(const records::Failed& r) {
    return fmt::format("Failed {} kind={}{}", text(r.lease), int(r.kind),
                       r.due == WallMs{} ? " dead" : "");
  }
  std::string operator()(const records::Returned& r) {
    constexpr std::string_view kReasons[] = {"released", "lost", "expired", "never arrived"};
    std::string out = fmt::format("Returned ({})", kReasons[size_t(r.reason)]);
    for (const auto& e : r.jobs) out += fmt::format(" {}{}", text(e.lease), e.dead ? " dead" : "");
    return out;
  }
  std::string operator()(const records::Due& r) { return "Due" + list(r.runs); }
  std::string operator()(const records::Collected& r) { return "Collected" + list(r.runs); }
  std::string operator()(const records::Matched& r) {
    return fmt::format("Matched {} of {} is j{}", text(r.seq, 1), r.producer.hex().substr(0, 6),
                       r.job.value);
  }
  std::string operator()(const records::Cancelled& r) {
    constexpr std::string_view kReasons[] = {"asked", "purged", "dropped"};
    return fmt::format("Cancelled ({}){}", kReasons[size_t(r.reason)], list(r.runs));
  }
  std::string operator()(const records::Expired& r) { return "Expired" + list(r.runs); }
  std::string operator()(const records::Requeued& r) { return "Requeued" + list(r.runs); }
  std::string operator()(const records::QueueSet& r) {
    const auto& s = r.settings;
    return fmt::format(
        "QueueSet {}: paused={} concurrency={} rate={} max_length={} attempts={} lease={}ms "
        "ttl={}ms order={}",
        r.queue, s.paused, s.concurrency, s.rate, s.max_length, s.max_attempts, s.lease.count(),
        s.ttl.count(), int(s.order));
  }
  std::string operator()(const records::Relocated& r) {
    return fmt::format("Relocated j{} {}", r.job.value, protocol::name_of(r.state));
  }
  std::string operator()(const records::HistoryTrimmed& r) {
    return fmt::format("HistoryTrimmed below j{}", r.below.value);
  }
  std::string operator()(const records::Absent& r) {
    std::string out = "Absent";
    for (const auto& absence : r.workers)
      out += fmt::format(" {}/{}", absence.worker.hex().substr(0, 6), absence.periods);
    return out;
  }
  std::string operator()(const records::ResultRetained& r) {
    return fmt::format("ResultRetained j{}, {} bytes", r.job.value, r.result.size());
  }
  std::string operator()(const records::ProducerGone& r) {
    return "ProducerGone " + r.producer.hex().substr(0, 6);
  }
  std::string operator()(const records::Checkpoint& r) {
    return fmt::format("Checkpoint next_job={}", r.next_job.value);
  }
  // What this page does not know yet.
  template <typename Other>
  std::string operator()(const Other&) {
    return "a message of a kind without words here";
  }
};

}  // namespace

std::string describe(const FromClient& message) { return std::visit(Describe{}, message); }
std::string describe(const FromBroker& message) { return std::visit(Describe{}, message); }
std::string describe(const records::Record& record) { return std::visit(Describe{}, record); }

}  // namespace millrace::sim
