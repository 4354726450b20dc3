#include "producer/spool/spool.h"

#include <fmt/format.h>

#include <algorithm>

#include "producer/spool/replay.h"

namespace millrace::producer {
namespace {

Error config(std::string message) { return {ExitCode::config, std::move(message)}; }

Result<std::vector<std::string>> folders_of(const SpoolOptions& options) {
  std::vector<std::string> folders;
  for (const std::string& authority : options.spool_queues) {
    const std::string folder = spool_queue_folder(authority);
    const auto same = std::find(folders.begin(), folders.end(), folder);
    if (same != folders.end())
      return config(
          fmt::format("the brokers {} and {} would share the folder {} of the spool {}: "
                      "write one of them in another way in --broker",
                      options.spool_queues[size_t(same - folders.begin())], authority, folder,
                      options.directory));
    folders.push_back(folder);
  }
  return folders;
}

// The first run of a new directory; an old one without its file would use sequences twice.
Result<SpoolIdentity> new_identity(SpoolPlace& place, const std::vector<std::string>& folders) {
  const std::string& path = place.root().path();
  for (const std::string& folder : folders) {
    bool is_empty = true;
    auto looked = place.look(folder, [&](std::string_view, journal::Place*) {
      is_empty = false;
      return Result<void>();
    });
    if (!looked) return looked.error();
    if (!is_empty)
      return Error{
          ExitCode::bad_data,
          fmt::format("{0}/producer is not there, though {0}/{1} holds submissions of that "
                      "producer: restore the whole spool from one copy, or choose another "
                      "--spool directory",
                      path, folder)};
  }
  return SpoolIdentity{Uuid::random(), 0};
}

Result<void> check_other_folders(SpoolPlace& place, const SpoolIdentity& identity,
                                 const std::vector<std::string>& present,
                                 const std::vector<std::string>& named) {
  for (const std::string& folder : present) {
    if (std::find(named.begin(), named.end(), folder) != named.end()) continue;
    SpoolReplay replay(identity);
    if (auto looked = place.look(folder, replay.visitor()); !looked) return looked;
    if (replay.index().jobs() == 0) continue;
    return config(fmt::format(
        "{}/{} holds {} submissions for a broker that was not named: name it in --broker too, or, "
        "if "
        "that broker has moved with its data directory, rename the folder to its new host_port",
        place.root().path(), folder, replay.index().jobs()));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Spool>> Spool::open(const SpoolOptions& options) {
  auto place = open_spool_place(options.directory);
  if (!place) return place.error();
  return open_at(std::move(*place), options);
}

Result<std::unique_ptr<Spool>> Spool::open_at(std::unique_ptr<SpoolPlace> place,
                                              const SpoolOptions& options) {
  auto named = folders_of(options);
  if (!named) return named.error();
  auto present = place->folders();
  if (!present) return present.error();
  std::sort(present->begin(), present->end());
  auto known = read_identity(place->root());
  if (!known) return known.error();
  auto identity = *known ? Result<SpoolIdentity>(**known) : new_identity(*place, *present);
  if (!identity) return identity.error();
  if (auto checked = check_other_folders(*place, *identity, *present, *named); !checked)
    return checked.error();
  if (identity->run == SpoolIdentity::kMaxRun)
    return config(
        fmt::format("{} was opened {} times, and there is no further number: empty it, and "
                    "choose another --spool directory",
                    place->root().path(), identity->run));
  ++identity->run;
  if (auto written = write_identity(place->root(), *identity); !written) return written.error();
  std::unique_ptr<Spool> spool(new Spool(std::move(place), *identity, options.max_bytes));
  for (const std::string& authority : options.spool_queues) {
    auto spool_queue =
        SpoolQueue::open(*spool->place_, authority, *identity, options.segment_bytes);
    if (!spool_queue) return spool_queue.error();
    spool->spool_queues_.push_back(std::move(*spool_queue));
  }
  return spool;
}

bool Spool::has_room(uint64_t more_jobs, uint64_t more_bytes) const {
  return !disk_full() && bytes() + more_bytes + (jobs() + more_jobs) * kJobOverhead <= max_bytes_;
}

bool Spool::disk_full() const {
  return std::any_of(spool_queues_.begin(), spool_queues_.end(),
                     [](const auto& spool_queue) { return spool_queue->stalled(); });
}

uint64_t Spool::jobs() const {
  uint64_t jobs = 0;
  for (const auto& spool_queue : spool_queues_) jobs += spool_queue->jobs();
  return jobs;
}

uint64_t Spool::bytes() const {
  uint64_t bytes = 0;
  for (const auto& spool_queue : spool_queues_) bytes += spool_queue->bytes();
  return bytes;
}

uint64_t Spool::unsafe_bytes() const {
  uint64_t bytes = 0;
  for (const auto& spool_queue : spool_queues_) bytes += spool_queue->unsafe_bytes();
  return bytes;
}

Result<void> Spool::stop() {
  Result<void> stopped;
  for (const auto& spool_queue : spool_queues_)
    if (auto ended = spool_queue->stop(); !ended && stopped) stopped = ended;
  return stopped;
}

}  // namespace millrace::producer
