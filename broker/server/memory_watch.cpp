#include "broker/server/memory_watch.h"

namespace millrace::server {

bool MemoryWatch::is_short(uint64_t held) {
  if (reserve_.has_room(kHeadroomBytes)) {
    most_held_ = 0;
    return is_short_ = false;
  }
  if (!is_short_ && held >= most_held_) {
    most_held_ = held;
    is_short_ = true;
  } else if (held < most_held_ / 2) {
    is_short_ = false;
  }
  return is_short_;
}

}  // namespace millrace::server
