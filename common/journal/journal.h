// The journal: chunks of bytes in, durable positions out (docs/JOURNAL.md). What the bytes say, the
// owner knows: the broker (broker/records), or a producer's spool.
// Shape:   open() replays and prepares; append() queues; one thread takes all that is queued,
//          writes it as one batch, syncs, publishes. The disk's business sets the size of batches;
//          nothing waits on a timer.
//          1. committed() never covers a ticket whose bytes are not written and (fsync=always)
//             synced.  2. tickets commit in order.  3. a segment is retired only after the commit
//             that carried the retire() has been synced.
//          4. a segment begins with the chunk that was appended as its first, and nowhere else: the
//          owner alone can write what must stand there, a Checkpoint. segment_bytes is reserved for
//          each, and the owner's to keep to.
// Limits:  1 GiB a chunk; 4 GiB a segment, whatever segment_bytes is: beyond them it aborts
// Errors:  open() says file, offset and remedy; after a failed write or sync nothing is committed
//          any more, failure() says why, and the wake_fd becomes readable. A shortage of
//          space, descriptors or memory is no failure: the same batch is tried again each 100 ms,
//          and stalled() is true meanwhile.
// Owns:    the directory's lock, the segments, the threads: one writes; one reads, from the first
//          request() on
// Threads: open and append, retire, read, request, stop: one thread (the owner's). The rest: any.
// Source:  LevelDB's log format, TigerBeetle's journal; batches chained so that stale bytes of a
//          recycled segment can't pass
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "common/journal/chunk.h"
#include "common/journal/position.h"
#include "common/journal/terms.h"

namespace millrace::journal {

inline constexpr uint64_t kSegmentBytes = 64 << 20;
inline constexpr uint64_t kBlock = 4096;

enum class FsyncMode { always, interval, never };

struct JournalOptions {
  std::string directory;
  FsyncMode fsync = FsyncMode::always;
  Millis fsync_interval{100};
  uint64_t segment_bytes = kSegmentBytes;
  uint64_t free_beside_spares = 0;  // bytes; spares are deleted, and none made, while less is free
  Terms terms = kBrokerTerms;
};

// Where a chunk's first byte lies once it is written.
struct Place {
  SegmentId segment;
  uint32_t offset = 0;
  bool operator==(const Place&) const = default;
};

struct Committed {
  uint64_t ticket = 0;
  Place place;
};

// What was read back of the journal: the records of one batch, or of several that stand one behind
// the other, with what lies between them. Their checksums are right.
struct Body {
  Place at;  // of its first byte
  std::string_view bytes;
  std::shared_ptr<const void> owner;

  bool holds(Place place, size_t size) const {
    return place.segment == at.segment && place.offset >= at.offset &&
           place.offset - at.offset + size <= bytes.size();
  }
  std::string_view part(Place place, size_t size) const {
    return bytes.substr(place.offset - at.offset, size);
  }
};

// What is to be read back: the batch that holds `size` bytes (one or more) at a committed place,
// and what follows it in the segment before `until`, as far as one read takes it.
struct ReadRequest {
  uint64_t number = 0;  // the answer's
  Place at;
  uint32_t size = 0;
  uint32_t until = 0;
};

struct ReadAnswer {
  uint64_t number = 0;
  Result<Body> body;
};

struct JournalStats {
  uint64_t commits = 0;
  uint64_t bytes_written = 0;  // with headers and padding
  uint64_t segments = 0;
  uint64_t bytes_on_disk = 0;
  uint64_t disk_free = 0;       // bytes, as of the last commit or poll
  uint64_t room = 0;            // bytes reserved on the disk for the segment that is being written
  uint64_t last_commit_us = 0;  // write and sync of the last batch
  BatchSeq durable;             // the last batch that is on disk
  // When the oldest batch was written that is not; never set under FsyncMode::always.
  std::optional<Mono> unsynced_since;
};

// What a replay found; empty in a new directory.
struct Recovered {
  uint64_t batches = 0;
  uint64_t records = 0;
  uint64_t bytes = 0;
  std::optional<std::string> torn_tail;  // where a commit was cut off, for the log
  bool fresh = false;                    // the directory held no segment
  std::optional<BrokerId> broker;        // as the segments' headers say, even where no record does
  bool resumed = false;                  // it ended where a snapshot said: nothing was replayed
};

class Journal {
 public:
  // Called for the body of each batch, in order, with the place of its first byte; the bytes are
  // valid during the call. 65: they are not what they should be, at `*at`, which the callee may
  // have moved.
  using Replay = std::function<Result<void>(std::string_view body, Place* at)>;

  // Creates the directory if it is not there (its parent must be), takes the lock, replays, copies
  // the tail. Exit codes: 73 can't create, not a directory, not writable, or locked (naming the
  // holder's pid and host); 65 damage or another format version; 74 I/O; 78 the process's limit of
  // a file's size is below a segment's. If the journal ends at `snapshot`, nothing is replayed, and
  // only the last segment is read.
  static Result<std::unique_ptr<Journal>> open(const JournalOptions& options, const Replay& replay,
                                               Recovered* recovered,
                                               std::optional<Position> snapshot = std::nullopt);
  virtual ~Journal() = default;

  // Begins to write. The first chunk appended opens a new segment; the broker id is put into
  // segment headers, the incarnation into batches.
  virtual Result<void> start(BrokerId broker, uint64_t incarnation) = 0;

  // Queues a chunk; returns its ticket (1, 2, …). With `new_segment` the chunk is the first of a
  // new segment, and must begin with a Checkpoint.
  virtual uint64_t append(Chunk chunk, bool new_segment) = 0;
  // Segments up to and including this one are no longer needed, once everything appended so far is
  // committed.
  virtual void retire(SegmentId last) = 0;

  // What has been committed since the last call, in order. Clears the wake_fd.
  virtual std::vector<Committed> take_committed() = 0;
  // An eventfd: readable when there is something to take (committed or read), or failure() or
  // stalled() has changed.
  virtual int wake_fd() const = 0;
  virtual std::optional<Error> failure() const = 0;
  virtual bool stalled() const = 0;          // a shortage: the pending batch is being retried
  virtual std::string shortage() const = 0;  // what is short while it is stalled, else nothing
  virtual JournalStats stats() const = 0;

  // Reads the batch that holds `size` bytes (one or more) at a committed place: 65, with file,
  // offset and remedy, if it is damaged; 74 I/O.
  virtual Result<Body> read(Place place, size_t size) = 0;
  // The same in a thread of its own: the answer comes with take_read(), and the wake_fd tells of
  // it. Until it is there the segment must not be retired. Answers may come in any order, and not
  // at all after stop().
  virtual void request(const ReadRequest& request) = 0;
  virtual std::vector<ReadAnswer> take_read() = 0;

  // Commits what is queued, seals the segment, ends the thread, releases the lock. With a full
  // disk, what is queued is given up. A journal that is destroyed without it drops what is queued.
  virtual Result<void> stop() = 0;
  virtual Position end() const = 0;  // after stop()
};

}  // namespace millrace::journal
