// The dashboard, web/index.html, as it was when the program was built (cmake/Embed.cmake).
#pragma once

namespace millrace::admin {

extern const char* const kPage;

}  // namespace millrace::admin
