#include "common/os/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <string>

#include "common/base/repeat_limiter.h"
#include "common/base/terminal_text.h"
#include "tests/catch.h"

using namespace millrace;

namespace {

// What reaches the file descriptor of stderr while `action` runs.
template <typename Action>
std::string captured_stderr(Action action) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file);
  int saved = dup(STDERR_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  action();
  std::fflush(stderr);
  dup2(saved, STDERR_FILENO);
  close(saved);
  std::rewind(file);
  std::string text;
  for (int c; (c = std::fgetc(file)) != EOF;) text += static_cast<char>(c);
  std::fclose(file);
  return text;
}

}  // namespace

TEST_CASE("fields follow the message as key=value", "[log]") {
  CHECK(format_log("broker listening", {{"frontend", "tcp://127.0.0.1:5570"}}) ==
        "broker listening frontend=tcp://127.0.0.1:5570");
  CHECK(format_log("stopped", {}) == "stopped");
}

TEST_CASE("values of each type have one form", "[log]") {
  CHECK(format_log("x", {{"n", 5},
                         {"big", uint64_t{18446744073709551615u}},
                         {"negative", -1},
                         {"yes", true},
                         {"share", 0.25},
                         {"after", Millis(1500)},
                         {"name", std::string("q")}}) ==
        "x n=5 big=18446744073709551615 negative=-1 yes=true share=0.25 after=1500ms name=q");
}

TEST_CASE("text from outside can't steer a terminal", "[log]") {
  CHECK(terminal_text("Mühle €😀 a\\b") == "Mühle €😀 a\\b");
  CHECK(terminal_text("a\x1b[31mb\x7f\r\n") == "a\\x1b[31mb\\x7f\\x0d\\n");
  CHECK(terminal_text("a\nb\t\x1b") == "a\\nb\\x09\\x1b");
  CHECK(terminal_text("\xc2\x9b"
                      "31m\xc2\xa0") == "\\xc2\\x9b31m\xc2\xa0");
  CHECK(terminal_text("\x9b\xff\xc3") == "\\x9b\\xff\\xc3");
  CHECK(terminal_text(std::string_view("\0", 1)) == "\\x00");
  for (const char* turns :
       {"\u061c", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069"}) {
    CAPTURE(turns);
    CHECK(terminal_text(turns).starts_with("\\x"));
  }
  for (const char* stays :
       {"\u061b", "\u200d", "\u2010", "\u2027", "\u202f", "\u2065", "\u206a", "\u00a0"})
    CHECK(terminal_text(stays) == stays);
  CHECK(format_log("a\x1b", {{"name", "\xc2\x9bK"}}) == "a\\x1b name=\"\\xc2\\x9bK\"");
}

TEST_CASE("JSON can't steer a terminal, and means the same", "[log]") {
  const std::string plain = "{\"a\": \"Mühle €😀 \\u001b\"}\n";
  CHECK(terminal_json(plain) == plain);
  CHECK(terminal_json("[\"\u009b31m\", \"\x7f\", \"a\u202eb\u2066\", \"\u061c\"]\n") ==
        "[\"\\u009b31m\", \"\\u007f\", \"a\\u202eb\\u2066\", \"\\u061c\"]\n");
  CHECK(terminal_json("\xc2") == "\xc2");  // cut within a character
  CHECK(terminal_json("\u00a0\u0628\u2010") == "\u00a0\u0628\u2010");
}

TEST_CASE("a value that would break the line is quoted and escaped", "[log]") {
  CHECK(format_log("x", {{"a", ""}}) == "x a=\"\"");
  CHECK(format_log("x", {{"a", "two words"}}) == "x a=\"two words\"");
  CHECK(format_log("x", {{"a", "k=v"}}) == "x a=\"k=v\"");
  CHECK(format_log("x", {{"a", "say \"hi\" \\"}}) == "x a=\"say \\\"hi\\\" \\\\\"");
  CHECK(format_log("x", {{"a", "one\ntwo\x1b"}}) == "x a=\"one\\ntwo\\x1b\"");
  CHECK(format_log("one\ntwo", {}) == "one\\ntwo");
  CHECK(format_log("x", {{"a", "größe"}}) == "x a=größe");
}

TEST_CASE("a long value is cut at a character, and its length is given", "[log]") {
  const std::string longest(kMaxLogValue, 'a');
  CHECK(format_log("m", {{"v", longest}}) == "m v=" + longest);
  std::string umlauts = "a";
  while (umlauts.size() < 4'000'000) umlauts += "ä";
  const std::string line = format_log("m", {{"v", umlauts}});
  CHECK(line.size() < kMaxLogValue + 100);
  CHECK(line == "m v=\"" + umlauts.substr(0, kMaxLogValue - 1) + "... (4000001 bytes)\"");
}

TEST_CASE("a line has the time in UTC, the level, the message and the fields", "[log]") {
  auto text = captured_stderr([] {
    start_log(LogLevel::info);
    log_info("broker listening", {{"port", 5570}});
  });
  for (char& c : text) {
    if (std::isdigit(static_cast<unsigned char>(c))) c = '0';
  }
  CHECK(text == "0000-00-00T00:00:00.000Z info broker listening port=0000\n");
}

TEST_CASE("lines below the level are not written", "[log]") {
  auto text = captured_stderr([] {
    start_log(LogLevel::warning);
    log_debug("one");
    log_info("two");
    log_warning("three");
    log_error("four");
  });
  CAPTURE(text);
  CHECK(text.find("one") == std::string::npos);
  CHECK(text.find("two") == std::string::npos);
  CHECK(text.find("warning three") != std::string::npos);
  CHECK(text.find("error four") != std::string::npos);
}

TEST_CASE("log levels are read by name", "[log]") {
  CHECK(parse_log_level("debug").value() == LogLevel::debug);
  CHECK(parse_log_level("error").value() == LogLevel::error);
  REQUIRE_FALSE(parse_log_level("loud").ok());
  CHECK(parse_log_level("loud").error().message.find("'loud'") != std::string::npos);
}

TEST_CASE("repeats are held back for an interval and then counted", "[log]") {
  RepeatLimiter limiter(Millis(1000));
  Mono start{};
  CHECK(limiter.admit(start) == 0);
  CHECK(limiter.admit(start) == std::nullopt);
  CHECK(limiter.admit(start + Millis(999)) == std::nullopt);
  CHECK(limiter.admit(start + Millis(1000)) == 2);
  CHECK(limiter.admit(start + Millis(1001)) == std::nullopt);
  CHECK(limiter.admit(start + Millis(9000)) == 1);
  CHECK(limiter.admit(start + Millis(10'000)) == 0);
}

TEST_CASE("a full pipe takes no line and holds up nobody; the next line says how many", "[log]") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const int saved = dup(STDERR_FILENO);
  REQUIRE(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
  start_log(LogLevel::info);
  const uint64_t before = log_lines_dropped();
  const std::string long_value(1000, 'x');
  for (int i = 0; i < 100; ++i) log_info("line", {{"text", long_value}});
  const uint64_t dropped = log_lines_dropped() - before;
  std::string text(1 << 20, '\0');
  text.resize(size_t(read(ends[0], text.data(), text.size())));
  log_info("room again");
  std::string last(1 << 16, '\0');
  last.resize(size_t(read(ends[0], last.data(), last.size())));
  const int flags = fcntl(STDERR_FILENO, F_GETFL);
  dup2(saved, STDERR_FILENO);
  for (int fd : {saved, ends[0], ends[1]}) close(fd);

  CHECK(dropped > 0);
  CHECK(std::count(text.begin(), text.end(), '\n') == ptrdiff_t(100 - dropped));
  CHECK(text.ends_with("x\n"));
  CHECK(last.find(" warning log lines dropped: they were not read in time lines=" +
                  std::to_string(dropped) + "\n") != std::string::npos);
  CHECK(last.ends_with(" info room again\n"));
  CHECK((flags & O_NONBLOCK) == 0);  // others write there too
}
