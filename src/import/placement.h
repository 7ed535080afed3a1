// How an imported directory takes its place, all or nothing, whenever the process dies.
//
//   DIR/import.staging   the new data directory while it is built; thrown away at the next start
//   DIR/import.ready     the same, complete and durable: from this rename on the import will be finished.
//                        The reference's files move to DIR/pre-import
//   DIR/import.placing   they are aside; the new files move to DIR one by one
// Each step is a rename in one folder or between two, and may be done again. finish_placement() goes on from wherever the
// last process died.
#pragma once

#include <string>

#include "base/result.h"
#include "io/disk.h"

namespace rq::import {

inline constexpr const char* kSetAside = "pre-import";     // folder of the reference's files

std::string staging_in(const std::string& dir);

// Removes what an import that didn't come to its end left behind.
Result<> discard_staging(io::Disk& disk, const std::string& dir);
// The staging folder is complete and durable: nothing is undone from here on. finish_placement() comes next.
Result<> mark_ready(io::Disk& disk, const std::string& dir);
// Whether there is an import to be finished.
Result<bool> placement_pending(io::Disk& disk, const std::string& dir);
// Goes through the steps that are left, if any. Nothing in DIR is open but its lock.
Result<> finish_placement(io::Disk& disk, const std::string& dir);

}  // namespace rq::import
