// A producer's place: one process after the other, each with the real session and link, and an
// application that submits in bursts, asks for states, and leaves.
// Shape:   begin() → submitting until finish() → idle() once all is answered;  kill() from anywhere.
//          One that is begun again as the same producer has a spool: what was unanswered from the
//          lowest unanswered sequence on is submitted again, under the same sequences.
// Owns:    the process's life, and the spool beyond it
// Threads: one
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/sim/stage.h"

namespace millrace::sim {

class Producer final : public Process {
 public:
  Producer(Stage& stage, size_t number);
  ~Producer() override;

  void begin(bool same);  // the same producer again, from its spool; or a new one
  void kill(bool power_lost);
  void finish() { finishing_ = true; }

  bool up() const { return life_ != nullptr; }
  bool idle() const;
  size_t path() const { return path_; }
  const std::string& name() const { return name_; }
  std::string waits_for() const;

 private:
  struct Life;
  struct Spooled {
    std::string payload;
    std::string queue;
    protocol::SubmitOptions options;
  };

  void turn() override;
  void advance_link(Now at);
  void receive(Now at);
  void take(const Bytes& frame, Now at);
  void work();
  void submit_one();
  void draw_options(protocol::SubmitOptions* options);
  void flush(Now at);
  void cancel_some();
  void count(const protocol::SubmitOptions& options, bool too_large);
  void leave();
  void send(std::string frame);
  void change(std::string* frame);  // planted faults, and sequences of a session that began again

  const size_t number_;
  const size_t path_;
  Random random_;
  uint64_t lives_ = 0;
  std::string name_;
  bool finishing_ = false;
  bool leaving_ = false;  // says goodbye once nothing is owed
  Nanos next_burst_ = 0;

  Uuid id_;
  std::vector<Spooled> spool_;  // everything this producer ever submitted, by sequence, from 1
  uint64_t next_seq_ = 1;
  uint64_t floor_ = 1;  // as the spool knows it
  std::unique_ptr<Life> life_;
};

}  // namespace millrace::sim
