// Statements as the reference ran them: what commits, what is rolled back, what is only reported.
#include "import/replay.h"

#include <zlib.h>

#include "import/command_reader.h"
#include "import/test_rig.h"

namespace rq::import {
namespace {

using namespace rq::import::test;

std::string gzip(const std::string& bytes) {
  std::string out(bytes.size() + 1024, '\0');
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string field(int number, const std::string& bytes) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  for (std::size_t size = bytes.size();; size >>= 7) {
    out += static_cast<char>((size & 0x7f) | (size > 0x7f ? 0x80 : 0));
    if (size <= 0x7f) return out + bytes;
  }
}

std::string command(Command::Kind kind, const std::string& body, bool compressed = false) {
  std::string out = {1 << 3, static_cast<char>(kind)};
  out += field(2, body);
  if (compressed) out += std::string{3 << 3, 1};
  return out;
}

struct Sql {
  std::string text;
  std::function<void(pb::Statement&)> more = {};
};
struct Flags {
  bool transaction = false, rollback_on_error = false;
};

class ReplayTest : public ::testing::Test {
 protected:
  ReplayTest() { open(false); }
  void open(bool foreign_keys) {
    auto opened = Replay::open({.disk = &disk_, .base_vfs = vfs_.name(), .path = "/r/db", .foreign_keys = foreign_keys});
    ASSERT_TRUE(opened) << opened.error().text();
    replay_ = *std::move(opened);
  }
  static std::string request(const std::vector<Sql>& statements, Flags flags) {
    pb::Requesting message;
    message.mutable_request()->set_transaction(flags.transaction);
    message.mutable_request()->set_rollback_on_error(flags.rollback_on_error);
    for (const Sql& sql : statements) {
      pb::Statement& statement = *message.mutable_request()->add_statements();
      statement.set_sql(sql.text);
      if (sql.more) sql.more(statement);
    }
    return message.SerializeAsString();
  }
  Result<> apply(const std::string& data, std::int64_t at_ms = 1'000'000'000'000) {
    disk_.overwrite("/log", data);
    LogEntry entry{.index = Index{++index_}, .term = Term{1}, .kind = LogEntry::Kind::Command, .appended_ms = at_ms, .data = *FileRange::whole(disk_, "/log")};
    return replay_->apply(entry, nullptr);
  }
  void execute(const std::vector<Sql>& statements, Flags flags = {}) {
    const Result<> done = apply(command(Command::Kind::Execute, request(statements, flags)));
    ASSERT_TRUE(done) << done.error().text();
  }
  void unified(const std::vector<Sql>& statements, Flags flags = {}) {
    const Result<> done = apply(command(Command::Kind::ExecuteQuery, request(statements, flags)));
    ASSERT_TRUE(done) << done.error().text();
  }
  std::uint64_t failed() const { return replay_->counts().failed; }
  // Of the committed state, as another connection sees it.
  std::string rows(const std::string& sql) {
    sqlite3* db = nullptr;
    EXPECT_EQ(sqlite3_open_v2("/r/db", &db, SQLITE_OPEN_READWRITE, vfs_.name().c_str()), SQLITE_OK);
    std::string out;
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_prepare_v2(db, sql.c_str(), -1, &statement, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
    while (sqlite3_step(statement) == SQLITE_ROW) {
      for (int i = 0; i < sqlite3_column_count(statement); ++i) {
        const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
        out += (i > 0 ? "|" : "") + std::string(text == nullptr ? "null" : text);
      }
      out += ' ';
    }
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return out;
  }

  MemoryDisk disk_;
  const DiskVfs vfs_{disk_};
  std::unique_ptr<Replay> replay_;
  std::uint64_t index_ = 0;
};

TEST_F(ReplayTest, WithoutTransactionAnErrorStopsNothing) {
  execute({{"CREATE TABLE t(a PRIMARY KEY)"}, {"INSERT INTO t VALUES(1)"}, {"INSERT INTO t VALUES(1)"}, {"INSERT INTO t VALUES(2)"}});
  EXPECT_EQ(rows("SELECT a FROM t"), "1 2 ");
  EXPECT_EQ(failed(), 1u);
  EXPECT_NE(replay_->counts().first_failure.find("UNIQUE constraint failed: t.a"), std::string::npos);
}

TEST_F(ReplayTest, ATransactionIsAllOrNothing) {
  execute({{"CREATE TABLE t(a PRIMARY KEY)"}});
  execute({{"INSERT INTO t VALUES(1)"}, {"INSERT INTO t VALUES(1)"}, {"INSERT INTO t VALUES(2)"}}, {.transaction = true});
  EXPECT_EQ(rows("SELECT a FROM t"), "");
  execute({{"INSERT INTO t VALUES(3)"}, {"INSERT INTO t VALUES(4)"}}, {.transaction = true});
  EXPECT_EQ(rows("SELECT a FROM t"), "3 4 ");
}

TEST_F(ReplayTest, AFailedCommitIsRolledBack) {
  open(true);
  execute({{"CREATE TABLE p(id PRIMARY KEY)"}, {"CREATE TABLE c(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)"}});
  execute({{"INSERT INTO c VALUES(9)"}}, {.transaction = true});
  execute({{"INSERT INTO p VALUES(1)"}});
  EXPECT_EQ(rows("SELECT * FROM c"), "");
  EXPECT_EQ(rows("SELECT * FROM p"), "1 ");
}

TEST_F(ReplayTest, ATransactionOfTheUserSpansRequests) {
  execute({{"CREATE TABLE t(a)"}, {"BEGIN"}});
  execute({{"INSERT INTO t VALUES(1)"}});
  EXPECT_EQ(rows("SELECT * FROM t"), "");
  execute({{"COMMIT"}, {"BEGIN"}, {"INSERT INTO t VALUES(2)"}});
  EXPECT_EQ(rows("SELECT * FROM t"), "1 ");
  ASSERT_TRUE(replay_->finish());
  EXPECT_EQ(rows("SELECT * FROM t"), "1 ");
  EXPECT_EQ(failed(), 1u);
}

TEST_F(ReplayTest, RollbackOnErrorEndsATransactionOfTheUser) {
  execute({{"CREATE TABLE t(a PRIMARY KEY)"}});
  execute({{"BEGIN"}, {"INSERT INTO t VALUES(1)"}, {"INSERT INTO t VALUES(1)"}, {"COMMIT"}, {"INSERT INTO t VALUES(3)"}}, {.rollback_on_error = true});
  EXPECT_EQ(rows("SELECT * FROM t"), "");
}

TEST_F(ReplayTest, AUnifiedTransactionOnlyReportsWhatDoesNotCompile) {
  execute({{"CREATE TABLE t(a PRIMARY KEY)"}});
  unified({{"INSERT INTO t VALUES(1)"}, {"INSERT INTO nope VALUES(1)"}, {"INSERT INTO t VALUES(2)"}}, {.transaction = true});
  EXPECT_EQ(rows("SELECT a FROM t"), "1 2 ");
  unified({{"INSERT INTO t VALUES(3)"}, {"INSERT INTO t VALUES(3)"}}, {.transaction = true});
  EXPECT_EQ(rows("SELECT a FROM t"), "1 2 ");
  unified({{"SELECT 1; INSERT INTO t VALUES(4)"}, {"INSERT INTO t VALUES(5)"}});    // judged by its first statement: the last one runs
  EXPECT_EQ(rows("SELECT a FROM t"), "1 2 4 5 ");
}

TEST_F(ReplayTest, AllStatementsOfATextAreRunUntilOneFails) {
  execute({{"CREATE TABLE t(a PRIMARY KEY); INSERT INTO t VALUES(1);; INSERT INTO t VALUES(2); -- the end"}});
  execute({{"INSERT INTO t VALUES(3); INSERT INTO t VALUES(3); INSERT INTO t VALUES(4)"}});
  EXPECT_EQ(rows("SELECT a FROM t"), "1 2 3 ");
}

TEST_F(ReplayTest, OfATextWithReturningOnlyTheLastStatementIsRun) {
  const auto returning = [](pb::Statement& statement) { statement.set_force_query(true); };
  execute({{"CREATE TABLE t(a)"}, {"INSERT INTO t VALUES(1) RETURNING a", returning}, {"INSERT INTO t VALUES(2); INSERT INTO t VALUES(3) RETURNING a", returning}});
  EXPECT_EQ(rows("SELECT a FROM t"), "1 3 ");
}

TEST_F(ReplayTest, BindsEveryKindOfParameter) {
  execute({{"CREATE TABLE t(a, b, c, d, e, f)"},
           {"INSERT INTO t VALUES(?, ?, ?, ?, ?, ?)", [](pb::Statement& statement) {
              statement.add_parameters()->set_integer(-5);
              statement.add_parameters()->set_real(1.5);
              statement.add_parameters()->set_boolean(true);
              statement.add_parameters()->set_blob(std::string("\0\xff", 2));
              statement.add_parameters()->set_text("it's");
              statement.add_parameters();
            }},
           {"INSERT INTO t(a, b) VALUES($name, :name)", [](pb::Statement& statement) {
              for (const char* name : {"name", "other"}) {
                auto* parameter = statement.add_parameters();
                parameter->set_name(name);
                parameter->set_text("x");
              }
            }},
           {"INSERT INTO t(a, b) VALUES(?, ?)", [](pb::Statement& statement) { statement.add_parameters()->set_integer(1); }},
           {"INSERT INTO t(a, b) VALUES(?, ?)"}});
  EXPECT_EQ(rows("SELECT quote(a), quote(b), quote(c), quote(d), quote(e), quote(f) FROM t"),
            "-5|1.5|1|X'00FF'|'it''s'|NULL 'x'|'x'|NULL|NULL|NULL|NULL NULL|NULL|NULL|NULL|NULL|NULL ");
  EXPECT_EQ(failed(), 1u);     // too few values; none at all are NULLs
}

TEST_F(ReplayTest, SeesTheTimeOfTheEntry) {
  execute({{"CREATE TABLE t(a, b DEFAULT CURRENT_TIMESTAMP)"}, {"INSERT INTO t(a) VALUES(datetime('now'))"}});
  EXPECT_EQ(rows("SELECT * FROM t"), "2001-09-09 01:46:40|2001-09-09 01:46:40 ");
}

TEST_F(ReplayTest, ObeysTheMarkOfCompression) {
  ASSERT_TRUE(apply(command(Command::Kind::Execute, gzip(request({{"CREATE TABLE t(a)"}, {"INSERT INTO t VALUES(7)"}}, {})), true)));
  EXPECT_EQ(rows("SELECT * FROM t"), "7 ");
  const auto wrong = apply(command(Command::Kind::Execute, request({{"INSERT INTO t VALUES(7)"}}, {}), true));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, Errc::Corrupt);
}

TEST_F(ReplayTest, TouchesNoOtherFile) {
  execute({{"CREATE TABLE t(a)"}, {"ATTACH '/elsewhere/x.db' AS x"}, {"VACUUM INTO '/elsewhere/y.db'"}, {"ATTACH ':memory:' AS m"}, {"CREATE TABLE m.n(a)"}, {"VACUUM"}});
  EXPECT_EQ(failed(), 2u);
  EXPECT_FALSE(disk_.exists("/elsewhere").value_or(true));
}

TEST_F(ReplayTest, ReadsAndOtherEntriesDoNothing) {
  execute({{"CREATE TABLE t(a)"}});
  ASSERT_TRUE(apply(command(Command::Kind::Query, request({{"INSERT INTO t VALUES(1)"}}, {}))));
  ASSERT_TRUE(apply(command(Command::Kind::Noop, "\x0a\x02id")));
  ASSERT_TRUE(replay_->apply({.index = Index{50}, .term = Term{1}, .kind = LogEntry::Kind::Barrier, .appended_ms = {}, .data = {}}, nullptr));
  EXPECT_EQ(rows("SELECT * FROM t"), "");
}

std::string image_with(const std::string& sql) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open_v2("/i/db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs.name().c_str()), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
  sqlite3_close(db);
  return disk.contents("/i/db");
}

TEST_F(ReplayTest, ALoadReplacesEverything) {
  execute({{"CREATE TABLE t(a)"}});
  ASSERT_TRUE(apply(command(Command::Kind::Load, gzip(field(1, image_with("PRAGMA page_size=1024; CREATE TABLE u(b); INSERT INTO u VALUES(1)"))))));
  execute({{"INSERT INTO u VALUES(2)"}, {"INSERT INTO t VALUES(1)"}});
  EXPECT_EQ(rows("SELECT * FROM u"), "1 2 ");
  EXPECT_EQ(failed(), 1u);
  EXPECT_EQ(replay_->counts().loads, 1u);
}

TEST_F(ReplayTest, ALoadOfSomethingElseIsRefusedAndOfADamagedDatabaseEndsIt) {
  execute({{"CREATE TABLE t(a)"}});
  ASSERT_TRUE(apply(command(Command::Kind::Load, gzip(field(1, "no database")))));
  ASSERT_TRUE(apply(command(Command::Kind::Load, gzip(""))));
  EXPECT_EQ(failed(), 2u);
  execute({{"INSERT INTO t VALUES(1)"}});
  EXPECT_EQ(rows("SELECT * FROM t"), "1 ");
  std::string image = image_with("CREATE TABLE u(b); INSERT INTO u VALUES(zeroblob(9000))");
  for (std::size_t i = 4096; i < 4196; ++i) image[i] = '\x55';
  const auto damaged = apply(command(Command::Kind::Load, gzip(field(1, image))));
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, Errc::Corrupt);
}

TEST_F(ReplayTest, ALoadThatIsCutShortIsDamage) {
  const std::string image = image_with("CREATE TABLE u(b)");
  const std::string whole = gzip(field(1, image));
  for (const std::string& body : {whole.substr(0, whole.size() - 9), gzip(field(1, image).substr(0, 3000)), gzip("\x12\x01x"), std::string("plain")}) {
    const auto cut = apply(command(Command::Kind::Load, body));
    ASSERT_FALSE(cut);
    EXPECT_EQ(cut.error().code, Errc::Corrupt);
  }
}

class ChunkTest : public ReplayTest {
 protected:
  Result<> chunk(const std::string& stream, std::int64_t number, const std::string& data, bool last, bool abort = false) {
    pb::LoadChunk message;
    message.set_stream_id(stream);
    message.set_sequence_number(number);
    if (!data.empty()) message.set_data(gzip(data));
    message.set_is_last(last);
    message.set_abort(abort);
    return apply(command(Command::Kind::LoadChunk, message.SerializeAsString()));
  }
  const std::string image_ = image_with("CREATE TABLE u(b); INSERT INTO u VALUES(1)");
};

TEST_F(ChunkTest, PiecesMakeALoad) {
  ASSERT_TRUE(chunk("s", 1, image_.substr(0, 3000), false));
  ASSERT_TRUE(chunk("other", 1, "abc", false));
  ASSERT_TRUE(chunk("s", 2, image_.substr(3000), false));
  ASSERT_TRUE(chunk("s", 3, "", true));
  EXPECT_EQ(rows("SELECT * FROM u"), "1 ");
  ASSERT_TRUE(replay_->finish());
  const auto names = disk_.list("/r");
  ASSERT_TRUE(names);
  for (const std::string& name : *names) EXPECT_EQ(name.find("stream"), std::string::npos) << name;
}

TEST_F(ChunkTest, AbortedAndIncompleteStreamsComeToNothing) {
  execute({{"CREATE TABLE t(a)"}});
  ASSERT_TRUE(chunk("a", 1, image_.substr(0, 3000), false));
  ASSERT_TRUE(chunk("a", 2, "", false, true));
  ASSERT_TRUE(chunk("b", 2, image_.substr(3000), true));     // its beginning is not in the log any more
  execute({{"INSERT INTO t VALUES(1)"}});
  EXPECT_EQ(rows("SELECT * FROM t"), "1 ");
}

}  // namespace
}  // namespace rq::import
