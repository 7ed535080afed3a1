#include "executor/writer.h"

#include <engine.h>

#include <cstring>
#include <ctime>
#include <mutex>

#include "base/assert.h"
#include "base/log.h"
#include "executor/settings.h"

namespace rq::executor {
namespace {

constexpr std::int64_t kWalBytesKept = 16 << 20;
constexpr std::chrono::milliseconds kForeignPatience{5000};   // with a reader of another program that builds the WAL's index

Result<> take_locks(ledger::ShimVfs& shim) {
  constexpr int kPauseMs = 2;
  for (std::int64_t waited = 0;; waited += kPauseMs) {
    Result<> held = shim.hold_locks();
    if (held || held.error().code != Errc::Busy || waited >= kForeignPatience.count()) return held;
    sqlite3_sleep(kPauseMs);
  }
}

constexpr std::int64_t kRandomBlobMax = sql::kLengthMax;

// SQLite's 'localtime' and 'utc' modifiers: the process has no time zone but UTC, whatever TZ says.
int utc_time(const void* time, void* out) {
  return gmtime_r(static_cast<const std::time_t*>(time), static_cast<std::tm*>(out)) ? 0 : 1;
}

void use_utc_everywhere() {
  static std::once_flag once;
  std::call_once(once, [] { sqlite3_test_control(SQLITE_TESTCTRL_LOCALTIME_FAULT, 2, utc_time); });
}

}  // namespace

Result<std::unique_ptr<Writer>> Writer::open(const WriterOptions& options, ledger::ShimVfs& shim,
                                             const ledger::Registers& registers) {
  use_utc_everywhere();
  std::unique_ptr<Writer> writer(new Writer(shim));
  sql::OpenOptions open;
  open.path = options.path;
  open.vfs = shim.name();
  open.clock = options.clock;
  open.cache_kib = options.cache_kib;
  open.statements_cached = options.statements_cached;
  open.busy_timeout_ms = static_cast<int>(kForeignPatience.count());
  open.lookaside_slots = 500;
  RQ_TRY(writer->connection_, sql::Connection::open(open));
  RQ_CHECK(writer->configure(options));
  RQ_CHECK(take_locks(shim));
  sqlite3_busy_timeout(writer->connection_->handle(), 0);
  writer->connection_->set_authorizer(&writer->guard_);
  writer->restore(registers);
  return writer;
}

Writer::~Writer() {
  if (connection_ && in_transaction()) rollback();
}

Result<> Writer::configure(const WriterOptions& options) {
  sqlite3* db = connection_->handle();
  int keep_wal = 1;
  sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep_wal);
  sqlite3_wal_autocheckpoint(db, 0);
  RQ_CHECK(connection_->run("PRAGMA synchronous=OFF"));
  // What one long reader made of the WAL is given back when it begins anew.
  RQ_CHECK(connection_->run(("PRAGMA journal_size_limit=" + std::to_string(kWalBytesKept)).c_str()));
  RQ_CHECK(connection_->run(("PRAGMA cache_spill=" + std::to_string(options.spill_pages)).c_str()));
  // The first read attaches the WAL and builds its index.
  RQ_TRY(const std::int64_t objects, connection_->number("SELECT count(*) FROM sqlite_schema"));
  (void)objects;
  const int flags = SQLITE_UTF8 | SQLITE_INNOCUOUS;
  sqlite3_create_function_v2(db, "random", 0, flags, this, sql_random, nullptr, nullptr, nullptr);
  sqlite3_create_function_v2(db, "randomblob", 1, flags, this, sql_randomblob, nullptr, nullptr, nullptr);
  const Guard::Trusted trusted(guard_);
  RQ_TRY(begin_, prepare_control("BEGIN"));
  RQ_TRY(commit_, prepare_control("COMMIT"));
  RQ_TRY(rollback_, prepare_control("ROLLBACK"));
  return prepare_savepoint();
}

// --- transactions

Result<Writer::Control> Writer::prepare_control(const std::string& sql) {
  const Guard::Trusted trusted(guard_);
  sqlite3_stmt* statement = nullptr;
  const int rc = sqlite3_prepare_v3(connection_->handle(), sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (rc != SQLITE_OK) return fail(connection_->error(rc));
  return Control(statement);
}

Result<> Writer::prepare_savepoint() {
  const std::string name = "\"rq " + std::to_string(savepoints_.size()) + "\"";
  Savepoint savepoint;
  RQ_TRY(savepoint.open, prepare_control("SAVEPOINT " + name));
  RQ_TRY(savepoint.release, prepare_control("RELEASE " + name));
  RQ_TRY(savepoint.rollback_to, prepare_control("ROLLBACK TO " + name));
  savepoints_.push_back(std::move(savepoint));
  return {};
}

Result<> Writer::control(sqlite3_stmt* statement) {
  const Guard::Trusted trusted(guard_);
  const int rc = sqlite3_step(statement);
  if (rc == SQLITE_DONE) {
    sqlite3_reset(statement);
    return {};
  }
  Error error = connection_->error(rc);
  sqlite3_reset(statement);
  return fail(classify(rc, std::move(error)));
}

void Writer::rollback() {
  if (!in_transaction()) return;
  if (auto done = control(rollback_.get()); !done && in_transaction()) {
    // ROLLBACK reports errors of pages it could not read back, but the transaction ends in any case.
    log::error("executor", "rollback failed: " + done.error().text());
  }
  RQ_ASSERT(!in_transaction());
}

Result<> Writer::savepoint(std::size_t depth) {
  while (savepoints_.size() <= depth) RQ_CHECK(prepare_savepoint());
  return control(savepoints_[depth].open.get());
}
Result<> Writer::release(std::size_t depth) { return control(savepoints_[depth].release.get()); }
Result<> Writer::rollback_to(std::size_t depth) { return control(savepoints_[depth].rollback_to.get()); }

bool Writer::deferred_violation() const { return rq_foreign_keys_violated(connection_->handle()) != 0; }
void Writer::defer_foreign_keys() { rq_defer_foreign_keys(connection_->handle()); }
void Writer::end_deferral() { rq_end_deferral(connection_->handle()); }

Error Writer::classify(int code, Error error) {
  if (auto device = shim_.take_error()) return *device;
  const int primary = code & 0xff;
  // Full without a device that said so: max_page_count, or no rowid is left.
  if (primary == SQLITE_FULL) return {Errc::Sql, std::move(error.detail)};
  // Shadow tables of virtual tables that a client has tampered with: data, equal on all nodes.
  if (code == SQLITE_CORRUPT_VTAB) return {Errc::Sql, std::move(error.detail)};
  if (primary == SQLITE_BUSY || primary == SQLITE_PROTOCOL || primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY) {
    return {Errc::Io, std::move(error.detail)};
  }
  return error;
}

// --- registers

ledger::Registers Writer::registers() const {
  ledger::Registers registers = settings_;
  registers.last_insert_rowid = last_insert_rowid();
  registers.changes = changes();
  registers.total_changes = total_changes();
  return registers;
}

void Writer::restore(const ledger::Registers& registers) {
  apply_settings(registers);
  set_counters(registers.last_insert_rowid, registers.changes, registers.total_changes);
}

void Writer::set_counters(std::int64_t last_insert_rowid, std::int64_t changes, std::int64_t total_changes) {
  rq_set_counters(connection_->handle(), last_insert_rowid, changes, total_changes);
}

void Writer::take_setting(std::string_view name, std::string_view value) {
  ledger::Registers to = settings_;
  executor::take_setting(to, name, value);
  apply_settings(to);
}

void Writer::apply_settings(const ledger::Registers& to) {
  const Guard::Trusted trusted(guard_);
  const bool fks = executor::foreign_keys(to);
  if (fks != foreign_keys_) {
    // Not by PRAGMA, which does nothing within a transaction.
    sqlite3_db_config(connection_->handle(), SQLITE_DBCONFIG_ENABLE_FKEY, fks ? 1 : 0, nullptr);
    foreign_keys_ = fks;
  }
  for_each_difference(settings_, to, [this](const std::string& text) {
    auto done = connection_->run(text.c_str());
    RQ_ASSERT(done.has_value());  // flags of the connection: nothing that could fail
  });
  settings_ = to;
}

Result<> Writer::run_trusted(const char* sql) {
  const Guard::Trusted trusted(guard_);
  return connection_->run(sql);
}

Result<sql::Statement> Writer::prepare(std::string_view sql, sql::Connection::Reuse reuse) {
  if (const std::uint64_t stamp = rq_schema_stamp(connection_->handle()); stamp != schema_stamp_) {
    connection_->clear_cache();
    schema_stamp_ = stamp;
  }
  return connection_->prepare(sql, reuse);
}

void Writer::reload_schema() {
  if (auto done = run_trusted("PRAGMA writable_schema=RESET"); !done) {
    log::error("executor", "resetting the schema in memory failed: " + done.error().text());
  }
}

// --- what statements draw

void Writer::sql_random(sqlite3_context* context, int /*count*/, sqlite3_value** /*values*/) {
  auto* self = static_cast<Writer*>(sqlite3_user_data(context));
  std::int64_t number = 0;
  self->random_.draw(&number, sizeof number);
  sqlite3_result_int64(context, number & INT64_MAX);   // from 0 on, as the reference's writes have it
}

void Writer::sql_randomblob(sqlite3_context* context, int /*count*/, sqlite3_value** values) {
  auto* self = static_cast<Writer*>(sqlite3_user_data(context));
  std::int64_t bytes = sqlite3_value_int64(values[0]);
  if (bytes < 1) bytes = 1;
  if (bytes > kRandomBlobMax) return sqlite3_result_error_toobig(context);
  void* blob = sqlite3_malloc64(static_cast<sqlite3_uint64>(bytes));
  if (!blob) return sqlite3_result_error_nomem(context);
  self->random_.draw(blob, static_cast<std::size_t>(bytes));
  sqlite3_result_blob64(context, blob, static_cast<sqlite3_uint64>(bytes), sqlite3_free);
}

Writer::Draws::Draws(Writer& writer) { rq_set_rowid_draw(draw_rowid, &writer); }
Writer::Draws::~Draws() { rq_set_rowid_draw(nullptr, nullptr); }

void Writer::draw_rowid(void* self, int bytes, void* out) {
  static_cast<Writer*>(self)->random_.draw(out, static_cast<std::size_t>(bytes));
}

}  // namespace rq::executor
