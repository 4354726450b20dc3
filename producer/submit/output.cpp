#include "producer/submit/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/os/file_descriptor.h"
#include "common/os/log.h"
#include "producer/submit/result_line.h"
#include "producer/submit/resume.h"

namespace millrace::producer {
namespace {

constexpr uint64_t kMaxRejectionsTold = 20;
constexpr uint64_t kMaxMissingTold = 20;

// Whether this is all that there was to know of a job's end. An answer without attempts is from the
// broker's history, which has no results and no errors.
bool is_complete(const Ended& event) {
  switch (event.state) {
    case protocol::JobState::done:
      return event.has_result;
    case protocol::JobState::dead:
      return event.attempts > 0;
    default:
      return event.state == protocol::JobState::cancelled ||
             event.state == protocol::JobState::expired;
  }
}

}  // namespace

Result<std::unique_ptr<SubmitOutput>> SubmitOutput::open(Form form) {
  auto output = std::unique_ptr<SubmitOutput>(new SubmitOutput(std::move(form)));
  if (auto opened = output->open_results(); !opened) return opened.error();
  if (output->form_.joblog.empty()) return output;
  auto joblog = Joblog::open(output->form_.joblog);
  if (!joblog) return joblog.error();
  output->joblog_.emplace(*std::move(joblog));
  return output;
}

Result<void> SubmitOutput::open_results() {
  const std::string& path = form_.results;
  if (path.empty() || path == "-") {
    if (!form_.json || path == "-") file_ = stdout;
    return {};
  }
  if (form_.append)
    if (auto repaired = AppendFile::repair("results", path, "{\"id\":\""); !repaired)
      return repaired;
  const int mode = form_.append ? O_APPEND : 0;
  FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | mode, 0600));
  struct stat status {};
  const bool keeps = file.is_open() && fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode);
  if (keeps && flock(file.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{
        ExitCode::cant_create,
        fmt::format("results {}: another producer is writing it: use a file for each", path)};
  // Not before it is locked.
  const bool is_ready = !keeps || form_.append || ftruncate(file.get(), 0) == 0;
  if (file.is_open() && is_ready) file_ = fdopen(file.get(), form_.append ? "a" : "w");
  owns_file_ = true;
  if (file_) {
    file.release();
    return {};
  }
  return Error{ExitCode::cant_create,
               fmt::format("can't create {}: {}; does its directory exist, may you write there?",
                           path, std::strerror(errno))};
}

SubmitOutput::~SubmitOutput() {
  if (owns_file_ && file_) std::fclose(file_);
}

// A line of the joblog has its job's id, but not its result: only that must have been written
// before.
Result<void> SubmitOutput::flush() {
  if (wants_results()) {
    if (auto done = write_pending(); !done) return done;
    return write_rows();
  }
  if (auto done = write_rows(); !done) return done;
  return write_pending();
}

Result<void> SubmitOutput::write_pending() {
  if (pending_.empty()) return {};
  const bool written = std::fwrite(pending_.data(), 1, pending_.size(), file_) == pending_.size() &&
                       std::fflush(file_) == 0;
  pending_.clear();
  if (written) return {};
  const int why = errno;
  pending_rows_.clear();
  return Error{ExitCode::io,
               fmt::format("can't write {}: {}; {}", owns_file_ ? form_.results : "to stdout",
                           std::strerror(why),
                           why == EPIPE ? "its reader has gone" : "is there space left?")};
}

Result<void> SubmitOutput::write_rows() {
  if (pending_rows_.empty()) return {};
  auto logged = joblog_->write(pending_rows_);
  pending_rows_.clear();
  return logged;
}

std::vector<JobsAt> SubmitOutput::take_written() {
  if (!pending_.empty()) return {};
  return std::exchange(written_, {});
}

// ---- what is on its way

void SubmitOutput::expect(Seq seq, std::string_view payload) {
  if (in_order()) texts_.expect({seq, 1});
  if (!joblog_) return;
  if (form_.keep_order) rows_.expect({seq, 1});
  Round& round = on_their_way_[seq.value >> kRoundShift];
  while (!round.empty() && round.front().logged) round.pop_front();
  const Now now = Now::read();
  round.push_back({seq, payload_hash(payload), now.wall, now.mono});
}

void SubmitOutput::expect_result(Seq seq) {
  if (in_order()) texts_.expect({seq, 1});
  logged_before_.insert(seq);
}

void SubmitOutput::miss_result(uint64_t number) {
  if (missing_ < kMaxMissingTold)
    first_missing_ += fmt::format("{}{}", missing_ > 0 ? ", " : "", number);
  if (missing_ == kMaxMissingTold) first_missing_ += ", ...";
  ++missing_;
}

void SubmitOutput::print(SeqRange seqs, std::string text) {
  if (in_order()) {
    texts_.put(seqs, std::move(text));
  } else {
    pending_ += text;
  }
}

void SubmitOutput::give_out(SeqRange seqs, const std::string& text) {
  pending_ += text;
  const auto first = uncollected_.lower_bound(seqs.first);
  const auto last = uncollected_.lower_bound(seqs.end());
  for (auto at = first; at != last; ++at) written_.push_back(at->second);
  uncollected_.erase(first, last);
}

void SubmitOutput::log(Seq seq, JoblogRow row) {
  Round& round = on_their_way_[seq.value >> kRoundShift];
  auto at = std::lower_bound(round.begin(), round.end(), seq,
                             [](const OnItsWay& payload, Seq s) { return payload.seq < s; });
  MILLRACE_CHECK(at != round.end() && at->seq == seq);
  row.seq = number_of(seq);
  row.queue = form_.queue;
  row.start = at->start;
  row.runtime = std::chrono::duration_cast<Millis>(Now::read().mono - at->since);
  row.hash = at->hash;
  at->logged = true;
  if (form_.keep_order) {
    rows_.put({seq, 1}, joblog_line(row));
  } else {
    pending_rows_ += joblog_line(row);
  }
}

void SubmitOutput::log_confirmed(uint64_t number, std::string_view payload, BrokerId broker,
                                 JobId job) {
  JoblogRow row;
  row.seq = number;
  row.id = job_text(broker, job);
  row.queue = form_.queue;
  row.start = Now::read().wall;
  row.state = "confirmed";
  row.hash = payload_hash(payload);
  pending_rows_ += joblog_line(row);
}

// ---- events

void SubmitOutput::confirmed(const Confirmed& event) {
  confirmed_ += event.seqs.count;
  if (event.known) known_ += event.seqs.count;
  buffered_ = buffered_ || event.durability == "buffered";
  if (wants_results() || (!file_ && !joblog_) || event.spooled) return;
  std::string ids;
  for (uint64_t i = 0; i < event.seqs.count; ++i) {
    JoblogRow row;
    row.id = job_text(event.broker, {event.first_job.value + i});
    row.state = "confirmed";
    ids += row.id + "\n";
    if (joblog_) log({event.seqs.first.value + i}, std::move(row));
  }
  if (file_) print(event.seqs, std::move(ids));
}

// The first one is for the sentence at the end; of a flood the rest is only counted.
void SubmitOutput::rejected(const Rejected& event) {
  rejected_ += event.seqs.count;
  if (event.retry_after == Millis(0)) rejected_for_good_ = true;
  retry_after_ = std::max(retry_after_, event.retry_after);
  const uint64_t number = number_of(event.seqs.first);
  if (rejections_logged_++ == 0) {
    first_rejection_ = fmt::format("{} {}: {}: {}", form_.lines ? "line" : "submission", number,
                                   event.reason, event.message);
  } else if (rejections_logged_ <= kMaxRejectionsTold) {
    log_error("rejected", {{form_.lines ? "line" : "submission", number},
                           {"count", event.seqs.count},
                           {"reason", event.reason},
                           {"message", event.message}});
  }
  for (uint64_t i = 0; joblog_ && i < event.seqs.count; ++i) {
    JoblogRow row;
    row.id = "-";
    row.state = "rejected";
    row.error = fmt::format("{}: {}", event.reason, event.message);
    log({event.seqs.first.value + i}, std::move(row));
  }
  if (in_order() && !event.spooled) print(event.seqs, "");
}

// The id is not known, and may not be before this run has ended.
void SubmitOutput::spooled(SeqRange seqs) {
  if (!file_ || wants_results()) return;
  std::string lines;
  for (uint64_t i = 0; i < seqs.count; ++i) lines += "spooled\n";
  print(seqs, std::move(lines));
}

void SubmitOutput::postponed(const Rejected& event) {
  if (std::exchange(postponed_logged_, true)) return;
  log_warning("the broker takes nothing more for now; submissions wait",
              {{"reason", event.reason}, {"message", event.message}});
}

uint64_t& SubmitOutput::count_of(protocol::JobState state) {
  if (state == protocol::JobState::done) return done_;
  if (state == protocol::JobState::dead) return dead_;
  return protocol::is_end(state) ? dropped_ : lost_;
}

void SubmitOutput::ended(const Ended& event) {
  Ended numbered = event;
  numbered.seqs.first.value = number_of(event.seqs.first);
  for (uint64_t i = 0; i < event.seqs.count; ++i) {
    const Seq seq{event.seqs.first.value + i};
    const bool logged_before = logged_before_.erase(seq) > 0;
    if (event.has_result && keeps_for_resume())
      uncollected_[seq] = {event.broker, {{event.first_job.value + i}, 1}};
    if (logged_before) {
      if (!is_complete(event)) miss_result(number_of(seq));
      print({seq, 1}, is_complete(event) ? result_line(numbered, i) + "\n" : "");
      continue;
    }
    ++count_of(event.state);
    if (event.state == protocol::JobState::done && !event.has_result && wants_results())
      ++without_result_;
    if (file_) {
      print({seq, 1}, result_line(numbered, i) + "\n");
    } else if (in_order()) {
      print({seq, 1}, "");
    }
    if (!joblog_) continue;
    JoblogRow row;
    row.id = job_text(event.broker, {event.first_job.value + i});
    row.state = state_text(event.state);
    row.attempts = event.attempts;
    row.error = event.error;
    log(seq, std::move(row));
  }
}

}  // namespace millrace::producer
