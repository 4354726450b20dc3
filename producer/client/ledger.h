// A producer's own record of what it sent and how that was answered, for the audit: the broker's
// journal alone could not show that a submission was lost on its way to the broker.
// Shape:   a file of JSON lines, only ever appended to; the first line of each run names its producer
//            {"producer":"9f…"}
//            {"producer":"9f…","resumed":true}  a run that may send again what has no answer
//            {"sent":[first_seq,count],"queue":"images"}           before the SUBMIT leaves
//            {"sent":[first_seq,1],"queue":"images","keyed":true}  with an idempotency key
//            {"sent":[…],"queue":"images","to":"10.0.0.1:5570"}    of several brokers: to this one
//            {"confirmed":[first_seq,count,first_job],"broker":"3f9a1c07"}
//            {"rejected":[first_seq,count],"reason":"queue_full"}
//          "confirmed" has "durability":"buffered" when the broker does not sync before it answers.
//          What is sent and neither confirmed nor rejected is unknown.
// Limits:  one run at a time: the file is locked
// Errors:  cant_create when it can't be opened, io when it can't be written: then nothing may leave
// Owns:    the file
// Threads: one thread
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "producer/client/append_file.h"
#include "producer/session/listener.h"

namespace millrace::producer {

struct LedgerEntries;

class Ledger {
 public:
  static Result<Ledger> open(const std::string& path, Uuid producer, bool resumed = false);
  // `to`: the broker, where there are several.
  void sent(const Sent& sent, std::string_view to = {});
  void confirmed(const Confirmed& confirmed);
  void rejected(const Rejected& rejected);
  // What it has lost of an earlier run, as that run had noted it.
  Result<void> restore(const LedgerEntries& lost, std::string_view queue);
  // One write(2) for all that was noted since the last. No SUBMIT may leave before it.
  Result<void> write();
  // All of it is on disk: required before a broker may forget the sequences.
  Result<void> sync() { return file_.sync(); }

 private:
  explicit Ledger(AppendFile file) : file_(std::move(file)) {}

  AppendFile file_;
  std::string pending_;
};

// What the ledgers of any number of runs say.
struct LedgerEntries {
  struct Sent {
    Uuid producer;
    SeqRange seqs;
    bool keyed = false;
    bool resumed = false;
    std::string to;  // empty: the only broker
  };
  struct Confirmed {
    Uuid producer;
    SeqRange seqs;
    BrokerId broker;
    JobId first_job;
  };
  std::vector<Uuid> producers;  // one for each run, in order
  std::vector<Sent> sent;
  std::vector<Confirmed> confirmed;
  std::vector<Sent> rejected;
};

// Adds the file's entries. A last line without an end, left by a crash, is not counted; anything
// else that is not a ledger's line is bad_data, naming file and line.
Result<void> read_ledger(const std::string& path, LedgerEntries* entries);

}  // namespace millrace::producer
