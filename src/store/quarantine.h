// What a quarantined node keeps on disk: a mark that outlives restarts, and the evidence.
//
// The mark (DIR/quarantine, the reason as text) is there from the moment in which the node stops to serve until another
// member's state took the place of its own. The evidence (DIR/quarantine-<time>/) holds the database, its WAL and the
// ledger as hard links: it costs nothing while it is made, and lives on when the files are replaced. The two newest stay.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/types.h"
#include "io/disk.h"

namespace rq::store {

Result<> write_quarantine_mark(io::Disk& disk, const std::string& dir, const std::string& why);
Result<std::optional<std::string>> read_quarantine_mark(io::Disk& disk, const std::string& dir);
Result<> remove_quarantine_mark(io::Disk& disk, const std::string& dir);
// Whose state this node's is a copy of, and whose that one was, nearest first, as long as nobody has compared it (DIR/copy-of: Raft
// ids as decimals, one a line). Written before the copy takes its place: what a crash leaves may say so of a state that is none.
// Empty: of nobody.
Result<> write_copy_mark(io::Disk& disk, const std::string& dir, const std::vector<RaftId>& sources);
Result<std::vector<RaftId>> read_copy_mark(io::Disk& disk, const std::string& dir);

// The value: the folder.
Result<std::string> keep_evidence(io::Disk& disk, const std::string& dir, WallTime now);

// `rqlited recover --trust NODE` on a stopped node: the state of NODE is the right one. A node of another name gives its own
// up at its next start; NODE itself forgets that it was quarantined. Errors: those of the disk; Errc::NotFound: no node here.
Result<> trust_node(io::Disk& disk, const std::string& dir, const std::string& node_id);

}  // namespace rq::store
