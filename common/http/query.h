// The query of a request target, and percent-encoding.
// Shape:   "priority=7&wait=5s" → pairs in their order, decoded; + is a space
// Errors:  nothing, when a % is not followed by two hexadecimal digits
// Threads: immutable
// Source:  RFC 3986
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace::http {

std::optional<std::string> percent_decoded(std::string_view text, bool plus_is_space = false);

// What is neither a letter, a digit nor one of -._~ as %XX.
std::string percent_encoded(std::string_view text);

using QueryPairs = std::vector<std::pair<std::string, std::string>>;
std::optional<QueryPairs> parse_query(std::string_view query);
std::string format_query(const QueryPairs& pairs);

}  // namespace millrace::http
