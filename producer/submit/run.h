// One run of submit: feeds the session from the input, as a resume and --halt would have it, until
// every payload is answered and, if that is wanted, ended.
// Limits:  kMaxHeld bytes of results that wait for their turn, --jobs on their way, kMaxAgain bytes
//          of payloads that are to be submitted again at the end
// Owns:    the input; the rest must outlive it
// Threads: one thread
#pragma once

#include <algorithm>
#include <deque>
#include <optional>
#include <string>

#include "common/cli/progress.h"
#include "producer/client/client.h"
#include "producer/client/waiter.h"
#include "producer/submit/input.h"
#include "producer/submit/output.h"
#include "producer/submit/resume.h"
#include "producer/submit/submit.h"

namespace millrace::producer {

class SubmitRun {
 public:
  static constexpr uint64_t kMaxHeld = 64 << 20;
  static constexpr uint64_t kMaxAgain = 256 << 20;
  static constexpr uint64_t kMaxUnsafe = 32 << 20;  // bytes on their way to the spool's disk

  SubmitRun(const SubmitFlags& flags, Input input, const ResumePlan& plan, SubmitOutput& output,
            Client& client, Waiter& waiter);
  Result<ExitCode> run();

 private:
  uint64_t on_their_way() { return client_.unanswered() + client_.outstanding(); }
  bool finished();

  Result<void> connect();
  bool has_all_of_plan();
  Result<void> check_brokers_of_plan();
  Error unnamed(const std::string& broker) const;
  std::optional<size_t> place_of(std::string_view authority);
  size_t destination(uint64_t number);
  bool collect_written();
  bool feed();
  bool feed_again();
  bool look_ahead();
  bool has_room(size_t bytes);
  std::optional<Error> spool_is_full();
  std::string line_of(uint64_t number) const;
  bool watch(bool on) { return waiter_.watch(input_.fd(), on), false; }
  void end_input(std::optional<Error> why);
  void take(std::string payload);
  void submit(uint64_t round, uint64_t number, std::string_view payload);
  void follow(uint64_t number);
  void follow_gathered();
  void keep_for_later(uint64_t number, std::string payload);
  void check_halt();
  std::optional<Error> stop_reason();

  uint64_t unknown() const { return client_.unsafe(); }
  // Of this run, without the broker's answer.
  uint64_t spooled() const {
    const uint64_t all = client_.unanswered();
    return all - std::min(all, client_.unsafe());
  }
  void show_progress();
  Result<ExitCode> stopped(Error error);
  bool all_is_safe() const;
  Result<ExitCode> summarize();
  Result<ExitCode> verdict();
  void print_summary();

  const SubmitFlags& flags_;
  Input input_;
  const ResumePlan& plan_;
  SubmitOutput& output_;
  Client& client_;
  Waiter& waiter_;
  protocol::SubmitOptions options_;
  uint64_t max_jobs_;
  uint64_t round_;            // of sequences
  std::optional<size_t> to_;  // the broker that takes the next one
  Mono start_;
  Mono deadline_;
  Progress progress_;

  std::optional<std::string> next_;  // read, and waits for room
  uint64_t number_ = 0;              // of the last payload that was taken
  uint64_t submitted_ = 0, followed_ = 0, skipped_ = 0;
  bool input_ended_ = false;
  std::optional<Error> bad_input_;
  bool halted_ = false;
  bool cancelled_ = false;

  struct Payload {
    uint64_t number;
    std::string bytes;
  };
  std::deque<Payload> again_;  // for the next round, when this one is answered
  uint64_t again_bytes_ = 0;
  struct Followed {
    BrokerId broker;
    SeqRange seqs;
    JobId first_job;
  };
  std::optional<Followed> gathered_;
};

}  // namespace millrace::producer
