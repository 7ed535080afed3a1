// Invariants
//   1. Between two pieces the connection is in the entry's transaction; within it, savepoint 0 is open exactly while
//      transaction_ isn't None, and savepoint i + 1 exactly for each names_[i].
//   2. trail_ holds the pieces since savepoint 0 was opened (or the one piece that was lost), in order.
//   3. Whether anybody listens (render_) changes nothing but outcome_.
#include "executor/request_run.h"

#include <algorithm>

#include "base/assert.h"
#include "executor/settings.h"
#include "sql/statement_facts.h"

namespace rq::executor {
namespace {

constexpr std::string_view kQueryChanges = "attempt to change database via query operation";
constexpr std::string_view kForeignKeyFailed = "FOREIGN KEY constraint failed";
constexpr std::string_view kNested = "cannot start a transaction within a transaction";
constexpr std::size_t kNoMore = std::string_view::npos;
// What a restart would decide anew, and on all tables rather than on those that this connection has used.
constexpr const char* kOptimize = "PRAGMA optimize(0x10012)";

bool more_statements(std::string_view tail) {
  if (tail.empty()) return false;
  sql::StatementFacts facts;
  return sql::StatementScanner(tail).next(facts) && facts.verb != sql::Verb::Empty;
}

tl::unexpected<Error> sql_error(std::string_view text) { return fail(Errc::Sql, std::string(text)); }

bool gives_up(const Error& error) { return error.code == Errc::Canceled || Writer::of_device(error); }

bool same_text(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

RequestRun::RequestRun(EntryRun& entry, std::uint32_t proposal, const pb::Request& request, command::Outcome& outcome,
                       bool render)
    : entry_(entry), writer_(entry.writer), proposal_(proposal), request_(request), outcome_(outcome), render_(render),
      results_(outcome.results, request.render()) {}

Result<RequestRun::End> RequestRun::run() {
  const bool whole = request_.transaction() && !is_query();
  if (whole) {
    RQ_CHECK(writer_.savepoint(0));
    transaction_ = Transaction::Whole;
  }
  bool failed = false;
  for (int i = 0; i < request_.statements_size(); ++i) {
    number_ = static_cast<std::uint32_t>(i) + 1;
    const std::string& text = request_.statements(i).sql();
    if (text.empty()) continue;
    if (request_.timed_out_unit() != 0 && number_ >= request_.timed_out_unit()) {
      RQ_CHECK(timed_out_element(text));
      failed = true;
    } else {
      RQ_TRY(const Went went, run_text(text));
      if (went == Went::Lost) return End::Lost;
      failed = went == Went::Failed;
    }
    if (timed_out_ != 0 || (whole && failed)) break;
  }
  if (!entry_.dry) RQ_CHECK(finish(failed));
  return End::Done;
}

Result<> RequestRun::finish(bool failed) {
  if (transaction_ == Transaction::None) return {};
  const bool violated = transaction_ == Transaction::Whole && !failed && writer_.deferred_violation();
  const bool left_open = transaction_ == Transaction::User;
  if (failed || violated || left_open) RQ_CHECK(writer_.rollback_to(0));
  RQ_CHECK(writer_.release(0));
  writer_.end_deferral();
  if (violated) outcome_.error = kForeignKeyFailed;
  // A time limit cut off the COMMIT: each statement says so itself. On a query nothing is lost by it.
  // A load tells the error that made it stop.
  const bool told = request_.load() && failed;
  if (left_open && !is_query() && request_.timed_out_unit() == 0 && !told) outcome_.error = fixed_text(Errc::OpenTransaction);
  if (!outcome_.error.empty()) outcome_.results.clear();
  return {};
}

Result<> RequestRun::timed_out_element(const std::string& text) {
  bool read = is_query();
  if (request_.kind() == pb::Request::REQUEST) {
    auto prepared = prepare(text);
    if (!prepared && gives_up(prepared.error())) return fail(prepared.error());
    read = prepared && prepared->reads;
  }
  answer_error({Errc::Sql, read ? "query timeout" : "execute timeout"}, read);
  return {};
}

// --- one SQL string

Result<RequestRun::Went> RequestRun::run_text(const std::string& text) {
  piece_of_text_ = 0;
  if (!is_execute()) {
    RQ_TRY(const std::optional<Went> went, run_as_read(text));
    if (went) return *went;
  }
  return run_pieces(text);
}

// A text that only reads: all of it is compiled, its last statement is run. None: it isn't such a text.
Result<std::optional<RequestRun::Went>> RequestRun::run_as_read(const std::string& text) {
  if (!entry_.voids.empty() && entry_.voids.contains({proposal_, piece_})) return std::nullopt;
  const std::size_t begin = outcome_.results.size();
  sql::ParameterFeed feed(request_.statements(static_cast<int>(number_) - 1).parameters(), sql::Missing::Error);
  if (render_) watch_ = sql::Stopwatch::started(entry_.clock, request_.render());
  Result<> done = feed.check_names();
  std::vector<sql::Statement> earlier;
  Piece piece;
  bool running = false;
  for (std::string_view rest = text; done; rest = earlier.back().tail()) {
    auto prepared = prepare(rest);
    if (!prepared) {
      done = fail(prepared.error());
      break;
    }
    piece = std::move(*prepared);
    if (piece.statement.empty()) break;
    const bool acts = (piece.marks & (Guard::kControl | Guard::kSetting)) != 0 && !piece.statement.explain();
    if (acts || !piece.reads) return std::nullopt;
    running = true;
    done = feed.bind(piece.statement);
    if (piece.last) break;
    earlier.push_back(std::move(piece.statement));
  }
  answered_ = false;
  if (done && !piece.statement.empty()) {
    writer_.random().begin(proposal_, number_, piece_of_text_);
    done = step(piece);
  }
  if (!done && gives_up(done.error())) return fail(done.error());
  if (!done) {
    answer_error(done.error(), running);
  } else if (render_ && !answered_) {
    results_.nothing(watch_);
  }
  leave_trail(piece_++, begin, kNoMore, !done, true);
  return done ? Went::Well : Went::Failed;
}

Result<RequestRun::Went> RequestRun::run_pieces(const std::string& text) {
  const auto& parameters = request_.statements(static_cast<int>(number_) - 1).parameters();
  sql::ParameterFeed feed(parameters, is_query() ? sql::Missing::Error : sql::Missing::Null);
  for (std::size_t next = 0;;) {
    if (!entry_.voids.empty()) {
      if (const auto at = entry_.voids.find({proposal_, piece_}); at != entry_.voids.end()) {
        ++piece_;
        const Went went = replay(at->second);
        if (at->second.last || went == Went::Failed) return went;
        next = at->second.next;
        continue;
      }
    }
    const std::string_view rest = std::string_view(text).substr(next);
    RQ_TRY(const Went went, run_piece(text, rest, feed, next));
    if (went != Went::Well || next == kNoMore) return went;
  }
}

// --- one statement

Result<RequestRun::Piece> RequestRun::prepare(std::string_view rest) {
  sql::Connection& connection = writer_.connection();
  auto statement = writer_.prepare(rest);
  constexpr std::uint32_t kActing = Guard::kControl | Guard::kSetting | Guard::kPragma;
  if (statement && (statement->marks() & kActing) != 0) {
    // Compiled now: the guard tells what it is, and SQLite doesn't compile it again in the midst of a step.
    statement = writer_.prepare(rest, sql::Connection::Reuse::Fresh);
  }
  if (!statement) return fail(writer_.classify(connection.last_code(), statement.error()));
  Piece piece{std::move(*statement)};
  if (piece.statement.empty()) {
    piece.reads = true;
    return piece;
  }
  piece.marks = piece.statement.marks();
  piece.reads = piece.statement.read_only() || piece.statement.explain();
  piece.last = !more_statements(piece.statement.tail());
  if ((piece.marks & Guard::kStatistics) != 0) entry_.statistics = true;
  return piece;
}

Result<RequestRun::Went> RequestRun::run_piece(const std::string& text, std::string_view rest, sql::ParameterFeed& feed,
                                               std::size_t& next) {
  if (render_) watch_ = sql::Stopwatch::started(entry_.clock, request_.render());
  const std::size_t begin = outcome_.results.size();
  const std::uint32_t number = piece_++;
  answered_ = false;
  next = kNoMore;
  bool running = false;
  Result<> done = piece_of_text_ == 0 ? feed.check_names() : Result<>();
  Piece piece;
  if (done) {
    auto prepared = prepare(rest);
    if (prepared) {
      piece = std::move(*prepared);
      running = true;
      if (!piece.last) next = static_cast<std::size_t>(piece.statement.tail().data() - text.data());
      if (!piece.statement.empty()) done = feed.bind(piece.statement);
      writer_.random().begin(proposal_, number_, piece_of_text_++);
      if (done && !piece.statement.empty()) done = execute(piece);
    } else {
      done = fail(prepared.error());
    }
  }
  if (!done && gives_up(done.error())) return fail(done.error());
  const bool last = piece.last || !done;
  if (!done) {
    outcome_.results.resize(begin);   // rows of a RETURNING that was undone
    answer_error(done.error(), running && piece.reads);
  } else if (last) {
    answer(piece);
  }
  if (timed_out_ != 0) return Went::Failed;
  const bool gone = !writer_.in_transaction();
  if (gone || transaction_ != Transaction::None) leave_trail(number, begin, next, !done, last);
  if (gone) {
    if (!entry_.dry) return lost();
    RQ_CHECK(writer_.begin());
    if (transaction_ == Transaction::User) transaction_ = Transaction::None;
    names_.clear();
  }
  return done ? Went::Well : Went::Failed;
}

Result<> RequestRun::execute(Piece& piece) {
  if (!piece.statement.explain()) {
    if ((piece.marks & Guard::kControl) != 0) return control(writer_.guard().control());
    if ((piece.marks & Guard::kSetting) != 0) return set(writer_.guard().pragma());
  }
  if (is_query() && !piece.reads) return sql_error(kQueryChanges);
  if (transaction_ == Transaction::None && !piece.reads && writer_.foreign_keys()) return execute_alone(piece);
  return step(piece);
}

// A statement with a commit of its own: deferred foreign keys are due at its end.
Result<> RequestRun::execute_alone(Piece& piece) {
  RQ_CHECK(writer_.savepoint(0));
  Result<> done = step(piece);
  if (!writer_.in_transaction()) return done;
  // Also behind an error: ON CONFLICT FAIL keeps what was done before it.
  if (writer_.deferred_violation()) {
    piece.statement.reset();
    RQ_CHECK(writer_.rollback_to(0));
    // As SQLite when its own commit fails: what the statement changed doesn't count, what its triggers did does.
    writer_.set_counters(writer_.last_insert_rowid(), 0, writer_.total_changes() - writer_.changes());
    done = sql_error(kForeignKeyFailed);
  }
  RQ_CHECK(writer_.release(0));
  writer_.end_deferral();
  return done;
}

Result<> RequestRun::step(Piece& piece) {
  sql::Connection& connection = writer_.connection();
  connection.arm({entry_.deadline, entry_.steps_max, entry_.cancellation});
  const Guard::Inside inside(writer_.guard());
  const bool returns = !piece.reads && (piece.marks & Guard::kPragma) == 0 &&
                       sqlite3_column_count(piece.statement.handle()) > 0;
  const bool shows = !is_execute() && piece.reads && (is_query() || piece_of_text_ == 0);
  Result<> done;
  if (render_ && piece.last && (returns || shows)) {
    done = step_rows(piece);
  } else {
    // Of a read whose rows nobody asked for the first is computed; followers compute what the leader computes.
    const bool once = piece.reads && !shows;
    int code = piece.statement.step();
    while (code == SQLITE_ROW && !once) code = piece.statement.step();
    if (code != SQLITE_DONE && code != SQLITE_ROW) done = judge(code);
    if (code == SQLITE_ROW) piece.statement.reset();
  }
  if (writer_.guard().take_statistics()) entry_.statistics = true;
  connection.disarm();
  return done;
}

Result<> RequestRun::step_rows(Piece& piece) {
  // Rows of RETURNING belong to no table that could be named (spec http-api section 4, qualify_columns).
  const std::uint32_t render = request_.render() & (piece.reads ? ~0u : ~static_cast<std::uint32_t>(command::kQualifyColumns));
  auto written = sql::ResultWriter(outcome_.results, render).rows(piece.statement, watch_);
  answered_ = written.has_value();
  if (written) return {};
  const Errc code = written.error().code;
  if (code != Errc::BadRequest && code != Errc::TooLarge) return judge(writer_.connection().last_code());
  // Only the answer failed: the statement runs to its end as it does where nobody listens.
  int rc = SQLITE_ROW;
  while (rc == SQLITE_ROW && sqlite3_stmt_busy(piece.statement.handle()) != 0) rc = piece.statement.step();
  if (rc != SQLITE_ROW && rc != SQLITE_DONE) return judge(rc);
  answer_error(written.error(), piece.reads);
  answered_ = true;
  return {};
}

// The Error of a failed step.
Result<> RequestRun::judge(int code) {
  sql::Connection& connection = writer_.connection();
  if ((code & 0xff) == SQLITE_INTERRUPT) {
    switch (connection.stopped()) {
      case sql::Stop::Deadline:
        timed_out_ = number_;
        return sql_error("timeout");
      case sql::Stop::Steps:
        return sql_error("statement stopped after " + std::to_string(entry_.steps_max) + " steps");
      case sql::Stop::Canceled:
      case sql::Stop::None:
        return fail(Errc::Canceled);
    }
  }
  return fail(writer_.classify(code, connection.error(code)));
}

// --- transactions of the user

Result<> RequestRun::control(const Guard::Control& control) {
  using Verb = Guard::Control::Verb;
  const bool none = transaction_ == Transaction::None;
  const bool whole = transaction_ == Transaction::Whole;
  switch (control.verb) {
    case Verb::Begin:
      return none ? begin_user_transaction() : sql_error(kNested);
    case Verb::Commit:
      if (none) return sql_error("cannot commit - no transaction is active");
      return whole ? sql_error("cannot commit - the request is one transaction") : end_user_transaction(true);
    case Verb::Rollback:
      if (none) return sql_error("cannot rollback - no transaction is active");
      return whole ? sql_error("cannot rollback - the request is one transaction") : end_user_transaction(false);
    case Verb::Savepoint:
      if (none) {
        RQ_CHECK(begin_user_transaction());
        by_savepoint_ = true;
      }
      RQ_CHECK(writer_.savepoint(names_.size() + 1));
      names_.push_back(control.name);
      return {};
    case Verb::Release:
      return to_savepoint(control.name, false);
    case Verb::RollbackTo:
      return to_savepoint(control.name, true);
  }
  return {};
}

Result<> RequestRun::begin_user_transaction() {
  RQ_CHECK(writer_.savepoint(0));
  transaction_ = Transaction::User;
  by_savepoint_ = false;
  return {};
}

Result<> RequestRun::end_user_transaction(bool keep) {
  if (keep && writer_.deferred_violation()) return sql_error(kForeignKeyFailed);  // and it stays open
  if (!keep) RQ_CHECK(writer_.rollback_to(0));
  RQ_CHECK(writer_.release(0));
  transaction_ = Transaction::None;
  names_.clear();
  trail_.clear();
  writer_.end_deferral();
  return {};
}

Result<> RequestRun::to_savepoint(const std::string& name, bool roll_back) {
  const auto at = std::find_if(names_.rbegin(), names_.rend(), [&](const std::string& n) { return same_text(n, name); });
  if (at == names_.rend()) return sql_error("no such savepoint: " + name);
  const auto place = static_cast<std::size_t>(names_.rend() - at) - 1;
  if (roll_back) {
    names_.resize(place + 1);
    return writer_.rollback_to(place + 1);
  }
  if (place == 0 && by_savepoint_) return end_user_transaction(true);
  names_.resize(place);
  return writer_.release(place + 1);
}

Result<> RequestRun::set(const Guard::Pragma& pragma) {
  if (is_query()) return sql_error(kQueryChanges);
  if (sql::same_name(pragma.name, "optimize")) {
    entry_.statistics = true;
    auto done = writer_.run_trusted(kOptimize);
    if (!done) return judge(writer_.connection().last_code());
    return {};
  }
  const bool within = transaction_ != Transaction::None;
  if (sql::same_name(pragma.name, "defer_foreign_keys")) {
    // Alone it would end with its own commit.
    if (within && pragma_truth(pragma.value)) writer_.defer_foreign_keys();
    if (within && !pragma_truth(pragma.value)) writer_.end_deferral();   // SQLite forgets violations, too
    return {};
  }
  if (entry_.dry || (within && sql::same_name(pragma.name, kForeignKeys))) return {};
  writer_.take_setting(pragma.name, pragma.value);
  return {};
}

// --- answers

void RequestRun::answer(const Piece& piece) {
  if (!render_ || answered_) return;
  const bool acts = (piece.marks & (Guard::kControl | Guard::kSetting)) != 0 && !piece.statement.empty();
  if (piece.statement.empty() || (acts && !is_execute())) {
    results_.nothing(watch_);
  } else {
    results_.changes(writer_.last_insert_rowid(), writer_.changes(), watch_);
  }
}

void RequestRun::answer_error(const Error& error, bool read) {
  if (!render_) return;
  const bool as_read = is_query() || (read && !is_execute());
  ++outcome_.failed;
  results_.error(error.text(), as_read ? sql::ResultWriter::Failed::Read : sql::ResultWriter::Failed::Other);
}

// --- pieces that SQLite undoes

Counters RequestRun::counters() const {
  return {writer_.last_insert_rowid(), writer_.changes(), writer_.total_changes()};
}

void RequestRun::leave_trail(std::uint32_t piece, std::size_t element_begin, std::size_t next, bool failed, bool last) {
  if (transaction_ == Transaction::None) trail_.clear();
  trail_.push_back({piece, element_begin, outcome_.results.size(), next, failed, last, counters()});
}

RequestRun::Went RequestRun::lost() {
  for (const Trail& piece : trail_) {
    Void& left = entry_.voids[{proposal_, piece.piece}];
    left.element = element(piece.element_begin, piece.element_end);
    left.failed = piece.failed;
    left.last = piece.last;
    left.next = piece.next;
    left.after = piece.after;
  }
  return Went::Lost;
}

std::string_view RequestRun::element(std::size_t begin, std::size_t end) const {
  std::string_view text = std::string_view(outcome_.results).substr(begin, end - begin);
  if (text.starts_with(',')) text.remove_prefix(1);
  return text;
}

RequestRun::Went RequestRun::replay(const Void& piece) {
  if (render_ && !piece.element.empty()) {
    if (!outcome_.results.empty()) outcome_.results += ',';
    outcome_.results += piece.element;
  }
  writer_.set_counters(piece.after.last_insert_rowid, piece.after.changes, piece.after.total_changes);
  return piece.failed ? Went::Failed : Went::Well;
}

}  // namespace rq::executor
