// Puts the database of a snapshot together as a new SQLite file: copied or unpacked with its checksum, then its WALs folded in
// by SQLite. The source is only read.
#pragma once

#include <cstdint>
#include <string>

#include "import/input.h"
#include "import/snapshots.h"
#include "io/disk.h"

namespace rq::import {

// Makes `path` (which doesn't exist). Errc::Corrupt: a checksum, a length or a WAL is wrong; Canceled; NoSpace; Io.
Result<> build_image(io::Disk& disk, const std::string& vfs, const Snapshot& snapshot, const std::string& path, const Progress& progress);

// Whether the file begins as an SQLite database does.
Result<bool> looks_like_database(io::Disk& disk, const std::string& path);
// Opens it, switches it to WAL mode, runs quick_check. Errc::Corrupt with `what` in the text.
Result<> check_image(const std::string& vfs, const std::string& path, const std::string& what);
// Folds the WAL in and removes it and its index: the file alone is the database. Closed and durable when it returns.
Result<> settle_image(io::Disk& disk, const std::string& vfs, const std::string& path);
// Database, WAL and shm, whichever is there.
Result<> remove_image(io::Disk& disk, const std::string& path);

}  // namespace rq::import
