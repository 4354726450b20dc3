// Any bytes as a joblog or a ledger: entries, or an error that names the line; and memory that the
// bytes bound, not a number in them.
#include "producer/submit/joblog.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/check.h"
#include "producer/client/ledger.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

std::string file_of(std::string_view text) {
  static const int fd = memfd_create("lines", MFD_CLOEXEC);
  MILLRACE_CHECK(ftruncate(fd, 0) == 0);
  MILLRACE_CHECK(pwrite(fd, text.data(), text.size(), 0) == ssize_t(text.size()));
  return fmt::format("/proc/self/fd/{}", fd);
}

void check_ranges(const std::vector<LedgerEntries::Sent>& list) {
  for (const auto& entry : list)
    MILLRACE_CHECK(entry.seqs.count > 0 && entry.seqs.end() > entry.seqs.first);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string path = file_of(fuzz::view_of(data, size));
  auto jobs = read_joblog(path);
  if (!jobs) MILLRACE_CHECK(jobs.error().code == ExitCode::bad_data);

  LedgerEntries ledger;
  auto read = read_ledger(path, &ledger);
  if (!read) MILLRACE_CHECK(read.error().code == ExitCode::bad_data);
  check_ranges(ledger.sent);
  check_ranges(ledger.rejected);
  for (const auto& entry : ledger.confirmed)
    MILLRACE_CHECK(entry.seqs.count > 0 && entry.first_job.value > 0);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  JoblogRow row;
  row.seq = 1;
  row.id = "3f9a1c07-42";
  row.queue = "q";
  row.state = "dead";
  row.attempts = 5;
  row.error = "no luck";
  JoblogRow other = row;
  other.seq = 3;
  other.id = "-";
  other.state = "rejected";
  const std::string head = "Seq\tId\tQueue\tStart\tRuntime\tState\tAttempts\tHash\tError\n";
  JoblogRow far = row;
  far.seq = uint64_t{1} << 32;
  return {head + joblog_line(far), head + joblog_line(row) + joblog_line(other), head,
          "{\"producer\":\"000102030405060708090a0b0c0d0e0f\"}\n"
          "{\"sent\":[1,5],\"queue\":\"q\",\"keyed\":true,\"to\":\"10.0.0.1:5570\"}\n"
          "{\"confirmed\":[1,4,7],\"broker\":\"3f9a1c07\"}\n"
          "{\"rejected\":[5,1],\"reason\":\"queue_full\"}\n",
          "{\"producer\":\"000102030405060708090a0b0c0d0e0f\",\"resumed\":true}\n"};
}
