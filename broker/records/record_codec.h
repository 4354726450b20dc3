// Records to bytes and back (docs/JOURNAL.md, section 5), with the codec of the wire.
// Shape:   encode() appends one record to a Chunk; the payloads of Accepted are not copied: the
//          chunk refers to the frame they came in and keeps it
// Errors:  decode_all() stops at the first record that is not one, and says where and why
// Threads: any; no shared state
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "broker/records/records.h"
#include "common/base/result.h"
#include "common/journal/chunk.h"

namespace millrace::records {

// A chunk that knows how records are put into it.
class Chunk : public journal::Chunk {
 public:
  // Appends the record. `owner` keeps what the record's payload_array points into; it may be null
  // for every other record. Returns the offset in this chunk of the first byte of the record's
  // payload_bytes() (meaningful where it has any).
  size_t append(const Record& record, std::shared_ptr<const void> owner = nullptr);
};

// Calls visit(record, offset of the record in body) for each record. Views point into body. What
// payload_bytes() gives lies in body too, so its offset is data() - body.data().
Result<void> decode_all(std::string_view body,
                        const std::function<void(const Record&, size_t)>& visit);

}  // namespace millrace::records
