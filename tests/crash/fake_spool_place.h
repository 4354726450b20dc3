// A spool on one fake disk: its folders are prefixes of names, so that there is one order of all
// that is done to it. A sync of one folder is a sync of all of them, which is kinder than a real
// disk.
// Threads: as FakeDirectory
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/journal/open.h"
#include "common/journal/recovery.h"
#include "producer/spool/place.h"
#include "tests/crash/fake_directory.h"

namespace millrace::test {

// A folder of the disk: the names that begin with its own.
class FakeFolder final : public journal::Directory {
 public:
  FakeFolder(std::shared_ptr<FakeDirectory> disk, std::string path)
      : disk_(std::move(disk)), path_(std::move(path)) {}

  const std::string& path() const override { return path_; }
  std::error_code list(std::vector<std::string>* names) override {
    std::vector<std::string> all;
    if (auto error = disk_->list(&all)) return error;
    for (const std::string& name : all)
      if (name.starts_with(path_)) names->push_back(name.substr(path_.size()));
    return {};
  }
  Opened open(const std::string& name) override { return disk_->open(path_ + name); }
  Opened create(const std::string& name) override { return disk_->create(path_ + name); }
  std::error_code rename(const std::string& from, const std::string& to) override {
    return disk_->rename(path_ + from, path_ + to);
  }
  std::error_code remove(const std::string& name) override { return disk_->remove(path_ + name); }
  std::error_code sync() override { return disk_->sync(); }
  uint64_t free_bytes() override { return disk_->free_bytes(); }

 private:
  const std::shared_ptr<FakeDirectory> disk_;
  const std::string path_;
};

class FakeSpoolPlace final : public producer::SpoolPlace {
 public:
  explicit FakeSpoolPlace(std::shared_ptr<FakeDirectory> disk) : disk_(disk), root_(disk, "") {}

  journal::Directory& root() override { return root_; }
  Result<std::vector<std::string>> folders() override {
    std::vector<std::string> names, folders;
    if (disk_->list(&names)) return folders;
    for (const std::string& name : names) {
      const size_t slash = name.find('/');
      if (slash == name.npos || (!folders.empty() && folders.back() == name.substr(0, slash)))
        continue;
      folders.push_back(name.substr(0, slash));
    }
    return folders;
  }
  SpoolQueue open_spool_queue(const std::string& folder, uint64_t segment_bytes,
                              const journal::Journal::Replay& replay) override {
    journal::JournalOptions options;
    options.segment_bytes = segment_bytes;
    journal::Recovered recovered;
    return journal::open_journal(std::make_unique<FakeFolder>(disk_, folder + "/"), options, replay,
                                 &recovered);
  }
  Result<void> look(const std::string& folder, const journal::Journal::Replay& replay) override {
    FakeFolder directory(disk_, folder + "/");
    auto scanned = journal::scan(directory, replay);
    return scanned ? Result<void>() : scanned.error();
  }

 private:
  const std::shared_ptr<FakeDirectory> disk_;
  FakeFolder root_;
};

}  // namespace millrace::test
