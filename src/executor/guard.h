// The writer's authorizer: what statements may do, and what is to be known of them before they run.
//
// Refused: ATTACH and DETACH (`not authorized`), temporary objects, raw pages (sqlite_dbpage), PRAGMAs by the table in
// settings.h. Recognised and marked, never executed as such: transaction control, PRAGMAs that set something.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "sql/connection.h"

namespace rq::executor {

class Guard final : public sql::Authorizer {
 public:
  enum Mark : std::uint32_t {
    kControl = 1,      // BEGIN, COMMIT, ROLLBACK, SAVEPOINT, RELEASE: see control()
    kSetting = 2,      // a PRAGMA that sets something, or optimize: see pragma()
    kPragma = 4,
    kStatistics = 8,   // writes tables of ANALYZE: what the planner has in memory is no longer what a restart would load
  };
  struct Control {
    enum class Verb : std::uint8_t { Begin, Commit, Rollback, Savepoint, Release, RollbackTo } verb = Verb::Begin;
    std::string name;
  };
  struct Pragma {
    std::string name, value;
  };

  int authorize(sql::Connection& connection, int action, const char* first, const char* second, const char* schema,
                const char* trigger) override;

  // Of the statement compiled last, when it has the mark.
  const Control& control() const { return control_; }
  const Pragma& pragma() const { return pragma_; }

  // Whether a statement with kStatistics was compiled since the last call, be it by SQLite itself in the midst of a step.
  bool take_statistics() { return std::exchange(statistics_, false); }

  // What runs inside of a statement (virtual tables compile SQL of their own) must not see what differs between nodes.
  class Inside {
   public:
    explicit Inside(Guard& guard) : guard_(guard) { guard_.inside_ = true; }
    ~Inside() { guard_.inside_ = false; }
    Inside(const Inside&) = delete;

   private:
    Guard& guard_;
  };
  // VACUUM attaches a nameless database of its own.
  class Vacuuming {
   public:
    explicit Vacuuming(Guard& guard) : guard_(guard) { guard_.vacuuming_ = true; }
    ~Vacuuming() { guard_.vacuuming_ = false; }
    Vacuuming(const Vacuuming&) = delete;

   private:
    Guard& guard_;
  };
  // A dump is loaded: it may write the schema table, as the dumps of virtual tables do.
  class Loading {
   public:
    explicit Loading(Guard& guard) : guard_(guard) { guard_.loading_ = true; }
    ~Loading() { guard_.loading_ = false; }
    Loading(const Loading&) = delete;

   private:
    Guard& guard_;
  };
  // SQL of our own is not asked.
  class Trusted {
   public:
    explicit Trusted(Guard& guard) : guard_(guard), before_(guard.trusted_) { guard_.trusted_ = true; }
    ~Trusted() { guard_.trusted_ = before_; }
    Trusted(const Trusted&) = delete;

   private:
    Guard& guard_;
    const bool before_;
  };

 private:
  int pragma(sql::Connection& connection, const char* name, const char* value, const char* schema);
  int transaction(sql::Connection& connection, std::string_view operation);
  int savepoint(sql::Connection& connection, std::string_view operation, const char* name);

  bool inside_ = false;
  bool trusted_ = false;
  bool vacuuming_ = false;
  bool loading_ = false;
  bool statistics_ = false;
  Control control_;
  Pragma pragma_;
};

}  // namespace rq::executor
