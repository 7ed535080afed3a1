// raw_sqlite FILE: rows a second that SQLite alone inserts (cached statement, one transaction, no sync), point reads a
// second, and scans of 1,000 rows a second, on one core: the ceiling over everything built on it.
#include <sqlite3.h>

#include <chrono>
#include <cstdio>
#include <string>

namespace {
double seconds_of(auto work) {
  const auto begun = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}
}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  for (const char* suffix : {"", "-wal", "-shm"}) std::remove((std::string(argv[1]) + suffix).c_str());
  sqlite3* db = nullptr;
  if (sqlite3_open(argv[1], &db) != SQLITE_OK) return 1;
  sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", nullptr, nullptr, nullptr);
  sqlite3_stmt* insert = nullptr;
  sqlite3_stmt* point = nullptr;
  sqlite3_stmt* scan = nullptr;
  sqlite3_prepare_v2(db, "INSERT INTO t(v) VALUES(?)", -1, &insert, nullptr);
  sqlite3_prepare_v2(db, "SELECT * FROM t WHERE id=?", -1, &point, nullptr);
  sqlite3_prepare_v2(db, "SELECT id, v FROM t WHERE id<=1000", -1, &scan, nullptr);
  constexpr int kRows = 200'000, kReads = 200'000, kScans = 2'000;
  const double inserting = seconds_of([&] {
    sqlite3_exec(db, "BEGIN", nullptr, nullptr, nullptr);
    for (int i = 0; i < kRows; ++i) {
      sqlite3_bind_text(insert, 1, "hello world", -1, SQLITE_STATIC);
      sqlite3_step(insert);
      sqlite3_reset(insert);
    }
    sqlite3_exec(db, "COMMIT", nullptr, nullptr, nullptr);
  });
  const double reading = seconds_of([&] {
    for (int i = 0; i < kReads; ++i) {
      sqlite3_bind_int(point, 1, i % 1000 + 1);
      while (sqlite3_step(point) == SQLITE_ROW) sqlite3_column_text(point, 1);
      sqlite3_reset(point);
    }
  });
  const double scanning = seconds_of([&] {
    for (int i = 0; i < kScans; ++i) {
      while (sqlite3_step(scan) == SQLITE_ROW) sqlite3_column_text(scan, 1);
      sqlite3_reset(scan);
    }
  });
  std::printf("%.0f %.0f %.0f\n", kRows / inserting, kReads / reading, kScans / scanning);
  for (sqlite3_stmt* statement : {insert, point, scan}) sqlite3_finalize(statement);
  sqlite3_close(db);
  for (const char* suffix : {"", "-wal", "-shm"}) std::remove((std::string(argv[1]) + suffix).c_str());
}
