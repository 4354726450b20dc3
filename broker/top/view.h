// What `top` shows of a sample, and what its keys do: without a terminal, a clock or a broker.
// Shape:   press() a key → what is to be done outside; render() a sample → a screen of exactly the
//          given size
// Limits:  works from 40 columns and 8 rows on; below that it shows what fits
// Threads: one
#pragma once

#include <optional>
#include <string>

#include "broker/top/sample.h"
#include "broker/top/screen.h"

namespace millrace::top {

enum class Action { none, quit, toggle_pause, faster, slower };

class View {
 public:
  explicit View(std::string address) : address_(std::move(address)) {}

  // The newest sample; ignored while the view is frozen.
  void show(Sample sample);
  // Why there is no newer one; empty: there is.
  void set_error(std::string error) { error_ = std::move(error); }
  // A line at the bottom, until the next key.
  void set_message(std::string message) { message_ = std::move(message); }

  Action press(Key key, Size size);
  // Nothing: no queue is selected.
  const QueueSample* selected_queue() const;

  std::vector<Line> render(Size size, const std::string& time_of_day) const;

 private:
  enum class Table { queues, workers };
  struct Column;
  static const std::vector<Column>& queue_columns();
  static const std::vector<Column>& worker_columns();
  const std::vector<Column>& columns() const {
    return table_ == Table::queues ? queue_columns() : worker_columns();
  }
  struct Row;
  std::vector<Row> rows() const;
  std::vector<size_t> fitting_columns(size_t width) const;
  size_t name_width(size_t width, const std::vector<size_t>& columns) const;
  size_t sort_column() const { return table_ == Table::queues ? queue_sort_ : worker_sort_; }
  void sort_by_next(int step, Size size);
  void select(long step, size_t page, Key::Kind kind);
  void type(Key key);

  std::vector<Line> head(Size size, const std::string& time_of_day) const;
  std::vector<Line> help(Size size) const;
  Line table_head(size_t width) const;
  Line table_row(const Row& row, size_t width, bool selected) const;
  Line bottom(size_t width) const;
  size_t table_rows(Size size) const;

  std::string address_;
  std::optional<Sample> sample_;
  std::string error_, message_;
  Table table_ = Table::queues;
  size_t queue_sort_ = 1, worker_sort_ = 1;  // columns; 0 is the name
  bool reverse_ = false, frozen_ = false, help_ = false, typing_ = false;
  std::string filter_;
  std::string selected_;  // a name: rows move while the selection stays
};

}  // namespace millrace::top
