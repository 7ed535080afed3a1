// Writer: the one connection that changes the database, under the deterministic context.
//
// It owns the connection on the shim VFS, the guard, the random stream and what SQLite would lose: registers. It knows
// transactions and savepoints (names with a reserved prefix; users' ones are never executed), and nothing of requests.
// Thread: apply.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "executor/guard.h"
#include "executor/random.h"
#include "ledger/ledger.h"
#include "ledger/shim_vfs.h"
#include "sql/connection.h"

namespace rq::executor {

struct WriterOptions {
  std::string path;
  const Clock* clock = nullptr;
  std::size_t statements_cached = 512;
  std::int64_t cache_kib = 64 * 1024;
  std::uint32_t spill_pages = 8192;
};

class Writer {
 public:
  // Attaches SQLite; takes the WAL's locks; registers as given. Errc::Io, Corrupt, Busy (see ShimVfs::hold_locks).
  static Result<std::unique_ptr<Writer>> open(const WriterOptions& options, ledger::ShimVfs& shim,
                                              const ledger::Registers& registers);
  ~Writer();
  Writer(const Writer&) = delete;

  sql::Connection& connection() { return *connection_; }
  Guard& guard() { return guard_; }
  RandomStream& random() { return random_; }
  ledger::ShimVfs& shim() { return shim_; }

  bool in_transaction() const { return connection_->in_transaction(); }
  // While it lives, rowids that SQLite draws on this thread come from random().
  class Draws {
   public:
    explicit Draws(Writer& writer);
    ~Draws();
    Draws(const Draws&) = delete;
  };

  // Errors of these are the device's or our bugs, except commit(): see Errc::Sql there.
  Result<> begin() { return control(begin_.get()); }
  // Errc::Sql: something that SQLite does at commit failed by the statements' own fault; still in the transaction.
  Result<> commit() { return control(commit_.get()); }
  void rollback();   // never fails to leave the transaction
  Result<> savepoint(std::size_t depth);
  Result<> release(std::size_t depth);        // and those above it
  Result<> rollback_to(std::size_t depth);    // keeps it
  bool deferred_violation() const;            // of foreign keys: a RELEASE would accept it, a COMMIT would not
  void defer_foreign_keys();                  // until end_deferral()
  void end_deferral();                        // forgets violations, too: for the end of each unit

  // Settings as kept here, counters as SQLite has them now.
  ledger::Registers registers() const;
  void restore(const ledger::Registers& registers);
  void set_counters(std::int64_t last_insert_rowid, std::int64_t changes, std::int64_t total_changes);
  std::int64_t last_insert_rowid() const { return sqlite3_last_insert_rowid(connection_->handle()); }
  std::int64_t changes() const { return sqlite3_changes64(connection_->handle()); }
  std::int64_t total_changes() const { return sqlite3_total_changes64(connection_->handle()); }
  bool foreign_keys() const { return foreign_keys_; }
  void take_setting(std::string_view name, std::string_view value);
  // SQL of our own within the transaction.
  Result<> run_trusted(const char* sql);
  // The connection's prepare(), but never a statement that SQLite would find stale when it runs: it would begin the
  // statement, and so make virtual tables flush, before it finds out; a node with a cold cache wouldn't.
  Result<sql::Statement> prepare(std::string_view sql, sql::Connection::Reuse reuse = sql::Connection::Reuse::Cached);
  // Forgets schema and statistics in memory: they are read anew, as after a restart.
  void reload_schema();

  // An error that isn't the statements' own but the device's or the process's: the entry must be given up.
  static bool of_device(const Error& error) {
    return error.code == Errc::Io || error.code == Errc::NoSpace || error.code == Errc::Corrupt ||
           error.code == Errc::Internal;
  }
  // What a result code means: FULL and CORRUPT are the statement's own unless the device (or a broken page) says so.
  Error classify(int code, Error error);

 private:
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  using Control = std::unique_ptr<sqlite3_stmt, Finalizer>;
  struct Savepoint {
    Control open, release, rollback_to;
  };

  Writer(ledger::ShimVfs& shim) : shim_(shim) {}
  Result<> configure(const WriterOptions& options);
  Result<Control> prepare_control(const std::string& sql);
  Result<> prepare_savepoint();
  Result<> control(sqlite3_stmt* statement);
  void apply_settings(const ledger::Registers& to);
  static void sql_random(sqlite3_context* context, int count, sqlite3_value** values);
  static void sql_randomblob(sqlite3_context* context, int count, sqlite3_value** values);
  static void draw_rowid(void* self, int bytes, void* out);

  ledger::ShimVfs& shim_;
  Guard guard_;
  RandomStream random_;
  std::unique_ptr<sql::Connection> connection_;
  Control begin_, commit_, rollback_;
  std::vector<Savepoint> savepoints_;
  ledger::Registers settings_;   // its counters are unused
  bool foreign_keys_ = false;
  std::uint64_t schema_stamp_ = 0;   // of the statements in the cache
};

}  // namespace rq::executor
