// The records in the batches of a journal, which itself knows bytes only: for the start of a
// broker, and for the tools that look at a directory offline.
// Errors:  65 bytes that are no records; the visitor's own
// Threads: any; no shared state
#pragma once

#include <functional>

#include "broker/records/record_codec.h"
#include "common/journal/journal.h"
#include "common/journal/walk.h"

namespace millrace::records {

// Called for each record of the journal, in order, with the place of the record's first byte; views
// in the record are valid during the call. For a record with payload_bytes(), the place of these is
// given, so that payload i of an Accepted lies at offset + (payloads[i].data() -
// payload_array.data()).
using Visit = std::function<Result<void>(const Record&, journal::Place)>;
journal::Journal::Replay replay(Visit visit);

// A walk's visitor that is shown records.
class RecordVisitor : public journal::WalkVisitor {
 private:
  // `offset` is that of the record in its batch's body; `place` as above.
  virtual Result<void> on_record(const Record& record, size_t offset, journal::Place place) = 0;
  Result<void> on_body(std::string_view body, journal::Place* at) final;
};

}  // namespace millrace::records
