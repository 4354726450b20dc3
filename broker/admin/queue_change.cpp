#include "broker/admin/queue_change.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "common/protocol/limits.h"

namespace millrace::admin {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxCount = 1'000'000'000;
constexpr uint64_t kMaxLeaseMs = 365ull * 24 * 3600 * 1000;
constexpr uint64_t kMinLeaseMs = 100;  // as --lease of the broker

struct Number {
  std::string_view key;
  std::optional<uint64_t> QueueChange::*field;
  uint64_t min, max;
};
constexpr Number kQueueNumbers[] = {
    {"weight", &QueueChange::weight, 1, 1000},
    {"concurrency", &QueueChange::concurrency, 0, kMaxCount},
    {"rate", &QueueChange::rate, 0, kMaxCount},
    {"max_length", &QueueChange::max_length, 0, kMaxCount},
    {"max_attempts", &QueueChange::max_attempts, 0, UINT8_MAX},
    {"backoff_min_ms", &QueueChange::backoff_min_ms, 0, protocol::kMaxDelayMs},
    {"backoff_max_ms", &QueueChange::backoff_max_ms, 0, protocol::kMaxDelayMs},
    {"lease_ms", &QueueChange::lease_ms, 0, kMaxLeaseMs},
    {"ttl_ms", &QueueChange::ttl_ms, 0, protocol::kMaxDelayMs},
};

Error bad_value(std::string_view key, const json& value, std::string_view form) {
  constexpr auto replace = json::error_handler_t::replace;
  return {ExitCode::bad_data,
          fmt::format("{}: {} is not {}", key, value.dump(-1, ' ', false, replace), form)};
}

Result<void> set_number(QueueChange& change, const Number& number, const json& value) {
  const bool fits = value.is_number_unsigned() && value.get<uint64_t>() >= number.min &&
                    value.get<uint64_t>() <= number.max;
  if (!fits)
    return bad_value(number.key, value,
                     fmt::format("a whole number from {} to {}", number.min, number.max));
  change.*number.field = value.get<uint64_t>();
  return {};
}

Result<void> set_backoff(QueueChange& change, const json& value) {
  auto range = value.is_string() ? parse_duration_range(value.get<std::string>()) : Error{};
  if (!range || uint64_t(range->max.count()) > protocol::kMaxDelayMs)
    return bad_value("backoff", value, "a range of durations, as \"500ms..5m\"");
  change.backoff_min_ms = uint64_t(range->min.count());
  change.backoff_max_ms = uint64_t(range->max.count());
  return {};
}

Result<void> set(QueueChange& change, const std::string& key, const json& value) {
  for (const Number& number : kQueueNumbers)
    if (number.key == key) return set_number(change, number, value);
  if (key == "backoff") return set_backoff(change, value);
  if (key == "paused") {
    if (!value.is_boolean()) return bad_value(key, value, "true or false");
    change.paused = value.get<bool>();
    return {};
  }
  if (key == "order") {
    if (value != "fifo" && value != "fair") return bad_value(key, value, "\"fifo\" or \"fair\"");
    change.order = value == "fair" ? records::Order::fair : records::Order::fifo;
    return {};
  }
  return Error{ExitCode::usage,
               fmt::format("'{}' is not a setting of a queue; the settings are weight, order, "
                           "paused, concurrency, rate, max_length, max_attempts, backoff (or "
                           "backoff_min_ms, backoff_max_ms), lease_ms and ttl_ms",
                           key)};
}

}  // namespace

Result<QueueChange> read_queue_change(const json& body) {
  if (!body.is_object() || body.empty())
    return Error{ExitCode::usage,
                 "expected a JSON object with the settings to change, for example {\"weight\": 3}"};
  QueueChange change;
  for (const auto& [key, value] : body.items())
    if (auto done = set(change, key, value); !done) return done.error();
  if (change.lease_ms && *change.lease_ms > 0 && *change.lease_ms < kMinLeaseMs)
    return bad_value("lease_ms", *change.lease_ms,
                     fmt::format("0 (the broker's) or at least {}", kMinLeaseMs));
  return change;
}

Result<records::QueueSettings> changed(records::QueueSettings settings, const QueueChange& change) {
  settings.order = change.order.value_or(settings.order);
  settings.paused = change.paused.value_or(settings.paused);
  settings.weight = change.weight.value_or(settings.weight);
  settings.concurrency = change.concurrency.value_or(settings.concurrency);
  settings.rate = change.rate.value_or(settings.rate);
  settings.max_length = change.max_length.value_or(settings.max_length);
  settings.max_attempts = uint8_t(change.max_attempts.value_or(settings.max_attempts));
  auto set_millis = [](Millis& target, std::optional<uint64_t> ms) {
    if (ms) target = Millis(int64_t(*ms));
  };
  set_millis(settings.backoff_min, change.backoff_min_ms);
  set_millis(settings.backoff_max, change.backoff_max_ms);
  set_millis(settings.lease, change.lease_ms);
  set_millis(settings.ttl, change.ttl_ms);
  if (settings.backoff_max.count() > 0 && settings.backoff_min > settings.backoff_max)
    return Error{ExitCode::bad_data,
                 fmt::format("backoff_min_ms ({}) would be above backoff_max_ms ({})",
                             settings.backoff_min.count(), settings.backoff_max.count())};
  return settings;
}

}  // namespace millrace::admin
