// What one request does, through the executor: the forms of spec http-api sections 6, 9, 10, 11.
#include "executor/executor.h"

#include <gtest/gtest.h>

#include <set>

#include "base/digest.h"
#include "executor/test_rig.h"

namespace rq::executor {
namespace {

using test::execute;
using test::mixed;
using test::query;

class ExecutorTest : public ::testing::Test, public test::Rig {
 protected:
  void SetUp() override { open(); }
};

TEST_F(ExecutorTest, CountersStickToTheConnection) {
  EXPECT_EQ(run(execute({"CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)"})), "{}");
  EXPECT_EQ(run(execute({"INSERT INTO t(v) VALUES(1)", "INSERT INTO t(v) VALUES(2),(3)"})),
            R"({"last_insert_id":1,"rows_affected":1},{"last_insert_id":3,"rows_affected":2})");
  EXPECT_EQ(run(execute({"CREATE TABLE u(x)", "SELECT 1", "UPDATE t SET v=9 WHERE id=77"})),
            R"({"last_insert_id":3,"rows_affected":2},{"last_insert_id":3,"rows_affected":2},{"last_insert_id":3})");
  reopen();
  EXPECT_EQ(run(execute({"CREATE TABLE w(x)"})), R"({"last_insert_id":3})");
  EXPECT_EQ(run(mixed({"INSERT INTO u VALUES(7)", "SELECT last_insert_rowid(), changes(), total_changes()"})),
            R"({"last_insert_id":1,"rows_affected":1},)"
            R"j({"columns":["last_insert_rowid()","changes()","total_changes()"],"types":["integer","integer","integer"],"values":[[1,1,4]]})j");
}

TEST_F(ExecutorTest, StatementsOfARequestStandAlone) {
  run(execute({"CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)", "INSERT INTO t(v) VALUES(1)"}));
  EXPECT_EQ(run(execute({"INSERT INTO t(v) VALUES(3)", "INSERT INTO t(v) VALUES(1)", "INSERT INTO t(v) VALUES(4)"})),
            R"({"last_insert_id":2,"rows_affected":1},{"error":"UNIQUE constraint failed: t.v"},{"last_insert_id":3,"rows_affected":1})");
  EXPECT_EQ(rows("SELECT v FROM t"), "1\n3\n4\n");
}

TEST_F(ExecutorTest, TransactionFlagUndoesAllAndEndsTheList) {
  run(execute({"CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)", "INSERT INTO t(v) VALUES(1)"}));
  EXPECT_EQ(run(execute({"INSERT INTO t(v) VALUES(3)", "INSERT INTO t(v) VALUES(1)", "INSERT INTO t(v) VALUES(4)"}, {true})),
            R"({"last_insert_id":2,"rows_affected":1},{"error":"UNIQUE constraint failed: t.v"})");
  EXPECT_EQ(run(mixed({"INSERT INTO t(v) VALUES(5)", "SELECT nosuch", "INSERT INTO t(v) VALUES(6)"}, {true})),
            R"({"last_insert_id":2,"rows_affected":1},{"error":"no such column: nosuch"})");
  EXPECT_EQ(run(execute({"INSERT INTO t(v) VALUES(7)", "INSERT OR ROLLBACK INTO t(v) VALUES(1)", "SELECT 1"}, {true})),
            R"({"last_insert_id":2,"rows_affected":1},{"error":"UNIQUE constraint failed: t.v"})");
  EXPECT_EQ(rows("SELECT v FROM t"), "1\n");
  EXPECT_EQ(run(execute({"INSERT INTO t(v) VALUES(7)", "VACUUM"}, {true})),
            R"({"last_insert_id":2,"rows_affected":1},{"error":"cannot VACUUM from within a transaction"})");
  EXPECT_EQ(run(execute({""}, {true})), "");
  EXPECT_EQ(rows("SELECT v FROM t"), "1\n");
}

TEST_F(ExecutorTest, TransactionControlWorksWithinARequest) {
  run(execute({"CREATE TABLE t(id INTEGER PRIMARY KEY, v)"}));
  EXPECT_EQ(run(execute({"BEGIN", "INSERT INTO t(v) VALUES(3)", "COMMIT"})),
            R"({},{"last_insert_id":1,"rows_affected":1},{"last_insert_id":1,"rows_affected":1})");
  EXPECT_EQ(run(execute({"BEGIN; INSERT INTO t(v) VALUES(4); COMMIT"})), R"({"last_insert_id":2,"rows_affected":1})");
  run(execute({"SAVEPOINT a", "INSERT INTO t(v) VALUES(5)", "ROLLBACK TO A", "RELEASE a"}));
  run(execute({"BEGIN IMMEDIATE", "INSERT INTO t(v) VALUES('kept')", "INSERT INTO nope VALUES(1)", "COMMIT"}));
  EXPECT_EQ(rows("SELECT v FROM t"), "3\n4\nkept\n");
  EXPECT_EQ(run(execute({"RELEASE nosuch", "ROLLBACK TO nosuch", "END", "ROLLBACK"})),
            R"({"error":"no such savepoint: nosuch"},{"error":"no such savepoint: nosuch"},)"
            R"({"error":"cannot commit - no transaction is active"},{"error":"cannot rollback - no transaction is active"})");
  EXPECT_EQ(run(execute({"INSERT INTO t(v) VALUES(7)", "BEGIN", "INSERT INTO t(v) VALUES(8)"}, {true})),
            R"({"last_insert_id":4,"rows_affected":1},{"error":"cannot start a transaction within a transaction"})");
  run(execute({"SAVEPOINT s", "INSERT INTO t(v) VALUES(9)", "ROLLBACK TO s", "INSERT INTO t(v) VALUES(10)"}, {true}));
  EXPECT_EQ(rows("SELECT v FROM t"), "3\n4\nkept\n10\n");
  EXPECT_EQ(run(mixed({"BEGIN", "INSERT INTO t(v) VALUES(11)", "COMMIT"})), R"({},{"last_insert_id":5,"rows_affected":1},{})");
}

TEST_F(ExecutorTest, TransactionLeftOpenIsRolledBackAndSaid) {
  run(execute({"CREATE TABLE t(v)"}));
  EXPECT_EQ(run(execute({"INSERT INTO t VALUES(1)", "BEGIN", "INSERT INTO t VALUES(2)"})),
            "!transaction left open by the request was rolled back");
  EXPECT_EQ(run(execute({"SAVEPOINT x", "INSERT INTO t VALUES(3)"})), "!transaction left open by the request was rolled back");
  EXPECT_EQ(rows("SELECT v FROM t"), "1\n");
}

TEST_F(ExecutorTest, CommitWithinATransactionRequestIsRefused) {
  run(execute({"CREATE TABLE t(v)"}));
  for (const char* control : {"COMMIT", "ROLLBACK", "END"}) {
    const std::string answer = run(execute({"INSERT INTO t VALUES(1)", control, "INSERT INTO t VALUES(2)"}, {true}));
    EXPECT_NE(answer.find("\"error\":\"cannot "), std::string::npos) << answer;
    EXPECT_EQ(rows("SELECT count(*) FROM t"), "0\n");
  }
}

TEST_F(ExecutorTest, MultiStatementStringsStopAtTheFirstError) {
  EXPECT_EQ(run(execute({"CREATE TABLE m(a); INSERT INTO m VALUES(1); INSERT INTO m VALUES(2),(3)"})),
            R"({"last_insert_id":3,"rows_affected":2})");
  EXPECT_EQ(run(execute({"INSERT INTO m VALUES(4); INSERT INTO nope VALUES(5); INSERT INTO m VALUES(6)"})),
            R"({"error":"no such table: nope"})");
  EXPECT_EQ(run(execute({"INSERT INTO m VALUES(7); -- tail", " ", ";", "/* c */", ""})),
            R"({"last_insert_id":5,"rows_affected":1},{},{},{})");
  EXPECT_EQ(run(mixed({"SELECT 1; INSERT INTO m VALUES(8)", "SELECT a FROM m WHERE a>6; -- x", "SELECT 1; SELECT 2"})),
            R"({"last_insert_id":6,"rows_affected":1},{"columns":["a"],"types":["integer"],"values":[[7],[8]]},)"
            R"({"columns":["2"],"types":["integer"],"values":[[2]]})");
}

TEST_F(ExecutorTest, ReturningGivesRowsOnEveryEndpoint) {
  run(execute({"CREATE TABLE t(id INTEGER PRIMARY KEY, v)"}));
  EXPECT_EQ(run(execute({"INSERT INTO t(v) VALUES(1),(2) RETURNING\nid"})),
            R"({"columns":["id"],"types":["integer"],"values":[[1],[2]]})");
  EXPECT_EQ(run(mixed({"DELETE FROM t WHERE id=1 RETURNING*"})), R"({"columns":["id","v"],"types":["integer","integer"],"values":[[1,1]]})");
  EXPECT_EQ(run(query({"INSERT INTO t(v) VALUES(1) RETURNING id"})), R"({"error":"attempt to change database via query operation"})");
  EXPECT_EQ(rows("SELECT id FROM t"), "2\n");
}

TEST_F(ExecutorTest, ReturningRunsToItsEndWhereNobodyListens) {
  apply({execute({"CREATE TABLE t(id INTEGER PRIMARY KEY, v)"})}, false);
  apply({execute({"INSERT INTO t(v) VALUES(1),(2) RETURNING id", "UPDATE t SET v=5 RETURNING v; INSERT INTO t(v) VALUES(3)"})}, false);
  EXPECT_EQ(rows("SELECT v FROM t"), "5\n5\n3\n");
}

TEST_F(ExecutorTest, AnswerThatCantBeWrittenChangesNothingOfTheEffect) {
  run(execute({"CREATE TABLE t(d date)"}));
  const std::string answer =
      run(execute({"INSERT INTO t VALUES('2020-01-01T00:00:00+24:00') RETURNING d", "INSERT INTO t VALUES(1)"}, {true}));
  EXPECT_NE(answer.find("Time.MarshalText"), std::string::npos) << answer;
  EXPECT_EQ(rows("SELECT count(*) FROM t"), "2\n");
}

TEST_F(ExecutorTest, ExplainRunsNothing) {
  run(execute({"CREATE TABLE t(v)"}));
  EXPECT_EQ(run(execute({"EXPLAIN INSERT INTO t VALUES(1)", "EXPLAIN QUERY PLAN DELETE FROM t"})), "{},{}");
  EXPECT_EQ(run(execute({"EXPLAIN BEGIN", "EXPLAIN PRAGMA foreign_keys=1", "PRAGMA foreign_keys"})), "{},{},{}");
  EXPECT_EQ(rows("SELECT count(*) FROM t"), "0\n");
}

TEST_F(ExecutorTest, StateOfOneConnectionIsRefused) {
  run(execute({"CREATE TABLE u(v)"}));
  EXPECT_EQ(run(execute({"ATTACH ':memory:' AS m", "DETACH m", "CREATE TEMP TABLE x(a)", "CREATE TABLE temp.x(a)",
                         "CREATE TEMP VIEW v AS SELECT 1", "CREATE VIRTUAL TABLE temp.f USING fts5(a)",
                         "CREATE TEMP TRIGGER g AFTER INSERT ON u BEGIN SELECT 1; END"})),
            R"({"error":"not authorized"},{"error":"not authorized"},{"error":"temporary objects are not supported"},)"
            R"({"error":"temporary objects are not supported"},{"error":"temporary objects are not supported"},)"
            R"({"error":"temporary objects are not supported"},{"error":"temporary objects are not supported"})");
  EXPECT_EQ(run(execute({"VACUUM INTO '/data/copy'", "SELECT load_extension('x')"})),
            R"({"error":"cannot VACUUM from within a transaction"},{"error":"not authorized"})");
  EXPECT_EQ(run(execute({"VACUUM INTO '/data/copy'"})), R"({"error":"not authorized"})");
  EXPECT_NE(run(execute({"UPDATE sqlite_dbpage SET data=zeroblob(4096)"})).find("error"), std::string::npos);
  EXPECT_NE(run(execute({"SELECT data FROM sqlite_dbpage"})).find("error"), std::string::npos);
}

TEST_F(ExecutorTest, VacuumAloneRunsOutsideOfATransaction) {
  run(execute({"CREATE TABLE t(v)", "INSERT INTO t VALUES(zeroblob(100000))", "DELETE FROM t"}));
  const std::string pages = rows("PRAGMA page_count");
  EXPECT_EQ(run(execute({"VACUUM"})), R"({"last_insert_id":1,"rows_affected":1})");
  EXPECT_NE(rows("PRAGMA page_count"), pages);
  EXPECT_EQ(run(mixed({"vacuum;"})), R"({"last_insert_id":1,"rows_affected":1})");
  const Index before = executor().applied_index();
  reopen();
  EXPECT_EQ(executor().applied_index(), before);
}

TEST_F(ExecutorTest, SettingsAreReplicatedState) {
  run(execute({"CREATE TABLE p(id INTEGER PRIMARY KEY)", "CREATE TABLE c(pid REFERENCES p(id))"}));
  EXPECT_EQ(run(execute({"PRAGMA foreign_keys=ON", "INSERT INTO c VALUES(7)"})), R"({},{"error":"FOREIGN KEY constraint failed"})");
  run(execute({"PRAGMA recursive_triggers=1", "PRAGMA secure_delete=FAST", "PRAGMA analysis_limit=77", "PRAGMA max_page_count=5000",
               "PRAGMA automatic_index=off", "PRAGMA case_sensitive_like=1"}));
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(run(query({"SELECT foreign_keys FROM pragma_foreign_keys", "PRAGMA recursive_triggers", "PRAGMA secure_delete",
                         "PRAGMA analysis_limit", "PRAGMA max_page_count", "PRAGMA automatic_index", "SELECT 'a' LIKE 'A' AS x"})),
              R"({"columns":["foreign_keys"],"types":["integer"],"values":[[1]]},)"
              R"({"columns":["recursive_triggers"],"types":["integer"],"values":[[1]]},)"
              R"({"columns":["secure_delete"],"types":["integer"],"values":[[2]]},)"
              R"({"columns":["analysis_limit"],"types":["integer"],"values":[[77]]},)"
              R"({"columns":["max_page_count"],"types":["integer"],"values":[[5000]]},)"
              R"({"columns":["automatic_index"],"types":["integer"],"values":[[0]]},)"
              R"({"columns":["x"],"types":["integer"],"values":[[0]]})");
    reopen();
  }
  EXPECT_EQ(run(execute({"BEGIN; PRAGMA foreign_keys=OFF; COMMIT", "INSERT INTO c VALUES(7)"})),
            R"({},{"error":"FOREIGN KEY constraint failed"})");
}

TEST_F(ExecutorTest, PragmasOfOneNodeAreRefusedOrNotStored) {
  EXPECT_EQ(run(execute({"PRAGMA query_only(1)", "PRAGMA synchronous(2)", "PRAGMA main.wal_autocheckpoint=1", "PRAGMA cache_size=5",
                         "PRAGMA writable_schema=1", "SELECT 1; PRAGMA query_only=1"})),
            R"({"error":"not authorized"},{"error":"not authorized"},{"error":"not authorized"},{"error":"not authorized"},)"
            R"({"error":"not authorized"},{"error":"not authorized"})");
  EXPECT_EQ(run(execute({"PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA database_list", "PRAGMA nosuchpragma"})), "{},{},{},{}");
  run(execute({"CREATE TABLE t(v)"}));
  EXPECT_NE(run(execute({"INSERT INTO t SELECT file FROM pragma_database_list"})).find("error"), std::string::npos);
  EXPECT_NE(run(execute({"INSERT INTO t SELECT cache_size FROM pragma_cache_size"})).find("error"), std::string::npos);
  EXPECT_EQ(rows("SELECT count(*) FROM t"), "0\n");
  run(execute({"PRAGMA user_version=7", "PRAGMA application_id=42"}));
  EXPECT_EQ(rows("PRAGMA user_version") + rows("PRAGMA application_id"), "7\n42\n");
  run(execute({"PRAGMA user_version=8", "CREATE TABLE u(v)", "PRAGMA foreign_keys=1", "PRAGMA user_version=8"}));
  EXPECT_EQ(run(execute({"PRAGMA user_version=8"})), "{}");
}

TEST_F(ExecutorTest, DeferredForeignKeysAreDuePerUnit) {
  run(execute({"CREATE TABLE p(id INTEGER PRIMARY KEY)", "CREATE TABLE c(pid REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)",
               "PRAGMA foreign_keys=1"}));
  const auto outcomes = apply({execute({"INSERT INTO c VALUES(1)", "INSERT INTO p VALUES(5)"}),
                               execute({"INSERT INTO c VALUES(6)", "INSERT INTO p VALUES(6)"}, {true}),
                               execute({"INSERT INTO c VALUES(7)"}, {true}),
                               execute({"INSERT INTO c VALUES(8) RETURNING pid"}),
                               execute({"BEGIN", "INSERT INTO c VALUES(9)", "COMMIT", "INSERT INTO p VALUES(9)", "COMMIT"})});
  EXPECT_EQ(outcomes[0].results, R"({"error":"FOREIGN KEY constraint failed"},{"last_insert_id":5,"rows_affected":1})");
  EXPECT_EQ(outcomes[1].results, R"({"last_insert_id":1,"rows_affected":1},{"last_insert_id":6,"rows_affected":1})");
  EXPECT_EQ(outcomes[2].error, "FOREIGN KEY constraint failed");
  EXPECT_EQ(outcomes[2].results, "");
  EXPECT_EQ(outcomes[3].results, R"({"error":"FOREIGN KEY constraint failed"})");
  EXPECT_NE(outcomes[4].results.find(R"({"error":"FOREIGN KEY constraint failed"})"), std::string::npos);
  EXPECT_EQ(rows("SELECT pid FROM c"), "6\n9\n");
}

TEST_F(ExecutorTest, DeferForeignKeysEndsWithItsTransaction) {
  run(execute({"CREATE TABLE p(id INTEGER PRIMARY KEY)", "CREATE TABLE c(pid REFERENCES p(id))", "PRAGMA foreign_keys=1"}));
  run(execute({"PRAGMA defer_foreign_keys=1", "INSERT INTO c VALUES(1)", "INSERT INTO p VALUES(1)"}, {true}));
  EXPECT_EQ(rows("SELECT pid FROM c"), "1\n");
  EXPECT_EQ(run(execute({"BEGIN", "INSERT INTO c VALUES(2)", "INSERT INTO p VALUES(2)", "ROLLBACK"})),
            R"({"last_insert_id":1,"rows_affected":1},{"error":"FOREIGN KEY constraint failed"},{"last_insert_id":2,"rows_affected":1},{"last_insert_id":2,"rows_affected":1})");
}

TEST_F(ExecutorTest, RolledBackTransactionOfOneUnitLeavesTheOthers) {
  run(execute({"CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE ON CONFLICT ROLLBACK)", "CREATE TABLE log(x)",
               "CREATE TRIGGER g BEFORE INSERT ON log WHEN new.x<0 BEGIN SELECT RAISE(ROLLBACK,'negative'); END"}));
  const auto outcomes = apply({execute({"INSERT INTO t(v) VALUES(1)", "INSERT INTO log VALUES(1)"}),
                               execute({"INSERT INTO log VALUES(2)", "INSERT INTO t(v) VALUES(1)", "INSERT INTO log VALUES(3)"}),
                               execute({"BEGIN", "INSERT INTO log VALUES(4)", "INSERT INTO log VALUES(-1)", "INSERT INTO log VALUES(5)", "COMMIT"}),
                               execute({"INSERT INTO log VALUES(6)", "INSERT INTO log VALUES(-1)"}, {true}),
                               execute({"INSERT INTO log VALUES(7); INSERT INTO log VALUES(-1); INSERT INTO log VALUES(8)"})});
  EXPECT_EQ(outcomes[1].results, R"({"last_insert_id":2,"rows_affected":1},{"error":"UNIQUE constraint failed: t.v"},{"last_insert_id":3,"rows_affected":1})");
  EXPECT_EQ(outcomes[2].results, R"({"last_insert_id":3,"rows_affected":1},{"last_insert_id":4,"rows_affected":1},{"error":"negative"},)"
                                 R"({"last_insert_id":4,"rows_affected":1},{"error":"cannot commit - no transaction is active"})");
  EXPECT_EQ(outcomes[3].results, R"({"last_insert_id":5,"rows_affected":1},{"error":"negative"})");
  EXPECT_EQ(outcomes[4].results, R"({"error":"negative"})");
  EXPECT_EQ(rows("SELECT x FROM log"), "1\n2\n3\n5\n7\n");
}

TEST_F(ExecutorTest, TransactionThatWasCommittedBeforeTheLossStays) {
  run(execute({"CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)"}));
  EXPECT_EQ(run(execute({"BEGIN", "INSERT INTO t(v) VALUES(1)", "COMMIT", "SAVEPOINT a", "INSERT INTO t(v) VALUES(2)",
                         "INSERT OR ROLLBACK INTO t(v) VALUES(1)", "RELEASE a", "INSERT INTO t(v) VALUES(3)"})),
            R"({},{"last_insert_id":1,"rows_affected":1},{"last_insert_id":1,"rows_affected":1},{"last_insert_id":1,"rows_affected":1},)"
            R"({"last_insert_id":2,"rows_affected":1},{"error":"UNIQUE constraint failed: t.v"},{"error":"no such savepoint: a"},)"
            R"({"last_insert_id":2,"rows_affected":1})");
  EXPECT_EQ(rows("SELECT v FROM t"), "1\n3\n");
}

TEST_F(ExecutorTest, FailedEntryLeavesNoTraceInTheRegisters) {
  run(execute({"CREATE TABLE t(v)", "INSERT INTO t VALUES(1)"}));
  const auto entry = test::entry_of(next(), {execute({"PRAGMA foreign_keys=1", "INSERT INTO t VALUES(2),(3)"})});
  const auto state = executor().snapshot()->data;
  disk().fail_call(2, Errc::Io);
  ASSERT_FALSE(apply_entry(entry));
  EXPECT_EQ(executor().snapshot()->data, state);
  EXPECT_EQ(run(query({"SELECT last_insert_rowid() a, changes() b, total_changes() c, foreign_keys d FROM pragma_foreign_keys"})),
            R"({"columns":["a","b","c","d"],"types":["integer","integer","integer","integer"],"values":[[1,1,1,0]]})");
}

TEST_F(ExecutorTest, TimedOutUnitsAnswerSoAndHaveNoEffect) {
  run(execute({"CREATE TABLE t(v)"}));
  EXPECT_EQ(run(execute({"INSERT INTO t VALUES(1)", "INSERT INTO t VALUES(2)", "SELECT 1"}, {false, 0, 2})),
            R"({"last_insert_id":1,"rows_affected":1},{"error":"execute timeout"},{"error":"execute timeout"})");
  EXPECT_EQ(run(mixed({"INSERT INTO t VALUES(3)", "SELECT 1", "INSERT INTO t VALUES(4)"}, {false, 0, 2})),
            R"({"last_insert_id":2,"rows_affected":1},{"error":"query timeout"},{"error":"execute timeout"})");
  EXPECT_EQ(run(execute({"INSERT INTO t VALUES(5)", "INSERT INTO t VALUES(6)"}, {true, 0, 2})),
            R"({"last_insert_id":3,"rows_affected":1},{"error":"execute timeout"})");
  EXPECT_EQ(run(mixed({"INSERT INTO t VALUES(7)"}, {false, command::kAssociative, 1})), R"({"error":"execute timeout"})");
  EXPECT_EQ(rows("SELECT v FROM t"), "1\n3\n");
}

class EndlessClock final : public Clock {   // moves at each look
 public:
  SteadyTime now() const override { return SteadyTime(std::chrono::milliseconds(++looks_)); }
  WallTime wall() const override { return {}; }

 private:
  mutable std::int64_t looks_ = 0;
};
constexpr const char* kEndless = "INSERT INTO t WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT i FROM c";

TEST_F(ExecutorTest, DryRunFindsTheStatementThatTakesTooLong) {
  close();
  const EndlessClock endless;
  options().clock = &endless;
  open();
  run(execute({"CREATE TABLE t(v)", "INSERT INTO t VALUES(0)"}));
  const auto dump_before = dump();
  EXPECT_EQ(*executor().dry_run(execute({"INSERT INTO t VALUES(1)", kEndless, "INSERT INTO t VALUES(2)"}), endless.now() + std::chrono::seconds(2)), 2u);
  EXPECT_EQ(*executor().dry_run(mixed({"SELECT 1", kEndless + 14}, {true}), endless.now() + std::chrono::seconds(2)), 2u);
  EXPECT_EQ(*executor().dry_run(execute({"INSERT INTO t VALUES(1)", "BEGIN", "PRAGMA foreign_keys=1", "ANALYZE"}), endless.now() + std::chrono::seconds(2)), 0u);
  EXPECT_EQ(executor().dry_run(execute({"SELECT 1"}), endless.now()).error().code, Errc::DeadlineExceeded);
  EXPECT_EQ(dump(), dump_before);
  EXPECT_EQ(run(execute({"CREATE TABLE u(v)", "INSERT INTO t VALUES(3)"})), R"({"last_insert_id":1,"rows_affected":1},{"last_insert_id":2,"rows_affected":1})");
  EXPECT_EQ(run(query({"PRAGMA foreign_keys"})), R"({"columns":["foreign_keys"],"types":["integer"],"values":[[0]]})");
}

TEST_F(ExecutorTest, StatementsHaveACeilingOfSteps) {
  close();
  options().steps_max = 100000;
  open();
  run(execute({"CREATE TABLE t(v)"}));
  const auto outcomes = apply({execute({"INSERT INTO t VALUES(1)"}), execute({kEndless}), execute({"INSERT INTO t VALUES(2)"})});
  EXPECT_EQ(outcomes[1].results, R"({"error":"statement stopped after 100000 steps"})");
  EXPECT_EQ(rows("SELECT v FROM t"), "1\n2\n");
}

TEST_F(ExecutorTest, InterruptedEntryIsGivenUpWhole) {
  run(execute({"CREATE TABLE t(v)"}));
  executor().interrupt();
  auto applied = apply_entry(test::entry_of(next(), {execute({kEndless})}));
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code, Errc::Canceled);
  reopen();
  EXPECT_EQ(rows("SELECT count(*) FROM t"), "0\n");
  EXPECT_EQ(executor().applied_index(), Index{2});
}

TEST_F(ExecutorTest, RowidsAreDrawnFromTheSeedWhenTheLargestIsTaken) {
  run(execute({"CREATE TABLE b(id INTEGER PRIMARY KEY, v)", "INSERT INTO b VALUES(9223372036854775807,'max')"}));
  run(execute({"INSERT INTO b(v) VALUES('next'),('and next')"}));
  const std::string mine = rows("SELECT id FROM b ORDER BY id");
  Rig other;
  other.open();
  other.run(execute({"CREATE TABLE b(id INTEGER PRIMARY KEY, v)", "INSERT INTO b VALUES(9223372036854775807,'max')"}));
  other.run(execute({"INSERT INTO b(v) VALUES('next'),('and next')"}));
  EXPECT_EQ(other.rows("SELECT id FROM b ORDER BY id"), mine);
  EXPECT_EQ(std::count(mine.begin(), mine.end(), '\n'), 3);
}

TEST_F(ExecutorTest, RandomNumbersComeFromTheSealedSeed) {
  auto entry = test::entry_of(next(), {execute({"CREATE TABLE t(a DEFAULT (random()), b DEFAULT (hex(randomblob(5))), c)",
                                                "INSERT INTO t(c) VALUES(1),(2)", "INSERT INTO t(c) SELECT random()"})});
  ASSERT_TRUE(apply_entry(entry));
  const std::string mine = rows("SELECT * FROM t");
  Rig same;
  same.open();
  ASSERT_TRUE(same.apply_entry(entry, false));
  EXPECT_EQ(same.rows("SELECT * FROM t"), mine);
  Rig other;
  other.open();
  entry.seed[3] = 'x';
  ASSERT_TRUE(other.apply_entry(entry));
  EXPECT_NE(other.rows("SELECT * FROM t"), mine);
  EXPECT_EQ(rows("SELECT count(DISTINCT a) FROM t"), "3\n");
}

TEST_F(ExecutorTest, TimeIsTheSealedTimeInUtc) {
  setenv("TZ", "America/New_York", 1);
  tzset();
  auto entry = test::entry_of(next(), {execute({"CREATE TABLE t(a,b)", "INSERT INTO t VALUES(CURRENT_TIMESTAMP, datetime('now','localtime'))"})});
  entry.wall_ms = 1600000000123;
  ASSERT_TRUE(apply_entry(entry));
  EXPECT_EQ(rows("SELECT * FROM t"), "2020-09-13 12:26:40,2020-09-13 12:26:40\n");
  unsetenv("TZ");
  tzset();
}

TEST_F(ExecutorTest, StrongReadsTakeTheirPlaceAndRunNowhere) {
  std::vector<std::pair<Index, std::size_t>> calls;
  close();
  options().on_strong_reads = [&](Index index, std::span<StrongRead> reads) {
    calls.push_back({index, reads.size()});
    EXPECT_EQ(reads[0].request->statements(0).sql(), "SELECT 1");
    for (auto& read : reads) read.waiter->applied({});
  };
  open();
  const auto read = query({"SELECT 1"}, {false, 0, 0, true});
  apply({read, execute({"CREATE TABLE t(v)"}), read});
  apply({read});
  apply({read}, false);
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0], (std::pair<Index, std::size_t>{Index{2}, 2}));
  EXPECT_EQ(calls[1], (std::pair<Index, std::size_t>{Index{3}, 1}));
}

TEST_F(ExecutorTest, FullDeviceStopsApplyAndFullDatabaseDoesNot) {
  run(execute({"CREATE TABLE t(v)", "PRAGMA max_page_count=20"}));
  EXPECT_EQ(run(execute({"INSERT INTO t VALUES(zeroblob(200000))", "INSERT INTO t VALUES(1)"})),
            R"({"error":"database or disk is full"},{"last_insert_id":1,"rows_affected":1})");
  run(execute({"PRAGMA max_page_count=4294967294"}));
  const auto entry = test::entry_of(next(), {execute({"INSERT INTO t VALUES(2)", "INSERT INTO t VALUES(zeroblob(300000))"})});
  disk().set_capacity(100000);
  for (int i = 0; i < 3; ++i) {
    auto applied = apply_entry(entry);
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().code, Errc::NoSpace);
    EXPECT_EQ(rows("SELECT count(*) FROM t"), "1\n");
  }
  disk().set_capacity(UINT64_MAX);
  ASSERT_TRUE(apply_entry(entry));
  EXPECT_EQ(rows("SELECT count(*) FROM t"), "3\n");
}

TEST_F(ExecutorTest, EntryThatKilledTwoStartsIsNotBegunAgain) {
  run(execute({"CREATE TABLE t(v)"}));
  const auto poison = test::entry_of(next(), {execute({"INSERT INTO t VALUES(1)"})});
  for (std::uint32_t start = 0; start < 3; ++start) {
    EXPECT_EQ(executor().poisoned().has_value(), start == 2);
    disk().fail_call(2, Errc::Io, true);      // the note is written, nothing after it, not even its withdrawal
    EXPECT_FALSE(apply_entry(poison));
    disk().heal();
    reopen();
  }
  EXPECT_EQ(executor().poisoned()->index, poison.index);
  auto refused = apply_entry(poison);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::Corrupt);
  executor().allow_skip(poison.index);
  ASSERT_TRUE(apply_entry(poison));
  EXPECT_FALSE(executor().poisoned());
  run(execute({"INSERT INTO t VALUES(2)"}));
  EXPECT_EQ(rows("SELECT v FROM t"), "2\n");
}

TEST_F(ExecutorTest, BootstrapSnapshotCarriesTheSettings) {
  Rig leader;
  leader.options().foreign_keys = true;
  leader.open();
  const auto snapshot = leader.executor().snapshot();
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->index, Index{1});
  run(execute({"CREATE TABLE t(v)"}));
  const auto restored = executor().restore(*snapshot, {});
  ASSERT_TRUE(restored) << restored.error().text();
  EXPECT_EQ(executor().applied_index(), Index{1});
  EXPECT_EQ(rows("SELECT count(*) FROM sqlite_schema"), "0\n");
  EXPECT_EQ(run(query({"PRAGMA foreign_keys"})), R"({"columns":["foreign_keys"],"types":["integer"],"values":[[1]]})");
  auto later = *leader.executor().snapshot();
  later.index = Index{9};
  EXPECT_EQ(executor().restore(later, {}).error().code, Errc::Corrupt);
}

TEST_F(ExecutorTest, LoadedDumpMayWriteTheSchemaAndItsSettingsEndWithIt) {
  options().foreign_keys = true;
  reopen();
  run(execute({"PRAGMA foreign_keys=1"}));
  const std::string dump =
      "PRAGMA foreign_keys=OFF; BEGIN TRANSACTION; PRAGMA writable_schema=ON;"
      "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('table','ft','ft',0,'CREATE VIRTUAL TABLE ft USING fts5(a)');"
      "CREATE TABLE IF NOT EXISTS 'ft_data'(id INTEGER PRIMARY KEY, block BLOB);"
      "CREATE TABLE t(id INTEGER PRIMARY KEY, p REFERENCES q(id)); INSERT INTO t VALUES(1, 7);"
      "PRAGMA writable_schema=OFF; COMMIT;";
  auto load = execute({dump});
  load.set_load(true);
  for (int i = 0; i < 2; ++i) {
    const std::string result = run(load);
    EXPECT_EQ(result.find("error") == std::string::npos, i == 0) << result;
    EXPECT_EQ(rows("SELECT count(*) FROM t"), "1\n");
    EXPECT_EQ(rows("SELECT count(*) FROM sqlite_schema WHERE name='ft'"), "1\n");
    EXPECT_EQ(run(query({"PRAGMA foreign_keys"})), R"({"columns":["foreign_keys"],"types":["integer"],"values":[[1]]})");
    EXPECT_NE(run(execute({"DELETE FROM sqlite_schema"})).find("error"), std::string::npos);
  }
  EXPECT_NE(run(execute({"PRAGMA writable_schema=ON"})).find("not authorized"), std::string::npos);
}

TEST_F(ExecutorTest, LoadReplacesTheDatabaseByAStagedImage) {
  Rig source;
  source.open();
  source.run(execute({"CREATE TABLE loaded(v)", "INSERT INTO loaded VALUES(1),(2)"}));
  const std::string bytes = source.image();
  run(execute({"CREATE TABLE old(v)"}));
  (void)disk().make_dirs("/data/staging");
  pb::Proposal proposal;
  proposal.mutable_load_image()->set_name("load-1");
  proposal.mutable_load_image()->set_size(bytes.size());
  proposal.mutable_load_image()->set_digest(Digest::of(bytes));
  test::Entry entry = test::entry_of(next(), {});
  entry.proposals.push_back(proposal.SerializeAsString());
  EXPECT_EQ(apply_entry(entry).error().code, Errc::NotFound);
  EXPECT_EQ(rows("SELECT name FROM sqlite_schema"), "old\n");
  {
    const auto file = *disk().open("/data/staging/load-1", io::OpenMode::CreateNew);
    ASSERT_TRUE(file->write_at(0, bytes.substr(0, bytes.size() - 1)));
    EXPECT_EQ(apply_entry(entry).error().code, Errc::NotFound);
    ASSERT_TRUE(file->write_at(bytes.size() - 1, bytes.substr(bytes.size() - 1)));
    ASSERT_TRUE(file->sync());
  }
  const auto outcomes = apply_entry(entry);
  ASSERT_TRUE(outcomes) << outcomes.error().text();
  EXPECT_EQ((*outcomes)[0].results, "");
  EXPECT_EQ(rows("SELECT sum(v) FROM loaded"), "3\n");
  EXPECT_EQ(rows("SELECT name FROM sqlite_schema"), "loaded\n");
  run(execute({"INSERT INTO loaded VALUES(4)"}));
  reopen();
  EXPECT_EQ(executor().applied_index(), entry.index.next());
  EXPECT_EQ(rows("SELECT sum(v) FROM loaded"), "7\n");
}

// What a snapshot's image holds, as a file of this rig.
std::string take_image(Executor& from, const raft::MachineSnapshot& snapshot, rq::test::MemoryDisk& disk, std::size_t piece = 64u << 10) {
  (void)disk.make_dirs("/data/staging");
  const std::string path = "/data/staging/image";
  const auto file = *disk.open(path, io::OpenMode::CreateOrOpen);
  EXPECT_TRUE(file->truncate(0));
  for (std::uint64_t at = 0; at < snapshot.bytes;) {
    const auto bytes = from.persist(snapshot.id, at, piece);
    if (!bytes) {
      ADD_FAILURE() << bytes.error().text();
      return path;
    }
    EXPECT_TRUE(file->write_at(at, *bytes));
    at += bytes->size();
  }
  EXPECT_TRUE(file->sync());
  EXPECT_TRUE(disk.sync_dir("/data/staging"));
  EXPECT_TRUE(disk.sync_dir("/data"));
  return path;
}

TEST_F(ExecutorTest, SnapshotShowsItsStateWhileWritesAndCheckpointsGoOn) {
  run(execute({"CREATE TABLE t(v)", "INSERT INTO t VALUES(1),(2)"}));
  run(execute({"INSERT INTO t VALUES(zeroblob(100000))", "INSERT INTO t VALUES(3)"}));
  const auto snapshot = executor().snapshot();
  ASSERT_TRUE(snapshot) << snapshot.error().text();
  const std::string before = rows("SELECT sum(length(v)), count(*), (SELECT last_insert_rowid()) FROM t");
  run(execute({"DELETE FROM t", "CREATE TABLE other(x)"}));
  ASSERT_TRUE(executor().checkpoint());
  Rig fresh;
  fresh.open();
  const std::string image = take_image(executor(), *snapshot, fresh.disk());
  executor().release(snapshot->id);
  EXPECT_EQ(executor().persist(snapshot->id, 0, 4096).error().code, Errc::NotFound);
  const auto restored = fresh.executor().restore(*snapshot, image);
  ASSERT_TRUE(restored) << restored.error().text();
  EXPECT_EQ(fresh.executor().applied_index(), snapshot->index);
  EXPECT_EQ(fresh.rows("SELECT sum(length(v)), count(*), (SELECT last_insert_rowid()) FROM t"), before);
  fresh.reopen();
  EXPECT_EQ(fresh.executor().applied_index(), snapshot->index);
  EXPECT_EQ(fresh.rows("SELECT sum(length(v)), count(*), (SELECT last_insert_rowid()) FROM t"), before);
}

// A receiver that goes on with its piece of an image must never get one of another: also when the sender has started anew.
TEST_F(ExecutorTest, NoTwoImagesHaveOneIdAlsoAcrossStarts) {
  std::set<std::uint64_t> ids;
  for (int start = 0; start < 3; ++start) {
    for (int i = 0; i < 3; ++i) {
      const auto snapshot = executor().snapshot();
      ASSERT_TRUE(snapshot);
      EXPECT_NE(snapshot->id, 0u);
      EXPECT_TRUE(ids.insert(snapshot->id).second);
      if (i == 0) executor().release(snapshot->id);
    }
    const std::uint64_t old = *ids.begin();
    reopen();
    EXPECT_EQ(executor().persist(old, 0, 4096).error().code, Errc::NotFound);
  }
}

// The disk fails at each call of an exchange in turn, once or until it is mended: nothing is applied twice, nor passed over.
TEST_F(ExecutorTest, AnExchangeThatFailsHalfWayIsFinishedOrUndone) {
  Rig leader;
  leader.open();
  std::vector<test::Entry> log;
  for (int i = 0; i < 6; ++i) {
    log.push_back(test::entry_of(leader.next(), {execute({i == 0 ? "CREATE TABLE t(v INTEGER PRIMARY KEY)" : "INSERT INTO t VALUES(" + std::to_string(i) + ")"})}));
    ASSERT_TRUE(leader.apply_entry(log.back()));
  }
  const auto snapshot = leader.executor().snapshot();
  ASSERT_TRUE(snapshot);
  log.push_back(test::entry_of(leader.next(), {execute({"INSERT INTO t VALUES(6)"})}));
  int finished = 0, undone = 0, late = 0;
  for (const bool until_mended : {false, true}) {
    bool failing = true;
    for (unsigned call = 1; failing; ++call) {
      ASSERT_LT(call, 500u);
      Rig member;
      member.open();
      for (int i = 0; i < 2; ++i) ASSERT_TRUE(member.apply_entry(log[static_cast<std::size_t>(i)]));
      const std::string image = take_image(leader.executor(), *snapshot, member.disk());
      member.disk().fail_call(call, Errc::Io, until_mended);
      const auto restored = member.executor().restore(*snapshot, image);
      failing = member.disk().failed();
      member.disk().heal();
      if (restored) {
        EXPECT_EQ(member.executor().applied_index(), snapshot->index) << call;
        ++finished;
      } else if (member.executor().applied_index() == Index{3}) {
        ++undone;
      }
      // The caller goes on behind what it takes for applied.
      const std::size_t from = restored ? log.size() - 1 : 2;
      for (std::size_t i = from; i < log.size(); ++i) {
        const Index before = member.executor().applied_index();
        ASSERT_TRUE(member.apply_entry(log[i], false)) << call;
        late += !restored && i == from && member.executor().applied_index() > log[i].index && before < log[i].index;
      }
      EXPECT_EQ(member.executor().applied_index(), log.back().index) << call;
      EXPECT_EQ(member.rows("SELECT group_concat(v) FROM (SELECT v FROM t ORDER BY v)"), "1,2,3,4,5,6\n") << call;
    }
  }
  EXPECT_GT(finished, 2);
  EXPECT_GT(undone, 2);
  EXPECT_GT(late, 2);
}

TEST_F(ExecutorTest, WalIsMovedIntoTheDatabaseAndBeginsAnew) {
  run(execute({"CREATE TABLE t(v)"}));
  for (int i = 0; i < 400; ++i, clock().advance(std::chrono::seconds(1))) run(execute({"INSERT INTO t VALUES(zeroblob(3000))"}));
  EXPECT_GT(executor().status().checkpoints, 2u);
  EXPECT_LT(executor().status().wal_bytes, 600u << 10);
  EXPECT_GT(executor().durable_index(), Index{200});
  reopen();
  EXPECT_EQ(executor().applied_index(), Index{402});
  EXPECT_EQ(rows("SELECT count(*) FROM t"), "400\n");
}

}  // namespace
}  // namespace rq::executor
