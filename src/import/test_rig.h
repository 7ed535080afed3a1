// Data directories of the reference on a MemoryDisk, for tests: unpacked, imported, compared with what the reference dumped.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "import/import.h"
#include "import/input.h"
#include "import/placement.h"
#include "io/posix_disk.h"
#include "support/disk_vfs.h"
#include "support/memory_disk.h"

namespace rq::import::test {

using rq::test::DiskVfs;
using rq::test::MemoryDisk;
using rq::test::SeededRng;

inline const std::vector<std::string> kFixtures = {"v10-clean", "v10-crash", "v10-load", "v10-logonly", "v10-reap", "v9-crash", "v7-crash"};

using Files = std::map<std::string, std::string>;    // path below the data directory -> contents

// The files of tests/import/NAME.tar.gz (ustar; only what our fixtures use).
inline Files fixture(const std::string& name) {
  io::PosixDisk disk;
  const std::string path = std::string(RQ_IMPORT_FIXTURES) + "/" + name + ".tar.gz";
  const auto range = FileRange::whole(disk, path);
  EXPECT_TRUE(range) << path;
  const auto input = gunzip(input_of(*range), path);
  const Result<std::string> tar = read_all(*input, 64u << 20, path);
  EXPECT_TRUE(tar) << tar.error().text();
  Files files;
  for (std::size_t at = 0; at + 512 <= tar->size() && (*tar)[at] != '\0';) {
    const std::string entry(tar->c_str() + at);
    const std::size_t size = std::stoul(tar->substr(at + 124, 11), nullptr, 8);
    const char type = (*tar)[at + 156];
    if (type == '0' || type == '\0') files[entry.substr(entry.find(name + "/") + name.size() + 1)] = tar->substr(at + 512, size);
    at += 512 + (size + 511) / 512 * 512;
  }
  EXPECT_FALSE(files.empty());
  return files;
}

inline std::string expected_sql(const std::string& name) {
  io::PosixDisk disk;
  const auto text = io::read_file(disk, std::string(RQ_IMPORT_FIXTURES) + "/" + name + ".expected.sql", 16u << 20);
  EXPECT_TRUE(text);
  return text.value_or("");
}

inline void put(MemoryDisk& disk, const std::string& dir, const Files& files) {
  for (const auto& [path, contents] : files) disk.overwrite(dir + "/" + path, contents);
}

// Everything a dump would show, one line for each object and each row.
using Lines = std::multiset<std::string>;

// Tells the first few lines that differ.
inline ::testing::AssertionResult same(const Lines& got, const Lines& wanted) {
  if (got == wanted) return ::testing::AssertionSuccess();
  auto result = ::testing::AssertionFailure() << got.size() << " lines, wanted " << wanted.size();
  int shown = 0;
  for (const auto& line : wanted)
    if (!got.contains(line) && shown++ < 3) result << "\nmissing: " << line.substr(0, 100);
  for (const auto& line : got)
    if (!wanted.contains(line) && shown++ < 6) result << "\ntoo much: " << line.substr(0, 100);
  return result;
}

inline Lines lines_of(sqlite3* db) {
  Lines lines;
  const auto each = [db](const std::string& sql, auto take) {
    sqlite3_stmt* statement = nullptr;
    ASSERT_EQ(sqlite3_prepare_v2(db, sql.c_str(), -1, &statement, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
    while (sqlite3_step(statement) == SQLITE_ROW) take(statement);
    ASSERT_EQ(sqlite3_finalize(statement), SQLITE_OK) << sqlite3_errmsg(db);
  };
  const auto text = [](sqlite3_stmt* statement, int column) {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
    return bytes == nullptr ? std::string("NULL") : std::string(bytes);
  };
  std::vector<std::string> tables;
  each("SELECT type, name, coalesce(sql,'') FROM sqlite_schema", [&](sqlite3_stmt* s) {
    lines.insert(text(s, 0) + " " + text(s, 1) + " " + text(s, 2));
    if (text(s, 0) == "table") tables.push_back(text(s, 1));
  });
  for (const std::string& table : tables) {
    std::string columns;
    each("SELECT group_concat('quote(\"' || name || '\")', ' || '','' || ') FROM pragma_table_info('" + table + "')", [&](sqlite3_stmt* s) { columns = text(s, 0); });
    each("SELECT " + columns + " FROM \"" + table + "\"", [&](sqlite3_stmt* s) { lines.insert(table + ": " + text(s, 0)); });
  }
  return lines;
}

inline Lines lines_of_sql(const std::string& sql) {
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open(":memory:", &db), SQLITE_OK);
  // Statement by statement: one of the dumps names sqlite_sequence before there is one.
  for (const char* rest = sql.c_str(); *rest != '\0';) {
    sqlite3_stmt* statement = nullptr;
    const char* tail = nullptr;
    if (sqlite3_prepare_v2(db, rest, -1, &statement, &tail) != SQLITE_OK)
      tail = std::strchr(rest, ';') + 1;
    else
      while (sqlite3_step(statement) == SQLITE_ROW) {
      }
    sqlite3_finalize(statement);
    rest = tail;
  }
  auto lines = lines_of(db);
  sqlite3_close(db);
  return lines;
}

inline Lines lines_of_file(const DiskVfs& vfs, const std::string& path) {
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE, vfs.name().c_str()), SQLITE_OK);
  auto lines = lines_of(db);
  sqlite3_close(db);
  return lines;
}

inline Options options_for(MemoryDisk& disk, const DiskVfs& vfs, const std::string& source, const std::string& target) {
  Options options;
  options.disk = &disk;
  options.base_vfs = vfs.name();
  options.source = source;
  options.target = target;
  options.cluster_id = 77;
  options.member.raft_id = RaftId{4711};
  return options;
}

}  // namespace rq::import::test
