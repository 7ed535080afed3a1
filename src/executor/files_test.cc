// On real files: checkpoints in the background beside readers and entries.
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "executor/test_rig.h"
#include "io/posix_disk.h"

namespace rq::executor {
namespace {

class OnFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "rq-executor-XXXXXX").string();
    options_.dir = mkdtemp(pattern.data());
    options_.disk = &disk_;
    options_.clock = &clock_;
    options_.wal_bytes_soft = 200u << 10;
    options_.wal_bytes_hard = 4u << 20;
    open();
  }
  void TearDown() override {
    executor_.reset();
    std::filesystem::remove_all(options_.dir);
  }
  void open() {
    executor_.reset();
    auto opened = Executor::open(options_);
    ASSERT_TRUE(opened) << opened.error().text();
    executor_ = std::move(*opened);
  }
  void apply(const std::vector<pb::Request>& requests) {
    const auto entry = test::entry_of(executor_->applied_index().next(), requests);
    const std::vector<std::string_view> proposals(entry.proposals.begin(), entry.proposals.end());
    const auto applied = executor_->apply({entry.index, Term{1}, entry.wall_ms, entry.seed, proposals, {}});
    ASSERT_TRUE(applied) << applied.error().text();
  }
  sqlite3* reader() {
    sqlite3* db = nullptr;
    EXPECT_EQ(sqlite3_open_v2((options_.dir + "/db.sqlite").c_str(), &db, SQLITE_OPEN_READONLY, "unix"), SQLITE_OK);
    return db;
  }

  io::PosixDisk disk_;
  SystemClock clock_;
  Options options_;
  std::unique_ptr<Executor> executor_;
};

TEST_F(OnFiles, ReadersSeeWholeEntriesWhileTheWalIsMoved) {
  apply({test::execute({"CREATE TABLE a(n, pad)", "CREATE TABLE b(n)", "INSERT INTO a VALUES(0,'')", "INSERT INTO b VALUES(0)"})});
  std::atomic<bool> stop = false;
  std::atomic<int> reads = 0;
  std::atomic<int> wrong = 0;
  std::thread other([&] {
    sqlite3* db = reader();
    while (!stop) {
      const std::string row = test::Rig::rows(db, "SELECT a.n-b.n FROM a,b");
      wrong += row == "0\n" ? 0 : 1;
      ++reads;
      (void)executor_->status();
    }
    sqlite3_close(db);
  });
  for (int i = 0; i < 3000 || (reads < 100 && i < 100000); ++i) {
    apply({test::execute({"UPDATE a SET n=n+1, pad=zeroblob(n%5000)"}), test::execute({"UPDATE b SET n=n+1"})});
    if (i % 16 == 0) executor_->idle();
  }
  stop = true;
  other.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(executor_->status().checkpoints, 3u);
  // Passes that the reader makes vain are 0.2 s and more apart: what is written meanwhile stays.
  EXPECT_LT(std::filesystem::file_size(options_.dir + "/db.sqlite-wal"), 48u << 20);
  EXPECT_LT(std::filesystem::file_size(options_.dir + "/db.ledger"), 1u << 20);
  const Index applied = executor_->applied_index();
  open();
  EXPECT_EQ(executor_->applied_index(), applied);
  sqlite3* db = reader();
  EXPECT_EQ(test::Rig::rows(db, "SELECT a.n=b.n AND a.n>=3000 FROM a,b"), "1\n");
  EXPECT_EQ(test::Rig::rows(db, "PRAGMA integrity_check"), "ok\n");
  sqlite3_close(db);
}

TEST_F(OnFiles, ReaderInThePastDelaysOnlyTheCut) {
  apply({test::execute({"CREATE TABLE a(n)", "INSERT INTO a VALUES(0)"})});
  sqlite3* db = reader();
  EXPECT_EQ(test::Rig::rows(db, "BEGIN; SELECT n FROM a"), "0\n");
  for (int i = 0; i < 300; ++i) apply({test::execute({"UPDATE a SET n=n+1"})});
  ASSERT_TRUE(executor_->checkpoint());
  EXPECT_EQ(executor_->durable_index(), executor_->applied_index());
  for (int i = 0; i < 300; ++i) apply({test::execute({"UPDATE a SET n=n+1"})});
  EXPECT_GT(executor_->status().wal_bytes, 300u * 4096);
  EXPECT_EQ(test::Rig::rows(db, "SELECT n FROM a; COMMIT"), "0\n");
  ASSERT_TRUE(executor_->checkpoint());
  apply({test::execute({"UPDATE a SET n=n+1"})});
  EXPECT_LT(executor_->status().wal_bytes, 50u << 10);
  EXPECT_EQ(test::Rig::rows(db, "SELECT n FROM a"), "601\n");
  sqlite3_close(db);
}

TEST_F(OnFiles, RunawayStatementEndsSoonAfterInterrupt) {
  apply({test::execute({"CREATE TABLE t(v)"})});
  const auto entry = test::entry_of(executor_->applied_index().next(),
                                    {test::execute({"INSERT INTO t WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT max(i) FROM c"})});
  const std::vector<std::string_view> proposals(entry.proposals.begin(), entry.proposals.end());
  std::thread stopper([&] { executor_->interrupt(); });
  const auto applied = executor_->apply({entry.index, Term{1}, entry.wall_ms, entry.seed, proposals, {}});
  stopper.join();
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code, Errc::Canceled);
}

}  // namespace
}  // namespace rq::executor
