// What can be told of SQL text without compiling it: where its statements end and how each begins. Pure; no allocation.
//
// The scanner follows SQLite's tokenizer (comments, strings, quoted names, trigger bodies), so that it sees the same
// statements as sqlite3_prepare does. Of text that SQLite would reject it says something, never more than "Other" wrongly.
#pragma once

#include <cstdint>
#include <string_view>

#include "command/command.pb.h"

namespace rq::sql {

enum class Verb : std::uint8_t {
  Empty,                                              // white space and comments only
  Select, Values, With, Insert, Replace, Update, Delete,
  Create, Drop, Alter, Analyze, Reindex,
  Begin, Commit, Rollback, Savepoint, Release,        // Commit: also END
  Vacuum, Pragma, Attach, Detach,
  Other,
};

enum class PragmaForm : std::uint8_t { Read, Assign, Call };  // PRAGMA x; PRAGMA x = v; PRAGMA x(v)

struct StatementFacts {
  std::string_view text;                 // without the final `;`
  Verb verb = Verb::Empty;
  bool explain = false;                  // EXPLAIN or EXPLAIN QUERY PLAN stands before
  bool temporary = false;                // CREATE TEMP ...
  // Of PRAGMA only; as written, without quotes (doubled quotes stay): compare with same_name().
  std::string_view pragma_schema, pragma_name, pragma_value;
  PragmaForm pragma_form = PragmaForm::Read;
};

class StatementScanner {
 public:
  explicit StatementScanner(std::string_view sql);
  // False: no more text. A last piece of white space and comments counts as a statement (Empty) only if it is the only
  // one; empty statements between others are left out.
  bool next(StatementFacts& facts);

 private:
  std::string_view rest_;
  bool found_ = false;
  bool first_ = true;
};

bool same_name(std::string_view name, std::string_view lower_case);  // ASCII case-insensitive

// Bits about a whole SQL string.
enum Fact : std::uint32_t {
  kTransactionControl = 1,               // BEGIN, COMMIT, END, ROLLBACK, SAVEPOINT, RELEASE
  kVacuum = 2,
  kPragmaRead = 4,                       // PRAGMA x, or an argument that only chooses what is shown (table_info(t))
  kPragmaData = 8,                       // PRAGMA user_version = n, application_id = n: like a data change
  kPragmaSetting = 16,                   // any other PRAGMA with a value or an action (foreign_keys=, optimize, ...)
  kPragmaDisallowed = 32,                // spec section 10: the whole request is refused
  kAttach = 64,                          // ATTACH, DETACH
  kExplain = 128,
  kTemporary = 256,                      // CREATE TEMP ...
  kMany = 512,                           // more than one statement
  kEmpty = 1024,                         // nothing to run at all
  kSchema = 2048,                        // CREATE, DROP, ALTER, ANALYZE, REINDEX
};
std::uint32_t examine(std::string_view sql);
std::uint32_t examine(const pb::Request& request);  // of all statements; kEmpty and kMany: of any

// The class of a PRAGMA: one of kPragmaRead, kPragmaData, kPragmaSetting, kPragmaDisallowed.
std::uint32_t pragma_fact(std::string_view name, PragmaForm form);

}  // namespace rq::sql
