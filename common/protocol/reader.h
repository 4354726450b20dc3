// Walks msgpack with msgpack-c, one element of an array at a time, so that the bytes of each
// element are known as well as its value.
// Errors:  throws Malformed or one of msgpack-c's exceptions; read_guarded() turns both into a
//          sentence. They never leave the codecs that use this.
// Owns:    the zone that objects live in; views point into the bytes given
// Threads: one
#pragma once

#include <msgpack.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace millrace::protocol {

struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  // Enters an array and returns its number of elements; next() then gives each of them.
  size_t enter_array() {
    if (offset_ >= bytes_.size()) throw Malformed("ends too early");
    auto byte = static_cast<unsigned char>(bytes_[offset_]);
    if ((byte & 0xf0) == 0x90) return offset_ += 1, byte & 0x0f;
    if (byte == 0xdc && bytes_.size() - offset_ >= 3) return read_length(2);
    if (byte == 0xdd && bytes_.size() - offset_ >= 5) return read_length(4);
    throw Malformed("not a msgpack array");
  }

  const msgpack::object& next() {
    size_t start = offset_;
    bool referenced = false;
    object_ =
        msgpack::unpack(zone_, bytes_.data(), bytes_.size(), offset_, referenced, keep_reference,
                        nullptr, msgpack::unpack_limit(1 << 16, 256, 1u << 31, 1u << 31, 0, 4));
    element_ = bytes_.substr(start, offset_ - start);
    return object_;
  }

  std::string_view element() const { return element_; }  // the bytes of what next() gave
  size_t offset() const { return offset_; }
  // What has not been read, and that this much of it has been read otherwise.
  std::string_view rest() const { return bytes_.substr(offset_); }
  void skip(size_t size) { offset_ += size; }
  bool at_end() const { return offset_ == bytes_.size(); }

 private:
  static bool keep_reference(msgpack::type::object_type, size_t, void*) { return true; }
  size_t read_length(size_t width) {
    size_t length = 0;
    for (size_t i = 1; i <= width; ++i)
      length = length << 8 | static_cast<unsigned char>(bytes_[offset_ + i]);
    offset_ += 1 + width;
    return length;
  }

  std::string_view bytes_;
  size_t offset_ = 0;
  std::string_view element_;
  msgpack::zone zone_;
  msgpack::object object_;
};

inline uint64_t as_uint(const msgpack::object& object, uint64_t max = UINT64_MAX) {
  if (object.type != msgpack::type::POSITIVE_INTEGER)
    throw Malformed("a field must be an unsigned integer");
  if (object.via.u64 > max) throw Malformed("an integer is above " + std::to_string(max));
  return object.via.u64;
}
inline bool as_bool(const msgpack::object& object) {
  if (object.type != msgpack::type::BOOLEAN) throw Malformed("a field must be true or false");
  return object.via.boolean;
}
// Takes bin and str: what a client library calls its byte strings is not our concern.
inline std::string_view as_bytes(const msgpack::object& object) {
  if (object.type == msgpack::type::BIN) return {object.via.bin.ptr, object.via.bin.size};
  if (object.type == msgpack::type::STR) return {object.via.str.ptr, object.via.str.size};
  throw Malformed("a field must be a string");
}
inline std::string_view as_bytes(const msgpack::object& object, size_t max) {
  std::string_view bytes = as_bytes(object);
  if (bytes.size() > max)
    throw Malformed("a string is longer than " + std::to_string(max) + " bytes");
  return bytes;
}
inline const msgpack::object_array& as_array(const msgpack::object& object, size_t min,
                                             size_t max) {
  if (object.type != msgpack::type::ARRAY) throw Malformed("a field must be an array");
  if (object.via.array.size < min)
    throw Malformed("an array has fewer than " + std::to_string(min) + " elements");
  if (object.via.array.size > max)
    throw Malformed("an array has more than " + std::to_string(max) + " elements");
  return object.via.array;
}
inline const msgpack::object_map& as_map(const msgpack::object& object) {
  if (object.type != msgpack::type::MAP) throw Malformed("a field must be a map");
  return object.via.map;
}

// Runs a decoder; the sentence says what was wrong, if something was.
template <typename Function>
std::optional<std::string> read_guarded(Function&& function) {
  try {
    function();
    return std::nullopt;
  } catch (const Malformed& error) {
    return error.what();
  } catch (const msgpack::unpack_error& error) {
    return std::string("invalid or incomplete msgpack (") + error.what() + ")";
  } catch (const msgpack::type_error&) {
    return "a field has the wrong type";
  }
}

}  // namespace millrace::protocol
