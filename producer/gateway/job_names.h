// The ids of jobs as the gateway's clients see them.
// Shape:   without tokens, or in the broker's own words: 3f9a1c07-42. With tokens
//          3f9a1c07-42-8d0c4f1b22e7a935: behind the job's name a tag that follows from it and from the
//          token that submitted it, so that an id can't be guessed, and another token can't ask with
//          it. Every gateway with that token makes and takes the same ids; nothing is stored.
// Threads: immutable
// Source:  BLAKE2b with a key (RFC 7693), by libsodium
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/ids.h"

namespace millrace::producer {

class JobNames {
 public:
  JobNames() = default;  // no token, no tags
  explicit JobNames(std::string_view token);

  std::string text(BrokerId broker, JobId job) const;
  // False: it is no id, or not one that this token was given.
  bool parse(std::string_view text, BrokerId* broker, JobId* job) const;

 private:
  std::string tag(std::string_view name) const;

  std::optional<std::array<unsigned char, 32>> key_;
};

}  // namespace millrace::producer
