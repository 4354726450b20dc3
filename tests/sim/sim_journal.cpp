#include "tests/sim/sim_journal.h"

#include "common/base/check.h"

namespace millrace::sim {

using namespace journal;

namespace {

constexpr Nanos kRetry = 100 * kMilli;

}  // namespace

SimJournal::SimJournal(World& world, Disk& disk, DiskTrouble& trouble, Timing timing, Random random,
                       std::function<void()> wake)
    : world_(world),
      disk_(disk),
      trouble_(trouble),
      timing_(timing),
      random_(random),
      read_random_(random.fork("reads")),
      wake_(std::move(wake)),
      directory_(disk, trouble),
      reader_(directory_) {}

SimJournal::~SimJournal() { *alive_ = false; }

void SimJournal::after(Nanos wait, std::function<void()> action) {
  world_.after(wait, [alive = alive_, action = std::move(action)] {
    if (*alive) action();
  });
}

Nanos SimJournal::duration(const DiskOp& op) {
  bool syncs = op.kind == DiskOp::sync || op.kind == DiskOp::failed_sync ||
               op.kind == DiskOp::sync_directory;
  if (!syncs) return random_.between(2 * kMicro, 50 * kMicro);
  return random_.between(timing_.sync / 2, timing_.sync * 3 / 2) + trouble_.sync_extra;
}

void SimJournal::let_through(std::function<void()> then) {
  busy_ = true;
  apply(std::make_shared<std::vector<DiskOp>>(directory_.take_ops()), 0, std::move(then));
}

void SimJournal::apply(std::shared_ptr<std::vector<DiskOp>> ops, size_t at,
                       std::function<void()> then) {
  if (at == ops->size()) {
    busy_ = false;
    return then();
  }
  after(duration((*ops)[at]), [this, ops, at, then = std::move(then)]() mutable {
    const DiskOp& op = (*ops)[at];
    world_.note("disk", [&] { return describe(op); });
    disk_.apply(op);
    if (trouble_.power_after > 0 && --trouble_.power_after == 0)
      world_.after(0, std::exchange(trouble_.power_lost, nullptr));
    apply(ops, at + 1, std::move(then));
  });
}

Result<Recovered> SimJournal::open(const Replay& replay, std::optional<Position> snapshot,
                                   std::function<void()> opened) {
  auto end = snapshot ? scan_end(directory_, *snapshot, 0) : std::nullopt;
  auto found = end ? Result<Scan>(*std::move(end)) : scan(directory_, replay);
  if (!found) return found.error();
  scan_ = std::move(*found);
  auto finished = finish(directory_, &scan_);
  // What an unfinished start did before its error stays.
  let_through([opened = finished ? std::move(opened) : std::function<void()>([] {})] { opened(); });
  if (!finished) return finished.error();
  return scan_.recovered;
}

Result<void> SimJournal::start(BrokerId broker, uint64_t incarnation) {
  writer_.emplace(directory_, std::move(scan_), broker, incarnation, FsyncMode::always,
                  timing_.segment_bytes);
  return {};
}

uint64_t SimJournal::append(Chunk chunk, bool new_segment) {
  MILLRACE_CHECK(writer_ && !chunk.empty() && !closed_);
  if (failure_) return batcher_.skip();
  const uint64_t ticket = batcher_.append(std::move(chunk), new_segment);
  next();
  return ticket;
}

void SimJournal::retire(SegmentId last) {
  batcher_.retire(last);
  next();
}

void SimJournal::close(std::function<void()> closed) {
  closed_ = std::move(closed);
  next();
}

void SimJournal::next() {
  if (busy_ || failure_ || sealed_) return;
  if (batch_.empty()) batch_ = batcher_.take_batch();
  if (!batch_.empty()) return commit();
  if (retire_one()) return;
  if (!closed_) return;
  sealed_ = true;
  auto sealed = writer_->seal();
  let_through([this, sealed] {
    if (!sealed) return fail(sealed.error());
    closed_();
  });
}

// The same batch again after a shortage.
void SimJournal::commit() {
  auto outcome =
      writer_->write(batch_of(batch_), batch_[0].new_segment, wall_from_int(world_.now() / kMilli));
  let_through([this, outcome] {
    if (!outcome) return fail(outcome.error());
    if (*outcome == Outcome::shortage) return wait_for_space();
    committed();
    next();
  });
}

void SimJournal::committed() {
  batcher_.committed(batch_, writer_->last_body());
  batch_.clear();
  stalled_ = false;
  wake_();
}

void SimJournal::wait_for_space() {
  if (auto dropped = writer_->drop_spares(); !dropped) return fail(dropped.error());
  busy_ = true;
  bool changed = !std::exchange(stalled_, true);
  if (changed) wake_();
  let_through([this] {
    // A full disk is no reason not to give back what is no longer needed.
    if (retire_one()) return;
    busy_ = true;
    after(kRetry, [this] {
      busy_ = false;
      if (!closed_) return next();
      fail({ExitCode::io, "the disk is full: what was not yet confirmed is discarded"});
    });
  });
}

// One segment; whether there was one to retire.
bool SimJournal::retire_one() {
  const auto retire_to = batcher_.retirable();
  if (!retire_to) return false;
  auto synced = writer_->sync();
  auto retired =
      synced ? writer_->retire_one(*retire_to) : Result<std::optional<SegmentId>>(synced.error());
  if (retired && !*retired) {
    batcher_.retired();
    return false;
  }
  let_through([this, retired] {
    if (!retired) return fail(retired.error());
    disk_.count("segments retired");
    reader_.forget(**retired);
    next();
  });
  return true;
}

void SimJournal::fail(Error error) {
  failure_ = std::move(error);
  stalled_ = false;
  batcher_.drop_pending();
  batch_.clear();
  wake_();
}

JournalStats SimJournal::stats() const {
  JournalStats stats;
  stats.disk_free = const_cast<SimDirectory&>(directory_).free_bytes();
  if (!writer_) return stats;
  stats.bytes_written = writer_->bytes_written();
  stats.segments = writer_->segments();
  stats.bytes_on_disk = writer_->bytes_on_disk();
  stats.room = writer_->room();
  stats.durable = writer_->durable();
  return stats;
}

Result<journal::Body> SimJournal::read(Place, size_t) {
  MILLRACE_CHECK(false);
  return Body{};
}

// Most are quick; some stand behind whatever else the disk does.
Nanos SimJournal::read_duration() {
  const Nanos most = read_random_.chance(50) ? 2 * kSecond : timing_.sync;
  return read_random_.between(10 * kMicro, std::max(most, 20 * kMicro)) + trouble_.read_extra;
}

void SimJournal::request(const ReadRequest& request) {
  after(read_duration(), [this, request] {
    disk_.count("reads");
    answers_.push_back({request.number, reader_.read(request.at, request.size, request.until)});
    wake_();
  });
}

Result<void> SimJournal::stop() {
  MILLRACE_CHECK(false);
  return {};
}

}  // namespace millrace::sim
