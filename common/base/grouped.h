// Numbers for people: 300000 → 300,000.
// Threads: any
#pragma once

#include <cstdint>
#include <string>

namespace millrace {

inline std::string grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3;) digits.insert(i -= 3, ",");
  return digits;
}

}  // namespace millrace
