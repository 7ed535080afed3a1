#include "shell/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <cwchar>

#include "shell/render.h"

namespace rq::shell {

struct LineEditor::State {
  EditLine* edit = nullptr;
  ::History* history = nullptr;
  std::string prompt;
  Completer completer;
  bool interrupted = false;

  ~State() {
    if (edit != nullptr) el_end(edit);
    if (history != nullptr) history_end(history);
  }
  static State& of(EditLine* edit) {
    void* data = nullptr;
    el_get(edit, EL_CLIENTDATA, &data);
    return *static_cast<State*>(data);
  }
};

namespace {

constexpr int kHistoryMax = 100000;      // the size that the user set rules what is loaded; this only switches it on

// Candidates in columns below the line, as shells show them.
void list_candidates(const std::vector<std::string>& candidates) {
  struct winsize window {};
  const std::size_t width = ::ioctl(1, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80U;
  std::size_t longest = 1;
  for (const std::string& candidate : candidates) longest = std::max(longest, display_width(candidate) + 2);
  const std::size_t columns = std::max<std::size_t>(1, width / longest);
  const std::size_t shown = std::min<std::size_t>(candidates.size(), columns * 20);
  std::string out = "\n";
  for (std::size_t i = 0; i < shown; ++i) {
    out += candidates[i];
    const bool last = (i + 1) % columns == 0 || i + 1 == shown;
    if (last) out += '\n'; else out.append(longest - display_width(candidates[i]), ' ');
  }
  if (shown < candidates.size()) out += "... " + std::to_string(candidates.size() - shown) + " more\n";
  std::fputs(out.c_str(), stdout);
  std::fflush(stdout);
}

bool line_given_up = false;              // Ctrl-C was handled: the next key is Enter

// Ctrl-C is a key while a line is edited: the signal is let in only where we wait for a key, and becomes one there.
volatile sig_atomic_t interrupt_seen = 0;
void note_interrupt(int) { interrupt_seen = 1; }

class InterruptAsKey {
 public:
  InterruptAsKey() {
    sigset_t block;
    sigemptyset(&block);
    sigaddset(&block, SIGINT);
    sigprocmask(SIG_BLOCK, &block, &mask_before_);
    struct sigaction action {};
    action.sa_handler = note_interrupt;
    sigaction(SIGINT, &action, &action_before_);
    interrupt_seen = 0;
  }
  ~InterruptAsKey() {
    sigaction(SIGINT, &action_before_, nullptr);
    sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
  }
  InterruptAsKey(const InterruptAsKey&) = delete;
  InterruptAsKey& operator=(const InterruptAsKey&) = delete;

 private:
  sigset_t mask_before_{};
  struct sigaction action_before_ {};
};

// libedit's source of characters: one, 1; the end, 0.
int read_character(EditLine* edit, wchar_t* out) {
  if (line_given_up) {
    line_given_up = false;
    *out = L'\n';
    return 1;
  }
  sigset_t open;
  sigprocmask(SIG_BLOCK, nullptr, &open);
  sigdelset(&open, SIGINT);
  std::mbstate_t state{};
  while (true) {
    struct pollfd waiting {0, POLLIN, 0};
    const int ready = ::ppoll(&waiting, 1, nullptr, &open);
    if (interrupt_seen != 0) {
      interrupt_seen = 0;
      *out = L'\003';
      return 1;
    }
    if (ready < 0 && errno == EINTR) {          // the window changed its size, or we were stopped and go on
      el_resize(edit);
      el_set(edit, EL_REFRESH);
      continue;
    }
    char byte = 0;
    const ssize_t got = ::read(0, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    const std::size_t used = std::mbrtowc(out, &byte, 1, &state);
    if (used == static_cast<std::size_t>(-2)) continue;
    // Ctrl-D typed while no line was read: the terminal in its normal mode took it for the end and keeps a zero in its place.
    if (const LineInfo* typed = el_line(edit); byte == 0 && typed->lastchar == typed->buffer) *out = L'\004';
    if (used == static_cast<std::size_t>(-1)) {
      state = {};
      continue;                                 // no character of UTF-8: dropped
    }
    return 1;
  }
}

// EINTR of a signal that nobody handles doesn't come; so that a new window size is seen, its signal gets a handler.
void ignore_resize(int) {}

}  // namespace

LineEditor::LineEditor(std::unique_ptr<State> state) : state_(std::move(state)) {}
LineEditor::~LineEditor() = default;

std::unique_ptr<LineEditor> LineEditor::create(const std::string& terminal, Completer completer) {
  if (terminal.empty() || terminal == "dumb" || terminal == "cons25") return nullptr;
  auto state = std::make_unique<State>();
  state->completer = std::move(completer);
  state->edit = el_init("rqlite", stdin, stdout, stderr);
  state->history = history_init();
  if (state->edit == nullptr || state->history == nullptr) return nullptr;
  HistEvent event{};
  history(state->history, &event, H_SETSIZE, kHistoryMax);
  history(state->history, &event, H_SETUNIQUE, 1);
  EditLine* edit = state->edit;
  el_set(edit, EL_CLIENTDATA, state.get());
  el_set(edit, EL_HIST, history, state->history);
  el_set(edit, EL_PROMPT, +[](EditLine* e) { return State::of(e).prompt.data(); });
  el_set(edit, EL_EDITOR, "emacs");
  el_set(edit, EL_SIGNAL, 0);
  struct sigaction resize {};
  resize.sa_handler = ignore_resize;
  sigaction(SIGWINCH, &resize, nullptr);
  el_set(edit, EL_GETCFN, read_character);
  el_set(edit, EL_ADDFN, "rqlite-interrupt", "Give the line up", +[](EditLine* e, int) -> unsigned char {
    State::of(e).interrupted = true;
    line_given_up = true;
    const LineInfo* info = el_line(e);
    el_cursor(e, static_cast<int>(info->lastchar - info->cursor));
    el_insertstr(e, "^C");                   // shown behind the line, which read_character() then ends
    return CC_REFRESH;
  });
  el_set(edit, EL_ADDFN, "rqlite-complete", "Complete the word", +[](EditLine* e, int) -> unsigned char {
    const LineInfo* info = el_line(e);
    const std::string before(info->buffer, static_cast<std::size_t>(info->cursor - info->buffer));
    const Completion completion = State::of(e).completer(before);
    if (completion.candidates.empty()) return CC_REFRESH_BEEP;
    std::string insert = common_prefix(completion.candidates);
    const std::size_t typed = before.size() - completion.begin;
    const bool only = completion.candidates.size() == 1;
    if (only && !insert.ends_with('/')) insert += ' ';
    if (insert.size() < typed || (insert.size() == typed && !only)) {
      list_candidates(completion.candidates);
      return CC_REDISPLAY;
    }
    el_deletestr(e, static_cast<int>(std::count_if(before.begin() + static_cast<std::ptrdiff_t>(completion.begin), before.end(),
                                                   [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; })));
    el_insertstr(e, insert.c_str());
    return CC_REFRESH;
  });
  constexpr std::pair<const char*, const char*> kBindings[] = {
      {"^C", "rqlite-interrupt"},         {"\t", "rqlite-complete"},          {"\\e[A", "ed-search-prev-history"}, {"\\e[B", "ed-search-next-history"},
      {"\\eOA", "ed-search-prev-history"}, {"\\eOB", "ed-search-next-history"}, {"^P", "ed-search-prev-history"},   {"^N", "ed-search-next-history"},
      {"^R", "em-inc-search-prev"},       {"^S", "em-inc-search-next"},       {"^W", "ed-delete-prev-word"},       {"^U", "vi-kill-line-prev"},
      {"\\e[1;5C", "em-next-word"},       {"\\e[1;5D", "ed-prev-word"},       {"\\e[H", "ed-move-to-beg"},         {"\\e[F", "ed-move-to-end"},
      {"\\e[3~", "ed-delete-next-char"},  {"\\e[1~", "ed-move-to-beg"},       {"\\e[4~", "ed-move-to-end"}};
  for (const auto& [key, function] : kBindings) el_set(edit, EL_BIND, key, function, nullptr);
  el_source(edit, nullptr);
  return std::unique_ptr<LineEditor>(new LineEditor(std::move(state)));
}

LineEditor::Outcome LineEditor::read(const std::string& prompt, std::string& line) {
  state_->prompt = prompt;
  state_->interrupted = false;
  int count = 0;
  const char* text = nullptr;
  {
    const InterruptAsKey as_key;
    el_set(state_->edit, EL_PREP_TERM, 1);       // before the prompt: libedit itself takes the terminal only behind it, and loses keys
    text = el_gets(state_->edit, &count);
  }
  if (state_->interrupted) {
    return Outcome::Interrupted;
  }
  if (text == nullptr || count <= 0) return Outcome::End;
  line.assign(text, static_cast<std::size_t>(count));
  while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
  return Outcome::Line;
}

void LineEditor::remember(const std::string& line) {
  HistEvent event{};
  history(state_->history, &event, H_ENTER, line.c_str());
}

bool LineEditor::more_is_waiting() {
  struct pollfd waiting {0, POLLIN, 0};
  return ::poll(&waiting, 1, 0) == 1 && (waiting.revents & POLLIN) != 0;
}

}  // namespace rq::shell
