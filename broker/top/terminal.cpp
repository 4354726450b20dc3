#include "broker/top/terminal.h"

#include <curses.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <term.h>
#include <unistd.h>

#include <clocale>
#include <cstdlib>

// term.h defines these as macros.
#undef lines
#undef columns
#undef tab
#undef bell

namespace millrace::top {
namespace {

// Colour pairs.
constexpr short kWarning = 1, kCritical = 2;

attr_t attributes_of(Style style) {
  const bool colours = has_colors() && !std::getenv("NO_COLOR");
  switch (style) {
    case Style::normal:
      return A_NORMAL;
    case Style::faint:
      return A_DIM;
    case Style::bold:
      return A_BOLD;
    case Style::bar:
    case Style::selected:
      return A_REVERSE;
    case Style::warning:
      return colours ? attr_t(COLOR_PAIR(kWarning)) : attr_t(A_BOLD);
    case Style::critical:
      return A_BOLD | (colours ? attr_t(COLOR_PAIR(kCritical)) : attr_t(A_UNDERLINE));
  }
  return A_NORMAL;
}

std::optional<Key> key_of(int code) {
  switch (code) {
    case KEY_UP:
      return Key{Key::up};
    case KEY_DOWN:
      return Key{Key::down};
    case KEY_PPAGE:
      return Key{Key::page_up};
    case KEY_NPAGE:
      return Key{Key::page_down};
    case KEY_HOME:
      return Key{Key::home};
    case KEY_END:
      return Key{Key::end};
    case '\t':
      return Key{Key::tab};
    case KEY_ENTER:
    case '\r':
    case '\n':
      return Key{Key::enter};
    case 27:
      return Key{Key::escape};
    case KEY_BACKSPACE:
    case 127:
    case 8:
      return Key{Key::backspace};
    default:
      if (code < 32 || code > 126) return std::nullopt;
      return Key{Key::character, char(code)};
  }
}

}  // namespace

Result<std::unique_ptr<Terminal>> Terminal::open() {
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
    return Error{ExitCode::usage,
                 "top needs a terminal for input and output; for a file or a pipe use "
                 "'millrace-broker status --watch', or with --json"};
  int status = 0;
  if (setupterm(nullptr, STDOUT_FILENO, &status) == ERR) {
    const char* name = std::getenv("TERM");
    return Error{ExitCode::config,
                 fmt::format("TERM={} is no terminal that this machine knows; set TERM=xterm, or "
                             "install its description (package ncurses-term)",
                             name ? name : "")};
  }
  // Names in other scripts are UTF-8, whatever the rest of the environment says.
  if (!std::setlocale(LC_CTYPE, "C.UTF-8")) std::setlocale(LC_CTYPE, "");
  initscr();
  cbreak();
  noecho();
  keypad(stdscr, TRUE);
  nodelay(stdscr, TRUE);
  set_escdelay(25);
  curs_set(0);
  if (has_colors()) {
    start_color();
    use_default_colors();
    init_pair(kWarning, COLOR_YELLOW, -1);
    init_pair(kCritical, COLOR_RED, -1);
  }
  return std::unique_ptr<Terminal>(new Terminal);
}

Terminal::~Terminal() { endwin(); }

int Terminal::fd() const { return STDIN_FILENO; }

Size Terminal::size() {
  winsize window{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_row > 0 && window.ws_col > 0)
    if (window.ws_row != LINES || window.ws_col != COLS) resizeterm(window.ws_row, window.ws_col);
  return {size_t(LINES), size_t(COLS)};
}

void Terminal::draw(const std::vector<Line>& screen) {
  erase();
  int row = 0;
  for (const Line& line : screen) {
    move(row++, 0);
    for (const Span& span : line) {
      attrset(int(attributes_of(span.style)));
      addstr(span.text.c_str());
    }
  }
  refresh();
}

std::optional<Key> Terminal::read_key() {
  for (int code = getch(); code != ERR; code = getch())
    if (auto key = key_of(code)) return key;
  return std::nullopt;
}

}  // namespace millrace::top
