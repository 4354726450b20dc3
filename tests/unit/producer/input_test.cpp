#include "producer/submit/input.h"

#include <unistd.h>

#include <vector>

#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

using Payloads = std::vector<std::string>;

Payloads all_of(Input& input) {
  Payloads payloads;
  std::string payload;
  for (;;) {
    auto next = input.next(&payload);
    REQUIRE(next);
    if (*next == Input::Next::end) return payloads;
    REQUIRE(*next == Input::Next::payload);
    payloads.push_back(payload);
  }
}

Payloads lines_of(const std::string& content, Input::Form form = Input::Form::lines) {
  TempDirectory dir;
  auto input = Input::open(dir.file("input", content), form);
  REQUIRE(input);
  return all_of(*input);
}

}  // namespace

TEST_CASE("a payload of the command line comes once, even an empty one", "[input]") {
  Input input = Input::of("");
  CHECK(all_of(input) == Payloads{""});
  CHECK(all_of(input).empty());
}

TEST_CASE("lines are payloads, the empty ones too, but for what follows the last line end",
          "[input]") {
  CHECK(lines_of("").empty());
  CHECK(lines_of("a") == Payloads{"a"});
  CHECK(lines_of("a\n") == Payloads{"a"});
  CHECK(lines_of("\n") == Payloads{""});
  CHECK(lines_of("a\n\nb\r\n\n") == Payloads{"a", "", "b\r", ""});
  std::string longer(1'000'000, 'x');
  CHECK(lines_of("a\n" + longer + "\nb") == Payloads{"a", longer, "b"});
}

TEST_CASE("items end with a NUL byte, and may hold line ends", "[input]") {
  auto items_of = [](const std::string& content) { return lines_of(content, Input::Form::items); };
  using namespace std::string_literals;
  CHECK(items_of("").empty());
  CHECK(items_of("a\nb") == Payloads{"a\nb"});
  CHECK(items_of("a\n\0\0b\0"s) == Payloads{"a\n", "", "b"});
  TempDirectory dir;
  auto input = Input::open(dir.file("input", "a\n\0b\nc"s), Input::Form::items);
  REQUIRE(input);
  REQUIRE(input->count());
  CHECK(input->total() == 2);
}

TEST_CASE("JSON lines keep their text", "[input]") {
  CHECK(lines_of("1\r\n[2]\r\n", Input::Form::ndjson) == Payloads{"1", "[2]"});
  CHECK(lines_of("{\"a\": 1}\n [1,2] \n\"x\"\n7", Input::Form::ndjson) ==
        Payloads{"{\"a\": 1}", " [1,2] ", "\"x\"", "7"});
}

TEST_CASE("a file with a line that is not JSON is refused before anything of it is used",
          "[input]") {
  TempDirectory dir;
  for (std::string bad : {"nope", "", "{\"a\":1} {\"b\":2}", "{\"a\":", "{'a':1}", "\"\xff\"",
                          "\xef\xbb\xbf{\"a\":1}"}) {
    auto input = Input::open(dir.file("bad.ndjson", "1\n2\n" + bad + "\n4\n"), Input::Form::ndjson);
    REQUIRE_FALSE(input);
    CHECK(input.error().code == ExitCode::bad_data);
    CHECK(input.error().message.find("bad.ndjson line 3") != std::string::npos);
    CHECK(input.error().message.find("nothing was sent") != std::string::npos);
  }
}

TEST_CASE("a byte order mark is named, and stays in lines that need not be JSON", "[input]") {
  TempDirectory dir;
  const std::string path = dir.file("marked", "\xef\xbb\xbf{}\n");
  auto input = Input::open(path, Input::Form::ndjson);
  REQUIRE_FALSE(input);
  CHECK(input.error().message.find("line 1") != std::string::npos);
  CHECK(input.error().message.find("byte order mark") != std::string::npos);
  CHECK(lines_of("\xef\xbb\xbf{}\n") == Payloads{"\xef\xbb\xbf{}"});
}

TEST_CASE("a checked file is read from its beginning, and its payloads are counted", "[input]") {
  TempDirectory dir;
  auto input = Input::open(dir.file("good", "1\n2\n3"), Input::Form::ndjson);
  REQUIRE(input);
  CHECK(input->total() == 3u);
  CHECK(all_of(*input) == Payloads{"1", "2", "3"});
}

TEST_CASE("input from a pipe is taken as it comes, without waiting", "[input]") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  auto send = [&](std::string text) {
    REQUIRE(write(ends[1], text.data(), text.size()) == ssize_t(text.size()));
  };
  auto input = Input::open("/proc/self/fd/" + std::to_string(ends[0]), Input::Form::ndjson);
  REQUIRE(input);
  std::string payload;
  CHECK(*input->next(&payload) == Input::Next::later);
  send("1\n2");
  CHECK(*input->next(&payload) == Input::Next::payload);
  CHECK(payload == "1");
  CHECK(*input->next(&payload) == Input::Next::later);
  send("3\nbad\n");
  CHECK(*input->next(&payload) == Input::Next::payload);
  CHECK(payload == "23");
  auto bad = input->next(&payload);
  REQUIRE_FALSE(bad);
  CHECK(bad.error().message.find("line 3") != std::string::npos);
  close(ends[1]);
  CHECK(*input->next(&payload) == Input::Next::end);
  close(ends[0]);
}

TEST_CASE("a file that can't be read is bad data, named", "[input]") {
  auto missing = Input::open("/nowhere/at-all", Input::Form::lines);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ExitCode::bad_data);
  CHECK(missing.error().message.find("/nowhere/at-all") != std::string::npos);

  TempDirectory dir;
  auto directory = Input::open(dir.file(""), Input::Form::lines);
  REQUIRE(directory);
  std::string payload;
  auto next = directory->next(&payload);
  REQUIRE_FALSE(next);
  CHECK(next.error().code == ExitCode::bad_data);
}

TEST_CASE("the lines of a file are counted without being taken", "[input]") {
  TempDirectory dir;
  for (auto [content, count] : std::vector<std::pair<std::string, uint64_t>>{
           {"", 0}, {"a", 1}, {"a\n", 1}, {"a\n\nb", 3}, {std::string(600'000, '\n'), 600'000}}) {
    auto input = Input::open(dir.file("lines", content), Input::Form::lines);
    REQUIRE(input);
    REQUIRE(input->count());
    CHECK(input->total() == count);
    CHECK(all_of(*input).size() == count);
  }
}
