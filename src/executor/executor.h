// Executor: the SQL state machine. Committed group entries become SQLite transactions, deterministically.
//
// Contract
//   - One thread (the `apply` thread) calls everything except interrupt(), applied_index(), durable_index() and
//     status(), which any thread may call. Nothing here waits for the network; apply() runs as long as its SQL does.
//   - One entry is exactly one SQLite commit (or none: an entry that changes nothing), so the state on disk is always
//     that of one index. The ledger (ledger.h, docs/formats/ledger.md) says which; nothing is applied twice, whatever
//     happens between any two system calls. apply() doesn't sync: after power loss the state is that of an earlier
//     index, and the caller replays its log from applied_index() + 1.
//   - Results depend on the entry and the state before it alone: no clock, no randomness, no cache state, no setting of
//     one connection. What is sealed in the Group (wall_ms, seed) is all there is of the world.
//   - Answers leave (SqlWaiter::applied) only after the commit, on the apply thread, in order.
//   - apply() errors: Errc::NoSpace, Io, Corrupt, Internal (out of memory, a broken page): nothing of the entry took
//     effect; call it again later with the same entry. Errc::Canceled: interrupt() was called. Errc::Unsupported: the
//     entry needs a newer version. After an error of the commit itself the connection is reopened inside.
//     Waiters are untouched on error.
//   - Poison: apply() notes the index before it works on an entry (apply.attempt, unsynced). An entry that was begun by
//     two earlier processes and never finished is not begun a third time: apply() answers Errc::Corrupt and poisoned()
//     names it, until a Proposal with skip_index or restore() passes it (see Executor::allow_skip()).
//   - Files in Options::dir: db.sqlite, db.sqlite-wal, db.sqlite-shm, db.ledger, db.install, apply.attempt, and images of
//     loads in staging/.
//   - A load (pb::LoadImage) whose image isn't here, whole: apply() answers Errc::NotFound; fetch it, or restore() a later
//     snapshot of another node.
//   - A snapshot is a read transaction; its image is read page by page (ImageReader). The log may be cut up to
//     durable_index(), which make_durable() raises.
//   - Other connections (read pool) open db.sqlite by any VFS that shares locks and shm with Options::base_vfs; they
//     need no shim. Other programs may read it; while the executor is open they can neither write nor checkpoint.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "base/types.h"
#include "command/outcome.h"
#include "io/disk.h"
#include "raft/state_machine.h"

namespace rq::executor {

// Waiters of proposals that hold a pb::Request must be SqlWaiters: the executor casts.
class SqlWaiter : public raft::Waiter {
 public:
  // Called once, on the apply thread, after the effects are visible to readers. Must not block.
  virtual void applied(command::Outcome&& outcome) = 0;
};

// A read of level strong that took its place in the log.
struct StrongRead {
  const pb::Request* request;          // lives until the hook returns: copy or swap out what is needed later
  std::shared_ptr<SqlWaiter> waiter;   // to be answered by whoever runs the read
};

// What the leader proposes by the clock; the values are those of pb::Request::maintenance.
enum class Maintenance : std::uint8_t { Vacuum = 1, Optimize = 2 };

struct Options {
  io::Disk* disk = nullptr;            // must outlive the executor; where ledger and notes are
  const Clock* clock = nullptr;        // for timings and dry runs only, never for stored data
  std::string dir;                     // absolute, exists
  std::string base_vfs = "unix";       // holds db.sqlite; must see the same files as `disk`
  Term bootstrap_term{1};              // of the index-1 snapshot a new directory starts from
  bool foreign_keys = false;           // of a new directory: the replicated setting's first value
  std::size_t statements_cached = 512;
  std::int64_t cache_kib = 64 * 1024;  // page cache; memory, never results, depends on it
  // Pages of one transaction held in memory before they spill into the WAL: 32 MiB (VACUUM takes it twice). Equal on all nodes, since a
  // transaction that spilled leaves other (free) pages behind; part of the fingerprint.
  std::uint32_t spill_pages = 8192;
  std::uint64_t wal_bytes_soft = 4u << 20;    // beyond it idle() checkpoints
  std::uint64_t wal_bytes_hard = 64u << 20;   // beyond it apply() does too
  bool checkpoint_inline = false;      // on the apply thread only, in one piece: for tests that want no other thread
  std::uint64_t steps_max = 10'000'000'000;   // VM steps of one statement
  // Around the moment in which the database file is exchanged (a load, restore()): between the two no connection to it may
  // be opened, and those opened before are to be closed when they are free: they show the old state.
  std::function<void()> before_exchange, after_exchange;
  // Keeps readers out for a moment, so that SQLite's WAL can begin anew: false if some didn't end within that time. Always
  // followed by admit_readers().
  std::function<bool(std::chrono::milliseconds)> drain_readers;
  std::function<void()> admit_readers;
  // An entry of maintenance was applied; `sealed`: when its leader made it.
  std::function<void(Maintenance, WallTime sealed)> on_maintenance;
  // Called when an entry asked for a scrub: hold the state of this index fast and hash it.
  std::function<void(Index)> on_scrub;
  // Called right after the commit of an entry that held strong reads proposed here, before the next entry: pin a read
  // connection now. Without it such waiters are failed with Errc::NotOpen.
  std::function<void(Index, std::span<StrongRead>)> on_strong_reads;
};

struct Poison {
  Index index;
  std::uint32_t attempts = 0;
};

struct Status {
  Index applied, durable;
  std::uint64_t chain = 0;             // effect chain at `applied` (ledger/effect.h); 0: not known
  std::uint64_t wal_bytes = 0, ledger_bytes = 0;
  std::uint64_t checkpoints = 0;
  std::uint64_t commits = 0;           // of this process that changed the database
  std::uint64_t engine = 0;            // fingerprint: chains and pages of another one are not compared
  // The newest gap of the chain: since the engine was exchanged behind the first, until the entry of the second began it anew. 0: none yet.
  Index gap_after, gap_until;
};

// Where an image that was staged for a load lies.
std::string staged_load_path(const std::string& dir, std::string_view name);

// Of everything that decides which bytes equal statements leave: SQLite's source and compile options, the size of pages,
// when transactions spill.
std::uint64_t engine_fingerprint(std::uint32_t spill_pages);

class Executor : public raft::StateMachine {
 public:
  // Recovers the state after any crash, then attaches SQLite. Errors: Errc::Io, NoSpace; Errc::Busy: another program is
  // writing to the database at this moment; Errc::Corrupt: the files
  // contradict each other (another program moved or removed the WAL): start over from a snapshot or the whole log,
  // after wipe(); Errc::Unsupported: written by a newer version.
  static Result<std::unique_ptr<Executor>> open(Options options);
  // Removes the files of the executor (not the directory). Never while one is open on it.
  static Result<> wipe(io::Disk& disk, const std::string& dir);

  // From any thread: a running apply() or dry_run() ends soon with Errc::Canceled, and so does every later one.
  virtual void interrupt() = 0;
  // For the leader, between entries: runs the request on the present state, until `deadline`, and rolls it back.
  // The value goes into pb::Request::timed_out_unit: number (from 1) of the statement that ran out of time, 0 when none.
  // Errc::DeadlineExceeded: the deadline is already over. Errc::Canceled; Errc::Io, NoSpace, Internal.
  virtual Result<std::uint32_t> dry_run(const pb::Request& request, SteadyTime deadline) = 0;
  virtual Index durable_index() const = 0;       // the log may be cut up to here (less the trailing entries)
  virtual Status status() const = 0;
  virtual std::optional<Poison> poisoned() const = 0;
  // A later entry of the log says that the poison entry is to be passed over (the caller looks ahead; `recover --skip`).
  virtual void allow_skip(Index poison) = 0;
  // Makes everything applied durable (ledger, then WAL).
  virtual Result<> sync() = 0;
  // For a graceful stop: the same, and the database file is complete by itself. Another program that opens it while the
  // node is stopped, and folds SQLite's WAL in when it closes, changes nothing. Left out when the WAL is large (beyond
  // 64 MiB) or somebody reads from it.
  virtual Result<> settle() = 0;
  // The same for whatever was applied when it was called, from any thread, while entries are applied.
  virtual Result<> make_durable() = 0;
  // Moves what is synced into the database file, in the background; apply() goes on.
  virtual void begin_checkpoint() = 0;
  // Moves what is synced into the database file and lets the WAL begin anew. Also called by idle().
  virtual Result<> checkpoint() = 0;
};

}  // namespace rq::executor
