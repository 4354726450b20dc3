// The picture of a load: throughput, latencies and queue depth over time, drawn by gnuplot.
// Errors:  usage: a name that ends neither in .svg nor in .png; unavailable: no gnuplot on PATH;
//          cant_create, io: the file
// Threads: one thread
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "producer/load/series.h"

namespace millrace::producer {

// Before the load, so that nobody waits for a picture that can't be drawn.
Result<void> check_plot(const std::string& path);
// What gnuplot is told.
std::string plot_script(const std::string& path, const std::string& title,
                        const std::vector<LoadRow>& rows);
Result<void> draw_plot(const std::string& path, const std::string& title,
                       const std::vector<LoadRow>& rows);

}  // namespace millrace::producer
