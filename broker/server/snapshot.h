// What a broker that stopped cleanly leaves beside its journal, so that the next start need not
// replay it: the state and the places of all payloads (docs/JOURNAL.md, section 8).
// Shape:   `snapshot`: a header of 64 bytes with the journal's end, then records, msgpack, places.
//          It counts only if its checksum is right and the journal ends where it says; otherwise
//          the journal is replayed, as if there were none. So it need not be synced.
// Units:   bytes; integers are little-endian
// Errors:  write() says why it could not; a snapshot that can't be used is no error
// Threads: one
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "broker/core/core.h"
#include "broker/server/payload_store.h"
#include "common/journal/position.h"

namespace millrace::server {

class Snapshot {
 public:
  // Whether it saves time at the next start. `singly`: jobs that it holds one by one, those that
  // are leased, dead or wait for a time. Such a job takes as long to restore as 1 KiB of the
  // journal to replay: 10 million delayed jobs of 32 bytes 8.5 s, against 1.9 s, and the same again
  // to write.
  static bool is_worth(uint64_t journal_bytes, uint64_t singly) {
    constexpr uint64_t kBytesPerJob = 1024;
    return journal_bytes >= journal::kWorthSnapshot && singly <= journal_bytes / kBytesPerJob;
  }
  // The journal must end at `end`, and hold all that the state knows.
  static Result<void> write(const std::filesystem::path& directory, journal::Position end,
                            const core::State& state, const PayloadStore& payloads);
  // None if there is none that is whole.
  static std::optional<Snapshot> read(const std::filesystem::path& directory);
  // The file's bytes, and back.
  static std::string encode(journal::Position end, const core::State& state,
                            const PayloadStore& payloads);
  static std::optional<Snapshot> parse(std::shared_ptr<const std::string> file);
  // Puts the file's size and checksum into its header, which must be there.
  static void seal(std::string* file);
  static void remove(const std::filesystem::path& directory);

  journal::Position end() const { return end_; }
  // Into a fresh core and store. Its records contradict neither each other nor the rest of it, or
  // it is an error.
  Result<void> restore(Now now, core::Core* core, PayloadStore* payloads) const;

 private:
  template <typename Visit>
  void for_each_place(Visit&& visit) const;

  std::shared_ptr<const std::string> bytes_;  // of the file; the views are parts of it
  journal::Position end_;
  std::string_view records_, words_, places_;
};

}  // namespace millrace::server
