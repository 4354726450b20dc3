// The terminal in full-screen mode, by ncurses; left as it was found, also after a signal.
// Shape:   draw() a screen; read_key() without waiting, when fd() is readable
// Errors:  open(): usage (64) when standard input or output is no terminal, config (78) when TERM
//          names none that is known
// Owns:    the terminal's state, until it is destroyed
// Threads: one
#pragma once

#include <memory>
#include <optional>

#include "broker/top/screen.h"
#include "common/base/result.h"

namespace millrace::top {

class Terminal {
 public:
  static Result<std::unique_ptr<Terminal>> open();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Asks the system: right after a change of the window's size too.
  Size size();
  void draw(const std::vector<Line>& screen);
  // Nothing: no key is pressed, or it was one without a meaning here.
  std::optional<Key> read_key();
  int fd() const;

 private:
  Terminal() = default;
};

}  // namespace millrace::top
