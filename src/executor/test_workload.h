// Random requests over a schema that holds everything by which one statement could reach into another.
#pragma once

#include <string>
#include <vector>

#include "executor/test_rig.h"

namespace rq::executor::test {

inline const std::vector<std::string> kSchema = {
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE, w)",
    "CREATE TABLE r(id INTEGER PRIMARY KEY, v UNIQUE ON CONFLICT ROLLBACK)",
    "CREATE TABLE f(id INTEGER PRIMARY KEY, v UNIQUE ON CONFLICT FAIL)",
    "CREATE TABLE p(id INTEGER PRIMARY KEY)",
    "CREATE TABLE d(pid REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED, x)",
    "CREATE TABLE i(pid REFERENCES p(id) ON DELETE CASCADE, x)",
    "CREATE TABLE k(k TEXT PRIMARY KEY, n) WITHOUT ROWID",
    "CREATE TABLE log(id INTEGER PRIMARY KEY, what, a, b, c)",
    "CREATE TRIGGER t1 AFTER INSERT ON t BEGIN INSERT INTO log(what,a,b,c) VALUES('t',changes(),total_changes(),last_insert_rowid());"
    " INSERT INTO log(what,a,b) VALUES('t2',changes(),last_insert_rowid()); END",
    "CREATE TRIGGER t2 BEFORE UPDATE ON t WHEN new.w=3 BEGIN SELECT RAISE(ROLLBACK,'three'); END",
    "CREATE TRIGGER t3 BEFORE UPDATE ON t WHEN new.w=4 BEGIN SELECT RAISE(FAIL,'four'); END",
    "CREATE TRIGGER t4 BEFORE UPDATE ON t WHEN new.w=5 BEGIN SELECT RAISE(ABORT,'five'); END",
    "CREATE TRIGGER t5 AFTER DELETE ON k BEGIN INSERT OR ROLLBACK INTO r(v) VALUES(old.n); END",
};

class Workload {
 public:
  explicit Workload(std::uint64_t seed) : rng_(seed) {}
  std::uint64_t below(std::uint64_t bound) { return rng_.below(bound); }

  std::string statement() {
    const std::string n = std::to_string(below(9));
    const std::string m = std::to_string(below(9));
    switch (below(34)) {
      case 0: return "INSERT INTO t(v,w) VALUES(" + n + "," + m + ")";
      case 1: return "INSERT INTO t(v,w) SELECT " + n + "+id, " + m + " FROM t LIMIT 3";
      case 2: return "INSERT OR IGNORE INTO t(v) VALUES(" + n + "),(" + m + ")";
      case 3: return "INSERT OR REPLACE INTO t(v,w) VALUES(" + n + "," + m + ")";
      case 4: return "INSERT OR ROLLBACK INTO t(v) VALUES(" + n + ")";
      case 5: return "INSERT OR FAIL INTO t(v) VALUES(" + n + "),(" + m + "),(1)";
      case 6: return "INSERT INTO t(v) VALUES(" + n + ") ON CONFLICT(v) DO UPDATE SET w=" + m;
      case 7: return "INSERT INTO t(v,w) VALUES(" + n + "0," + m + ") RETURNING id, v";
      case 8: return "UPDATE t SET w=" + n + " WHERE v>" + m;
      case 9: return "UPDATE t SET w=w+1 WHERE id%3=" + std::to_string(below(3)) + " RETURNING id,w";
      case 10: return "DELETE FROM t WHERE v=" + n;
      case 11: return "DELETE FROM t";
      case 12: return "INSERT INTO r(v) VALUES(" + n + ")";
      case 13: return "INSERT INTO f(v) VALUES(" + n + "),(" + m + ")";
      case 14: return "INSERT INTO p VALUES(" + n + ")";
      case 15: return "DELETE FROM p WHERE id=" + n;
      case 16: return "INSERT INTO d VALUES(" + n + ",1)";
      case 17: return "INSERT INTO i VALUES(" + n + ",1)";
      case 18: return "INSERT OR REPLACE INTO k VALUES('" + n + "'," + m + ")";
      case 19: return "DELETE FROM k WHERE k='" + n + "'";
      case 20: return "INSERT INTO log(what,a,b,c) SELECT 'x',changes(),total_changes(),last_insert_rowid()";
      case 21: return "SELECT count(*) FROM t";
      case 22: return "SELECT abs(-9223372036854775808)";
      case 23: return "UPDATE f SET v=abs(-9223372036854775808) WHERE id>2";
      case 24: return "INSERT INTO nope VALUES(1)";
      case 25: return "nonsense";
      case 26: return "CREATE TABLE IF NOT EXISTS x" + n + "(a)";
      case 27: return "DROP TABLE IF EXISTS x" + n;
      case 28: return "INSERT INTO x" + n + " VALUES(" + m + ")";
      case 29: return below(4) == 0 ? "PRAGMA foreign_keys=" + std::to_string(below(2)) : "PRAGMA user_version=" + n;
      case 30: return "-- nothing";
      default: return control();
    }
  }
  std::string control() {
    static const char* const kControls[] = {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "SAVEPOINT b", "RELEASE a", "RELEASE b",
                                            "ROLLBACK TO a", "ROLLBACK TO b", "END", "BEGIN IMMEDIATE", "SAVEPOINT A"};
    return kControls[below(std::size(kControls))];
  }
  std::string text() {
    std::string sql = statement();
    while (below(5) == 0) sql += "; " + statement();
    if (below(6) == 0) sql += ";";
    if (below(12) == 0) sql += " -- tail";
    return sql;
  }
  pb::Request request() {
    std::vector<std::string> statements;
    const bool user_transaction = below(4) == 0;
    if (user_transaction) statements.push_back(below(2) ? "BEGIN" : "SAVEPOINT a");
    for (std::uint64_t n = 1 + below(5); n > 0; --n) statements.push_back(text());
    if (user_transaction && below(8) != 0) statements.push_back(below(3) ? "COMMIT" : "ROLLBACK");
    const auto kind = below(3) == 0 ? pb::Request::REQUEST : pb::Request::EXECUTE;
    auto request = make(kind, statements, {below(4) == 0});
    if (below(30) == 0) request.set_timed_out_unit(static_cast<std::uint32_t>(1 + below(statements.size())));
    return request;
  }

 private:
  rq::test::SeededRng rng_;
};

}  // namespace rq::executor::test
