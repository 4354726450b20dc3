#include "producer/load/plot.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace millrace::producer {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

bool on_path(const std::string& program) {
  const char* path = getenv("PATH");
  std::string_view rest = path ? path : "";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    if (access(fmt::format("{}/{}", rest.substr(0, end), program).c_str(), X_OK) == 0) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

std::string number(double value) { return fmt::format("{:.6g}", value); }

std::string number(const std::optional<LoadRow::Quantiles>& ms, double LoadRow::Quantiles::*which) {
  return ms ? number((*ms).*which) : "NaN";
}

// Rates, not counts: the last row may be shorter than a second, and is left out when it is so short
// that its rate says nothing.
std::string data_block(const std::vector<LoadRow>& rows) {
  constexpr double kShortest = 0.2;
  std::string data = "$rows << END\n";
  for (const LoadRow& row : rows) {
    if (row.seconds < kShortest && rows.size() > 1) continue;
    using Q = LoadRow::Quantiles;
    data += fmt::format("{} {} {} {} {} {} {} {} {}\n", number(row.time_s - row.seconds / 2),
                        number(double(row.sent) / row.seconds),
                        number(double(row.confirmed) / row.seconds),
                        number(double(row.completed) / row.seconds),
                        number(row.confirm, &Q::p50_ms), number(row.confirm, &Q::p99_ms),
                        number(row.latency, &Q::p50_ms), number(row.latency, &Q::p99_ms),
                        row.queue_depth ? std::to_string(*row.queue_depth) : "NaN");
  }
  return data + "END\n";
}

bool has(const std::vector<LoadRow>& rows, bool (*what)(const LoadRow&)) {
  return std::any_of(rows.begin(), rows.end(), what);
}

// The legend stands beside the data, never over it.
constexpr const char* kStyle = R"(
set encoding utf8
set multiplot
set lmargin at screen 0.105
set rmargin at screen 0.80
set border 3 lc rgb '#666666'
set tics nomirror textcolor rgb '#444444'
set grid ytics lt 1 lc rgb '#e6e6e6' lw 0.7
set key at screen 0.815, graph 1 left top vertical Left reverse samplen 1.6 spacing 1.25 textcolor rgb '#222222'
set style data lines
set xrange [0:*]
set format x ''
)";

constexpr const char* kRates = R"(
set tmargin at screen 0.91
set bmargin at screen 0.66
set yrange [0:*]
set label 1 'jobs a second' at screen 0.025, graph 0.5 center rotate textcolor rgb '#222222'
set format y '%.0s%c'
)";

constexpr const char* kLatencies = R"(
unset title
set tmargin at screen 0.61
set bmargin at screen 0.36
set logscale y
set yrange [*:*]
set label 1 'milliseconds (log)' at screen 0.025, graph 0.5 center rotate textcolor rgb '#222222'
set format y '%g'
)";

constexpr const char* kDepth = R"(
set tmargin at screen 0.31
set bmargin at screen 0.09
unset logscale y
set yrange [0:*]
set label 1 'jobs' at screen 0.025, graph 0.5 center rotate textcolor rgb '#222222'
set format y '%.0s%c'
set format x '%g'
set xlabel 'seconds since the start' textcolor rgb '#222222'
)";

// Before the load runs, and without creating the file.
bool can_create(const std::string& path) {
  if (access(path.c_str(), F_OK) == 0) return access(path.c_str(), W_OK) == 0;
  const std::string parent = path.substr(0, path.rfind('/') + 1);
  return access(parent.empty() ? "." : parent.c_str(), W_OK | X_OK) == 0;
}

Error cant_create(const std::string& path) {
  return {ExitCode::cant_create,
          fmt::format("can't create {}: {}; does its directory exist, may you write there?", path,
                      std::strerror(errno))};
}

}  // namespace

Result<void> check_plot(const std::string& path) {
  if (!path.ends_with(".svg") && !path.ends_with(".png"))
    return Error{ExitCode::usage,
                 fmt::format("--plot {}: write a name that ends in .svg or .png", path)};
  if (!can_create(path)) return cant_create(path);
  if (on_path("gnuplot")) return {};
  return Error{ExitCode::unavailable,
               "--plot draws with gnuplot, which is not on PATH: install it (apt install "
               "gnuplot-nox), or write --csv FILE and draw that elsewhere"};
}

std::string plot_script(const std::string& path, const std::string& title,
                        const std::vector<LoadRow>& rows) {
  const bool svg = path.ends_with(".svg");
  std::string script = svg ? "set terminal svg size 1000,760 enhanced font 'sans-serif,13' "
                             "background rgb 'white' linewidth 1.4\n"
                           : "set terminal pngcairo size 1000,760 enhanced font 'Sans,11' "
                             "background rgb 'white' linewidth 1.4\n";
  script += "set output " + quoted(path) + "\n" + data_block(rows) + kStyle;
  const bool ends = has(rows, [](const LoadRow& row) { return row.latency.has_value(); });
  const bool confirms = has(rows, [](const LoadRow& row) { return row.confirm.has_value(); });
  script += kRates;
  script += "set title " + quoted(title) + " noenhanced textcolor rgb '#222222'\n";
  script +=
      "plot $rows using 1:2 title 'sent' lw 2.5 lc rgb '#b8b8b8', "
      "'' using 1:3 title 'confirmed' lw 1.5 lc rgb '#0072b2'";
  if (ends) script += ", '' using 1:4 title 'done' lw 1.5 lc rgb '#d55e00'";
  script += "\n";
  if (confirms || ends) {
    script += kLatencies;
    std::string curves;
    if (confirms)
      curves +=
          "$rows using 1:6 title 'confirm p99' lw 1.5 lc rgb '#0072b2', "
          "$rows using 1:5 title 'confirm p50' lw 1.5 dt 2 lc rgb '#0072b2'";
    if (ends)
      curves += std::string(confirms ? ", " : "") +
                "$rows using 1:8 title 'end p99' lw 1.5 lc rgb '#d55e00', "
                "$rows using 1:7 title 'end p50' lw 1.5 dt 2 lc rgb '#d55e00'";
    script += "plot " + curves + "\n";
  }
  script += kDepth;
  if (has(rows, [](const LoadRow& row) { return row.queue_depth.has_value(); })) {
    script +=
        "plot $rows using 1:9 with filledcurves y=0 fs transparent solid 0.25 noborder "
        "lc rgb '#009e73' notitle, $rows using 1:9 title 'queue depth' lw 1.5 "
        "lc rgb '#009e73'\n";
  } else {
    script +=
        "set label 2 'queue depth is not known: nobody waited for the ends' at graph "
        "0.5,0.5 center\nset yrange [0:1]\nplot $rows using 1:(NaN) notitle\n";
  }
  return script + "unset multiplot\n";
}

Result<void> draw_plot(const std::string& path, const std::string& title,
                       const std::vector<LoadRow>& rows) {
  FILE* created = std::fopen(path.c_str(), "we");
  if (!created) return cant_create(path);
  std::fclose(created);
  FILE* gnuplot = popen("gnuplot", "we");
  if (!gnuplot)
    return Error{ExitCode::io, fmt::format("can't start gnuplot: {}", std::strerror(errno))};
  // A gnuplot that ends early is told by its exit status.
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  const std::string script = plot_script(path, title, rows);
  const bool written = std::fwrite(script.data(), 1, script.size(), gnuplot) == script.size();
  const int status = pclose(gnuplot);
  std::signal(SIGPIPE, before);
  if (written && WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return Error{ExitCode::io, fmt::format("gnuplot could not draw {}; its output is above", path)};
}

}  // namespace millrace::producer
