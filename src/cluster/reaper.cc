#include "cluster/reaper.h"

#include <algorithm>

namespace rq::cluster {

std::vector<SilentMember> silent_members(const replica::View& view, RaftId self, SteadyTime now, const ReapLimits& limits, std::chrono::nanoseconds contact) {
  if (view.role != raft::Role::Leader) return {};
  const auto silent_for = [&](RaftId id) -> std::chrono::nanoseconds {
    const auto heard = view.contacts.find(id);
    return now - (heard == view.contacts.end() ? view.led_since : std::max(heard->second, view.led_since));
  };
  const auto present = std::ranges::count_if(view.conf.voters, [&](RaftId id) { return id == self || (view.contacts.contains(id) && silent_for(id) < contact); });
  if (static_cast<std::size_t>(present) <= view.conf.voters.size() / 2 || view.conf.joint()) return {};
  std::vector<SilentMember> out;
  for (const replica::Member& member : view.record.members.all()) {
    const std::chrono::nanoseconds limit = member.read_replica ? limits.read_replica : limits.voter;
    if (member.raft_id == self || limit.count() <= 0 || silent_for(member.raft_id) <= limit) continue;
    out.push_back({member.node_id, !member.read_replica});
  }
  return out;
}

}  // namespace rq::cluster
