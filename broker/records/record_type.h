// The number that each record begins with (docs/JOURNAL.md, section 5).
#pragma once

#include <cstdint>

namespace millrace::records {

enum class Type : uint8_t {
  started = 1,
  accepted,
  leased,
  done,
  failed,
  returned,
  due,
  collected,
  producer_gone,
  checkpoint,
  matched,
  cancelled,
  expired,
  requeued,
  queue_set,
  relocated,
  result_retained,
  history_trimmed,
  absent,
};

}  // namespace millrace::records
