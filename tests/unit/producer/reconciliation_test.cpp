#include "producer/audit/reconciliation.h"

#include <map>
#include <random>
#include <set>

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::protocol;

namespace {

const Uuid kAlice = Uuid::from_bytes("alice's 16 bytes");
const Uuid kBob = Uuid::from_bytes("bob has 16 bytes");
constexpr BrokerId kBroker{0x3f9a1c07};

// A run in which everything went well: 1–10 sent, 1–7 confirmed as 101–107, 8 rejected, 9–10
// unknown.
LedgerEntries sound_entries() {
  LedgerEntries entries;
  entries.sent = {{kAlice, {{1}, 6}}, {kAlice, {{7}, 4}}};
  entries.confirmed = {{kAlice, {{5}, 3}, kBroker, {105}}, {kAlice, {{1}, 4}, kBroker, {101}}};
  entries.rejected = {{kAlice, {{8}, 1}}};
  return entries;
}

std::string only_hole(const Reconciliation& books) {
  auto holes = books.holes();
  REQUIRE(holes.size() == 1);
  CHECK_FALSE(books.balanced());
  return holes.front();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("sound ledgers balance, and each job is asked for once", "[reconciliation]") {
  Reconciliation books(sound_entries());
  CHECK(books.sent == 10);
  CHECK(books.confirmed == 7);
  CHECK(books.rejected == 1);
  CHECK(books.unknown == 2);
  CHECK(books.jobs_of(kBroker) == std::vector<JobRange>{{{101}, 7}});
  CHECK(books.jobs_of({1}).empty());

  books.told({{101}, 3}, JobState::done);
  books.told({{104}, 1}, JobState::dead);
  books.told({{105}, 1}, JobState::ready);
  books.told({{106}, 1}, JobState::leased);
  books.told({{107}, 1}, JobState::retry_wait);
  books.close({kBroker});
  CHECK(books.done == 3);
  CHECK(books.dead == 1);
  CHECK(books.live == 3);
  CHECK(books.missing == 0);
  CHECK(books.balanced());
}

TEST_CASE("a confirmed job that the broker does not know is a hole", "[reconciliation]") {
  Reconciliation books(sound_entries());
  books.told({{101}, 5}, JobState::done);
  books.told({{106}, 2}, JobState::unknown);
  CHECK(books.missing == 2);
  CHECK(contains(only_hole(books), "jobs 106–107"));
}

TEST_CASE("jobs of another broker are missing from this one", "[reconciliation]") {
  LedgerEntries entries = sound_entries();
  entries.sent.push_back({kBob, {{1}, 2}});
  entries.confirmed.push_back({kBob, {{1}, 2}, {0xabcd}, {101}});
  Reconciliation books(entries);
  books.close({kBroker});
  CHECK(books.missing == 2);
  CHECK(contains(only_hole(books), "0000abcd"));
}

TEST_CASE("each kind of hole in the ledgers is named", "[reconciliation]") {
  LedgerEntries entries = sound_entries();
  SECTION("one job for two sequences") {
    entries.confirmed.push_back({kAlice, {{9}, 1}, kBroker, {103}});
    CHECK(contains(only_hole(Reconciliation(entries)),
                   "job 103 of broker 3f9a1c07: confirmed for two"));
  }
  SECTION("one job for two producers") {
    entries.sent.push_back({kBob, {{1}, 2}});
    entries.confirmed.push_back({kBob, {{1}, 2}, kBroker, {107}});
    CHECK(contains(only_hole(Reconciliation(entries)), "job 107"));
  }
  SECTION("two jobs for one sequence") {
    entries.confirmed.push_back({kAlice, {{2}, 2}, kBroker, {200}});
    CHECK(contains(only_hole(Reconciliation(entries)),
                   "sequences 2–3 of producer " + kAlice.hex() + ": confirmed twice"));
  }
  SECTION("an answer to what was never sent") {
    entries.confirmed.push_back({kAlice, {{11}, 2}, kBroker, {200}});
    CHECK(contains(only_hole(Reconciliation(entries)), "sequences 11–12"));
  }
  SECTION("an answer to another producer") {
    entries.rejected.push_back({kBob, {{1}, 1}});
    CHECK(contains(only_hole(Reconciliation(entries)), "never sent"));
  }
  SECTION("both answers") {
    entries.rejected.push_back({kAlice, {{7}, 1}});
    CHECK(contains(only_hole(Reconciliation(entries)),
                   "sequence 7 of producer " + kAlice.hex() + ": both"));
  }
  SECTION("a sequence used twice") {
    entries.sent.push_back({kAlice, {{10}, 3}});
    CHECK(contains(only_hole(Reconciliation(entries)), "sequence 10"));
  }
  SECTION("the same ledger twice") {
    entries.sent.insert(entries.sent.end(), entries.sent.begin(), entries.sent.begin() + 2);
    CHECK_FALSE(Reconciliation(entries).balanced());
  }
}

TEST_CASE("sequences with an idempotency key may share a job", "[reconciliation]") {
  LedgerEntries entries = sound_entries();
  entries.sent.push_back({kBob, {{1}, 2}, true});
  entries.confirmed.push_back({kBob, {{1}, 1}, kBroker, {200}});
  entries.confirmed.push_back({kBob, {{2}, 1}, kBroker, {200}});
  Reconciliation books(entries);
  CHECK(books.holes().empty());
  CHECK(books.confirmed == 9);
  CHECK(books.jobs_of(kBroker) == std::vector<JobRange>{{{101}, 7}, {{200}, 1}});
  SECTION("but not with one that has none") {
    entries.confirmed.push_back({kAlice, {{9}, 1}, kBroker, {200}});
    CHECK(contains(only_hole(Reconciliation(entries)), "job 200"));
  }
}

TEST_CASE("of many holes the first are told and the others counted", "[reconciliation]") {
  LedgerEntries entries;
  for (uint64_t i = 0; i < 100; ++i)
    entries.confirmed.push_back({kAlice, {{2 * i + 1}, 1}, kBroker, {2 * i + 1}});
  auto holes = Reconciliation(entries).holes();
  CHECK(holes.size() == Reconciliation::kMaxHoles + 1);
  CHECK(holes.back() == "and 80 more");
}

TEST_CASE("the totals count as plain sets would", "[reconciliation]") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    std::mt19937_64 random(seed);
    LedgerEntries entries;
    std::set<uint64_t> sent, confirmed, rejected, unknown;
    uint64_t next = 1, job = 1;
    while (next < 300) {
      next += random() % 3 == 0 ? random() % 5 : 0;
      uint64_t count = 1 + random() % 9;
      entries.sent.push_back({kAlice, {{next}, count}});
      for (uint64_t seq = next; seq < next + count;) {
        uint64_t part = std::min<uint64_t>(1 + random() % 5, next + count - seq);
        uint64_t what = random() % 3;
        if (what == 0) entries.confirmed.push_back({kAlice, {{seq}, part}, kBroker, {job}});
        if (what == 1) entries.rejected.push_back({kAlice, {{seq}, part}});
        for (uint64_t i = 0; i < part; ++i, ++seq) {
          sent.insert(seq);
          (what == 0 ? confirmed : what == 1 ? rejected : unknown).insert(seq);
        }
        job += part + random() % 2;
      }
      next += count;
    }
    std::shuffle(entries.confirmed.begin(), entries.confirmed.end(), random);
    Reconciliation books(entries);
    CHECK(books.balanced());
    CHECK(books.sent == sent.size());
    CHECK(books.confirmed == confirmed.size());
    CHECK(books.rejected == rejected.size());
    CHECK(books.unknown == unknown.size());
    uint64_t jobs = 0;
    for (JobRange range : books.jobs_of(kBroker)) jobs += range.count;
    CHECK(jobs == confirmed.size());
  }
}

TEST_CASE("a resumed run may send again what had no answer, counted once", "[reconciliation]") {
  LedgerEntries entries = sound_entries();
  entries.sent.push_back({kAlice, {{9}, 2}, false, true});
  entries.sent.push_back({kAlice, {{11}, 1}, false, true});
  entries.confirmed.push_back({kAlice, {{9}, 3}, kBroker, {108}});
  Reconciliation books(entries);
  CHECK(books.holes().empty());
  CHECK(books.sent == 11);
  CHECK(books.confirmed == 10);
  CHECK(books.unknown == 0);
}
