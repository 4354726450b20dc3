// A job as people are shown it: a line of a listing, or all that the broker's memory has of it.
// Shape:   what is not known is left out
// Threads: the core's
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "broker/core/core.h"

namespace millrace::listing {

// In one line; bytes that are not UTF-8 are replaced, and what a terminal would obey is escaped.
std::string dumped(const nlohmann::ordered_json& json);

// `worker` is what the worker that has its lease is called.
nlohmann::ordered_json job_summary(const core::State& state, JobId id, const core::Job& job,
                                   const std::string& worker);
// GET /v1/jobs/{id}, of a job that was accepted here once.
nlohmann::ordered_json job_record(const core::Core& core, Now now, JobId id);

// Of a dead job: "all 5 attempts failed".
std::string death_reason(const core::Core& core, JobId id, const core::Job& job);

}  // namespace millrace::listing
