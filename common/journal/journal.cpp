#include "common/journal/journal.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/journal/background_reader.h"
#include "common/journal/batcher.h"
#include "common/journal/open.h"
#include "common/journal/place_reader.h"
#include "common/journal/segment_writer.h"
#include "common/os/wakeup.h"

namespace millrace::journal {
namespace {

using Outcome = SegmentWriter::Outcome;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kMaxChunk = 1 << 30;
constexpr Millis kRetry{100};      // between attempts during a shortage
constexpr Millis kSpacePoll{200};  // disk_free is not older, though nothing is written

// For people: what to provide is in it.
std::string describe(std::error_code shortage) {
  if (is_no_space(shortage)) return "the disk is full: " + shortage.message();
  return shortage.message();
}

class ThreadedJournal final : public Journal {
 public:
  ThreadedJournal(std::unique_ptr<Directory> directory, const JournalOptions& options, Scan scan,
                  Wakeup wakeup)
      : options_(options),
        wake_(std::move(wakeup)),
        directory_(std::move(directory)),
        scan_(std::move(scan)),
        reader_(*directory_),
        requested_(*directory_),
        background_reader_(std::in_place, requested_, [this] { wake_.signal(); }) {
    for (const SegmentInfo& segment : scan_.segments) stats_.bytes_on_disk += segment.bytes;
    stats_.segments = scan_.segments.size();
    stats_.disk_free = directory_->free_bytes();
    stats_.durable = {scan_.next.batch.value - 1};
  }

  ~ThreadedJournal() override {
    {
      std::lock_guard lock(mutex_);
      abandoned_ = stopping_ = true;
      batcher_.drop_pending();
    }
    work_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  Result<void> start(BrokerId broker, uint64_t incarnation) override {
    MILLRACE_CHECK(!writer_);
    writer_.emplace(*directory_, std::move(scan_), broker, incarnation, options_.fsync,
                    options_.segment_bytes);
    if (auto left = leave_room(); !left) return left;
    publish_stats();
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
      return Error{ExitCode::io,
                   fmt::format("the journal's thread can't be started: {}", error.what())};
    }
    return {};
  }

  uint64_t append(Chunk chunk, bool new_segment) override {
    MILLRACE_CHECK(writer_ && !chunk.empty() && chunk.bytes() <= kMaxChunk);
    uint64_t ticket;
    {
      std::lock_guard lock(mutex_);
      MILLRACE_CHECK(!stopping_);
      if (failure_) return batcher_.skip();
      ticket = batcher_.append(std::move(chunk), new_segment);
    }
    work_.notify_one();
    return ticket;
  }

  void retire(SegmentId last) override {
    {
      std::lock_guard lock(mutex_);
      batcher_.retire(last);
    }
    work_.notify_one();
  }

  std::vector<Committed> take_committed() override {
    wake_.drain();
    std::lock_guard lock(mutex_);
    return batcher_.take_committed();
  }

  int wake_fd() const override { return wake_.fd(); }

  std::optional<Error> failure() const override {
    std::lock_guard lock(mutex_);
    return failure_;
  }
  bool stalled() const override {
    std::lock_guard lock(mutex_);
    return stalled_;
  }
  std::string shortage() const override {
    std::lock_guard lock(mutex_);
    return stalled_ ? shortage_ : "";
  }
  JournalStats stats() const override {
    std::lock_guard lock(mutex_);
    return stats_;
  }

  Result<Body> read(Place place, size_t size) override {
    MILLRACE_CHECK(directory_);
    return reader_.read(place, size);
  }

  void request(const ReadRequest& request) override {
    MILLRACE_CHECK(background_reader_);
    background_reader_->request(request);
  }
  std::vector<ReadAnswer> take_read() override {
    return background_reader_ ? background_reader_->take() : std::vector<ReadAnswer>();
  }

  Result<void> stop() override {
    background_reader_.reset();
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_one();
    if (thread_.joinable()) thread_.join();
    if (writer_) end_ = writer_->next();
    writer_.reset();
    directory_.reset();
    if (auto error = failure()) return *error;
    return {};
  }
  Position end() const override { return end_; }

 private:
  // What the journal's thread does; all below runs there.
  void run() {
    Result<bool> more = true;
    while (more && *more) more = round();
    if (more && !abandoned()) {
      auto sealed = writer_->seal();  // without room for it the next start does it
      if (!sealed) more = sealed.error();
    }
    if (!more) fail(more.error());
  }

  // Waits for something to do and does it; false when all is done.
  Result<bool> round() {
    std::vector<PendingChunk> batch = wait();
    if (!batch.empty())
      if (auto committed = commit(batch); !committed) return committed.error();
    batch.clear();  // lets the frames go before the next wait
    if (writer_->unsynced() && sync_due_ <= Clock::now()) {
      if (auto synced = sync(); !synced) return synced.error();
    }
    if (auto left = leave_room(); !left) return left.error();
    if (auto retired = retire_next(); !retired) return retired.error();
    publish_stats();
    std::lock_guard lock(mutex_);
    return !(stopping_ && batcher_.empty());
  }

  std::vector<PendingChunk> wait() {
    std::unique_lock lock(mutex_);
    auto until = Clock::now() + kSpacePoll;
    if (options_.fsync == FsyncMode::interval && writer_->unsynced())
      until = std::min(until, sync_due_);
    work_.wait_until(lock, until, [&] {
      return !batcher_.empty() || stopping_ || batcher_.is_retirement_due();
    });
    return batcher_.take_batch();
  }

  Result<void> commit(std::span<const PendingChunk> chunks) {
    const Batch batch = batch_of(chunks);
    const bool new_segment = chunks.front().new_segment;
    bool was_unsynced = writer_->unsynced();
    auto begin = Clock::now();
    auto outcome = writer_->write(batch, new_segment, Now::read().wall);
    while (outcome && *outcome == Outcome::shortage) {
      if (auto waited = wait_out_shortage(); !waited) return waited;
      begin = Clock::now();
      outcome = writer_->write(batch, new_segment, Now::read().wall);
    }
    if (!outcome) return outcome.error();
    auto end = Clock::now();
    if (options_.fsync == FsyncMode::interval && !was_unsynced)
      sync_due_ = begin + options_.fsync_interval;
    publish(chunks, end - begin);
    return {};
  }

  // Returns when the time has come to try again; an Error when there will be no further attempt.
  Result<void> wait_out_shortage() {
    if (is_no_space(writer_->shortage())) {
      retired_ = SegmentWriter::Retired::deleted;
      if (auto dropped = writer_->drop_spares(); !dropped) return dropped;
    }
    if (auto retired = retire_next(); !retired) return retired.error();
    publish_stats();
    std::unique_lock lock(mutex_);
    shortage_ = describe(writer_->shortage());
    if (!std::exchange(stalled_, true)) wake_.signal();
    work_.wait_for(lock, kRetry, [&] { return stopping_; });
    if (!stopping_) return {};
    return Error{ExitCode::io,
                 fmt::format("{} can't be written to ({}): what was not yet {} is discarded",
                             directory_->path(), describe(writer_->shortage()),
                             directory_->terms().confirmed)};
  }

  // The owner may wait for room that the spares take.
  Result<void> leave_room() {
    const uint64_t wanted = options_.free_beside_spares;
    if (wanted == 0 || directory_->free_bytes() >= wanted) {
      retired_ = SegmentWriter::Retired::spare;
      return {};
    }
    retired_ = SegmentWriter::Retired::deleted;
    return writer_->drop_spares();
  }

  void publish(std::span<const PendingChunk> chunks, Clock::duration taken) {
    {
      std::lock_guard lock(mutex_);
      batcher_.committed(chunks, writer_->last_body());
      stalled_ = false;
      stats_.commits += 1;
      stats_.last_commit_us =
          uint64_t(std::chrono::duration_cast<std::chrono::microseconds>(taken).count());
      update_stats();
    }
    wake_.signal();
  }

  void publish_stats() {
    uint64_t free = directory_->free_bytes();
    std::lock_guard lock(mutex_);
    stats_.disk_free = free;
    update_stats();
  }

  void update_stats() {
    stats_.bytes_written = writer_->bytes_written();
    stats_.segments = writer_->segments();
    stats_.bytes_on_disk = writer_->bytes_on_disk();
    stats_.room = writer_->room();
    stats_.durable = writer_->durable();
    if (!writer_->unsynced()) {
      stats_.unsynced_since.reset();
    } else if (!stats_.unsynced_since) {
      stats_.unsynced_since = Clock::now();
    }
  }

  Result<void> sync() {
    sync_due_ = Clock::time_point::max();
    return writer_->sync();
  }

  // One segment at a time, so that many of them don't hold up the commits behind.
  Result<void> retire_next() {
    const auto retire_to = retirable();
    if (!retire_to) return {};
    if (auto synced = sync(); !synced) return synced;
    auto retired = writer_->retire_one(*retire_to, retired_);
    if (!retired) return retired.error();
    if (*retired) {
      reader_.forget(**retired);
      requested_.forget(**retired);
    } else {
      std::lock_guard lock(mutex_);
      batcher_.retired();
    }
    return {};
  }

  std::optional<SegmentId> retirable() {
    std::lock_guard lock(mutex_);
    return batcher_.retirable();
  }

  bool abandoned() const {
    std::lock_guard lock(mutex_);
    return abandoned_;
  }

  void fail(Error error) {
    {
      std::lock_guard lock(mutex_);
      failure_ = std::move(error);
      stalled_ = false;
      batcher_.drop_pending();
    }
    wake_.signal();
  }

  const JournalOptions options_;
  Wakeup wake_;
  std::unique_ptr<Directory> directory_;
  Scan scan_;              // until start()
  PlaceReader reader_;     // of read()
  PlaceReader requested_;  // of request()
  std::optional<BackgroundReader> background_reader_;

  // The journal thread's own.
  std::optional<SegmentWriter> writer_;
  Position end_;
  SegmentWriter::Retired retired_ = SegmentWriter::Retired::spare;  // what becomes of its file
  Clock::time_point sync_due_ = Clock::time_point::max();
  std::thread thread_;

  mutable std::mutex mutex_;  // for all below; never held while the disk is at work
  std::condition_variable work_;
  Batcher batcher_;
  bool stopping_ = false;
  bool abandoned_ = false;
  bool stalled_ = false;
  std::string shortage_;
  std::optional<Error> failure_;
  JournalStats stats_;
};

// Better refused at the start than met in the middle of a segment.
Result<void> check_file_size_limit(uint64_t segment_bytes) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
      limit.rlim_cur >= segment_bytes)
    return {};
  return Error{ExitCode::config,
               fmt::format("this process can write files of at most {} bytes, and a segment of the "
                           "journal needs {}: raise the limit (ulimit -f, or LimitFSIZE= of its "
                           "service)",
                           limit.rlim_cur, segment_bytes)};
}

}  // namespace

Result<std::unique_ptr<Journal>> open_journal(std::unique_ptr<Directory> directory,
                                              const JournalOptions& options,
                                              const Journal::Replay& replay, Recovered* recovered,
                                              std::optional<Position> snapshot) {
  auto end = snapshot ? scan_end(*directory, *snapshot) : std::nullopt;
  auto found = end ? Result<Scan>(*std::move(end)) : scan(*directory, replay);
  if (!found) return found.error();
  *recovered = found->recovered;
  if (auto finished = finish(*directory, &*found); !finished) return finished.error();
  auto wakeup = Wakeup::open();
  if (!wakeup) return wakeup.error();
  return std::unique_ptr<Journal>(std::make_unique<ThreadedJournal>(
      std::move(directory), options, std::move(*found), *std::move(wakeup)));
}

Result<std::unique_ptr<Journal>> Journal::open(const JournalOptions& options, const Replay& replay,
                                               Recovered* recovered,
                                               std::optional<Position> snapshot) {
  if (auto checked = check_file_size_limit(options.segment_bytes); !checked) return checked.error();
  auto directory = open_directory(options.directory, options.terms);
  if (!directory) return directory.error();
  return open_journal(std::move(*directory), options, replay, recovered, snapshot);
}

}  // namespace millrace::journal
