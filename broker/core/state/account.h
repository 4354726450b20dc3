// Whom a quota binds. A client names a producer anew with each HELLO as it likes; a key it can't
// make up, and another connection costs it one.
// Shape:   the key that a connection has shown; without keys the connection, and for what outlives it
//          the producer as well
// Limits:  begins anew with the process, as the numbers of keys and connections do
#pragma once

#include <functional>

#include "common/base/ids.h"

namespace millrace::core {

// Which key a connection has shown, as the loop numbers them; 0: none.
using KeyId = Id<struct KeyTag>;

struct Account {
  enum class Kind : uint8_t { nobody, producer, key, connection } kind = Kind::nobody;
  uint64_t number = 0;  // of a key or connection
  Uuid producer;
  bool operator==(const Account&) const = default;
};

}  // namespace millrace::core

template <>
struct std::hash<millrace::core::Account> {
  size_t operator()(const millrace::core::Account& account) const {
    return std::hash<millrace::Uuid>()(account.producer) ^
           std::hash<uint64_t>()(account.number * 4 + uint64_t(account.kind));
  }
};
