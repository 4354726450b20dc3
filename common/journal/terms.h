// The words for a journal's owner in the sentences of its errors: a broker, or a producer that
// spools.
// Owns:    nothing: the words are literals
// Threads: immutable
#pragma once

#include <string_view>

namespace millrace::journal {

struct Terms {
  std::string_view program;    // whose process has the lock
  std::string_view option;     // that names the directory
  std::string_view confirmed;  // what the owner has promised of what is in a batch
  std::string_view salvage;    // what to do about damage; {} is the directory
};
inline constexpr Terms kBrokerTerms{
    "broker", "--data", "confirmed",
    "Restore the directory from a copy, or save what can be saved with 'millrace-broker journal "
    "repair {} --to NEWDIR'"};

}  // namespace millrace::journal
