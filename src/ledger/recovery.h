// Brings the files of a database to the state of one log index, after any crash, before SQLite sees them.
//
// What is decided (design section 5): if the WAL's salts are not those of the ledger's epoch, the WAL is void and the
// state is the epoch's base. Else the WAL is cut behind its last valid commit frame that has a ledger line, and that
// line is the state. Then the WAL is synced, the ledger rewritten to {epoch, line}, the shm voided. Doing it twice, or
// dying in it anywhere, comes to the same.
// Foreign hands: while we run, other programs can neither write nor checkpoint (shim_vfs.h holds the locks). A WAL that
// is missing at start, or ends before what a checkpoint may have moved into db.sqlite, was changed in between:
// Errc::Corrupt, the caller starts over from a snapshot or the whole log.
// An installation that was begun (install()) is finished first.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "io/disk.h"
#include "ledger/ledger.h"

namespace rq::ledger {

struct Paths {
  std::string dir, database, wal, shm, ledger, install;
};
Paths paths_in(const std::string& dir);

// A new directory gets an empty database at `bootstrap`. Errc::Corrupt (detail says why), Unsupported, Io, NoSpace.
Result<std::unique_ptr<Ledger>> recover(io::Disk& disk, const Paths& paths, const Position& bootstrap);
// Replaces everything by an empty database at `position`.
Result<> reset(io::Disk& disk, const Paths& paths, const Position& position);
// Puts the complete and durable database file `image` (in WAL mode, on the same file system) in the place of the database:
// the state is `position` from then on. Once it has begun, recover() finishes it; before that nothing has changed. No file
// of the database is open.
Result<> install(io::Disk& disk, const Paths& paths, const std::string& image, const Position& position);
// Removes database, WAL, shm and ledger.
Result<> wipe(io::Disk& disk, const Paths& paths);

}  // namespace rq::ledger
