// Images in all forms, and streams of them by workers.
#include "backup/source.h"

#include <gtest/gtest.h>

#include <future>

#include "backup/gzip.h"
#include "backup/test_database.h"
#include "backup/workers.h"
#include "io/posix_disk.h"

namespace rq::backup {
namespace {

class SourceTest : public test::Directory {
 protected:
  void SetUp() override {
    Directory::SetUp();
    db_ = std::make_unique<test::TestDatabase>(path("db"));
    db_->run("PRAGMA journal_mode=WAL;PRAGMA wal_autocheckpoint=0;CREATE TABLE t(a INTEGER PRIMARY KEY,b);"
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000) INSERT INTO t SELECT i, hex(randomblob(50)) FROM n;"
             "DELETE FROM t WHERE a%2=0;");
    std::filesystem::create_directory(path("staging"));
    database_ = {.path = path("db"), .staging_dir = path("staging"), .disk = &disk_};
  }
  void TearDown() override {
    db_.reset();
    Directory::TearDown();
  }
  std::string get(const Query& query) {
    auto source = open_source(database_, query);
    EXPECT_TRUE(source) << source.error().text();
    return source ? test::all_of(**source) : std::string();
  }
  std::string rows_in(const std::string& image) {
    test::write_all(path("copy"), image);
    const std::string rows = test::TestDatabase(path("copy")).rows("SELECT count(*), sum(a), max(b) FROM t; PRAGMA integrity_check");
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path("copy") + suffix);
    return rows;
  }
  std::string wanted() { return db_->rows("SELECT count(*), sum(a), max(b) FROM t; PRAGMA integrity_check"); }
  std::size_t staged() { return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path("staging")), {})); }

  io::PosixDisk disk_;
  Database database_;
  std::unique_ptr<test::TestDatabase> db_;
};

TEST_F(SourceTest, ImagesOfAllKindsHoldTheDatabase) {
  const std::string plain = get({});
  EXPECT_EQ(plain.substr(18, 2), "\2\2");
  EXPECT_EQ(rows_in(plain), wanted());
  const std::string in_delete_mode = get({.format = Format::DeleteImage});
  EXPECT_EQ(in_delete_mode.substr(18, 2), "\1\1");
  EXPECT_EQ(rows_in(in_delete_mode), wanted());
  EXPECT_EQ(in_delete_mode.substr(20), plain.substr(20));
  const std::string vacuumed = get({.vacuum = true});
  EXPECT_EQ(vacuumed.substr(18, 2), "\1\1");
  EXPECT_LT(vacuumed.size(), plain.size() * 3 / 4);
  EXPECT_EQ(rows_in(vacuumed), wanted());
  EXPECT_EQ(staged(), 0u);
  for (const Format format : {Format::DeleteImage, Format::Sql}) {
    const auto refused = open_source(database_, {.format = format, .vacuum = true});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().text(), "invalid backup format");
  }
}

TEST_F(SourceTest, CompressedIsTheSameUnpacked) {
  const std::string packed = get({.format = Format::DeleteImage, .compress = true});
  EXPECT_EQ(packed.substr(0, 8), std::string("\x1f\x8b\x08\0\0\0\0\0", 8));
  Gunzip gunzip;
  std::string out;
  ASSERT_TRUE(gunzip.add(packed, [&](std::string_view bytes) { out += bytes; return Result<>(); }));
  ASSERT_TRUE(gunzip.end());
  EXPECT_TRUE(out == get({.format = Format::DeleteImage}));
}

TEST_F(SourceTest, IsOneStateWhileWritesAndCheckpointsGoOn) {
  const std::string before = wanted();
  auto source = open_source(database_, {});
  ASSERT_TRUE(source);
  std::string image = (*source)->next()->bytes;
  db_->run("DELETE FROM t;PRAGMA wal_checkpoint(PASSIVE);");
  db_->run("INSERT INTO t VALUES(1,'later');");
  image += test::all_of(**source);
  EXPECT_EQ(rows_in(image), before);
}

TEST_F(SourceTest, AFullDiskEndsAVacuumAndLeavesNoFile) {
  database_.staging_dir = path("nosuch");
  auto source = open_source(database_, {.vacuum = true});
  ASSERT_TRUE(source);
  const auto piece = (*source)->next();
  ASSERT_FALSE(piece);
  EXPECT_NE(piece.error().text(), "");
}

TEST_F(SourceTest, WorkersStreamItAndDropItWhenNobodyWantsIt) {
  Workers workers(2);
  const auto pull = [](ByteSource& source) {
    std::promise<Result<Piece>> promise;
    source.next([&](Result<Piece> piece) { promise.set_value(std::move(piece)); });
    return promise.get_future().get();
  };
  auto all = stream(*open_source(database_, {}), workers);
  std::string image;
  for (bool last = false; !last;) {
    const auto piece = pull(*all);
    ASSERT_TRUE(piece);
    image += piece->bytes;
    last = piece->last;
  }
  EXPECT_EQ(rows_in(image), wanted());
  auto part = stream(*open_source(database_, {.vacuum = true}), workers);
  ASSERT_TRUE(pull(*part));
  EXPECT_EQ(staged(), 1u);
  part.reset();
  workers.stop();
  EXPECT_EQ(staged(), 0u);
  Result<Piece> late = pull(*all);
  EXPECT_EQ(late.error().code, Errc::NotOpen);
}

}  // namespace
}  // namespace rq::backup
