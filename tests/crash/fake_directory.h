// A directory in memory that knows what was synced, so that a test can cut the power at any moment.
// Shape:   FakeDirectory applies each operation to a Disk and notes it in a trace; replaying a
//          prefix of the trace onto another Disk gives the disk at that moment; crash() makes of it
//          one that the power cut may have left:
//          1. of each file's writes since its last sync, any subset of 512-byte sectors is there
//          2. of the directory's changes since its last sync, any prefix is there
//          The model is at least as unkind as a journaling file system over sectors that are atomic.
// Threads: FakeDirectory is internally locked; Disk is one thread's
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/journal/files.h"
#include "tests/support/disk_op.h"

namespace millrace::test {

using Op = DiskOp;

class Disk {
 public:
  // A piece that a crash may leave or lose on its own.
  struct Unit {
    size_t file;
    size_t change;
    size_t sector;
  };

  void apply(const Op& op);

  std::vector<Unit> units() const;
  size_t pending_names() const { return pending_names_.size(); }
  // `keep` is asked for each of units(), by its index; the first names_kept changes of names stay.
  // Files that no name leads to then are empty.
  Disk crash(const std::function<bool(size_t)>& keep, size_t names_kept) const {
    return crash(units(), keep, names_kept);
  }
  Disk crash(const std::vector<Unit>& units, const std::function<bool(size_t)>& keep,
             size_t names_kept) const;

  // As the running system sees it.
  std::map<std::string, size_t> names;
  std::string& content(const std::string& name) { return files_[names.at(name)].now; }
  std::string& content(size_t file) { return files_[file].now; }
  size_t files() const { return files_.size(); }
  // Puts a file there, durable.
  void put(const std::string& name, std::string content);

 private:
  struct File {
    std::string now;
    std::string durable;
    std::vector<Op> pending;
  };

  std::vector<File> files_;
  std::map<std::string, size_t> durable_names_;
  std::vector<Op> pending_names_;
};

// What the fake does wrong, for tests of faults; shared with the test while the journal runs.
struct Faults {
  std::mutex mutex;
  std::mutex reading;  // a read waits for it: who holds it makes the disk slow
  int write_errno = 0;
  int sync_errno = 0;
  int names_errno = 0;  // of open, create, rename and remove
  uint64_t free_bytes = uint64_t{1} << 40;
  size_t writes_until_error = 0;  // so many still succeed
};

class FakeDirectory final : public journal::Directory {
 public:
  explicit FakeDirectory(Disk disk = {},
                         std::shared_ptr<Faults> faults = std::make_shared<Faults>());
  ~FakeDirectory() override;

  const std::string& path() const override { return path_; }
  std::error_code list(std::vector<std::string>* names) override;
  Opened open(const std::string& name) override;
  Opened create(const std::string& name) override;
  std::error_code rename(const std::string& from, const std::string& to) override;
  std::error_code remove(const std::string& name) override;
  std::error_code sync() override;
  uint64_t free_bytes() override;

  Disk& disk();
  const std::vector<Op>& trace() const;  // while nobody writes
  size_t steps() const;                  // its length, at any time

  struct State;

 private:
  const std::string path_ = "fake";
  std::shared_ptr<State> state_;
};

}  // namespace millrace::test
