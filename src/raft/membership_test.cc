// Who belongs to the group.
#include <gtest/gtest.h>

#include "raft/test_network.h"

namespace rq::raft {
namespace {

using enum ConfChangeType;

// Trap 3.
TEST(RaftMembership, BeginsWithASnapshotAtIndexOne) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.add(2);                                    // knows nobody, waits
  EXPECT_EQ(net.engine(2).status().conf_state, ConfState{});
  net.tick(2, 100);
  EXPECT_EQ(net.engine(2).role(), Role::Follower);
  net.reconfigure(1, change(AddLearner, 2));
  net.tick_all(5);
  EXPECT_EQ(net.node(2).disk.snapshot_index, Index{1});
  net.expect_agreement();
  // It replayed the change behind the snapshot, so it knows the group as it is.
  EXPECT_EQ(net.engine(2).status().conf_state, voters({1}, {2}));
}

// Trap 3: a founder that comes late receives the membership; it never believes that it is alone.
TEST(RaftMembership, LateFounderIsNotAlone) {
  TestNetwork net;
  const ConfState conf = voters({1, 2, 3});
  net.founders = conf;
  net.add(1, conf);
  net.add(2);
  net.add(3);
  net.elect(1);                                  // the others vote for it although they know no membership
  net.tick_all(5);
  EXPECT_EQ(net.engine(3).status().conf_state, conf);
  net.propose(1, "a");
  net.expect_agreement();
}

TEST(RaftMembership, LearnerIsPromoted) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.add(2);
  net.reconfigure(1, change(AddLearner, 2));
  net.tick_all(3);
  EXPECT_TRUE(net.engine(1).status().peers.at(0).learner);
  net.reconfigure(1, change(AddVoter, 2));
  net.tick_all(3);
  EXPECT_EQ(net.engine(2).status().conf_state, voters({1, 2}));
  EXPECT_FALSE(net.engine(1).status().peers.at(0).learner);
  net.isolate(2);
  ASSERT_TRUE(net.engine(1).propose("a"));
  net.settle();
  EXPECT_EQ(net.engine(1).commit().value + 1, net.engine(1).status().last_index.value);   // two are needed now
}

TEST(RaftMembership, RepeatedAdditionChangesNothingButCarriesItsContext) {
  TestNetwork net;
  net.found(voters({1}, {2}));
  net.elect(1);
  net.reconfigure(1, change(AddVoter, 1, "address 1"));
  net.reconfigure(1, change(AddLearner, 2, "address 2"));
  net.reconfigure(1, {.context = "only a context"});
  EXPECT_EQ(net.engine(1).status().conf_state, voters({1}, {2}));
  EXPECT_FALSE(net.engine(1).status().has_pending_conf);
  const Result<ConfChange> last = decode_conf_change(*net.node(1).committed.back().payload);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->context, "only a context");
}

TEST(RaftMembership, JointChangeReplacesAMemberAtOnceAndIsLeftAutomatically) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.add(4);
  net.crash(3);
  net.reconfigure(1, {.steps = {{Remove, RaftId{3}}, {AddLearner, RaftId{4}}}, .joint = true});
  EXPECT_EQ(net.engine(1).status().conf_state, voters({1, 2}, {4}));   // left without a tick
  net.tick_all(3);
  net.reconfigure(1, change(AddVoter, 4));
  net.tick_all(3);
  net.propose(1, "a");
  net.expect_agreement();
  EXPECT_EQ(net.engine(4).status().conf_state, voters({1, 2, 4}));
}

TEST(RaftMembership, OneChangeAtATime) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  ASSERT_TRUE(net.engine(1).propose_conf_change(change(AddLearner, 4)));
  EXPECT_EQ(errc(net.engine(1).propose_conf_change(change(AddLearner, 5))), Errc::Busy);
  EXPECT_TRUE(net.engine(1).status().has_pending_conf);
  net.settle();
  ASSERT_TRUE(net.engine(1).propose_conf_change(change(AddLearner, 5)));
}

// raft-rs would put an empty entry, or one without effect, into the log and say nothing.
TEST(RaftMembership, ImpossibleChangesAreRefusedToTheProposer) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  const Index last = net.engine(1).status().last_index;
  EXPECT_EQ(errc(net.engine(1).propose_conf_change(change(Remove, 1))), Errc::BadRequest);
  EXPECT_EQ(errc(net.engine(1).propose_conf_change(change(AddVoter, 0))), Errc::BadRequest);
  EXPECT_EQ(errc(net.engine(1).propose_conf_change({.context = std::string(1 << 20, 'x')})), Errc::TooLarge);
  EXPECT_EQ(errc(net.engine(1).propose_conf_change({.steps = std::vector<ConfChangeStep>(65, {AddVoter, RaftId{2}})})), Errc::TooLarge);
  EXPECT_EQ(net.engine(1).status().last_index, last);
}

TEST(RaftMembership, RefusedChangeDoesNotBlockTheNext) {
  TestNetwork net;
  net.options.max_message_bytes = 100;
  net.options.max_uncommitted_bytes = 500;
  net.found(3);
  net.elect(1);
  net.isolate(1);
  ASSERT_TRUE(net.engine(1).propose(std::string(600, 'x')));
  EXPECT_EQ(errc(net.engine(1).propose_conf_change(change(AddLearner, 4))), Errc::Busy);
  EXPECT_FALSE(net.engine(1).status().has_pending_conf);
}

// Trap 4.
TEST(RaftMembership, RestartSkipsChangesThatTheStoredMembershipContains) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.reconfigure(1, change(AddLearner, 2));
  net.reconfigure(1, change(AddLearner, 3));
  const ConfState conf = net.node(1).disk.conf;
  net.crash(1);
  net.node(1).disk.applied = Index{1};           // the state machine is behind: entries are handed over again
  net.restart(1);
  EXPECT_EQ(net.engine(1).status().conf_state, conf);
  net.elect(1);
  net.propose(1, "a");
  EXPECT_EQ(net.engine(1).status().conf_state, conf);
  EXPECT_EQ(net.engine(1).status().applied, net.engine(1).commit());
  net.reconfigure(1, change(AddVoter, 1, "although nobody applied the older ones again"));
}

// Trap 4: the same when the caller asks nevertheless.
TEST(RaftMembership, OlderChangesAnswerWithThePresentMembership) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.reconfigure(1, change(AddLearner, 2));
  const Entry old = net.node(1).committed.back();
  net.reconfigure(1, change(Remove, 2));
  const Result<ConfState> conf = net.engine(1).apply_conf_change(old);
  ASSERT_TRUE(conf);
  EXPECT_EQ(*conf, voters({1}));
}

// Trap 4: what was stored with the membership was committed, even when the commit itself was not written.
TEST(RaftMembership, StoredMembershipRaisesTheCommit) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.reconfigure(1, change(AddLearner, 2));
  const Index conf_index = net.node(1).disk.conf_index;
  net.crash(1);
  net.node(1).disk.hard_state.commit = Index{1};
  net.node(1).disk.applied = Index{1};
  net.restart(1);
  EXPECT_GE(net.engine(1).commit(), conf_index);
  net.elect(1);                                  // at once: nothing waits to be applied
}

// Trap 5.
TEST(RaftMembership, LeaderThatAppliesItsOwnRemovalStepsDown) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.writes_wait = true;
  ASSERT_TRUE(net.engine(1).propose_conf_change(change(Remove, 1)));
  ASSERT_TRUE(net.engine(1).propose("behind it"));   // persisted after the removal is applied: raft-rs panics there
  net.carry_out(net.node(1));
  ASSERT_TRUE(net.engine(1).propose("and more"));
  net.carry_out(net.node(1));
  net.flush(net.node(1), 1);
  net.settle();
  for (int i = 0; i < 5; ++i) {
    net.flush(2);
    net.flush(3);
    net.settle();
  }
  EXPECT_EQ(net.engine(1).role(), Role::Follower);
  EXPECT_EQ(net.engine(1).leader(), RaftId{});
  net.flush(1);
  net.settle();
  net.writes_wait = false;
  for (auto& [id, n] : net.nodes) net.flush(n);
  net.settle();
  net.tick(1, 100);
  EXPECT_EQ(net.engine(1).role(), Role::Follower);   // never stands again
  net.isolate(1);
  net.ok(net.engine(2).leader_died());
  net.ok(net.engine(3).leader_died());
  net.elect(2);
  net.propose(2, "a");
  EXPECT_EQ(net.engine(2).status().conf_state, voters({2, 3}));
}

// Trap 5: transfer first, then the successor removes it.
TEST(RaftMembership, RemovalAfterTransferLeavesALeaderInPlace) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.ok(net.engine(1).transfer_leader(RaftId{2}));
  net.settle();
  net.reconfigure(2, change(Remove, 1));
  EXPECT_EQ(net.engine(2).role(), Role::Leader);
  net.propose(2, "a");
  EXPECT_EQ(net.engine(3).commit(), net.engine(2).commit());
}

TEST(RaftMembership, LeaderMayBecomeALearner) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.reconfigure(1, {.steps = {{AddLearner, RaftId{1}}}, .joint = true});
  net.settle();
  EXPECT_EQ(net.engine(1).role(), Role::Follower);
  EXPECT_FALSE(net.engine(1).status().conf_state.is_voter(RaftId{1}));
  for (std::uint64_t id = 1; id <= 3; ++id) net.ok(net.engine(id).leader_died());
  net.elect(2);
  net.propose(2, "a");
  net.expect_agreement();
}

// Trap 13: the leader that entered the joint configuration dies before it leaves it.
TEST(RaftMembership, NextLeaderLeavesAJointConfiguration) {
  TestNetwork net;
  net.found(5);
  net.elect(1);
  net.writes_wait = true;
  const Result<Index> index =
      net.engine(1).propose_conf_change({.steps = {{Remove, RaftId{5}}, {AddLearner, RaftId{6}}}, .joint = true});
  ASSERT_TRUE(index);
  // Cut the old leader off as soon as another knows that the change is committed.
  for (int i = 0; i < 20 && net.engine(2).commit() < *index; ++i) {
    net.settle();
    for (std::uint64_t id = 1; id <= 5; ++id) net.flush(id);
  }
  net.isolate(1);
  net.writes_wait = false;
  for (auto& [id, n] : net.nodes) net.flush(n);
  net.settle();
  for (std::uint64_t id = 2; id <= 5; ++id) net.ok(net.engine(id).leader_died());
  net.elect(2);
  EXPECT_EQ(net.engine(2).status().conf_state, voters({1, 2, 3, 4}, {6}));
}

// Trap 13: a member restarted within the joint configuration, as the only one that can lead.
TEST(RaftMembership, RestartWithinAJointConfigurationLeavesIt) {
  TestNetwork net;
  ConfState joint = voters({1});
  joint.voters_outgoing = {RaftId{1}, RaftId{2}};
  joint.auto_leave = true;
  net.founders = voters({1, 2});
  net.add(1, joint);
  net.add(2, joint);
  net.elect(1);
  EXPECT_EQ(net.engine(1).status().conf_state, voters({1}));
}

// Trap 13: the caller's own way out, when nothing is pending and nothing leaves it.
TEST(RaftMembership, EmptyChangeLeavesAJointConfiguration) {
  TestNetwork net;
  ConfState joint = voters({1});
  joint.voters_outgoing = {RaftId{1}, RaftId{2}};   // no automatic leave
  net.add(1, joint);
  net.add(2, joint);
  net.elect(1);
  EXPECT_TRUE(net.engine(1).status().conf_state.joint());
  EXPECT_EQ(errc(net.engine(1).propose_conf_change(change(AddVoter, 3))), Errc::Busy);
  net.reconfigure(1, {});
  EXPECT_EQ(net.engine(1).status().conf_state, voters({1}));
}

// Trap 11: over a conf entry that is committed and not applied nobody stands; once it is, at once.
TEST(RaftMembership, CampaignWaitsForUnappliedChanges) {
  TestNetwork net;
  net.found(voters({1}));
  net.elect(1);
  ASSERT_TRUE(net.engine(1).propose_conf_change(change(AddLearner, 2)));
  net.settle();
  const Index conf_index = net.node(1).disk.conf_index;
  net.crash(1);
  net.node(1).disk.conf = voters({1});              // it crashed before the membership was written
  net.node(1).disk.conf_index = Index{1};
  net.node(1).disk.applied = Index{1};
  net.node(1).disk.hard_state.commit = conf_index;
  net.restart(1);
  net.ok(net.engine(1).campaign());
  EXPECT_EQ(net.engine(1).role(), Role::Follower);
  net.settle();                                      // hands the entry over
  EXPECT_EQ(net.engine(1).role(), Role::Leader);
  EXPECT_EQ(net.engine(1).status().conf_state, voters({1}, {2}));
}

TEST(RaftMembership, RemovedMemberCannotDisturbTheOthers) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.isolate(3);
  net.reconfigure(1, change(Remove, 3));
  const Term term = net.engine(1).term();
  net.heal();
  net.tick_all(100);
  EXPECT_EQ(net.engine(1).role(), Role::Leader);
  EXPECT_EQ(net.engine(1).term(), term);
}

TEST(RaftMembership, HelpersKnowBothHalvesOfAJointConfiguration) {
  ConfState conf = voters({1, 2}, {5});
  conf.voters_outgoing = {RaftId{2}, RaftId{3}};
  conf.learners_next = {RaftId{3}};
  EXPECT_TRUE(conf.joint());
  EXPECT_TRUE(conf.is_voter(RaftId{1}));
  EXPECT_TRUE(conf.is_voter(RaftId{3}));
  EXPECT_FALSE(conf.is_voter(RaftId{5}));
  EXPECT_TRUE(conf.contains(RaftId{5}));
  EXPECT_FALSE(conf.contains(RaftId{4}));
}

}  // namespace
}  // namespace rq::raft
