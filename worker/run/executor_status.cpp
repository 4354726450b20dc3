#include "worker/run/executor_status.h"

namespace millrace::worker {
namespace {

Percentiles percentiles(const Histogram& us) {
  auto ms = [](uint64_t value) { return double(value) / 1000; };
  return {us.count(),
          ms(us.quantile(0.5)),
          ms(us.quantile(0.9)),
          ms(us.quantile(0.99)),
          ms(us.quantile(0.999)),
          ms(us.max())};
}

uint64_t micros(std::chrono::nanoseconds time) {
  return time.count() < 0 ? 0 : uint64_t(time.count()) / 1000;
}

}  // namespace

StatusBoard::StatusBoard(std::string name, std::string pool,
                         const std::vector<QueueHandler>& queues) {
  status_.name = std::move(name);
  status_.pool = std::move(pool);
  for (const QueueHandler& queue : queues) status_.queues.push_back(queue.queue);
}

void StatusBoard::post(const std::deque<Connection>& lines, const Throttle& throttle) {
  std::lock_guard lock(lock_);
  status_.throttled.reset();
  if (throttle.state() != Throttle::State::none) {
    const bool is_short = throttle.state() == Throttle::State::short_of_something;
    status_.throttled = {is_short ? "short" : "failing", throttle.why(), throttle.limit(),
                         throttle.pause()};
  }
  status_.brokers.resize(lines.size());
  status_.connected = false;
  status_.prefetch = status_.held = status_.unconfirmed = status_.confirmed = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const WorkerSession& session = lines[i].session();
    BrokerStatus& broker = status_.brokers[i];
    if (broker.address.empty()) broker.address = lines[i].broker();
    broker.connected = session.welcomed();
    status_.connected |= broker.connected;
    status_.draining = session.draining();
    status_.prefetch += broker.prefetch = session.credit();
    status_.held += broker.held = session.held();
    status_.unconfirmed += broker.unconfirmed = session.unconfirmed();
    status_.confirmed += broker.confirmed = session.confirmed_total();
  }
}

void StatusBoard::count(const std::vector<Finished>& ends) {
  std::lock_guard lock(lock_);
  for (const Finished& end : ends) {
    if (end.completion.goes_back()) {
      ++status_.released;
      continue;
    }
    bool done = end.completion.kind == Completion::Kind::done;
    ++(done ? status_.done : status_.failed);
    run_us_.record(micros(end.run));
    wait_us_.record(micros(end.wait));
  }
}

ExecutorStatus StatusBoard::read(PoolStats threads) const {
  std::lock_guard lock(lock_);
  ExecutorStatus status = status_;
  status.threads = std::move(threads);
  status.run_ms = percentiles(run_us_);
  status.wait_ms = percentiles(wait_us_);
  return status;
}

}  // namespace millrace::worker
