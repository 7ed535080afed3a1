// The SQLite VFS under the writer and the checkpointer: it keeps the ledger, the clock and the door.
//
//   - It stands on a base VFS ("unix", or one over a test disk) and passes everything on, except:
//   - The frames of one commit are gathered and written with one call. Before the commit frame leaves, its ledger line
//     is written. A commit that nobody announced (arm()) is refused: it would be one that no entry owns.
//   - A WAL header with new salts (SQLite restarts its WAL): the ledger begins the epoch, durably, first.
//   - xSync of the WAL: ledger, WAL, then the mark that checkpoints may follow. A failed sync is final.
//   - xCurrentTimeInt64 answers the time that was set: the sealed time of the entry.
//   - What a commit writes is hashed on its way (effect.h): the line carries the chain after it.
//   - hold_locks(): takes the WAL's write and checkpoint locks for good; both connections of ours share them inside. So
//     other programs can read, but neither write nor checkpoint.
//   - Every error of the base VFS is remembered: SQLite swallows some, and FULL may also come from max_page_count.
// Readers need no shim: they use the base VFS and see the same shm.
//
// Threads: the apply thread has the writer's files, one other may have the checkpointer's. One ShimVfs serves one
// database.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "ledger/ledger.h"

namespace rq::ledger {

class ShimVfs {
 public:
  // Registers a VFS of a name of its own. Errc::NotFound: no such base. `ledger` may be exchanged while no file is open.
  static Result<std::unique_ptr<ShimVfs>> install(const std::string& base_vfs, Ledger* ledger);
  virtual ~ShimVfs() = default;   // unregisters; all connections are closed before

  virtual const char* name() const = 0;
  virtual void set_time(std::int64_t unix_ms) = 0;
  // The next commit of the writer is that of `position`, whose chain is the one before it.
  virtual void arm(const Position& position) = 0;
  // No commit is announced any more. True: one has happened since arm().
  virtual bool disarm() = 0;
  virtual std::uint64_t chain() const = 0;          // after that commit
  // The first error of the base VFS (or the ledger) since the last call.
  virtual std::optional<Error> take_error() = 0;
  // After the writer has read the database once. Errc::Busy: another program writes, checkpoints, or builds the WAL's index.
  // Errc::Corrupt: one has written since the ledger was read.
  virtual Result<> hold_locks() = 0;
  // Ledger, then WAL, then the mark. What is applied is durable.
  virtual Result<> sync_wal() = 0;
  // The same from any thread beside commits, while no file is opened or closed: what was applied when it was called.
  virtual Result<> sync_wal_beside() = 0;
  virtual std::uint64_t wal_bytes() const = 0;      // end of the newest commit in the present epoch
};

}  // namespace rq::ledger
