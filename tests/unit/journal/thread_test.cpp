#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "common/journal/open.h"
#include "tests/catch.h"
#include "tests/crash/journal_fixture.h"

using namespace millrace;
using namespace millrace::journal;
using namespace millrace::test;

namespace {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/millrace-journal-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

JournalOptions options_of(const std::string& directory, FsyncMode fsync = FsyncMode::always) {
  JournalOptions options;
  options.directory = directory;
  options.fsync = fsync;
  options.fsync_interval = Millis(1);
  options.segment_bytes = 1 << 20;
  return options;
}

struct Opened {
  std::unique_ptr<Journal> journal;
  Replayed replayed;
};

Opened open_and_start(const std::string& directory, uint64_t incarnation,
                      FsyncMode fsync = FsyncMode::always) {
  Opened opened;
  auto journal = Journal::open(options_of(directory, fsync), opened.replayed.visitor(),
                               &opened.replayed.recovered);
  REQUIRE(journal.ok());
  opened.journal = std::move(*journal);
  REQUIRE(opened.journal->start(kBroker, incarnation).ok());
  return opened;
}

// Over a directory in memory, with its faults.
std::unique_ptr<Journal> open_fake(const std::shared_ptr<Faults>& faults, Disk disk = {},
                                   uint64_t free_beside_spares = 0) {
  Recovered recovered;
  JournalOptions options = options_of("fake");
  options.free_beside_spares = free_beside_spares;
  auto journal = open_journal(
      std::make_unique<FakeDirectory>(std::move(disk), faults), options,
      [](std::string_view, Place*) { return Result<void>(); }, &recovered);
  REQUIRE(journal.ok());
  REQUIRE((*journal)->start(kBroker, 1).ok());
  return std::move(*journal);
}

void set(const std::shared_ptr<Faults>& faults, int write_errno, int sync_errno = 0) {
  std::lock_guard lock(faults->mutex);
  faults->write_errno = write_errno;
  faults->sync_errno = sync_errno;
}

// Waits for the journal's word until `done`; false when it has not come in time.
template <typename Done>
bool await(Journal& journal, std::vector<Committed>* committed, Done&& done) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (;;) {
    for (const Committed& item : journal.take_committed()) committed->push_back(item);
    if (done()) return true;
    if (std::chrono::steady_clock::now() > deadline) return false;
    pollfd ready{journal.wake_fd(), POLLIN, 0};
    ::poll(&ready, 1, 1000);
  }
}

std::vector<Committed> await_tickets(Journal& journal, size_t count) {
  std::vector<Committed> committed;
  REQUIRE(await(journal, &committed, [&] { return committed.size() >= count; }));
  REQUIRE(committed.size() == count);
  return committed;
}

// Lets the disk have so much room, and waits until the journal has seen it.
void await_look_at_space(Journal& journal, const std::shared_ptr<Faults>& faults, uint64_t bytes) {
  {
    std::lock_guard lock(faults->mutex);
    faults->free_bytes = bytes;
  }
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (journal.stats().disk_free != bytes) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
}

std::string refusal(const std::string& path) {
  Recovered recovered;
  auto refused = Journal::open(
      options_of(path), [](std::string_view, Place*) { return Result<void>(); }, &recovered);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ExitCode::cant_create);
  return refused.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("tickets commit in order, each at its place, and come back at the next start",
          "[journal]") {
  TemporaryDirectory base;
  constexpr uint64_t kTickets = 2000;
  {
    Opened opened = open_and_start(base / "data", 1);
    CHECK(opened.replayed.recovered.fresh);
    std::vector<Committed> committed;
    for (uint64_t ticket = 1; ticket <= kTickets; ++ticket) {
      CHECK(opened.journal->append(chunk_of(ticket, ticket * 37 % 3000), ticket % 500 == 1) ==
            ticket);
      if (ticket % 100 != 0) continue;
      for (const Committed& item : opened.journal->take_committed()) committed.push_back(item);
    }
    REQUIRE(await(*opened.journal, &committed, [&] { return committed.size() == kTickets; }));
    for (uint64_t ticket = 1; ticket <= kTickets; ++ticket) {
      const Committed& item = committed[ticket - 1];
      REQUIRE(item.ticket == ticket);
      REQUIRE(item.place.segment == SegmentId{(ticket - 1) / 500 + 1});
      records::Chunk chunk = chunk_of(ticket, ticket * 37 % 3000);
      auto body = opened.journal->read(item.place, chunk.bytes());
      REQUIRE(body.ok());
      REQUIRE(body->part(item.place, chunk.bytes()) == chunk.parts().front());
    }
    JournalStats stats = opened.journal->stats();
    CHECK(stats.commits >= 4);
    CHECK(stats.commits <= kTickets);
    CHECK(stats.segments == 4);
    CHECK(stats.bytes_written >= kTickets * 1400);
    CHECK(stats.bytes_on_disk >= stats.bytes_written);
    CHECK(stats.disk_free > 0);
    CHECK(stats.durable == BatchSeq{stats.commits + 3});  // and three seals
    REQUIRE(opened.journal->stop().ok());
  }
  Opened again = open_and_start(base / "data", 2);
  REQUIRE(again.replayed.tickets.size() == kTickets);
  for (uint64_t i = 0; i < kTickets; ++i) REQUIRE(again.replayed.tickets[i] == i + 1);
  const Place place = again.replayed.places[41];
  auto body = again.journal->read(place, again.replayed.sizes[41]);
  REQUIRE(body.ok());
  CHECK(body->part(place, again.replayed.sizes[41]).ends_with(payload_of(42, 42 * 37 % 3000)));
  REQUIRE(again.journal->stop().ok());
}

TEST_CASE("a journal destroyed without a stop has lost nothing that was committed", "[journal]") {
  TemporaryDirectory base;
  {
    Opened opened = open_and_start(base / "data", 1);
    opened.journal->append(chunk_of(1, 100), true);
    await_tickets(*opened.journal, 1);
  }
  Opened again = open_and_start(base / "data", 2);
  CHECK(again.replayed.tickets == std::vector<uint64_t>{1});
}

TEST_CASE("a stop commits what is queued", "[journal]") {
  TemporaryDirectory base;
  for (FsyncMode fsync : {FsyncMode::always, FsyncMode::interval, FsyncMode::never}) {
    std::string directory = base / std::to_string(int(fsync));
    {
      Opened opened = open_and_start(directory, 1, fsync);
      for (uint64_t ticket = 1; ticket <= 50; ++ticket)
        opened.journal->append(chunk_of(ticket, 500), ticket == 1);
      REQUIRE(opened.journal->stop().ok());
      CHECK(opened.journal->take_committed().size() == 50);
    }
    CHECK(open_and_start(directory, 2, fsync).replayed.tickets.size() == 50);
  }
}

TEST_CASE("with fsync=interval a commit is told at once, and synced within the interval",
          "[journal]") {
  TemporaryDirectory base;
  Opened opened = open_and_start(base / "data", 1, FsyncMode::interval);
  opened.journal->append(chunk_of(1, 100), true);
  await_tickets(*opened.journal, 1);
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (opened.journal->stats().durable < BatchSeq{1}) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
}

TEST_CASE("retired segments go once what was appended before is committed", "[journal]") {
  TemporaryDirectory base;
  Opened opened = open_and_start(base / "data", 1);
  for (uint64_t ticket = 1; ticket <= 4; ++ticket)
    opened.journal->append(chunk_of(ticket, 100), true);
  opened.journal->retire({2});
  await_tickets(*opened.journal, 4);
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (opened.journal->stats().segments != 2) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
  REQUIRE(opened.journal->stop().ok());
  CHECK(open_and_start(base / "data", 2).replayed.tickets == std::vector<uint64_t>{3, 4});
}

TEST_CASE("spares go, and no new ones come, while less is free than the owner wants", "[journal]") {
  constexpr uint64_t kSegment = 1 << 20, kWanted = 10 << 20;
  auto faults = std::make_shared<Faults>();
  Disk disk;
  disk.put("spare-0000000000000001.mrj", std::string(kSegment, 's'));
  faults->free_bytes = kWanted - 1;
  auto journal = open_fake(faults, std::move(disk), kWanted);
  CHECK(journal->stats().bytes_on_disk == 0);  // before the thread has begun

  uint64_t ticket = 0;
  auto retire_all_but_last = [&] {
    for (int i = 0; i < 3; ++i) {
      journal->append(chunk_of(++ticket, kSegment - kSegment / 8), true);
      await_tickets(*journal, 1);
    }
    journal->retire({ticket - 1});
  };
  auto await_on_disk = [&](uint64_t segments) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (journal->stats().segments != 1 ||
           journal->stats().bytes_on_disk != segments * kSegment) {
      INFO(journal->stats().bytes_on_disk);
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      std::this_thread::yield();
    }
  };
  retire_all_but_last();
  await_on_disk(1);
  await_look_at_space(*journal, faults, kWanted);
  retire_all_but_last();
  await_on_disk(3);
  await_look_at_space(*journal, faults, kWanted - 1);
  await_on_disk(1);
}

TEST_CASE("a full disk stalls the journal, and room ends it", "[journal]") {
  auto faults = std::make_shared<Faults>();
  auto journal = open_fake(faults);
  journal->append(chunk_of(1, 100), true);
  await_tickets(*journal, 1);
  set(faults, ENOSPC);
  {
    std::lock_guard lock(faults->mutex);
    faults->free_bytes = 0;
  }
  journal->append(chunk_of(2, 100), false);
  std::vector<Committed> committed;
  REQUIRE(await(*journal, &committed, [&] { return journal->stalled(); }));
  CHECK(committed.empty());
  CHECK_FALSE(journal->failure());
  CHECK(journal->stats().disk_free == 0);
  journal->append(chunk_of(3, 100), false);
  set(faults, 0);
  auto after = await_tickets(*journal, 2);
  CHECK(after[0].ticket == 2);
  CHECK(after[1].ticket == 3);
  CHECK_FALSE(journal->stalled());
  CHECK_FALSE(journal->failure());
  REQUIRE(journal->stop().ok());
}

TEST_CASE("a lack of descriptors stalls the journal, and says what is short", "[journal]") {
  auto faults = std::make_shared<Faults>();
  auto journal = open_fake(faults);
  journal->append(chunk_of(1, 100), true);
  await_tickets(*journal, 1);
  CHECK(journal->shortage().empty());
  auto set_names = [&](int number) {
    std::lock_guard lock(faults->mutex);
    faults->names_errno = number;
  };
  set_names(EMFILE);
  journal->append(chunk_of(2, 100), true);
  std::vector<Committed> committed;
  REQUIRE(await(*journal, &committed, [&] { return journal->stalled(); }));
  CHECK(contains(journal->shortage(), "Too many open files"));
  CHECK_FALSE(journal->failure());
  set_names(0);
  await_tickets(*journal, 1);
  CHECK(journal->shortage().empty());
  REQUIRE(journal->stop().ok());
}

TEST_CASE("nothing is retired before what was appended before it is committed", "[journal]") {
  auto faults = std::make_shared<Faults>();
  auto journal = open_fake(faults);
  for (uint64_t ticket = 1; ticket <= 3; ++ticket) journal->append(chunk_of(ticket, 100), true);
  await_tickets(*journal, 3);
  set(faults, ENOSPC);
  journal->append(chunk_of(4, 100), false);
  std::vector<Committed> committed;
  REQUIRE(await(*journal, &committed, [&] { return journal->stalled(); }));
  journal->retire({1});
  await_look_at_space(*journal, faults, 4711);
  await_look_at_space(*journal, faults, 4712);  // so there was a whole round since
  CHECK(journal->stats().segments == 3);
  set(faults, 0);
  await_tickets(*journal, 1);
  await_look_at_space(*journal, faults, 4713);
  await_look_at_space(*journal, faults, 4714);
  CHECK(journal->stats().segments == 2);
  REQUIRE(journal->stop().ok());
}

TEST_CASE("a stop while the disk is full gives up, and says so", "[journal]") {
  auto faults = std::make_shared<Faults>();
  auto journal = open_fake(faults);
  set(faults, ENOSPC);
  journal->append(chunk_of(1, 100), true);
  std::vector<Committed> committed;
  REQUIRE(await(*journal, &committed, [&] { return journal->stalled(); }));
  auto stopped = journal->stop();
  REQUIRE_FALSE(stopped.ok());
  CHECK(stopped.error().code == ExitCode::io);
  CHECK(contains(stopped.error().message, "full"));
  CHECK(journal->take_committed().empty());
}

TEST_CASE("after an error of the disk nothing is committed any more", "[journal]") {
  for (bool in_sync : {false, true}) {
    auto faults = std::make_shared<Faults>();
    auto journal = open_fake(faults);
    journal->append(chunk_of(1, 100), true);
    await_tickets(*journal, 1);
    set(faults, in_sync ? 0 : EIO, in_sync ? EIO : 0);
    journal->append(chunk_of(2, 100), false);
    std::vector<Committed> committed;
    REQUIRE(await(*journal, &committed, [&] { return journal->failure().has_value(); }));
    CHECK(journal->failure()->code == ExitCode::io);
    CHECK(contains(journal->failure()->message, in_sync ? "can't be synced" : "can't be written"));
    set(faults, 0);
    CHECK(journal->append(chunk_of(3, 100), false) == 3);  // the disk is well again: too late
    CHECK_FALSE(journal->stop().ok());
    for (const Committed& item : journal->take_committed()) committed.push_back(item);
    CHECK(committed.empty());
    CHECK(journal->stats().durable == BatchSeq{1});
  }
}

TEST_CASE("free space is looked at while nothing is written", "[journal]") {
  auto faults = std::make_shared<Faults>();
  auto journal = open_fake(faults);
  await_look_at_space(*journal, faults, 4711);
}

TEST_CASE("a directory that is in use is refused, with its holder", "[journal]") {
  TemporaryDirectory base;
  {
    Opened opened = open_and_start(base / "data", 1);
    std::string message = refusal(base / "data");
    CHECK(contains(message, "in use by pid " + std::to_string(::getpid()) + " on host "));
    REQUIRE(opened.journal->stop().ok());
    open_and_start(base / "data", 2);  // a stopped journal has let go
  }
  open_and_start(base / "data", 3);  // and so has one that is gone
}

TEST_CASE("a directory that can't be one is refused, with the reason", "[journal]") {
  TemporaryDirectory base;
  std::ofstream(base / "file") << "x";
  CHECK(contains(refusal(base / "file"), "is a file"));
  CHECK(contains(refusal(base / "file/data"), "can't be created"));
  CHECK(contains(refusal(base / "missing/data"), "its parent directory does not exist"));
  std::filesystem::create_directories(base / "odd/LOCK");
  CHECK(contains(refusal(base / "odd"), "LOCK is a directory, not a file"));
}

TEST_CASE("a directory that this user may not write to is refused", "[journal]") {
  TemporaryDirectory base;
  std::filesystem::create_directory(base / "data");
  ::chmod((base / "data").c_str(), 0555);
  ::chmod((base / "").c_str(), 0755);
  bool was_root = ::geteuid() == 0;
  if (was_root) REQUIRE(::seteuid(65534) == 0);
  std::string message = refusal(base / "data");
  std::string below = refusal(base / "data/deeper");
  if (was_root) REQUIRE(::seteuid(0) == 0);
  CHECK(contains(message, "not writable"));
  CHECK(contains(below, "can't be created"));
}

TEST_CASE("real files: a torn tail is dropped, and damage refused", "[journal]") {
  TemporaryDirectory base;
  {
    Opened opened = open_and_start(base / "data", 1);
    for (uint64_t ticket = 1; ticket <= 3; ++ticket) {
      opened.journal->append(chunk_of(ticket, 100), ticket == 1);
      await_tickets(*opened.journal, 1);
    }
  }
  std::string segment = base / "data/segment-0000000000000001.mrj";
  auto flip = [&](std::streamoff offset) {
    std::fstream file(segment, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(offset);
    char byte = char(file.get() ^ 1);
    file.seekp(offset);
    file.put(byte);
  };
  flip(2 * kBlock + 70);
  Recovered recovered;
  auto refused = Journal::open(
      options_of(base / "data"), [](std::string_view, Place*) { return Result<void>(); },
      &recovered);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ExitCode::bad_data);
  CHECK(contains(refused.error().message, segment + " at byte 8192"));
  flip(2 * kBlock + 70);
  flip(3 * kBlock + 70);
  Opened again = open_and_start(base / "data", 2);
  CHECK(again.replayed.tickets == std::vector<uint64_t>{1, 2});
  CHECK(again.replayed.recovered.torn_tail);
}

TEST_CASE("the visitor's error ends the start", "[journal]") {
  TemporaryDirectory base;
  {
    Opened opened = open_and_start(base / "data", 1);
    opened.journal->append(chunk_of(1, 100), true);
    opened.journal->append(chunk_of(2, 100), false);
    REQUIRE(opened.journal->stop().ok());
  }
  Recovered recovered;
  int calls = 0;
  auto refused =
      Journal::open(options_of(base / "data"), records::replay([&](const records::Record&, Place) {
                      ++calls;
                      return Result<void>(Error{ExitCode::bad_data, "not mine"});
                    }),
                    &recovered);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message.find("segment-0000000000000001.mrj at byte 4192: not mine") !=
        std::string::npos);
  CHECK(calls == 1);
}

TEST_CASE("what is requested comes back without the caller having waited for the disk",
          "[journal]") {
  auto faults = std::make_shared<Faults>();
  auto journal = open_fake(faults);
  for (uint64_t ticket = 1; ticket <= 9; ++ticket)
    journal->append(chunk_of(ticket, 3000), ticket == 1);
  const std::vector<Committed> committed = await_tickets(*journal, 9);
  std::map<uint64_t, ReadAnswer> answers;
  auto take = [&] {
    for (ReadAnswer& answer : journal->take_read()) answers.emplace(answer.number, answer);
    return answers.size();
  };
  std::vector<Committed> none;
  {
    std::unique_lock slow_disk(faults->reading);
    for (const Committed& item : committed)
      journal->request({item.ticket, item.place, uint32_t(chunk_of(item.ticket, 3000).bytes()), 0});
    CHECK(take() == 0);
    CHECK(journal->append(chunk_of(10, 10), false) == 10);  // commits go on meanwhile
    await_tickets(*journal, 1);
  }
  REQUIRE(await(*journal, &none, [&] { return take() == 9; }));
  for (const Committed& item : committed) {
    const records::Chunk chunk = chunk_of(item.ticket, 3000);
    const Result<Body>& body = answers.at(item.ticket).body;
    REQUIRE(body.ok());
    CHECK(body->part(item.place, chunk.bytes()) == chunk.parts().front());
  }
  journal->request({11, {{7}, 4160}, 1, 0});
  REQUIRE(await(*journal, &none, [&] { return take() == 10; }));
  CHECK(answers.at(11).body.error().code == ExitCode::io);
  {
    std::lock_guard lock(faults->mutex);
    faults->names_errno = EMFILE;
  }
  journal->request({12, {{8}, 4160}, 1, 0});
  REQUIRE(await(*journal, &none, [&] { return take() == 11; }));
  CHECK(answers.at(12).body.error().code == ExitCode::temporary);
  for (uint64_t number = 20; number < 40; ++number)
    journal->request({number, committed[0].place, 1, 0});
  REQUIRE(journal->stop().ok());  // what was not read yet is dropped
}
