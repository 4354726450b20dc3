#include "common/base/units.h"

#include "tests/catch.h"

using namespace millrace;

TEST_CASE("durations have a whole number and a unit", "[units]") {
  CHECK(parse_duration("250ms").value() == Millis(250));
  CHECK(parse_duration("5s").value() == Millis(5000));
  CHECK(parse_duration("2m").value() == Millis(120'000));
  CHECK(parse_duration("1h").value() == Millis(3'600'000));
  CHECK(parse_duration("0s").value() == Millis(0));
  CHECK(parse_size("64KiB", 1, 65536).value() == 65536);
  CHECK(parse_size("0", 1, 65536).error().message ==
        "'0' is out of range; write from 1 to 65536 bytes");
  CHECK(parse_size("65KiB", 1, 65536).error().code == ExitCode::usage);
  CHECK(parse_duration("10ms", Millis(10)).value() == Millis(10));
  CHECK(parse_duration("9ms", Millis(10)).error().message ==
        "'9ms' is too short; write 10ms or longer");
}

TEST_CASE("what is not a duration is quoted in the error, with the accepted form", "[units]") {
  for (const char* text : {"", "5", "s", "5 s", "-5s", "+5s", "1.5s", "5sec", "5S", "5s ", "1h30m",
                           "9223372036854775807s", "99999999999999999999ms"}) {
    CAPTURE(text);
    auto result = parse_duration(text);
    REQUIRE_FALSE(result.ok());
    CHECK(result.error().code == ExitCode::usage);
    CHECK(result.error().message.find("'" + std::string(text) + "'") != std::string::npos);
    CHECK(result.error().message.find("250ms") != std::string::npos);
  }
}

TEST_CASE("durations are written in their largest exact unit", "[units]") {
  CHECK(format_duration(Millis(0)) == "0ms");
  CHECK(format_duration(Millis(1500)) == "1500ms");
  CHECK(format_duration(Millis(90'000)) == "90s");
  CHECK(format_duration(Millis(7'200'000)) == "2h");
  for (int64_t ms : {1, 999, 1000, 60'000, 61'000, 3'600'000}) {
    CHECK(parse_duration(format_duration(Millis(ms))).value() == Millis(ms));
  }
}

TEST_CASE("a range of durations includes both ends and is not reversed", "[units]") {
  CHECK(parse_duration_range("500ms..5m").value() == MillisRange{Millis(500), Millis(300'000)});
  CHECK(parse_duration_range("1s..1s").ok());
  for (const char* text : {"", "1s", "..", "1s..", "..1s", "5m..500ms", "1s...2s", "1s-2s"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_duration_range(text).ok());
  }
}

TEST_CASE("sizes are bytes or count in 1024s", "[units]") {
  CHECK(parse_size("0").value() == 0);
  CHECK(parse_size("4096").value() == 4096);
  CHECK(parse_size("64KiB").value() == 64 << 10);
  CHECK(parse_size("1MiB").value() == 1 << 20);
  CHECK(parse_size("2GiB").value() == int64_t{2} << 30);
  CHECK(parse_size("1TiB").value() == int64_t{1} << 40);
}

TEST_CASE("a size that is ambiguous, negative or too large is refused", "[units]") {
  for (const char* text : {"", "KiB", "64KB", "64kib", "-1", "1.5MiB", "64 KiB", "8388608TiB"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_size(text).ok());
  }
}

TEST_CASE("integers keep to their range", "[units]") {
  CHECK(parse_integer("1", 1, 10).value() == 1);
  CHECK(parse_integer("10", 1, 10).value() == 10);
  CHECK(parse_integer("-3", -5, 5).value() == -3);
  for (const char* text : {"0", "11", "", "x", "5x", "1e3", "99999999999999999999"}) {
    CAPTURE(text);
    auto result = parse_integer(text, 1, 10);
    REQUIRE_FALSE(result.ok());
    CHECK(result.error().message.find("from 1 to 10") != std::string::npos);
  }
}

TEST_CASE("truth has a few usual words", "[units]") {
  for (const char* text : {"true", "1", "yes", "on"}) CHECK(parse_bool(text).value());
  for (const char* text : {"false", "0", "no", "off"}) CHECK_FALSE(parse_bool(text).value());
  for (const char* text : {"", "maybe", "TRUE", "2"}) CHECK_FALSE(parse_bool(text).ok());
}

TEST_CASE("an endpoint is a host and a port, with or without the scheme", "[units]") {
  CHECK(parse_endpoint("tcp://127.0.0.1:5570").value() == Endpoint{"127.0.0.1", 5570});
  CHECK(parse_endpoint("broker.example:1").value() == Endpoint{"broker.example", 1});
  CHECK(parse_endpoint("[::1]:65535").value() == Endpoint{"::1", 65535});
  CHECK(parse_endpoint("tcp://*:0").value() == Endpoint{"*", 0});
  CHECK(parse_endpoint("host", 5571).value() == Endpoint{"host", 5571});
  CHECK(parse_endpoint("host:9", 5571).value() == Endpoint{"host", 9});
  CHECK(parse_endpoint("[fe80::1]", 5571).value() == Endpoint{"fe80::1", 5571});
}

TEST_CASE("what is not an endpoint is refused", "[units]") {
  for (const char* text : {"", ":", "host", "host:", ":5570", "host:65536", "host:-1", "host:http",
                           "ipc:///tmp/x", "tcp://", "::1:5570", "[::1", "[::1]5570", "[]:1",
                           "a b:1", "host:1/path", "tcp://tcp://a:1"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_endpoint(text).ok());
  }
  CHECK_FALSE(parse_endpoint("host:", 5571).ok());
}

TEST_CASE("an endpoint is written so that it can be read again", "[units]") {
  for (const char* uri : {"tcp://127.0.0.1:5570", "tcp://[::1]:5570", "tcp://broker.example:80"}) {
    CHECK(parse_endpoint(uri).value().uri() == uri);
  }
}

TEST_CASE("only addresses of this machine count as loopback", "[units]") {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "::1", "localhost"}) {
    CAPTURE(host);
    CHECK(Endpoint{host, 1}.loopback());
  }
  for (const char* host : {"*", "0.0.0.0", "10.0.0.1", "127.evil.example", "::", "localhost.x"}) {
    CAPTURE(host);
    CHECK_FALSE(Endpoint{host, 1}.loopback());
  }
}

TEST_CASE("a list of endpoints has commas between and a default port", "[units]") {
  auto list = parse_endpoints("a,b:7,tcp://[::1]:8", 5571);
  REQUIRE(list.ok());
  CHECK(*list == std::vector<Endpoint>{{"a", 5571}, {"b", 7}, {"::1", 8}});
  for (const char* text : {"", ",", "a,", ",a", "a,,b", "a, b", "a:0"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_endpoints(text, 5571).ok());
  }
}
