// The spool over real directories: what comes back, in which order, what never does, and what a
// start refuses.
#include <poll.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "common/protocol/codec.h"
#include "common/protocol/writer.h"
#include "producer/spool/identity.h"
#include "producer/spool/replay.h"
#include "producer/spool/spool.h"
#include "producer/submit/resume.h"
#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

const std::string kBroker = "10.0.0.1:5570", kOther = "10.0.0.2:5570";

SpoolOptions options_of(const TempDirectory& base,
                        std::vector<std::string> spool_queues = {kBroker}) {
  SpoolOptions options;
  options.directory = base.file("spool");
  options.spool_queues = std::move(spool_queues);
  options.segment_bytes = 256 << 10;
  return options;
}

std::unique_ptr<Spool> open(const SpoolOptions& options) {
  auto spool = Spool::open(options);
  if (!spool) FAIL(spool.error().message);
  return std::move(*spool);
}

Error refusal(const SpoolOptions& options) {
  auto spool = Spool::open(options);
  REQUIRE_FALSE(spool.ok());
  return spool.error();
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != text.npos;
}

struct Job {
  Seq seq;
  std::string queue = "q";
  protocol::SubmitOptions options = {};
  std::string payload = {};
  bool operator==(const Job&) const = default;
};

void put(SpoolQueue& spool_queue, const Job& job, bool loaded = false) {
  spool_queue.put({job.seq, job.queue, job.options, job.payload}, loaded);
}

// Waits for the journal's word until `done`.
template <typename Done>
std::vector<SeqRange> await(SpoolQueue& spool_queue, Done&& done) {
  std::vector<SeqRange> safe;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (;;) {
    for (SeqRange run : spool_queue.take_safe()) safe.push_back(run);
    if (done(safe)) return safe;
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    pollfd ready{spool_queue.wake_fd(), POLLIN, 0};
    ::poll(&ready, 1, 1000);
  }
}

uint64_t jobs_in(const std::vector<SeqRange>& runs) {
  uint64_t jobs = 0;
  for (SeqRange run : runs) jobs += run.count;
  return jobs;
}

std::vector<SeqRange> await_safe(SpoolQueue& spool_queue, uint64_t jobs) {
  return await(spool_queue, [&](const auto& safe) { return jobs_in(safe) >= jobs; });
}

// Until the answers are on disk, which the floor tells.
void await_floor(SpoolQueue& spool_queue, Seq floor) {
  await(spool_queue, [&](const auto&) { return spool_queue.floor() == floor; });
}

std::vector<Job> load(SpoolQueue& spool_queue, size_t most = SIZE_MAX) {
  std::vector<Job> jobs;
  auto loaded = spool_queue.load([&](const SpoolQueue::Entry& entry) {
    if (jobs.size() == most) return false;
    jobs.push_back(
        {entry.seq, std::string(entry.queue), entry.options, std::string(entry.payload)});
    return true;
  });
  if (!loaded) FAIL(loaded.error().message);
  return jobs;
}

std::vector<uint64_t> seqs_of(const std::vector<Job>& jobs) {
  std::vector<uint64_t> seqs;
  for (const Job& job : jobs) seqs.push_back(job.seq.value);
  return seqs;
}

constexpr Seq kNone{UINT64_MAX};

}  // namespace

TEST_CASE("what is safe comes back in order after a kill, with all its options", "[spool]") {
  TempDirectory base;
  const Seq first = seq_of(1, 1);
  std::vector<Job> jobs;
  for (uint64_t i = 0; i < 6; ++i) jobs.push_back({{first.value + i}});
  jobs[0].payload = "plain";
  jobs[1] = {jobs[1].seq, "other", {}, ""};
  jobs[2].options = {protocol::Report::result, 3, 9, Millis(1500), Millis(60000), "one"};
  jobs[3].options = {protocol::Report::result, 3, 9, Millis(1500), Millis(60000), "two"};
  jobs[3].payload = std::string("\0\xff\n", 3);
  jobs[4].options.key = "alone";
  jobs[5] = {{first.value + 9}, "q", {}, std::string(3 << 20, 'x')};  // a gap, and a large one
  Uuid producer;
  {
    auto spool = open(options_of(base));
    CHECK(spool->run() == 1);
    producer = spool->producer();
    SpoolQueue& spool_queue = spool->spool_queue(0);
    CHECK(spool_queue.floor() == kNone);
    for (const Job& job : jobs) put(spool_queue, job);
    CHECK(spool_queue.jobs() == 6);
    CHECK(spool_queue.unloaded() == 6);
    CHECK(spool_queue.floor() == first);
    spool_queue.write();
    const auto safe = await_safe(spool_queue, 6);
    REQUIRE(safe.size() == 2);
    CHECK(safe[0] == SeqRange{first, 5});
    CHECK(safe[1] == SeqRange{jobs[5].seq, 1});
    CHECK(spool_queue.unsafe_bytes() == 0);
  }  // no stop(): as if killed
  auto spool = open(options_of(base));
  CHECK(spool->run() == 2);
  CHECK(spool->producer() == producer);
  SpoolQueue& spool_queue = spool->spool_queue(0);
  CHECK(spool_queue.floor() == first);
  CHECK(spool_queue.jobs() == 6);
  CHECK(spool_queue.bytes() == 5 + 3 + 6 + 5 + (3 << 20));
  CHECK(spool_queue.unloaded() == 6);
  CHECK(load(spool_queue) == jobs);
  CHECK(spool_queue.unloaded() == 0);
  CHECK(load(spool_queue).empty());
  CHECK(spool_queue.jobs() == 6);  // loaded, but not answered
}

TEST_CASE("what has an answer on record never comes back", "[spool]") {
  TempDirectory base;
  const Seq first = seq_of(1, 1);
  auto at = [&](uint64_t i) { return Seq{first.value + i}; };
  {
    auto spool = open(options_of(base));
    SpoolQueue& spool_queue = spool->spool_queue(0);
    for (uint64_t i = 0; i < 10; ++i) put(spool_queue, {at(i), "q", {}, "12345678"});
    spool_queue.write();
    await_safe(spool_queue, 10);
    CHECK(load(spool_queue, 6).size() == 6);
    CHECK(spool_queue.unloaded() == 4);
    spool_queue.answered({at(0), 3});
    spool_queue.answered({at(4), 1});
    spool_queue.answered({at(1), 1});              // again
    spool_queue.answered({{1}, first.value - 1});  // never here
    spool_queue.answered({at(10), 1000});          // likewise
    CHECK(spool_queue.jobs() == 6);
    CHECK(spool_queue.bytes() == 48);
    CHECK(spool_queue.floor() == first);  // not on disk yet
    spool_queue.write();
    await_floor(spool_queue, at(3));
    spool_queue.answered({at(8), 1});
    CHECK(spool_queue.unloaded() == 3);
    CHECK(spool_queue.floor() == at(3));
    spool_queue.write();
    REQUIRE(spool->stop().ok());
  }
  auto spool = open(options_of(base));
  SpoolQueue& spool_queue = spool->spool_queue(0);
  CHECK(spool_queue.jobs() == 5);
  CHECK(spool_queue.bytes() == 40);
  CHECK(spool_queue.floor() == at(3));
  CHECK(seqs_of(load(spool_queue)) ==
        std::vector<uint64_t>{at(3).value, at(5).value, at(6).value, at(7).value, at(9).value});
  spool_queue.answered({first, 10});
  spool_queue.write();
  await_floor(spool_queue, kNone);
  CHECK(spool_queue.jobs() == 0);
  CHECK(spool_queue.bytes() == 0);
}

TEST_CASE("what the session has already is not loaded in this run, but in the next one",
          "[spool]") {
  TempDirectory base;
  const uint64_t first = seq_of(1, 1).value;
  {
    auto spool = open(options_of(base));
    SpoolQueue& spool_queue = spool->spool_queue(0);
    for (uint64_t i = 0; i < 3; ++i) put(spool_queue, {{first + i}}, true);
    for (uint64_t i = 3; i < 5; ++i) put(spool_queue, {{first + i}});
    put(spool_queue, {{first + 5}}, true);
    put(spool_queue, {{first + 6}});
    CHECK(spool_queue.unloaded() == 3);
    CHECK(seqs_of(load(spool_queue, 1)) ==
          std::vector<uint64_t>{first + 3});  // before it is on disk
    spool_queue.answered({{first + 3}, 1});
    spool_queue.answered({{first + 1}, 1});
    CHECK(spool_queue.unloaded() == 2);
    spool_queue.write();
    await_safe(spool_queue, 7);
    CHECK(seqs_of(load(spool_queue)) == std::vector<uint64_t>{first + 4, first + 6});
    CHECK(spool_queue.unloaded() == 0);
  }
  auto spool = open(options_of(base));
  CHECK(seqs_of(load(spool->spool_queue(0))) ==
        std::vector<uint64_t>{first, first + 2, first + 4, first + 5, first + 6});
}

TEST_CASE("an answer that comes while a Put still gathers ends that Put", "[spool]") {
  TempDirectory base;
  const uint64_t first = seq_of(1, 1).value;
  auto spool = open(options_of(base));
  SpoolQueue& spool_queue = spool->spool_queue(0);
  put(spool_queue, {{first}, "q", {}, "a"});
  spool_queue.answered({{first}, 1});
  CHECK(spool_queue.jobs() == 0);
  put(spool_queue, {{first + 1}, "q", {}, "b"});
  CHECK(spool_queue.jobs() == 1);
  CHECK(spool_queue.floor() == Seq{first});  // the answer may get lost
  spool_queue.write();
  await_floor(spool_queue, {first + 1});
  CHECK(seqs_of(load(spool_queue)) == std::vector<uint64_t>{first + 1});
}

TEST_CASE("a lane for each broker", "[spool]") {
  TempDirectory base;
  const auto options = options_of(base, {kBroker, kOther});
  {
    auto spool = open(options);
    put(spool->spool_queue(0), {seq_of(1, 1), "q", {}, "one"});
    put(spool->spool_queue(1), {seq_of(1, 1), "q", {}, "other"});
    spool->spool_queue(0).write();
    spool->spool_queue(1).write();
    await_safe(spool->spool_queue(0), 1);
    await_safe(spool->spool_queue(1), 1);
    CHECK(spool->jobs() == 2);
    CHECK(spool->bytes() == 8);
  }
  CHECK(std::filesystem::is_directory(base.file("spool/10.0.0.1_5570")));
  SECTION("each gets its own back, whatever their order") {
    auto spool = open(options_of(base, {kOther, kBroker}));
    CHECK(load(spool->spool_queue(0)).at(0).payload == "other");
    CHECK(load(spool->spool_queue(1)).at(0).payload == "one");
  }
  SECTION("one that is not named, and still holds something, ends the start") {
    const Error error = refusal(options_of(base));
    CHECK(error.code == ExitCode::config);
    CHECK(contains(error.message, base.file("spool/10.0.0.2_5570") + " holds 1 submissions"));
    CHECK(contains(error.message, "rename the folder"));
    SECTION("and renamed it is the lane of the broker's new address") {
      std::filesystem::rename(base.file("spool/10.0.0.2_5570"), base.file("spool/new_1"));
      auto spool = open(options_of(base, {kBroker, "new:1"}));
      CHECK(load(spool->spool_queue(1)).at(0).payload == "other");
    }
    SECTION("and empty it does not") {
      auto spool = open(options);
      spool->spool_queue(1).answered({seq_of(1, 1), 1});
      REQUIRE(spool->stop().ok());
      spool.reset();
      CHECK(open(options_of(base))->jobs() == 1);
    }
  }
  SECTION("two can't share one") {
    const Error error = refusal(options_of(base, {"a:1", "a_1"}));
    CHECK(error.code == ExitCode::config);
    CHECK(contains(error.message, "a:1 and a_1"));
  }
  SECTION("without the file that says who this is, no new one is made up") {
    std::filesystem::remove(base.file("spool/producer"));
    const Error error = refusal(options);
    CHECK(error.code == ExitCode::bad_data);
    CHECK(contains(error.message, "producer is not there"));
  }
  SECTION("an older copy of that file would use sequences twice") {
    const std::string old = TempDirectory::content_of(base.file("spool/producer"));
    {
      auto spool = open(options);
      put(spool->spool_queue(0), {seq_of(2, 1), "q", {}, "two"});
      spool->spool_queue(0).write();
      await_safe(spool->spool_queue(0), 1);
    }
    base.file("spool/producer", old);
    const Error error = refusal(options);
    CHECK(error.code == ExitCode::bad_data);
    CHECK(contains(error.message, "written by run 2, and the spool's file 'producer' knows of 1"));
  }
}

TEST_CASE("the lock names who has the directory", "[spool]") {
  TempDirectory base;
  auto spool = open(options_of(base));
  const Error error = refusal(options_of(base));
  CHECK(error.code == ExitCode::cant_create);
  CHECK(contains(error.message, "in use by pid " + std::to_string(::getpid())));
  CHECK(contains(error.message, "stop that producer, or choose another --spool directory"));
}

TEST_CASE("the identity's line: version, damage", "[spool]") {
  const SpoolIdentity identity{Uuid::random(), 7};
  const std::string text = identity_text(identity);
  CHECK(*parse_identity(text) == identity);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string other = text;
    other[i] ^= 1;
    CHECK_FALSE(parse_identity(other).ok());
    CHECK_FALSE(parse_identity(text.substr(0, i)).ok());
  }
  TempDirectory base;
  std::filesystem::create_directory(base.file("spool"));
  base.file("spool/producer", "millrace-spool 2 something else\n");
  const Error error = refusal(options_of(base));
  CHECK(error.code == ExitCode::bad_data);
  CHECK(contains(error.message, "version 2, and this producer reads version 1"));
}

TEST_CASE("damage is refused in a producer's words", "[spool]") {
  TempDirectory base;
  {
    auto spool = open(options_of(base));
    for (uint64_t i = 1; i <= 2; ++i) {
      put(spool->spool_queue(0), {seq_of(1, i), "q", {}, "payload"});
      spool->spool_queue(0).write();
      await_safe(spool->spool_queue(0), 1);
    }
    REQUIRE(spool->stop().ok());
  }
  const std::string segment = base.file("spool/10.0.0.1_5570/segment-0000000000000001.mrj");
  std::string bytes = TempDirectory::content_of(segment);
  bytes[4096 + 70] ^= 1;
  base.file("spool/10.0.0.1_5570/segment-0000000000000001.mrj", bytes);
  const Error error = refusal(options_of(base));
  CHECK(error.code == ExitCode::bad_data);
  CHECK(contains(error.message, segment + " at byte 4096"));
  CHECK(contains(error.message, "move " + base.file("spool/10.0.0.1_5570") + " away"));
  CHECK_FALSE(contains(error.message, "--data"));
}

TEST_CASE("another spool's folder is refused, and named as such", "[spool]") {
  TempDirectory base, other;
  for (const TempDirectory* directory : {&base, &other}) {
    auto spool = open(options_of(*directory));
    put(spool->spool_queue(0), {seq_of(1, 1), "q", {}, "payload"});
    REQUIRE(spool->stop().ok());
  }
  std::filesystem::rename(other.file("spool/10.0.0.1_5570"), base.file("spool/10.0.0.2_5570"));
  for (const auto& spool_queues : {std::vector{kBroker}, std::vector{kBroker, kOther}}) {
    const Error error = refusal(options_of(base, spool_queues));
    CHECK(error.code == ExitCode::bad_data);
    CHECK(contains(error.message, "it belongs to the spool of producer"));
  }
}

TEST_CASE("records of another version and of unknown types are told", "[spool]") {
  auto problem = [](protocol::Writer& out) {
    auto decoded = decode_spool(out.take(), [](const SpoolRecord&, SpoolSpan) {
      FAIL("it is none");
      return Result<void>();
    });
    REQUIRE_FALSE(decoded.ok());
    CHECK(decoded.error().code == ExitCode::bad_data);
    return decoded.error().message;
  };
  protocol::Writer version, unknown, session, early;
  version.array(5).uint(101).uint(2).uint(1).uint(2).uint(3);
  CHECK(contains(problem(version), "a spool of version 2, and this producer reads version 1"));
  unknown.array(1).uint(104);
  CHECK(contains(problem(unknown), "record type 104 is none of a spool's"));
  protocol::Submit submit;
  submit.first = seq_of(1, 1);
  submit.queue = "q";
  submit.payloads = {"payload"};
  session.array(2).uint(102).bin(protocol::encode(SessionId{1}, protocol::FromClient(submit)));
  CHECK(contains(problem(session), "session 0"));
  submit.first = {7};
  early.array(2).uint(102).bin(protocol::encode(SessionId{0}, protocol::FromClient(submit)));
  CHECK(contains(problem(early), "those of a run"));
  protocol::Writer none, beyond;
  none.array(2).uint(103).array(1).array(2).uint(seq_of(1, 1).value).uint(0);
  CHECK(contains(problem(none), "those of a run"));
  beyond.array(2).uint(103).array(1).array(2).uint(seq_of(1, 1).value).uint(UINT64_MAX);
  CHECK(contains(problem(beyond), "beyond the last one"));
  protocol::Writer last;
  last.array(2).uint(103).array(1).array(2).uint(UINT64_MAX).uint(1);
  CHECK(contains(problem(last), "beyond the last one"));
}

TEST_CASE("a Checkpoint stands first in each segment and nowhere else", "[spool]") {
  const SpoolIdentity identity{Uuid::random(), 1};
  const std::string checkpoint = encode(SpoolCheckpoint{identity.producer, 1});
  const std::string answered = encode(SpoolAnswered{{{seq_of(1, 1), 1}}});
  auto replays = [&](const std::string& first, const std::string& second, uint64_t segment) {
    SpoolReplay replay(identity);
    auto visit = replay.visitor();
    journal::Place one{{1}, 100}, two{{segment}, 5000};
    return visit(first, &one).ok() && visit(second, &two).ok();
  };
  CHECK(replays(checkpoint + answered, answered, 1));
  CHECK(replays(checkpoint, checkpoint + answered, 2));
  CHECK_FALSE(replays(answered, answered, 1));
  CHECK_FALSE(replays(checkpoint, checkpoint, 1));
  CHECK_FALSE(replays(checkpoint, answered, 2));
}

TEST_CASE("what is rejected for good goes to a file, with its payload, and counts as answered",
          "[spool]") {
  TempDirectory base;
  const uint64_t first = seq_of(1, 1).value;
  auto spool = open(options_of(base));
  SpoolQueue& spool_queue = spool->spool_queue(0);
  put(spool_queue, {{first}, "q", {}, "good"});
  put(spool_queue, {{first + 1}, "q", {}, "bad"});
  put(spool_queue, {{first + 2}, "z", {protocol::Report::none, 0, 7, {}, {}, "k"}, "\xff"});
  spool_queue.write();
  await_safe(spool_queue, 3);
  put(spool_queue, {{first + 3}, "q", {}, "not on disk"});
  REQUIRE(spool_queue.rejected({{first + 1}, 100}, "too_large", "too \"large\"").ok());
  CHECK(spool_queue.jobs() == 1);
  spool_queue.write();
  auto lines_in = [](const std::string& path) {
    std::vector<nlohmann::json> lines;
    std::istringstream in(TempDirectory::content_of(path));
    for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  };
  const std::string path = base.file("spool/rejected.ndjson");
  const auto lines = lines_in(path);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0]["broker"] == kBroker);
  CHECK(lines[0]["queue"] == "q");
  CHECK(lines[0]["seq"] == first + 1);
  CHECK(lines[0]["reason"] == "too_large");
  CHECK(lines[0]["message"] == "too \"large\"");
  CHECK(lines[0]["payload"] == "bad");
  CHECK_FALSE(lines[0].contains("options"));
  CHECK(lines[0]["time"].get<std::string>().size() == 24);
  CHECK(lines[1]["payload_base64"] == "/w==");
  CHECK(lines[1]["options"] == nlohmann::json{{"priority", 7}, {"key", "k"}});
  CHECK(lines[2]["payload"] == "not on disk");

  // Moved away it begins anew; half a line, which a crash has left, is cut off.
  std::filesystem::rename(path, base.file("seen"));
  base.file("spool/rejected.ndjson", "{\"seq\":1}\n{\"seq\":2,\"pay");
  REQUIRE(spool_queue.rejected({{first}, 1}, "gone", "").ok());
  const auto others = lines_in(path);
  REQUIRE(others.size() == 2);
  CHECK(others[1]["payload"] == "good");
  CHECK(spool_queue.jobs() == 0);
  REQUIRE(spool_queue.rejected({{first}, 1}, "gone", "").ok());  // not here any more
  CHECK(lines_in(path).size() == 2);
}

TEST_CASE("a submission whose rejection can't be written down does not count as answered",
          "[spool]") {
  TempDirectory base;
  auto spool = open(options_of(base));
  SpoolQueue& spool_queue = spool->spool_queue(0);
  put(spool_queue, {seq_of(1, 1), "q", {}, "payload"});
  spool_queue.write();
  await_safe(spool_queue, 1);
  std::filesystem::create_directory(base.file("spool/rejected.ndjson"));
  auto rejected = spool_queue.rejected({seq_of(1, 1), 1}, "gone", "");
  REQUIRE_FALSE(rejected.ok());
  CHECK(rejected.error().code == ExitCode::io);
  CHECK(spool_queue.jobs() == 1);
  CHECK(spool_queue.floor() == seq_of(1, 1));
}

TEST_CASE("room is what has no answer, and each submission takes some", "[spool]") {
  TempDirectory base;
  auto options = options_of(base);
  options.max_bytes = 1000;
  auto spool = open(options);
  CHECK(spool->has_room(1, 1000 - Spool::kJobOverhead));
  CHECK_FALSE(spool->has_room(1, 1001 - Spool::kJobOverhead));
  put(spool->spool_queue(0), {seq_of(1, 1), "q", {}, std::string(500, 'x')});
  CHECK_FALSE(spool->has_room(1, 500));
  CHECK(spool->has_room(1, 1000 - 500 - 2 * Spool::kJobOverhead));
  CHECK_FALSE(spool->has_room(10, 0));
  spool->spool_queue(0).answered({seq_of(1, 1), 1});
  CHECK(spool->has_room(1, 900));
}

TEST_CASE("segments go when all in them is answered", "[spool]") {
  TempDirectory base;
  const auto options = options_of(base);
  auto count_segments = [&] {
    size_t count = 0;
    for (const auto& file : std::filesystem::directory_iterator(base.file("spool/10.0.0.1_5570")))
      count += file.path().filename().string().starts_with("segment-");
    return count;
  };
  const std::string payload(10'000, 'x');
  uint64_t number = 0;
  {
    auto spool = open(options);
    SpoolQueue& spool_queue = spool->spool_queue(0);
    for (int turn = 0; turn < 50; ++turn) {
      for (int i = 0; i < 10; ++i) put(spool_queue, {seq_of(1, ++number), "q", {}, payload});
      spool_queue.write();
      await_safe(spool_queue, 10);
    }
    CHECK(count_segments() > 15);
    CHECK(load(spool_queue).size() == 500);
    for (uint64_t i = 1; i <= 500; i += 10) {
      spool_queue.answered({seq_of(1, i), 10});
      spool_queue.write();
      await_floor(spool_queue, i == 491 ? kNone : seq_of(1, i + 10));
    }
    REQUIRE(spool->stop().ok());
    CHECK(count_segments() <= 2);
  }
  auto spool = open(options);
  CHECK(spool->jobs() == 0);
  REQUIRE(spool->stop().ok());
  CHECK(count_segments() == 0);  // nothing counts, and no segment has begun
}

TEST_CASE("one that waits for long does not keep all the others", "[spool]") {
  TempDirectory base;
  auto options = options_of(base);
  const std::string payload(2000, 'x');
  uint64_t number = 2;
  {
    auto spool = open(options);
    SpoolQueue& spool_queue = spool->spool_queue(0);
    // Of the first Put the second one waits; it is followed by 8 MB of others.
    put(spool_queue, {seq_of(1, 1), "q", {}, "answered"});
    put(spool_queue, {seq_of(1, 2), "q", {}, "waits"});
    spool_queue.answered({seq_of(1, 1), 1});
    for (int turn = 0; turn < 200; ++turn) {
      const uint64_t first = number + 1;
      for (int i = 0; i < 20; ++i) put(spool_queue, {seq_of(1, ++number), "q", {}, payload});
      spool_queue.write();
      await_safe(spool_queue, 20);
      spool_queue.answered({seq_of(1, first), 20});
    }
    CHECK(load(spool_queue).size() == 1);
    CHECK(spool_queue.floor() == seq_of(1, 2));
    REQUIRE(spool->stop().ok());
  }
  uint64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(base.file("spool/10.0.0.1_5570")))
    bytes += file.file_size();
  CHECK(bytes <= 9 * options.segment_bytes);
  auto spool = open(options);
  SpoolQueue& spool_queue = spool->spool_queue(0);
  CHECK(spool_queue.jobs() == 1);
  const auto jobs = load(spool_queue);
  REQUIRE(jobs.size() == 1);
  CHECK(jobs[0].seq == seq_of(1, 2));
  CHECK(jobs[0].payload == "waits");
}

TEST_CASE("an index that lived is the index that a replay finds", "[spool]") {
  // Puts of up to 5, answers of any part, segments that go; then the records from the oldest
  // segment that is left, as a start reads them.
  for (unsigned seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    SpoolIndex live;
    struct Logged {
      uint64_t segment;
      std::function<void(SpoolIndex&)> replay;
    };
    std::vector<Logged> log;
    uint64_t next = seq_of(1, 1).value, segment = 1;
    for (uint32_t step = 0; step < 300; ++step) {
      segment += random() % 8 == 0;
      const journal::Place place{{segment}, step};
      if (random() % 2) {
        next += random() % 3;
        const SeqRange seqs{{next}, 1 + random() % 5};
        const uint64_t each = random() % 100, size = seqs.count * (each + 5);
        live.add(seqs.first, random() % 2);
        for (uint64_t i = 0; i < seqs.count; ++i) live.grow(each);
        live.placed(seqs.first, place, size);
        log.push_back({segment, [=](SpoolIndex& index) {
                         REQUIRE(index.restore(seqs, each * seqs.count, place, size));
                       }});
        next = seqs.end().value;
      } else if (random() % 3) {
        const uint64_t from = random() % 3 ? live.first_unanswered().value_or(Seq{next}).value
                                           : next - std::min<uint64_t>(next - 1, random() % 60);
        for (SeqRange run : live.answered({{from}, 1 + random() % 9}))
          log.push_back({segment, [=](SpoolIndex& index) { index.answered(run); }});
      } else if (const auto oldest = live.oldest_segment(); oldest && random() % 2) {
        const SpoolIndex::Entry* entry = live.in_segment(*oldest, {});  // written anew
        REQUIRE(entry);
        const SpoolIndex::Entry was = *entry;
        const auto answered = live.runs_of(was, true);
        live.placed({was.first}, place, was.size);
        log.push_back({segment, [=](SpoolIndex& index) {
                         REQUIRE(index.restore(was.seqs(), was.bytes, place, was.size));
                         for (SeqRange run : answered) index.answered(run);
                       }});
      } else if (const SpoolIndex::Entry* given = live.next_to_load()) {
        live.loaded_below(given->seqs().end());
      }
      const uint64_t oldest = live.oldest_segment().value_or(SegmentId{segment}).value;
      std::erase_if(log, [&](const Logged& logged) { return logged.segment < oldest; });
    }
    SpoolIndex replayed;
    for (const Logged& logged : log) logged.replay(replayed);
    INFO("seed " << seed);
    REQUIRE(replayed.describe() == live.describe());
    REQUIRE(replayed.first_unanswered() == live.first_unanswered());
    REQUIRE(replayed.oldest_segment() == live.oldest_segment());
    REQUIRE(replayed.unloaded() == replayed.jobs());
  }
}

TEST_CASE("Puts that overlap are refused, and the same one again is not", "[spool]") {
  SpoolIndex index;
  const journal::Place place{{1}, 100};
  REQUIRE(index.restore({{10}, 5}, 50, place, 60));
  REQUIRE(index.restore({{10}, 5}, 50, {{2}, 100}, 60));
  CHECK(index.oldest_segment() == SegmentId{2});
  CHECK(index.jobs() == 5);
  CHECK_FALSE(index.restore({{10}, 4}, 50, place, 60));
  CHECK_FALSE(index.restore({{14}, 2}, 50, place, 60));
  CHECK_FALSE(index.restore({{8}, 3}, 50, place, 60));
  CHECK(index.restore({{5}, 5}, 50, place, 60));
  CHECK(index.restore({{15}, 1}, 50, place, 60));
  CHECK(index.jobs() == 11);
}

TEST_CASE("an idle spool writes nothing but its own name", "[spool]") {
  TempDirectory base;
  auto spool = open(options_of(base));
  spool->spool_queue(0).write();
  REQUIRE(spool->stop().ok());
  std::set<std::string> names;
  for (const auto& file : std::filesystem::recursive_directory_iterator(base.file("spool")))
    names.insert(file.path().filename().string());
  CHECK(names == std::set<std::string>{"LOCK", "producer", "10.0.0.1_5570"});
}
