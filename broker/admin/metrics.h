// A Status in the text format of Prometheus, version 0.0.4.
// Shape:   every name begins with millrace_, has HELP and TYPE, and its unit in the name;
//          counters end in _total
// Units:   seconds and bytes
// Threads: any
// Source:  prometheus.io, "Exposition formats" and "Metric and label naming"
#pragma once

#include <string>

#include "broker/admin/status.h"

namespace millrace::admin {

std::string metrics_text(const Status& status);

}  // namespace millrace::admin
