// What stands in a data directory that no broker put there: nothing outside of it is touched, and
// nothing is waited for.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "common/journal/walk.h"
#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::journal;

namespace {

mode_t mode_of(const std::string& path) {
  struct stat info {};
  REQUIRE(lstat(path.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

bool says(const Error& error, std::string_view text) {
  return error.message.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("a new data directory and its files are for their owner alone", "[journal]") {
  TempDirectory base;
  const mode_t before = umask(0);
  auto directory = open_directory(base.file("data"));
  REQUIRE(directory);
  REQUIRE((*directory)->create("segment.tmp").file);
  umask(before);
  CHECK(mode_of(base.file("data")) == 0700);
  CHECK(mode_of(base.file("data/LOCK")) == 0600);
  CHECK(mode_of(base.file("data/segment.tmp")) == 0600);
}

TEST_CASE("files that an older release left open to others are closed", "[journal]") {
  TempDirectory base;
  auto directory = open_directory(base.file("data"));
  REQUIRE(directory);
  const std::string segment = base.file("data/" + segment_name({1}), "x");
  REQUIRE(chmod(segment.c_str(), 0644) == 0);
  REQUIRE((*directory)->open(segment_name({1})).file);
  CHECK(mode_of(segment) == 0600);
}

TEST_CASE("a directory that every user can write to is refused, with the remedy", "[journal]") {
  TempDirectory base;
  std::filesystem::create_directory(base.file("data"));
  REQUIRE(chmod(base.file("data").c_str(), 01777) == 0);
  auto directory = open_directory(base.file("data"));
  REQUIRE_FALSE(directory);
  CHECK(directory.error().code == ExitCode::config);
  CHECK(says(directory.error(), "chmod o-w"));
  CHECK_FALSE(std::filesystem::exists(base.file("data/LOCK")));
}

TEST_CASE("a LOCK that is a symbolic link leaves its target as it is", "[journal]") {
  TempDirectory base;
  const std::string target = base.file("precious", "content");
  std::filesystem::create_directory(base.file("data"));
  std::filesystem::create_symlink(target, base.file("data/LOCK"));
  auto directory = open_directory(base.file("data"));
  REQUIRE_FALSE(directory);
  CHECK(directory.error().code == ExitCode::cant_create);
  CHECK(says(directory.error(), "symbolic link"));
  CHECK(TempDirectory::content_of(target) == "content");
}

TEST_CASE("a LOCK that is a hard link or a directory is refused", "[journal]") {
  TempDirectory base;
  const std::string other = base.file("precious", "content");
  const std::string data = base.file("data"), lock = base.file("data/LOCK");
  std::filesystem::create_directory(data);
  std::filesystem::create_hard_link(other, lock);
  auto linked = open_directory(data);
  REQUIRE_FALSE(linked);
  CHECK(says(linked.error(), "hard link"));
  CHECK(TempDirectory::content_of(other) == "content");
  std::filesystem::remove(lock);
  std::filesystem::create_directory(lock);
  auto directory = open_directory(data);
  REQUIRE_FALSE(directory);
  CHECK(says(directory.error(), "is a directory"));
}

TEST_CASE("what is no regular file is refused and not waited for", "[journal]") {
  TempDirectory base;
  auto directory = open_directory(base.file("data"));
  REQUIRE(directory);
  const std::string name = segment_name({1}), path = base.file("data/" + name);

  SECTION("a FIFO") {
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    auto listed = list(**directory);
    REQUIRE_FALSE(listed);
    CHECK(says(listed.error(), name));
    CHECK(says(listed.error(), "not a regular file"));
  }
  SECTION("a symbolic link") {
    std::filesystem::create_symlink(base.file("elsewhere", "x"), path);
    auto listed = list(**directory);
    REQUIRE_FALSE(listed);
    CHECK(says(listed.error(), "symbolic link"));
  }
  SECTION("a FIFO as LOCK") {
    directory->reset();
    std::filesystem::remove(base.file("data/LOCK"));
    REQUIRE(mkfifo(base.file("data/LOCK").c_str(), 0600) == 0);
    auto again = open_directory(base.file("data"));
    REQUIRE_FALSE(again);
    CHECK(says(again.error(), "not a regular file"));
  }
}

TEST_CASE("a sparse file of many gigabytes is a finding, and is not read", "[journal]") {
  struct Findings : WalkVisitor {
    Result<void> on_body(std::string_view, Place*) override { return {}; }
    Result<void> on_finding(const Finding& finding) override {
      found.push_back(finding);
      return {};
    }
    std::vector<Finding> found;
  } findings;
  TempDirectory base;
  auto directory = open_directory(base.file("data"));
  REQUIRE(directory);
  const std::string path = base.file("data/" + segment_name({1}), "x");
  REQUIRE(truncate(path.c_str(), off_t{17} << 30) == 0);
  auto listed = list(**directory);
  REQUIRE(listed);
  REQUIRE(walk(**directory, listed->segments, findings));
  REQUIRE(findings.found.size() == 1);
  CHECK(findings.found[0].kind == Finding::Kind::damaged);
  CHECK(findings.found[0].what.find("18253611008 bytes") != std::string::npos);
}
