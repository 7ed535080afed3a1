#include "sql/statement_facts.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace rq::sql {
namespace {

std::vector<std::string> texts(std::string_view sql) {
  std::vector<std::string> out;
  StatementScanner scanner(sql);
  for (StatementFacts facts; scanner.next(facts);) out.emplace_back(facts.text);
  return out;
}

TEST(StatementFacts, SplitsAsSqliteDoes) {
  EXPECT_EQ(texts("SELECT 1; SELECT ';' -- ;\n; SELECT [;]").size(), 3u);
  EXPECT_EQ(texts("CREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT 1; SELECT 2; END; SELECT 3").size(), 2u);
  EXPECT_EQ(texts("/* only */ -- comments").size(), 1u);
}

TEST(StatementFacts, SeesThroughCommentsAndLaterStatements) {
  EXPECT_EQ(examine("/* x */ BEGIN") & kTransactionControl, kTransactionControl);
  EXPECT_EQ(examine("SELECT 1; VACUUM") & kVacuum, kVacuum);
  EXPECT_EQ(examine("EXPLAIN COMMIT") & kTransactionControl, 0u);
  EXPECT_EQ(examine("INSERT INTO t VALUES('BEGIN')"), 0u);
}

TEST(StatementFacts, GuardsPragmasByMeaning) {
  for (const char* sql : {"PRAGMA journal_mode=off", "-- c\npragma main.synchronous = 1", "SELECT 1; PRAGMA query_only(1)", "PRAGMA main.wal_autocheckpoint=5",
                          "PRAGMA wal_checkpoint", "PRAGMA \"journal_mode\" = wal"})
    EXPECT_NE(examine(sql) & kPragmaDisallowed, 0u) << sql;
  for (const char* sql : {"PRAGMA journal_mode", "PRAGMA synchronous", "SELECT 'PRAGMA journal_mode=off'", "EXPLAIN PRAGMA journal_mode=off"})
    EXPECT_EQ(examine(sql) & kPragmaDisallowed, 0u) << sql;
  EXPECT_EQ(examine("PRAGMA foreign_keys=ON"), kPragmaSetting);
  EXPECT_EQ(examine("PRAGMA user_version=3"), kPragmaData);
  EXPECT_EQ(examine("PRAGMA table_info(t)"), kPragmaRead);
}

}  // namespace
}  // namespace rq::sql
