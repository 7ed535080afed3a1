#include "shell/statement.h"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <memory>

namespace rq::shell {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '$' || static_cast<unsigned char>(c) >= 0x80;
}

bool same_word(std::string_view a, std::string_view upper) {
  return a.size() == upper.size() && std::equal(a.begin(), a.end(), upper.begin(), [](char x, char y) { return (x >= 'a' && x <= 'z' ? x - 32 : x) == y; });
}
template <std::size_t N>
bool one_of(std::string_view word, const std::array<std::string_view, N>& words) {
  return std::any_of(words.begin(), words.end(), [word](std::string_view w) { return same_word(word, w); });
}

// The token that begins at sql[at], which is no blank and begins no comment.
Token token_at(std::string_view sql, std::size_t at) {
  const char c = sql[at];
  std::size_t end = at + 1;
  if (c == '\'' || c == '"' || c == '`' || c == '[') {
    const char close = c == '[' ? ']' : c;
    bool closed = false;
    for (; end < sql.size() && !closed; ++end) {
      if (sql[end] != close) continue;
      if (c != '[' && end + 1 < sql.size() && sql[end + 1] == close) ++end; else closed = true;
    }
    return {c == '\'' ? Token::Kind::String : Token::Kind::Quoted, sql.substr(at, end - at), at, closed};
  }
  if (!is_word(c)) return {Token::Kind::Punctuation, sql.substr(at, 1), at, true};
  while (end < sql.size() && (is_word(sql[end]) || (is_digit(c) && sql[end] == '.'))) ++end;
  return {is_digit(c) ? Token::Kind::Number : Token::Kind::Word, sql.substr(at, end - at), at, true};
}

// Follows the tokens of one statement and knows whether a semicolon ends it: within CREATE TRIGGER only the one behind END.
class StatementState {
 public:
  // True when this token is the semicolon that ends the statement.
  bool add(const Token& token) {
    if (token.kind == Token::Kind::Punctuation && token.text == ";") {
      if (!trigger_ || !in_body_ || after_end_) return true;
      after_semicolon_ = true;
      return false;
    }
    if (words_ < 4 && token.kind == Token::Kind::Word) {
      if (words_ == 0) create_ = same_word(token.text, "CREATE");
      if (create_ && words_ > 0 && same_word(token.text, "TRIGGER")) trigger_ = true;
    }
    if (trigger_ && !in_body_ && token.kind == Token::Kind::Word && same_word(token.text, "BEGIN")) in_body_ = true;
    after_end_ = trigger_ && after_semicolon_ && token.kind == Token::Kind::Word && same_word(token.text, "END");
    after_semicolon_ = false;
    if (token.kind == Token::Kind::Word && words_ == 0) first_ = token.text;
    ++words_;
    return false;
  }
  bool empty() const { return words_ == 0; }
  std::string_view first() const { return first_; }
  bool open_trigger() const { return trigger_ && !after_end_; }

 private:
  int words_ = 0;
  std::string_view first_;
  bool create_ = false, trigger_ = false, in_body_ = false, after_semicolon_ = false, after_end_ = false;
};

constexpr std::array<std::string_view, 1> kBegin{"BEGIN"};
constexpr std::array<std::string_view, 3> kFinish{"COMMIT", "END", "ROLLBACK"};

struct CloseConnection {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
};

// Asks SQLite's parser. Without a schema most statements fail when their meaning is looked at, which is after the whole text
// was parsed: only the error about the missing end counts.
bool parser_wants_more(std::string_view sql) {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(":memory:", &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  const std::unique_ptr<sqlite3, CloseConnection> db(raw);
  if (opened != SQLITE_OK) return false;
  const std::string text(sql);
  const char* rest = text.c_str();
  while (*rest != '\0') {
    sqlite3_stmt* statement = nullptr;
    const char* tail = nullptr;
    const int prepared = sqlite3_prepare_v2(db.get(), rest, -1, &statement, &tail);
    const std::string_view error = prepared == SQLITE_OK ? "" : sqlite3_errmsg(db.get());
    const bool more = error == "incomplete input";
    sqlite3_finalize(statement);
    if (more) return true;
    // `SELECT *` alone is wrong however one looks at it: its FROM is on the next line.
    if (error == "no tables specified") return true;
    if (prepared != SQLITE_OK || tail == nullptr || tail == rest) return false;
    rest = tail;
  }
  return false;
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n\v\f";
  const std::size_t begin = text.find_first_not_of(kBlanks);
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

Tokens tokenize(std::string_view sql) {
  Tokens tokens;
  std::size_t at = 0;
  while (at < sql.size()) {
    const std::string_view rest = sql.substr(at);
    if (is_blank(sql[at])) {
      ++at;
    } else if (rest.starts_with("--")) {
      const std::size_t end = rest.find('\n');
      at = end == std::string_view::npos ? sql.size() : at + end + 1;
    } else if (rest.starts_with("/*")) {
      const std::size_t end = rest.find("*/", 2);
      tokens.open_comment = end == std::string_view::npos;
      at = tokens.open_comment ? sql.size() : at + end + 2;
    } else {
      tokens.list.push_back(token_at(sql, at));
      at += tokens.list.back().text.size();
    }
  }
  return tokens;
}

bool begins_statement(std::string_view line) {
  static constexpr std::array<std::string_view, 25> kStarters{
      "SELECT", "INSERT", "UPDATE",  "DELETE",  "CREATE",    "DROP",    "ALTER", "WITH",   "VALUES",  "REPLACE", "PRAGMA", "EXPLAIN", "BEGIN", "COMMIT",
      "END",    "ROLLBACK", "SAVEPOINT", "RELEASE", "ANALYZE", "REINDEX", "VACUUM", "ATTACH", "DETACH", "EXIT", "QUIT"};
  const std::string_view text = trimmed(line);
  if (text.starts_with('.')) return true;
  const Tokens tokens = tokenize(text.substr(0, 200));
  return !tokens.list.empty() && one_of(tokens.list.front().text, kStarters);
}

bool only_reads(std::string_view sql) {
  static constexpr std::array<std::string_view, 3> kReaders{"SELECT", "VALUES", "EXPLAIN"};
  const auto statements = split_statements(sql);
  if (statements.size() != 1) return false;
  const Tokens tokens = tokenize(statements[0]);
  return !tokens.list.empty() && tokens.list[0].kind == Token::Kind::Word && one_of(tokens.list[0].text, kReaders);
}

bool is_blank_sql(std::string_view sql) {
  const Tokens tokens = tokenize(sql);
  return std::all_of(tokens.list.begin(), tokens.list.end(), [](const Token& token) { return token.text == ";"; });
}

bool is_incomplete(std::string_view sql) {
  const Tokens tokens = tokenize(sql);
  if (tokens.open_comment) return true;
  StatementState state;
  bool ended = true;
  for (const Token& token : tokens.list) {
    if (!token.closed) return true;
    ended = state.add(token);
    if (ended) state = {};
  }
  if (tokens.list.empty() || ended) return false;
  if (state.open_trigger()) return true;
  return parser_wants_more(sql);
}

std::vector<std::string> split_statements(std::string_view text) {
  std::vector<std::string> parts;
  StatementState state;
  std::size_t begin = 0;
  bool in_transaction = false, blank = true;
  const auto cut = [&](std::size_t end) {
    if (!blank) parts.emplace_back(trimmed(text.substr(begin, end - begin)));
    begin = end;
    blank = true;
  };
  for (const Token& token : tokenize(text).list) {
    if (!state.add(token)) {
      blank = false;
      continue;
    }
    if (one_of(state.first(), kBegin)) in_transaction = true;
    if (one_of(state.first(), kFinish)) in_transaction = false;
    state = {};
    if (!in_transaction) cut(token.offset + 1);
  }
  cut(text.size());
  return parts;
}

void LineCollector::settle() {
  StatementState state;
  const std::size_t from = settled_;
  for (const Token& token : tokenize(std::string_view(text_).substr(from)).list) {
    if (!token.closed) return;
    if (!state.add(token)) continue;
    if (one_of(state.first(), kBegin)) in_transaction_ = true;
    if (one_of(state.first(), kFinish)) in_transaction_ = false;
    settled_ = from + token.offset + 1;
    state = {};
  }
}

bool LineCollector::add(std::string_view line, const std::string* next) {
  if (text_.empty()) {
    if (is_blank_sql(line) && !tokenize(line).open_comment) return false;
  } else {
    text_ += '\n';
  }
  text_ += line;
  if (next == nullptr) return true;
  settle();
  if (in_transaction_) return false;
  const std::string_view open = std::string_view(text_).substr(settled_);
  if (is_blank_sql(open) && !tokenize(open).open_comment) {
    if (settled_ > 0) return true;
    text_.clear();                     // a comment of its own
    return false;
  }
  return begins_statement(*next) && !is_incomplete(open);
}

std::string LineCollector::take() {
  const std::string text(trimmed(text_));
  *this = {};
  return text;
}

}  // namespace rq::shell
