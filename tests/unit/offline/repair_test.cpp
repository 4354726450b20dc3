// A damaged directory, and the one that is made of it.
#include "broker/offline/repair.h"

#include "common/journal/segment_writer.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/core/acts.h"

using namespace millrace;
using namespace millrace::test;

namespace {

constexpr uint64_t kSegment = 1 << 20;

template <typename T>
T must(Result<T> result) {
  INFO((result ? "" : result.error().message));
  REQUIRE(result.ok());
  return *std::move(result);
}

// Each record a batch of its own; returns where the bodies of these begin.
std::vector<uint64_t> write_journal(journal::Directory& directory,
                                    const std::vector<std::string>& records) {
  journal::SegmentWriter writer(directory, {}, {7}, 1, journal::FsyncMode::never, kSegment);
  std::vector<uint64_t> bodies;
  for (const std::string& record : records) {
    must(writer.write({{record}, record.size(), 1}, bodies.empty(), WallMs()));
    bodies.push_back(writer.last_body().offset);
  }
  must(writer.seal());
  return bodies;
}

void flip(const std::string& path, uint64_t offset) {
  std::string bytes = TempDirectory::content_of(path);
  bytes[offset] ^= 1;
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("repair saves a job whose Carried record is all that is left of it", "[offline]") {
  Harness h;
  Producer p(h, 1, uuid(1));
  const size_t accepted = h.journal().size();
  p.submit({"lost", "kept"});
  act(h, [](Core& core, Output& out) {
    core.checkpoint(out);
    core.relocate({2}, "kept", out);
  });

  TempDirectory base;
  auto from = must(journal::open_directory(base.file("data")));
  const auto bodies = write_journal(*from, h.journal());
  flip(base.file("data") + "/" + journal::segment_name({1}), bodies[accepted]);

  const std::string to = base.file("new");
  const auto survey = must(offline::repair(*from, to, [](const offline::SurveyProgress&) {}));
  CHECK_FALSE(survey.is_whole());
  CHECK(survey.unsaved.empty());
  REQUIRE(survey.lost.size() == 1);
  CHECK(survey.lost[0].jobs.first == JobId{1});
  CHECK(survey.lost[0].jobs.count == 1);

  State state;
  std::string payload;
  auto repaired = must(journal::open_directory_to_read(to));
  const auto again = must(offline::survey(
      *repaired,
      [&](const Record& record, const State&) {
        state.apply(record, Mono{});
        if (auto* saved = std::get_if<records::Accepted>(&record))
          if (saved->first_job == JobId{2}) payload = saved->payloads[0];
      },
      [](const offline::SurveyProgress&) {}));
  CHECK(again.is_whole());
  CHECK(again.lost.empty());
  CHECK(state.state_of({1}) == JobState::cancelled);
  CHECK(state.state_of({2}) == JobState::ready);
  CHECK(payload == "kept");
  CHECK_FALSE(std::filesystem::exists(to + ".partial"));
}
