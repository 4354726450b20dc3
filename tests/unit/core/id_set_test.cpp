#include <random>
#include <set>

#include "broker/core/state/id_set.h"
#include "broker/core/state/slot_table.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::core;

TEST_CASE("an id set agrees with a plain set over random inserts and erases", "[id_set]") {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    IdSet set;
    std::set<uint64_t> model;
    for (int i = 0; i < 300; ++i) {
      uint64_t first = random() % 200, count = random() % 12;
      if (random() % 2) {
        set.insert({{first}, count});
        for (uint64_t id = first; id < first + count; ++id) model.insert(id);
      } else {
        set.erase({{first}, count});
        for (uint64_t id = first; id < first + count; ++id) model.erase(id);
      }
      REQUIRE(set.size() == model.size());
    }
    std::vector<uint64_t> ids;
    uint64_t end = 0;
    for (JobRange run : set.runs()) {
      REQUIRE(run.count > 0);
      REQUIRE((ids.empty() || run.first.value > end));  // runs are disjoint and never adjacent
      for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id) ids.push_back(id);
      end = run.first.value + run.count;
    }
    REQUIRE(ids == std::vector<uint64_t>(model.begin(), model.end()));
    for (uint64_t id = 0; id < 215; ++id) REQUIRE(set.contains({id}) == model.contains(id));
  }
}

TEST_CASE("the missing parts of a range and the set do not meet, and cover it", "[id_set]") {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    IdSet set;
    for (int i = 0; i < 10; ++i) set.insert({{random() % 100}, random() % 8});
    const JobRange range{{random() % 100}, random() % 40};
    const uint64_t before = set.size();
    uint64_t missing = 0;
    for (JobRange part : set.missing(range)) {
      REQUIRE(part.count > 0);
      for (uint64_t id = part.first.value; id < part.first.value + part.count; ++id, ++missing)
        REQUIRE(!set.contains({id}));
    }
    set.insert(range);
    REQUIRE(set.size() == before + missing);
  }
}

TEST_CASE("the lowest ids come first, over several runs", "[id_set]") {
  IdSet set;
  set.insert({{10}, 3});
  set.insert({{1}, 2});
  auto lowest = set.lowest(4);
  REQUIRE(lowest.size() == 2);
  CHECK(lowest[0] == JobRange{{1}, 2});
  CHECK(lowest[1] == JobRange{{10}, 2});
  CHECK(set.size() == 5);
}

TEST_CASE("a slot table keeps values apart and lets go of old chunks", "[slot_table]") {
  SlotTable<int> table;
  for (uint64_t id = 1; id <= 20000; ++id) table.insert({id}, int(id));
  for (uint64_t id = 1; id <= 20000; ++id)
    if (id % 3) table.erase({id});
  for (uint64_t id = 1; id <= 20000; ++id) {
    const int* value = table.find({id});
    REQUIRE((value != nullptr) == (id % 3 == 0));
    if (value) REQUIRE(*value == int(id));
  }
  for (uint64_t id = 3; id <= 20000; id += 3) table.erase({id});
  CHECK(table.size() == 0);
  table.insert({1'000'000}, 5);
  table.insert({999'000}, 6);  // before the first chunk that is there
  CHECK(*table.find({999'000}) == 6);
  uint64_t seen = 0;
  table.for_each([&](JobId id, int) {
    CHECK(id.value > seen);
    seen = id.value;
  });
}
