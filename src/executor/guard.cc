#include "executor/guard.h"

#include "executor/settings.h"
#include "sql/statement_facts.h"

namespace rq::executor {
namespace {

constexpr std::string_view kTemporary = "temporary objects are not supported";
constexpr std::string_view kPages = "sqlite_dbpage";

bool starts_with_name(std::string_view name, std::string_view lower_prefix) {
  return name.size() >= lower_prefix.size() && sql::same_name(name.substr(0, lower_prefix.size()), lower_prefix);
}

std::string_view text(const char* argument) { return argument ? std::string_view(argument) : std::string_view(); }

bool creates_temporary(int action) {
  switch (action) {
    case SQLITE_CREATE_TEMP_INDEX:
    case SQLITE_CREATE_TEMP_TABLE:
    case SQLITE_CREATE_TEMP_TRIGGER:
    case SQLITE_CREATE_TEMP_VIEW:
    case SQLITE_DROP_TEMP_INDEX:
    case SQLITE_DROP_TEMP_TABLE:
    case SQLITE_DROP_TEMP_TRIGGER:
    case SQLITE_DROP_TEMP_VIEW:
      return true;
    default:
      return false;
  }
}

// INSERT, UPDATE and DELETE in the temporary schema are what ALTER TABLE does to it; without temporary objects nobody else can.
bool creates(int action) {
  switch (action) {
    case SQLITE_CREATE_INDEX:
    case SQLITE_CREATE_TABLE:
    case SQLITE_CREATE_TRIGGER:
    case SQLITE_CREATE_VIEW:
    case SQLITE_CREATE_VTABLE:
      return true;
    default:
      return false;
  }
}

bool writes(int action) {
  switch (action) {
    case SQLITE_INSERT:
    case SQLITE_UPDATE:
    case SQLITE_DELETE:
    case SQLITE_CREATE_INDEX:
    case SQLITE_CREATE_TABLE:
    case SQLITE_CREATE_TRIGGER:
    case SQLITE_CREATE_VIEW:
    case SQLITE_CREATE_VTABLE:
    case SQLITE_DROP_TABLE:
    case SQLITE_DROP_VTABLE:
    case SQLITE_ANALYZE:
      return true;
    default:
      return false;
  }
}

}  // namespace

int Guard::authorize(sql::Connection& connection, int action, const char* first, const char* second, const char* schema,
                     const char* /*trigger*/) {
  if (trusted_) return SQLITE_OK;
  if (action == SQLITE_READ || action == SQLITE_SELECT || action == SQLITE_FUNCTION) {
    return action == SQLITE_READ && sql::same_name(text(first), kPages) ? SQLITE_DENY : SQLITE_OK;
  }
  if (action == SQLITE_PRAGMA) return pragma(connection, first, second, schema);
  if (action == SQLITE_TRANSACTION) return transaction(connection, text(first));
  if (action == SQLITE_SAVEPOINT) return savepoint(connection, text(first), second);
  if (action == SQLITE_ATTACH || action == SQLITE_DETACH) {
    const bool nameless = action == SQLITE_DETACH || (first && *first == '\0');
    return vacuuming_ && nameless ? SQLITE_OK : SQLITE_DENY;   // VACUUM INTO names a file
  }
  if (creates_temporary(action) || (creates(action) && sql::same_name(text(schema), "temp"))) {
    connection.refuse(kTemporary);
    return SQLITE_DENY;
  }
  if (action == SQLITE_CREATE_VTABLE && sql::same_name(text(second), kPages)) return SQLITE_DENY;
  if (writes(action)) {
    if (sql::same_name(text(first), kPages)) return SQLITE_DENY;
    if (action == SQLITE_ANALYZE || starts_with_name(text(first), "sqlite_stat")) {
      connection.mark(kStatistics);
      statistics_ = true;
    }
  }
  return SQLITE_OK;
}

int Guard::pragma(sql::Connection& connection, const char* name, const char* value, const char* schema) {
  // FTS5 asks its own schema for this while it writes, to see whether its cache is good; SQL can't name a schema there.
  if (inside_ && !value && schema && sql::same_name(text(name), "data_version")) return SQLITE_OK;
  const PragmaRule rule = pragma_rule(text(name));
  connection.mark(kPragma);
  // Actions: they do something without a value, too.
  const bool acts = rule.writing == Writing::Optimize;
  if (!value && !acts) {
    if (rule.reading == Reading::Refused || (inside_ && rule.reading == Reading::Local)) return SQLITE_DENY;
    return SQLITE_OK;
  }
  switch (rule.writing) {
    case Writing::Selects:
      return inside_ && rule.reading == Reading::Local ? SQLITE_DENY : SQLITE_OK;
    case Writing::Data:
      return inside_ ? SQLITE_DENY : SQLITE_OK;
    case Writing::Setting:
    case Writing::Request:
    case Writing::Optimize:
      if (inside_) return SQLITE_DENY;
      connection.mark(kSetting);
      pragma_ = {std::string(text(name)), std::string(text(value))};
      return SQLITE_IGNORE;  // many take effect when they are compiled: the executor does it when they run
    case Writing::Refused:
      return loading_ && !inside_ && sql::same_name(text(name), "writable_schema") ? SQLITE_OK : SQLITE_DENY;
  }
  return SQLITE_DENY;
}

int Guard::transaction(sql::Connection& connection, std::string_view operation) {
  if (inside_) return SQLITE_DENY;
  connection.mark(kControl);
  control_.name.clear();
  control_.verb = operation == "BEGIN"    ? Control::Verb::Begin
                  : operation == "COMMIT" ? Control::Verb::Commit
                                          : Control::Verb::Rollback;
  return SQLITE_OK;
}

int Guard::savepoint(sql::Connection& connection, std::string_view operation, const char* name) {
  if (inside_) return SQLITE_DENY;
  connection.mark(kControl);
  control_.name = text(name);
  control_.verb = operation == "BEGIN"     ? Control::Verb::Savepoint
                  : operation == "RELEASE" ? Control::Verb::Release
                                           : Control::Verb::RollbackTo;
  return SQLITE_OK;
}

}  // namespace rq::executor
