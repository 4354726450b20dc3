#include "producer/submit/output.h"

#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "producer/session/rounds.h"
#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

constexpr BrokerId kBroker{0x3f9a1c07};

void end(SubmitOutput& output, Seq seq, JobId job) {
  Ended ended;
  ended.seqs = {seq, 1};
  ended.broker = kBroker;
  ended.first_job = job;
  ended.state = protocol::JobState::done;
  ended.has_result = true;
  ended.result = "r";
  output.ended(ended);
}

std::vector<JobId> written(SubmitOutput& output) {
  std::vector<JobId> jobs;
  REQUIRE(output.flush());
  for (const JobsAt& at : output.take_written()) jobs.push_back(at.jobs.first);
  return jobs;
}

}  // namespace

TEST_CASE("the broker keeps a result until it was written, whichever round it is of", "[output]") {
  TempDirectory dir;
  SubmitOutput::Form form;
  form.results = dir.file("results");
  form.joblog = dir.file("joblog");
  form.keep_order = true;
  form.queue = "q";
  auto output = SubmitOutput::open(form);
  REQUIRE(output);
  const Seq first = seq_of(1, 1), second = seq_of(1, 2), third{3};
  for (Seq seq : {first, second, third}) (*output)->expect(seq, "payload");
  end(**output, third, {13});
  CHECK(written(**output).empty());
  end(**output, first, {20});
  CHECK(written(**output) == std::vector<JobId>{{20}});
  CHECK_FALSE((*output)->collects({{20}, 1}));
  end(**output, second, {21});
  CHECK(written(**output) == std::vector<JobId>{{21}, {13}});
}

TEST_CASE("half a result that a full disk left is dropped before the next is appended",
          "[output]") {
  TempDirectory dir;
  const std::string whole = "{\"id\":\"3f9a1c07-1\",\"state\":\"done\"}\n";
  SubmitOutput::Form form;
  form.results = dir.file("results", whole + "{\"id\":\"3f9a1c07-2\",\"sta");
  form.append = true;
  form.queue = "q";
  auto output = SubmitOutput::open(form);
  REQUIRE(output);
  (*output)->expect(seq_of(0, 2), "payload");
  end(**output, seq_of(0, 2), {2});
  REQUIRE((*output)->flush());
  std::ifstream in(form.results);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  CHECK(text.starts_with(whole + "{\"id\":\"3f9a1c07-2\","));
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
  CHECK(text.ends_with("}\n"));
}

TEST_CASE("results that another submit writes are left alone", "[output]") {
  TempDirectory dir;
  SubmitOutput::Form form;
  form.results = dir.file("results", "of an earlier run\n");
  form.queue = "q";
  auto first = SubmitOutput::open(form);
  REQUIRE(first);
  CHECK(TempDirectory::content_of(form.results).empty());
  end(**first, seq_of(0, 1), {1});
  REQUIRE((*first)->flush());
  const std::string written = TempDirectory::content_of(form.results);
  for (bool append : {false, true}) {
    form.append = append;
    auto second = SubmitOutput::open(form);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == ExitCode::cant_create);
    CHECK(second.error().message.find("another producer") != std::string::npos);
  }
  CHECK(TempDirectory::content_of(form.results) == written);
}

TEST_CASE("results are their owner's", "[output]") {
  TempDirectory dir;
  SubmitOutput::Form form;
  form.results = dir.file("results");
  form.joblog = dir.file("joblog");
  REQUIRE(SubmitOutput::open(form));
  for (const std::string& path : {form.results, form.joblog}) {
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
  }
}
