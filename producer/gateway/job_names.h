// The ids of jobs as the gateway's clients see them, and their idempotency keys as the broker does.
// Shape:   without tokens, or in the broker's own words: 3f9a1c07-42. With tokens
//          3f9a1c07-42-8d0c4f1b22e7a935: behind the job's name a tag that follows from it and from the
//          token that submitted it, so that an id can't be guessed, and another token can't ask with
//          it. Every gateway with that token makes and takes the same ids; nothing is stored.
//          A key becomes 32 hex digits that follow from it and the token: the same key of two tokens
//          is two keys, so that nobody reaches another's job by guessing its key.
// Threads: immutable
// Source:  BLAKE2b with a key (RFC 7693), by libsodium
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace millrace::producer {

class JobNames {
 public:
  JobNames() = default;  // no token, no tags
  explicit JobNames(std::string_view token);

  std::string text(BrokerId broker, JobId job) const;
  // What the broker gets for a client's idempotency key; empty for an empty one.
  std::string scoped_key(std::string_view key) const;
  // False: it is no id, or not one that this token was given.
  bool parse(std::string_view text, BrokerId* broker, JobId* job) const;

 private:
  using Hash = std::array<unsigned char, 16>;
  Hash hash(std::string_view text) const;
  std::string tag(std::string_view name) const;

  std::optional<std::array<unsigned char, 32>> key_;
};

}  // namespace millrace::producer
