// Messages and records as one line of words, for transcripts. Jobs are written j5, j5-9, leases
// j5/2.7 (incarnation.counter), so that a transcript can be searched for a job.
// Threads: any
#pragma once

#include <string>

#include "broker/records/records.h"
#include "common/protocol/messages.h"

namespace millrace::sim {

std::string describe(const protocol::FromClient& message);
std::string describe(const protocol::FromBroker& message);
std::string describe(const records::Record& record);

}  // namespace millrace::sim
