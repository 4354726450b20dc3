#include "tests/sim/disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace millrace::sim {

using test::apply_name;
using test::put_bytes;

std::string describe(const DiskOp& op) {
  switch (op.kind) {
    case DiskOp::create:
      return fmt::format("create {}", op.name);
    case DiskOp::rename:
      return fmt::format("rename {} to {}", op.name, op.to);
    case DiskOp::remove:
      return fmt::format("remove {}", op.name);
    case DiskOp::sync_directory:
      return "sync the directory";
    case DiskOp::write:
      return fmt::format("write {} at {} of file {}", op.bytes.size(), op.offset, op.file);
    case DiskOp::resize:
      return fmt::format("size of file {} is {}", op.file, op.offset);
    case DiskOp::sync:
      return fmt::format("sync file {}", op.file);
    case DiskOp::failed_sync:
      return fmt::format("sync file {} fails", op.file);
  }
  return {};
}

void Disk::write(File& file, uint64_t offset, std::string_view bytes) {
  if (file.cache.size() < offset + bytes.size()) file.cache.resize(offset + bytes.size());
  for (uint64_t at = 0; at < bytes.size();) {
    uint64_t sector = (offset + at) / kSector;
    uint64_t size = std::min<uint64_t>(bytes.size() - at, (sector + 1) * kSector - offset - at);
    char* here = file.cache.data() + offset + at;
    if (std::memcmp(here, bytes.data() + at, size) != 0) {
      if (auto lost = file.forgotten.find(sector); lost != file.forgotten.end()) {
        file.unsynced.insert(file.forgotten.extract(lost));
      } else if (!file.unsynced.contains(sector)) {
        file.unsynced.emplace(sector, file.cache.substr(sector * kSector, kSector));
      }
      std::memcpy(here, bytes.data() + at, size);
    } else if (auto lost = file.forgotten.find(sector); lost != file.forgotten.end()) {
      file.unsynced.insert(file.forgotten.extract(lost));  // written again, so dirty again
    }
    at += size;
  }
}

// A cut sector is one that a power cut may bring back.
void Disk::resize(File& file, uint64_t size) {
  for (uint64_t sector = size / kSector; sector * kSector < file.cache.size(); ++sector)
    file.unsynced.try_emplace(sector, file.cache.substr(sector * kSector, kSector));
  file.cache.resize(size);
}

void Disk::apply(const DiskOp& op) {
  switch (op.kind) {
    case DiskOp::create:
      files_[op.file];
      [[fallthrough]];
    case DiskOp::rename:
    case DiskOp::remove:
      apply_name(op, &names_);
      pending_names_.push_back(op);
      return;
    case DiskOp::sync_directory:
      if (lies_) return;
      durable_names_ = names_;
      pending_names_.clear();
      return collect();
    case DiskOp::write:
      return write(files_.at(op.file), op.offset, op.bytes);
    case DiskOp::resize:
      return resize(files_.at(op.file), op.offset);
    case DiskOp::sync: {
      count("syncs");
      if (lies_) return;
      File& file = files_.at(op.file);
      file.unsynced.clear();
      file.durable_size = file.cache.size();
      return;
    }
    case DiskOp::failed_sync: {
      count("failed syncs");
      File& file = files_.at(op.file);
      for (auto& [sector, old] : file.unsynced)
        if (random_.chance(700)) file.forgotten.try_emplace(sector, old);
      file.unsynced.clear();
      return;
    }
  }
}

// What stays is decided sector by sector, so that a write may be torn anywhere.
void Disk::lose(File& file) {
  uint64_t size = random_.chance(500) ? file.cache.size() : file.durable_size;
  uint64_t kept_per_mille = random_.pick<uint64_t>({0, 0, 500, 900, 1000});
  std::string& content = file.cache;
  uint64_t end = 0;
  for (auto* sectors : {&file.unsynced, &file.forgotten}) {
    for (const auto& [sector, old] : *sectors) {
      const bool kept = random_.chance(kept_per_mille);
      count(kept ? "unsynced sectors kept" : "sectors lost");
      if (kept) {
        end = std::max<uint64_t>(end, std::min<uint64_t>((sector + 1) * kSector, content.size()));
        continue;
      }
      std::string whole = old;
      whole.resize(kSector);
      put_bytes(&content, sector * kSector, whole);
    }
    sectors->clear();
  }
  content.resize(std::max(size, end));
  file.durable_size = content.size();
}

void Disk::power_loss() {
  count("power cuts");
  for (auto& [number, file] : files_) lose(file);
  size_t kept = random_.below(pending_names_.size() + 1);
  names_ = durable_names_;
  for (size_t i = 0; i < kept; ++i) apply_name(pending_names_[i], &names_);
  durable_names_ = names_;
  pending_names_.clear();
  collect();
}

void Disk::write_back() {
  for (auto& [number, file] : files_) {
    file.unsynced.clear();
    file.durable_size = file.cache.size();
  }
  durable_names_ = names_;
  pending_names_.clear();
}

// Files that no name leads to, and none may lead to again.
void Disk::collect() {
  std::set<size_t> used;
  for (const auto& [name, file] : names_) used.insert(file);
  for (const auto& [name, file] : durable_names_) used.insert(file);
  for (const DiskOp& op : pending_names_)
    if (op.kind == DiskOp::create) used.insert(op.file);
  std::erase_if(files_, [&](const auto& entry) { return !used.contains(entry.first); });
}

const size_t* Disk::durable_name(const std::string& name) const {
  auto found = durable_names_.find(name);
  return found == durable_names_.end() ? nullptr : &found->second;
}

bool Disk::is_durable(size_t number, uint64_t offset, uint64_t size) const {
  const File& file = files_.at(number);
  if (offset + size > file.durable_size) return false;
  auto touches = [&](const std::map<uint64_t, std::string>& sectors) {
    auto first = sectors.lower_bound(offset / kSector);
    return first != sectors.end() && first->first * kSector < offset + size;
  };
  return !touches(file.unsynced) && !touches(file.forgotten);
}

void Disk::leave_free(uint64_t bytes) {
  for (const auto& [name, file] : names_) bytes += content(file).size();
  ballast_ = capacity_ - std::min(capacity_, bytes);
}

}  // namespace millrace::sim
