// An executor on a MemoryDisk, for tests: entries in, outcomes out, dumps of the data.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <memory>
#include <string>
#include <vector>

#include "executor/executor.h"
#include "support/disk_vfs.h"
#include "support/memory_disk.h"

namespace rq::executor::test {

inline constexpr std::int64_t kWallMs = 1700000000000;

class StillClock final : public Clock {
 public:
  SteadyTime now() const override { return time_; }
  WallTime wall() const override { return WallTime(std::chrono::milliseconds(kWallMs)); }
  void advance(std::chrono::nanoseconds by) { time_ += by; }

 private:
  SteadyTime time_{std::chrono::hours(1)};
};

class Listener final : public SqlWaiter {
 public:
  void applied(command::Outcome&& outcome) override {
    ++calls;
    value = std::move(outcome);
  }
  void failed(const Error& error) override {
    ++calls;
    failure = error;
  }
  int calls = 0;
  command::Outcome value;
  std::optional<Error> failure;
};

struct RequestOptions {
  bool transaction = false;
  std::uint32_t render = 0;
  std::uint32_t timed_out_unit = 0;
  bool read_only = false;
};
inline pb::Request make(pb::Request::Kind kind, const std::vector<std::string>& statements, RequestOptions options = {}) {
  pb::Request request;
  request.set_kind(kind);
  for (const auto& sql : statements) request.add_statements()->set_sql(sql);
  request.set_transaction(options.transaction);
  request.set_render(options.render);
  request.set_timed_out_unit(options.timed_out_unit);
  request.set_read_only(options.read_only);
  return request;
}
inline pb::Request execute(const std::vector<std::string>& statements, RequestOptions options = {}) {
  return make(pb::Request::EXECUTE, statements, options);
}
inline pb::Request mixed(const std::vector<std::string>& statements, RequestOptions options = {}) {
  return make(pb::Request::REQUEST, statements, options);
}
inline pb::Request query(const std::vector<std::string>& statements, RequestOptions options = {}) {
  return make(pb::Request::QUERY, statements, options);
}

// An entry as the log holds it.
struct Entry {
  Index index;
  std::int64_t wall_ms = kWallMs;
  std::string seed;
  std::vector<std::string> proposals;
};
inline Entry entry_of(Index index, const std::vector<pb::Request>& requests) {
  Entry entry{index, kWallMs + static_cast<std::int64_t>(index.value), {}, {}};
  for (std::uint64_t i = 0; i < 16; ++i) entry.seed += static_cast<char>(index.value * 131 + i * 17);
  for (const auto& request : requests) {
    pb::Proposal proposal;
    *proposal.mutable_request() = request;
    entry.proposals.push_back(proposal.SerializeAsString());
  }
  return entry;
}

class Rig {
 public:
  explicit Rig(std::shared_ptr<rq::test::MemoryDisk> disk = std::make_shared<rq::test::MemoryDisk>()) : disk_(std::move(disk)) {
    (void)disk_->make_dirs("/data");
    (void)disk_->sync_dir("/");
    options_.disk = disk_.get();
    options_.clock = &clock_;
    options_.dir = "/data";
    options_.checkpoint_inline = true;
    options_.wal_bytes_soft = 256u << 10;
    options_.cache_kib = 4096;
  }
  ~Rig() { close(); }

  Options& options() { return options_; }
  StillClock& clock() { return clock_; }
  rq::test::MemoryDisk& disk() { return *disk_; }
  Executor& executor() { return *executor_; }

  Result<> try_open() {
    vfs_ = std::make_unique<rq::test::DiskVfs>(*disk_);
    options_.base_vfs = vfs_->name();
    RQ_TRY(executor_, Executor::open(options_));
    return {};
  }
  void open() {
    auto opened = try_open();
    ASSERT_TRUE(opened) << opened.error().text();
  }
  void close() {
    executor_.reset();
    vfs_.reset();
  }
  void reopen() {
    close();
    open();
  }

  Result<std::vector<command::Outcome>> apply_entry(const Entry& entry, bool listen = true) {
    std::vector<std::string_view> proposals(entry.proposals.begin(), entry.proposals.end());
    std::vector<std::shared_ptr<raft::Waiter>> waiters;
    std::vector<std::shared_ptr<Listener>> listeners;
    for (std::size_t i = 0; listen && i < proposals.size(); ++i) {
      listeners.push_back(std::make_shared<Listener>());
      waiters.push_back(listeners.back());
    }
    const raft::Group group{entry.index, Term{1}, entry.wall_ms, entry.seed, proposals, waiters};
    const auto applied = executor_->apply(group);
    std::vector<command::Outcome> outcomes;
    for (const auto& listener : listeners) {
      if (applied) {
        EXPECT_EQ(listener->calls, 1);
      } else {
        EXPECT_EQ(listener->calls, 0);
      }
      outcomes.push_back(listener->value);
    }
    if (!applied) return fail(applied.error());
    return outcomes;
  }
  Index next() const { return executor_->applied_index().next(); }
  std::vector<command::Outcome> apply(const std::vector<pb::Request>& requests, bool listen = true) {
    auto outcomes = apply_entry(entry_of(next(), requests), listen);
    EXPECT_TRUE(outcomes) << outcomes.error().text();
    return outcomes ? *outcomes : std::vector<command::Outcome>(requests.size());
  }
  // The results of one request, or "!" and the top-level error.
  std::string run(const pb::Request& request) {
    const auto outcome = apply({request})[0];
    return outcome.error.empty() ? outcome.results : "!" + outcome.error;
  }

  sqlite3* reader() {
    sqlite3* db = nullptr;
    EXPECT_EQ(sqlite3_open_v2("/data/db.sqlite", &db, SQLITE_OPEN_READWRITE, vfs_->name().c_str()), SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    return db;
  }
  static std::string rows(sqlite3* db, const std::string& sql) {
    std::string out;
    const auto row = [](void* text, int count, char** values, char**) {
      for (int i = 0; i < count; ++i) {
        *static_cast<std::string*>(text) += values[i] ? values[i] : "NULL";
        *static_cast<std::string*>(text) += i + 1 < count ? "," : "\n";
      }
      return 0;
    };
    char* message = nullptr;
    if (sqlite3_exec(db, sql.c_str(), row, &out, &message) != SQLITE_OK) out += std::string("error: ") + message;
    sqlite3_free(message);
    return out;
  }
  std::string rows(const std::string& sql) {
    sqlite3* db = reader();
    std::string out = rows(db, sql);
    sqlite3_close(db);
    return out;
  }
  static std::string dump(sqlite3* db) {
    std::string out = rows(db, "SELECT type,name,sql FROM sqlite_schema ORDER BY name");
    std::string names = rows(db, "SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name");
    for (std::size_t at = 0; at < names.size();) {
      const std::size_t end = names.find('\n', at);
      const std::string name = names.substr(at, end - at);
      const std::string columns = rows(db, "SELECT group_concat('quote(\"'||name||'\")') FROM pragma_table_info('" + name + "')");
      const std::string first = columns.substr(0, columns.find(')') + 1);   // the others follow it or are told by it
      out += name + ":\n" + rows(db, "SELECT " + columns.substr(0, columns.size() - 1) + " FROM \"" + name + "\" ORDER BY " + first);
      at = end + 1;
    }
    return out;
  }
  std::string dump() {
    sqlite3* db = reader();
    std::string out = dump(db);
    sqlite3_close(db);
    return out;
  }
  // Index, term and registers, as a snapshot carries them.
  std::string state() {
    const auto snapshot = executor_->snapshot();
    EXPECT_TRUE(snapshot);
    if (!snapshot) return {};
    executor_->release(snapshot->id);
    return snapshot->data;
  }
  // The database file after everything was moved into it, change counters masked.
  std::string image() {
    EXPECT_TRUE(executor_->checkpoint());
    std::string bytes = disk_->contents("/data/db.sqlite");
    if (bytes.size() >= 100) {
      bytes.replace(24, 4, 4, '\0');
      bytes.replace(92, 4, 4, '\0');
    }
    return bytes;
  }

 private:
  std::shared_ptr<rq::test::MemoryDisk> disk_;
  StillClock clock_;
  Options options_;
  std::unique_ptr<rq::test::DiskVfs> vfs_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace rq::executor::test
