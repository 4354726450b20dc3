// How far a long run has come, on stderr: a bar that is redrawn on a terminal, otherwise a line
// every five seconds, so that logs of unattended runs stay short.
// Shape:   [##########          ]  50%  sent 150,000  confirmed 149,980  done 149,200  5,003/s  ETA 30s
// Units:   monotonic time, passed in
// Errors:  what can't be written at once is not shown
// Threads: one thread
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/time.h"

namespace millrace {

struct ProgressFigures {
  // What is shown, in this order: {"sent", 150000}, …
  std::vector<std::pair<std::string_view, uint64_t>> counts;
  uint64_t position = 0;  // what percent, rate and ETA are about
  std::optional<uint64_t> total;
};

// The text without a bar: 50%  sent 150,000  5,003/s  ETA 30s. `rate` is positions a second.
std::string progress_text(const ProgressFigures& figures, double rate);
std::string progress_bar(double fraction);
std::string with_thousands(uint64_t number);

class Progress {
 public:
  enum class Style { none, bar, lines };
  // bar if stderr is a terminal, unless it is to be quiet.
  static Style style_for_stderr(bool quiet);

  Progress(Style style, Mono start);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Whether show() would write now; saves its caller from gathering the figures.
  bool due(Mono now) const { return style_ != Style::none && now >= next_; }
  void show(Mono now, const ProgressFigures& figures);
  // Leaves the cursor on an empty line: what follows on stderr stands alone.
  void finish();

 private:
  Style style_;
  Mono next_;
  Mono last_;
  uint64_t last_position_ = 0;
  bool drawn_ = false;
};

}  // namespace millrace
