// Keeper: what a node does beside its requests: snapshots (make what is applied durable, move it into the database file,
// cut the log), the next log segment ahead of need, VACUUM and optimize when they are due.
//
// A snapshot copies nothing and stops nobody: SQLite's WAL is synced beside the apply thread, a checkpoint moves it in the
// background, whole segments of the log are removed. Taken when the log has grown by `log_entries` entries since the last
// one or SQLite's WAL has reached `wal_bytes` (looked at every `interval` to twice of it), when the log takes more than half of
// `log_bytes_max` on disk, and on request.
// VACUUM and optimize go through the log, proposed by whoever leads; the time of the last run is that of its entry, kept
// in maintenance.json on every node, so that a change of leader repeats nothing.
// Threads: own thread `snapshot`; public functions from any. stop() ends it; may be called twice.
// Crash: nothing here needs undoing; each step leaves a state that recovery knows (ledger, log segments).
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "executor/executor.h"
#include "io/disk.h"
#include "replica/replica.h"

namespace rq::store {

struct KeeperOptions {
  std::string dir;                                        // of the node's data
  std::uint64_t log_entries = 8192;                       // -raft-snap; 0: off
  std::uint64_t wal_bytes = 4u << 20;                     // -raft-snap-wal-size; 0: off
  std::chrono::nanoseconds interval = std::chrono::seconds(10);   // -raft-snap-int
  std::uint64_t log_bytes_max = 256u << 20;               // trailing entries go beyond it
  std::chrono::nanoseconds vacuum_every{0}, optimize_every{0};    // 0: off
  std::uint64_t trailing() const { return log_entries + log_entries / 4; }
};

class Keeper {
 public:
  Keeper(KeeperOptions options, io::Disk& disk, Clock& clock, Rng& rng, Metrics& metrics, executor::Executor& executor,
         replica::Replica& replica);
  ~Keeper() { stop(); }
  void start();
  void stop();

  // POST /snapshot: `trailing` 0: the default. The value: whether there was anything new.
  void snapshot(std::uint64_t trailing, std::function<void(Result<bool>)> done);
  // An entry that runs VACUUM or optimize was applied; on the apply thread.
  void maintained(executor::Maintenance kind, WallTime sealed);

  struct Facts {
    Index index;                       // of the last snapshot; 0: none yet
    Term term;
    WallTime taken{};
    std::optional<WallTime> last_vacuum, next_vacuum;
  };
  Facts facts() const;

 private:
  struct Request {
    std::uint64_t trailing;
    std::function<void(Result<bool>)> done;
  };
  void run();
  void work(std::vector<Request> requests);
  bool due();
  Result<bool> take(std::uint64_t trailing);
  void propose_maintenance();
  void propose(executor::Maintenance kind);
  void load_times();
  void store_times();
  std::chrono::nanoseconds jittered();

  const KeeperOptions options_;
  io::Disk& disk_;
  Clock& clock_;
  Rng& rng_;
  Metrics& metrics_;
  executor::Executor& executor_;
  replica::Replica& replica_;

  SteadyTime check_at_;                // snapshot thread
  std::uint64_t commits_taken_ = 0;
  Index applied_taken_;
  bool unknown_before_ = false;        // no snapshot was taken by this process, and there is something from before
  SteadyTime vacuum_again_, optimize_again_;
  std::atomic<std::uint64_t> cut_applied_{0};

  mutable std::mutex mutex_;           // guards all below
  std::condition_variable changed_;
  std::vector<Request> requests_;
  Facts facts_;
  std::optional<WallTime> vacuum_at_, optimize_at_;   // the last runs; at first start: that start
  bool times_changed_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace rq::store
