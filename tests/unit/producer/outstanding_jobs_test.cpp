#include <map>
#include <random>

#include "producer/session/inquiry.h"
#include "producer/session/outstanding_jobs.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::protocol;

namespace {

struct Seen {
  std::vector<std::pair<SeqRange, uint64_t>> ended, contradicted;
  OutstandingJobs::Visits visits() {
    return {[this](SeqRange seqs, JobId job) { ended.emplace_back(seqs, job.value); },
            [this](SeqRange seqs, JobId job) { contradicted.emplace_back(seqs, job.value); }};
  }
};

using Parts = std::vector<std::pair<SeqRange, uint64_t>>;

}  // namespace

TEST_CASE("a range of ends is told in the runs of sequences that the jobs were", "[producer]") {
  OutstandingJobs jobs;
  REQUIRE(jobs.add({{1}, 10}, {100}, Report::outcome));
  REQUIRE(jobs.add({{11}, 5}, {120}, Report::outcome));
  Seen seen;
  CHECK(jobs.end({{105}, 18}, JobState::done, seen.visits()));
  CHECK(seen.ended == Parts{{{{6}, 5}, 105}, {{{11}, 3}, 120}});
  CHECK(jobs.pending() == 7);
  CHECK(jobs.pending_ranges() == std::vector<JobRange>{{{100}, 5}, {{123}, 2}});
}

TEST_CASE("an end told twice is told once, another end contradicts", "[producer]") {
  OutstandingJobs jobs;
  REQUIRE(jobs.add({{1}, 4}, {1}, Report::outcome));
  Seen seen;
  jobs.end({{2}, 2}, JobState::done, seen.visits());
  jobs.end({{1}, 3}, JobState::done, seen.visits());
  CHECK(seen.ended == Parts{{{{2}, 2}, 2}, {{{1}, 1}, 1}});
  jobs.end({{1}, 4}, JobState::dead, seen.visits());
  CHECK(seen.ended.back() == Parts::value_type{{{4}, 1}, 4});
  CHECK(seen.contradicted == Parts{{{{1}, 3}, 1}});
  CHECK(jobs.pending() == 0);
}

TEST_CASE("sequences with one idempotency key share a job and its end", "[producer]") {
  OutstandingJobs jobs;
  Seen seen;
  std::vector<JobRange> asked;
  auto again = [&](JobRange range) { asked.push_back(range); };
  REQUIRE(jobs.add({{1}, 1}, {10}, Report::outcome, true));
  CHECK(jobs.knows({10}));
  jobs.share({2}, {10}, Report::outcome);
  CHECK(jobs.pending() == 2);
  CHECK_FALSE(jobs.contradicts({{2}, 1}, {10}));
  CHECK(jobs.contradicts({{2}, 1}, {11}));
  jobs.end({{9}, 3}, JobState::done, seen.visits());
  CHECK(seen.ended == Parts{{{{1}, 1}, 10}, {{{2}, 1}, 10}});
  jobs.share({2}, {10}, Report::outcome);  // a CONFIRM that came twice
  CHECK(jobs.pending() == 0);
  // After the end: told by the answer to a question, the result or error first if there is one.
  jobs.share({3}, {10}, Report::outcome);
  jobs.share({4}, {10}, Report::result);
  CHECK(jobs.pending_ranges() == std::vector<JobRange>{{{10}, 1}, {{10}, 1}});
  jobs.end_by_state({{10}, 1}, JobState::done, seen.visits(), again);
  CHECK(seen.ended.back() == Parts::value_type{{{3}, 1}, 10});
  CHECK(asked == std::vector<JobRange>{{{10}, 1}});
  jobs.end_by_state({{10}, 1}, JobState::done, seen.visits(), again);
  CHECK(seen.ended.back() == Parts::value_type{{{4}, 1}, 10});
  CHECK(jobs.pending() == 0);
  CHECK(seen.contradicted.empty());
}

TEST_CASE("a range that holds a shared job contradicts only if a sequence gets another job",
          "[producer]") {
  OutstandingJobs jobs;
  REQUIRE(jobs.add({{1}, 1}, {10}, Report::outcome, true));
  jobs.share({2}, {10}, Report::outcome);
  REQUIRE(jobs.add({{3}, 1}, {11}, Report::outcome, true));
  CHECK_FALSE(jobs.contradicts({{2}, 2}, {10}));  // as one range: 2 is job 10, 3 is job 11
  CHECK(jobs.contradicts({{1}, 2}, {10}));        // 2 would be job 11
  CHECK(jobs.contradicts({{2}, 2}, {11}));        // 3 would be job 12
  CHECK(jobs.contradicts({{2}, 2}, {20}));
  CHECK_FALSE(jobs.contradicts({{7}, 1}, {10}));  // 7 may have the key too
  REQUIRE(jobs.add({{4}, 1}, {12}, Report::outcome));
  CHECK(jobs.contradicts({{7}, 1}, {12}));
}

TEST_CASE("a job belongs to one sequence", "[producer]") {
  OutstandingJobs jobs;
  REQUIRE(jobs.add({{1}, 4}, {10}, Report::outcome));
  CHECK_FALSE(jobs.add({{5}, 4}, {13}, Report::outcome));
  CHECK_FALSE(jobs.add({{5}, 4}, {7}, Report::outcome));
  CHECK(jobs.add({{5}, 4}, {14}, Report::outcome));
  CHECK(jobs.pending() == 8);
  CHECK_FALSE(jobs.contradicts({{2}, 5}, {11}));
  CHECK(jobs.contradicts({{2}, 1}, {12}));
  CHECK(jobs.contradicts({{100}, 1}, {12}));
  CHECK_FALSE(jobs.contradicts({{100}, 1}, {112}));
}

TEST_CASE("clearing gives out what had not ended", "[producer]") {
  OutstandingJobs jobs;
  REQUIRE(jobs.add({{1}, 5}, {10}, Report::outcome));
  REQUIRE(jobs.add({{6}, 2}, {20}, Report::outcome));
  Seen seen;
  jobs.end({{12}, 1}, JobState::done, seen.visits());
  Parts left;
  jobs.clear([&](SeqRange seqs, JobId job) { left.emplace_back(seqs, job.value); });
  CHECK(left == Parts{{{{1}, 2}, 10}, {{{4}, 2}, 13}, {{{6}, 2}, 20}});
  CHECK(jobs.pending() == 0);
  CHECK(jobs.pending_ranges().empty());
}

TEST_CASE("awaited jobs behave as a plain map of jobs would", "[producer]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    OutstandingJobs jobs;
    struct Plain {
      uint64_t seq;
      JobState state = JobState::ready;
    };
    std::map<uint64_t, Plain> plain;
    uint64_t next_seq = 1, next_job = 1;
    for (int round = 0; round < 300; ++round) {
      if (random() % 3 == 0) {
        next_job += random() % 3 == 0 ? random() % 4 : 0;
        uint64_t count = 1 + random() % 20;
        REQUIRE(jobs.add({{next_seq}, count}, {next_job}, Report::outcome));
        while (count-- > 0) plain[next_job++] = {next_seq++};
      }
      JobRange range{{random() % (next_job + 2)}, random() % 30};
      JobState state = random() % 4 ? JobState::done : JobState::dead;
      Seen seen;
      jobs.end(range, state, seen.visits());
      std::map<uint64_t, uint64_t> ended, contradicted, expected_ended, expected_contradicted;
      for (auto& [seqs, job] : seen.ended)
        for (uint64_t i = 0; i < seqs.count; ++i)
          REQUIRE(ended.emplace(job + i, seqs.first.value + i).second);
      for (auto& [seqs, job] : seen.contradicted)
        for (uint64_t i = 0; i < seqs.count; ++i) contradicted[job + i] = seqs.first.value + i;
      for (uint64_t i = 0; i < range.count; ++i) {
        auto found = plain.find(range.first.value + i);
        if (found == plain.end()) continue;
        if (found->second.state == JobState::ready) {
          found->second.state = state;
          expected_ended[found->first] = found->second.seq;
        } else if (found->second.state != state) {
          expected_contradicted[found->first] = found->second.seq;
        }
      }
      REQUIRE(ended == expected_ended);
      REQUIRE(contradicted == expected_contradicted);
    }
    uint64_t pending = 0;
    for (auto& [job, entry] : plain) pending += entry.state == JobState::ready;
    CHECK(jobs.pending() == pending);
    uint64_t listed = 0;
    for (JobRange range : jobs.pending_ranges()) {
      for (uint64_t i = 0; i < range.count; ++i, ++listed)
        REQUIRE(plain.at(range.first.value + i).state == JobState::ready);
    }
    CHECK(listed == pending);
  }
}

TEST_CASE("an inquiry is cut to the protocol's limits and goes on as answers come", "[producer]") {
  Inquiry inquiry;
  for (uint64_t i = 0; i < 5000; ++i) inquiry.ask({{2 * i + 1}, 1});
  inquiry.ask({{100'000}, 200'000});
  uint64_t jobs = 0;
  int queries = 0;
  while (!inquiry.done()) {
    auto query = inquiry.next();
    REQUIRE(query);
    REQUIRE_FALSE(inquiry.next());
    REQUIRE(query->jobs.size() <= kMaxRangesPerMessage);
    ++queries;
    States states;
    uint64_t asked = 0;
    for (JobRange range : query->jobs) {
      states.ranges.push_back({range, JobState::done});
      asked += range.count;
    }
    REQUIRE(asked <= Inquiry::kJobsPerQuery);
    inquiry.answered(states, [&](JobRange range, JobState) { jobs += range.count; });
  }
  CHECK(jobs == 205'000);
  CHECK(queries == 5);
}

TEST_CASE("a lost QUERY is asked again, answers to nothing are skipped", "[producer]") {
  Inquiry inquiry;
  inquiry.ask({{1}, 10});
  auto first = inquiry.next();
  auto none = [](JobRange, JobState) { FAIL("nothing was asked so"); };
  inquiry.answered({{{{{5}, 3}, JobState::done}}}, none);
  uint64_t told = 0;
  inquiry.answered({{{{{1}, 4}, JobState::done}}}, [&](JobRange r, JobState) { told += r.count; });
  inquiry.restart();
  auto second = inquiry.next();
  REQUIRE(second);
  CHECK(second->jobs == std::vector<JobRange>{{{5}, 6}});
  CHECK(told == 4);
}

TEST_CASE("a job that a QUERY names twice may be told once or twice", "[producer]") {
  for (bool twice : {false, true}) {
    Inquiry inquiry;
    inquiry.ask({{1}, 2});
    inquiry.ask({{5}, 1});
    inquiry.ask({{2}, 2});
    inquiry.ask({{5}, 1});
    uint64_t told = 0;
    auto count = [&](JobRange r, JobState) { told += r.count; };
    CHECK(inquiry.next()->jobs == std::vector<JobRange>{{{1}, 2}, {{5}, 1}, {{2}, 2}, {{5}, 1}});
    protocol::States states{{{{{1}, 2}, JobState::done}, {{{5}, 1}, JobState::done}}};
    states.ranges.push_back({twice ? JobRange{{2}, 2} : JobRange{{3}, 1}, JobState::done});
    if (twice) states.ranges.push_back({{{5}, 1}, JobState::done});
    inquiry.answered(states, count);
    CHECK(told == (twice ? 6 : 4));
    CHECK(inquiry.done());
  }
}

TEST_CASE("a forgetful producer keeps nothing of jobs that have ended", "[producer]") {
  OutstandingJobs jobs(true);
  OutstandingJobs::Visits visits{[](SeqRange, JobId) {},
                                 [](SeqRange, JobId) { FAIL("contradicted"); }};
  REQUIRE(jobs.add({{1}, 10}, {100}, Report::result));
  CHECK(jobs.end({{100}, 4}, JobState::done, visits));
  CHECK(jobs.knows({100}));  // others of its run still wait
  CHECK(jobs.end({{104}, 6}, JobState::dead, visits));
  CHECK_FALSE(jobs.knows({100}));
  CHECK_FALSE(jobs.end({{100}, 10}, JobState::dead, visits));
  jobs.share({20}, {200}, Report::none);
  CHECK_FALSE(jobs.contradicts({{20}, 1}, {201}));
}
