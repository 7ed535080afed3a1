// A group of requests comes to the same as its requests one by one, and both to what plain SQLite does.
#include <gtest/gtest.h>

#include "executor/test_rig.h"
#include "executor/test_workload.h"

namespace rq::executor {
namespace {

// Requests as SQLite itself carries them out: autocommit, real transactions. An independent reading of the spec.
class PlainSqlite {
 public:
  PlainSqlite() { sqlite3_open(":memory:", &db_); }
  ~PlainSqlite() { sqlite3_close(db_); }
  sqlite3* db() { return db_; }

  // The top-level error.
  std::string run(const pb::Request& request) {
    const bool whole = request.transaction();
    if (whole) sqlite3_exec(db_, "BEGIN", nullptr, nullptr, nullptr);
    whole_ = whole;
    bool failed = false;
    for (int i = 0; i < request.statements_size() && !(whole && failed); ++i) {
      const bool late = request.timed_out_unit() != 0 && i + 1 >= static_cast<int>(request.timed_out_unit());
      std::string sql = request.statements(i).sql();
      sql = sql.substr(0, sql.find("--"));   // the workload's comments are the last there is
      const bool reads = request.kind() == pb::Request::REQUEST && only_selects(sql);
      failed = late || !text(reads && sql.rfind(';') != std::string::npos ? last_of(sql) : sql);
    }
    if (whole && failed) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    if (whole && !failed && sqlite3_exec(db_, "COMMIT", nullptr, nullptr, nullptr) != SQLITE_OK) {
      const std::string error = sqlite3_errmsg(db_);
      sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
      return error;
    }
    if (sqlite3_get_autocommit(db_)) return "";
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    return request.timed_out_unit() != 0 ? "" : "transaction left open by the request was rolled back";
  }

 private:
  // Of a text that only reads the last statement is run. (The workload's SELECTs hold no semicolon.)
  static bool only_selects(const std::string& sql) {
    for (std::size_t at = 0; at < sql.size();) {
      const std::size_t end = std::min(sql.find(';', at), sql.size());
      const std::string part = sql.substr(at, end - at);
      const std::size_t begin = part.find_first_not_of(" ");
      if (begin != std::string::npos && part.compare(begin, 6, "SELECT") != 0) return false;
      at = end + 1;
    }
    return true;
  }
  static std::string last_of(const std::string& sql) {
    std::string last = sql;
    for (std::size_t at = 0; at < sql.size();) {
      const std::size_t end = std::min(sql.find(';', at), sql.size());
      if (sql.compare(at, end - at, "") != 0 && sql.substr(at, end - at).find("SELECT") != std::string::npos) last = sql.substr(at, end - at);
      at = end + 1;
    }
    return last;
  }
  bool text(const std::string& sql) {
    for (const char* rest = sql.c_str(); *rest != '\0';) {
      sqlite3_stmt* statement = nullptr;
      const char* tail = nullptr;
      if (sqlite3_prepare_v2(db_, rest, -1, &statement, &tail) != SQLITE_OK) return false;
      const std::string part(rest, tail);
      rest = tail;
      if (!statement) continue;
      const bool ends_whole = whole_ && (part.find("COMMIT") != std::string::npos || part.find("END") != std::string::npos ||
                                         (part.find("ROLLBACK") != std::string::npos && part.find("ROLLBACK TO") == std::string::npos &&
                                          part.find("OR ROLLBACK") == std::string::npos));
      int rc = SQLITE_ERROR;
      if (!ends_whole) {
        do {
          rc = sqlite3_step(statement);
        } while (rc == SQLITE_ROW && !sqlite3_stmt_readonly(statement));
      }
      sqlite3_finalize(statement);
      if (rc != SQLITE_DONE && rc != SQLITE_ROW) return false;
      if (whole_ && sqlite3_get_autocommit(db_)) return false;
    }
    return true;
  }

  sqlite3* db_ = nullptr;
  bool whole_ = false;
};

std::string say(const std::vector<pb::Request>& requests) {
  std::string out;
  for (const auto& request : requests) {
    out += request.transaction() ? "transaction: " : "request: ";
    for (const auto& statement : request.statements()) out += "[" + statement.sql() + "] ";
    out += "timed out " + std::to_string(request.timed_out_unit()) + "\n";
  }
  return out;
}

constexpr const char* kCounters = "SELECT last_insert_rowid(), changes(), total_changes()";

TEST(Group, ComesToTheSameAsItsRequestsOneByOne) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    test::Workload workload(seed);
    test::Rig together;
    test::Rig apart;
    PlainSqlite plain;
    together.open();
    apart.open();
    const auto schema = test::execute(test::kSchema);
    together.apply({schema});
    apart.apply({schema});
    plain.run(schema);
    for (int round = 0; round < 30; ++round) {
      std::vector<pb::Request> requests;
      for (std::uint64_t n = 1 + workload.below(8); n > 0; --n) requests.push_back(workload.request());
      const auto outcomes = together.apply(requests);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const auto alone = apart.apply({requests[i]})[0];
        EXPECT_EQ(outcomes[i].results, alone.results) << say(requests);
        EXPECT_EQ(outcomes[i].error, alone.error) << say(requests);
        EXPECT_EQ(plain.run(requests[i]), alone.error) << say({requests[i]});
      }
      ASSERT_EQ(together.dump(), apart.dump()) << say(requests);
      ASSERT_EQ(apart.dump(), test::Rig::dump(plain.db())) << say(requests);
      const auto counters = test::query({kCounters, "PRAGMA foreign_keys"});
      const std::string mine = together.run(counters);
      ASSERT_EQ(mine, apart.run(counters)) << say(requests);
      std::string numbers = test::Rig::rows(plain.db(), kCounters);
      numbers.pop_back();
      ASSERT_NE(mine.find("[[" + numbers + "]]"), std::string::npos) << mine << " " << numbers << "\n" << say(requests);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace rq::executor
