// The names of things, each a type of its own, so that none can stand where another belongs.
// Shape:   JobId     counts 1, 2, 3, … within one broker's journal, never reused
//          Epoch     counts leases from 1, over all starts of a broker; strictly growing for a job
//          Seq       a producer's own number of a submission, from 1
//          Uuid      16 random bytes: a producer, or one worker process
//          SessionId random, one per connection of a client; never reused
//          BrokerId  random, made with the data directory; job_text() puts it before the job
// Limits:  an Epoch stays below 2^53, which JavaScript's numbers and JSON keep exact: each start skips
//          2^26 of them. That is a start a second for 4 years, or a million leases a second for 285.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

namespace millrace {

template <typename Tag>
struct Id {
  uint64_t value = 0;
  constexpr auto operator<=>(const Id&) const = default;
};

using JobId = Id<struct JobTag>;
using Seq = Id<struct SeqTag>;
using SessionId = Id<struct SessionTag>;
using SegmentId = Id<struct SegmentTag>;
using BatchSeq = Id<struct BatchTag>;

struct BrokerId {
  uint32_t value = 0;
  constexpr auto operator<=>(const BrokerId&) const = default;
};

// What each start skips. With a journal that is not synced, a power cut takes the records of leases
// that had gone out: up to 35 s of them (the kernel writes back pages of 30 s each 5 s) at 1.9
// million a second.
inline constexpr uint64_t kEpochSkip = uint64_t{1} << 26;

struct Epoch {
  uint64_t value = 0;  // 0: never leased
  constexpr auto operator<=>(const Epoch&) const = default;
};

inline constexpr uint64_t kMaxIncarnation = uint64_t{1} << 53;
// Epochs from here on are left again at the first start at which no job has one. Only a journal
// that version 1 wrote, with the number of the start in the upper bits, gets here in practice.
inline constexpr Epoch kHighEpoch{uint64_t{1} << 52};

struct Uuid {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const Uuid&) const = default;

  std::string hex() const;
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // view must hold exactly 16 bytes.
  static Uuid from_bytes(std::string_view view);
  static bool from_hex(std::string_view hex, Uuid* out);
  static Uuid random();
};

SessionId random_session();
BrokerId random_broker();

// The name of a job outside of its broker: "3f9a1c07-42". Unique over brokers; what handlers,
// results and ledgers show.
std::string job_text(BrokerId broker, JobId job);
// The largest number of a job: a range of jobs has an end.
inline constexpr uint64_t kMaxJobId = UINT64_MAX - 1;
// False: it is no such name, or no job can have it.
bool parse_job_text(std::string_view text, BrokerId* broker, JobId* job);

}  // namespace millrace

template <typename Tag>
struct std::hash<millrace::Id<Tag>> {
  // Ids count up, so the multiplication spreads them over a table's buckets.
  size_t operator()(millrace::Id<Tag> id) const noexcept {
    return id.value * 0x9E3779B97F4A7C15ull >> 7;
  }
};

template <>
struct std::hash<millrace::Uuid> {
  size_t operator()(const millrace::Uuid& id) const noexcept {
    uint64_t word;
    std::memcpy(&word, id.bytes.data(), sizeof word);  // random bytes hash themselves
    return word;
  }
};
