#include "producer/submit_output.h"

#include "producer/session/rounds.h"
#include "tests/catch.h"
#include "tests/unit/temp_directory.h"

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
