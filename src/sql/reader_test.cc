// What a read connection answers, and what it refuses: spec http-api sections 6 to 9, 11.
#include "sql/reader.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <fstream>

namespace rq::sql {
namespace {

class StillClock final : public Clock {
 public:
  SteadyTime now() const override { return SteadyTime(std::chrono::hours(1)) + std::chrono::nanoseconds(step_ * ++reads_); }
  WallTime wall() const override { return WallTime(std::chrono::hours(24 * 365 * 50)); }
  void step(std::int64_t nanoseconds) { step_ = nanoseconds; }

 private:
  std::int64_t step_ = 0;
  mutable std::int64_t reads_ = 0;
};

class ReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path = ::testing::TempDir() + "reader-" + std::to_string(::getpid()) + ".sqlite";
    remove();
    ASSERT_EQ(sqlite3_open(path.c_str(), &writer), SQLITE_OK);
    write("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, weight REAL, data BLOB, flag BOOLEAN, born DATE, any);"
          "INSERT INTO t VALUES(1, 'ann', 1.5, x'0102ff', 1, '2020-01-02', 'x'), (2, NULL, -0.25, NULL, 0, NULL, 7);"
          "CREATE TABLE other(id INTEGER, label TEXT); INSERT INTO other VALUES(1, 'one')");
    reopen();
  }
  void TearDown() override {
    reader.reset();
    sqlite3_close(writer);
    remove();
  }
  void remove() {
    for (const char* suffix : {"", "-wal", "-shm"}) ::unlink((path + suffix).c_str());
  }
  void reopen() {
    reader.reset();
    auto opened = Reader::open({.path = path, .vfs = {}, .clock = &clock, .foreign_keys = true, .on_damage = [this] { ++damages; }});
    ASSERT_TRUE(opened) << opened.error().text();
    reader = *std::move(opened);
  }
  void write(const std::string& sql) {
    char* why = nullptr;
    EXPECT_EQ(sqlite3_exec(writer, sql.c_str(), nullptr, nullptr, &why), SQLITE_OK) << (why ? why : "");
    sqlite3_free(why);
  }

  static pb::Request request(const std::vector<std::string>& statements, std::uint32_t render = 0) {
    pb::Request out;
    out.set_kind(pb::Request::QUERY);
    out.set_render(render);
    for (const std::string& sql : statements) out.add_statements()->set_sql(sql);
    return out;
  }
  std::string ask(const pb::Request& what, const Reader::RunOptions& options = {}) {
    outcome = {};
    ran = reader->run(what, outcome, options);
    return outcome.error.empty() ? outcome.results : "!" + outcome.error;
  }
  std::string ask(const std::string& sql, std::uint32_t render = 0) { return ask(request({sql}, render)); }
  bool refuses(const std::string& sql) { return ask(sql).find("\"error\"") != std::string::npos; }

  std::string path;
  sqlite3* writer = nullptr;
  StillClock clock;
  std::unique_ptr<Reader> reader;
  command::Outcome outcome;
  Reader::Ran ran = Reader::Ran::Done;
  int damages = 0;
};

TEST_F(ReaderTest, ShowsValuesByTheTypesOfTheirColumns) {
  EXPECT_EQ(ask("SELECT id, name, weight, data, flag, born FROM t ORDER BY id"),
            R"({"columns":["id","name","weight","data","flag","born"],"types":["integer","text","real","blob","boolean","date"],)"
            R"("values":[[1,"ann",1.5,"AQL/",true,"2020-01-02T00:00:00Z"],[2,null,-0.25,null,false,null]]})");
  EXPECT_EQ(ask("SELECT data FROM t", command::kBlobArray), R"({"columns":["data"],"types":["blob"],"values":[[[1,2,255]],[null]]})");
  EXPECT_EQ(ask("SELECT any, 1.5 AS f, x'41' AS b, NULL AS n FROM t WHERE id = 2"),
            R"({"columns":["any","f","b","n"],"types":["integer","real","text",""],"values":[[7,1.5,"A",null]]})");
  EXPECT_EQ(ask("SELECT * FROM other WHERE 0"), R"({"columns":["id","label"],"types":["integer","text"]})");
}

TEST_F(ReaderTest, ShowsRowsAsObjectsAndColumnsWithTheirTables) {
  EXPECT_EQ(ask("SELECT id, name FROM t ORDER BY id", command::kAssociative),
            R"({"types":{"id":"integer","name":"text"},"rows":[{"id":1,"name":"ann"},{"id":2,"name":null}]})");
  EXPECT_EQ(ask("SELECT t.id, other.id FROM t JOIN other USING(id)", command::kQualifyColumns),
            R"({"columns":["t.id","other.id"],"types":["integer","integer"],"values":[[1,1]]})");
  clock.step(500'000);
  EXPECT_NE(ask("SELECT 1", command::kTimings).find(",\"time\":0.0005"), std::string::npos) << outcome.results;
}

TEST_F(ReaderTest, RunsOnlyTheLastOfSeveralAndNothingOfNothing) {
  EXPECT_EQ(ask("SELECT 1; SELECT 2 AS two"), R"({"columns":["two"],"types":["integer"],"values":[[2]]})");
  EXPECT_EQ(ask(request({" ; -- nothing", "SELECT 3 AS three"})), R"({},{"columns":["three"],"types":["integer"],"values":[[3]]})");
}

TEST_F(ReaderTest, RefusesWhatWritesOrReachesBeyondTheRequest) {
  const std::string refused = "attempt to change database via query operation";
  for (const char* sql : {"INSERT INTO other VALUES(2, 'two')", "DELETE FROM t", "CREATE TABLE x(a)", "CREATE TEMP TABLE x(a)", "CREATE TEMP VIEW x AS SELECT 1",
                          "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "VACUUM"})
    EXPECT_NE(ask(sql).find(refused), std::string::npos) << sql << ": " << outcome.results;
  for (const char* sql : {"ATTACH ':memory:' AS x", "SELECT load_extension('x')", "SELECT * FROM sqlite_dbpage", "PRAGMA journal_mode=DELETE", "PRAGMA wal_checkpoint",
                          "PRAGMA cache_size=1000000", "PRAGMA writable_schema=1", "nonsense"})
    EXPECT_TRUE(refuses(sql)) << sql << ": " << outcome.results;
  EXPECT_EQ(outcome.failed, 1u);
  EXPECT_EQ(ask("SELECT count(*) AS n FROM other"), R"({"columns":["n"],"types":["integer"],"values":[[1]]})");
}

TEST_F(ReaderTest, NothingOutlivesARequest) {
  EXPECT_EQ(ask("PRAGMA foreign_keys"), R"({"columns":["foreign_keys"],"types":["integer"],"values":[[1]]})");
  EXPECT_EQ(ask(request({"PRAGMA foreign_keys=0", "PRAGMA foreign_keys"})), R"({},{"columns":["foreign_keys"],"types":["integer"],"values":[[0]]})");
  EXPECT_EQ(ask("PRAGMA foreign_keys"), R"({"columns":["foreign_keys"],"types":["integer"],"values":[[1]]})");
  EXPECT_EQ(ask("BEGIN"), "{}");
  EXPECT_FALSE(reader->connection().in_transaction());
}

TEST_F(ReaderTest, ATransactionSeesOneState) {
  pb::Request two = request({"SELECT count(*) AS n FROM other", "SELECT count(*) AS n FROM other"});
  two.set_transaction(true);
  EXPECT_EQ(ask(two), R"({"columns":["n"],"types":["integer"],"values":[[1]]},{"columns":["n"],"types":["integer"],"values":[[1]]})");
  ASSERT_TRUE(reader->begin_snapshot());
  write("INSERT INTO other VALUES(2, 'two')");
  EXPECT_EQ(ask(request({"SELECT count(*) AS n FROM other"}), {.keep_transaction = true}), R"({"columns":["n"],"types":["integer"],"values":[[1]]})");
  reader->end_snapshot();
  EXPECT_EQ(ask("SELECT count(*) AS n FROM other"), R"({"columns":["n"],"types":["integer"],"values":[[2]]})");
}

constexpr const char* kLong = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT count(*) FROM n";

TEST_F(ReaderTest, StopsInTime) {
  clock.step(1'000'000);                         // each look at the clock is a millisecond later
  pb::Request slow = request({kLong, "SELECT 1"});
  slow.set_db_timeout_ns(50'000'000);
  EXPECT_EQ(ask(slow), R"({"error":"query timeout"},{"error":"query timeout"})");
  EXPECT_EQ(outcome.failed, 2u);
  slow.set_db_timeout_ns(10);
  EXPECT_EQ(ask(slow)[0], '!');
}

TEST_F(ReaderTest, GivesALongStatementUpAndRemembersIt) {
  const pb::Request slow = request({kLong});
  EXPECT_FALSE(reader->known_long(slow));
  EXPECT_EQ(ask(slow, {.max_steps = 20'000}), "");
  EXPECT_EQ(ran, Reader::Ran::Exceeded);
  EXPECT_TRUE(reader->known_long(slow));
  EXPECT_FALSE(reader->known_long(request({"SELECT 1"})));
}

TEST_F(ReaderTest, EndsWhenItIsCanceled) {
  struct Always final : Cancellation {
    bool canceled() const override { return true; }
  } always;
  EXPECT_NE(ask(request({kLong}), {.cancellation = &always}).find("\"error\""), std::string::npos);
}

TEST_F(ReaderTest, KnowsWhatMayRunOnAReadConnection) {
  const auto access = [&](const std::vector<std::string>& statements) { return reader->classify(request(statements)); };
  EXPECT_EQ(access({"SELECT 1", "EXPLAIN DELETE FROM t", " -- nothing", "PRAGMA table_info(t)"}), Access::Reads);
  for (const char* sql : {"INSERT INTO other VALUES(3, 'x')", "SELECT 1; DELETE FROM t", "BEGIN", "SAVEPOINT a", "PRAGMA foreign_keys=1", "nonsense", "SELECT * FROM missing"})
    EXPECT_EQ(access({"SELECT 1", sql}), Access::Writes) << sql;
}

TEST_F(ReaderTest, BindsParametersAndSaysWhichIsMissing) {
  pb::Request what = request({"SELECT name FROM t WHERE id = ?"});
  what.mutable_statements(0)->add_parameters()->mutable_value()->set_integer(1);
  EXPECT_EQ(ask(what), R"({"columns":["name"],"types":["text"],"values":[["ann"]]})");
  EXPECT_NE(ask("SELECT name FROM t WHERE id = ?").find("\"error\""), std::string::npos);
}

TEST_F(ReaderTest, TellsOfADamagedFile) {
  write("PRAGMA wal_checkpoint(TRUNCATE)");
  reader.reset();
  sqlite3_close(writer);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);                            // the root of t
    file << std::string(4096, '\xff');
  }
  ASSERT_EQ(sqlite3_open(path.c_str(), &writer), SQLITE_OK);
  reopen();
  EXPECT_NE(ask("SELECT * FROM t").find("malformed"), std::string::npos) << outcome.results;
  EXPECT_EQ(damages, 1);
}

}  // namespace
}  // namespace rq::sql
