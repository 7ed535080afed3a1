// The folder in which SQLite keeps its temporary files: sorters, the new file of a VACUUM, spilled statement journals. A
// machine's /tmp may be missing, read-only, full or in memory; then entries that need such files could not be applied. So
// it lies beside the database, on the disk that has to have room anyway.
//
// SQLite knows one such folder a process (sqlite3_temp_directory, c3ref/temp_directory.html): called before the first
// connection, from one thread. The files have no names while they are used; what a killed process left is removed here.
#pragma once

#include <string>

#include "base/result.h"
#include "io/disk.h"

namespace rq::store {

inline constexpr const char* kTempFolder = "sqlite-temp";     // in the data directory

// Makes and empties the folder and names it to SQLite. `elsewhere`, the environment's SQLITE_TMPDIR as users of SQLite know it,
// is taken instead unless it is null or empty; Errc::BadRequest when it is no folder that can be written.
Result<> set_temp_folder(io::Disk& disk, const std::string& data_dir, const char* elsewhere);

}  // namespace rq::store
