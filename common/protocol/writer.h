// Writes msgpack with msgpack-c into one string: what both codecs (wire and journal) put down.
// Threads: one
#pragma once

#include <msgpack.hpp>
#include <string>
#include <string_view>

#include "common/base/utf8.h"

namespace millrace::protocol {

class Writer {
 public:
  Writer() : packer_(sink_) {}
  explicit Writer(size_t reserve) : Writer() { sink_.bytes.reserve(reserve); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  Writer& array(size_t size) { return packer_.pack_array(uint32_t(size)), *this; }
  Writer& map(size_t size) { return packer_.pack_map(uint32_t(size)), *this; }
  Writer& uint(uint64_t value) { return packer_.pack_uint64(value), *this; }
  Writer& boolean(bool value) { return value ? packer_.pack_true() : packer_.pack_false(), *this; }
  Writer& nil() { return packer_.pack_nil(), *this; }
  // Readers of a str may count on UTF-8, and text from handlers and peers need not be.
  Writer& str(std::string_view text) {
    if (!is_utf8(text)) return str(to_utf8(text));
    packer_.pack_str(uint32_t(text.size())).pack_str_body(text.data(), uint32_t(text.size()));
    return *this;
  }
  Writer& bin(std::string_view bytes) {
    packer_.pack_bin(uint32_t(bytes.size())).pack_bin_body(bytes.data(), uint32_t(bytes.size()));
    return *this;
  }
  // Bytes that are msgpack already.
  Writer& raw(std::string_view bytes) { return sink_.bytes.append(bytes), *this; }

  size_t size() const { return sink_.bytes.size(); }
  std::string take() { return std::move(sink_.bytes); }

 private:
  struct Sink {
    std::string bytes;
    void write(const char* data, size_t size) { bytes.append(data, size); }
  };
  Sink sink_;
  msgpack::packer<Sink> packer_;
};

}  // namespace millrace::protocol
