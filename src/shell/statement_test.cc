#include "shell/statement.h"

#include <gtest/gtest.h>

namespace rq::shell {
namespace {

using Parts = std::vector<std::string>;

TEST(ShellStatement, KnowsWhatIsMissing) {
  for (const char* text : {"SELECT", "SELECT *", "SELECT 'a", "SELECT (1", "INSERT INTO t", "INSERT INTO t(a)", "UPDATE t", "CREATE TABLE t(", "WITH a AS (SELECT 1)",
                           "SELECT * FROM t WHERE", "DELETE FROM", "SELECT 1 /* open", "SELECT 1; SELECT", "CREATE TABLE a AS", "SELECT 1 UNION",
                           "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1;", "CREATE TRIGGER a AFTER INSERT ON t", "SELECT CASE WHEN 1 THEN 2"})
    EXPECT_TRUE(is_incomplete(text)) << text;
  for (const char* text : {"SELECT 1", "SELECT 1;", "SELECT * FROM t", "SELEC 1", "DELETE FROM t", ".nosuch", "-- hello", "", "INSERT INTO t VALUES(1)", "BEGIN",
                           "SELECT ';'", "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; END", "SELECT 1 -- 'open", "VACUUM", "SELECT \"a;b\""})
    EXPECT_FALSE(is_incomplete(text)) << text;
}

TEST(ShellStatement, CutsAtSemicolonsOutsideOfQuotesCommentsAndTriggers) {
  EXPECT_EQ(split_statements("SELECT 1; SELECT ';' ;\n-- c;\nSELECT 2"), (Parts{"SELECT 1;", "SELECT ';' ;", "-- c;\nSELECT 2"}));
  EXPECT_EQ(split_statements("CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; SELECT CASE WHEN 1 THEN 2 END; END; SELECT 3"),
            (Parts{"CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; SELECT CASE WHEN 1 THEN 2 END; END;", "SELECT 3"}));
  EXPECT_EQ(split_statements(" ;; \n -- nothing\n"), Parts{});
}

TEST(ShellStatement, KnowsWhatOnlyReads) {
  for (const char* text : {"SELECT 1", " -- a comment\n select 1;", "VALUES(1)", "EXPLAIN DELETE FROM t"}) EXPECT_TRUE(only_reads(text)) << text;
  for (const char* text : {"", ";", "-- SELECT 1", "WITH a AS (SELECT 1) DELETE FROM t", "SELECT 1; DELETE FROM t", "\"SELECT\"", "PRAGMA user_version=1",
                           "BEGIN; SELECT 1; COMMIT"})
    EXPECT_FALSE(only_reads(text)) << text;
}

TEST(ShellStatement, KeepsATransactionTogether) {
  EXPECT_EQ(split_statements("BEGIN; INSERT INTO t VALUES(1); COMMIT; SELECT 1;"), (Parts{"BEGIN; INSERT INTO t VALUES(1); COMMIT;", "SELECT 1;"}));
}

Parts collect(std::vector<std::string> lines) {
  LineCollector collector;
  Parts parts;
  for (std::size_t i = 0; i < lines.size(); ++i)
    if (collector.add(lines[i], i + 1 < lines.size() ? &lines[i + 1] : nullptr)) parts.push_back(collector.take());
  if (!collector.empty()) parts.push_back(collector.take());
  return parts;
}

TEST(ShellLines, EndAtASemicolonOrWhereTheNextLineBeginsAStatement) {
  EXPECT_EQ(collect({"SELECT *", "FROM foo;", "SELECT 1", "SELECT 2"}), (Parts{"SELECT *\nFROM foo;", "SELECT 1", "SELECT 2"}));
  EXPECT_EQ(collect({"SELEC 1", "SELECT 2", ".tables"}), (Parts{"SELEC 1", "SELECT 2", ".tables"}));
  EXPECT_EQ(collect({"INSERT INTO t", "SELECT 1", "UNION SELECT 2;"}), (Parts{"INSERT INTO t\nSELECT 1\nUNION SELECT 2;"}));
}

TEST(ShellLines, NeverRunADeleteWithoutTheWhereOfTheNextLine) {
  EXPECT_EQ(collect({"DELETE FROM t", "WHERE id = 1", "SELECT 1"}), (Parts{"DELETE FROM t\nWHERE id = 1", "SELECT 1"}));
}

TEST(ShellLines, SkipBlanksAndCommentsBetweenStatements) {
  EXPECT_EQ(collect({"", "-- a comment", "  SELECT 1  ", "", "SELECT 2;", "/* two", "lines */", "SELECT 3"}),
            (Parts{"SELECT 1", "SELECT 2;", "SELECT 3"}));
}

TEST(ShellLines, KeepLineFeedsWithinTextsAndTriggers) {
  EXPECT_EQ(collect({"INSERT INTO t VALUES('a;", "", "SELECT b');", "SELECT 1"}), (Parts{"INSERT INTO t VALUES('a;\n\nSELECT b');", "SELECT 1"}));
  EXPECT_EQ(collect({"CREATE TRIGGER a AFTER INSERT ON t BEGIN", "DELETE FROM u;", "END;", "SELECT 1"}),
            (Parts{"CREATE TRIGGER a AFTER INSERT ON t BEGIN\nDELETE FROM u;\nEND;", "SELECT 1"}));
}

TEST(ShellLines, GatherATransactionUntilItsEnd) {
  EXPECT_EQ(collect({"BEGIN;", "INSERT INTO t VALUES(1);", "COMMIT;", "SELECT 1"}), (Parts{"BEGIN;\nINSERT INTO t VALUES(1);\nCOMMIT;", "SELECT 1"}));
}

}  // namespace
}  // namespace rq::shell
