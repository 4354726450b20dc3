#include "producer/submit/resume.h"

#include "producer/submit/results_file.h"
#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

using Act = ResumePlan::Act;
const Uuid kProducer = Uuid::from_bytes("0123456789abcdef");
constexpr BrokerId kBroker{0x3f9a1c07};
const std::string kHeader = "Seq\tId\tQueue\tStart\tRuntime\tState\tAttempts\tHash\tError\n";

JoblogRow row(uint64_t seq, uint64_t job, std::string state) {
  JoblogRow row;
  row.seq = seq;
  row.id = job ? job_text(kBroker, {job}) : "-";
  row.queue = "q";
  row.start = wall_from_int(1'700'000'000'123);
  row.runtime = Millis(1500);
  row.state = std::move(state);
  row.attempts = 1;
  row.hash = seq * 100;
  return row;
}

JoblogEntries entries_of(const std::string& rows) {
  TempDirectory dir;
  auto entries = read_joblog(dir.file("joblog", kHeader + rows));
  REQUIRE(entries);
  return *entries;
}

// 1–7 sent; 1–4 confirmed as 11–14, 5 rejected, 6–7 unanswered. Of 1 to 3 the ends are logged.
LedgerEntries ledger() {
  LedgerEntries entries;
  entries.producers = {kProducer};
  entries.sent = {{kProducer, {{1}, 7}}};
  entries.confirmed = {{kProducer, {{1}, 4}, kBroker, {11}}};
  entries.rejected = {{kProducer, {{5}, 1}}};
  return entries;
}
std::string rows() {
  return joblog_line(row(1, 11, "done")) + joblog_line(row(2, 12, "dead")) +
         joblog_line(row(3, 13, "cancelled")) + joblog_line(row(5, 0, "rejected"));
}

std::vector<Act> acts(const ResumePlan& plan, uint64_t count) {
  std::vector<Act> all;
  for (uint64_t number = 1; number <= count; ++number) all.push_back(plan.act(number));
  return all;
}

}  // namespace

TEST_CASE("a joblog's line has its columns, whatever an error says", "[joblog]") {
  JoblogRow one = row(7, 42, "dead");
  one.error = "a\tb\nc";
  CHECK(joblog_line(one) ==
        "7\t3f9a1c07-42\tq\t1700000000.123\t1.500\tdead\t1\t00000000000002bc\ta b c\n");
  one.attempts = 0;
  CHECK(joblog_line(one).find("\tdead\t-\t") != std::string::npos);
}

TEST_CASE("a joblog is read as it was written, and the last line of a payload counts", "[joblog]") {
  TempDirectory dir;
  std::string path = dir.file("joblog");
  {
    auto joblog = Joblog::open(path);
    REQUIRE(joblog);
    REQUIRE(joblog->write(joblog_line(row(2, 12, "dead"))));
  }
  {
    auto joblog = Joblog::open(path);
    REQUIRE(joblog);
    REQUIRE(joblog->write(joblog_line(row(2, 15, "done"))));
  }
  auto entries = read_joblog(path);
  REQUIRE(entries);
  CHECK(entries->queue == "q");
  CHECK_FALSE(entries->find(1));
  CHECK_FALSE(entries->find(3));
  REQUIRE(entries->find(2));
  CHECK(entries->find(2)->job == JobId{15});
  CHECK_FALSE(entries->find(2)->failed);
  CHECK(entries->find(2)->hash == 200);
}

TEST_CASE("a joblog takes memory for its lines, not for the numbers in them", "[joblog]") {
  const auto entries =
      entries_of(joblog_line(row(7, 11, "done")) + joblog_line(row(uint64_t{1} << 32, 12, "dead")) +
                 joblog_line(row(7, 13, "done")));
  CHECK(entries.entries.size() == 2);
  CHECK(entries.find(uint64_t{1} << 32)->job == JobId{12});
  CHECK(entries.find(7)->job == JobId{13});
}

TEST_CASE("every truncation of a joblog can be read and gone on with", "[joblog]") {
  TempDirectory dir;
  const std::string whole = kHeader + rows();
  for (size_t size = 0; size <= whole.size(); ++size) {
    std::string path = dir.file("joblog", whole.substr(0, size));
    auto entries = read_joblog(path);
    REQUIRE(entries);
    REQUIRE(Joblog::open(path));
    const std::string kept = TempDirectory::content_of(path);
    CHECK(kept.ends_with('\n'));
    CHECK(kept.starts_with(kHeader));
  }
  auto none = read_joblog(dir.file("nowhere"));
  REQUIRE(none);
  CHECK(none->entries.empty());
}

TEST_CASE("what is none of a joblog's lines is named", "[joblog]") {
  TempDirectory dir;
  const std::string good = joblog_line(row(1, 11, "done"));
  for (std::string bad :
       {"hello\n", "0\t-\tq\t0\t0\tdone\t-\t0000000000000000\t\n",
        "1\tx\tq\t0\t0\tdone\t-\t0000000000000000\t\n",
        "1\t-\tq\t0\t0\tready\t-\t0000000000000000\t\n", "1\t-\tq\t0\t0\tdone\t-\t12\t\n",
        "1\t-\tother\t0\t0\tdone\t-\t0000000000000000\t\n",
        "99999999999999\t-\tq\t0\t0\tdone\t-\t0000000000000000\t\n",
        "1\t-\tq\t0\t0\tdone\t-\t0000000000000000\t\tmore\n"}) {
    INFO(bad);
    auto read = read_joblog(dir.file("joblog", kHeader + good + bad));
    REQUIRE_FALSE(read);
    CHECK(read.error().code == ExitCode::bad_data);
    CHECK(read.error().message.find("line 3") != std::string::npos);
  }
  CHECK_FALSE(read_joblog(dir.file("joblog", "Seq\tHost\n")));
}

TEST_CASE("without an earlier run everything is submitted", "[resume]") {
  ResumePlan plan;
  CHECK(acts(plan, 2) == std::vector<Act>{Act::submit, Act::submit});
  CHECK(plan.numbers() == 0);
  CHECK(plan.brokers().empty());
}

TEST_CASE("a resume leaves out what ended, follows what is confirmed, and sends the rest again",
          "[resume]") {
  ResumePlan plan(entries_of(rows()), ledger(), {true, false});
  CHECK(acts(plan, 8) == std::vector<Act>{Act::skip, Act::skip, Act::skip, Act::follow, Act::again,
                                          Act::submit, Act::submit, Act::submit});
  CHECK(plan.round() == 0);
  CHECK(plan.brokers() == std::vector{kBroker});
  CHECK(plan.seq(4) == Seq{4});
  CHECK(plan.job(4) == JobId{14});
  CHECK(plan.numbers() == 7);
}

TEST_CASE("without waiting, what is confirmed is left out, and logged if a crash came between",
          "[resume]") {
  ResumePlan plan(entries_of(joblog_line(row(1, 11, "confirmed"))), ledger(), {false, false});
  CHECK(plan.act(1) == Act::skip);
  CHECK_FALSE(plan.lacks_line(1));
  CHECK(plan.act(4) == Act::skip);
  CHECK(plan.lacks_line(4));
  CHECK_FALSE(plan.lacks_line(6));
}

TEST_CASE("what failed is submitted again when that is asked for", "[resume]") {
  ResumePlan plan(entries_of(rows()), ledger(), {true, true});
  CHECK(acts(plan, 7) == std::vector<Act>{Act::skip, Act::again, Act::again, Act::follow,
                                          Act::again, Act::submit, Act::submit});
}

TEST_CASE("of a payload that was submitted again its last round counts", "[resume]") {
  LedgerEntries entries = ledger();
  const Seq second = seq_of(1, 2), third = seq_of(1, 3);
  entries.sent.push_back({kProducer, {second, 2}, false, true});
  entries.confirmed.push_back({kProducer, {second, 1}, kBroker, {20}});
  ResumePlan plan(entries_of(rows()), entries, {true, true});
  CHECK(plan.round() == 1);
  CHECK(plan.act(2) == Act::follow);  // its line is of the job before
  CHECK(plan.seq(2) == second);
  CHECK(plan.job(2) == JobId{20});
  CHECK(plan.act(3) == Act::submit);
  CHECK(plan.seq(3) == third);
  ResumePlan later(entries_of(rows() + joblog_line(row(2, 20, "done"))), entries, {true, true});
  CHECK(later.act(2) == Act::skip);
}

TEST_CASE("what the joblog has is not made again when the ledger has lost its confirmation",
          "[resume]") {
  LedgerEntries entries = ledger();
  entries.confirmed.clear();  // the torn last line
  ResumePlan plan(entries_of(rows()), entries, {true, false});
  CHECK(acts(plan, 5) ==
        std::vector<Act>{Act::skip, Act::skip, Act::skip, Act::submit, Act::again});
  CHECK(plan.brokers() == std::vector{kBroker});
  CHECK(plan.destinations() == std::vector<std::string>{""});
  CHECK_FALSE(plan.lacks_line(1));
  ResumePlan failed_again(entries_of(rows()), entries, {true, true});
  CHECK(acts(failed_again, 3) == std::vector<Act>{Act::skip, Act::again, Act::again});
  entries.sent.clear();
  entries.rejected.clear();
  ResumePlan bare(entries_of(rows()), entries, {true, true});
  CHECK(acts(bare, 4) == std::vector<Act>{Act::skip, Act::again, Act::again, Act::submit});
}

TEST_CASE("what the ledger has lost and the joblog shows is known, for the ledger", "[resume]") {
  LedgerEntries entries = ledger();
  CHECK(ResumePlan(entries_of(rows()), entries, {}).lost().confirmed.empty());
  entries.confirmed = {{kProducer, {{1}, 1}, kBroker, {11}}};
  ResumePlan torn(entries_of(rows()), entries, {});
  CHECK(torn.lost().sent.empty());
  REQUIRE(torn.lost().confirmed.size() == 1);
  CHECK(torn.lost().confirmed[0].seqs == SeqRange{{2}, 2});
  CHECK(torn.lost().confirmed[0].broker == kBroker);
  CHECK(torn.lost().confirmed[0].first_job == JobId{12});
  entries.sent = {{kProducer, {seq_of(1, 1), 1}}};
  entries.confirmed.clear();
  entries.rejected.clear();
  ResumePlan more(entries_of(rows()), entries, {});
  REQUIRE(more.lost().sent.size() == 1);
  CHECK(more.lost().sent[0].seqs == SeqRange{seq_of(1, 2), 2});
  REQUIRE(more.lost().confirmed.size() == 1);
  CHECK(more.lost().confirmed[0].seqs == SeqRange{seq_of(1, 1), 3});
}

TEST_CASE("a result that is logged and not in its file is fetched", "[resume]") {
  TempDirectory dir;
  JoblogEntries joblog = entries_of(rows() + joblog_line(row(6, 16, "confirmed")));
  const std::string lines =
      "{\"id\":\"3f9a1c07-11\",\"seq\":1,\"state\":\"done\",\"attempts\":1,\"result\":\"r\"}\n"
      "{\"id\":\"3f9a1c07-99\",\"seq\":2,\"state\":\"dead\",\"attempts\":1}\n"
      "nonsense\n{\"id\":\"3f9a1c07-13\",\"seq\":3,\"state\":\"can";
  REQUIRE(match_results(dir.file("results", lines), &joblog));
  ResumePlan plan(joblog, ledger(), {true, false});
  CHECK(acts(plan, 5) ==
        std::vector<Act>{Act::skip, Act::fetch, Act::fetch, Act::follow, Act::again});
  CHECK_FALSE(plan.lacks_result(1));
  CHECK(plan.lacks_result(2));
  CHECK_FALSE(plan.lacks_result(6));  // nobody waited for it
  CHECK(ResumePlan(joblog, ledger(), {false, false}).act(2) == Act::skip);
  CHECK(ResumePlan(joblog, ledger(), {true, true}).act(2) == Act::again);
  REQUIRE(match_results(dir.file("nowhere"), &joblog));
  CHECK(ResumePlan(joblog, ledger(), {true, false}).act(1) == Act::fetch);
  JoblogEntries unchecked = entries_of(rows());
  REQUIRE(match_results("/dev/null", &unchecked));
  CHECK(ResumePlan(unchecked, ledger(), {true, false}).act(1) == Act::skip);
}

TEST_CASE("the line of an earlier round confirms nothing of a later one", "[resume]") {
  LedgerEntries entries = ledger();
  entries.sent.push_back({kProducer, {seq_of(1, 2), 2}, false, true});
  ResumePlan unanswered(entries_of(rows()), entries, {true, true});
  CHECK(unanswered.act(2) == Act::submit);
  CHECK(unanswered.seq(2) == seq_of(1, 2));
  ResumePlan logged(entries_of(rows() + joblog_line(row(2, 20, "done"))), entries, {true, true});
  CHECK(logged.act(2) == Act::skip);
  CHECK(logged.seq(2) == seq_of(1, 2));
  CHECK(logged.act(3) == Act::submit);
}

TEST_CASE("a payload that is not the one that was logged is noticed", "[resume]") {
  ResumePlan plan(entries_of(rows()), ledger(), {true, false});
  CHECK_FALSE(plan.contradicts(2, 200));
  CHECK(plan.contradicts(2, 201));
  CHECK_FALSE(plan.contradicts(4, 1));  // nothing is known of it
  CHECK(payload_hash("a") != payload_hash("b"));
}

TEST_CASE("a resume knows where each payload without an answer went", "[resume]") {
  LedgerEntries entries;
  entries.producers = {kProducer};
  entries.sent = {{kProducer, {{1}, 2}, false, false, "a:5570"},
                  {kProducer, {{3}, 2}, false, false, "b:5570"},
                  {kProducer, {{5}, 1}, false, false, "c:5570"}};
  entries.confirmed = {{kProducer, {{1}, 1}, {7}, {11}}, {kProducer, {{5}, 1}, {8}, {1}}};
  ResumePlan plan({}, entries, {true, false});
  CHECK(plan.destinations() == std::vector<std::string>{"a:5570", "b:5570"});
  CHECK(plan.destination(1) == nullptr);
  REQUIRE(plan.destination(2));
  CHECK(*plan.destination(2) == "a:5570");
  CHECK(*plan.destination(4) == "b:5570");
  CHECK(plan.destination(6) == nullptr);  // never sent
  CHECK(plan.brokers() == std::vector<BrokerId>{{7}, {8}});
  CHECK(plan.broker(1) == BrokerId{7});
  CHECK(plan.broker(5) == BrokerId{8});
}

TEST_CASE("a job of another broker with the same number is another job", "[resume]") {
  LedgerEntries entries = ledger();
  entries.sent.push_back({kProducer, {seq_of(1, 2), 1}, false, true, "b:5570"});
  entries.confirmed.push_back({kProducer, {seq_of(1, 2), 1}, {8}, {12}});
  ResumePlan plan(entries_of(rows()), entries, {true, false});
  CHECK(plan.act(2) == Act::follow);  // job 12 that died was at the first broker
}
