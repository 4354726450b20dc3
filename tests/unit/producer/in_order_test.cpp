#include "producer/submit/in_order.h"

#include <algorithm>
#include <random>
#include <vector>

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;

TEST_CASE("texts come out in the order in which they were expected", "[order]") {
  std::string out;
  InOrder order([&out](SeqRange, const std::string& text) { out += text; });
  order.expect({{1}, 1});
  order.expect({{2}, 1});
  order.expect({{3}, 2});
  order.put({{3}, 2}, "34");
  order.put({{2}, 1}, "2");
  CHECK(out.empty());
  CHECK(order.held() == 3);
  order.put({{1}, 1}, "1");
  CHECK(out == "1234");
  CHECK(order.held() == 0);
}

TEST_CASE("sequences that are not expected are not waited for", "[order]") {
  std::string out;
  InOrder order([&out](SeqRange, const std::string& text) { out += text; });
  order.expect({{5}, 1});
  order.expect({{uint64_t{1} << 40}, 1});
  order.put({{uint64_t{1} << 40}, 1}, "far");
  order.put({{5}, 1}, "");
  CHECK(out == "far");
}

TEST_CASE("sequences of several rounds come out in the order of the lines", "[order]") {
  std::string out;
  std::vector<SeqRange> given;
  InOrder order([&](SeqRange seqs, const std::string& text) {
    given.push_back(seqs);
    out += text;
  });
  const uint64_t again = uint64_t{1} << 40;  // lines 1 and 3 were submitted again
  for (uint64_t seq : {again | 1, uint64_t{2}, again | 3, uint64_t{4}}) order.expect({{seq}, 1});
  order.put({{2}, 1}, "2");
  order.put({{4}, 1}, "4");
  order.put({{again | 3}, 1}, "3");
  CHECK(out.empty());
  CHECK(order.held() == 3);
  order.put({{again | 1}, 1}, "1");
  CHECK(out == "1234");
  CHECK(order.held() == 0);
  CHECK(given == std::vector<SeqRange>{{{again | 1}, 1}, {{2}, 1}, {{again | 3}, 1}, {{4}, 1}});
}

TEST_CASE("any order comes out as one", "[order]") {
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    std::string out, wanted;
    std::vector<uint64_t> seqs;
    InOrder order([&out](SeqRange, const std::string& text) { out += text; });
    for (uint64_t seq = 1; seq <= 60; ++seq) {
      if (random() % 4 == 0) continue;
      order.expect({{seq}, 1});
      seqs.push_back(seq);
      wanted += std::to_string(seq) + " ";
    }
    std::shuffle(seqs.begin(), seqs.end(), random);
    for (uint64_t seq : seqs) order.put({{seq}, 1}, std::to_string(seq) + " ");
    CHECK(out == wanted);
    CHECK(order.held() == 0);
  }
}
