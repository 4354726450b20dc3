// The commit that the program was built from, as it was when the build was configured
// (Commit.cmake).
#pragma once

namespace millrace {

extern const char* const kCommit;  // 12 hexadecimal digits, or "unknown"

}  // namespace millrace
