// LineEditor: one edited line from a terminal, by libedit. Keys as spec shell section 4 lists them; Tab completes. While no
// line is read the terminal is in its normal mode. Used by one thread; one at a time in a process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "shell/completion.h"

namespace rq::shell {

class LineEditor {
 public:
  using Completer = std::function<Completion(std::string_view line_to_cursor)>;
  // Null when the terminal cannot do it (no TERM, a dumb one): read plain lines then.
  static std::unique_ptr<LineEditor> create(const std::string& terminal, Completer completer);
  ~LineEditor();

  enum class Outcome { Line, Interrupted, End };
  Outcome read(const std::string& prompt, std::string& line);       // without the line feed
  void remember(const std::string& line);                           // for the arrow keys and the search
  // More was typed or pasted already.
  static bool more_is_waiting();

 private:
  struct State;
  explicit LineEditor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace rq::shell
