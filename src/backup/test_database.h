// SQLite files in a scratch folder, for tests.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "backup/source.h"

namespace rq::backup::test {

inline std::string doubled(const std::string& text, char quote) {
  std::string out;
  for (const char c : text) out += std::string(c == quote ? 2 : 1, c);
  return out;
}

class TestDatabase {
 public:
  explicit TestDatabase(const std::string& path) {
    EXPECT_EQ(sqlite3_open(path.c_str(), &db_), SQLITE_OK);
    run("PRAGMA synchronous=OFF");
  }
  ~TestDatabase() { sqlite3_close(db_); }
  TestDatabase(const TestDatabase&) = delete;
  // "" or the error's text
  std::string try_run(const std::string& sql) {
    const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
    return code == SQLITE_OK ? "" : sqlite3_errmsg(db_);
  }
  void run(const std::string& sql) { EXPECT_EQ(try_run(sql), "") << sql; }
  std::string rows(const std::string& sql) {
    std::string out;
    const auto add = [](void* to, int count, char** values, char**) {
      for (int i = 0; i < count; ++i) static_cast<std::string*>(to)->append(i ? "|" : "").append(values[i] ? values[i] : "NULL");
      static_cast<std::string*>(to)->append("\n");
      return 0;
    };
    EXPECT_EQ(sqlite3_exec(db_, sql.c_str(), add, &out, nullptr), SQLITE_OK) << sql << ": " << sqlite3_errmsg(db_);
    return out;
  }
  std::vector<std::string> column(const std::string& sql) {
    std::vector<std::string> out;
    const auto add = [](void* to, int, char** values, char**) {
      static_cast<std::vector<std::string>*>(to)->emplace_back(values[0] ? values[0] : "");
      return 0;
    };
    EXPECT_EQ(sqlite3_exec(db_, sql.c_str(), add, &out, nullptr), SQLITE_OK) << sql << ": " << sqlite3_errmsg(db_);
    return out;
  }
  sqlite3* handle() const { return db_; }

 private:
  sqlite3* db_ = nullptr;
};

class Directory : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "rq-backup-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void clear() {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directory(dir_);
  }
  std::string path(const std::string& name) const { return dir_ + "/" + name; }
  std::vector<std::string> files() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(dir_)) out.push_back(entry.path().filename());
    return out;
  }
  std::string dir_;
};

inline std::string all_of(Source& source) {
  std::string out;
  for (bool last = false; !last;) {
    const Result<Piece> piece = source.next();
    EXPECT_TRUE(piece) << piece.error().text();
    if (!piece) break;
    out += piece->bytes;
    last = piece->last;
  }
  return out;
}

inline std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_all(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}
inline void damage(const std::string& path, std::size_t at, std::size_t size) {
  std::string bytes = read_all(path);
  for (std::size_t i = at; i < std::min(at + size, bytes.size()); ++i) bytes[i] = static_cast<char>(i * 37 + 11);
  write_all(path, bytes);
}

}  // namespace rq::backup::test
