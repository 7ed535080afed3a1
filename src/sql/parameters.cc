#include "sql/parameters.h"

#include <string>

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

}  // namespace

Result<> ParameterFeed::check_names() const {
  for (const pb::Parameter& parameter : list_)
    if (!parameter.name().empty() && !begins_with_letter(parameter.name()))
      return fail(Errc::BadRequest, "name \"" + parameter.name() + "\" does not begin with a letter");
  return {};
}

Result<> ParameterFeed::bind(Statement& statement) {
  const int wanted = sqlite3_bind_parameter_count(statement.handle());
  if (wanted == 0) return {};
  if (list_.empty() && missing_ == Missing::Null) return {};
  const int left = list_.size() - taken_;
  if (left < wanted)
    return fail(Errc::BadRequest, "not enough args to execute query: want " + std::to_string(wanted) + " got " + std::to_string(list_.size()));
  for (int i = 0; i < wanted; ++i) RQ_CHECK(bind_one(statement, list_.Get(taken_ + i), i + 1));
  taken_ += wanted;
  return {};
}

Result<> ParameterFeed::bind_one(Statement& statement, const pb::Parameter& parameter, int place) {
  sqlite3_stmt* const handle = statement.handle();
  const auto checked = [&](int code) -> Result<> {
    if (code == SQLITE_OK) return {};
    return fail(errc_of(code) == Errc::Internal ? Errc::Internal : Errc::Sql, sqlite3_errmsg(sqlite3_db_handle(handle)));
  };
  if (parameter.name().empty()) return checked(bind_value(handle, place, parameter.value()));
  for (const char prefix : {':', '@', '$'}) {
    const int named = sqlite3_bind_parameter_index(handle, (prefix + parameter.name()).c_str());
    if (named != 0) RQ_CHECK(checked(bind_value(handle, named, parameter.value())));
  }
  return {};
}

}  // namespace rq::sql
