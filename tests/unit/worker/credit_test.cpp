#include "tests/unit/worker/worker_harness.h"
#include "worker/session/credit_policy.h"

using namespace millrace;
using namespace millrace::worker;
using namespace std::chrono_literals;

namespace {

void observe(CreditPolicy& policy, std::chrono::nanoseconds run, int times) {
  for (int i = 0; i < times; ++i) policy.observe(run);
}

}  // namespace

TEST_CASE("until a job has ended there is credit for the threads alone", "[credit]") {
  CreditPolicy policy(4, std::nullopt);
  CHECK(policy.credit() == 4);
  policy.set_threads(6);
  CHECK(policy.credit() == 6);
  observe(policy, std::chrono::seconds(10), 1);
  policy.update();
  CHECK(policy.credit() == 6);  // a fifth or less is no change
  policy.set_threads(4);
  CHECK(policy.credit() == 5);
  CHECK_FALSE(policy.update());
}

TEST_CASE("the credit is 20 ms of work for all threads", "[credit]") {
  CreditPolicy policy(4, std::nullopt);
  observe(policy, 2ms, 10);
  CHECK(policy.update());
  CHECK(policy.credit() == 40);
}

TEST_CASE("long jobs are not hoarded, tiny ones are bounded", "[credit]") {
  CreditPolicy slow(4, std::nullopt);
  observe(slow, 10s, 1);
  slow.update();
  CHECK(slow.credit() == 5);
  CreditPolicy fast(4, std::nullopt);
  observe(fast, 100ns, 1000);
  CHECK(fast.update());
  CHECK(fast.credit() == CreditPolicy::kMaxCredit);
  CreditPolicy instant(4, std::nullopt);
  observe(instant, 0ns, 10);
  CHECK(instant.update());
  CHECK(instant.credit() == CreditPolicy::kMaxCredit);
}

TEST_CASE("a change of a fifth or less is not worth a message", "[credit]") {
  CreditPolicy policy(10, std::nullopt);
  observe(policy, 2ms, 200);
  policy.update();
  REQUIRE(policy.credit() == 100);
  observe(policy, 1700us, 5000);  // would be 117
  CHECK_FALSE(policy.update());
  CHECK(policy.credit() == 100);
  observe(policy, 1600us, 5000);  // 125
  CHECK(policy.update());
  CHECK(policy.credit() == 125);
  observe(policy, 1900us, 5000);  // 105
  CHECK_FALSE(policy.update());
}

TEST_CASE("one slow job among many fast ones moves the mean by its share", "[credit]") {
  CreditPolicy policy(1, std::nullopt);
  observe(policy, 100us, 1000);
  policy.update();
  REQUIRE(policy.credit() == 200);
  observe(policy, 1ms, 1);  // the mean becomes about 107 us
  CHECK_FALSE(policy.update());
}

TEST_CASE("work ahead is what waits behind the threads", "[credit]") {
  CreditPolicy policy(4, 100);
  CHECK(policy.work_ahead(100) == 0ns);  // nobody knows yet
  observe(policy, 2ms, 10);
  CHECK(policy.work_ahead(0) == 0ns);
  CHECK(policy.work_ahead(4) == 0ns);
  CHECK(policy.work_ahead(16) == 6ms);
}

TEST_CASE("a fixed credit stays", "[credit]") {
  CreditPolicy policy(4, 7);
  observe(policy, 1us, 1000);
  CHECK_FALSE(policy.update());
  CHECK(policy.credit() == 7);
}

TEST_CASE("a session sends CREDIT when the policy moves, and not otherwise", "[credit]") {
  WorkerHarness it(WorkerHarness::settings(2));
  it.connect();
  std::vector<protocol::Lease> leases;
  for (uint64_t i = 1; i <= 100; ++i) leases.push_back({{i}, {1}});
  it.lease(leases);
  it.sent();
  it.finish(leases[0], Completion::done({}), 1ms);
  auto credits = it.sent_as<protocol::Credit>();
  REQUIRE(credits.size() == 1);
  CHECK(credits[0].jobs == 40);
  for (size_t i = 1; i < 100; ++i) it.finish(leases[i], Completion::done({}), 1050us);
  CHECK(it.sent_as<protocol::Credit>().empty());
}

TEST_CASE("a session says how many threads it has now, also where the credit stays", "[credit]") {
  WorkerHarness it(WorkerHarness::settings(2, 10));
  it.connect();
  auto credits = it.sent_as<protocol::Credit>();
  REQUIRE(credits.size() == 1);
  CHECK(credits[0].threads == 2);
  it.session.set_threads(8, &it.out);
  credits = it.sent_as<protocol::Credit>();
  REQUIRE(credits.size() == 1);
  CHECK(credits[0].jobs == 10);
  CHECK(credits[0].threads == 8);
  it.session.set_threads(8, &it.out);
  CHECK(it.sent_as<protocol::Credit>().empty());
  it.open();  // its REGISTER says 8
  CHECK(it.sent_as<protocol::Register>()[0].threads == 8);
}

namespace {

// Jobs 1 to `count` with epochs in their order.
std::vector<protocol::Lease> lease_many(WorkerHarness& it, uint64_t count) {
  std::vector<protocol::Lease> leases;
  for (uint64_t i = 1; i <= count; ++i) leases.push_back({{i}, {i}});
  it.lease(leases);
  return leases;
}

std::vector<uint64_t> threads_said(WorkerHarness& it) {
  std::vector<uint64_t> threads;
  for (const auto& credit : it.sent_as<protocol::Credit>()) threads.push_back(credit.threads);
  return threads;
}

}  // namespace

TEST_CASE("a pool that shrinks counts as the larger one until its jobs have ended", "[credit]") {
  WorkerHarness it(WorkerHarness::settings(4, 10));
  it.connect();
  const auto leases = lease_many(it, 8);  // 1 to 4 may run
  it.sent();
  it.session.set_threads(2, &it.out);
  CHECK(threads_said(it).empty());
  it.finish(leases[7]);  // it was none of them
  it.finish(leases[0]);
  CHECK(threads_said(it).empty());
  it.open();  // a new connection is told the same
  CHECK(it.sent_as<protocol::Register>()[0].threads == 4);
  it.welcome();
  it.sent();
  it.session.give_back({leases[1]}, &it.out);  // two of the four are left
  CHECK(threads_said(it) == std::vector<uint64_t>{2});
}

TEST_CASE("a pool that shrinks twice counts as the largest one", "[credit]") {
  WorkerHarness it(WorkerHarness::settings(4, 10));
  it.connect();
  const auto leases = lease_many(it, 6);
  it.sent();
  it.session.set_threads(3, &it.out);
  it.session.set_threads(1, &it.out);
  it.finish(leases[0]);
  it.finish(leases[1]);
  CHECK(threads_said(it).empty());
  SECTION("and says so when it has become so") {
    it.finish(leases[3]);
    CHECK(threads_said(it) == std::vector<uint64_t>{1});
  }
  SECTION("and grows at once") {
    it.session.set_threads(5, &it.out);
    CHECK(threads_said(it) == std::vector<uint64_t>{5});
  }
}

TEST_CASE("a pool that shrinks while it is idle says so at once", "[credit]") {
  WorkerHarness it(WorkerHarness::settings(4, 10));
  it.connect();
  it.sent();
  it.session.set_threads(2, &it.out);
  CHECK(threads_said(it) == std::vector<uint64_t>{2});
}
