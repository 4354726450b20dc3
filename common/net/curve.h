// The long-term keys of CURVE, ZeroMQ's encryption, and the files in which they lie.
// Shape:   a key is 40 characters of Z85. FILE holds a line "secret-key Z85" (its public half is
//          computed), FILE.pub a line "public-key Z85"; lines that begin with '#' say what it is
//          1. A file of the wrong kind is refused: a secret is never taken for a public key.
//          2. A secret that others can read is no secret: its file is refused too.
// Errors:  config (78) for a file that must not be used, naming it and the remedy; cant_create (73)
// Threads: values; any
// Source:  ZMTP 3.1 CURVE (RFC 26), Z85 (RFC 32)
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace millrace {

class Command;

inline constexpr size_t kCurveKeyText = 40;

bool valid_curve_key(std::string_view text);

struct CurvePair {
  std::string public_key;
  std::string secret_key;
};

// Aborts where libzmq was built without CURVE; serve and clients say so before (curve_usable()).
CurvePair make_curve_pair();
Result<void> curve_usable();

// Makes FILE (mode 0600) and FILE.pub; neither may be there yet.
Result<void> write_curve_pair(const std::string& path, const CurvePair& pair);
Result<CurvePair> read_secret_key(const std::string& path);
Result<std::string> read_public_key(const std::string& path);

// What a client needs: its own keys, and which broker it means to speak with.
struct CurveClient {
  CurvePair own;
  std::string broker_key;
};

// --curve-key and --curve-broker of everything that connects to a broker.
struct CurveFlags {
  std::string key;
  std::vector<std::string> brokers;  // one file for all brokers, or one for each, in their order

  // For each of `count` brokers; nothing: without encryption.
  Result<std::vector<std::optional<CurveClient>>> read(size_t count) const;
  Result<std::optional<CurveClient>> read_one() const;
};

void declare_curve(Command& command, CurveFlags& flags);

}  // namespace millrace
