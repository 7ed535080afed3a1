#include "backup/dump.h"

#include <algorithm>

#include "base/go_text.h"

namespace rq::backup {
namespace {

constexpr std::size_t kPartBytes = 64 * 1024;   // of one value, written at once

std::string quoted(std::string_view text, char quote) {
  std::string out(1, quote);
  for (const char c : text) {
    out += c;
    if (c == quote) out += c;
  }
  return out + quote;
}

std::string_view text_of(sqlite3_stmt* statement, int column) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
  return text == nullptr ? std::string_view() : std::string_view(text, static_cast<std::size_t>(sqlite3_column_bytes(statement, column)));
}

bool loads_as_literal(std::string_view text) { return text.find('\0') == std::string_view::npos && is_utf8(text); }

}  // namespace

Result<std::unique_ptr<Dump>> Dump::open(const Database& database, const std::vector<std::string>& tables) {
  std::unique_ptr<Dump> dump(new Dump());
  RQ_TRY(dump->connection_, sql::Connection::open({.path = database.path, .vfs = database.vfs, .read_only = true, .clock = database.clock,
                                                   .cache_kib = 2048, .statements_cached = 0}));
  RQ_CHECK(dump->connection_->run("BEGIN"));
  RQ_CHECK(dump->list_tables(tables));          // its first read takes the state
  RQ_TRY(dump->quote_, dump->prepare("SELECT quote(?1)"));
  dump->out_ = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n";
  return dump;
}

void Dump::cancel() { connection_->interrupt(); }

Result<Dump::Handle> Dump::prepare(const std::string& sql) const {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(connection_->handle(), sql.c_str(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return fail(connection_->error(code));
  return Handle(statement);
}

Result<> Dump::list_tables(const std::vector<std::string>& wanted) {
  RQ_TRY(const Handle list, prepare("SELECT name, sql, rootpage FROM main.sqlite_schema WHERE type='table' ORDER BY name COLLATE BINARY"));
  std::vector<Table> last;
  bool has_sequence = false, counts = false;
  int code = SQLITE_OK;
  while ((code = sqlite3_step(list.get())) == SQLITE_ROW) {
    Table table{std::string(text_of(list.get(), 0)), std::string(text_of(list.get(), 1)), sqlite3_column_int64(list.get(), 2) == 0};
    has_sequence = has_sequence || table.name == "sqlite_sequence";
    if (!wanted.empty() && std::ranges::find(wanted, table.name) == wanted.end()) continue;
    if (table.name == "sqlite_sequence" || table.name == "sqlite_stat1") last.push_back(std::move(table));
    else if (!sqlite3_strnicmp(table.name.c_str(), "sqlite_", 7)) continue;
    else tables_.push_back(std::move(table));
  }
  if (code != SQLITE_DONE) return fail(connection_->error(code));
  for (std::size_t i = 0; has_sequence && !counts && i < tables_.size(); ++i) {
    RQ_TRY(counts, has_autoincrement(tables_[i]));
  }
  for (Table& table : last)
    if (table.name != "sqlite_sequence" || counts) tables_.push_back(std::move(table));   // else nothing would have made it
  return {};
}

Result<bool> Dump::has_autoincrement(const Table& table) const {
  if (table.is_virtual) return false;
  RQ_TRY(const std::vector<std::string> columns, columns_of(table.name));
  for (const std::string& column : columns) {
    int counts = 0;
    const int code = sqlite3_table_column_metadata(connection_->handle(), "main", table.name.c_str(), column.c_str(), nullptr, nullptr, nullptr,
                                                   nullptr, &counts);
    if (code != SQLITE_OK) return fail(connection_->error(code));
    if (counts != 0) return true;
  }
  return false;
}

// Those that an INSERT without a list of columns fills.
Result<std::vector<std::string>> Dump::columns_of(const std::string& table) const {
  RQ_TRY(const Handle list, prepare("SELECT name FROM pragma_table_info(?1, 'main') ORDER BY cid"));
  sqlite3_bind_text(list.get(), 1, table.data(), static_cast<int>(table.size()), SQLITE_STATIC);
  std::vector<std::string> out;
  int code = SQLITE_OK;
  while ((code = sqlite3_step(list.get())) == SQLITE_ROW) out.emplace_back(text_of(list.get(), 0));
  if (code != SQLITE_DONE) return fail(connection_->error(code));
  return out;
}

Result<Piece> Dump::next() {
  while (phase_ != Phase::End && out_.size() < kPieceBytes) {
    if (in_row_) {
      RQ_CHECK(write_values());
    } else if (rows_) {
      RQ_CHECK(step_row());
    } else if (phase_ == Phase::Objects) {
      RQ_CHECK(write_objects());
    } else if (table_ < tables_.size()) {
      RQ_CHECK(begin_table());
    } else {
      RQ_TRY(objects_, prepare("SELECT sql FROM main.sqlite_schema WHERE type IN ('index','trigger','view') AND sql IS NOT NULL ORDER BY rowid"));
      phase_ = Phase::Objects;
    }
  }
  return Piece{std::exchange(out_, {}), phase_ == Phase::End};
}

Result<> Dump::begin_table() {
  const Table& table = tables_[table_];
  if (table.is_virtual) {
    if (!std::exchange(writes_schema_, true)) out_ += "PRAGMA writable_schema=ON;\n";
    const std::string name = quoted(table.name, '\'');
    out_ += "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table'," + name + "," + name + ",0," + quoted(table.sql, '\'') + ");\n";
    ++table_;
    return {};
  }
  if (table.name == "sqlite_sequence") out_ += "DELETE FROM \"sqlite_sequence\";;\n";
  else if (table.name == "sqlite_stat1") out_ += "ANALYZE \"sqlite_master\";;\n";
  else out_ += table.sql + ";\n";
  RQ_TRY(const std::vector<std::string> columns, columns_of(table.name));
  if (columns.empty()) return fail(Errc::Corrupt, "table " + table.name + " has no columns");
  std::string select = "SELECT ";
  for (const std::string& column : columns) select += (select.size() > 7 ? "," : "") + quoted(column, '"');
  RQ_TRY(rows_, prepare(select + " FROM main." + quoted(table.name, '"') + " NOT INDEXED"));
  columns_ = static_cast<int>(columns.size());
  insert_ = "INSERT INTO " + quoted(table.name, '"') + " VALUES(";
  return {};
}

Result<> Dump::step_row() {
  const int code = sqlite3_step(rows_.get());
  if (code == SQLITE_DONE) {
    rows_.reset();
    ++table_;
    return {};
  }
  if (code != SQLITE_ROW) return fail(connection_->error(code));
  out_ += insert_;
  in_row_ = true;
  column_ = 0;
  at_ = 0;
  return write_values();
}

// Goes on where the piece before this one was full.
Result<> Dump::write_values() {
  while (column_ < columns_) {
    if (column_ > 0 && at_ == 0) out_ += ',';
    RQ_CHECK(write_value(column_));
    if (at_ > 0) return {};                    // a large value, not at its end
    ++column_;
  }
  out_ += ");\n";
  in_row_ = false;
  return {};
}

Result<> Dump::write_value(int column) {
  sqlite3_stmt* row = rows_.get();
  switch (sqlite3_column_type(row, column)) {
    case SQLITE_NULL:
      out_ += "NULL";
      return {};
    case SQLITE_INTEGER:
      out_ += std::to_string(sqlite3_column_int64(row, column));
      return {};
    case SQLITE_FLOAT: {
      sqlite3_bind_double(quote_.get(), 1, sqlite3_column_double(row, column));
      const int code = sqlite3_step(quote_.get());
      if (code == SQLITE_ROW) out_ += text_of(quote_.get(), 0);
      const Error error = code == SQLITE_ROW ? Error{} : connection_->error(code);
      sqlite3_reset(quote_.get());
      if (code != SQLITE_ROW) return fail(error);
      return {};
    }
    case SQLITE_BLOB: {
      const auto* bytes = static_cast<const char*>(sqlite3_column_blob(row, column));
      const auto size = static_cast<std::size_t>(sqlite3_column_bytes(row, column));
      if (size > 0 && bytes == nullptr) return fail(Errc::Internal, "out of memory");
      if (at_ == 0) out_ += "X'";
      if (write_part({bytes, size}, true)) out_ += '\'';
      return {};
    }
    default: {
      const std::string_view text = text_of(row, column);
      if (text.data() == nullptr) return fail(Errc::Internal, "out of memory");
      const bool literal = loads_as_literal(text);
      if (at_ == 0) out_ += literal ? "'" : "CAST(X'";
      if (write_part(text, !literal)) out_ += literal ? "'" : "' AS TEXT)";
      return {};
    }
  }
}

// The next part of a value's bytes. True: that was the last; at_ is 0 again.
bool Dump::write_part(std::string_view bytes, bool as_hex) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  const std::string_view part = bytes.substr(at_, kPartBytes);
  for (const char c : part) {
    if (as_hex) {
      out_ += kHex[static_cast<unsigned char>(c) >> 4];
      out_ += kHex[static_cast<unsigned char>(c) & 15];
    } else {
      out_ += c;
      if (c == '\'') out_ += c;
    }
  }
  at_ += part.size();
  if (at_ < bytes.size()) return false;
  at_ = 0;
  return true;
}

Result<> Dump::write_objects() {
  const int code = sqlite3_step(objects_.get());
  if (code == SQLITE_ROW) {
    out_.append(text_of(objects_.get(), 0)).append(";\n");
    return {};
  }
  if (code != SQLITE_DONE) return fail(connection_->error(code));
  objects_.reset();
  if (writes_schema_) out_ += "PRAGMA writable_schema=OFF;\n";
  out_ += "COMMIT;\n";
  phase_ = Phase::End;
  return {};
}

}  // namespace rq::backup
