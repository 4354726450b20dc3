// Encoded records on their way to the journal: what its owner hands over at a time. What the
// records say is the owner's business.
// Shape:   bytes in order; long ones may lie outside, where they came in, and are not copied
// Owns:    its own bytes, and a share of what keeps those outside
// Threads: one at a time
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::journal {

class Chunk {
 public:
  // One record: `bytes`, then what lies `outside`, which `owner` keeps.
  void put(std::string bytes, std::string_view outside = {},
           std::shared_ptr<const void> owner = nullptr);

  size_t bytes() const { return bytes_; }
  uint32_t records() const { return records_; }
  bool empty() const { return records_ == 0; }
  // The bytes in order; valid as long as the chunk is unchanged.
  std::vector<std::string_view> parts() const;

 private:
  struct Part {
    std::string inline_bytes;
    std::string_view outside;  // used if owner is set
    std::shared_ptr<const void> owner;
  };
  std::vector<Part> parts_;
  size_t bytes_ = 0;
  uint32_t records_ = 0;
};

}  // namespace millrace::journal
