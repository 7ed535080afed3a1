// Dump -> load into an empty database -> dump again: both texts and both contents are the same, whatever the schema holds.
#include "backup/dump.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "backup/test_database.h"

namespace rq::backup {
namespace {

std::string dump_of(const std::string& path, const std::vector<std::string>& tables = {}) {
  auto dump = Dump::open({.path = path}, tables);
  EXPECT_TRUE(dump) << dump.error().text();
  return dump ? test::all_of(**dump) : std::string();
}

// Everything that a user can ask for, in one text: rows of all tables with types and exact values, and the schema.
std::string contents_of(const std::string& path) {
  test::TestDatabase db(path);
  std::string out = db.rows("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_autoindex%' ORDER BY 1, 2");
  for (const std::string& name : db.column("SELECT name FROM sqlite_schema WHERE type IN ('table','view') ORDER BY 1")) {
    out += "-- " + name + "\n";
    std::string columns;
    for (const std::string& column : db.column("SELECT '\"'||replace(name,'\"','\"\"')||'\"' FROM pragma_table_xinfo('" + test::doubled(name, '\'') + "')"))
      columns += (columns.empty() ? "" : ",") + ("typeof(" + column + "),hex(" + column + "),quote(" + column + ")");
    out += db.rows("SELECT " + columns + " FROM \"" + test::doubled(name, '"') + "\"");
  }
  return out + db.rows("PRAGMA integrity_check");
}

class DumpTest : public test::Directory {
 protected:
  void expect_loads_again() {
    const std::string text = dump_of(path("a"));
    {
      test::TestDatabase copy(path("b"));
      ASSERT_EQ(copy.try_run(text), "") << text;
    }
    EXPECT_EQ(contents_of(path("b")), contents_of(path("a")));
    EXPECT_EQ(dump_of(path("b")), text);
  }
};

TEST_F(DumpTest, HasTheFormOfTheReference) {
  test::TestDatabase(path("a")).run(
      "CREATE TABLE foo (id INTEGER NOT NULL PRIMARY KEY, name TEXT, age REAL, b BLOB);CREATE TABLE bar(x, y INTEGER DEFAULT 7);"
      "CREATE INDEX foo_name ON foo(name);CREATE VIEW fv AS SELECT name FROM foo;"
      "INSERT INTO foo VALUES(1,'fiona',20.5,x'0001FF'),(2,'it''s',NULL,NULL);INSERT INTO bar(x) VALUES(1);");
  const std::string bar = "CREATE TABLE bar(x, y INTEGER DEFAULT 7);\nINSERT INTO \"bar\" VALUES(1,7);\n";
  const std::string foo =
      "CREATE TABLE foo (id INTEGER NOT NULL PRIMARY KEY, name TEXT, age REAL, b BLOB);\n"
      "INSERT INTO \"foo\" VALUES(1,'fiona',20.5,X'0001FF');\nINSERT INTO \"foo\" VALUES(2,'it''s',NULL,NULL);\n";
  const std::string begin = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n";
  const std::string end = "CREATE INDEX foo_name ON foo(name);\nCREATE VIEW fv AS SELECT name FROM foo;\nCOMMIT;\n";
  EXPECT_EQ(dump_of(path("a")), begin + bar + foo + end);
  EXPECT_EQ(dump_of(path("a"), {"foo", "nosuch"}), begin + foo + end);
  EXPECT_EQ(dump_of(path("a"), {"FOO"}), begin + end);
  expect_loads_again();
}

TEST_F(DumpTest, OfNothing) {
  test::TestDatabase(path("a")).run("PRAGMA user_version=1");
  EXPECT_EQ(dump_of(path("a")), "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCOMMIT;\n");
}

TEST_F(DumpTest, ZooLoadsAgain) {
  test::TestDatabase(path("a")).run(
      // sequences of tables before and behind `sqlite_sequence`
      "CREATE TABLE ai(id INTEGER PRIMARY KEY AUTOINCREMENT, s);INSERT INTO ai(s) VALUES('a'),('b');DELETE FROM ai WHERE id=2;"
      "CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, s);INSERT INTO users VALUES(41,'x');"
      // names
      "CREATE TABLE \"quo\"\"ted 'n\"(\"a\"\"b\" INT, \"c d\" TEXT, 'e''f', [g h], \"select\");INSERT INTO \"quo\"\"ted 'n\" VALUES(1,2,3,4,5);"
      "CREATE TABLE \"tab\nline\"(x);INSERT INTO \"tab\nline\" VALUES('x');CREATE TABLE \"日本\"(\"é\");INSERT INTO \"日本\" VALUES('héllo');"
      // values
      "CREATE TABLE v(a);INSERT INTO v VALUES(9223372036854775807),(-9223372036854775807-1),(0.1),(1e300),(9e999),(-9e999),(-0.0),(2.0),"
      "(5e-324),(1.7976931348623157e308),(0.1+0.2),(''),('it''s'),(x''),(x'00ff'),(NULL),(CAST(x'610062' AS TEXT)),(CAST(x'ff80' AS TEXT)),"
      "(CAST(x'00' AS TEXT)),('line1\nline2'),(printf('%.*c',300000,'q')),(zeroblob(200000));"
      "CREATE TABLE s(i INTEGER, t TEXT, r REAL, b BLOB, x ANY) STRICT;INSERT INTO s VALUES(1,'1',1,x'01','1'),(NULL,NULL,NULL,NULL,1.0);"
      // rowids that stay only by order; an index that would be a shorter way
      "CREATE TABLE h(a,b);INSERT INTO h VALUES('z',1),('y',2),('x',3);CREATE INDEX h_ab ON h(a,b);"
      "CREATE TABLE w(a,b,PRIMARY KEY(b,a)) WITHOUT ROWID;INSERT INTO w VALUES(1,2),(2,1);"
      "CREATE TABLE g(a,b AS (a*2) STORED,c,d AS (a||c));INSERT INTO g(a,c) VALUES(1,2),(3,4);"
      "CREATE TABLE p(id INTEGER PRIMARY KEY REFERENCES q(id) ON DELETE CASCADE);CREATE TABLE q(id INTEGER PRIMARY KEY);INSERT INTO q VALUES(7);"
      "INSERT INTO p VALUES(7);CREATE TABLE c(a CHECK(a>0) DEFAULT(1+1), b COLLATE NOCASE UNIQUE);INSERT INTO c(b) VALUES('A');"
      // views and triggers, one on a view
      "CREATE VIEW vw(x,y) AS SELECT a,b FROM h WHERE b>1;CREATE VIEW vv AS SELECT x FROM vw;"
      "CREATE TRIGGER vwi INSTEAD OF INSERT ON vw BEGIN INSERT INTO h VALUES(new.x,new.y); END;"
      "CREATE TRIGGER ht AFTER INSERT ON h BEGIN INSERT INTO ft(t) VALUES(new.a); END;"
      "CREATE INDEX part ON h(b) WHERE b>1;CREATE INDEX expr ON h(a||b);"
      // virtual tables
      "CREATE VIRTUAL TABLE ft USING fts5(t);INSERT INTO ft VALUES('one two'),('it''s three');"
      "CREATE VIRTUAL TABLE \"f 4\" USING fts4(body);INSERT INTO \"f 4\" VALUES('four five');"
      "CREATE VIRTUAL TABLE rt USING rtree(id,x0,x1);INSERT INTO rt VALUES(1,0.5,2.5),(2,1,3);"
      "CREATE VIRTUAL TABLE ext USING fts5(a,content='h',content_rowid='rowid');INSERT INTO ext(ext) VALUES('rebuild');"
      "CREATE VIRTUAL TABLE voc USING fts5vocab('ft','row');"
      "ANALYZE;");
  expect_loads_again();
  test::TestDatabase copy(path("b"));
  EXPECT_EQ(copy.rows("SELECT * FROM ft WHERE ft MATCH 'three'"), "it's three\n");
  EXPECT_EQ(copy.rows("SELECT a FROM ext WHERE ext MATCH 'y'"), "y\n");
  EXPECT_EQ(copy.rows("SELECT id FROM rt WHERE x0>0.7"), "2\n");
  EXPECT_EQ(copy.rows("SELECT seq FROM sqlite_sequence ORDER BY name"), "2\n41\n");
  copy.run("INSERT INTO h VALUES('new','row');INSERT INTO ai(s) VALUES('c')");
  EXPECT_EQ(copy.rows("SELECT count(*) FROM ft WHERE ft MATCH 'new'"), "1\n");
  EXPECT_EQ(copy.rows("SELECT max(id) FROM ai"), "3\n");
  EXPECT_EQ(copy.rows("INSERT INTO ft(ft) VALUES('integrity-check')"), "");
}

TEST_F(DumpTest, WritesNoSequenceThatNothingWouldMake) {
  test::TestDatabase(path("a")).run("CREATE TABLE x(id INTEGER PRIMARY KEY AUTOINCREMENT);INSERT INTO x VALUES(1);DROP TABLE x;CREATE TABLE y(a)");
  test::TestDatabase copy(path("b"));
  copy.run(dump_of(path("a")));
  EXPECT_EQ(copy.rows("SELECT name FROM sqlite_schema"), "y\n");
}

TEST_F(DumpTest, RandomTablesLoadAgain) {
  for (unsigned seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](unsigned n) { return std::to_string(random() % n); };
    test::TestDatabase db(path("a"));
    db.run("BEGIN");
    for (int t = 0; t < 5; ++t) {
      std::string name = "\"t" + below(3) + std::string(random() % 3, '\'') + (random() % 2 ? "\"\"" : "") + std::to_string(t) + "\"";
      const auto columns = static_cast<unsigned>(1 + random() % 6);
      std::string create = "CREATE TABLE " + name + "(", values;
      for (unsigned c = 0; c < columns; ++c) {
        static const char* const kTypes[] = {"", " INT", " TEXT", " REAL", " BLOB", " NUMERIC", " VARCHAR(3) COLLATE NOCASE"};
        create += (c ? "," : "") + std::string("\"c") + (random() % 4 ? "" : "\"\"") + std::to_string(c) + "\"" + kTypes[random() % 7];
        if (c == 0 && random() % 3 == 0) create += random() % 2 ? " INTEGER PRIMARY KEY AUTOINCREMENT" : " UNIQUE";
      }
      if (create.find("AUTOINCREMENT") != std::string::npos) create = "CREATE TABLE " + name + "(id INTEGER PRIMARY KEY AUTOINCREMENT, x";
      db.run(create + ")");
      const std::size_t names = static_cast<std::size_t>(std::stol(db.rows("SELECT count(*) FROM pragma_table_info('" + test::doubled(
          db.column("SELECT name FROM sqlite_schema WHERE type='table' AND name<>'sqlite_sequence' ORDER BY rowid DESC LIMIT 1")[0], '\'') + "')")));
      for (int r = 0; r < 20; ++r) {
        values.clear();
        for (std::size_t c = 0; c < names; ++c) {
          const std::string choices[] = {"NULL", std::to_string(static_cast<int>(random())), "random()", "random()/1e9", "1e" + below(308),
                                         "randomblob(" + below(40) + ")", "CAST(randomblob(" + below(12) + ") AS TEXT)",
                                         "'" + std::string(random() % 5 * 2, '\'') + "'"};
          values += (c ? "," : "") + choices[random() % 8];
        }
        (void)db.try_run("INSERT OR IGNORE INTO " + name + " VALUES(" + values + ")");
      }
    }
    db.run("COMMIT");
    const std::string text = dump_of(path("a"));
    {
      test::TestDatabase copy(path("b"));
      ASSERT_EQ(copy.try_run(text), "") << "seed " << seed << "\n" << text;
    }
    ASSERT_EQ(contents_of(path("b")), contents_of(path("a"))) << "seed " << seed;
    clear();
  }
}

TEST_F(DumpTest, IsOneStateWhileWritesGoOn) {
  test::TestDatabase db(path("a"));
  db.run("PRAGMA journal_mode=WAL;CREATE TABLE a(x);CREATE TABLE b(x);INSERT INTO a VALUES(1);INSERT INTO b VALUES(1)");
  const std::string before = dump_of(path("a"));
  auto dump = Dump::open({.path = path("a")}, {});
  ASSERT_TRUE(dump) << dump.error().text();
  db.run("UPDATE a SET x=2;UPDATE b SET x=2;DROP TABLE b;CREATE TABLE c(x)");
  EXPECT_EQ(test::all_of(**dump), before);
}

TEST_F(DumpTest, PiecesStaySmallWhateverTheRow) {
  test::TestDatabase(path("a")).run("CREATE TABLE t(a,b);INSERT INTO t VALUES(zeroblob(3000000),printf('%.*c',3000000,''''))");
  auto dump = Dump::open({.path = path("a")}, {});
  ASSERT_TRUE(dump) << dump.error().text();
  for (bool last = false; !last;) {
    const auto piece = (*dump)->next();
    ASSERT_TRUE(piece) << piece.error().text();
    EXPECT_LE(piece->bytes.size(), kPieceBytes + 200'000);
    last = piece->last;
  }
  expect_loads_again();
}

TEST_F(DumpTest, EndsWhenCanceled) {
  test::TestDatabase(path("a")).run("CREATE TABLE t(a);WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) INSERT INTO t SELECT zeroblob(100) FROM n");
  auto dump = Dump::open({.path = path("a")}, {});
  ASSERT_TRUE((*dump)->next());
  (*dump)->cancel();
  Result<Piece> piece = (*dump)->next();
  EXPECT_TRUE(!piece && piece.error().code == Errc::Canceled);
}

TEST_F(DumpTest, FailsLoudlyOnDamage) {
  test::TestDatabase(path("a")).run("CREATE TABLE t(a);WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000) INSERT INTO t SELECT zeroblob(500) FROM n");
  test::damage(path("a"), 4096 * 100, 4096);
  auto dump = Dump::open({.path = path("a")}, {});
  ASSERT_TRUE(dump);
  Result<Piece> piece = Piece{};
  while (piece && !piece->last) piece = (*dump)->next();
  ASSERT_FALSE(piece);
  EXPECT_EQ(piece.error().code, Errc::Corrupt);
}

}  // namespace
}  // namespace rq::backup
