#include "producer/gateway/job_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sodium.h>

#include "common/base/check.h"

namespace millrace::producer {
namespace {

using Bytes = const unsigned char*;

constexpr size_t kTagLength = 16;  // digits

Bytes bytes_of(std::string_view text) { return reinterpret_cast<Bytes>(text.data()); }

}  // namespace

JobNames::JobNames(std::string_view token) : key_(std::in_place) {
  MILLRACE_CHECK(crypto_generichash(key_->data(), key_->size(), bytes_of(token), token.size(),
                                    nullptr, 0) == 0);
}

JobNames::Hash JobNames::hash(std::string_view text) const {
  Hash hash;
  static_assert(hash.size() >= crypto_generichash_BYTES_MIN);
  MILLRACE_CHECK(crypto_generichash(hash.data(), hash.size(), bytes_of(text), text.size(),
                                    key_->data(), key_->size()) == 0);
  return hash;
}

std::string JobNames::tag(std::string_view name) const {
  const Hash whole = hash(name);
  return fmt::format("{:02x}", fmt::join(whole.data(), whole.data() + kTagLength / 2, ""));
}

// The prefix, which begins no job's name, keeps keys from having the tag of one.
std::string JobNames::scoped_key(std::string_view key) const {
  if (!key_ || key.empty()) return std::string(key);
  return fmt::format("{:02x}", fmt::join(hash("key:" + std::string(key)), ""));
}

std::string JobNames::text(BrokerId broker, JobId job) const {
  std::string name = job_text(broker, job);
  return key_ ? name + "-" + tag(name) : name;
}

bool JobNames::parse(std::string_view text, BrokerId* broker, JobId* job) const {
  if (!key_) return parse_job_text(text, broker, job);
  if (text.size() <= kTagLength || text[text.size() - kTagLength - 1] != '-') return false;
  const std::string_view name = text.substr(0, text.size() - kTagLength - 1);
  const std::string_view given = text.substr(name.size() + 1);
  if (!parse_job_text(name, broker, job)) return false;
  return sodium_memcmp(given.data(), tag(job_text(*broker, *job)).data(), kTagLength) == 0;
}

}  // namespace millrace::producer
