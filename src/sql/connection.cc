// Invariants
//   1. A cached statement is on loan to at most one Statement; on loan it is not evicted.
//   2. marks_ belongs to the statement being compiled; a cached statement keeps its own.
#include "sql/connection.h"

#include <list>
#include <string>
#include <unordered_map>

#include "base/assert.h"

namespace rq::sql {

struct CachedStatement {
  std::string text;
  sqlite3_stmt* handle = nullptr;
  std::size_t tail_at = 0;
  std::size_t bytes = 0;
  std::uint32_t marks = 0;
  bool on_loan = false;
  bool kept = false;                       // in the cache's list
  std::shared_ptr<ColumnPlan> plan;
  std::list<CachedStatement*>::iterator place;

  ~CachedStatement() { sqlite3_finalize(handle); }
};

// Least recently used first out, by count and by bytes.
struct Connection::Cache {
  Cache(std::size_t count, std::size_t size) : count_max(count), bytes_max(size) {}
  ~Cache() { clear(); }

  CachedStatement* find(std::string_view text) {
    const auto found = by_text.find(text);
    if (found == by_text.end() || found->second->on_loan) return nullptr;
    order.splice(order.begin(), order, found->second->place);
    return found->second;
  }
  void keep(CachedStatement* entry) {
    if (count_max == 0 || by_text.contains(entry->text)) return;
    order.push_front(entry);
    entry->place = order.begin();
    entry->kept = true;
    by_text.emplace(entry->text, entry);
    bytes += entry->bytes;
    for (auto oldest = order.end(); oldest != order.begin() && (by_text.size() > count_max || bytes > bytes_max);) {
      --oldest;
      if ((*oldest)->on_loan) continue;
      CachedStatement* const victim = *oldest;
      ++oldest;
      drop(victim);
      delete victim;
    }
  }
  void drop(CachedStatement* entry) {
    by_text.erase(entry->text);
    order.erase(entry->place);
    bytes -= entry->bytes;
    entry->kept = false;
  }
  void clear() {
    while (!order.empty()) {
      CachedStatement* const entry = order.front();
      drop(entry);
      if (!entry->on_loan) delete entry;   // else its Statement deletes it when it is given back
    }
  }

  const std::size_t count_max, bytes_max;
  std::list<CachedStatement*> order;
  std::unordered_map<std::string_view, CachedStatement*> by_text;
  std::size_t bytes = 0;
};

// ---- statement

Statement::Statement(Statement&& other) noexcept { *this = std::move(other); }

Statement& Statement::operator=(Statement&& other) noexcept {
  if (this == &other) return *this;
  give_back();
  connection_ = std::exchange(other.connection_, nullptr);
  entry_ = std::exchange(other.entry_, nullptr);
  handle_ = std::exchange(other.handle_, nullptr);
  tail_ = std::exchange(other.tail_, {});
  return *this;
}

Statement::~Statement() { give_back(); }

void Statement::give_back() noexcept {
  if (entry_ == nullptr) return;
  sqlite3_reset(handle_);
  sqlite3_clear_bindings(handle_);
  entry_->on_loan = false;
  if (!entry_->kept) delete entry_;
  entry_ = nullptr;
  handle_ = nullptr;
}

bool Statement::read_only() const { return handle_ == nullptr || sqlite3_stmt_readonly(handle_) != 0; }
bool Statement::explain() const { return handle_ != nullptr && sqlite3_stmt_isexplain(handle_) != 0; }
std::uint32_t Statement::marks() const { return entry_ == nullptr ? 0 : entry_->marks; }
std::shared_ptr<ColumnPlan>& Statement::plan() { return entry_->plan; }

// ---- connection

Errc errc_of(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL: return Errc::NoSpace;
    case SQLITE_IOERR: return code == SQLITE_IOERR_NOMEM ? Errc::Internal : Errc::Io;
    case SQLITE_CANTOPEN: return Errc::Io;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return Errc::Corrupt;
    case SQLITE_NOMEM: return Errc::Internal;
    case SQLITE_INTERRUPT: return Errc::Canceled;
    default: return Errc::Sql;
  }
}

Error Connection::error(int code) const {
  const char* text = sqlite3_errmsg(db_);
  return {errc_of(code), text == nullptr ? sqlite3_errstr(code) : text};
}

Connection::Connection(const OpenOptions& options)
    : clock_(options.clock), cache_(std::make_unique<Cache>(options.statements_cached, options.statement_bytes_cached)) {}

Connection::~Connection() {
  cache_.reset();
  sqlite3_close_v2(db_);
}

Result<std::unique_ptr<Connection>> Connection::open(const OpenOptions& options) {
  std::unique_ptr<Connection> connection(new Connection(options));
  const int flags = (options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(options.path.c_str(), &connection->db_, flags, options.vfs.empty() ? nullptr : options.vfs.c_str());
  if (code != SQLITE_OK) {
    const char* why = connection->db_ != nullptr ? sqlite3_errmsg(connection->db_) : sqlite3_errstr(code);
    return fail(errc_of(code) == Errc::Sql ? Errc::Io : errc_of(code), "open " + options.path + ": " + why);
  }
  RQ_CHECK(connection->configure(options));
  return connection;
}

Result<> Connection::configure(const OpenOptions& options) {
  sqlite3_db_config(db_, SQLITE_DBCONFIG_LOOKASIDE, nullptr, options.lookaside_slot_bytes, options.lookaside_slots);
  sqlite3_limit(db_, SQLITE_LIMIT_LENGTH, kLengthMax);
  sqlite3_busy_timeout(db_, options.busy_timeout_ms);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_ENABLE_FKEY, options.foreign_keys ? 1 : 0, nullptr);
  const std::string pragmas = "PRAGMA cache_size=-" + std::to_string(options.cache_kib) + "; PRAGMA mmap_size=" + std::to_string(options.mmap_bytes);
  return run(pragmas.c_str());
}

Result<Statement> Connection::prepare(std::string_view sql, Reuse reuse) {
  Statement out;
  out.connection_ = this;
  const std::size_t nul = sql.find('\0');
  if (nul != std::string_view::npos) sql = sql.substr(0, nul);
  if (reuse == Reuse::Cached) {
    if (CachedStatement* cached = cache_->find(sql)) {
      cached->on_loan = true;
      out.entry_ = cached;
      out.handle_ = cached->handle;
      out.tail_ = sql.substr(cached->tail_at);
      return out;
    }
  }
  marks_ = 0;
  refusal_.clear();
  sqlite3_stmt* handle = nullptr;
  const char* tail = nullptr;
  if (sql.size() > static_cast<std::size_t>(kLengthMax)) return fail(Errc::Sql, "statement too long");
  const int code = sqlite3_prepare_v3(db_, sql.data() == nullptr ? "" : sql.data(), static_cast<int>(sql.size()),
                                      reuse == Reuse::Cached ? SQLITE_PREPARE_PERSISTENT : 0, &handle, &tail);
  if (code != SQLITE_OK) {
    Error why = error(code);
    if ((code & 0xff) == SQLITE_AUTH && !refusal_.empty()) why.detail = refusal_;
    return fail(std::move(why));
  }
  const std::size_t tail_at = tail == nullptr ? sql.size() : static_cast<std::size_t>(tail - sql.data());
  out.tail_ = sql.substr(std::min(tail_at, sql.size()));
  if (handle == nullptr) return out;       // nothing but white space and comments
  auto* entry = new CachedStatement;
  entry->handle = handle;
  entry->tail_at = std::min(tail_at, sql.size());
  entry->marks = marks_;
  entry->on_loan = true;
  out.entry_ = entry;
  out.handle_ = handle;
  if (reuse == Reuse::Cached) {
    entry->text = sql;
    entry->bytes = sql.size() + static_cast<std::size_t>(sqlite3_stmt_status(handle, SQLITE_STMTSTATUS_MEMUSED, 0));
    cache_->keep(entry);
  }
  return out;
}

Result<> Connection::run(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return fail(error(code));
  return {};
}

Result<std::int64_t> Connection::number(const char* sql) {
  RQ_TRY(Statement statement, prepare(sql, Reuse::Fresh));
  const int code = statement.step();
  if (code == SQLITE_ROW) return sqlite3_column_int64(statement.handle(), 0);
  if (code == SQLITE_DONE) return fail(Errc::NotFound, "no row");
  return fail(error(code));
}

void Connection::clear_cache() { cache_->clear(); }

void Connection::set_authorizer(Authorizer* authorizer) {
  clear_cache();
  authorizer_ = authorizer;
  sqlite3_set_authorizer(db_, authorizer == nullptr ? nullptr : &Connection::on_authorize, this);
}

int Connection::on_authorize(void* self, int action, const char* first, const char* second, const char* schema, const char* trigger) {
  auto& connection = *static_cast<Connection*>(self);
  return connection.authorizer_->authorize(connection, action, first, second, schema, trigger);
}

void Connection::arm(const Budget& budget) {
  budget_ = budget;
  stop_ = Stop::None;
  steps_ = 0;
  armed_ = true;
  sqlite3_progress_handler(db_, kBudgetGrain, &Connection::on_progress, this);
}

void Connection::disarm() {
  if (!std::exchange(armed_, false)) return;
  sqlite3_progress_handler(db_, 0, nullptr, nullptr);
}

int Connection::on_progress(void* self) {
  auto& connection = *static_cast<Connection*>(self);
  const Budget& budget = connection.budget_;
  connection.steps_ += kBudgetGrain;
  if (connection.steps_ > budget.max_steps) connection.stop_ = Stop::Steps;
  else if (budget.cancellation != nullptr && budget.cancellation->canceled()) connection.stop_ = Stop::Canceled;
  else if (budget.deadline != SteadyTime::max() && connection.clock_ != nullptr && connection.clock_->now() >= budget.deadline) connection.stop_ = Stop::Deadline;
  return connection.stop_ == Stop::None ? 0 : 1;
}

}  // namespace rq::sql
