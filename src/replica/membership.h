// The replicated member table: who the Raft ids are and where they are reached. Pure.
//
// It is changed by conf entries only: their context is one pb::Member (encoded), their steps say what becomes of which
// Raft id. Every node keeps the newest table beside the ConfState in its log (wal::Membership) and starts from the
// table of the first snapshot when it replays.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "command/command.pb.h"
#include "raft/engine.h"

namespace rq::replica {

struct Member {
  RaftId raft_id;
  std::string node_id;
  std::string raft_addr;
  std::string api_addr;      // host:port; empty: not told yet
  bool https = false;
  bool read_replica = false; // stays a learner
  bool operator==(const Member&) const = default;
};
std::string encode(const Member& member);
// The context of a conf change of the cluster `epoch`. In a cluster of another id it has no effect: that one was recovered
// by its operator with another membership.
std::string conf_context(const Member& member, std::uint64_t epoch);
bool of_another_epoch(const raft::ConfChange& change, std::uint64_t epoch);
Result<Member> decode_member(std::string_view bytes);

// A value: copies are cheap enough (a handful of members).
class MemberTable {
 public:
  const Member* find(RaftId id) const;
  const Member* find_node(std::string_view node_id) const;
  const Member* find_raft_addr(std::string_view addr) const;
  void put(Member member);
  void erase(RaftId id) { members_.erase(id); }
  // Drops members that the configuration doesn't name any more.
  void keep_only(const raft::ConfState& conf);
  std::vector<Member> all() const;   // ordered by node id
  bool empty() const { return members_.empty(); }
  bool operator==(const MemberTable&) const = default;

 private:
  std::map<RaftId, Member> members_;
};

struct MembershipRecord {
  std::uint64_t cluster_id = 0;
  MemberTable members;
  raft::ConfState base_conf;
  MemberTable base_members;
  bool operator==(const MembershipRecord&) const = default;
};
std::string encode(const MembershipRecord& record);
void fill(pb::MembershipRecord& out, const MembershipRecord& record);
MembershipRecord from(const pb::MembershipRecord& in);
void fill(pb::Conf& out, const raft::ConfState& conf);
raft::ConfState from(const pb::Conf& in);
Result<MembershipRecord> decode_membership_record(std::string_view bytes);

// What a committed conf entry does to the table.
void apply_to(MemberTable& table, const raft::ConfChange& change, const raft::ConfState& result);

// The change that lets `joiner` in as a learner, given the present table: replaces another data directory under the
// same node id and whoever holds its address. nullopt: it is a member already, with the same addresses.
std::optional<raft::ConfChange> join_change(const MemberTable& table, const raft::ConfState& conf, const Member& joiner);

}  // namespace rq::replica
