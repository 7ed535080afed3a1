#include "replica/membership.h"

#include <algorithm>

namespace rq::replica {
namespace {

using raft::ConfChange;
using raft::ConfChangeType;
using raft::ConfState;

void fill(pb::Member& out, const Member& member) {
  out.set_raft_id(member.raft_id.value);
  out.set_node_id(member.node_id);
  out.set_raft_addr(member.raft_addr);
  out.set_api_addr(member.api_addr);
  out.set_https(member.https);
  out.set_read_replica(member.read_replica);
}

Member from(const pb::Member& in) {
  return Member{.raft_id = RaftId{in.raft_id()}, .node_id = in.node_id(), .raft_addr = in.raft_addr(),
                .api_addr = in.api_addr(), .https = in.https(), .read_replica = in.read_replica()};
}

template <class Repeated>
std::vector<RaftId> ids(const Repeated& in) {
  std::vector<RaftId> out;
  for (const std::uint64_t id : in) out.push_back(RaftId{id});
  return out;
}

template <class Repeated>
MemberTable table_from(const Repeated& in) {
  MemberTable table;
  for (const pb::Member& member : in) table.put(from(member));
  return table;
}

}  // namespace

void fill(pb::Conf& out, const ConfState& conf) {
  for (const RaftId id : conf.voters) out.add_voters(id.value);
  for (const RaftId id : conf.learners) out.add_learners(id.value);
  for (const RaftId id : conf.voters_outgoing) out.add_voters_outgoing(id.value);
  for (const RaftId id : conf.learners_next) out.add_learners_next(id.value);
  out.set_auto_leave(conf.auto_leave);
}

ConfState from(const pb::Conf& in) {
  return ConfState{.voters = ids(in.voters()), .learners = ids(in.learners()),
                   .voters_outgoing = ids(in.voters_outgoing()), .learners_next = ids(in.learners_next()),
                   .auto_leave = in.auto_leave()};
}

std::string encode(const Member& member) {
  pb::Member out;
  fill(out, member);
  return out.SerializeAsString();
}

std::string conf_context(const Member& member, std::uint64_t epoch) {
  pb::Member out;
  fill(out, member);
  out.set_epoch(epoch);
  return out.SerializeAsString();
}

bool of_another_epoch(const raft::ConfChange& change, std::uint64_t epoch) {
  pb::Member in;
  return !change.context.empty() && in.ParseFromString(change.context) && in.epoch() != 0 && in.epoch() != epoch;
}

Result<Member> decode_member(std::string_view bytes) {
  pb::Member in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return fail(Errc::Corrupt, "member record cut short");
  if (in.raft_id() == 0) return fail(Errc::Corrupt, "member record without raft id");
  return from(in);
}

const Member* MemberTable::find(RaftId id) const {
  const auto found = members_.find(id);
  return found == members_.end() ? nullptr : &found->second;
}

const Member* MemberTable::find_node(std::string_view node_id) const {
  for (const auto& [id, member] : members_)
    if (member.node_id == node_id) return &member;
  return nullptr;
}

const Member* MemberTable::find_raft_addr(std::string_view addr) const {
  for (const auto& [id, member] : members_)
    if (member.raft_addr == addr) return &member;
  return nullptr;
}

void MemberTable::put(Member member) { members_[member.raft_id] = std::move(member); }

void MemberTable::keep_only(const ConfState& conf) {
  std::erase_if(members_, [&](const auto& item) { return !conf.contains(item.first); });
}

std::vector<Member> MemberTable::all() const {
  std::vector<Member> out;
  for (const auto& [id, member] : members_) out.push_back(member);
  std::ranges::sort(out, {}, &Member::node_id);
  return out;
}

void fill(pb::MembershipRecord& out, const MembershipRecord& record) {
  out.set_cluster_id(record.cluster_id);
  for (const Member& member : record.members.all()) fill(*out.add_members(), member);
  fill(*out.mutable_base_conf(), record.base_conf);
  for (const Member& member : record.base_members.all()) fill(*out.add_base_members(), member);
}

std::string encode(const MembershipRecord& record) {
  pb::MembershipRecord out;
  fill(out, record);
  return out.SerializeAsString();
}

MembershipRecord from(const pb::MembershipRecord& in) {
  return MembershipRecord{.cluster_id = in.cluster_id(), .members = table_from(in.members()),
                          .base_conf = from(in.base_conf()), .base_members = table_from(in.base_members())};
}

Result<MembershipRecord> decode_membership_record(std::string_view bytes) {
  pb::MembershipRecord in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return fail(Errc::Corrupt, "membership record cut short");
  return from(in);
}

void apply_to(MemberTable& table, const ConfChange& change, const ConfState& result) {
  if (!change.context.empty()) {
    // A context that can't be read was refused when it was proposed; a table without it stays usable.
    if (const auto member = decode_member(change.context); member && result.contains(member->raft_id)) table.put(*member);
  }
  table.keep_only(result);
}

std::optional<ConfChange> join_change(const MemberTable& table, const ConfState& conf, const Member& joiner) {
  ConfChange change{.context = encode(joiner)};
  if (const Member* same = table.find(joiner.raft_id); same != nullptr && conf.contains(joiner.raft_id)) {
    if (*same == joiner) return std::nullopt;
    const auto type = conf.is_voter(joiner.raft_id) ? ConfChangeType::AddVoter : ConfChangeType::AddLearner;
    change.steps.push_back({type, joiner.raft_id});   // the same member with other addresses
    return change;
  }
  for (const Member& member : table.all())
    if (member.node_id == joiner.node_id || member.raft_addr == joiner.raft_addr)
      change.steps.push_back({ConfChangeType::Remove, member.raft_id});
  change.steps.push_back({ConfChangeType::AddLearner, joiner.raft_id});
  change.joint = change.steps.size() > 1;
  return change;
}

}  // namespace rq::replica
