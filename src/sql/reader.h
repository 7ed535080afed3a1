// Reader: one read-only connection that runs requests of reads into JSON (spec http-api sections 6 to 9, 11).
//
// Threads: one at a time uses a Reader; interrupt() from any. Nothing outlives a request: transactions are ended, bindings
// cleared. Without `transaction` each statement sees one committed state, with it the whole list does.
// Errors inside statements are part of the outcome; run() itself doesn't fail.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/clock.h"
#include "base/result.h"
#include "command/outcome.h"
#include "sql/connection.h"

namespace rq::sql {

struct ReaderOptions {
  std::string path;
  std::string vfs;
  const Clock* clock = nullptr;
  bool foreign_keys = false;
  std::int64_t cache_kib = 512;
  std::int64_t mmap_bytes = 1 << 30;
  int busy_timeout_ms = 5000;
  std::size_t statements_cached = 128;
  std::function<void()> on_damage = {};        // SQLite found the database malformed (or a shadow table that somebody wrote to)
};

// Whether a /db/request may run on read connections.
enum class Access : std::uint8_t { Reads, Writes };

class Reader final : private Authorizer {
 public:
  static Result<std::unique_ptr<Reader>> open(const ReaderOptions& options);

  struct RunOptions {
    std::uint64_t max_steps = UINT64_MAX;        // beyond it: Exceeded, and the text is remembered
    const Cancellation* cancellation = nullptr;
    bool keep_transaction = false;               // begin_snapshot() was called: run inside, leave it open
  };
  enum class Ran : std::uint8_t { Done, Exceeded };
  Ran run(const pb::Request& request, command::Outcome& outcome, const RunOptions& options);

  // Some statement of it exceeded its steps before: don't try it inline again.
  bool known_long(const pb::Request& request) const;
  Access classify(const pb::Request& request);
  // Opens a read transaction now: what run() with keep_transaction sees is what is committed at this moment.
  Result<> begin_snapshot();
  void end_snapshot();
  void interrupt() { connection_->interrupt(); }
  Connection& connection() { return *connection_; }

 private:
  explicit Reader(const ReaderOptions& options) : options_(options), clock_(*options.clock) {}
  Result<std::unique_ptr<Connection>> connect();
  int authorize(Connection& connection, int action, const char* first, const char* second, const char* schema, const char* trigger) override;
  Result<> run_string(const pb::Statement& statement, std::uint32_t render, command::Outcome& outcome);
  Access classify(std::string_view sql);
  bool clock_passed(const Budget& budget) const;
  void reset();

  const ReaderOptions options_;
  const Clock& clock_;
  std::unique_ptr<Connection> connection_;
  bool tainted_ = false;               // a PRAGMA changed the connection: it is replaced behind the request
  std::unordered_set<std::string> long_texts_;
  bool compiled_ = false;              // the statement that failed last had been compiled
};

}  // namespace rq::sql
