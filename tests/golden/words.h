// Messages and records as one line of words, for transcripts that people read.
#pragma once

#include <map>
#include <string>

#include "broker/records/records.h"
#include "common/protocol/messages.h"

namespace millrace::test {

std::string describe(const protocol::FromBroker& message);
std::string describe(const records::Record& record);

// An event line: `w1 DONE 3/5,4/6 result=x`
struct Words {
  std::string name, verb;
  std::vector<std::string> rest;             // words without '='
  std::map<std::string, std::string> named;  // words with

  explicit Words(const std::string& text);
  // The views in it point into this object.
  protocol::FromClient message(const Uuid& peer, uint64_t* batch) const;
};

}  // namespace millrace::test
