// Where each live job's payload is: in the frame that brought it, while there is room, and in the
// journal always. The core knows jobs by number only; this knows their bytes. And in which segment
// a
// result stands that is kept of a job that is done: so it knows which segments are needed.
// Shape:   accept() → placed() when its commit is durable → fetch() until it is in memory, and
//          payload() in the same round → retire();
//          settle() in between leaves the result; relocate() and placed() move a job's bytes, or its
//          result, to a newer segment, so that the old one can go
// Units:   bytes
// Limits:  12 bytes a live job; frames in memory up to `budget`, then payloads are read back from
//          the journal in whole batches, since jobs leave in the order they came (read_back.h)
// Errors:  take_read() fails if the journal can't be read, or is damaged, where a payload is
// Owns:    shares in the frames; the journal must outlive it
// Threads: one
#pragma once

#include <tsl/robin_map.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/core/state/slot_table.h"
#include "broker/core/state/state.h"
#include "broker/records/records.h"
#include "broker/server/read_back.h"
#include "common/journal/journal.h"

namespace millrace::server {

class PayloadStore {
 public:
  explicit PayloadStore(uint64_t budget, ReadBackLimits limits = {})
      : budget_(budget), read_back_(limits) {}
  void set_journal(journal::Journal* journal) { read_back_.set_journal(journal); }

  // Jobs whose payloads lie in `owner`; the payload array begins at `offset` of the chunk that will
  // be committed with `ticket`.
  void accept(const records::Accepted& record, std::shared_ptr<const void> owner, uint64_t ticket,
              size_t offset);
  void placed(uint64_t ticket, journal::Place chunk);
  // The job's payload, or its result, stands in the chunk a second time.
  void relocate(JobId job, uint64_t ticket, size_t offset);
  // The same in recovery, where the bytes are in the journal already.
  void restore(const records::Accepted& record, journal::Place payload_array);
  void restore(const records::Relocated& record, journal::Place payload);
  void restore(const records::ResultRetained& record, SegmentId segment);

  // Payloads that stand in the journal at equal distances.
  struct Run {
    uint64_t first_job = 0;
    uint32_t count = 0;
    uint32_t segment = 0;
    uint32_t offset = 0;  // of the first
    uint32_t size = 0;    // of each
    uint32_t stride = 0;  // from one to the next
    uint32_t reserved = 0;
  };
  static_assert(sizeof(Run) == 32);
  std::vector<Run> runs() const;
  void restore(const Run& run);

  struct Bytes {
    std::string_view view;
    std::shared_ptr<const void>
        owner;  // of what was read back; null: the view holds until retire()
  };
  // Whether the job's payload is in memory; if not, it is on its way, or too many are: then the
  // journal wakes the loop, and the question is to be asked again.
  bool fetch(JobId job, ReadBack::Need need = ReadBack::Need::now);
  bool is_in_memory(JobId job);
  bool is_outstanding(JobId job) const;  // it is being read, or will be when less is
  // What the journal has read since the last call; first thing in a round.
  Result<void> take_read();
  std::optional<std::string> take_shortage() { return read_back_.take_shortage(); }
  Bytes payload(JobId job);         // which fetch() has found in this round
  Bytes shared_payload(JobId job);  // the same, with an owner in any case
  size_t size_of(JobId job);        // of its payload
  // The job is done: its payload is no longer needed, but its result is, which stands in the
  // segment
  // of the payload or behind it, and goes without it.
  void settle(JobId job, uint64_t result_bytes);
  bool is_settled(JobId job) const { return results_.contains(job); }
  void retire(protocol::JobRange jobs);
  // Settles and retires what the state has done with since the last time.
  void follow(core::State& state);

  struct RetainedResult {
    uint32_t segment = 0;
    uint32_t size = 0;
  };
  // By job: the oldest segment that each result needs.
  const tsl::robin_map<JobId, RetainedResult>& results() const { return results_; }
  void restore(JobId job, RetainedResult result);

  // The newest segment that, with all before it, holds no job and is older than `current`; each
  // one once.
  std::optional<SegmentId> retirable(SegmentId current);
  SegmentId oldest_segment(SegmentId current) const {  // that holds a job, or `current`
    return segments_.empty() ? current : SegmentId{segments_.begin()->first};
  }
  // Of the oldest segment that holds jobs or results, if that is older than `current`: what
  // relocating them takes, without history, and how many segments that frees: it, and those up to
  // the next that holds any.
  struct Oldest {
    uint64_t live = 0;
    uint64_t bytes = 0;
    uint64_t segments = 0;
  };
  Oldest oldest(SegmentId current) const;
  uint64_t live() const { return slots_.size() + results_.size(); }
  // Jobs in the oldest segment, if that is older than `current`: some that were not named
  // before, of about so many bytes in all. Their payloads are in memory: it stops at one that has
  // to be read first.
  std::vector<JobId> oldest_live_jobs(SegmentId current, size_t bytes);
  // What jobs and results would take in the journal if all were relocated now, roughly; without
  // history.
  uint64_t live_bytes() const { return live_bytes_ + live() * kRelocatedFields; }
  uint64_t bytes_in_memory() const { return bytes_in_memory_; }  // of frames
  uint64_t read_back_bytes() const { return read_back_.bytes(); }

 private:
  struct Slot {
    uint32_t segment = 0;
    uint32_t offset = 0;
    uint32_t size = 0;
    journal::Place place() const { return {{segment}, offset}; }
  };
  struct Group {  // the jobs of one frame
    std::vector<std::string_view> payloads;
    std::shared_ptr<const void> owner;
    uint64_t live = 0;
    uint64_t bytes = 0;
  };
  struct Uncommitted {
    uint64_t ticket = 0;
    JobId first;
    size_t offset = 0;  // of the payload array in the chunk
    const char* array = nullptr;
  };
  struct Relocation {
    uint64_t ticket = 0;
    JobId job;
    size_t offset = 0;
  };
  struct Segment {
    uint64_t live = 0;                     // payloads and results
    uint64_t bytes = 0;                    // of these
    std::vector<protocol::JobRange> jobs;  // that were placed here, whatever became of them
    size_t named = 0;                      // of `jobs`, by oldest_live_jobs()
  };
  using Groups = std::map<JobId, Group>;

  static constexpr size_t kRelocatedFields =
      112;  // of a Relocated record beside payload and history
  static constexpr uint64_t kLookAhead = 1 << 20;  // jobs, to find what to read next

  Groups::iterator group_of(JobId job);
  void forget(Groups::iterator group);
  void put(JobId first, const std::vector<std::string_view>& payloads, const char* array,
           journal::Place place);
  void put_at(JobId job, journal::Place place, size_t size);
  void put_result(JobId job, RetainedResult result);
  void enter(uint32_t segment, uint64_t size);
  void name(JobId job, uint32_t segment);  // among the jobs that were placed there
  void leave(uint32_t segment, uint64_t size);
  bool stands_in(JobId job, uint64_t segment) const;
  void retire_payload(JobId job, const Slot& slot);
  void request(JobId job, const Slot& slot, ReadBack::Need need);
  void read_ahead(JobId job, const journal::Body& body);
  std::optional<JobId> first_beyond(JobId job, const journal::Body& body) const;

  uint64_t budget_;
  core::SlotTable<Slot> slots_;
  tsl::robin_map<JobId, RetainedResult> results_;
  Groups groups_;
  Groups::iterator recent_ = groups_.end();
  std::deque<Uncommitted> uncommitted_;
  std::vector<core::State::Settled> settled_early_;  // before they were placed
  std::vector<protocol::JobRange> retired_early_;    // likewise
  std::deque<Relocation> relocated_;
  std::map<uint64_t, Segment> segments_;
  uint64_t live_bytes_ = 0;
  SegmentId retired_;
  uint64_t bytes_in_memory_ = 0;
  ReadBack read_back_;
};

}  // namespace millrace::server
