// Images and texts as clients send them, whole and broken in every way we could think of; nothing is left behind.
#include "backup/upload.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "backup/test_database.h"
#include "io/posix_disk.h"

namespace rq::backup {
namespace {

std::string gzip(const std::string& bytes) {
  std::string out(bytes.size() + 1000, '\0');
  z_stream z{};
  deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

class UploadTest : public test::Directory {
 protected:
  void SetUp() override {
    Directory::SetUp();
    options_ = {.disk = &disk_, .staging_dir = dir_, .name = "load-1"};
  }
  Result<Received> send(const std::string& bytes, std::size_t piece = 1000) {
    Upload upload(options_);
    for (std::size_t at = 0; at < bytes.size(); at += piece) RQ_CHECK(upload.write(std::string_view(bytes).substr(at, piece)));
    return upload.finish();
  }
  std::string error(const std::string& bytes, std::size_t piece = 1000) {
    const Result<Received> received = send(bytes, piece);
    EXPECT_TRUE(files().empty()) << files()[0];
    return received ? "none" : received.error().text();
  }
  std::string image(const char* mode = "DELETE", const std::string& more = "") {
    {
      test::TestDatabase db(path("made"));
      db.run("PRAGMA page_size=1024;CREATE TABLE t(a INTEGER PRIMARY KEY,b);CREATE INDEX tb ON t(b);"
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<500) INSERT INTO t SELECT i, 'row '||i FROM n;" + more);
      db.rows(std::string("PRAGMA journal_mode=") + mode);
    }
    const std::string out = test::read_all(path("made"));
    clear();
    return out;
  }
  io::PosixDisk disk_;
  UploadOptions options_;
};

TEST_F(UploadTest, StagesImagesInWalModeWithTheirDigest) {
  for (const char* mode : {"DELETE", "WAL"}) {
    const std::string sent = image(mode);
    EXPECT_EQ(sent[18], mode[0] == 'W' ? 2 : 1);
    for (const std::size_t piece : {1u, 19u, 50u, 1000u, 1'000'000u}) {
      const auto received = send(sent, piece);
      ASSERT_TRUE(received) << received.error().text();
      EXPECT_TRUE(received->is_image);
      EXPECT_EQ(files(), std::vector<std::string>{"load-1"});
      const std::string staged = test::read_all(path("load-1"));
      std::string wanted = sent;
      wanted[18] = wanted[19] = 2;
      EXPECT_TRUE(staged == wanted);
      EXPECT_EQ(received->bytes, staged.size());
      EXPECT_EQ(received->digest, Digest::of(staged));
      clear();
    }
  }
}

TEST_F(UploadTest, TakesTextUpToItsLimit) {
  for (const std::string text : {"", "SELECT 1", "SQLite format", "SQLite forma, longer than an image must be to be one"}) {
    const auto received = send(text, 3);
    ASSERT_TRUE(received);
    EXPECT_FALSE(received->is_image);
    EXPECT_EQ(received->sql, text);
  }
  options_.sql_bytes_max = 1u << 20;
  EXPECT_EQ(error(std::string(1u << 20, 'x')), "none");
  EXPECT_EQ(error(std::string((1u << 20) + 1, 'x')), "SQL text is longer than 1 MiB: load an SQLite file instead, or split the text");
}

TEST_F(UploadTest, RefusesDamagedImages) {
  const std::string good = image();
  ASSERT_EQ(good.size() % 1024, 0u);
  EXPECT_EQ(error(good.substr(0, 20)), "invalid SQLite data: the file has only 20 bytes");
  EXPECT_EQ(error(good.substr(0, 10 * 1024)).substr(0, 60), "invalid SQLite data: the file has 10240 bytes, its header sa");
  EXPECT_EQ(error(good.substr(0, good.size() - 1)).substr(0, 20), "invalid SQLite data:");
  EXPECT_EQ(error(good + std::string(1024, '\0')).substr(0, 20), "invalid SQLite data:");
  for (std::size_t page = 1; page <= good.size() / 1024; ++page) {
    std::string bad = good;
    for (std::size_t i = (page - 1) * 1024 + (page == 1 ? 100 : 0); i < page * 1024; ++i) bad[i] = static_cast<char>(i * 31 + 7);
    EXPECT_EQ(error(bad).substr(0, 20), "invalid SQLite data:") << page;
  }
  for (const auto& [at, value] : std::vector<std::pair<std::size_t, char>>{{15, 'x'}, {16, 3}, {17, 1}, {18, 3}, {21, 0}}) {
    std::string bad = good;
    bad[at] = value;
    EXPECT_EQ(error(bad).substr(0, 19), "invalid SQLite data") << at;
  }
}

TEST_F(UploadTest, RowsThatBreakAConstraintAreNoDamage) {
  const std::string sent = image("DELETE",
                                 "CREATE TABLE c(a CHECK(a>0), b INT);PRAGMA ignore_check_constraints=ON;INSERT INTO c VALUES(-1,NULL);"
                                 "PRAGMA writable_schema=ON;UPDATE sqlite_schema SET sql='CREATE TABLE c(a CHECK(a>0), b INT NOT NULL)' WHERE name='c';"
                                 "INSERT INTO sqlite_schema VALUES('table','gone','gone',0,'CREATE VIRTUAL TABLE gone USING nosuchmodule(a)');");
  const auto received = send(sent);
  EXPECT_TRUE(received) << received.error().text();
}

TEST_F(UploadTest, UnpacksGzip) {
  const std::string sent = image();
  options_.gzip = true;
  for (const std::size_t piece : {1u, 500u, 1'000'000u}) {
    const auto received = send(gzip(sent), piece);
    ASSERT_TRUE(received) << received.error().text();
    EXPECT_EQ(received->bytes, sent.size());
    clear();
  }
  EXPECT_EQ(send(gzip("CREATE TABLE t(a);") + gzip("CREATE TABLE u(a);"))->sql, "CREATE TABLE t(a);CREATE TABLE u(a);");
  EXPECT_EQ(send(gzip(std::string(3'000'000, 'x')))->sql.size(), 3'000'000u);
  EXPECT_EQ(error("SELECT 1"), "invalid gzip data");
  EXPECT_EQ(error(gzip(sent).substr(0, 5000)), "invalid gzip data: its end is missing");
  EXPECT_EQ(error(gzip(sent) + "tail"), "invalid gzip data");
}

TEST_F(UploadTest, WhatTakesOnlyImagesSaysWhyAsSoonAsItKnows) {
  options_.images_only = true;
  EXPECT_EQ(error(""), "EOF");
  EXPECT_EQ(error(image().substr(0, 31)), "EOF");
  EXPECT_EQ(error("not a database, but long enough to have a header"), "invalid SQLite data");
  Upload upload(options_);
  EXPECT_FALSE(upload.write(std::string(32, 'x')));
  EXPECT_TRUE(send(image()));
}

TEST_F(UploadTest, LeavesNothingWhenItIsDroppedOrCanceled) {
  const std::string sent = image();
  {
    Upload upload(options_);
    ASSERT_TRUE(upload.write(sent));
    EXPECT_EQ(files().size(), 1u);
    EXPECT_EQ(upload.received(), sent.size());
    upload.cancel();
    EXPECT_EQ(upload.finish().error().code, Errc::Canceled);
  }
  EXPECT_TRUE(files().empty());
}

}  // namespace
}  // namespace rq::backup
