#include "producer/gateway/gateway_metrics.h"

#include "common/metrics/metrics.h"

namespace millrace::producer {

void GatewayMetrics::answered(const Answer& answer, Mono::duration since_request) {
  ++answers_[size_t(answer.kind)];
  if (!answer.accepted()) return;
  const double seconds = std::chrono::duration<double>(since_request).count();
  ++confirms_;
  confirm_seconds_ += seconds;
  for (size_t i = 0; i < kBuckets.size(); ++i)
    if (seconds <= kBuckets[i]) ++within_[i];
}

std::string GatewayMetrics::text(const Gauges& gauges) const {
  Exposition out;
  out.gauge("gateway_build_info", "Always 1; the label tells which version this is.");
  out.sample({{"version", MILLRACE_VERSION}}, 1);
  out.gauge("gateway_broker_connected", "1 while a broker is connected.");
  out.sample({}, int{gauges.brokers > 0});
  out.gauge("gateway_brokers_connected", "Brokers that are connected.");
  out.sample({}, gauges.brokers);
  out.gauge("gateway_draining", "1 while the gateway is stopping.");
  out.sample({}, int{gauges.draining});
  out.gauge("gateway_connections", "HTTP connections that are open.");
  out.sample({}, gauges.connections);
  out.gauge("gateway_waiting", "Submissions whose answer or end an HTTP client waits for.");
  out.sample({}, gauges.waiting);
  out.gauge("gateway_open_submissions", "Submissions that the broker has not answered.");
  out.sample({}, gauges.open_jobs);
  if (gauges.spool) {
    out.gauge("gateway_spool_jobs", "Submissions in the spool.");
    out.sample({}, gauges.spool->jobs);
    out.gauge("gateway_spool_bytes", "Their bytes, as --spool-size counts them.");
    out.sample({}, gauges.spool->bytes);
    out.gauge("gateway_spool_disk_full", "1 while the spool's disk can't be written to.");
    out.sample({}, int{gauges.spool->disk_full});
    out.counter("gateway_spool_forwarded_total",
                "Submissions that were in the spool and that a broker has confirmed.");
    out.sample({}, gauges.spool->forwarded);
  }
  out.counter("gateway_responses_total", "HTTP responses by status.");
  for (const auto& [status, count] : responses_)
    out.sample({{"code", fmt::format("{}", status)}}, count);
  out.counter("gateway_submissions_total", "Submissions by the answer to the client.");
  constexpr const char* kNames[] = {"confirmed", "buffered", "spooled",
                                    "rejected",  "away",     "unknown"};
  for (size_t i = 0; i < answers_.size(); ++i) out.sample({{"answer", kNames[i]}}, answers_[i]);
  out.histogram("gateway_confirm_seconds", "From the request to its durable confirm.");
  for (size_t i = 0; i < kBuckets.size(); ++i)
    out.sample({{"le", fmt::format("{}", kBuckets[i])}}, within_[i], "_bucket");
  out.sample({{"le", "+Inf"}}, confirms_, "_bucket");
  out.sample({}, confirm_seconds_, "_sum");
  out.sample({}, confirms_, "_count");
  return out.take();
}

}  // namespace millrace::producer
