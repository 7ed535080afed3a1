// Runs one request of an entry within the entry's transaction.
//
// What a request's statements would do alone, one after the other, each with a commit of its own (or, with
// `transaction` or a BEGIN of the user, together), is done here with savepoints, or without any where the statement's
// own atomicity is enough. Other requests of the entry feel nothing of it, except when SQLite rolls the whole
// transaction back (ON CONFLICT ROLLBACK, RAISE(ROLLBACK), a stopped write): then the pieces that are undone by it are
// remembered as void, with what they answered, and the entry is run again from its beginning; void pieces are passed
// over and answer what they answered. A piece is one statement of one SQL string.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "command/outcome.h"
#include "executor/writer.h"
#include "sql/connection.h"
#include "sql/parameters.h"
#include "sql/result_writer.h"

namespace rq::executor {

struct Counters {
  std::int64_t last_insert_rowid = 0, changes = 0, total_changes = 0;
};

// A piece without effect, and what it answered.
struct Void {
  std::string element;            // empty: none
  bool failed = false;
  bool last = false;              // of its SQL string
  std::size_t next = 0;           // where the next piece of its string begins
  Counters after;
};
using Voids = std::map<std::pair<std::uint32_t, std::uint32_t>, Void>;  // (proposal, piece)

// What all requests of one entry share.
struct EntryRun {
  Writer& writer;
  const Clock& clock;
  std::uint64_t steps_max;
  const sql::Cancellation* cancellation;
  SteadyTime deadline = SteadyTime::max();   // only of a dry run
  bool dry = false;
  Voids voids;
  bool statistics = false;        // tables of ANALYZE were touched
};

class RequestRun {
 public:
  enum class End : std::uint8_t { Done, Lost };   // Lost: run the entry again

  // `render`: fill in outcome.results; without it statements do the same, but nobody listens.
  RequestRun(EntryRun& entry, std::uint32_t proposal, const pb::Request& request, command::Outcome& outcome, bool render);
  // Errors are the device's (Writer::of_device) or Errc::Canceled: the entry is to be given up.
  Result<End> run();
  // Of a dry run: number of the statement that ran out of time.
  std::uint32_t timed_out() const { return timed_out_; }

 private:
  enum class Transaction : std::uint8_t { None, Whole, User };
  enum class Went : std::uint8_t { Well, Failed, Lost };
  struct Trail {                  // a piece within a transaction that might still be rolled back
    std::uint32_t piece;
    std::size_t element_begin, element_end, next;
    bool failed, last;
    Counters after;
  };
  struct Piece {
    sql::Statement statement;
    std::uint32_t marks = 0;
    bool reads = false;           // doesn't write the database (EXPLAIN of anything included)
    bool last = true;
  };

  Result<Went> run_text(const std::string& text);
  Result<std::optional<Went>> run_as_read(const std::string& text);
  Result<Went> run_pieces(const std::string& text);
  Result<Went> run_piece(const std::string& text, std::string_view rest, sql::ParameterFeed& feed, std::size_t& next);
  Result<Piece> prepare(std::string_view rest);
  Result<> execute(Piece& piece);
  Result<> execute_alone(Piece& piece);
  Result<> step(Piece& piece);
  Result<> step_rows(Piece& piece);
  Result<> control(const Guard::Control& control);
  Result<> to_savepoint(const std::string& name, bool roll_back);
  Result<> set(const Guard::Pragma& pragma);
  Result<> begin_user_transaction();
  Result<> end_user_transaction(bool keep);
  Result<> finish(bool failed);
  Result<> timed_out_element(const std::string& text);
  void answer(const Piece& piece);
  void answer_error(const Error& error, bool read);
  Went replay(const Void& piece);
  Went lost();
  void leave_trail(std::uint32_t piece, std::size_t element_begin, std::size_t next, bool failed, bool last);
  Result<> judge(int code);
  Counters counters() const;
  std::string_view element(std::size_t begin, std::size_t end) const;
  bool is_query() const { return request_.kind() == pb::Request::QUERY; }
  bool is_execute() const { return request_.kind() == pb::Request::EXECUTE; }

  EntryRun& entry_;
  Writer& writer_;
  const std::uint32_t proposal_;
  const pb::Request& request_;
  command::Outcome& outcome_;
  const bool render_;
  sql::ResultWriter results_;
  Transaction transaction_ = Transaction::None;
  bool by_savepoint_ = false;                 // the user's transaction was opened by SAVEPOINT: its RELEASE commits
  std::vector<std::string> names_;            // of the user's savepoints; names_[i] is at depth i + 1
  std::vector<Trail> trail_;
  std::uint32_t number_ = 0;                  // of the statement, from 1
  std::uint32_t piece_ = 0;                   // of the request, from 0
  std::uint32_t piece_of_text_ = 0;
  std::uint32_t timed_out_ = 0;
  bool answered_ = false;                     // step_rows() has appended the element
  sql::Stopwatch watch_;
};

}  // namespace rq::executor
