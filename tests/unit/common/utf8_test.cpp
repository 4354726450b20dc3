#include "common/base/utf8.h"

#include "common/protocol/writer.h"
#include "tests/catch.h"

using millrace::protocol::is_utf8;
using millrace::protocol::to_utf8;

TEST_CASE("well-formed text stays as it is", "[utf8]") {
  for (std::string text :
       {"", "plain", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\x8a"}) {
    CHECK(is_utf8(text));
    CHECK(to_utf8(text) == text);
  }
}

TEST_CASE("what is not well-formed becomes question marks, byte for byte", "[utf8]") {
  CHECK(to_utf8("a\xff"
                "b") == "a?b");
  CHECK(to_utf8("\x80") == "?");
  CHECK(to_utf8("\xc0\xaf") == "??");            // overlong
  CHECK(to_utf8("\xe0\x9f\xbf") == "???");       // overlong
  CHECK(to_utf8("\xed\xa0\x80") == "???");       // a surrogate
  CHECK(to_utf8("\xf4\x90\x80\x80") == "????");  // beyond U+10FFFF
  CHECK(to_utf8("x\xe2\x82") == "x??");          // cut off
  CHECK(to_utf8("\xe2\x82"
                "ab") == "??ab");
  CHECK_FALSE(is_utf8("\xf0\x9f\x8c"));
}

TEST_CASE("a str that is written is UTF-8, a bin is what it was", "[utf8]") {
  millrace::protocol::Writer out;
  out.str("a\xff").bin("a\xff");
  CHECK(out.take() ==
        "\xa2"
        "a?"
        "\xc4\x02"
        "a\xff");
}
