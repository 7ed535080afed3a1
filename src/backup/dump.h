// Dump: a database as SQL text that builds it again, written row by row in one read transaction.
//
// The form is the reference's (spec backup-restore section 1, "byte-exact"), but for what couldn't be loaded there:
//   - sqlite_sequence and sqlite_stat1 come after all tables (their CREATE is a side effect of others);
//   - a virtual table is written into the schema, as the sqlite3 shell does, since its CREATE would make the shadow tables
//     that follow as plain ones;
//   - text with a NUL byte, or that is not UTF-8, becomes CAST(X'...' AS TEXT);
//   - rows of tables without a key of their own come in the order of their rowids.
// With a list of tables all indexes, triggers and views are written nevertheless, as the reference does.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backup/source.h"
#include "sql/connection.h"

namespace rq::backup {

class Dump final : public Source {
 public:
  static Result<std::unique_ptr<Dump>> open(const Database& database, const std::vector<std::string>& tables);
  Result<Piece> next() override;
  void cancel() override;

 private:
  struct Table {
    std::string name, sql;
    bool is_virtual = false;
  };
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  using Handle = std::unique_ptr<sqlite3_stmt, Finalizer>;
  enum class Phase : unsigned char { Tables, Objects, End };

  Dump() = default;
  Result<> list_tables(const std::vector<std::string>& wanted);
  Result<Handle> prepare(const std::string& sql) const;
  Result<std::vector<std::string>> columns_of(const std::string& table) const;
  Result<bool> has_autoincrement(const Table& table) const;
  Result<> begin_table();
  Result<> step_row();
  Result<> write_values();
  Result<> write_value(int column);
  bool write_part(std::string_view bytes, bool as_hex);
  Result<> write_objects();

  std::unique_ptr<sql::Connection> connection_;
  std::vector<Table> tables_;
  std::size_t table_ = 0;            // begun or next
  Handle rows_, quote_, objects_;
  int columns_ = 0;
  bool in_row_ = false;              // rows_ stands on a row that is not written whole
  int column_ = 0;                   // of it, being written
  std::size_t at_ = 0;               // in its bytes
  bool writes_schema_ = false;
  Phase phase_ = Phase::Tables;
  std::string insert_;
  std::string out_;
};

}  // namespace rq::backup
