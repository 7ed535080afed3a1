#include "sql/statement_facts.h"

#include <algorithm>
#include <array>

namespace rq::sql {
namespace {

constexpr bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }
constexpr bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' || static_cast<unsigned char>(c) >= 0x80;
}
constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

struct Token {
  enum class Kind : std::uint8_t { End, Word, Quoted, Semicolon, Symbol } kind = Kind::End;
  std::string_view text;   // Quoted: without its quotes
};

// White space and comments at `at`.
std::size_t skip_blank(std::string_view sql, std::size_t at) {
  while (at < sql.size()) {
    if (is_space(sql[at])) {
      ++at;
    } else if (sql.compare(at, 2, "--") == 0) {
      at = std::min(sql.find('\n', at), sql.size());
    } else if (sql.compare(at, 2, "/*") == 0) {
      const std::size_t end = sql.find("*/", at + 2);
      at = end == std::string_view::npos ? sql.size() : end + 2;
    } else {
      break;
    }
  }
  return at;
}

Token next_token(std::string_view sql, std::size_t& at) {
  at = skip_blank(sql, at);
  if (at >= sql.size()) return {};
  const std::size_t begin = at;
  const char c = sql[at];
  if (c == ';') return {Token::Kind::Semicolon, sql.substr(at++, 1)};
  if (is_name(c)) {
    while (at < sql.size() && is_name(sql[at])) ++at;
    // x'..' is a literal.
    if (at - begin == 1 && lower(c) == 'x' && at < sql.size() && sql[at] == '\'') {
      const std::size_t end = sql.find('\'', at + 1);
      at = end == std::string_view::npos ? sql.size() : end + 1;
      return {Token::Kind::Symbol, sql.substr(begin, at - begin)};
    }
    return {Token::Kind::Word, sql.substr(begin, at - begin)};
  }
  if (c == '\'' || c == '"' || c == '`' || c == '[') {
    const char close = c == '[' ? ']' : c;
    for (++at; at < sql.size(); ++at) {
      if (sql[at] != close) continue;
      if (close != ']' && at + 1 < sql.size() && sql[at + 1] == close) {
        ++at;
        continue;
      }
      ++at;
      return {Token::Kind::Quoted, sql.substr(begin + 1, at - begin - 2)};
    }
    return {Token::Kind::Quoted, sql.substr(begin + 1)};
  }
  ++at;
  return {Token::Kind::Symbol, sql.substr(begin, 1)};
}

struct VerbName {
  std::string_view name;
  Verb verb;
};
constexpr std::array kVerbs = {
    VerbName{"select", Verb::Select},   VerbName{"insert", Verb::Insert},       VerbName{"update", Verb::Update},
    VerbName{"delete", Verb::Delete},   VerbName{"replace", Verb::Replace},     VerbName{"with", Verb::With},
    VerbName{"values", Verb::Values},   VerbName{"create", Verb::Create},       VerbName{"drop", Verb::Drop},
    VerbName{"alter", Verb::Alter},     VerbName{"analyze", Verb::Analyze},     VerbName{"reindex", Verb::Reindex},
    VerbName{"begin", Verb::Begin},     VerbName{"commit", Verb::Commit},       VerbName{"end", Verb::Commit},
    VerbName{"rollback", Verb::Rollback}, VerbName{"savepoint", Verb::Savepoint}, VerbName{"release", Verb::Release},
    VerbName{"vacuum", Verb::Vacuum},   VerbName{"pragma", Verb::Pragma},       VerbName{"attach", Verb::Attach},
    VerbName{"detach", Verb::Detach}};

Verb verb_of(std::string_view word) {
  for (const VerbName& entry : kVerbs)
    if (same_name(word, entry.name)) return entry.verb;
  return Verb::Other;
}

void read_pragma(std::string_view sql, std::size_t at, StatementFacts& facts) {
  const auto name = [&](Token& token) {
    token = next_token(sql, at);
    return token.kind == Token::Kind::Word || token.kind == Token::Kind::Quoted;
  };
  Token token;
  if (!name(token)) return;
  facts.pragma_name = token.text;
  std::size_t ahead = at;
  Token after = next_token(sql, ahead);
  if (after.text == "." && after.kind == Token::Kind::Symbol) {
    at = ahead;
    if (!name(token)) return;
    facts.pragma_schema = facts.pragma_name;
    facts.pragma_name = token.text;
    ahead = at;
    after = next_token(sql, ahead);
  }
  if (after.kind != Token::Kind::Symbol || (after.text != "=" && after.text != "(")) return;
  facts.pragma_form = after.text == "=" ? PragmaForm::Assign : PragmaForm::Call;
  const Token value = next_token(sql, ahead);
  if (value.kind != Token::Kind::Semicolon) facts.pragma_value = value.text;
}

// Behind CREATE: TEMP, and whether it is a trigger, whose body holds semicolons.
bool begins_trigger(std::string_view sql, std::size_t at, bool& temporary) {
  Token token = next_token(sql, at);
  if (same_name(token.text, "temp") || same_name(token.text, "temporary")) {
    temporary = true;
    token = next_token(sql, at);
  }
  return token.kind == Token::Kind::Word && same_name(token.text, "trigger");
}

constexpr std::array<std::string_view, 26> kReadWithArgument = {
    "table_info", "table_xinfo", "table_list", "index_info", "index_xinfo", "index_list", "foreign_key_list", "foreign_key_check",
    "integrity_check", "quick_check", "database_list", "collation_list", "function_list", "module_list", "pragma_list",
    "compile_options", "freelist_count", "page_count", "data_version", "stats", "encoding", "table_ddl", "index_ddl", "lock_status",
    "legacy_alter_table_info", "schema_info"};
constexpr std::array<std::string_view, 4> kAction = {"optimize", "incremental_vacuum", "shrink_memory", "wal_checkpoint"};

template <std::size_t N>
bool one_of(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::ranges::any_of(names, [&](std::string_view other) { return same_name(name, other); });
}

}  // namespace

bool same_name(std::string_view name, std::string_view lower_case) {
  if (name.size() != lower_case.size()) return false;
  for (std::size_t i = 0; i < name.size(); ++i)
    if (lower(name[i]) != lower_case[i]) return false;
  return true;
}

StatementScanner::StatementScanner(std::string_view sql) : rest_(sql.substr(0, sql.find('\0'))) {}

bool StatementScanner::next(StatementFacts& facts) {
  while (true) {
    facts = {};
    std::size_t at = 0;
    const std::size_t begin = skip_blank(rest_, 0);
    std::size_t cursor = begin;
    Token token = next_token(rest_, cursor);
    if (token.kind == Token::Kind::End) {
      rest_ = {};
      const bool only = first_ && !found_;
      first_ = false;
      return only;                     // nothing at all was there
    }
    if (token.kind == Token::Kind::Semicolon) {
      rest_.remove_prefix(cursor);
      continue;
    }
    found_ = true;
    first_ = false;
    if (same_name(token.text, "explain")) {
      facts.explain = true;
      token = next_token(rest_, cursor);
      if (same_name(token.text, "query")) {
        next_token(rest_, cursor);     // PLAN
        token = next_token(rest_, cursor);
      }
    }
    facts.verb = token.kind == Token::Kind::Word ? verb_of(token.text) : Verb::Other;
    bool trigger = false;
    if (facts.verb == Verb::Pragma) read_pragma(rest_, cursor, facts);
    if (facts.verb == Verb::Create) trigger = begins_trigger(rest_, cursor, facts.temporary);
    // To the final semicolon; a trigger's body ends with "; END".
    bool after_semicolon = false;
    at = cursor;
    std::size_t end = rest_.size();
    std::size_t next = rest_.size();
    if (token.kind == Token::Kind::Semicolon) {
      end = cursor - 1;
      next = cursor;
    } else {
      bool may_end = !trigger;
      for (token = next_token(rest_, at); token.kind != Token::Kind::End; token = next_token(rest_, at)) {
        if (token.kind == Token::Kind::Semicolon) {
          if (may_end) {
            end = at - 1;
            next = at;
            break;
          }
          after_semicolon = true;
          continue;
        }
        if (trigger) may_end = after_semicolon && token.kind == Token::Kind::Word && same_name(token.text, "end");
        after_semicolon = false;
      }
    }
    facts.text = rest_.substr(begin, end - begin);
    rest_.remove_prefix(next);
    return true;
  }
}

std::uint32_t pragma_fact(std::string_view name, PragmaForm form) {
  if (same_name(name, "wal_checkpoint")) return kPragmaDisallowed;
  const bool guarded = same_name(name, "journal_mode") || same_name(name, "synchronous") || same_name(name, "query_only") ||
                       same_name(name, "wal_autocheckpoint");
  if (guarded && form != PragmaForm::Read) return kPragmaDisallowed;
  if (one_of(name, kAction)) return kPragmaSetting;
  if (form == PragmaForm::Read || one_of(name, kReadWithArgument)) return kPragmaRead;
  if (same_name(name, "user_version") || same_name(name, "application_id")) return kPragmaData;
  return kPragmaSetting;
}

std::uint32_t examine(std::string_view sql) {
  std::uint32_t bits = 0;
  int count = 0;
  StatementScanner scanner(sql);
  for (StatementFacts facts; scanner.next(facts);) {
    ++count;
    if (facts.explain) {
      bits |= kExplain;
      continue;
    }
    switch (facts.verb) {
      case Verb::Empty: bits |= kEmpty; break;
      case Verb::Begin: case Verb::Commit: case Verb::Rollback: case Verb::Savepoint: case Verb::Release: bits |= kTransactionControl; break;
      case Verb::Vacuum: bits |= kVacuum; break;
      case Verb::Pragma: bits |= pragma_fact(facts.pragma_name, facts.pragma_form); break;
      case Verb::Attach: case Verb::Detach: bits |= kAttach; break;
      case Verb::Create: bits |= kSchema | (facts.temporary ? kTemporary : 0u); break;
      case Verb::Drop: case Verb::Alter: case Verb::Analyze: case Verb::Reindex: bits |= kSchema; break;
      case Verb::Select: case Verb::Values: case Verb::With: case Verb::Insert: case Verb::Replace: case Verb::Update: case Verb::Delete: case Verb::Other: break;
    }
  }
  if (count > 1) bits |= kMany;
  return bits;
}

std::uint32_t examine(const pb::Request& request) {
  std::uint32_t bits = 0;
  for (const pb::Statement& statement : request.statements()) bits |= examine(statement.sql());
  return bits;
}

}  // namespace rq::sql
