// Power loss at any call: the database is that of one index, which is never below what was durable.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include "ledger/recovery.h"
#include "ledger/shim_vfs.h"
#include "support/disk_vfs.h"
#include "support/memory_disk.h"

namespace rq::ledger {
namespace {

using rq::test::DiskVfs;
using rq::test::MemoryDisk;
using rq::test::SeededRng;

// One life of a process: everything but the disk goes with it.
class Life {
 public:
  explicit Life(MemoryDisk& disk) : disk_(disk), vfs_(disk) {}
  ~Life() {
    sqlite3_close(checkpointer_);
    sqlite3_close(db_);
  }

  Result<> start() {
    const Paths paths = paths_in("/data");
    RQ_TRY(ledger_, recover(disk_, paths, {Index{1}, Term{1}, 0, {}}));
    position_ = ledger_->position();
    RQ_TRY(shim_, ShimVfs::install(vfs_.name(), ledger_.get()));
    if (!connect(db_, "OFF") || !connect(checkpointer_, "NORMAL")) return fail(Errc::Io, "connect");
    RQ_CHECK(shim_->hold_locks());
    return disk_.sync_dir("/data");
  }
  bool exec(const std::string& sql) { return sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK; }
  bool apply(const std::string& sql) {
    Position next = position_;
    next.index = next.index.next();
    next.registers.changes = static_cast<std::int64_t>(next.index.value) * 3;
    bool done = exec("BEGIN") && exec(sql);
    shim_->arm(next);
    done = done && exec("COMMIT");
    const bool wrote = shim_->disarm();
    if (!done) {
      if (!sqlite3_get_autocommit(db_)) exec("ROLLBACK");
      return false;
    }
    wrote ? ledger_->committed(next) : ledger_->advance(next);
    position_ = next;
    return true;
  }
  bool checkpoint() { return sqlite3_wal_checkpoint_v2(checkpointer_, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr) == SQLITE_OK; }
  std::int64_t number(const char* sql) {
    sqlite3_stmt* statement = nullptr;
    sqlite3_prepare_v2(db_, sql, -1, &statement, nullptr);
    const std::int64_t value = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
    sqlite3_finalize(statement);
    return value;
  }
  const Position& position() const { return position_; }
  Ledger& ledger() { return *ledger_; }
  ShimVfs& shim() { return *shim_; }

 private:
  bool connect(sqlite3*& db, const char* synchronous) {
    if (sqlite3_open_v2("/data/db.sqlite", &db, SQLITE_OPEN_READWRITE, shim_->name()) != SQLITE_OK) return false;
    int on = 1;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_wal_autocheckpoint(db, 0);
    const std::string sql = std::string("PRAGMA synchronous=") + synchronous + "; PRAGMA cache_size=8; PRAGMA cache_spill=8;"
                            "SELECT count(*) FROM sqlite_schema";
    return sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK;
  }

  MemoryDisk& disk_;
  DiskVfs vfs_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<ShimVfs> shim_;
  sqlite3* db_ = nullptr;
  sqlite3* checkpointer_ = nullptr;
  Position position_;
};

// Index 2 makes the table; every fourth entry after writes nothing; the others count by one.
std::int64_t count_at(std::uint64_t index) {
  std::int64_t n = 0;
  for (std::uint64_t i = 3; i <= index; ++i) n += i % 4 != 0 ? 1 : 0;
  return n;
}

void check(Life& life) {
  const std::uint64_t index = life.position().index.value;
  if (index < 2) return;
  EXPECT_EQ(life.number("SELECT n FROM c"), count_at(index)) << "index " << index;
  EXPECT_EQ(life.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check='ok'"), 1);
  EXPECT_EQ(life.position().registers.changes, static_cast<std::int64_t>(index) * 3);
}

void one_run(std::uint64_t seed) {
  SeededRng rng(seed);
  MemoryDisk disk;
  ASSERT_TRUE(disk.make_dirs("/data"));
  ASSERT_TRUE(disk.sync_dir("/"));
  Index durable{1};
  const MemoryDisk::Loss losses[] = {MemoryDisk::Loss::All, MemoryDisk::Loss::Suffix, MemoryDisk::Loss::Sectors};
  for (int round = 0; round < 8; ++round) {
    auto life = std::make_unique<Life>(disk);
    disk.fail_call(1 + rng.below(round == 7 ? 100000 : 220), rng.below(4) ? Errc::Io : Errc::NoSpace, rng.below(3) != 0);
    if (auto started = life->start()) {
      ASSERT_GE(life->position().index, durable);
      check(*life);
      for (int i = 0; i < 40; ++i) {
        const std::uint64_t index = life->position().index.value + 1;
        const std::string size = std::to_string(rng.below(rng.below(9) ? 5000 : 90000));
        const bool done = life->apply(index == 2       ? "CREATE TABLE c(n, pad); INSERT INTO c VALUES(0,'')"
                                      : index % 4 == 0 ? "UPDATE c SET n=n+1 WHERE n<0"
                                                       : "UPDATE c SET n=n+1; UPDATE c SET pad=zeroblob(" + size + ")");
        if (!done && rng.below(3) == 0) break;
        if (rng.below(6) == 0) (void)life->ledger().flush();
        if (rng.below(9) == 0) (void)life->checkpoint();
        if (rng.below(9) == 0) (void)life->shim().sync_wal();
        durable = std::max(durable, life->ledger().durable_index());
      }
    } else {
      ASSERT_NE(started.error().code, Errc::Corrupt) << started.error().text();
    }
    // kill -9 or power loss; the connections close on a disk that answers nothing.
    disk.fail_call(1, Errc::Io, true);
    if (rng.below(4) != 0) disk.lose_power(rng, losses[rng.below(3)]);
    life.reset();
    disk.heal();
  }
  Life last(disk);
  auto started = last.start();
  ASSERT_TRUE(started) << started.error().text();
  ASSERT_GE(last.position().index, durable);
  check(last);
}

TEST(LedgerPower, TheDatabaseIsAlwaysThatOfItsIndex) {
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    one_run(seed);
    if (::testing::Test::HasFailure()) return;
  }
}

// Every call of an installation dies once, in every way: the database is the old one or the new one, whole, and which of
// them is told by the position.
TEST(LedgerPower, InstallationIsAllOrNothing) {
  std::string image;
  {
    MemoryDisk disk;
    ASSERT_TRUE(disk.make_dirs("/data"));
    Life life(disk);
    ASSERT_TRUE(life.start());
    ASSERT_TRUE(life.apply("CREATE TABLE c(n, pad); INSERT INTO c VALUES(1000,'')"));
    ASSERT_TRUE(life.shim().sync_wal());
    ASSERT_TRUE(life.checkpoint());
    image = disk.contents("/data/db.sqlite");
  }
  const MemoryDisk::Loss losses[] = {MemoryDisk::Loss::All, MemoryDisk::Loss::Suffix, MemoryDisk::Loss::Sectors};
  const Position target{Index{77}, Term{3}, 0, {5, 6, 7, 0, 0, 0}};
  int done = 0;
  for (std::uint64_t call = 1; done < 3; ++call) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      SCOPED_TRACE("call " + std::to_string(call) + " seed " + std::to_string(seed));
      SeededRng rng(seed * 1000 + call);
      MemoryDisk disk;
      ASSERT_TRUE(disk.make_dirs("/data"));
      ASSERT_TRUE(disk.sync_dir("/"));
      Index before;
      {
        Life life(disk);
        ASSERT_TRUE(life.start());
        ASSERT_TRUE(life.apply("CREATE TABLE c(n, pad); INSERT INTO c VALUES(0,'')"));
        for (int i = 0; i < 5; ++i) ASSERT_TRUE(life.apply("UPDATE c SET n=n+1; UPDATE c SET pad=zeroblob(9000)"));
        ASSERT_TRUE(life.shim().sync_wal());
        before = life.position().index;
      }
      const auto file = *disk.open("/data/image", io::OpenMode::CreateNew);
      ASSERT_TRUE(file->write_at(0, image));
      ASSERT_TRUE(file->sync());
      ASSERT_TRUE(disk.sync_dir("/data"));
      disk.fail_call(call, Errc::Io, true);
      const bool installed = install(disk, paths_in("/data"), "/data/image", target).has_value();
      disk.fail_call(1, Errc::Io, true);
      if (seed > 0) disk.lose_power(rng, losses[seed % 3]);
      disk.heal();
      if (installed) ++done;
      Life life(disk);
      const auto started = life.start();
      ASSERT_TRUE(started) << started.error().text();
      if (installed) { ASSERT_EQ(life.position(), target); }
      if (life.position().index == target.index) {
        ASSERT_EQ(life.position(), target);
        ASSERT_EQ(life.number("SELECT n FROM c"), 1000);
        ASSERT_TRUE(life.apply("UPDATE c SET n=n+1"));
        ASSERT_EQ(life.number("SELECT n FROM c"), 1001);
      } else {
        ASSERT_EQ(life.position().index, before);
        ASSERT_EQ(life.number("SELECT n FROM c"), 5);
      }
      ASSERT_EQ(life.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check='ok'"), 1);
    }
    ASSERT_LT(call, 100u);
  }
}

TEST(LedgerPower, FailedSyncIsFinal) {
  for (std::uint64_t call = 1; call <= 3; ++call) {   // ledger, WAL, mark
    MemoryDisk disk;
    ASSERT_TRUE(disk.make_dirs("/data"));
    Life life(disk);
    ASSERT_TRUE(life.start());
    ASSERT_TRUE(life.apply("CREATE TABLE c(n, pad)"));
    ASSERT_TRUE(life.apply("INSERT INTO c VALUES(0,'')"));
    disk.fail_call(call, Errc::Io);
    EXPECT_FALSE(life.shim().sync_wal());
    EXPECT_FALSE(life.shim().sync_wal());
    EXPECT_FALSE(life.apply("UPDATE c SET n=1"));
    EXPECT_LT(life.ledger().durable_index(), Index{3});
  }
}

}  // namespace
}  // namespace rq::ledger
