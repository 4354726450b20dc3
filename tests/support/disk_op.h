// What a journal asks of a disk, as data: the tests' disks in memory keep these, and apply them
// when and as far as a power cut lets them.
// Shape:   one operation; apply_name() and put_bytes() are what it does to names and to a content
// Threads: immutable
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <system_error>

namespace millrace::test {

inline constexpr size_t kSector = 512;

struct DiskOp {
  enum Kind { create, rename, remove, sync_directory, write, resize, sync, failed_sync };
  Kind kind{};
  std::string name;        // create, rename, remove
  std::string to;          // rename
  size_t file = 0;         // create, write, resize, sync
  uint64_t offset = 0;     // write; resize: the new size
  std::string bytes = {};  // write
};

// A create, rename or remove.
void apply_name(const DiskOp& op, std::map<std::string, size_t>* names);
void put_bytes(std::string* content, uint64_t offset, std::string_view bytes);

inline std::error_code error_of(int number) { return {number, std::system_category()}; }

}  // namespace millrace::test
