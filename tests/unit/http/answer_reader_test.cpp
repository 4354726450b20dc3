#include "tests/load/answer_reader.h"

#include "tests/catch.h"

using namespace millrace::load;
using State = AnswerReader::State;

TEST_CASE("an answer ends where its length says, however it comes", "[load]") {
  const std::string answer =
      "HTTP/1.1 202 Accepted\r\nDate: now\r\ncontent-length:  5 \r\n\r\nhello";
  AnswerReader reader;
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i + 1 < answer.size(); i++)
      REQUIRE(reader.feed({&answer[i], 1}) == State::more);
    REQUIRE(reader.feed(answer.substr(answer.size() - 1)) == State::whole);
    CHECK(reader.status() == 202);
    CHECK_FALSE(reader.closes());
    CHECK(reader.empty());
  }
  CHECK(reader.feed("HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") ==
        State::whole);
  CHECK(reader.status() == 503);
  CHECK(reader.closes());
}

TEST_CASE("more than one answer is seen", "[load]") {
  AnswerReader reader;
  CHECK(reader.feed("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP") == State::whole);
  CHECK_FALSE(reader.empty());
}

TEST_CASE("what is not an answer with a length is bad", "[load]") {
  for (const char* text :
       {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 2xx OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}) {
    INFO(text);
    AnswerReader reader;
    CHECK(reader.feed(text) == State::bad);
  }
  AnswerReader reader;
  CHECK(reader.feed(std::string(65 << 10, 'x')) == State::bad);
}
