// Which members a leader removes because they were silent for too long (spec cluster.md section 4.4). Pure.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/clock.h"
#include "replica/replica.h"

namespace rq::cluster {

struct ReapLimits {
  std::chrono::nanoseconds voter{0}, read_replica{0};     // 0: never
  bool any() const { return voter.count() > 0 || read_replica.count() > 0; }
};

struct SilentMember {
  std::string node_id;
  bool voter = false;
};

// The members silent for longer than their limit, counted from the beginning of leadership at the earliest. None while the
// leader itself was away (its process stood still): it must have heard a majority within `contact`.
std::vector<SilentMember> silent_members(const replica::View& view, RaftId self, SteadyTime now, const ReapLimits& limits, std::chrono::nanoseconds contact);

}  // namespace rq::cluster
