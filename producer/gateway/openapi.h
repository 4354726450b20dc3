// The gateway's OpenAPI document, openapi.json, as it was when the program was built.
#pragma once

namespace millrace::producer {

extern const char* const kOpenApi;

}  // namespace millrace::producer
