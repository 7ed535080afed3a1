#include "sql/reader.h"

#include <algorithm>
#include <vector>

#include "sql/parameters.h"
#include "sql/result_writer.h"
#include "sql/statement_facts.h"

namespace rq::sql {
namespace {

constexpr std::size_t kRememberedMax = 1024;
constexpr std::size_t kRememberedBytes = 4096;   // longer texts are not remembered
constexpr std::string_view kWriteRefused = "attempt to change database via query operation";
// PRAGMAs that reach beyond this connection and its request when they set something: files, locks, the whole process, the
// protection of the schema, memory without bound.
constexpr std::string_view kRefusedSettings[] = {
    "cache_size", "cache_spill", "data_store_directory", "default_cache_size", "hard_heap_limit", "journal_mode", "journal_size_limit", "locking_mode",
    "mmap_size", "query_only", "soft_heap_limit", "synchronous", "temp_store", "temp_store_directory", "wal_autocheckpoint", "writable_schema"};
constexpr std::uint32_t kMarkEffect = 1;         // transaction control or a PRAGMA with a value
constexpr std::uint32_t kMarkSetting = 2;        // a PRAGMA that changes this connection

bool is_refused(const char* name, const char* value) {
  if (name == nullptr) return false;
  if (same_name(name, "wal_checkpoint")) return true;
  return value != nullptr && std::ranges::any_of(kRefusedSettings, [&](std::string_view refused) { return same_name(name, refused); });
}

}  // namespace

Result<std::unique_ptr<Reader>> Reader::open(const ReaderOptions& options) {
  std::unique_ptr<Reader> reader(new Reader(options));
  RQ_TRY(reader->connection_, reader->connect());
  return reader;
}

Result<std::unique_ptr<Connection>> Reader::connect() {
  RQ_TRY(auto connection, Connection::open({.path = options_.path, .vfs = options_.vfs, .read_only = true, .clock = options_.clock,
                                            .cache_kib = options_.cache_kib, .mmap_bytes = options_.mmap_bytes,
                                            .busy_timeout_ms = options_.busy_timeout_ms, .lookaside_slots = 64,
                                            .statements_cached = options_.statements_cached, .statement_bytes_cached = 1u << 20,
                                            .foreign_keys = options_.foreign_keys}));
  RQ_CHECK(connection->run("PRAGMA query_only=1"));
  connection->set_authorizer(this);
  return connection;
}

int Reader::authorize(Connection& connection, int action, const char* first, const char* second, const char*, const char*) {
  switch (action) {
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
      return SQLITE_DENY;
    case SQLITE_CREATE_TEMP_INDEX:
    case SQLITE_CREATE_TEMP_TABLE:
    case SQLITE_CREATE_TEMP_TRIGGER:
    case SQLITE_CREATE_TEMP_VIEW:
      connection.refuse(kWriteRefused);
      return SQLITE_DENY;
    case SQLITE_FUNCTION:
      return second != nullptr && same_name(second, "load_extension") ? SQLITE_DENY : SQLITE_OK;
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
      connection.mark(kMarkEffect);
      return SQLITE_OK;
    case SQLITE_READ:                            // raw pages show what was deleted
      return first != nullptr && same_name(first, "sqlite_dbpage") ? SQLITE_DENY : SQLITE_OK;
    case SQLITE_PRAGMA:
      if (is_refused(first, second)) return SQLITE_DENY;
      if (first != nullptr && pragma_fact(first, second == nullptr ? PragmaForm::Read : PragmaForm::Assign) == kPragmaSetting) connection.mark(kMarkEffect | kMarkSetting);
      return SQLITE_OK;
    default:
      return SQLITE_OK;
  }
}

void Reader::reset() {
  if (connection_->in_transaction()) (void)connection_->run("ROLLBACK");
  if (!std::exchange(tainted_, false)) return;
  // A setting must not outlive its request: a fresh connection has none.
  if (auto fresh = connect(); fresh) connection_ = *std::move(fresh);
}

Result<> Reader::begin_snapshot() {
  RQ_CHECK(connection_->run("BEGIN"));
  // BEGIN alone takes no snapshot: reading the schema does.
  if (const auto touched = connection_->number("SELECT count(*) FROM sqlite_schema WHERE 0"); !touched) {
    reset();
    return fail(touched.error());
  }
  return {};
}

void Reader::end_snapshot() { reset(); }

bool Reader::known_long(const pb::Request& request) const {
  if (long_texts_.empty()) return false;
  for (const pb::Statement& statement : request.statements())
    if (long_texts_.contains(statement.sql())) return true;
  return false;
}

Reader::Ran Reader::run(const pb::Request& request, command::Outcome& outcome, const RunOptions& options) {
  Budget budget{.max_steps = options.max_steps, .cancellation = options.cancellation};
  if (request.db_timeout_ns() > 0) {
    const SteadyTime now = clock_.now();
    budget.deadline = now + std::chrono::nanoseconds(request.db_timeout_ns());
    if (request.db_timeout_ns() < 1000) {
      outcome.error = Error{Errc::DeadlineExceeded, {}}.text();
      return Ran::Done;
    }
  }
  connection_->arm(budget);
  Ran ran = Ran::Done;
  const bool transaction = request.transaction() && !options.keep_transaction;
  if (transaction) (void)connection_->run("BEGIN");
  ResultWriter writer(outcome.results, request.render());
  bool timed_out = false;
  for (const pb::Statement& statement : request.statements()) {
    if (timed_out || clock_passed(budget)) {
      timed_out = true;
      ++outcome.failed;
      writer.error("query timeout", ResultWriter::Failed::Read);
      continue;
    }
    const Result<> done = run_string(statement, request.render(), outcome);
    if (done) continue;
    const Stop why = connection_->stopped();
    if (why == Stop::Steps) {
      if (long_texts_.size() >= kRememberedMax) long_texts_.clear();
      if (statement.sql().size() <= kRememberedBytes) long_texts_.insert(statement.sql());
      ran = Ran::Exceeded;
      outcome.results.clear();
      break;
    }
    if (why == Stop::Deadline) {
      timed_out = true;
      ++outcome.failed;
      writer.error("query timeout", ResultWriter::Failed::Read);
      continue;
    }
    if (done.error().code == Errc::Corrupt && options_.on_damage) options_.on_damage();
    // A statement that doesn't compile on /db/request has no rows to show; on /db/query and at run time it has none either.
    const bool compiled = compiled_;
    const bool as_read = request.kind() == pb::Request::QUERY || compiled;
    ++outcome.failed;
    writer.error(done.error().detail, as_read ? ResultWriter::Failed::Read : ResultWriter::Failed::Other);
  }
  connection_->disarm();
  if (!options.keep_transaction) reset();
  return ran;
}

bool Reader::clock_passed(const Budget& budget) const { return budget.deadline != SteadyTime::max() && clock_.now() >= budget.deadline; }

// All statements of the string are compiled, the last one is stepped and shown.
Result<> Reader::run_string(const pb::Statement& statement, std::uint32_t render, command::Outcome& outcome) {
  const Stopwatch watch = Stopwatch::started(clock_, render);
  ResultWriter writer(outcome.results, render);
  ParameterFeed feed(statement.parameters(), Missing::Error);
  compiled_ = false;
  RQ_CHECK(feed.check_names());
  std::string_view rest = statement.sql();
  Statement last;
  while (!rest.empty()) {
    RQ_TRY(Statement next, connection_->prepare(rest));
    rest = next.tail();
    if (next.empty()) continue;
    RQ_CHECK(feed.bind(next));
    tainted_ |= (next.marks() & kMarkSetting) != 0;
    last = std::move(next);
  }
  compiled_ = true;
  if (last.empty()) {
    writer.nothing(watch);
    return {};
  }
  const Result<> done = writer.rows(last, watch);
  const int code = connection_->last_code() & 0xff;
  // VACUUM is refused by the authorizer, when it attaches its scratch file.
  if (!done && (code == SQLITE_READONLY || code == SQLITE_AUTH)) return fail(Errc::Sql, std::string(kWriteRefused));
  return done;
}

// ---- what /db/request may run here

Access Reader::classify(std::string_view sql) {
  std::string_view rest = sql;
  while (!rest.empty()) {
    const Result<Statement> next = connection_->prepare(rest);
    if (!next) return Access::Writes;              // also what doesn't compile: the log decides
    rest = next->tail();
    if (next->empty()) continue;
    if (next->explain()) continue;
    if (!next->read_only() || (next->marks() & kMarkEffect) != 0) return Access::Writes;
  }
  return Access::Reads;
}

Access Reader::classify(const pb::Request& request) {
  for (const pb::Statement& statement : request.statements())
    if (classify(statement.sql()) == Access::Writes) return Access::Writes;
  return Access::Reads;
}

}  // namespace rq::sql
