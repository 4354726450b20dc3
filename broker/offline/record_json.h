// A record as people and scripts read it: `millrace-broker journal dump`.
// Shape:   the fields of docs/JOURNAL.md, section 5, by name; sizes in place of payloads and
//          results, unless they are requested, then in base64
// Threads: immutable
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "broker/records/records.h"

namespace millrace::offline {

const char* name_of_type(size_t index);  // in the variant
const char* name_of(const records::Record& record);
// When it happened, where the record says so; else the epoch (0).
WallMs time_of(const records::Record& record);
// Whether it is about this job by its number; a Checkpoint is about none.
bool concerns(const records::Record& record, JobId job);
nlohmann::ordered_json record_json(const records::Record& record, bool payloads);
// One line: NAME key=value …
std::string record_text(const std::string& name, const nlohmann::ordered_json& fields);

}  // namespace millrace::offline
