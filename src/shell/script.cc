#include "shell/script.h"

#include <algorithm>
#include <optional>

#include "shell/line_editor.h"
#include "shell/statement.h"

namespace rq::shell {
namespace {

// A line of any length, without its line feed; nothing at the end of the input.
std::optional<std::string> read_line(std::FILE* file) {
  std::string line;
  int c = 0;
  while ((c = ::getc_unlocked(file)) != EOF && c != '\n') line += static_cast<char>(c);
  if (c == EOF && line.empty()) return std::nullopt;
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

bool is_empty(std::string_view line) { return line.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos; }

std::string prompt_of(const Session& session) { return session.client().current().name() + "> "; }

std::string continuation_prompt(const Session& session) {
  const std::size_t width = prompt_of(session).size();
  return std::string(width > 5 ? width - 5 : 0, ' ') + "...> ";
}

// The statement that is being typed at a terminal.
class Typed {
 public:
  explicit Typed(Session& session) : session_(session) {}
  bool empty() const { return text_.empty(); }
  const std::string& text() const { return text_; }
  void clear() { text_.clear(); }

  // Runs what is complete. `pasted`: more input is there already, so that a statement without semicolon may go on.
  void add(const std::string& line, bool pasted, History& history, LineEditor& editor) {
    if (!text_.empty() && begins_statement(line) && !is_incomplete(text_)) run(history, editor);
    if (text_.empty() && is_empty(line)) return;
    if (text_.empty() && session_.is_command(line)) {
      text_ = line;
      return run(history, editor);
    }
    text_ += (text_.empty() ? "" : "\n") + line;
    if (is_incomplete(text_)) return;
    const std::size_t last = text_.find_last_not_of(" \t\r\n");
    const bool ended = last != std::string::npos && text_[last] == ';';
    if (ended || !pasted) run(history, editor);
  }

 private:
  void run(History& history, LineEditor& editor) {
    const std::string text = std::exchange(text_, {});
    for (const std::string& line : history.add(trimmed(text))) editor.remember(line);
    session_.execute(text);
  }
  Session& session_;
  std::string text_;
};

}  // namespace

void run_script(Session& session, std::FILE* file) {
  LineCollector collector;
  std::optional<std::string> line = read_line(file);
  // Within .read of piped input the reference sends commands as SQL, and skips comments.
  const bool commands = session.style() != Style::Piped;
  while (line && !session.done()) {
    if (collector.empty() && commands && session.is_command(*line)) {
      session.execute(*line);
      line = read_line(file);
      continue;
    }
    const std::optional<std::string> next = read_line(file);
    if (collector.add(*line, next ? &*next : nullptr)) session.execute_sql(collector.take());
    line = next;
  }
}

void run_lines(Session& session, std::FILE* file, bool prompts) {
  std::string text;
  while (!session.done()) {
    if (prompts && text.empty()) session.print(prompt_of(session));
    const std::optional<std::string> line = read_line(file);
    if (!line) break;
    if (text.empty() && is_empty(*line)) continue;
    if (!text.empty()) text += '\n';
    text += *line;
    if (!session.is_command(text) && is_incomplete(text)) continue;
    session.execute(std::exchange(text, {}));
  }
  if (!text.empty() && !session.done()) session.execute(text);
}

void run_interactive(Session& session, History& history, const std::string& terminal) {
  const std::vector<std::string> names = session.command_names();
  const CompletionSources sources{.commands = names,
                                  .choices = [&](std::string_view command) { return session.choices(command); },
                                  .schema = [&]() -> const Schema& { return session.schema(); }};
  Typed typed(session);
  const auto editor = LineEditor::create(terminal, [&](std::string_view line) {
    if (typed.empty()) return complete(line, sources);
    const std::string before = typed.text() + "\n";
    Completion completion = complete(before + std::string(line), sources);
    completion.begin = completion.begin > before.size() ? completion.begin - before.size() : 0;
    return completion;
  });
  if (!editor) return run_lines(session, stdin, true);
  for (const std::string& line : history.lines()) editor->remember(line);
  std::string line;
  while (!session.done()) {
    const LineEditor::Outcome outcome = editor->read(typed.empty() ? prompt_of(session) : continuation_prompt(session), line);
    if (outcome == LineEditor::Outcome::Interrupted) {
      typed.clear();
      continue;
    }
    if (outcome == LineEditor::Outcome::End) {
      if (!typed.empty()) session.print("\n");
      break;
    }
    typed.add(line, LineEditor::more_is_waiting(), history, *editor);
  }
}

}  // namespace rq::shell
