// Reads msgpack of which the shape is known beforehand, without a tree of objects: the lists of
// jobs that most bytes of a busy connection are in. What is not of that shape is left to Reader.
// Shape:   each call takes one element and moves on; false: it is something else, or cut short, and
//          the reader is of no more use
// Limits:  arrays of 65,535 elements at most
// Owns:    nothing; views point into the bytes given
// Threads: one
// Source:  the msgpack specification; docs/decisions/0010-msgpack-on-the-wire-and-on-disk.md has
//          what it saves
#pragma once

#include <cstdint>
#include <string_view>

namespace millrace::protocol {

class PlainReader {
 public:
  explicit PlainReader(std::string_view bytes) : bytes_(bytes) {}

  size_t offset() const { return offset_; }
  size_t left() const { return bytes_.size() - offset_; }

  bool array(size_t* size) {
    uint64_t length = 0;
    const int head = take_byte();
    if (head == 0xdc ? !take(2, &length) : (head & ~0x0f) != 0x90) return false;
    *size = head == 0xdc ? length : size_t(head & 0x0f);
    return true;
  }

  bool uint(uint64_t* value) {
    const int head = take_byte();
    if (head >= 0xcc && head <= 0xcf) return take(size_t(1) << (head - 0xcc), value);
    *value = uint64_t(head);
    return head >= 0 && head < 0x80;
  }

  bool boolean(bool* value) {
    const int head = take_byte();
    *value = head == 0xc3;
    return head == 0xc2 || head == 0xc3;
  }

  bool bin(std::string_view* bytes) {
    const int head = take_byte();
    uint64_t size = 0;
    if (head < 0xc4 || head > 0xc6 || !take(size_t(1) << (head - 0xc4), &size) || size > left())
      return false;
    *bytes = bytes_.substr(offset_, size);
    offset_ += size;
    return true;
  }

  // Takes a nil, if there is one.
  bool nil() {
    const bool is_nil = left() > 0 && static_cast<unsigned char>(bytes_[offset_]) == 0xc0;
    offset_ += is_nil;
    return is_nil;
  }

 private:
  int take_byte() { return left() > 0 ? static_cast<unsigned char>(bytes_[offset_++]) : -1; }

  bool take(size_t width, uint64_t* value) {
    if (left() < width) return false;
    *value = 0;
    for (const size_t end = offset_ + width; offset_ < end; ++offset_)
      *value = *value << 8 | static_cast<unsigned char>(bytes_[offset_]);
    return true;
  }

  std::string_view bytes_;
  size_t offset_ = 0;
};

}  // namespace millrace::protocol
