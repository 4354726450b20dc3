// Bytes that are not what was written, at every place of a small journal: bits that flipped,
// sectors that another place or another time should have. What comes of it is refused, or a shorter
// tail; never another record than one that was written there.
#include <fmt/format.h>

#include <set>

#include "common/journal/walk.h"
#include "tests/catch.h"
#include "tests/crash/journal_fixture.h"
#include "tests/crash/power_cut.h"

using namespace millrace;
using namespace millrace::journal;
using namespace millrace::test;

namespace {

constexpr uint64_t kTickets = 14;
constexpr uint64_t kFirstKept = 4;

std::string name(uint64_t segment) { return segment_name({segment}); }

// Segments 2 (tickets 4–7), 3 (8–10) and 4 (11–14): 4 stands in the file that held 1–3.
Disk recycled_journal() {
  FakeDirectory directory;
  auto writer = begin_session(directory, 1, kSmallSegment * 2);
  write_tickets(writer, 1, 6, 700, {kFirstKept});
  write_tickets(writer, 7, 10, 40, {8});
  REQUIRE(*writer.retire_one({1}));
  write_tickets(writer, 11, 12, 300, {11});
  write_tickets(writer, 13, kTickets, 900);
  return directory.disk();
}

// For the walk that goes on behind damage: whatever it shows was written.
class Shown final : public records::RecordVisitor {
 public:
  std::set<uint64_t> tickets;
  bool is_true = true;

 private:
  Result<void> on_record(const records::Record& record, size_t, Place) override {
    const auto* accepted = std::get_if<records::Accepted>(&record);
    is_true = is_true && accepted && accepted->payloads.size() == 1 &&
              accepted->payloads[0] ==
                  payload_of(accepted->first_job.value, accepted->payloads[0].size());
    if (accepted) tickets.insert(accepted->first_job.value);
    return {};
  }
  Result<void> on_finding(const Finding&) override { return {}; }
};

struct Tally {
  size_t states = 0, refused = 0, torn = 0, unharmed = 0;
};

class Damager {
 public:
  Tally tally;

  explicit Damager(Disk disk) : disk_(std::move(disk)) {}
  Disk& disk() { return disk_; }

  void check(const std::string& what) {
    if (kOneOf > 1 && ++asked_ % kOneOf != 0) return;
    FakeDirectory directory(disk_);
    ++tally.states;
    Replayed replayed;  // aborts the replay at a payload that is another one
    auto found = scan(directory, replayed.visitor());
    if (!found) {
      if (found.error().code != ExitCode::bad_data) FAIL(what + ": " + found.error().message);
      ++tally.refused;
    } else {
      const auto& tickets = replayed.tickets;
      bool is_prefix = tickets.size() + 1 >= kTickets - kFirstKept + 1;
      for (size_t i = 0; i < tickets.size(); ++i) is_prefix &= tickets[i] == kFirstKept + i;
      if (!is_prefix) FAIL(fmt::format("{}: {} tickets", what, tickets.size()));
      ++(tickets.back() == kTickets ? tally.unharmed : tally.torn);
    }
    check_walk(directory, what);
  }

 private:
  void check_walk(FakeDirectory& directory, const std::string& what) {
    auto listing = list(directory);
    REQUIRE(listing.ok());
    Shown shown;
    REQUIRE(walk(directory, listing->segments, shown).ok());
    const bool in_range = shown.tickets.empty() || (*shown.tickets.begin() >= kFirstKept &&
                                                    *shown.tickets.rbegin() <= kTickets);
    if (!shown.is_true || !in_range) FAIL(what + ": the walk shows what was never written there");
  }

  Disk disk_;
  size_t asked_ = 0;
};

void print(const char* what, const Tally& tally) {
  fmt::print("{}: {} states, {} refused, {} with a torn tail, {} unharmed\n", what, tally.states,
             tally.refused, tally.torn, tally.unharmed);
}

}  // namespace

TEST_CASE("a bit that flips is found, or lies where nothing is read", "[crash]") {
  Damager damager(recycled_journal());
  for (uint64_t segment : {2, 3, 4}) {
    std::string& content = damager.disk().content(name(segment));
    for (size_t at = 0; at < content.size(); ++at) {
      const char good = content[at];
      // Bytes that are read are tried bit by bit, the long zeros behind them once each.
      const size_t in_block = at % kBlock;
      const int bits = in_block < kBatchHeaderBytes || good != '\0' ? 8 : 1;
      for (int bit = 0; bit < bits; ++bit) {
        content[at] = char(good ^ (1 << (bits == 1 ? int(at % 8) : bit)));
        damager.check(fmt::format("segment {}, byte {}, bit {}", segment, at, bit));
      }
      content[at] = good;
    }
  }
  print("bits", damager.tally);
  CHECK(damager.tally.states > 60'000 / kOneOf);
  CHECK(damager.tally.refused > 20'000 / kOneOf);
  CHECK(damager.tally.torn > 5'000 / kOneOf);
}

TEST_CASE("a sector of another place or time is found, or lies where nothing is read", "[crash]") {
  const Disk whole = recycled_journal();
  std::set<std::string> sectors{std::string(kSector, '\0'), std::string(kSector, '\xff')};
  for (size_t file = 0; file < whole.files(); ++file) {
    Disk copy = whole;
    const std::string& content = copy.content(file);
    for (size_t at = 0; at + kSector <= content.size(); at += kSector)
      sectors.insert(content.substr(at, kSector));
  }
  Damager damager(whole);
  for (uint64_t segment : {2, 3, 4}) {
    std::string& content = damager.disk().content(name(segment));
    for (size_t at = 0; at + kSector <= content.size(); at += kSector) {
      const std::string good = content.substr(at, kSector);
      for (const std::string& sector : sectors) {
        if (sector == good) continue;
        content.replace(at, kSector, sector);
        damager.check(fmt::format("segment {}, sector at {}", segment, at));
      }
      content.replace(at, kSector, good);
    }
  }
  print("sectors", damager.tally);
  CHECK(damager.tally.states > 4'000 / kOneOf);
  CHECK(damager.tally.refused > 500 / kOneOf);
}

TEST_CASE("blocks of an older life of the file are found at every place", "[crash]") {
  const Disk whole = recycled_journal();
  Damager damager(whole);
  std::vector<std::string> blocks;
  for (uint64_t segment : {2, 3, 4}) {
    const std::string& content = damager.disk().content(name(segment));
    for (size_t at = 0; at + kBlock <= content.size(); at += kBlock)
      blocks.push_back(content.substr(at, kBlock));
  }
  for (uint64_t segment : {2, 3, 4}) {
    std::string& content = damager.disk().content(name(segment));
    for (size_t at = 0; at + kBlock <= content.size(); at += kBlock) {
      const std::string good = content.substr(at, kBlock);
      for (const std::string& block : blocks) {
        if (block == good) continue;
        content.replace(at, kBlock, block);
        damager.check(fmt::format("segment {}, block at {}", segment, at));
      }
      content.replace(at, kBlock, good);
    }
  }
  print("blocks", damager.tally);
  CHECK(damager.tally.refused > 100 / kOneOf);
}
