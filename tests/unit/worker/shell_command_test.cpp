#include "worker/process/shell_command.h"

#include "tests/catch.h"

using millrace::worker::plain_words;
using millrace::worker::shell_command;

namespace {

bool is_replaced(std::string_view command) {
  const std::string text = shell_command(command);
  CHECK((text == command || text == "exec " + std::string(command)));
  return text != command;
}

}  // namespace

TEST_CASE("a simple command replaces its shell", "[shell]") {
  for (auto command : {"sleep 1", "cat >/dev/null", "sort -n 2>&1", "/bin/ls", "./run.sh $X \"$Y\"",
                       "sed 's/;/|/'", "env A=1 sleep 1", "./a --x=\"b;c\"", "ls a\\;b"})
    CHECK(is_replaced(command));
}

TEST_CASE("what needs a shell keeps it", "[shell]") {
  for (auto command : {"",
                       " ",
                       "sleep 1; sleep 2",
                       "sleep 1 && ls",
                       "sleep 1 &",
                       "cat | sort",
                       "(ls)",
                       "{ ls; }",
                       "A=1 ls",
                       "$HANDLER",
                       "exit 3",
                       "read x",
                       "echo a",
                       "cd /",
                       ". ./x",
                       "test -e x",
                       "if true",
                       "ls\nls",
                       "ls `pwd`",
                       "ls $(pwd)",
                       "ls \"$(pwd)\"",
                       "no-such-program-anywhere",
                       "ls 'open",
                       "'ls'",
                       "! ls",
                       "exec ls",
                       "ls\tx",
                       "ls # why",
                       "./x \"`pwd`\""})
    CHECK_FALSE(is_replaced(command));
}

TEST_CASE("a program with plain words needs no shell", "[shell]") {
  using Words = std::vector<std::string>;
  CHECK(plain_words("exec cat") == Words{"cat"});
  CHECK(plain_words("exec  ./run.sh  --size=8 a,b:c@d 50% ") ==
        Words{"./run.sh", "--size=8", "a,b:c@d", "50%"});
  CHECK(plain_words(shell_command("sleep 1")) == Words{"sleep", "1"});
}

TEST_CASE("where a shell sees more than words it is asked", "[shell]") {
  for (auto command : {"",
                       "exec",
                       "exec ",
                       "cat",
                       "exec cat >/dev/null",
                       "exec cat 2>&1",
                       "exec ls $X",
                       "exec ls *",
                       "exec ls a?",
                       "exec ls [ab]",
                       "exec ls ~",
                       "exec ls 'a'",
                       "exec ls \"a\"",
                       "exec ls a\\b",
                       "exec ls {a,b}",
                       "exec ls #",
                       "exec ls !",
                       "exec ls\tx",
                       "exec ls\nls",
                       "exec -a x ls",
                       "exec A=1 ls",
                       "exec ls; ls",
                       "exec ls \xc3\xa4"})
    CHECK(plain_words(command).empty());
}
