// A job's payload over HTTP: its bytes as they came, under a type that a browser only shows.
// Shape:   text/plain or application/json (UTF-8, shown in the page), else application/octet-stream,
//          which a browser saves; HTML and scripts are text
// Limits:  kMaxPayloadShown; beyond it 422, which says how large it is
// Threads: any
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "broker/admin/operation.h"

namespace millrace::listing {

inline constexpr size_t kMaxPayloadShown = 16 << 20;

admin::Answer payload_answer(const std::string& job, std::string_view payload);
admin::Answer payload_too_large(const std::string& job, size_t bytes);

// "json", "text" or "binary"
std::string_view kind_of_payload(std::string_view payload);

}  // namespace millrace::listing
