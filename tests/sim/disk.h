// The broker's disk: it knows for each sector what would be there after a power cut.
// Shape:   apply(operation): what the kernel has been asked for, in order; the page cache has it at
//          once, the disk only after a sync
//          1. power_loss(): of each file's unsynced sectors any subset stays, and of the changes of
//          names since the directory's last sync any prefix.
//          2. A sync that fails leaves its sectors in the page cache, counted as clean: no later
//          sync writes them (as Linux does), so a power cut takes them at any time after.
// Limits:  capacity in bytes; beyond it writes fail with ENOSPC
// Threads: one
// Source:  the model of tests/crash/fake_directory.h, with time in it
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/sim/random.h"
#include "tests/sim/world.h"
#include "tests/support/disk_op.h"

namespace millrace::sim {

using test::DiskOp;
using test::kSector;

std::string describe(const DiskOp& op);

class Disk {
 public:
  Disk(World& world, uint64_t capacity, Random random)
      : world_(world), capacity_(capacity), random_(random) {}

  void count(std::string_view what, uint64_t times = 1) { world_.count("disk", what, times); }

  void apply(const DiskOp& op);
  void power_loss();
  // A process is gone; what it had not yet asked for never happens. Nothing else changes.

  size_t new_file() { return next_file_++; }
  // As the running system sees it.
  const std::map<std::string, size_t>& names() const { return names_; }
  const std::string& content(size_t file) const { return files_.at(file).cache; }
  // As it is after a power cut, whatever that takes: only what is certain.
  const size_t* durable_name(const std::string& name) const;
  bool is_durable(size_t file, uint64_t offset, uint64_t size) const;

  uint64_t capacity() const { return capacity_ - ballast_; }
  void set_ballast(uint64_t bytes) { ballast_ = bytes; }  // what others have put on it
  void leave_free(uint64_t bytes);                        // about so many
  // Makes everything durable: what a running system does by itself after some time.
  void write_back();
  void set_lying(bool lies) { lies_ = lies; }
  // For planted faults only: what a broken recovery would see.
  void damage(size_t file, uint64_t offset, std::string_view bytes) {
    test::put_bytes(&files_.at(file).cache, offset, bytes);
  }

 private:
  struct File {
    std::string cache;
    uint64_t durable_size = 0;
    std::map<uint64_t, std::string> unsynced;   // sector → what the disk has
    std::map<uint64_t, std::string> forgotten;  // the same, and no sync will change it
  };
  void write(File& file, uint64_t offset, std::string_view bytes);
  void resize(File& file, uint64_t size);
  void lose(File& file);
  void collect();

  World& world_;
  const uint64_t capacity_;
  uint64_t ballast_ = 0;
  bool lies_ = false;
  Random random_;
  size_t next_file_ = 0;
  std::map<size_t, File> files_;
  std::map<std::string, size_t> names_, durable_names_;
  std::vector<DiskOp> pending_names_;
};

}  // namespace millrace::sim
