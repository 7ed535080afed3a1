// Effect chains: equal on all replicas, entry by entry, whatever differs between them; different when the data is.
#include <gtest/gtest.h>

#include "executor/test_rig.h"
#include "executor/test_workload.h"
#include "ledger/effect.h"

namespace rq::executor {
namespace {

std::uint64_t chain_of(test::Rig& rig) { return rig.executor().status().chain; }

// Requests that fill, empty and move many pages, so that small caches spill, free pages come and go and savepoints undo
// what was spilled.
pb::Request heavy_request(test::Workload& workload) {
  const std::string n = std::to_string(workload.below(60));
  const std::string many = std::to_string(20 + workload.below(150));
  const auto fill = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<" + many + ") ";
  switch (workload.below(16)) {
    case 0: return test::execute({fill + "INSERT INTO big(v) SELECT randomblob(1500) FROM c"});
    case 1: return test::execute({"DELETE FROM big WHERE id%3=" + std::to_string(workload.below(3))});
    case 2: return test::execute({"UPDATE big SET v=zeroblob(" + n + "*90) WHERE id%4=1"});
    case 3: return test::execute({"BEGIN", fill + "INSERT INTO big(v) SELECT randomblob(1500) FROM c", "SAVEPOINT s",
                                  "DELETE FROM big WHERE id%2", fill + "INSERT INTO big(v) SELECT zeroblob(3000) FROM c",
                                  workload.below(2) ? "ROLLBACK TO s" : "RELEASE s", "DELETE FROM big WHERE id%5=0",
                                  workload.below(4) ? "COMMIT" : "ROLLBACK"});
    case 4: return test::execute({fill + "INSERT INTO fts SELECT 'word'||(i*7%40)||' text '||i FROM c"});
    case 5: return test::execute({"DELETE FROM fts WHERE fts MATCH 'word" + n + "'"});
    case 6: return test::execute({fill + "INSERT OR REPLACE INTO box SELECT i*" + n + "%300, i, i+" + n + " FROM c"});
    case 7: return test::execute({"DELETE FROM box WHERE id>" + n});
    case 8: return test::execute({"CREATE TABLE IF NOT EXISTS s" + n + " AS SELECT * FROM big LIMIT 70"});
    case 9: return test::execute({"DROP TABLE IF EXISTS s" + n});
    case 10: return test::execute({"ALTER TABLE big ADD COLUMN c" + n + " DEFAULT 'x" + n + "'"});
    case 11: return test::execute({"ANALYZE"});
    case 12: return test::execute({"CREATE INDEX IF NOT EXISTS big_v ON big(v)"});
    case 13: return test::execute({"DROP INDEX IF EXISTS big_v"});
    case 14: return test::execute({"DELETE FROM big"});
    default: return workload.request();
  }
}

TEST(Chain, IsEqualOnWarmColdAndSpillingReplicas) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    test::Workload workload(seed);
    test::Rig roomy;
    test::Rig tight;       // spills all the time
    test::Rig restarted;   // spills now and then
    tight.options().cache_kib = 64;
    tight.options().statements_cached = 1;
    tight.options().spill_pages = 10;
    tight.options().wal_bytes_soft = 1 << 30;
    restarted.options().cache_kib = 128;
    restarted.options().spill_pages = 100;
    restarted.options().wal_bytes_soft = 32 << 10;
    for (auto* rig : {&roomy, &tight, &restarted}) rig->open();
    const auto apply = [&](const std::vector<pb::Request>& requests) {
      const auto entry = test::entry_of(roomy.next(), requests);
      if (workload.below(4) == 0) (void)tight.executor().dry_run(requests[0], tight.clock().now() + std::chrono::hours(1));
      if (workload.below(4) == 0) restarted.reopen();
      const std::uint64_t before = chain_of(roomy);
      for (auto* rig : {&roomy, &tight, &restarted}) ASSERT_TRUE(rig->apply_entry(entry, rig == &roomy));
      ASSERT_EQ(chain_of(roomy), chain_of(tight)) << "entry " << entry.index.value << ": " << requests[0].statements(0).sql();
      ASSERT_EQ(chain_of(roomy), chain_of(restarted)) << "entry " << entry.index.value << ": " << requests[0].statements(0).sql();
      if (before != chain_of(roomy)) return;
      EXPECT_NE(chain_of(roomy), ledger::kUnknownChain);
    };
    auto schema = test::kSchema;
    schema.push_back("CREATE TABLE big(id INTEGER PRIMARY KEY, v)");
    schema.push_back("CREATE VIRTUAL TABLE fts USING fts5(body)");
    schema.push_back("CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)");
    apply({test::execute(schema)});
    for (int round = 0; round < 150 && !HasFatalFailure(); ++round) {
      std::vector<pb::Request> requests;
      if (workload.below(20) == 0) {
        requests.push_back(test::execute({"VACUUM"}));
      } else {
        for (std::uint64_t n = 1 + workload.below(3); n > 0; --n) requests.push_back(heavy_request(workload));
      }
      apply(requests);
    }
    EXPECT_EQ(roomy.dump(), tight.dump());
    EXPECT_EQ(tight.rows("PRAGMA integrity_check"), "ok\n");
    const std::uint64_t end = chain_of(restarted);
    restarted.reopen();
    EXPECT_EQ(chain_of(restarted), end);
  }
}

TEST(Chain, ChangesWithTheDataAndOnlyWithIt) {
  test::Rig one;
  test::Rig other;
  one.open();
  other.open();
  EXPECT_EQ(chain_of(one), ledger::kFirstChain);
  one.run(test::execute({"CREATE TABLE t(a)"}));
  other.run(test::execute({"CREATE TABLE t(a)"}));
  const std::uint64_t created = chain_of(one);
  EXPECT_NE(created, ledger::kFirstChain);
  EXPECT_EQ(created, chain_of(other));
  one.run(test::execute({"SELECT 1", "nonsense", "DELETE FROM t WHERE a=1"}));
  EXPECT_EQ(chain_of(one), created);
  other.run(test::execute({"INSERT INTO t VALUES(1)"}));
  one.run(test::execute({"INSERT INTO t VALUES(1)"}));
  EXPECT_NE(chain_of(one), chain_of(other)) << "the same page, at another index";
}

TEST(Chain, SeesAByteThatOnlyOneReplicaHas) {
  test::Rig one;
  test::Rig other;
  one.open();
  other.open();
  const auto both = [&](const std::string& sql) {
    const auto entry = test::entry_of(one.next(), {test::execute({sql})});
    ASSERT_TRUE(one.apply_entry(entry));
    ASSERT_TRUE(other.apply_entry(entry));
  };
  both("CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
  both("INSERT INTO t(a) VALUES('somewhere in the page')");
  ASSERT_EQ(one.image(), other.image());
  both("CREATE TABLE elsewhere(a)");   // SQLite's WAL begins anew: the page is read from the database file
  other.close();
  std::string bytes = other.disk().contents("/data/db.sqlite");
  const std::size_t at = bytes.find("somewhere");
  ASSERT_NE(at, std::string::npos);
  bytes[at] = 'S';
  other.disk().overwrite("/data/db.sqlite", bytes);
  other.open();
  EXPECT_EQ(chain_of(one), chain_of(other)) << "rot is seen when the page is written again";
  both("INSERT INTO t(a) VALUES('beside it')");
  EXPECT_NE(chain_of(one), chain_of(other));
}

TEST(Chain, OfAnotherEngineIsUnknownAndStaysSo) {
  test::Rig rig;
  rig.open();
  rig.run(test::execute({"CREATE TABLE t(a)"}));
  EXPECT_NE(chain_of(rig), ledger::kUnknownChain);
  rig.close();
  rig.options().spill_pages = 77;
  rig.open();
  EXPECT_EQ(chain_of(rig), ledger::kUnknownChain);
  rig.run(test::execute({"INSERT INTO t VALUES(1)"}));
  rig.reopen();
  EXPECT_EQ(chain_of(rig), ledger::kUnknownChain);
}

TEST(Chain, SaysWhereItHasAGap) {
  test::Rig rig;
  rig.open();
  rig.run(test::execute({"CREATE TABLE t(a)"}));
  EXPECT_EQ(rig.executor().status().gap_after, Index{});
  const Index last = rig.executor().status().applied;
  const auto upgrade = [&](std::uint32_t pages) {
    rig.close();
    rig.options().spill_pages = pages;
    rig.open();
  };
  upgrade(77);
  rig.run(test::execute({"INSERT INTO t VALUES(1)"}));
  upgrade(78);
  EXPECT_EQ(rig.executor().status().gap_after, last) << "a second engine within the gap doesn't move its beginning";
  EXPECT_EQ(rig.executor().status().gap_until, Index{});
  const auto begin_anew = [&] {
    pb::Proposal anew;
    anew.mutable_proof()->set_begin_chain(true);
    test::Entry entry = test::entry_of(rig.next(), {});
    entry.proposals = {anew.SerializeAsString()};
    EXPECT_TRUE(rig.apply_entry(entry));
  };
  begin_anew();
  const Index begun = rig.executor().status().applied;
  rig.reopen();
  EXPECT_NE(chain_of(rig), ledger::kUnknownChain);
  EXPECT_EQ(rig.executor().status().gap_after, last);
  EXPECT_EQ(rig.executor().status().gap_until, begun);
  begin_anew();
  EXPECT_EQ(rig.executor().status().gap_until, begun) << "this node knew its chain: another one's gap ended";
}

}  // namespace
}  // namespace rq::executor
