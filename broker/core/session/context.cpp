#include "broker/core/session/context.h"

namespace millrace::core {
namespace {

constexpr uint64_t kRecordWork = 8;  // of writing one, beside the jobs that it names

}  // namespace

Context::Context(const Settings& from, uint64_t seed)
    : settings(from), state(from.retention), random(seed) {
  state.leases().set_default_duration(settings.lease);
}

// The history is trimmed by an eighth at a time, so that it is worth a record. A Checkpoint never
// sees more than that.
void Context::emit(Record record, Output& out, std::shared_ptr<const void> owner) {
  put(std::move(record), out, std::move(owner));
  if (state.history_runs() <= settings.history + settings.history / 8) return;
  const records::HistoryTrimmed trimmed{state.history_excess(settings.history)};
  state.apply(trimmed, now.mono);
  out.records.push_back({trimmed, nullptr});
}

void Context::put(Record record, Output& out, std::shared_ptr<const void> owner) {
  state.apply(record, now.mono);
  work += kRecordWork;
  out.records.push_back({std::move(record), std::move(owner)});
}

}  // namespace millrace::core
