// Makes other inputs from inputs: the mutations that find most in binary formats.
// Shape:   the same seed gives the same sequence of inputs
// Limits:  kMaxInput bytes
// Threads: one
#pragma once

#include <random>
#include <string>
#include <vector>

namespace millrace::fuzz {

inline constexpr size_t kMaxInput = 1 << 16;

class Mutator {
 public:
  Mutator(std::vector<std::string> corpus, uint64_t seed)
      : corpus_(std::move(corpus)), random_(seed) {}

  std::string next();

 private:
  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }
  void mutate(std::string& input);
  void put_number(std::string& input);
  void splice(std::string& input);

  const std::vector<std::string> corpus_;
  std::mt19937_64 random_;
};

}  // namespace millrace::fuzz
