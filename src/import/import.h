// Import of a data directory of the reference (rqlite v6 to v10), stopped or crashed, into one of ours.
//
// Truth is the newest snapshot and the log behind it; the reference's live database is not looked at. Entries that its log
// holds are taken as committed, as with a recovery by peers.json. The new directory is that of a cluster of one member, with
// a new cluster id, at the index and term at which the old log ends; docs/design/0009-import.md says why.
//
//   - The source is only read. Import into the same directory: its files move to the folder pre-import when all is done.
//   - All or nothing: build() works in a folder of its own, placement.h puts it in place. Whenever the process dies, the next
//     one discards it or finishes it.
//   - Memory doesn't depend on the size of the database: images pass through in pieces; a request of the log is held whole.
//   - Every byte of the source is distrusted; see the readers. Errors: Errc::NotFound (no such directory), Corrupt (what is
//     damaged, and where), Unsupported, TooLarge, NoSpace, Io, Canceled; BadRequest (several members, nothing may be lost by
//     mistake). After an error nothing has changed but the staging folder of the target.
// Threads: any one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "import/raft_log.h"
#include "import/replay.h"
#include "io/disk.h"
#include "replica/membership.h"

namespace rq::import {

// The directory holds the reference's state and none of ours.
Result<bool> is_reference_directory(io::Disk& disk, const std::string& dir);

// What there is to import.
struct Survey {
  std::string snapshot;             // id of the newest one; empty: none
  Index snapshot_index;
  Index last_index;                 // 0: nothing at all
  Term last_term, current_term;
  std::vector<Server> servers;      // of the newest configuration, or of raft/peers.json
  bool single() const { return servers.size() <= 1; }
};

enum class Stage : std::uint8_t { Image, Check, Replay };
// `total` is 0 when it isn't known. False: stop, with Errc::Canceled.
using OnProgress = std::function<bool(Stage stage, std::uint64_t done, std::uint64_t total)>;

struct Options {
  io::Disk* disk = nullptr;
  std::string base_vfs = "unix";    // must see the same files as `disk`
  std::string source;               // absolute
  std::string target;               // absolute, exists, locked by the caller, may be the source; holds no state of ours
  std::uint64_t cluster_id = 0;     // of the new cluster
  // The one member of it. raft_id is given; node id and address may be empty: as they were.
  replica::Member member;
  bool foreign_keys = false;        // the old nodes ran with -fk
  bool take_one_of_several = false; // else a directory of a cluster of several members is refused
  OnProgress on_progress;
};

struct Report {
  Survey survey;
  replica::Member member;
  ReplayCounts replayed;
};

Result<Survey> survey(io::Disk& disk, const std::string& source);
// Builds the new directory in the target's staging folder and marks it ready; finish_placement() does the rest.
Result<Report> build(const Options& options);

}  // namespace rq::import
