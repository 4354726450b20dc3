#include "broker/top/view.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "broker/admin/status_json.h"
#include "tests/catch.h"
#include "tests/unit/admin/admin_sample.h"

namespace millrace::top {
namespace {

constexpr Size kSmall{24, 80};

Sample sample_of(const admin::Status& status, int second = 0) {
  return read_sample(nlohmann::json::parse(admin::json_text(admin::status_json(status))),
                     Mono(std::chrono::seconds(second)));
}

admin::Status three_queues() {
  admin::Status status = admin::sample_status();
  status.queues = {{"mail", 5, 1, 0, 0, 100, 1}, {"orders", 9, 0, 0, 0, 50, 1}, {"sms", 7}};
  return status;
}

// The names in the table, from the top.
std::vector<std::string> names(const View& view, Size size = kSmall) {
  std::vector<std::string> found;
  for (const Line& line : view.render(size, "12:00:00"))
    for (const char* name : {"mail", "orders", "sms", "host:1", "host:2"})
      if (line.at(0).text.starts_with(name)) found.push_back(name);
  return found;
}

std::string text_of(const View& view, Size size = kSmall) {
  return plain(view.render(size, "12:00:00"));
}

Key key(char c) { return {Key::character, c}; }

}  // namespace

TEST_CASE("a screen has exactly the terminal's size, whatever that is", "[top]") {
  View view("127.0.0.1:5580");
  for (bool sampled : {false, true}) {
    if (sampled) view.show(sample_of(three_queues()));
    for (Size size : {kSmall, Size{8, 40}, Size{60, 200}, Size{3, 10}, Size{1, 1}}) {
      const auto screen = view.render(size, "12:00:00");
      CAPTURE(sampled, size.rows, size.columns);
      CHECK(screen.size() >= size.rows);
      for (const Line& line : screen) {
        size_t width = 0;
        for (const Span& span : line) width += width_of(span.text);
        CHECK(width == size.columns);
      }
    }
  }
}

TEST_CASE("rates are those between two samples", "[top]") {
  View view("127.0.0.1:5580");
  admin::Status status = three_queues();
  view.show(sample_of(status, 0));
  status.totals.accepted += 20'000;
  status.queues[0].done += 6'000;
  status.queues[0].ready += 4'000;
  view.show(sample_of(status, 2));
  const std::string text = text_of(view);
  CHECK(text.find("accepted 10,000/s") != std::string::npos);
  std::istringstream row(text.substr(text.find("\nmail ")));
  std::vector<std::string> cells(8);
  for (std::string& cell : cells) row >> cell;
  CHECK(cells == std::vector<std::string>{"mail", "4,005", "1", "0", "0", "5,000", "3,000", "1"});
}

TEST_CASE("a broker that restarted has no rates below zero", "[top]") {
  View view("127.0.0.1:5580");
  admin::Status status = three_queues();
  view.show(sample_of(status, 0));
  status.totals.accepted = 0;
  view.show(sample_of(status, 1));
  CHECK(text_of(view).find("accepted 0/s") != std::string::npos);
}

TEST_CASE("tables are sorted by a column that keys choose", "[top]") {
  View view("127.0.0.1:5580");
  view.show(sample_of(three_queues()));
  CHECK(names(view) == std::vector<std::string>{"orders", "sms", "mail"});  // by ready
  view.press(key('r'), kSmall);
  CHECK(names(view) == std::vector<std::string>{"mail", "sms", "orders"});
  view.press(key('r'), kSmall);
  view.press(key('<'), kSmall);
  CHECK(names(view) == std::vector<std::string>{"mail", "orders", "sms"});  // by name
  view.press({Key::tab}, kSmall);
  CHECK(names(view) == std::vector<std::string>{"host:1", "host:2"});
}

TEST_CASE("the selection stays with its queue when rows move", "[top]") {
  View view("127.0.0.1:5580");
  admin::Status status = three_queues();
  view.show(sample_of(status));
  CHECK(view.selected_queue()->name == "orders");
  view.press({Key::down}, kSmall);
  CHECK(view.selected_queue()->name == "sms");
  status.queues[2].ready = 100;
  view.show(sample_of(status, 1));
  CHECK(names(view)[0] == "sms");
  CHECK(view.selected_queue()->name == "sms");
  view.press({Key::end}, kSmall);
  CHECK(view.selected_queue()->name == "mail");
  CHECK(view.press(key('p'), kSmall) == Action::toggle_pause);
  view.press({Key::tab}, kSmall);
  CHECK(view.selected_queue() == nullptr);
  CHECK(view.press(key('p'), kSmall) == Action::none);
}

TEST_CASE("the selected row is always on the screen", "[top]") {
  View view("127.0.0.1:5580");
  admin::Status status = three_queues();
  status.queues.clear();
  for (int i = 0; i < 100; ++i) status.queues.push_back({"q" + std::to_string(1000 + i), 1});
  view.show(sample_of(status));
  view.press({Key::end}, kSmall);
  CHECK(text_of(view).find("q1099") != std::string::npos);
  view.press({Key::page_up}, kSmall);
  CHECK(text_of(view).find(view.selected_queue()->name) != std::string::npos);
}

TEST_CASE("a filter shows only names that contain it", "[top]") {
  View view("127.0.0.1:5580");
  view.show(sample_of(three_queues()));
  view.press(key('/'), kSmall);
  for (char c : std::string("mx")) view.press(key(c), kSmall);
  view.press({Key::backspace}, kSmall);
  CHECK(view.press(key('q'), kSmall) == Action::none);  // typed, and does not quit
  CHECK(names(view).empty());
  view.press({Key::backspace}, kSmall);
  view.press({Key::enter}, kSmall);
  CHECK(names(view) == std::vector<std::string>{"sms", "mail"});
  view.press({Key::escape}, kSmall);
  CHECK(names(view).size() == 3);
}

TEST_CASE("a frozen view stays as it was", "[top]") {
  View view("127.0.0.1:5580");
  view.show(sample_of(three_queues()));
  view.press(key(' '), kSmall);
  admin::Status status = three_queues();
  status.queues.clear();
  view.show(sample_of(status, 1));
  CHECK(names(view).size() == 3);
  view.press(key(' '), kSmall);
  view.show(sample_of(status, 2));
  CHECK(names(view).empty());
}

TEST_CASE("names from outside do not steer the terminal", "[top]") {
  View view("127.0.0.1:5580");
  admin::Status status = three_queues();
  status.workers[0].name = "\x1b]0;owned\x07host";
  view.show(sample_of(status));
  view.press({Key::tab}, kSmall);
  const std::string text = text_of(view);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("\\x1b]0;owned\\x07host") != std::string::npos);
}

TEST_CASE("numbers that are too wide are shortened", "[top]") {
  CHECK(short_number(0, 7) == "0");
  CHECK(short_number(3.14, 7) == "3.1");
  CHECK(short_number(999'999, 7) == "999,999");
  CHECK(short_number(1'234'567, 7) == "1.2M");
  CHECK(short_number(12'345'678, 7) == "12M");
}

}  // namespace millrace::top
