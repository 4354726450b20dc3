#include "worker/run/run_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>

#include "common/protocol/messages.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {
namespace {

Error usage(std::string message) { return {ExitCode::usage, std::move(message)}; }

// Takes "@N" off the end, if it is there: so a command may contain '@'.
Result<size_t> take_share(std::string_view* handler) {
  size_t at = handler->find_last_not_of("0123456789");
  if (at == std::string_view::npos || (*handler)[at] != '@' || at + 1 == handler->size())
    return size_t(0);
  auto threads = parse_integer(handler->substr(at + 1), 1, int64_t(kMaxThreads));
  if (!threads) {
    return usage(
        fmt::format("the share '{}' of a queue: {}", handler->substr(at), threads.error().message));
  }
  *handler = handler->substr(0, at);
  return size_t(*threads);
}

template <typename Value, typename Parse>
Result<QueueLimit<Value>> parse_limit(std::string_view text, Parse&& parse) {
  const size_t equals = text.find('=');
  const bool is_named = equals != std::string_view::npos;
  const std::string_view name = text.substr(0, is_named ? equals : 0);
  if (is_named && !protocol::valid_subscription(name))
    return usage(fmt::format("'{}' is not a queue name; use VALUE or NAME=VALUE", name));
  auto value = parse(text.substr(is_named ? equals + 1 : 0));
  if (!value) return value.error();
  return QueueLimit<Value>{std::string(name), *value};
}

template <typename Value>
std::optional<Value> find_limit(const std::vector<QueueLimit<Value>>& limits,
                                std::string_view queue) {
  std::optional<Value> found;
  for (const auto& limit : limits) {
    if (limit.queue == queue) return limit.value;
    if (limit.queue.empty()) found = limit.value;
  }
  return found;
}

template <typename Value>
Result<void> check_limits(std::string_view flag, const std::vector<QueueLimit<Value>>& limits,
                          const std::vector<QueueSpec>& queues) {
  std::set<std::string> seen;
  for (const auto& limit : limits) {
    const bool is_known = std::any_of(queues.begin(), queues.end(), [&](const QueueSpec& spec) {
      return spec.queue == limit.queue;
    });
    if (!limit.queue.empty() && !is_known)
      return usage(fmt::format("{} limits queue '{}', which no --queue names", flag, limit.queue));
    if (!seen.insert(limit.queue).second) {
      return usage(limit.queue.empty()
                       ? fmt::format("{} is given twice without a queue's name", flag)
                       : fmt::format("{} limits queue '{}' twice", flag, limit.queue));
    }
  }
  return {};
}

}  // namespace

Result<QueueSpec> parse_queue(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals + 1 == text.size())
    return usage(fmt::format("'{}' is not NAME=HANDLER, such as images=exec:./resize.sh", text));
  std::string_view name = text.substr(0, equals);
  if (!protocol::valid_subscription(name)) {
    return usage(fmt::format(
        "'{}' is not a queue name: use 1 to {} of A-Z a-z 0-9 . _ : -, or a prefix that ends in *",
        name, protocol::kMaxQueueName));
  }
  std::string_view handler = text.substr(equals + 1);
  auto share = take_share(&handler);
  if (!share) return share.error();
  return QueueSpec{std::string(name), std::string(handler), *share};
}

// The broker gives a queue's jobs to each pool that asks for it.
std::optional<std::string> QueueSpec::conflict_with(const QueueSpec& other) const {
  if (share == 0 && other.share == 0) return std::nullopt;  // one pool, whose longest match wins
  for (auto [prefix, covered] : {std::pair(this, &other), std::pair(&other, this)}) {
    if (!prefix->queue.ends_with('*')) continue;
    const std::string_view stem =
        std::string_view(prefix->queue).substr(0, prefix->queue.size() - 1);
    if (covered->queue.starts_with(stem))
      return fmt::format(
          "--queue {} also covers {}, and one of the two has threads of its own (@N): "
          "use the same pool for both",
          prefix->queue, covered->queue);
  }
  return std::nullopt;
}

Result<std::string> parse_label(std::string_view text) {
  if (!protocol::valid_queue_name(text))
    return usage(fmt::format("'{}' is not a label: use 1 to {} of A-Z a-z 0-9 . _ : -", text,
                             protocol::kMaxQueueName));
  return std::string(text);
}

Result<std::optional<uint64_t>> parse_prefetch(std::string_view text) {
  if (text == "auto") return std::optional<uint64_t>();
  auto jobs = parse_integer(text, 1, int64_t(WorkerSession::kMaxPrefetch));
  if (!jobs) return usage("use auto or a number of jobs: " + jobs.error().message);
  return std::optional<uint64_t>(uint64_t(*jobs));
}

Result<QueueLimit<int64_t>> parse_memory_limit(std::string_view text) {
  constexpr int64_t kLeast = 1 << 20;
  return parse_limit<int64_t>(text, [](std::string_view size) { return parse_size(size, kLeast); });
}

Result<QueueLimit<Millis>> parse_cpu_limit(std::string_view text) {
  return parse_limit<Millis>(
      text, [](std::string_view time) { return parse_duration(time, std::chrono::seconds(1)); });
}

CommandLimits CommandOptions::limits_of(std::string_view queue) const {
  return {find_limit(memory, queue), find_limit(cpu, queue)};
}

std::string default_name() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return fmt::format("{}:{}", host.data(), getpid());
}

Result<void> read_keys(RunOptions& options) {
  auto keys = options.curve.read(options.brokers.size());
  if (!keys) return keys.error();
  options.keys = *std::move(keys);
  return {};
}

Result<void> check(const RunOptions& options) {
  const auto& brokers = options.brokers;
  if (brokers.empty() || brokers.size() > kMaxBrokers)
    return usage(
        fmt::format("--broker names {} brokers; it takes 1 to {}", brokers.size(), kMaxBrokers));
  for (auto broker = brokers.begin(); broker != brokers.end(); ++broker) {
    if (std::find(brokers.begin(), broker, *broker) != broker)
      return usage(fmt::format("--broker names {} twice", broker->authority()));
  }
  if (options.queues.size() > protocol::kMaxQueuesPerWorker) {
    return usage(
        fmt::format("{} queues exceed the limit of {} of one worker: start several workers",
                    options.queues.size(), protocol::kMaxQueuesPerWorker));
  }
  if (options.labels.size() > protocol::kMaxLabels) {
    return usage(fmt::format("{} labels exceed the limit of {}", options.labels.size(),
                             protocol::kMaxLabels));
  }
  std::set<std::string> seen;
  for (const QueueSpec& spec : options.queues) {
    if (!seen.insert(spec.queue).second)
      return usage(fmt::format("--queue names '{}' twice: a queue has one handler", spec.queue));
    if (spec.share == 0) continue;
    for (const QueueSpec& other : options.queues)
      if (auto conflict = &other == &spec ? std::nullopt : spec.conflict_with(other))
        return usage(*conflict);
  }
  const CommandOptions& commands = options.commands;
  if (auto memory = check_limits("--limit-memory", commands.memory, options.queues); !memory)
    return memory;
  if (auto cpu = check_limits("--limit-cpu", commands.cpu, options.queues); !cpu) return cpu;
  if (options.http && !options.http->loopback()) {
    return Error{ExitCode::config,
                 fmt::format("--http {} would show the status beyond this machine, without "
                             "authentication: use a loopback address",
                             options.http->authority())};
  }
  return {};
}

}  // namespace millrace::worker
