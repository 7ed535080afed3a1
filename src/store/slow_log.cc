#include "store/slow_log.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/go_text.h"
#include "base/log.h"

namespace rq::store {
namespace {

constexpr std::size_t kTextMax = 1000;
constexpr int kStatementsTold = 5;

bool starts_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool in_word(char c) { return starts_word(c) || is_digit(c) || c == '$'; }

// Behind a quoted text that begins at `at`; a doubled quote doesn't end it.
std::size_t behind_quoted(std::string_view sql, std::size_t at, char quote) {
  for (++at; at < sql.size(); ++at) {
    if (sql[at] != quote) continue;
    if (at + 1 < sql.size() && sql[at + 1] == quote) ++at;
    else return at + 1;
  }
  return sql.size();
}

std::string_view kind_of(const pb::Request& request) {
  switch (request.kind()) {
    case pb::Request::EXECUTE: return "execute";
    case pb::Request::QUERY: return "query";
    default: return "request";
  }
}

std::string_view level_of(const pb::Request& request) {
  switch (request.level()) {
    case pb::Request::NONE: return "none";
    case pb::Request::LINEARIZABLE: return "linearizable";
    case pb::Request::STRONG: return "strong";
    case pb::Request::AUTO: return "auto";
    default: return "weak";
  }
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + "\"";
}

}  // namespace

// Double quotes hide values too: SQLite takes such a text as a string when no column has that name.
std::string without_values(std::string_view sql) {
  std::string out;
  const auto separate = [&] {
    if (!out.empty() && out.back() != ' ') out += ' ';
  };
  for (std::size_t i = 0; i < sql.size();) {
    const char c = sql[i];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
      separate();
      ++i;
    } else if (c == '-' && sql.substr(i, 2) == "--") {
      i = std::min(sql.find('\n', i), sql.size());
    } else if (c == '/' && sql.substr(i, 2) == "/*") {
      const std::size_t end = sql.find("*/", i + 2);
      i = end == std::string_view::npos ? sql.size() : end + 2;
      separate();
    } else if (c == '\'' || c == '"') {
      i = behind_quoted(sql, i, c);
      out += '?';
    } else if ((c == 'x' || c == 'X') && i + 1 < sql.size() && sql[i + 1] == '\'') {
      i = behind_quoted(sql, i + 1, '\'');
      out += '?';
    } else if (c == '`' || c == '[') {
      const std::size_t end = c == '`' ? behind_quoted(sql, i, c) : std::min(sql.find(']', i), sql.size() - 1) + 1;
      out.append(sql.substr(i, end - i));
      i = end;
    } else if (starts_word(c) || c == '@' || c == ':' || c == '$' || c == '?' || c == '#') {
      const std::size_t begin = i++;
      while (i < sql.size() && in_word(sql[i])) ++i;
      out.append(sql.substr(begin, i - begin));
    } else if (is_digit(c) || (c == '.' && i + 1 < sql.size() && is_digit(sql[i + 1]))) {
      while (i < sql.size() && (in_word(sql[i]) || sql[i] == '.' || ((sql[i] == '+' || sql[i] == '-') && (sql[i - 1] | 0x20) == 'e'))) ++i;
      out += '?';
    } else {
      out += c;
      ++i;
    }
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  if (out.size() > kTextMax) out = out.substr(0, kTextMax) + "...";
  return out;
}

SlowLog::SlowLog(std::chrono::nanoseconds threshold, const Clock& clock, Explain explain, Later explain_later)
    : threshold_(threshold), clock_(clock), explain_(std::move(explain)), explain_later_(std::move(explain_later)) {}

bool SlowLog::may_tell(std::uint64_t& left_out) {
  const SteadyTime now = clock_.now();
  const std::lock_guard lock(mutex_);
  if (now - window_began_ >= kWindow) {
    window_began_ = now;
    lines_ = 0;
  }
  if (lines_ >= kLinesMax) return ++left_out_, false;
  ++lines_;
  left_out = std::exchange(left_out_, 0);
  return true;
}

void SlowLog::tell(const pb::Request& request, std::chrono::nanoseconds time, std::string_view where) {
  count_.fetch_add(1, std::memory_order_relaxed);
  std::uint64_t left_out = 0;
  if (!may_tell(left_out)) return;
  std::string head = "request was slow, took=" + go_duration_text(time) + " kind=" + std::string(kind_of(request));
  if (request.kind() != pb::Request::EXECUTE) head += " level=" + std::string(level_of(request));
  head += " where=" + std::string(where) + " statements=" + std::to_string(request.statements_size());
  if (left_out > 0) head += " not_told=" + std::to_string(left_out);
  std::vector<std::string> texts;
  for (int i = 0; i < std::min(request.statements_size(), kStatementsTold); ++i) texts.push_back(request.statements(i).sql());
  const auto write = [head](const std::vector<std::string>& statements, const Explain& explain) {
    std::string line = head;
    for (const std::string& sql : statements) {
      line += " sql=" + quoted(without_values(sql));
      const std::string plan = explain ? explain(sql) : std::string();
      if (!plan.empty()) line += " plan=" + quoted(plan);
    }
    log::warn("slow", line);
  };
  if (!explain_later_([this, texts, write] { write(texts, explain_); })) write(texts, nullptr);
}

}  // namespace rq::store
