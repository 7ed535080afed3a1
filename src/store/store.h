// Store: the SQL database of this node and how requests may use it here: consistency levels, the way of a write into
// the log, local reads. It never talks to other nodes: a request that this node may not serve ends with Errc::NotLeader
// or Errc::LeaderNotFound (nothing happened; the caller forwards), and Errc::LeadershipLost means: fate unknown.
//
// Owns, in this order of construction: executor (apply thread), read pool (read-N threads), replica (raft, wal, fetch
// and apply threads). Threads: every public function from any thread.
// Crash behaviour: executor.h and wal/log.h.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/histogram.h"
#include "base/metrics.h"
#include "base/result.h"
#include "command/outcome.h"
#include "executor/executor.h"
#include "io/disk.h"
#include "replica/replica.h"
#include "sql/read_pool.h"
#include "sql/reader.h"
#include "store/integrity.h"
#include "store/keeper.h"
#include "store/slow_log.h"

namespace rq::store {

class Store;

// One SQL request under way on this node. The owner derives from it; the store keeps it alive until finished().
class SqlJob : public executor::SqlWaiter, public std::enable_shared_from_this<SqlJob> {
 public:
  // Exactly once, from any thread, must not block. An outcome may hold a top-level error.
  virtual void finished(Result<command::Outcome>&& result) = 0;
  virtual bool canceled() const { return false; }
  // Runs `work` on the net thread of the request, where its inline reader is. Default: none, reads go to the pool.
  virtual bool on_net_thread(std::function<void()> work) { return (void)work, false; }

  pb::Request request;                       // unchanged until finished()
  std::chrono::nanoseconds freshness{0};
  bool freshness_strict = false;
  std::chrono::nanoseconds linearizable_timeout = std::chrono::seconds(10);
  bool alone = false;                        // the store's note: must be an entry of its own
  int net_thread = -1;                       // on whose inline reader short reads may run; -1: none
  SteadyTime begun;

  Store* store = nullptr;                    // where it runs: the store's note

  void applied(command::Outcome&& outcome) final;
  void failed(const Error& error) final { finished(fail(error)); }
};

// How long requests of reads took, where they ran.
struct ReadTimes {
  Histogram inline_reads, pool_reads, strong_reads;
};

// What /status shows of the database; read from a connection of its own.
struct DatabaseFacts {
  std::string version;
  std::vector<std::string> compile_options;
  std::int64_t page_count = 0, page_size = 0, freelist_count = 0, cache_size = 0, max_page_count = 0;
};

struct Options {
  std::string data_dir;                      // absolute, exists, locked by the caller
  RaftId self;
  replica::Timing timing;
  replica::Limits limits;
  bool foreign_keys = false;
  int read_connections_max = 256;            // <= 0: no limit
  unsigned net_threads = 1;
  std::chrono::nanoseconds slow_query_log{0};
  KeeperOptions keeper;                      // its `dir` is data_dir
};

class Store {
 public:
  // Errors: those of Executor::open and Replica::open.
  static Result<std::unique_ptr<Store>> open(const Options& options, io::Disk& disk, Clock& clock, Rng& rng,
                                             Metrics& metrics, replica::Replica::Events& events);
  ~Store();
  Result<> start();                          // threads; after replica().bootstrap() where a cluster is founded
  void interrupt();                          // running statements end soon with an error; before stop()
  void stop();                               // interrupts what runs; open jobs are failed; may be called twice

  // Runs the job by its kind and level, or ends it with NotLeader/LeaderNotFound.
  void run(const std::shared_ptr<SqlJob>& job);

  replica::Replica& replica() { return *replica_; }
  const replica::Replica& replica() const { return *replica_; }
  const executor::Executor& executor() const { return *executor_; }
  Integrity& integrity() { return *integrity_; }
  const Integrity& integrity() const { return *integrity_; }
  // Puts a mark into the log by which the nodes are compared. Only the leader does it; errors as of a write.
  void propose_proof(const pb::ProofMark& mark, std::function<void(Result<Index>)> done);
  sql::ReadPool& read_pool() { return *read_pool_; }
  bool ready() const;                        // own log applied, apply healthy
  DatabaseFacts database_facts() const;
  // Snapshot: keeper.h. `trailing` 0: the default. The value: whether there was anything new.
  void snapshot(std::uint64_t trailing, std::function<void(Result<bool>)> done) { keeper_->snapshot(trailing, std::move(done)); }
  void begin_checkpoint() { replica_->on_apply_thread([this] { executor_->begin_checkpoint(); }); }
  Keeper::Facts keeper_facts() const { return keeper_->facts(); }
  // Replaces the database, on all members, by an image that lies complete and durable in the staging folder of a majority.
  // Only the leader does it; errors as of a write.
  void load_image(const pb::LoadImage& image, std::function<void(Result<Index>)> done);
  // Runs `open`, which opens connections of its own to the database, while the file is not being exchanged.
  void with_database(const std::function<void()>& open) const {
    const std::shared_lock lock(exchange_mutex_);
    open();
  }
  // Asks the log to pass over the entry that stops apply; `recover -skip`. Only the leader's word gets there.
  void propose_skip(Index index);
  std::string staging_dir() const { return options_.data_dir + "/staging"; }
  io::Disk& disk() { return disk_; }
  sql::ReadPool::Stats pool_stats() const { return read_pool_->stats(); }
  const std::string& data_dir() const { return options_.data_dir; }
  const ReadTimes& read_times() const { return read_times_; }
  std::int64_t slow_requests() const { return slow_log_.count(); }
  // When the newest entry applied here was sealed by its leader; nullopt: none since start.
  std::optional<WallTime> last_appended() const;
  std::optional<WallTime> last_applied_at() const;

 private:
  class Machine;                             // notes times around the executor
  Store(const Options& options, Clock& clock, Metrics& metrics);
  friend class SqlJob;
  class NetReader;                           // the inline reader of one net thread, borrowed
  struct InlineReader {
    std::unique_ptr<sql::Reader> reader;     // made when it is needed
    std::atomic<bool> busy{false};
  };
  Store(const Options& options, io::Disk& disk, Clock& clock, Metrics& metrics);
  executor::Options executor_options();
  bool close_gate(std::chrono::milliseconds within);
  void open_gate() { gate_closed_.store(false); }
  Result<> open_executor();
  Result<bool> state_can_be_had_again();
  Result<> open_readers();
  void count(const pb::Request& request);
  void note_time(const SqlJob& job, std::chrono::nanoseconds took, Histogram* times, std::string_view where, std::uint32_t failed);
  std::string plan_of(const std::string& sql) const;
  void classify_then_run(const std::shared_ptr<SqlJob>& job);
  void run_classified(const std::shared_ptr<SqlJob>& job, bool only_reads);
  void write(const std::shared_ptr<SqlJob>& job, bool read_only);
  void propose(const std::shared_ptr<SqlJob>& job);
  void decide_timeout_then_write(const std::shared_ptr<SqlJob>& job);
  void read(const std::shared_ptr<SqlJob>& job);
  void read_weak(const std::shared_ptr<SqlJob>& job);
  void read_linearizable(const std::shared_ptr<SqlJob>& job);
  void read_now(const std::shared_ptr<SqlJob>& job);
  void read_local(const std::shared_ptr<SqlJob>& job);
  void read_in_pool(const std::shared_ptr<SqlJob>& job);
  bool is_stale(const SqlJob& job) const;
  void strong_reads(Index index, std::span<executor::StrongRead> reads);
  Error no_leader_here() const;

  const Options options_;
  io::Disk& disk_;
  Clock& clock_;
  std::unique_ptr<executor::Executor> executor_;
  std::unique_ptr<Integrity> integrity_;
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<sql::ReadPool> read_pool_;
  sql::ReaderOptions inline_options_;
  std::vector<std::unique_ptr<InlineReader>> net_readers_;   // one for each net thread, used by it alone
  mutable std::shared_mutex exchange_mutex_; // held by the apply thread while the file is exchanged
  std::atomic<bool> gate_closed_{false};     // inline reads go to the pool, which makes them wait
  sql::Connection* facts_connection() const;   // locked; null: it can't be opened
  mutable std::mutex facts_mutex_;           // guards facts_connection_
  mutable std::unique_ptr<sql::Connection> facts_connection_;
  std::unique_ptr<replica::Replica> replica_;
  ReadTimes read_times_;
  SlowLog slow_log_;
  struct Counts {                            // of the map `db`: statements asked of this node, by kind of request
    Counter &executions, &queries, &requests, &execution_errors, &query_errors, &execute_transactions, &query_transactions, &request_transactions;
  };
  Counts counts_;
  Index checkpointed_;                       // apply thread
  std::unique_ptr<Keeper> keeper_;
  std::atomic<std::int64_t> appended_ms_{0};
  std::atomic<std::int64_t> applied_at_ns_{0};
};

}  // namespace rq::store
