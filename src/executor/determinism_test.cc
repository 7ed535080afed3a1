// Replicas: equal entries leave equal files, whatever else differs between the nodes.
#include <gtest/gtest.h>

#include "executor/test_rig.h"
#include "executor/test_workload.h"

namespace rq::executor {
namespace {

std::vector<std::string> wide_schema() {
  auto schema = test::kSchema;
  schema.push_back("CREATE VIRTUAL TABLE fts USING fts5(body)");
  schema.push_back("CREATE VIRTUAL TABLE fts4 USING fts4(body)");
  schema.push_back("CREATE TRIGGER ft AFTER INSERT ON t BEGIN INSERT INTO fts VALUES('of t '||new.v); END");
  schema.push_back("CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)");
  schema.push_back("CREATE TABLE rnd(id INTEGER PRIMARY KEY, a DEFAULT (random()), b DEFAULT (randomblob(9)), c DEFAULT CURRENT_TIMESTAMP)");
  schema.push_back("CREATE INDEX rnd_a ON rnd(a)");
  schema.push_back("INSERT INTO rnd(id) VALUES(9223372036854775807)");
  return schema;
}

pb::Request wide_request(test::Workload& workload) {
  const std::string n = std::to_string(workload.below(40));
  switch (workload.below(18)) {
    case 0: return test::execute({"INSERT INTO fts VALUES('word" + n + " and more text " + n + "')"});
    case 1: return test::execute({"DELETE FROM fts WHERE fts MATCH 'word" + n + "'"});
    case 2: return test::execute({"INSERT OR REPLACE INTO box VALUES(" + n + ",1," + n + "+1)"});
    case 3: return test::execute({"INSERT INTO rnd DEFAULT VALUES", "UPDATE rnd SET a=random() WHERE id%3=1"});
    case 4: return test::execute({"ANALYZE"});
    case 5: return test::execute({"PRAGMA optimize"});
    case 6: return test::execute({"DELETE FROM sqlite_stat1 WHERE tbl='t'"});
    case 7: return test::execute({"INSERT INTO t(v,w) SELECT id%1000+100, " + n + " FROM rnd ORDER BY random() LIMIT 5"});
    case 8: return test::execute({"INSERT INTO rnd(b) SELECT zeroblob(" + n + "*200)"}, {true});
    case 9: return test::execute({"CREATE TABLE IF NOT EXISTS dup" + n + " AS SELECT 1 a,2 a,3 a,4 a,5 a,6 a,7 a"});
    case 11: return test::execute({"INSERT INTO fts4 VALUES('word" + n + " four')", "DELETE FROM fts4 WHERE fts4 MATCH 'word3'"});
    case 12: return test::execute({"BEGIN", "INSERT INTO fts VALUES('undone " + n + "')", "SAVEPOINT s", "UPDATE fts SET body='changed' WHERE rowid=" + n,
                                   "ROLLBACK TO s", workload.below(2) ? "COMMIT" : "ROLLBACK"});
    case 13: return test::execute({"INSERT INTO fts(fts) VALUES('" + std::string(workload.below(2) ? "optimize" : "rebuild") + "')"});
    case 10: return test::execute({"ALTER TABLE t ADD COLUMN c" + n});
    default: return workload.request();
  }
}

TEST(Determinism, ReplicasHaveEqualFiles) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    test::Workload workload(seed);
    test::Rig leader;
    test::Rig follower;
    test::Rig restarted;
    follower.options().cache_kib = 64;
    follower.options().statements_cached = 1;
    follower.options().wal_bytes_soft = 1 << 30;
    restarted.options().wal_bytes_soft = 32 << 10;
    for (auto* rig : {&leader, &follower, &restarted}) rig->open();
    for (int round = 0; round < 120; ++round) {
      std::vector<pb::Request> requests;
      if (round == 0) {
        requests.push_back(test::execute(wide_schema()));
      } else if (workload.below(25) == 0) {
        requests.push_back(test::execute({"VACUUM"}));
      } else {
        for (std::uint64_t n = 1 + workload.below(5); n > 0; --n) requests.push_back(wide_request(workload));
      }
      const auto entry = test::entry_of(leader.next(), requests);
      // The leader has caches that nobody else has: of dry runs, and of reads between.
      if (workload.below(3) == 0) {
        (void)leader.executor().dry_run(requests[0], leader.clock().now() + std::chrono::hours(1));
      }
      ASSERT_TRUE(leader.apply_entry(entry));
      ASSERT_TRUE(follower.apply_entry(entry, false));
      if (workload.below(4) == 0) restarted.reopen();
      ASSERT_TRUE(restarted.apply_entry(entry, false));
      const auto state = leader.state();
      ASSERT_EQ(state, follower.state()) << "entry " << entry.index.value;
      ASSERT_EQ(state, restarted.state()) << "entry " << entry.index.value;
      if (workload.below(10) == 0) leader.executor().idle();
    }
    const std::string image = leader.image();
    EXPECT_GT(image.size(), 20u << 10);
    EXPECT_TRUE(image == follower.image());
    EXPECT_TRUE(image == restarted.image());
    EXPECT_EQ(leader.rows("PRAGMA integrity_check"), "ok\n");
    // The workload does what it says: nothing of it may be refused by the way.
    EXPECT_NE(leader.rows("SELECT count(*) FROM fts"), "0\n");
    EXPECT_NE(leader.rows("SELECT count(*) FROM box"), "0\n");
    EXPECT_NE(leader.rows("SELECT count(*) FROM pragma_table_info('t')"), "3\n");
  }
}

TEST(Determinism, StaleStatementsOfAWarmCacheDontMakeVirtualTablesFlush) {
  test::Rig warm;
  test::Rig cold;
  warm.open();
  cold.open();
  const std::vector<std::vector<pb::Request>> entries = {
      {test::execute({"CREATE TABLE t(a)", "CREATE VIRTUAL TABLE fts USING fts5(body)"})},
      {test::execute({"ALTER TABLE t ADD COLUMN b"})},
      {test::execute({"INSERT INTO fts VALUES('one')", "ALTER TABLE t ADD COLUMN b", "INSERT INTO fts VALUES('two')"})}};
  for (const auto& requests : entries) {
    cold.reopen();
    const auto entry = test::entry_of(warm.next(), requests);
    ASSERT_TRUE(warm.apply_entry(entry));
    ASSERT_TRUE(cold.apply_entry(entry));
  }
  EXPECT_TRUE(warm.image() == cold.image());
}

}  // namespace
}  // namespace rq::executor
