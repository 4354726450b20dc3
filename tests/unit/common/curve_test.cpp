#include "common/net/curve.h"

#include <sys/stat.h>

#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;

namespace {

std::string refusal_of(const Result<CurvePair>& result) {
  REQUIRE(!result.ok());
  CHECK(result.error().code == ExitCode::config);
  return result.error().message;
}

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a pair of keys is read as it was written", "[curve]") {
  TempDirectory directory;
  const std::string path = directory.file("k");
  const CurvePair pair = make_curve_pair();
  CHECK(valid_curve_key(pair.public_key));
  CHECK(pair.public_key != pair.secret_key);
  REQUIRE(write_curve_pair(path, pair).ok());
  auto read = read_secret_key(path);
  REQUIRE(read.ok());
  CHECK(read->secret_key == pair.secret_key);
  CHECK(read->public_key == pair.public_key);  // computed, since the file has the secret only
  CHECK(*read_public_key(path + ".pub") == pair.public_key);
}

TEST_CASE("no key file is ever overwritten", "[curve]") {
  TempDirectory directory;
  const std::string path = directory.file("k");
  directory.file("k.pub", "mine");
  CHECK(write_curve_pair(path, make_curve_pair()).error().code == ExitCode::cant_create);
  CHECK(access(path.c_str(), F_OK) != 0);
  const std::string other = directory.file("o", "mine");
  CHECK(write_curve_pair(other, make_curve_pair()).error().code == ExitCode::cant_create);
  CHECK(TempDirectory::content_of(other) == "mine");
}

TEST_CASE("a secret that others can read is refused", "[curve]") {
  TempDirectory directory;
  const std::string path = directory.file("k");
  REQUIRE(write_curve_pair(path, make_curve_pair()).ok());
  for (mode_t mode : {0640, 0604, 0601, 0610, 0644}) {
    REQUIRE(chmod(path.c_str(), mode) == 0);
    CHECK(mentions(refusal_of(read_secret_key(path)), "chmod 600 " + path));
  }
  REQUIRE(chmod(path.c_str(), 0400) == 0);
  CHECK(read_secret_key(path).ok());
}

TEST_CASE("what is no key file is refused, and the other kind by its name", "[curve]") {
  TempDirectory directory;
  const CurvePair pair = make_curve_pair();
  auto read = [&](const std::string& content) {
    const std::string path = directory.file("k", content);
    REQUIRE(chmod(path.c_str(), 0600) == 0);
    return read_secret_key(path);
  };
  CHECK(read("secret-key " + pair.secret_key).ok());
  CHECK(read("# a word\n\nsecret-key " + pair.secret_key + "\n").ok());
  CHECK(mentions(refusal_of(read("public-key " + pair.public_key)), "contains a public-key"));
  CHECK(mentions(refusal_of(read("")), "not a key file"));
  CHECK(mentions(refusal_of(read(pair.secret_key)), "not a key file"));
  CHECK(mentions(refusal_of(read("secret-key " + pair.secret_key.substr(1))), "not a key file"));
  CHECK(mentions(refusal_of(read("secret-key " + pair.secret_key + "x")), "not a key file"));
  const std::string line = "secret-key " + pair.secret_key + "\n";
  CHECK(mentions(refusal_of(read(line + line)), "one line"));
  CHECK(mentions(refusal_of(read_secret_key(directory.file("nowhere"))), "keygen"));
}

TEST_CASE("a key is forty characters of Z85", "[curve]") {
  CHECK(valid_curve_key(std::string(40, '0')));
  CHECK(!valid_curve_key(std::string(39, '0')));
  CHECK(!valid_curve_key(std::string(41, '0')));
  CHECK(!valid_curve_key(std::string(39, '0') + "\""));
  CHECK(!valid_curve_key(std::string(39, '0') + " "));
  CHECK(!valid_curve_key(std::string(39, '0') + '\0'));
  CHECK(!valid_curve_key(std::string(39, '0') + "\xff"));
  // More than 32 bits: so no key can be taken for a comment.
  CHECK(!valid_curve_key("#" + std::string(39, '0')));
}

TEST_CASE("each broker has its key, or all have one", "[curve]") {
  TempDirectory directory;
  CurveFlags flags;
  CHECK(!(*flags.read(2))[1]);
  for (const char* name : {"own", "a", "b"})
    REQUIRE(write_curve_pair(directory.file(name), make_curve_pair()).ok());
  flags.key = directory.file("own");
  CHECK(flags.read(1).error().code == ExitCode::config);
  flags.brokers = {directory.file("a.pub")};
  auto one = flags.read(2);
  REQUIRE(one.ok());
  CHECK((*one)[0]->broker_key == (*one)[1]->broker_key);
  flags.brokers.push_back(directory.file("b.pub"));
  auto two = flags.read(2);
  REQUIRE(two.ok());
  CHECK((*two)[1]->broker_key == *read_public_key(directory.file("b.pub")));
  CHECK((*two)[0]->broker_key != (*two)[1]->broker_key);
  CHECK(flags.read(3).error().code == ExitCode::config);
  flags.key.clear();
  CHECK(flags.read(2).error().code == ExitCode::config);
}
