#include "common/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "common/os/stderr_output.h"

namespace millrace {
namespace {

constexpr Millis kBarEvery{500};
constexpr Millis kLineEvery{5000};
constexpr size_t kBarWidth = 20;

std::string eta_text(double seconds) {
  auto whole = uint64_t(seconds + 0.5);
  if (whole < 120) return fmt::format("{}s", whole);
  if (whole < 7200) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
}

double fraction_of(const ProgressFigures& figures) {
  if (!figures.total || *figures.total == 0) return 0;
  return std::min(1.0, double(figures.position) / double(*figures.total));
}

}  // namespace

std::string with_thousands(uint64_t number) {
  std::string text = std::to_string(number);
  for (size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

std::string progress_bar(double fraction) {
  auto filled = size_t(std::clamp(fraction, 0.0, 1.0) * double(kBarWidth));
  return "[" + std::string(filled, '#') + std::string(kBarWidth - filled, ' ') + "]";
}

std::string progress_text(const ProgressFigures& figures, double rate) {
  std::string text;
  if (figures.total) text += fmt::format("{:3.0f}%  ", 100 * fraction_of(figures));
  for (auto [name, count] : figures.counts) {
    text += fmt::format("{} {}  ", name, with_thousands(count));
  }
  text += with_thousands(uint64_t(rate)) + "/s";
  if (figures.total && rate > 0 && figures.position < *figures.total) {
    text += "  ETA " + eta_text(double(*figures.total - figures.position) / rate);
  }
  return text;
}

Progress::Style Progress::style_for_stderr(bool quiet) {
  if (quiet) return Style::none;
  return isatty(STDERR_FILENO) ? Style::bar : Style::lines;
}

Progress::Progress(Style style, Mono start)
    : style_(style), next_(start + (style == Style::bar ? kBarEvery : kLineEvery)), last_(start) {}

void Progress::show(Mono now, const ProgressFigures& figures) {
  if (!due(now)) return;
  double seconds = std::chrono::duration<double>(now - last_).count();
  uint64_t moved = figures.position - std::min(last_position_, figures.position);
  std::string text = progress_text(figures, seconds > 0 ? double(moved) / seconds : 0);
  if (style_ == Style::bar) {
    std::string bar = figures.total ? progress_bar(fraction_of(figures)) + " " : "";
    write_to_stderr(fmt::format("\r\x1b[K{}{}", bar, text));
    drawn_ = true;
  } else {
    write_to_stderr(text + "\n");
  }
  last_ = now;
  last_position_ = figures.position;
  next_ = now + (style_ == Style::bar ? kBarEvery : kLineEvery);
}

void Progress::finish() {
  if (drawn_) write_to_stderr("\r\x1b[K");
  drawn_ = false;
}

}  // namespace millrace
