// What a fuzz target consists of: a function that takes any bytes and must come back, and inputs to
// begin with.
// Shape:   libFuzzer (preset fuzz) calls LLVMFuzzerTestOneInput; elsewhere driver.cpp does, with the
//          corpus and with mutations of it
// Errors:  a target aborts, by MILLRACE_CHECK or a sanitizer, where a promise does not hold
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace millrace::fuzz {

// Valid inputs, made by the real encoders, so that they are never out of date.
std::vector<std::string> seeds();

inline std::string_view view_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace millrace::fuzz
