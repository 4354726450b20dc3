#include "producer/submit_output.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "common/log.h"
#include "producer/result_line.h"

namespace millrace::producer {
namespace {

constexpr uint64_t kMaxRejectionsTold = 20;

}  // namespace

Result<std::unique_ptr<SubmitOutput>> SubmitOutput::open(Form form) {
  auto output = std::unique_ptr<SubmitOutput>(new SubmitOutput(std::move(form)));
  const std::string& path = output->form_.results;
  if (path.empty() || path == "-") {
    if (!output->form_.json || path == "-") output->file_ = stdout;
    return output;
  }
  output->file_ = std::fopen(path.c_str(), "we");
  output->owns_file_ = true;
  if (output->file_) return output;
  return Error{ExitCode::cant_create,
               fmt::format("can't create {}: {}; does its directory exist, may you write "
                           "there?",
                           path, std::strerror(errno))};
}

SubmitOutput::~SubmitOutput() {
  if (owns_file_ && file_) std::fclose(file_);
}

Result<void> SubmitOutput::flush() {
  if (!file_ || pending_.empty()) return {};
  bool written = std::fwrite(pending_.data(), 1, pending_.size(), file_) == pending_.size();
  pending_.clear();
  if (written && std::fflush(file_) == 0) return {};
  return Error{ExitCode::io,
               fmt::format("can't write {}: {}; is there space left?",
                           owns_file_ ? form_.results : "to stdout", std::strerror(errno))};
}

void SubmitOutput::confirmed(const Confirmed& event) {
  confirmed_ += event.seqs.count;
  if (event.known) known_ += event.seqs.count;
  buffered_ = buffered_ || event.durability == "buffered";
  if (!file_ || wants_results()) return;
  std::string ids;
  for (uint64_t i = 0; i < event.seqs.count; ++i)
    ids += job_text(event.broker, {event.first_job.value + i}) + "\n";
  answered(event.seqs, std::move(ids));
}

// The first one is for the sentence at the end; of a flood the rest is only counted.
void SubmitOutput::rejected(const Rejected& event) {
  rejected_ += event.seqs.count;
  if (event.retry_after == Millis(0)) rejected_for_good_ = true;
  retry_after_ = std::max(retry_after_, event.retry_after);
  if (rejections_told_++ == 0) {
    first_rejection_ = fmt::format("{} {}: {}: {}", form_.lines ? "line" : "submission",
                                   event.seqs.first.value, event.reason, event.message);
  } else if (rejections_told_ <= kMaxRejectionsTold) {
    log_error("rejected", {{form_.lines ? "line" : "submission", event.seqs.first.value},
                           {"count", event.seqs.count},
                           {"reason", event.reason},
                           {"message", event.message}});
  }
  if (file_ && !wants_results()) answered(event.seqs, "");
}

void SubmitOutput::postponed(const Rejected& event) {
  if (std::exchange(postponed_told_, true)) return;
  log_warning("the broker takes nothing more for now; submissions wait",
              {{"reason", event.reason}, {"message", event.message}});
}

void SubmitOutput::ended(const Ended& event) {
  using protocol::JobState;
  uint64_t& count = event.state == JobState::done   ? done_
                    : event.state == JobState::dead ? dead_
                    : protocol::is_end(event.state) ? dropped_
                                                    : lost_;
  count += event.seqs.count;
  if (!file_) return;
  for (uint64_t i = 0; i < event.seqs.count; ++i) pending_ += result_line(event, i) + "\n";
}

// Ids are printed in the order of submission.
void SubmitOutput::answered(SeqRange seqs, std::string ids) {
  early_[seqs.first.value] = {seqs.end().value, std::move(ids)};
  while (!early_.empty() && early_.begin()->first == next_) {
    auto& [end, text] = early_.begin()->second;
    next_ = end;
    pending_ += text;
    early_.erase(early_.begin());
  }
}

}  // namespace millrace::producer
