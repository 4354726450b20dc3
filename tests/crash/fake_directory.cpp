#include "tests/crash/fake_directory.h"

#include <algorithm>

namespace millrace::test {

void Disk::apply(const Op& op) {
  switch (op.kind) {
    case Op::create:
      files_.resize(std::max(files_.size(), op.file + 1));
      [[fallthrough]];
    case Op::rename:
    case Op::remove:
      apply_name(op, &names);
      pending_names_.push_back(op);
      return;
    case Op::sync_directory:
      durable_names_ = names;
      pending_names_.clear();
      return;
    case Op::write:
      put_bytes(&files_[op.file].now, op.offset, op.bytes);
      files_[op.file].pending.push_back(op);
      return;
    case Op::resize:
      files_[op.file].now.resize(op.offset);
      files_[op.file].pending.push_back(op);
      return;
    case Op::sync:
      files_[op.file].durable = files_[op.file].now;
      files_[op.file].pending.clear();
      return;
    case Op::failed_sync:
      return;  // all is as pending as it was
  }
}

std::vector<Disk::Unit> Disk::units() const {
  std::vector<Unit> units;
  for (size_t file = 0; file < files_.size(); ++file) {
    std::string content = files_[file].durable;
    for (size_t change = 0; change < files_[file].pending.size(); ++change) {
      const Op& op = files_[file].pending[change];
      if (op.kind == Op::resize) {
        units.push_back({file, change, 0});
        content.resize(op.offset);
        continue;
      }
      for (size_t at = 0; at < op.bytes.size(); at += kSector) {
        std::string_view sector = std::string_view(op.bytes).substr(at, kSector);
        // Zeros over zeros: the same with it and without.
        bool zeros = sector.find_first_not_of('\0') == sector.npos;
        auto old = op.offset + at < content.size()
                       ? std::string_view(content).substr(op.offset + at, sector.size())
                       : std::string_view();
        if (!zeros || old.find_first_not_of('\0') != old.npos)
          units.push_back({file, change, at / kSector});
      }
      put_bytes(&content, op.offset, op.bytes);
    }
  }
  return units;
}

Disk Disk::crash(const std::vector<Unit>& units, const std::function<bool(size_t)>& keep,
                 size_t names_kept) const {
  Disk after;
  after.names = durable_names_;
  for (size_t i = 0; i < names_kept; ++i) apply_name(pending_names_[i], &after.names);
  after.durable_names_ = after.names;
  after.files_.resize(files_.size());
  for (const auto& [name, file] : after.names) after.files_[file].now = files_[file].durable;
  for (size_t i = 0; i < units.size(); ++i) {
    if (!keep(i)) continue;
    const Op& op = files_[units[i].file].pending[units[i].change];
    std::string* content = &after.files_[units[i].file].now;
    if (op.kind == Op::resize) {
      content->resize(op.offset);
    } else {
      size_t at = units[i].sector * kSector;
      put_bytes(content, op.offset + at, std::string_view(op.bytes).substr(at, kSector));
    }
  }
  for (const auto& [name, file] : after.names) after.files_[file].durable = after.files_[file].now;
  return after;
}

void Disk::put(const std::string& name, std::string content) {
  names[name] = durable_names_[name] = files_.size();
  files_.push_back({content, content, {}});
}

struct FakeDirectory::State {
  std::mutex mutex;
  Disk disk;
  std::vector<Op> trace;
  std::shared_ptr<Faults> faults;

  void apply(Op op) {
    disk.apply(op);
    trace.push_back(std::move(op));
  }
  int names_errno() {
    std::lock_guard lock(faults->mutex);
    return faults->names_errno;
  }
};

namespace {

class FakeFile final : public journal::File {
 public:
  FakeFile(std::shared_ptr<FakeDirectory::State> state, size_t file)
      : state_(std::move(state)), file_(file) {}

  std::error_code write(std::span<const std::string_view> parts, uint64_t offset) override {
    std::string bytes;
    for (std::string_view part : parts) bytes += part;
    int failed = 0;
    {
      std::lock_guard lock(state_->faults->mutex);
      size_t& left = state_->faults->writes_until_error;
      if (left > 0) {
        --left;
      } else {
        failed = state_->faults->write_errno;
      }
    }
    if (failed) bytes.resize(bytes.size() / 2);  // what a failing write may have done
    std::lock_guard lock(state_->mutex);
    state_->apply({Op::write, "", "", file_, offset, std::move(bytes)});
    return error_of(failed);
  }
  std::error_code sync() override {
    {
      std::lock_guard lock(state_->faults->mutex);
      if (state_->faults->sync_errno) return error_of(state_->faults->sync_errno);
    }
    std::lock_guard lock(state_->mutex);
    state_->apply({Op::sync, "", "", file_});
    return {};
  }
  std::error_code read(uint64_t offset, size_t size, char* out, size_t* got) override {
    std::lock_guard reading(state_->faults->reading);
    std::lock_guard lock(state_->mutex);
    const std::string& content = state_->disk.content(file_);
    *got = offset < content.size() ? content.copy(out, size, offset) : 0;
    return {};
  }
  std::error_code allocate(uint64_t size) override {
    {
      std::lock_guard lock(state_->faults->mutex);
      if (state_->faults->write_errno) return error_of(state_->faults->write_errno);
    }
    return truncate(size);
  }
  std::error_code truncate(uint64_t size) override {
    std::lock_guard lock(state_->mutex);
    state_->apply({Op::resize, "", "", file_, size});
    return {};
  }
  std::error_code size(uint64_t* bytes) override {
    std::lock_guard lock(state_->mutex);
    *bytes = state_->disk.content(file_).size();
    return {};
  }

 private:
  std::shared_ptr<FakeDirectory::State> state_;
  const size_t file_;
};

}  // namespace

FakeDirectory::FakeDirectory(Disk disk, std::shared_ptr<Faults> faults)
    : state_(std::make_shared<State>()) {
  state_->disk = std::move(disk);
  state_->faults = std::move(faults);
}
FakeDirectory::~FakeDirectory() = default;

std::error_code FakeDirectory::list(std::vector<std::string>* names) {
  std::lock_guard lock(state_->mutex);
  for (const auto& [name, file] : state_->disk.names) names->push_back(name);
  return {};
}

journal::Directory::Opened FakeDirectory::open(const std::string& name) {
  if (int failed = state_->names_errno()) return {error_of(failed), nullptr};
  std::lock_guard lock(state_->mutex);
  auto found = state_->disk.names.find(name);
  if (found == state_->disk.names.end()) return {error_of(ENOENT), nullptr};
  return {{}, std::make_unique<FakeFile>(state_, found->second)};
}

journal::Directory::Opened FakeDirectory::create(const std::string& name) {
  if (int failed = state_->names_errno()) return {error_of(failed), nullptr};
  std::lock_guard lock(state_->mutex);
  size_t file = state_->disk.files();
  state_->apply({Op::create, name, "", file});
  return {{}, std::make_unique<FakeFile>(state_, file)};
}

std::error_code FakeDirectory::rename(const std::string& from, const std::string& to) {
  if (int failed = state_->names_errno()) return error_of(failed);
  std::lock_guard lock(state_->mutex);
  if (!state_->disk.names.contains(from)) return error_of(ENOENT);
  state_->apply({Op::rename, from, to});
  return {};
}

std::error_code FakeDirectory::remove(const std::string& name) {
  if (int failed = state_->names_errno()) return error_of(failed);
  std::lock_guard lock(state_->mutex);
  if (!state_->disk.names.contains(name)) return error_of(ENOENT);
  state_->apply({Op::remove, name, ""});
  return {};
}

std::error_code FakeDirectory::sync() {
  std::lock_guard lock(state_->mutex);
  state_->apply({Op::sync_directory, "", ""});
  return {};
}

uint64_t FakeDirectory::free_bytes() {
  std::lock_guard lock(state_->faults->mutex);
  return state_->faults->free_bytes;
}

Disk& FakeDirectory::disk() { return state_->disk; }
const std::vector<Op>& FakeDirectory::trace() const { return state_->trace; }
size_t FakeDirectory::steps() const {
  std::lock_guard lock(state_->mutex);
  return state_->trace.size();
}

}  // namespace millrace::test
