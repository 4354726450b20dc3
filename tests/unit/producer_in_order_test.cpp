#include "producer/in_order.h"

#include <algorithm>
#include <random>

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;

TEST_CASE("texts come out in the order of their sequences", "[order]") {
  std::string out;
  InOrder order([&out](std::string text) { out += text; });
  order.expect({{1}, 1});
  order.expect({{2}, 1});
  order.expect({{3}, 2});
  order.put({{3}, 2}, "34");
  order.put({{2}, 1}, "2");
  CHECK(out.empty());
  CHECK(order.held() == 3);
  CHECK(order.next() < Seq{1});
  order.put({{1}, 1}, "1");
  CHECK(out == "1234");
  CHECK(order.next() == Seq{5});
  CHECK(order.held() == 0);
}

TEST_CASE("sequences that are not expected are not waited for", "[order]") {
  std::string out;
  InOrder order([&out](std::string text) { out += text; });
  order.expect({{5}, 1});
  order.expect({{uint64_t{1} << 40}, 1});
  order.put({{uint64_t{1} << 40}, 1}, "far");
  order.put({{5}, 1}, "");
  CHECK(out == "far");
}

TEST_CASE("any order comes out as one", "[order]") {
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    std::string out, wanted;
    std::vector<uint64_t> seqs;
    InOrder order([&out](std::string text) { out += text; });
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
