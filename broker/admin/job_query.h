// The query of GET /v1/jobs.
// Shape:   queue=NAME  state=ready,leased  key=KEY (with queue)  worker=NAME  error=TEXT  age=10m
//          limit=100  cursor=the 'next' of the page before
// Errors:  usage: no such parameter, or given twice; bad_data: a bad value
// Threads: any
#pragma once

#include <string_view>

#include "broker/admin/operation.h"

namespace millrace::admin {

Result<ListJobs> read_job_query(std::string_view query);

}  // namespace millrace::admin
