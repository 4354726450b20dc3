// The queries of GET /v1/jobs and GET /v1/dead.
// Shape:   queue=NAME  state=ready,leased  key=KEY (with queue)  worker=NAME  error=TEXT  age=10m
//          limit=100  cursor=the 'next' of the page before
//          Of dead jobs: queue, worker, error, age, limit, cursor, group=error
// Errors:  usage: no such parameter, or given twice; bad_data: a bad value
// Threads: any
#pragma once

#include <string_view>

#include "broker/admin/operation.h"

namespace millrace::admin {

Result<ListJobs> read_job_query(std::string_view query);
Result<ListDead> read_dead_query(std::string_view query);

}  // namespace millrace::admin
