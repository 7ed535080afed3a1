// Recovery of a cluster whose majority is lost for good, and of an entry that can't be applied. On a data directory whose
// node isn't running (the caller holds its lock).
//
// raft/peers.json names the members that go on: [{"id":"n1","address":"host:port","non_voter":false}, ...]; the same file in
// each of their directories. Log and database stay as they are: what is in the log and not known to be committed is decided by
// the first election among the new members, as ever. Replaced are the membership, the cluster's id and the members' Raft ids, all derived
// from the file (so that its readers agree without talking), and the term is raised. So members of before can't
// talk to those of after, and membership entries of before have no effect (Member.epoch). An empty directory gets the
// membership with an empty database.
// Crash: the log is written first, then node.json, then the file is renamed to peers.info; a start in between does it again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "raft/engine.h"
#include "replica/membership.h"
#include "store/node_file.h"

namespace rq::store {

struct Peer {
  std::string id, address;
  bool non_voter = false;
};
// Errc::BadRequest with the texts of spec cluster.md section 12, complete from "failed to read peers file: " or "failed to recover node: " on.
Result<std::vector<Peer>> parse_peers(std::string_view text);
std::string peers_text(const std::vector<Peer>& peers);

inline std::string peers_path(const std::string& data_dir) { return data_dir + "/raft/peers.json"; }
inline std::string skip_path(const std::string& data_dir) { return data_dir + "/raft/skip.json"; }

// Does what raft/peers.json says; `node` gets its new Raft id. False: there is no such file.
Result<bool> recover_membership(io::Disk& disk, const std::string& data_dir, NodeFile& node);

// `rqlited recover -skip`: the index to pass over, in raft/skip.json until it is done. 0: none.
Result<> ask_to_skip(io::Disk& disk, const std::string& data_dir, Index index);
Result<Index> asked_to_skip(io::Disk& disk, const std::string& data_dir);

// How far a directory is, for people.
struct LogPosition {
  Index first, last, commit, applied;    // applied: by the database
  Term term, last_term;
  replica::MembershipRecord record;
  raft::ConfState conf;
  bool empty = true;
};
Result<LogPosition> look_at_log(io::Disk& disk, const std::string& data_dir);

}  // namespace rq::store
