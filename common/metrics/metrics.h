// Metrics in the text form that Prometheus scrapes.
// Shape:   one metric after the other: its head (gauge, counter, histogram), then its samples
// Limits:  labels that are not UTF-8 get replacement characters: one such byte would make a scrape
//          fail
// Threads: one
// Source:  the Prometheus text exposition format, 0.0.4
#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace millrace {

inline constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

class Exposition {
 public:
  struct Label {
    std::string_view name;
    std::string_view value;
  };
  using Labels = std::initializer_list<Label>;

  // Names get "millrace_" in front.
  void gauge(std::string_view name, std::string_view help) { head(name, "gauge", help); }
  void counter(std::string_view name, std::string_view help) { head(name, "counter", help); }
  void histogram(std::string_view name, std::string_view help) { head(name, "histogram", help); }

  // `suffix`: _bucket, _sum or _count of a histogram.
  template <typename Number>
  void sample(Labels labels, Number value, std::string_view suffix = "") {
    text_ += name_;
    text_ += suffix;
    add_labels(labels);
    text_ += fmt::format(" {}\n", value);
  }

  std::string take() { return std::move(text_); }

 private:
  void head(std::string_view name, std::string_view type, std::string_view help);
  void add_labels(Labels labels);

  std::string name_;
  std::string text_;
};

}  // namespace millrace
