#include "cluster/reaper.h"

#include <gtest/gtest.h>

namespace rq::cluster {
namespace {

using namespace std::chrono_literals;

// n1 leads since 0 s; n2 and n3 vote, n4 is a read replica.
struct Scene {
  replica::View view;
  SteadyTime start{1h};
  ReapLimits limits{.voter = 10s, .read_replica = 5s};

  Scene() {
    view.role = raft::Role::Leader;
    view.led_since = start;
    for (std::uint64_t i = 1; i <= 4; ++i) {
      view.record.members.put({.raft_id = RaftId{i}, .node_id = "n" + std::to_string(i), .read_replica = i == 4});
      if (i < 4) view.conf.voters.push_back(RaftId{i});
    }
    view.conf.learners.push_back(RaftId{4});
  }
  void heard(std::uint64_t id, std::chrono::seconds at) { view.contacts[RaftId{id}] = start + at; }
  std::string silent(std::chrono::seconds at) const {
    std::string out;
    for (const SilentMember& member : silent_members(view, RaftId{1}, start + at, limits, 1s)) out += member.node_id + (member.voter ? "v " : "r ");
    return out;
  }
};

TEST(Reaper, TakesWhoIsSilentForLongerThanTheLimitOfItsKind) {
  Scene scene;
  scene.heard(2, 20s);
  scene.heard(3, 8s);
  scene.heard(4, 16s);
  EXPECT_EQ(scene.silent(20s), "n3v ");
  scene.heard(2, 22s);
  EXPECT_EQ(scene.silent(22s), "n3v n4r ");
}

TEST(Reaper, CountsFromTheBeginningOfLeadership) {
  Scene scene;
  scene.heard(2, 9s);
  EXPECT_EQ(scene.silent(9s), "n4r ");         // never heard: since 0 s
  scene.heard(4, 9s);
  EXPECT_EQ(scene.silent(9s), "");
}

TEST(Reaper, LeavesAllInPlaceWhenTheLeaderItselfWasAway) {
  Scene scene;
  for (std::uint64_t id = 2; id <= 4; ++id) scene.heard(id, 1s);
  EXPECT_EQ(scene.silent(60s), "");            // its own process stood still
}

TEST(Reaper, RemovesNobodyWithoutLimitLeadershipOrInTheMiddleOfAChange) {
  Scene scene;
  scene.heard(2, 60s);
  EXPECT_EQ(scene.silent(60s), "n3v n4r ");
  scene.limits.voter = 0s;
  EXPECT_EQ(scene.silent(60s), "n4r ");
  scene.view.conf.voters_outgoing = scene.view.conf.voters;
  EXPECT_EQ(scene.silent(60s), "");
  scene.view.conf.voters_outgoing.clear();
  scene.view.role = raft::Role::Follower;
  EXPECT_EQ(scene.silent(60s), "");
}

}  // namespace
}  // namespace rq::cluster
