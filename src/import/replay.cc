#include "import/replay.h"

#include <sqlite3.h>

#include <map>
#include <vector>

#include "base/assert.h"
#include "command/command.pb.h"
#include "import/command_reader.h"
#include "import/image.h"
#include "sql/connection.h"
#include "sql/parameters.h"

namespace rq::import {
namespace {

constexpr std::int64_t kCacheKib = 16 * 1024;
constexpr int kLengthMax = 1'000'000'000;             // of a value: the reference's limit is SQLite's own
constexpr std::int64_t kUnixEpochInJulianMs = 210866760000000;
constexpr std::size_t kStreamsMax = 16;               // chunked loads under way at once

// The base VFS with another clock.
class TimedVfs {
 public:
  static Result<std::unique_ptr<TimedVfs>> install(const std::string& base) {
    sqlite3_vfs* const found = sqlite3_vfs_find(base.c_str());
    if (found == nullptr) return fail(Errc::NotFound, "no VFS " + base);
    std::unique_ptr<TimedVfs> timed(new TimedVfs(*found));
    if (sqlite3_vfs_register(&timed->vfs_, 0) != SQLITE_OK) return fail(Errc::Internal, "out of memory");
    return timed;
  }
  ~TimedVfs() { sqlite3_vfs_unregister(&vfs_); }
  TimedVfs(const TimedVfs&) = delete;
  const std::string& name() const { return name_; }
  void set_time(std::int64_t unix_ms) { vfs_.julian_ms = unix_ms + kUnixEpochInJulianMs; }

 private:
  struct Vfs : sqlite3_vfs {
    std::int64_t julian_ms = kUnixEpochInJulianMs;
  };
  explicit TimedVfs(const sqlite3_vfs& base) : name_("import-" + std::to_string(reinterpret_cast<std::uintptr_t>(this))) {
    static_cast<sqlite3_vfs&>(vfs_) = base;
    vfs_.pNext = nullptr;
    vfs_.zName = name_.c_str();
    if (vfs_.iVersion < 2) vfs_.iVersion = 2;
    vfs_.xCurrentTimeInt64 = [](sqlite3_vfs* self, sqlite3_int64* now) {
      *now = static_cast<Vfs*>(self)->julian_ms;
      return SQLITE_OK;
    };
  }

  const std::string name_;
  Vfs vfs_{};
};

// Other files are none of the import's business. VACUUM attaches a nameless one.
class OwnFileOnly final : public sql::Authorizer {
 public:
  int authorize(sql::Connection&, int action, const char* first, const char*, const char*, const char*) override {
    if (action != SQLITE_ATTACH) return SQLITE_OK;
    const std::string_view name = first == nullptr ? "?" : first;
    return name.empty() || name == ":memory:" ? SQLITE_OK : SQLITE_DENY;
  }
};

bool only_separators(std::string_view text) { return text.find_first_not_of(" \t\r\n\f\v;") == std::string_view::npos; }

void take_parameter(rq::pb::Parameter& out, pb::Parameter& in) {
  out.set_name(std::move(*in.mutable_name()));
  rq::pb::Value& value = *out.mutable_value();
  switch (in.value_case()) {
    case pb::Parameter::kInteger: value.set_integer(in.integer()); break;
    case pb::Parameter::kReal: value.set_real(in.real()); break;
    case pb::Parameter::kBoolean: value.set_integer(in.boolean() ? 1 : 0); break;
    case pb::Parameter::kBlob: value.set_blob(std::move(*in.mutable_blob())); break;
    case pb::Parameter::kText: value.set_text(std::move(*in.mutable_text())); break;
    case pb::Parameter::VALUE_NOT_SET: break;
  }
}

class SqliteReplay final : public Replay {
 public:
  explicit SqliteReplay(const ReplayOptions& options) : options_(options) {}
  ~SqliteReplay() override { connection_.reset(); }

  Result<> open() {
    RQ_TRY(vfs_, TimedVfs::install(options_.base_vfs));
    return attach();
  }
  Result<> apply(const LogEntry& entry, const Progress& progress) override;
  Result<> finish() override;
  const ReplayCounts& counts() const override { return counts_; }

 private:
  // The error of a statement: counted. Nothing was wrong with the device or the file.
  struct Went {
    bool fine = true;
  };
  Result<> attach();
  Result<> run_request(pb::Request request, bool unified);
  Result<Went> run_statement(pb::Statement& statement, bool unified);
  Result<Went> run_all(std::string_view sql, const sql::Parameters& parameters);
  Result<Went> run_last(std::string_view sql, const sql::Parameters& parameters);
  Result<Went> control(const char* sql);
  Result<Went> judge(Error error, int code);
  Result<> load(const Command& command, const Progress& progress);
  Result<> load_chunk(const Command& command);
  Result<> exchange(const std::string& image);
  void note_failure(const std::string& why);

  struct Stream {
    std::string path;
    std::int64_t chunks = 0;
    std::uint64_t bytes = 0;
  };

  const ReplayOptions options_;
  std::unique_ptr<TimedVfs> vfs_;
  OwnFileOnly own_file_only_;
  std::unique_ptr<sql::Connection> connection_;
  std::map<std::string, Stream, std::less<>> streams_;
  std::uint64_t streams_begun_ = 0;
  ReplayCounts counts_;
  std::string what_;                  // the entry under way, for messages
};

Result<> SqliteReplay::attach() {
  sql::OpenOptions options;
  options.path = options_.path;
  options.vfs = vfs_->name();
  options.cache_kib = kCacheKib;
  options.foreign_keys = options_.foreign_keys;
  RQ_TRY(connection_, sql::Connection::open(options));
  sqlite3_limit(connection_->handle(), SQLITE_LIMIT_LENGTH, kLengthMax);
  RQ_CHECK(connection_->run("PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL"));
  connection_->set_authorizer(&own_file_only_);
  return {};
}

void SqliteReplay::note_failure(const std::string& why) {
  if (counts_.failed++ == 0) counts_.first_failure = what_ + ": " + why;
}

Result<> SqliteReplay::apply(const LogEntry& entry, const Progress& progress) {
  if (progress && !progress(0)) return fail(Errc::Canceled, "stopped");
  ++counts_.entries;
  if (entry.kind != LogEntry::Kind::Command) return {};
  what_ = entry.data.path() + ", entry " + std::to_string(entry.index.value);
  if (entry.appended_ms) vfs_->set_time(*entry.appended_ms);
  RQ_TRY(const Command command, read_command(entry.data, what_));
  switch (command.kind) {
    case Command::Kind::Query:       // strong reads
    case Command::Kind::Noop:
    case Command::Kind::Join: return {};
    case Command::Kind::Execute:
    case Command::Kind::ExecuteQuery: {
      RQ_TRY(pb::Request request, read_request(command, what_));
      return run_request(std::move(request), command.kind == Command::Kind::ExecuteQuery);
    }
    case Command::Kind::Load: return load(command, progress);
    case Command::Kind::LoadChunk: return load_chunk(command);
  }
  return {};
}

// ---- requests

// Without a transaction each statement commits alone, and an error doesn't stop the next one. In one the first error rolls all
// back; but in a unified request a text that doesn't compile is only reported (the reference goes on behind it).
Result<> SqliteReplay::run_request(pb::Request request, bool unified) {
  if (request.transaction()) {
    RQ_TRY(const Went begun, control("BEGIN"));
    if (!begun.fine) return {};
  }
  bool open = request.transaction();
  for (pb::Statement& statement : *request.mutable_statements()) {
    if (statement.sql().empty()) continue;
    ++counts_.statements;
    RQ_TRY(const Went went, run_statement(statement, unified));
    if (went.fine || (!open && !request.rollback_on_error())) continue;
    if (connection_->in_transaction()) RQ_CHECK(control("ROLLBACK"));
    open = false;
    break;
  }
  if (!open) return {};
  RQ_TRY(const Went committed, control("COMMIT"));
  if (!committed.fine && connection_->in_transaction()) RQ_CHECK(control("ROLLBACK"));
  return {};
}

Result<SqliteReplay::Went> SqliteReplay::run_statement(pb::Statement& statement, bool unified) {
  if (statement.sql().size() > static_cast<std::size_t>(sql::kLengthMax))
    return fail(Errc::Unsupported, what_ + " holds a statement of " + std::to_string(statement.sql().size()) + " bytes, more than is possible here");
  sql::Parameters parameters;
  for (pb::Parameter& parameter : *statement.mutable_parameters()) take_parameter(*parameters.Add(), parameter);
  bool reads = statement.force_query();
  if (unified) {
    // Judged by the first statement of the text, as the reference does.
    auto first = connection_->prepare(statement.sql());
    if (!first) {
      RQ_TRY(Went unused, judge(first.error(), connection_->last_code()));
      (void)unused;
      return Went{true};
    }
    reads = reads || first->read_only();
  }
  return reads ? run_last(statement.sql(), parameters) : run_all(statement.sql(), parameters);
}

// Each statement of the text in its order, one step each: what changes data does it in its first step.
Result<SqliteReplay::Went> SqliteReplay::run_all(std::string_view sql, const sql::Parameters& parameters) {
  sql::ParameterFeed feed(parameters, sql::Missing::Null);
  if (const Result<> named = feed.check_names(); !named) return judge(named.error(), SQLITE_ERROR);
  for (std::string_view rest = sql; !only_separators(rest);) {
    auto statement = connection_->prepare(rest);
    if (!statement) return judge(statement.error(), connection_->last_code());
    rest = statement->tail();
    if (statement->empty()) continue;
    if (const Result<> bound = feed.bind(*statement); !bound) return judge(bound.error(), SQLITE_ERROR);
    const int code = statement->step();
    if (code != SQLITE_ROW && code != SQLITE_DONE) return judge(connection_->error(code), code);
  }
  return Went{};
}

// All are compiled, the last one is run to its end.
Result<SqliteReplay::Went> SqliteReplay::run_last(std::string_view sql, const sql::Parameters& parameters) {
  sql::ParameterFeed feed(parameters, sql::Missing::Error);
  if (const Result<> named = feed.check_names(); !named) return judge(named.error(), SQLITE_ERROR);
  sql::Statement last;
  for (std::string_view rest = sql; !only_separators(rest);) {
    auto statement = connection_->prepare(rest);
    if (!statement) return judge(statement.error(), connection_->last_code());
    rest = statement->tail();
    last = *std::move(statement);
    if (last.empty()) continue;
    if (const Result<> bound = feed.bind(last); !bound) return judge(bound.error(), SQLITE_ERROR);
  }
  if (last.empty()) return Went{};
  int code = SQLITE_ROW;
  while (code == SQLITE_ROW) code = last.step();
  return code == SQLITE_DONE ? Result<Went>(Went{}) : judge(connection_->error(code), code);
}

Result<SqliteReplay::Went> SqliteReplay::control(const char* sql) {
  auto statement = connection_->prepare(sql);
  if (!statement) return judge(statement.error(), connection_->last_code());
  const int code = statement->step();
  return code == SQLITE_DONE ? Result<Went>(Went{}) : judge(connection_->error(code), code);
}

Result<SqliteReplay::Went> SqliteReplay::judge(Error error, int code) {
  switch (error.code) {
    case Errc::NoSpace: {   // of the disk, or of PRAGMA max_page_count
      constexpr std::int64_t kNoLimit = 0xfffffffe;
      RQ_TRY(const std::int64_t limit, connection_->number("PRAGMA max_page_count"));
      if (limit >= kNoLimit) return fail(std::move(error));
      break;
    }
    case Errc::Corrupt:
      if (code == SQLITE_CORRUPT_VTAB) break;
      return fail(Errc::Corrupt, what_ + ": the database is damaged: " + error.detail);
    case Errc::Io:
    case Errc::Internal:
    case Errc::Canceled: return fail(std::move(error));
    default: break;
  }
  note_failure(error.text());
  return Went{false};
}

// ---- loads

Result<> SqliteReplay::load(const Command& command, const Progress& progress) {
  ++counts_.loads;
  const std::string image = options_.path + ".load";
  RQ_CHECK(remove_image(*options_.disk, image));
  RQ_TRY(const auto input, read_load(command, what_));
  {
    RQ_TRY(const auto file, options_.disk->open(image, io::OpenMode::CreateNew));
    RQ_TRY(const std::uint64_t bytes, copy_to(*input, *file, 0, progress));
    (void)bytes;
  }
  return exchange(image);
}

// The reference refuses what is no database, and takes what is a damaged one: then there is nothing to go on with.
Result<> SqliteReplay::exchange(const std::string& image) {
  RQ_TRY(const bool database, looks_like_database(*options_.disk, image));
  if (!database) {
    note_failure("what was loaded is no SQLite database");
    return remove_image(*options_.disk, image);
  }
  RQ_CHECK(check_image(options_.base_vfs, image, "the database that " + what_ + " loads"));
  RQ_CHECK(settle_image(*options_.disk, options_.base_vfs, image));
  connection_.reset();
  RQ_CHECK(remove_image(*options_.disk, options_.path));
  RQ_CHECK(options_.disk->rename(image, options_.path));
  return attach();
}

// Early v8: a load in pieces, each compressed. A stream whose beginning is not in the log any more was loaded before the
// snapshot: its rest comes to nothing.
Result<> SqliteReplay::load_chunk(const Command& command) {
  RQ_TRY(const pb::LoadChunk chunk, read_load_chunk(command, what_));
  auto stream = streams_.find(chunk.stream_id());
  if (stream == streams_.end()) {
    if (streams_.size() >= kStreamsMax) return fail(Errc::TooLarge, what_ + ": too many loads at once");
    stream = streams_.emplace(chunk.stream_id(), Stream{options_.path + ".stream" + std::to_string(++streams_begun_)}).first;
    RQ_CHECK(remove_image(*options_.disk, stream->second.path));
    RQ_TRY(const auto made, options_.disk->open(stream->second.path, io::OpenMode::CreateNew));
  }
  Stream& state = stream->second;
  if (chunk.abort()) {
    RQ_CHECK(remove_image(*options_.disk, state.path));
    streams_.erase(stream);
    return {};
  }
  if (chunk.sequence_number() != state.chunks + 1) {
    note_failure("a piece of a load is missing");
    return {};
  }
  ++state.chunks;
  if (!chunk.data().empty()) {
    const auto input = gunzip(input_of(std::string_view(chunk.data())), what_);
    RQ_TRY(const auto file, options_.disk->open(state.path, io::OpenMode::ReadWrite));
    RQ_TRY(const std::uint64_t bytes, copy_to(*input, *file, state.bytes, nullptr));
    state.bytes += bytes;
  }
  if (!chunk.is_last()) return {};
  ++counts_.loads;
  const std::string image = state.path;
  streams_.erase(stream);
  return exchange(image);
}

Result<> SqliteReplay::finish() {
  for (const auto& [id, stream] : streams_) RQ_CHECK(remove_image(*options_.disk, stream.path));
  streams_.clear();
  if (connection_->in_transaction()) {
    note_failure("a transaction was never ended: it is rolled back");
    RQ_CHECK(connection_->run("ROLLBACK"));
  }
  connection_.reset();
  return {};
}

}  // namespace

Result<std::unique_ptr<Replay>> Replay::open(const ReplayOptions& options) {
  RQ_ASSERT(options.disk != nullptr);
  auto replay = std::make_unique<SqliteReplay>(options);
  RQ_CHECK(replay->open());
  return std::unique_ptr<Replay>(std::move(replay));
}

}  // namespace rq::import
