#include "tests/sim/directory.h"

#include <algorithm>
#include <cerrno>

namespace millrace::sim {

using test::error_of;

class SimFile final : public journal::File {
 public:
  SimFile(SimDirectory& directory, std::shared_ptr<SimDirectory::Content> content)
      : directory_(directory), content_(std::move(content)) {}

  std::error_code write(std::span<const std::string_view> parts, uint64_t offset) override {
    std::string bytes;
    for (std::string_view part : parts) bytes += part;
    int failed = 0;
    if (!directory_.has_room(*content_, offset + bytes.size())) failed = ENOSPC;
    if (directory_.trouble_.write_error) failed = EIO;
    if (failed)
      bytes.resize(bytes.size() / 2 / kSector * kSector);  // what a failing write may have done
    if (failed == ENOSPC && !directory_.has_room(*content_, offset + bytes.size())) bytes.clear();
    if (failed) directory_.disk_.count(failed == EIO ? "EIO" : "ENOSPC");
    if (bytes.empty()) return error_of(failed);
    if (content_->bytes.size() < offset + bytes.size())
      content_->bytes.resize(offset + bytes.size());
    content_->bytes.replace(offset, bytes.size(), bytes);
    note({DiskOp::write, "", "", content_->number, offset, std::move(bytes)});
    return error_of(failed);
  }
  std::error_code sync() override {
    bool fails = directory_.trouble_.sync_error;
    note({fails ? DiskOp::failed_sync : DiskOp::sync, "", "", content_->number});
    return error_of(fails ? EIO : 0);
  }
  std::error_code read(uint64_t offset, size_t size, char* out, size_t* got) override {
    *got = offset < content_->bytes.size() ? content_->bytes.copy(out, size, offset) : 0;
    return {};
  }
  std::error_code allocate(uint64_t size) override {
    if (!directory_.has_room(*content_, size)) {
      directory_.disk_.count("ENOSPC");
      return error_of(ENOSPC);
    }
    return truncate(size);
  }
  std::error_code truncate(uint64_t size) override {
    content_->bytes.resize(size);
    note({DiskOp::resize, "", "", content_->number, size});
    return {};
  }
  std::error_code size(uint64_t* bytes) override {
    *bytes = content_->bytes.size();
    return {};
  }

 private:
  void note(DiskOp op) { directory_.ops_.push_back(std::move(op)); }

  SimDirectory& directory_;
  std::shared_ptr<SimDirectory::Content> content_;
};

SimDirectory::SimDirectory(Disk& disk, const DiskTrouble& trouble)
    : disk_(disk), trouble_(trouble) {
  for (const auto& [name, file] : disk.names())
    names_[name] = std::make_shared<Content>(Content{file, disk.content(file)});
}

uint64_t SimDirectory::used() const {
  uint64_t bytes = 0;
  for (const auto& [name, content] : names_) bytes += content->bytes.size();
  return bytes;
}

bool SimDirectory::has_room(const Content& file, uint64_t size) const {
  return size <= file.bytes.size() || used() - file.bytes.size() + size <= disk_.capacity();
}

std::error_code SimDirectory::list(std::vector<std::string>* names) {
  for (const auto& [name, content] : names_) names->push_back(name);
  return {};
}

journal::Directory::Opened SimDirectory::open(const std::string& name) {
  auto found = names_.find(name);
  if (found == names_.end()) return {error_of(ENOENT), nullptr};
  return {{}, std::make_unique<SimFile>(*this, found->second)};
}

journal::Directory::Opened SimDirectory::create(const std::string& name) {
  auto content = std::make_shared<Content>(Content{disk_.new_file(), {}});
  names_[name] = content;
  ops_.push_back({DiskOp::create, name, "", content->number});
  return {{}, std::make_unique<SimFile>(*this, content)};
}

std::error_code SimDirectory::rename(const std::string& from, const std::string& to) {
  auto found = names_.find(from);
  if (found == names_.end()) return error_of(ENOENT);
  auto content = found->second;
  names_.erase(found);
  names_[to] = std::move(content);
  ops_.push_back({DiskOp::rename, from, to});
  return {};
}

std::error_code SimDirectory::remove(const std::string& name) {
  if (names_.erase(name) == 0) return error_of(ENOENT);
  ops_.push_back({DiskOp::remove, name, ""});
  return {};
}

std::error_code SimDirectory::sync() {
  if (trouble_.sync_error) return error_of(EIO);
  ops_.push_back({DiskOp::sync_directory, "", ""});
  return {};
}

uint64_t SimDirectory::free_bytes() {
  uint64_t taken = used();
  return taken < disk_.capacity() ? disk_.capacity() - taken : 0;
}

}  // namespace millrace::sim
