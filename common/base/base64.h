// Bytes as base64 (RFC 4648, with padding), for JSON.
#pragma once

#include <string>
#include <string_view>

namespace millrace {

std::string base64(std::string_view bytes);
// False if the text is not what base64() writes for some bytes.
bool parse_base64(std::string_view text, std::string* bytes);

}  // namespace millrace
