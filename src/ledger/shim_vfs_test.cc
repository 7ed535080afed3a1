// Ledger, shim and recovery with a real SQLite on real files; power loss is in the executor's tests.
#include "ledger/shim_vfs.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "io/posix_disk.h"
#include "ledger/recovery.h"
#include "ledger/sqlite_wal.h"

namespace rq::ledger {
namespace {

class LedgerOnFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "rq-ledger-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    paths_ = paths_in(dir_);
  }
  void TearDown() override {
    close();
    std::filesystem::remove_all(dir_);
  }

  void open() {
    auto recovered = recover(disk_, paths_, {Index{1}, Term{1}, 0, {}});
    ASSERT_TRUE(recovered) << recovered.error().text();
    ledger_ = std::move(*recovered);
    position_ = ledger_->position();
    shim_ = *ShimVfs::install("unix", ledger_.get());
    db_ = connect(shim_->name());
    exec(db_, "SELECT count(*) FROM sqlite_schema");
    ASSERT_TRUE(shim_->hold_locks());
  }
  void close() {
    if (db_) sqlite3_close(db_);
    db_ = nullptr;
    shim_.reset();
    ledger_.reset();
  }
  // As kill -9 leaves the files: they are copied while everything is open, and put in place after.
  void kill() {
    const std::string copy = dir_ + ".copy";
    std::filesystem::copy(dir_, copy, std::filesystem::copy_options::recursive);
    close();
    std::filesystem::remove_all(dir_);
    std::filesystem::rename(copy, dir_);
  }
  sqlite3* connect(const std::string& vfs) {
    sqlite3* db = nullptr;
    EXPECT_EQ(sqlite3_open_v2(paths_.database.c_str(), &db, SQLITE_OPEN_READWRITE, vfs.empty() ? nullptr : vfs.c_str()),
              SQLITE_OK);
    int on = 1;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_wal_autocheckpoint(db, 0);
    exec(db, "PRAGMA synchronous=OFF");
    return db;
  }
  static int exec(sqlite3* db, const std::string& sql) { return sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr); }
  // One entry.
  int apply(const std::string& sql) {
    position_.index = position_.index.next();
    shim_->arm(position_);
    const int rc = exec(db_, "BEGIN;" + sql + ";COMMIT");
    const bool wrote = shim_->disarm();
    if (rc != SQLITE_OK) {
      exec(db_, "ROLLBACK");
      position_.index.value -= 1;
    } else if (wrote) {
      ledger_->committed(position_);
    } else {
      ledger_->advance(position_);
    }
    return rc;
  }
  void checkpoint() {
    sqlite3* db = connect(shim_->name());
    exec(db, "PRAGMA synchronous=NORMAL");
    exec(db, "SELECT count(*) FROM sqlite_schema");
    int frames = 0;
    int moved = 0;
    EXPECT_EQ(sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved), SQLITE_OK);
    EXPECT_EQ(frames, moved);
    sqlite3_close(db);
  }
  std::int64_t number(sqlite3* db, const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_prepare_v2(db, sql.c_str(), -1, &statement, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
    EXPECT_EQ(sqlite3_step(statement), SQLITE_ROW) << sqlite3_errmsg(db);
    const std::int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
  }
  WalScan scan() {
    auto file = disk_.open(paths_.wal, io::OpenMode::ReadOnly);
    return *scan_wal(**file);
  }
  void truncate_wal(std::uint64_t size) { std::filesystem::resize_file(paths_.wal, size); }

  io::PosixDisk disk_;
  std::string dir_;
  Paths paths_;
  Position position_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<ShimVfs> shim_;
  sqlite3* db_ = nullptr;
};

TEST_F(LedgerOnFiles, LineSurvivesEncoding) {
  const Line line{Line::Kind::Commit, {1, 2}, {3, {4, 5}}, {Index{6}, Term{7}, 8, {-9, 10, 11, 12, 13, 14}}};
  auto bytes = encode(line);
  EXPECT_EQ(*decode({bytes.data(), bytes.size()}), line);
  for (char& byte : bytes) {
    byte = static_cast<char>(byte ^ 1);
    EXPECT_FALSE(decode({bytes.data(), bytes.size()}));
    byte = static_cast<char>(byte ^ 1);
  }
  EXPECT_FALSE(decode({bytes.data(), bytes.size() - 1}));
}

TEST_F(LedgerOnFiles, NewDirectoryStandsAtIndexOneWithAnEmptyDatabase) {
  open();
  EXPECT_EQ(ledger_->position().index, Index{1});
  EXPECT_EQ(number(db_, "SELECT count(*) FROM sqlite_schema"), 0);
  EXPECT_EQ(number(db_, "PRAGMA page_size"), 4096);
  EXPECT_EQ(number(db_, "PRAGMA page_count"), 1);
}

TEST_F(LedgerOnFiles, EveryCommitIsFoundAgainAfterKill) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  for (int i = 0; i < 20; ++i) {
    position_.registers.changes = i;
    ASSERT_EQ(apply("INSERT INTO t VALUES(zeroblob(3000))"), SQLITE_OK);
    kill();
    open();
    EXPECT_EQ(position_.index, Index{3 + static_cast<std::uint64_t>(i)});
    EXPECT_EQ(position_.registers.changes, i);
    EXPECT_EQ(number(db_, "SELECT count(*) FROM t"), i + 1);
  }
}

TEST_F(LedgerOnFiles, ShorterWalMeansAnEarlierIndex) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  std::vector<std::uint64_t> ends;
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(apply("INSERT INTO t VALUES(1)"), SQLITE_OK);
    ends.push_back(std::filesystem::file_size(paths_.wal));
  }
  kill();
  truncate_wal(ends[3] - 1);  // tears the commit of the fourth row
  open();
  EXPECT_EQ(number(db_, "SELECT count(*) FROM t"), 3);
  EXPECT_EQ(position_.index, Index{5});
  EXPECT_EQ(std::filesystem::file_size(paths_.wal), ends[2]);
}

TEST_F(LedgerOnFiles, FramesWithoutALineAreCut) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  ASSERT_EQ(apply("INSERT INTO t VALUES(1)"), SQLITE_OK);
  const auto lines = std::filesystem::file_size(paths_.ledger);
  ASSERT_EQ(apply("INSERT INTO t VALUES(2)"), SQLITE_OK);
  kill();
  std::filesystem::resize_file(paths_.ledger, lines);
  open();
  EXPECT_EQ(position_.index, Index{3});
  EXPECT_EQ(number(db_, "SELECT count(*) FROM t"), 1);
}

TEST_F(LedgerOnFiles, EntriesWithoutPagesMoveTheIndexOnceFlushed) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  const auto frames = scan().commits;
  for (int i = 0; i < 7; ++i) {
    ASSERT_EQ(apply("UPDATE t SET n=1"), SQLITE_OK);
    ASSERT_TRUE(ledger_->flush());
  }
  ASSERT_EQ(apply("UPDATE t SET n=1"), SQLITE_OK);  // not flushed
  EXPECT_EQ(scan().commits, frames);
  kill();
  open();
  EXPECT_EQ(position_.index, Index{9});
  ASSERT_EQ(apply("INSERT INTO t VALUES(1)"), SQLITE_OK);
  kill();
  open();
  EXPECT_EQ(position_.index, Index{10});
}

TEST_F(LedgerOnFiles, LinesOfFailedCommitsAreNotBelieved) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  const CommitFrame other{scan().commits.back().number + 1, {1, 2}};
  ASSERT_TRUE(ledger_->commit(other, {Index{99}, Term{1}, 0, {}}));
  kill();
  open();
  EXPECT_EQ(position_.index, Index{2});
}

TEST_F(LedgerOnFiles, LineOfAFrameThatWasWrittenOtherwiseIsNotBelieved) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  Line stale = read(disk_, paths_.ledger)->lines.back();
  stale.position.index = Index{99};
  stale.frame.checksum[1] ^= 1;
  kill();
  const auto bytes = encode(stale);
  auto file = *disk_.open(paths_.ledger, io::OpenMode::ReadWrite);
  ASSERT_TRUE(file->write_at(*file->size(), {bytes.data(), bytes.size()}));
  open();
  EXPECT_EQ(position_.index, Index{2});
}

TEST_F(LedgerOnFiles, TornRepetitionLeavesTheOneBefore) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  for (std::uint64_t last = 3; last < 8; ++last) {
    ASSERT_EQ(apply("UPDATE t SET n=1"), SQLITE_OK);
    ASSERT_TRUE(ledger_->flush());
    const auto file = *disk_.open(paths_.ledger, io::OpenMode::ReadWrite);
    const std::string bytes = *file->read_at(0, 1 << 20);
    for (std::size_t at = 0; at < bytes.size(); at += kLineBytes) {
      const auto line = decode(std::string_view(bytes).substr(at, kLineBytes));
      if (!line || line->position.index != Index{last}) continue;
      ASSERT_TRUE(file->write_at(at + 30, "torn"));
      EXPECT_EQ((*read(disk_, paths_.ledger)).lines.back().position.index.value, last - 1);
      ASSERT_TRUE(file->write_at(at, std::string_view(bytes).substr(at, kLineBytes)));
    }
  }
}

TEST_F(LedgerOnFiles, CheckpointBeginsAnEpochAndTheWalAnew) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 30; ++i) ASSERT_EQ(apply("INSERT INTO t VALUES(zeroblob(2000))"), SQLITE_OK);
    const auto before = scan().header->salts;
    const auto size = std::filesystem::file_size(paths_.ledger);
    checkpoint();
    EXPECT_EQ(ledger_->durable_index(), position_.index);
    ASSERT_EQ(apply("INSERT INTO t VALUES(1)"), SQLITE_OK);
    EXPECT_NE(scan().header->salts, before);
    EXPECT_EQ(scan().commits.size(), 1u);
    EXPECT_LT(std::filesystem::file_size(paths_.ledger), size);
    kill();
    open();
    EXPECT_EQ(position_.index, Index{2 + 31 * static_cast<std::uint64_t>(round + 1)});
    EXPECT_EQ(number(db_, "SELECT count(*) FROM t"), 31 * (round + 1));
  }
}

TEST_F(LedgerOnFiles, EpochWithoutItsWalIsTheStateAtItsBase) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  ASSERT_EQ(apply("INSERT INTO t VALUES(1)"), SQLITE_OK);
  checkpoint();
  const auto wal = dir_ + ".wal";
  std::filesystem::copy_file(paths_.wal, wal);
  ASSERT_EQ(apply("INSERT INTO t VALUES(2)"), SQLITE_OK);
  kill();
  std::filesystem::rename(wal, paths_.wal);   // the new header and frame were lost
  open();
  EXPECT_EQ(position_.index, Index{3});
  EXPECT_EQ(number(db_, "SELECT count(*) FROM t"), 1);
  EXPECT_EQ(std::filesystem::file_size(paths_.wal), 0u);
}

TEST_F(LedgerOnFiles, ForeignCheckpointsBetweenRunsAreRefused) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  kill();
  sqlite3* foreign = nullptr;
  ASSERT_EQ(sqlite3_open(paths_.database.c_str(), &foreign), SQLITE_OK);
  exec(foreign, "SELECT * FROM t");
  sqlite3_close(foreign);   // checkpoints and removes the WAL
  auto recovered = recover(disk_, paths_, {Index{1}, Term{1}, 0, {}});
  ASSERT_FALSE(recovered);
  EXPECT_EQ(recovered.error().code, Errc::Corrupt);
}

TEST_F(LedgerOnFiles, WhatIsNoDatabaseIsRefused) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  kill();
  for (const std::string& head : {std::string(), std::string(50, 'x'), std::string(4096, 'x'), "SQLite format 3" + std::string(4000, '\0')}) {
    std::ofstream(paths_.database, std::ios::binary | std::ios::trunc) << head;
    auto recovered = recover(disk_, paths_, {Index{1}, Term{1}, 0, {}});
    ASSERT_FALSE(recovered);
    EXPECT_EQ(recovered.error().code, Errc::Corrupt);
  }
}

TEST_F(LedgerOnFiles, WalShorterThanWhatWasSyncedIsRefused) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  ASSERT_TRUE(shim_->sync_wal());
  kill();
  truncate_wal(100);
  auto recovered = recover(disk_, paths_, {Index{1}, Term{1}, 0, {}});
  ASSERT_FALSE(recovered);
  EXPECT_EQ(recovered.error().code, Errc::Corrupt);
}

TEST_F(LedgerOnFiles, DataWithoutLedgerIsNotOverwritten) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  checkpoint();
  close();
  std::filesystem::remove(paths_.ledger);
  EXPECT_EQ(recover(disk_, paths_, {Index{1}, Term{1}, 0, {}}).error().code, Errc::Corrupt);
  ASSERT_TRUE(wipe(disk_, paths_));
  open();
  EXPECT_EQ(position_.index, Index{1});
}

TEST_F(LedgerOnFiles, OthersReadButNeitherWriteNorCheckpoint) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  ASSERT_EQ(apply("INSERT INTO t VALUES(1)"), SQLITE_OK);
  sqlite3* other = connect("");
  EXPECT_EQ(number(other, "SELECT count(*) FROM t"), 1);
  EXPECT_EQ(exec(other, "INSERT INTO t VALUES(2)"), SQLITE_BUSY);
  int frames = 0;
  int moved = 0;
  EXPECT_EQ(sqlite3_wal_checkpoint_v2(other, nullptr, SQLITE_CHECKPOINT_TRUNCATE, &frames, &moved), SQLITE_BUSY);
  ASSERT_EQ(apply("INSERT INTO t VALUES(3)"), SQLITE_OK);
  EXPECT_EQ(number(other, "SELECT count(*) FROM t"), 2);
  sqlite3_close(other);
}

TEST_F(LedgerOnFiles, WhoWroteWhileItWasOpenedIsNoticed) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  sqlite3_close(db_);
  db_ = connect(shim_->name());
  exec(db_, "SELECT count(*) FROM sqlite_schema");
  sqlite3* other = connect("");
  ASSERT_EQ(exec(other, "INSERT INTO t VALUES(1)"), SQLITE_OK);
  const auto held = shim_->hold_locks();
  ASSERT_FALSE(held);
  EXPECT_EQ(held.error().code, Errc::Corrupt);
  sqlite3_close(other);
}

TEST_F(LedgerOnFiles, CommitsThatNobodyAnnouncedAreRefused) {
  open();
  ASSERT_EQ(apply("CREATE TABLE t(n)"), SQLITE_OK);
  EXPECT_EQ(exec(db_, "INSERT INTO t VALUES(1)") & 0xff, SQLITE_IOERR);
  ASSERT_TRUE(shim_->take_error());
  EXPECT_EQ(number(db_, "SELECT count(*) FROM t"), 0);
  ASSERT_EQ(apply("INSERT INTO t VALUES(2)"), SQLITE_OK);
  kill();
  open();
  EXPECT_EQ(number(db_, "SELECT sum(n) FROM t"), 2);
}

TEST_F(LedgerOnFiles, SpilledTransactionsAreOneCommit) {
  open();
  exec(db_, "PRAGMA cache_size=10");
  exec(db_, "PRAGMA cache_spill=10");
  ASSERT_EQ(apply("CREATE TABLE t(a PRIMARY KEY, b)"), SQLITE_OK);
  ASSERT_EQ(apply("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<3000)"
                  "INSERT INTO t SELECT i*7919%3001, zeroblob(300) FROM c"),
            SQLITE_OK) << shim_->take_error().value_or(Error{}).text();
  ASSERT_EQ(apply("UPDATE t SET b=zeroblob(310)"), SQLITE_OK);
  EXPECT_EQ(scan().commits.size(), 3u);
  kill();
  open();
  EXPECT_EQ(position_.index, Index{4});
  EXPECT_EQ(number(db_, "SELECT sum(length(b)) FROM t"), 3000 * 310);
  EXPECT_EQ(number(db_, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check='ok'"), 1);
}

TEST_F(LedgerOnFiles, TheClockIsTheOneThatWasSet) {
  open();
  shim_->set_time(1600000000123);
  EXPECT_EQ(number(db_, "SELECT CAST(unixepoch('subsec')*1000 AS INTEGER)"), 1600000000123);
  EXPECT_EQ(number(db_, "SELECT CURRENT_TIMESTAMP='2020-09-13 12:26:40'"), 1);
}

}  // namespace
}  // namespace rq::ledger
