// `millrace-broker journal dump`: each record of a journal as a line on stdout.
// Shape:   payloads and results only if they are asked for
// Errors:  74 stdout takes no more, or the directory can't be read; 65 the job is another broker's
// Threads: one
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "broker/offline/survey.h"
#include "common/journal/walk.h"

namespace millrace::offline {

struct DumpOptions {
  bool json = false;
  bool payloads = false;
  std::optional<SegmentId> from;
  std::optional<JobId> job;
  std::optional<BrokerId> broker;  // of the job, if its name said it
};

// What was not right in it, torn tail included; the lines around it are printed all the same.
Result<std::vector<journal::Finding>> dump(
    journal::Directory& directory, const DumpOptions& options,
    const std::function<void(const SurveyProgress&)>& progress);

}  // namespace millrace::offline
