#include "sql/parameters.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace rq::sql {
namespace {

// A letter as Unicode has it, roughly: ASCII letters, and whatever is not ASCII.
bool begins_with_letter(std::string_view name) {
  const auto first = static_cast<unsigned char>(name.front());
  return first >= 0x80 || ((first | 0x20) >= 'a' && (first | 0x20) <= 'z');
}

int bind_value(sqlite3_stmt* statement, int place, const pb::Value& value) {
  switch (value.kind_case()) {
    case pb::Value::kInteger: return sqlite3_bind_int64(statement, place, value.integer());
    case pb::Value::kReal: return sqlite3_bind_double(statement, place, value.real());
    case pb::Value::kText: return sqlite3_bind_text64(statement, place, value.text().data(), value.text().size(), SQLITE_STATIC, SQLITE_UTF8);
    case pb::Value::kBlob:
      // Without an address SQLite would bind NULL.
      return sqlite3_bind_blob64(statement, place, value.blob().empty() ? "" : value.blob().data(), value.blob().size(), SQLITE_STATIC);
    case pb::Value::KIND_NOT_SET: return sqlite3_bind_null(statement, place);
  }
  return SQLITE_MISUSE;
}

Result<> bound(Statement& statement, int code) {
  if (code == SQLITE_OK) return {};
  return fail(errc_of(code) == Errc::Internal ? Errc::Internal : Errc::Sql, sqlite3_errmsg(sqlite3_db_handle(statement.handle())));
}

// As Go's %q shows ASCII; other bytes stay as they are.
std::string quoted(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) {
    constexpr std::string_view kNamed = "\a\b\f\n\r\t\v\\\"";
    constexpr std::string_view kLetters = "abfnrtv\\\"";
    if (const std::size_t at = kNamed.find(c); at != std::string_view::npos) {
      out += '\\';
      out += kLetters[at];
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      constexpr std::string_view kHex = "0123456789abcdef";
      out += "\\x";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

Result<> ParameterFeed::check_names() const {
  for (const pb::Parameter& parameter : list_)
    if (!parameter.name().empty() && !begins_with_letter(parameter.name()))
      return fail(Errc::BadRequest, "name " + quoted(parameter.name()) + " does not begin with a letter");
  return {};
}

// The next values go to the variables of their places; named ones go by their names alone, wherever in the list they stand.
Result<> ParameterFeed::bind(Statement& statement) {
  const int wanted = sqlite3_bind_parameter_count(statement.handle());
  if (wanted == 0) return {};
  if (list_.empty() && missing_ == Missing::Null) return {};
  if (list_.size() - taken_ < wanted)
    return fail(Errc::BadRequest, "not enough args to execute query: want " + std::to_string(wanted) + " got " + std::to_string(list_.size()));
  for (int i = 0; i < wanted; ++i)
    if (const pb::Parameter& parameter = list_.Get(taken_ + i); parameter.name().empty())
      RQ_CHECK(bound(statement, bind_value(statement.handle(), i + 1, parameter.value())));
  if (has_names())
    for (const pb::Parameter& parameter : list_)
      if (!parameter.name().empty()) RQ_CHECK(bind_named(statement, parameter));
  taken_ += wanted;
  return {};
}

bool ParameterFeed::has_names() {
  if (names_ == Names::Unknown) {
    const bool some = std::ranges::any_of(list_, [](const pb::Parameter& parameter) { return !parameter.name().empty(); });
    names_ = some ? Names::Some : Names::None;
  }
  return names_ == Names::Some;
}

Result<> ParameterFeed::bind_named(Statement& statement, const pb::Parameter& parameter) {
  std::string variable = " " + parameter.name();
  for (const char prefix : {':', '@', '$'}) {
    variable.front() = prefix;
    const int place = sqlite3_bind_parameter_index(statement.handle(), variable.c_str());
    if (place != 0) RQ_CHECK(bound(statement, bind_value(statement.handle(), place, parameter.value())));
  }
  return {};
}

}  // namespace rq::sql
