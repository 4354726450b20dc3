#include "broker/keys/allow_list.h"

#include <sys/stat.h>

#include <thread>

#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::keys;

namespace {

// Different for each letter, and valid.
std::string key_of(char letter) { return std::string(40, letter); }

AllowList parsed(std::string_view text) {
  auto list = parse_allow_list("list", text);
  INFO((list ? "" : list.error().message));
  REQUIRE(list.ok());
  return *list;
}

std::string refusal(std::string_view text) {
  auto list = parse_allow_list("list", text);
  REQUIRE(!list.ok());
  CHECK(list.error().code == ExitCode::config);
  return list.error().message;
}

}  // namespace

TEST_CASE("a list is read line by line", "[keys]") {
  CHECK(parsed("").keys.empty());
  const AllowList list = parsed("# who\n\n" + key_of('a') + " host 1\n" + key_of('b') + "\n#\n" +
                                key_of('c') + " last");
  REQUIRE(list.keys.size() == 3);
  CHECK(list.keys[0] == AllowedKey{key_of('a'), "host 1"});
  CHECK(list.keys[1] == AllowedKey{key_of('b'), ""});
  CHECK(list.find(key_of('c'))->name == "last");
  CHECK(!list.find(key_of('d')));
  CHECK(parsed(format_allow_list(list)).keys == list.keys);
}

TEST_CASE("a line that is none names itself", "[keys]") {
  CHECK(refusal("\nshort name\n").find("list:2:") == 0);
  CHECK(refusal(key_of('a') + "\tname\n").find("list:1:") == 0);
  CHECK(refusal(key_of('a') + " na\x1bme\n").find("list:1:") == 0);
  CHECK(refusal(key_of('a') + " \xff\n").find("list:1:") == 0);
  CHECK(refusal(key_of('a') + " " + std::string(kMaxName + 1, 'n')).find("list:1:") == 0);
  CHECK(refusal(key_of('a') + "\n" + key_of('a') + " again\n").find("twice") != std::string::npos);
}

TEST_CASE("adding twice changes nothing, a new name renames", "[keys]") {
  AllowList list;
  CHECK(list.add({key_of('a'), "one"}));
  CHECK(!list.add({key_of('a'), "one"}));
  CHECK(!list.add({key_of('a'), ""}));
  CHECK(list.add({key_of('a'), "two"}));
  CHECK(list.keys == std::vector<AllowedKey>{{key_of('a'), "two"}});
  CHECK(list.remove([](const AllowedKey& allowed) { return allowed.name == "one"; }) == 0);
  CHECK(list.remove([](const AllowedKey& allowed) { return allowed.name == "two"; }) == 1);
}

TEST_CASE("editing replaces the file whole and keeps its mode", "[keys]") {
  TempDirectory directory;
  const std::string path = directory.file("list");
  auto add = [&](char letter) {
    return edit_allow_list(path, [&](AllowList& list) -> Result<bool> {
      return list.add({key_of(letter), std::string(1, letter)});
    });
  };
  REQUIRE(add('a').ok());
  REQUIRE(chmod(path.c_str(), 0600) == 0);
  struct stat before {
  }, after{};
  REQUIRE(stat(path.c_str(), &before) == 0);
  REQUIRE(add('b').ok());
  REQUIRE(stat(path.c_str(), &after) == 0);
  CHECK(after.st_ino != before.st_ino);
  CHECK((after.st_mode & 0777) == 0600);
  CHECK(read_allow_list(path)->keys.size() == 2);
  REQUIRE(add('b').ok());
  struct stat same {};
  REQUIRE(stat(path.c_str(), &same) == 0);
  CHECK(same.st_ino == after.st_ino);  // nothing had to change
  CHECK(!edit_allow_list(path, [](AllowList&) -> Result<bool> {
           return Error{ExitCode::bad_data, "no"};
         }).ok());
  CHECK(read_allow_list(path)->keys.size() == 2);
}

TEST_CASE("a list that others can write is refused", "[keys]") {
  TempDirectory directory;
  const std::string path = directory.file("list", key_of('a') + "\n");
  for (mode_t mode : {0620, 0602, 0666}) {
    REQUIRE(chmod(path.c_str(), mode) == 0);
    CHECK(read_allow_list(path).error().code == ExitCode::config);
  }
  REQUIRE(chmod(path.c_str(), 0644) == 0);
  CHECK(read_allow_list(path).ok());
  CHECK(read_allow_list(directory.file("nowhere")).error().code == ExitCode::config);
  const std::string pipe = directory.file("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(read_allow_list(pipe).error().code == ExitCode::config);  // and it has not waited
}

TEST_CASE("two who edit at a time lose nothing of each other's", "[keys]") {
  TempDirectory directory;
  const std::string path = directory.file("list");
  constexpr std::string_view kLetters = "0123456789abcdef";
  auto add_half = [&](size_t from) {
    for (size_t i = from; i < kLetters.size(); i += 2)
      (void)edit_allow_list(path, [&](AllowList& list) -> Result<bool> {
        return list.add({key_of(kLetters[i]), ""});
      });
  };
  std::thread other([&] { add_half(1); });
  add_half(0);
  other.join();
  CHECK(read_allow_list(path)->keys.size() == kLetters.size());
}
