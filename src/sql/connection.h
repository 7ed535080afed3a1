// Connection: one SQLite connection with a cache of prepared statements, and Statement, a prepared statement on loan.
//
// Threads: one thread at a time uses a Connection and its Statements (SQLite is compiled with THREADSAFE=2); only
// interrupt() may be called from others, while the Connection lives. A Connection may be handed from thread to thread.
// Errors: Errc::Sql (the statement is wrong or failed), Canceled (stopped by budget or interrupt), Io, NoSpace,
// Corrupt, Internal (out of memory); `detail` is exactly SQLite's message, which clients see.
#pragma once

#include <sqlite3.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace rq::sql {

class Connection;
struct ColumnPlan;          // result_writer.cc: what it remembers about a statement's columns
struct CachedStatement;     // connection.cc

// Told of everything a statement would do, while it is compiled (sqlite3_set_authorizer).
class Authorizer {
 public:
  virtual ~Authorizer() = default;
  // SQLITE_OK, SQLITE_DENY ("not authorized", or what connection.refuse() was told), SQLITE_IGNORE. May call
  // connection.mark() and connection.refuse(), nothing else of the connection. Arguments as in sqlite3.h, may be null.
  virtual int authorize(Connection& connection, int action, const char* first, const char* second, const char* schema,
                        const char* trigger) = 0;
};

class Cancellation {
 public:
  virtual ~Cancellation() = default;
  virtual bool canceled() const = 0;  // polled from the thread that runs the statement; cheap
};

// What may stop running statements. Looked at every kBudgetGrain steps of the virtual machine.
struct Budget {
  SteadyTime deadline = SteadyTime::max();
  std::uint64_t max_steps = UINT64_MAX;
  const Cancellation* cancellation = nullptr;  // must outlive the time the budget is armed
};
inline constexpr int kBudgetGrain = 512;

enum class Stop : std::uint8_t { None, Deadline, Steps, Canceled };

// A statement on loan from the cache: its destructor resets it, clears its bindings and gives it back. The Connection
// must outlive it.
class Statement {
 public:
  Statement() = default;
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  bool empty() const { return handle_ == nullptr; }  // the text held only white space, comments or `;`
  sqlite3_stmt* handle() const { return handle_; }
  std::string_view tail() const { return tail_; }    // text behind this statement, may hold more statements
  bool read_only() const;                            // sqlite3_stmt_readonly (a PRAGMA may still change settings)
  bool explain() const;                              // EXPLAIN or EXPLAIN QUERY PLAN
  std::uint32_t marks() const;                       // what the authorizer marked when it was compiled

  // SQLITE_ROW, SQLITE_DONE or an extended error code.
  int step() { return sqlite3_step(handle_); }
  void reset() { sqlite3_reset(handle_); }           // error codes of the last step are repeated by SQLite: ignored

  std::shared_ptr<ColumnPlan>& plan();               // for the result writer

 private:
  friend class Connection;
  void give_back() noexcept;

  Connection* connection_ = nullptr;
  CachedStatement* entry_ = nullptr;
  sqlite3_stmt* handle_ = nullptr;
  std::string_view tail_;
};

struct OpenOptions {
  std::string path;
  std::string vfs;                          // empty: SQLite's default
  bool read_only = false;                   // no write to the file whatever is asked; the file must exist
  const Clock* clock = nullptr;             // for deadlines; must outlive the connection
  std::int64_t cache_kib = 2048;            // page cache
  std::int64_t mmap_bytes = 0;
  int busy_timeout_ms = 5000;
  int lookaside_slots = 100, lookaside_slot_bytes = 1200;
  std::size_t statements_cached = 256;
  std::size_t statement_bytes_cached = 4u << 20;  // as SQLite counts the memory of statements, plus their texts
  bool foreign_keys = false;
};

// Longest string, BLOB or row; the same on all nodes.
inline constexpr int kLengthMax = 256 << 20;

class Connection {
 public:
  // Extended result codes on, limits set, triggers and views on, extensions and double writes of settings off,
  // no checkpoint on close. Journal mode and checkpoints are the caller's.
  static Result<std::unique_ptr<Connection>> open(const OpenOptions& options);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  sqlite3* handle() const { return db_; }

  // Compiles the first statement of `sql` (which must outlive Statement::tail()'s use; a NUL byte ends it), or takes it
  // from the cache. Fresh: compiled now and not kept.
  enum class Reuse : std::uint8_t { Cached, Fresh };
  Result<Statement> prepare(std::string_view sql, Reuse reuse = Reuse::Cached);

  // Runs all statements of a text of our own, rows are dropped. Not cached.
  Result<> run(const char* sql);
  // The first column of the first row of a text of our own.
  Result<std::int64_t> number(const char* sql);

  // Null: none. Applies to statements compiled from now on; empties the cache.
  void set_authorizer(Authorizer* authorizer);
  void mark(std::uint32_t bits) { marks_ |= bits; }              // see Authorizer
  void refuse(std::string_view text) { refusal_ = text; }        // text of the error if the authorizer denies

  // Until disarm() statements are stopped when the budget is used up: they fail with SQLITE_INTERRUPT. Steps are
  // counted over all statements since arm().
  void arm(const Budget& budget);
  void disarm();
  Stop stopped() const { return stop_; }                         // why, since the last arm()
  std::uint64_t steps() const { return steps_; }                 // in units of kBudgetGrain, since the last arm()

  void interrupt() { sqlite3_interrupt(db_); }                   // any thread

  bool in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }
  int last_code() const { return sqlite3_extended_errcode(db_); }
  // The Error of a result code that a call on this connection has just returned.
  Error error(int code) const;
  void clear_cache();

 private:
  friend class Statement;
  struct Cache;
  explicit Connection(const OpenOptions& options);
  static int on_authorize(void* self, int action, const char* first, const char* second, const char* schema,
                          const char* trigger);
  static int on_progress(void* self);
  Result<> configure(const OpenOptions& options);

  sqlite3* db_ = nullptr;
  const Clock* clock_;
  Authorizer* authorizer_ = nullptr;
  std::uint32_t marks_ = 0;
  std::string refusal_;
  bool armed_ = false;
  Stop stop_ = Stop::None;
  std::uint64_t steps_ = 0;
  Budget budget_;
  std::unique_ptr<Cache> cache_;
};

// The kind of failure that an SQLite result code (extended or not) stands for.
Errc errc_of(int code);

}  // namespace rq::sql
