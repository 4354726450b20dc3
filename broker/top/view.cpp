#include "broker/top/view.h"

#include <fmt/format.h>

#include <algorithm>

#include "broker/cli/text_table.h"

namespace millrace::top {
namespace {

constexpr size_t kMinNameWidth = 16;
constexpr size_t kMaxAlerts = 3;
constexpr size_t kMaxFilter = 64;

constexpr const char* kHelp[] = {
    "up, down, PgUp, PgDn, Home, End   select a row",
    "Tab                               queues or workers",
    "< >                               sort by the column to the left or right",
    "r                                 reverse the order",
    "/                                 show only names that contain a text; Esc shows all",
    "p                                 pause or resume the selected queue",
    "Space                             freeze the display",
    "+ -                               refresh more or less often",
    "q                                 quit",
    "",
    "IN/S    jobs that came to the queue in a second, without those cancelled or expired since",
    "OUT/S   jobs done in a second",
    "any key closes this help",
};

std::string per_second(double rate) { return short_number(rate, 9) + "/s"; }

std::string bytes(uint64_t value) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto size = static_cast<double>(value);
  size_t unit = 0;
  while (size >= 1024 && unit + 1 < std::size(kUnits)) size /= 1024, ++unit;
  return fmt::format("{:.{}f} {}", size, unit == 0 ? 0 : 1, kUnits[unit]);
}

size_t length_of(const Line& line) {
  size_t length = 0;
  for (const Span& span : line) length += width_of(span.text);
  return length;
}

// As wide as the screen; what is too long is cut.
Line fitted(Line line, size_t width, Style fill = Style::normal) {
  size_t left = width;
  Line out;
  for (Span& span : line) {
    if (left == 0) break;
    const size_t own = width_of(span.text);
    if (own > left) span.text = fit(span.text, left);
    left -= std::min(own, left);
    out.push_back(std::move(span));
  }
  if (left > 0) out.push_back({std::string(left, ' '), fill});
  return out;
}

}  // namespace

struct View::Row {
  std::string name;
  std::vector<double> values;  // by column; that of the name is not used
  std::vector<std::string> texts;
  Style style = Style::normal;
};

struct View::Column {
  const char* title;
  size_t width;
  bool wide_only = false;  // shown on wide terminals only
};

const std::vector<View::Column>& View::queue_columns() {
  static const std::vector<Column> kColumns{
      {"QUEUE", 0},       {"READY", 10},  {"LEASED", 7},
      {"RETRY", 7},       {"DEAD", 7},    {"IN/S", 8},
      {"OUT/S", 8},       {"WORKERS", 7}, {"SCHEDULED", 10, true},
      {"DONE", 13, true},
  };
  return kColumns;
}

const std::vector<View::Column>& View::worker_columns() {
  static const std::vector<Column> kColumns{
      {"WORKER", 0}, {"IN-FLIGHT", 9}, {"THREADS", 7}, {"CREDIT", 7},
      {"DONE/S", 8}, {"DONE", 11},     {"FAILED", 8},  {"HEARD", 8},
  };
  return kColumns;
}

void View::show(Sample sample) {
  error_.clear();
  if (frozen_ && sample_) return;
  if (sample_) set_rates(*sample_, sample);
  sample_ = std::move(sample);
}

std::vector<View::Row> View::rows() const {
  std::vector<Row> rows;
  if (!sample_) return rows;
  auto add = [&](const std::string& name, std::vector<double> values, Style style) -> Row& {
    Row& row = rows.emplace_back(Row{name, std::move(values), {}, style});
    for (size_t i = 0; i < row.values.size(); ++i)
      row.texts.push_back(i == 0 ? name : short_number(row.values[i], columns()[i].width));
    return row;
  };
  if (table_ == Table::queues) {
    for (const QueueSample& q : sample_->queues) {
      const bool unserved = q.ready > 0 && q.workers == 0 && !q.paused;
      Row& row = add(q.name,
                     {0, double(q.ready), double(q.leased), double(q.retry_wait), double(q.dead),
                      q.in, q.out, double(q.workers), double(q.scheduled), double(q.done)},
                     q.paused   ? Style::warning
                     : unserved ? Style::critical
                                : Style::normal);
      if (q.paused) row.texts[7] = "paused";
    }
  } else {
    for (const WorkerSample& w : sample_->workers) {
      Row& row = add(w.name,
                     {0, double(w.in_flight), double(w.threads), double(w.credit), w.out,
                      double(w.done), double(w.failed), w.seconds_since_heard},
                     w.connected ? Style::normal : Style::warning);
      row.texts[7] = w.connected ? fmt::format("{:.1f} s", w.seconds_since_heard) : "awaited";
    }
  }
  std::erase_if(rows, [&](const Row& row) { return row.name.find(filter_) == std::string::npos; });
  const size_t by = sort_column();
  std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
    if (by == 0) return reverse_ ? a.name > b.name : a.name < b.name;
    if (a.values[by] == b.values[by]) return a.name < b.name;
    return reverse_ ? a.values[by] < b.values[by] : a.values[by] > b.values[by];
  });
  return rows;
}

const QueueSample* View::selected_queue() const {
  if (!sample_ || table_ != Table::queues) return nullptr;
  const auto shown = rows();
  if (shown.empty()) return nullptr;
  const auto row = std::find_if(shown.begin(), shown.end(),
                                [&](const Row& one) { return one.name == selected_; });
  const std::string& name = row == shown.end() ? shown.front().name : row->name;
  for (const QueueSample& queue : sample_->queues)
    if (queue.name == name) return &queue;
  return nullptr;
}

// The columns for which there is room, the name's first.
std::vector<size_t> View::fitting_columns(size_t width) const {
  std::vector<size_t> fitting{0};
  size_t used = kMinNameWidth;
  for (size_t i = 1; i < columns().size(); ++i) {
    const size_t own = columns()[i].width + 1;
    if (used + own + (columns()[i].wide_only ? kMinNameWidth : 0) > width) continue;
    used += own;
    fitting.push_back(i);
  }
  return fitting;
}

size_t View::name_width(size_t width, const std::vector<size_t>& shown) const {
  size_t used = 0;
  for (size_t i : shown)
    if (i > 0) used += columns()[i].width + 1;
  return width > used ? width - used : 0;
}

void View::sort_by_next(int step, Size size) {
  const auto shown = fitting_columns(size.columns);
  size_t& by = table_ == Table::queues ? queue_sort_ : worker_sort_;
  auto place = std::find(shown.begin(), shown.end(), by) - shown.begin();
  place = std::clamp<long>(place + step, 0, long(shown.size()) - 1);
  by = shown[size_t(place)];
}

void View::select(long step, size_t page, Key::Kind kind) {
  const auto shown = rows();
  if (shown.empty()) return;
  const auto row = std::find_if(shown.begin(), shown.end(),
                                [&](const Row& one) { return one.name == selected_; });
  long place = row == shown.end() ? 0 : row - shown.begin();
  if (kind == Key::page_up || kind == Key::page_down) step *= long(std::max<size_t>(page, 1));
  if (kind == Key::home) place = 0;
  if (kind == Key::end) place = long(shown.size()) - 1;
  place = std::clamp<long>(place + step, 0, long(shown.size()) - 1);
  selected_ = shown[size_t(place)].name;
}

void View::type(Key key) {
  if (key.kind == Key::enter) {
    typing_ = false;
  } else if (key.kind == Key::escape) {
    typing_ = false;
    filter_.clear();
  } else if (key.kind == Key::backspace) {
    if (!filter_.empty()) filter_.pop_back();
  } else if (key.kind == Key::character && filter_.size() < kMaxFilter) {
    filter_ += key.value;
  }
}

Action View::press(Key key, Size size) {
  message_.clear();
  if (help_) {
    help_ = false;
    return Action::none;
  }
  if (typing_) {
    type(key);
    return Action::none;
  }
  switch (key.kind) {
    case Key::up:
    case Key::page_up:
      select(-1, table_rows(size), key.kind);
      return Action::none;
    case Key::down:
    case Key::page_down:
      select(1, table_rows(size), key.kind);
      return Action::none;
    case Key::home:
    case Key::end:
      select(0, 0, key.kind);
      return Action::none;
    case Key::tab:
      table_ = table_ == Table::queues ? Table::workers : Table::queues;
      selected_.clear();
      return Action::none;
    case Key::escape:
      filter_.clear();
      return Action::none;
    case Key::enter:
    case Key::backspace:
      return Action::none;
    case Key::character:
      break;
  }
  switch (key.value) {
    case 'q':
      return Action::quit;
    case 'p':
      return selected_queue() ? Action::toggle_pause : Action::none;
    case '+':
      return Action::faster;
    case '-':
      return Action::slower;
    case '<':
      sort_by_next(-1, size);
      break;
    case '>':
      sort_by_next(1, size);
      break;
    case 'r':
      reverse_ = !reverse_;
      break;
    case '/':
      typing_ = true;
      filter_.clear();
      break;
    case ' ':
      frozen_ = !frozen_;
      break;
    case '?':
    case 'h':
      help_ = true;
      break;
    default:
      break;
  }
  return Action::none;
}

std::vector<Line> View::head(Size size, const std::string& time_of_day) const {
  const Sample& s = *sample_;
  std::vector<Line> lines;
  Line title{{fmt::format("millrace {}  {}  up {}  fsync {}  {}", s.broker, s.state,
                          admin::span(s.uptime_ms), s.fsync, address_),
              Style::bar}};
  const std::string right = (frozen_ ? "frozen  " : "") + time_of_day;
  const size_t used = length_of(title) + width_of(right);
  if (used + 2 <= size.columns)
    title.push_back({std::string(size.columns - used, ' ') + right, Style::bar});
  lines.push_back(fitted(std::move(title), size.columns, Style::bar));
  auto amount = [](uint64_t number) { return grouped(number); };
  lines.push_back(
      {{"jobs     ", Style::faint},
       {fmt::format("{} ready  {} leased  {} retry-wait  {} scheduled  ", amount(s.ready),
                    amount(s.leased), amount(s.retry_wait), amount(s.scheduled))},
       {amount(s.dead) + " dead", s.dead > 0 ? Style::warning : Style::normal}});
  lines.push_back({{"rates    ", Style::faint},
                   {fmt::format("accepted {}  done {}  failed {}  ", per_second(s.accepted_rate),
                                per_second(s.done_rate), per_second(s.failure_rate))},
                   {"rejected " + per_second(s.rejected_rate),
                    s.rejected_rate > 0 ? Style::critical : Style::normal}});
  lines.push_back({{"journal  ", Style::faint},
                   {fmt::format("{} in {} segment{}  {} commits  last {:.2f} ms  {} free",
                                bytes(s.journal_bytes), amount(s.segments),
                                s.segments == 1 ? "" : "s", per_second(s.commit_rate),
                                double(s.last_commit_us) / 1000, bytes(s.disk_free))}});
  lines.push_back({{"memory   ", Style::faint},
                   {fmt::format("{}  connections {} of {}  producers {}  workers {}", bytes(s.rss),
                                amount(s.connections), amount(s.connection_limit),
                                amount(s.producers), amount(s.workers.size()))}});
  for (size_t i = 0; i < s.alerts.size() && i < kMaxAlerts; ++i) {
    const AlertSample& alert = s.alerts[i];
    lines.push_back({{fmt::format("{}: {}: ", alert.subject, alert.problem),
                      alert.critical ? Style::critical : Style::warning},
                     {alert.remedy}});
  }
  if (s.alerts.size() > kMaxAlerts)
    lines.push_back(
        {{fmt::format("and {} more alerts: millrace-broker status", s.alerts.size() - kMaxAlerts),
          Style::faint}});
  if (!error_.empty()) lines.push_back({{error_, Style::critical}});
  for (Line& line : lines) line = fitted(std::move(line), size.columns);
  return lines;
}

size_t View::table_rows(Size size) const {
  if (!sample_) return 0;
  const size_t used = head(size, "").size() + 3;  // an empty line, the columns' titles, the bottom
  return size.rows > used ? size.rows - used : 0;
}

Line View::table_head(size_t width) const {
  const auto shown = fitting_columns(width);
  Line line;
  for (size_t i : shown) {
    const Column& column = columns()[i];
    const Style style = i == sort_column() ? Style::bold : Style::faint;
    if (i == 0) {
      line.push_back({fit(column.title, name_width(width, shown)), style});
    } else {
      line.push_back({" " + fit_right(column.title, column.width), style});
    }
  }
  return fitted(std::move(line), width);
}

Line View::table_row(const Row& row, size_t width, bool selected) const {
  const auto shown = fitting_columns(width);
  std::string text;
  for (size_t i : shown) {
    if (i == 0) {
      text += fit(row.name, name_width(width, shown));
    } else {
      text += " " + fit_right(row.texts[i], columns()[i].width);
    }
  }
  const Style style = selected ? Style::selected : row.style;
  return fitted({{std::move(text), style}}, width, style);
}

Line View::bottom(size_t width) const {
  if (typing_) return fitted({{"show only names with: " + filter_ + "_", Style::bold}}, width);
  if (!message_.empty()) return fitted({{message_, Style::bold}}, width);
  std::string keys = "q quit  Tab workers  < > sort  r reverse  / filter  p pause  ? help";
  if (table_ == Table::workers) keys = "q quit  Tab queues  < > sort  r reverse  / filter  ? help";
  if (!filter_.empty()) keys = fmt::format("showing '{}', Esc shows all  ", filter_) + keys;
  return fitted({{keys, Style::faint}}, width);
}

std::vector<Line> View::help(Size size) const {
  std::vector<Line> lines{
      fitted({{"Keys of millrace-broker top", Style::bar}}, size.columns, Style::bar)};
  for (const char* line : kHelp) lines.push_back(fitted({{line}}, size.columns));
  lines.resize(size.rows, fitted({}, size.columns));
  return lines;
}

std::vector<Line> View::render(Size size, const std::string& time_of_day) const {
  if (help_) return help(size);
  if (!sample_) {
    std::vector<Line> lines{
        fitted({{error_.empty() ? "asking " + address_ + " ..." : error_}}, size.columns)};
    lines.resize(size.rows, fitted({}, size.columns));
    return lines;
  }
  std::vector<Line> lines = head(size, time_of_day);
  lines.push_back(fitted({}, size.columns));
  lines.push_back(table_head(size.columns));
  const auto all = rows();
  const size_t height = table_rows(size);
  size_t selected = 0;
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i].name == selected_) selected = i;
  const size_t first = selected < height ? 0 : selected - height + 1;
  for (size_t i = first; i < all.size() && i < first + height; ++i)
    lines.push_back(table_row(all[i], size.columns, i == selected));
  if (all.empty() && height > 0) {
    std::string none = table_ == Table::queues
                           ? "no queues yet: the first job creates one"
                           : "no workers: millrace-worker run --queue NAME=HANDLER";
    if (!filter_.empty()) none = "no name contains '" + filter_ + "'";
    lines.push_back(fitted({{none, Style::faint}}, size.columns));
  }
  lines.resize(size.rows > 0 ? size.rows - 1 : 0, fitted({}, size.columns));
  lines.push_back(bottom(size.columns));
  return lines;
}

}  // namespace millrace::top
