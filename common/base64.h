// Bytes as base64 (RFC 4648, with padding), for JSON.
#pragma once

#include <string>
#include <string_view>

namespace millrace {

std::string base64(std::string_view bytes);

}  // namespace millrace
