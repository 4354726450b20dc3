// What somebody may have meant who mistyped a name.
// Shape:   " (did you mean X?)", or nothing when no name is near
// Threads: any
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace {

std::string suggestion(std::string_view word, const std::vector<std::string>& names);

}  // namespace millrace
