#include "worker/run_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <thread>

#include "common/protocol/messages.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {
namespace {

constexpr size_t kLeastDefaultThreads = 4;

Error usage(std::string message) { return {ExitCode::usage, std::move(message)}; }

size_t default_threads() {
  return std::max<size_t>(std::thread::hardware_concurrency(), kLeastDefaultThreads);
}

}  // namespace

Result<QueueSpec> parse_queue(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals + 1 == text.size())
    return usage(fmt::format("'{}' is not NAME=HANDLER, such as images=exec:./resize.sh", text));
  std::string_view name = text.substr(0, equals);
  if (!protocol::valid_queue_name(name)) {
    return usage(fmt::format("'{}' can't be a queue: use 1 to {} of A-Z a-z 0-9 . _ : -", name,
                             protocol::kMaxQueueName));
  }
  return QueueSpec{std::string(name), std::string(text.substr(equals + 1))};
}

Result<size_t> parse_pool(std::string_view text) {
  constexpr std::string_view kFixed = "fixed:";
  if (text == "single") return size_t(1);
  if (text == "fixed") return default_threads();
  if (!text.starts_with(kFixed)) {
    return usage(
        fmt::format("there is no pool '{}' in this version; there are fixed:N (N threads), "
                    "fixed (a thread for each core) and single",
                    text));
  }
  auto threads = parse_integer(text.substr(kFixed.size()), 1, int64_t(kMaxThreads));
  if (!threads) return threads.error();
  return size_t(*threads);
}

Result<std::optional<uint64_t>> parse_prefetch(std::string_view text) {
  if (text == "auto") return std::optional<uint64_t>();
  auto jobs = parse_integer(text, 1, int64_t(WorkerSession::kMaxPrefetch));
  if (!jobs) return usage("use auto or a number of jobs: " + jobs.error().message);
  return std::optional<uint64_t>(uint64_t(*jobs));
}

std::string default_name() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return fmt::format("{}:{}", host.data(), getpid());
}

Result<void> check(const RunOptions& options) {
  if (options.brokers.size() != 1) {
    return usage(
        fmt::format("this version draws from one broker, and --broker names {}: start one "
                    "worker for each",
                    options.brokers.size()));
  }
  if (options.queues.size() > protocol::kMaxQueuesPerWorker) {
    return usage(fmt::format("{} queues are more than one worker's limit of {}: start several",
                             options.queues.size(), protocol::kMaxQueuesPerWorker));
  }
  std::set<std::string> seen;
  for (const QueueSpec& spec : options.queues) {
    if (!seen.insert(spec.queue).second)
      return usage(fmt::format("--queue names '{}' twice: a queue has one handler", spec.queue));
  }
  return {};
}

}  // namespace millrace::worker
