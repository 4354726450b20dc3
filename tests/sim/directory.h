// The journal's directory, as the broker's process sees it: what it does is done at once for the
// process, and noted, so that the journal's simulated thread can let it reach the disk step by
// step.
// Shape:   operations → the process's view; take_ops() → what the disk is still to be told
// Errors:  as AttemptFailure says: ENOSPC when the disk's capacity is used up, EIO when told so
// Owns:    a copy of the disk's content; the disk must outlive it
// Threads: one
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/journal/files.h"
#include "tests/sim/disk.h"

namespace millrace::sim {

// What the disk does wrong at the moment.
struct DiskTrouble {
  bool sync_error = false;
  bool write_error = false;
  Nanos sync_extra = 0, read_extra = 0;
  // The power is cut after so many operations more; 0: not.
  uint64_t power_after = 0;
  std::function<void()> power_lost;
};

class SimDirectory final : public journal::Directory {
 public:
  SimDirectory(Disk& disk, const DiskTrouble& trouble);

  const std::string& path() const override { return path_; }
  std::error_code list(std::vector<std::string>* names) override;
  Opened open(const std::string& name) override;
  Opened create(const std::string& name) override;
  std::error_code rename(const std::string& from, const std::string& to) override;
  std::error_code remove(const std::string& name) override;
  std::error_code sync() override;
  uint64_t free_bytes() override;

  std::vector<DiskOp> take_ops() { return std::exchange(ops_, {}); }

 private:
  friend class SimFile;
  struct Content {
    size_t number = 0;
    std::string bytes;
  };

  uint64_t used() const;
  bool has_room(const Content& file, uint64_t size) const;

  Disk& disk_;
  const DiskTrouble& trouble_;
  const std::string path_ = "/data";
  std::map<std::string, std::shared_ptr<Content>> names_;
  std::vector<DiskOp> ops_;
};

}  // namespace millrace::sim
