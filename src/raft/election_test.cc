// Who leads, and who stops to.
#include <gtest/gtest.h>

#include "raft/test_network.h"

namespace rq::raft {
namespace {

TEST(RaftElection, LoneVoterLeadsWithoutAWait) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  EXPECT_EQ(net.propose(1, "a"), Index{3});
  EXPECT_EQ(net.engine(1).commit(), Index{3});
}

TEST(RaftElection, OneOfThreeIsElectedByTheClock) {
  TestNetwork net;
  net.found(3);
  const std::uint64_t leader = net.wait_for_leader();
  ASSERT_NE(leader, 0U);
  for (std::uint64_t id = 1; id <= 3; ++id) EXPECT_EQ(net.engine(id).leader(), RaftId{leader});
}

TEST(RaftElection, TakesOneToTwoElectionTimeouts) {
  for (std::uint64_t seed = 1; seed < 40; ++seed) {
    TestNetwork net(seed);
    net.found(1);
    int ticks = 0;
    while (net.leader() == 0) net.tick(1), ++ticks;
    EXPECT_GE(ticks, 10);
    EXPECT_LT(ticks, 20);
  }
}

// A follower waits for its leader for one time, a candidate for votes for another.
TEST(RaftElection, ACandidateTriesAgainAfterItsOwnTime) {
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    TestNetwork net(seed);
    net.options.retry_ticks = 40;
    std::vector<int> asked;
    int ticks = 0;
    net.found(3);
    net.isolate(1);
    net.on_send = [&](const Message& m) {
      if (m.type == MessageType::RequestPreVote && m.from == RaftId{1} && (asked.empty() || asked.back() != ticks)) asked.push_back(ticks);
    };
    while (asked.size() < 3 && ticks < 1000) ++ticks, net.tick(1);
    ASSERT_EQ(asked.size(), 3U);
    EXPECT_LT(asked[0], 20);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_GE(asked[i + 1] - asked[i], 40);
      EXPECT_LT(asked[i + 1] - asked[i], 80);
    }
  }
}

TEST(RaftElection, EqualSeedsGiveEqualRuns) {
  const auto run = [](std::uint64_t seed) {
    TestNetwork net(seed);
    std::string trace;
    net.on_send = [&](const Message& m) {
      trace += std::to_string(static_cast<int>(m.type)) + ':' + std::to_string(m.from.value) + '>' + std::to_string(m.to.value) +
               '@' + std::to_string(m.term.value) + '/' + std::to_string(m.index.value) + ' ';
    };
    net.found(5);
    net.tick_all(30);
    if (const std::uint64_t leader = net.leader()) net.isolate(leader);
    net.tick_all(60);
    net.heal();
    net.tick_all(60);
    return trace;
  };
  std::set<std::string> traces;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const std::string trace = run(seed);
    EXPECT_EQ(trace, run(seed)) << "seed " << seed;
    traces.insert(trace);
  }
  EXPECT_GT(traces.size(), 5U) << "the seed makes no difference";
}

TEST(RaftElection, ReturnOfACutOffMemberDoesNotDisturbTheLeader) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  const Term term = net.engine(1).term();
  net.isolate(3);
  net.tick_all(100);
  EXPECT_EQ(net.engine(3).term(), term);   // pre-vote: it asks, it doesn't count up
  net.heal();
  net.tick_all(30);
  EXPECT_EQ(net.engine(1).role(), Role::Leader);
  EXPECT_EQ(net.engine(1).term(), term);
  EXPECT_EQ(net.engine(3).leader(), RaftId{1});
}

TEST(RaftElection, LeaderWithoutQuorumStepsDown) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.isolate(1);
  net.tick_all(41);
  EXPECT_NE(net.engine(1).role(), Role::Leader);
  EXPECT_EQ(net.engine(1).leader(), RaftId{});
  EXPECT_NE(net.leader(), 0U);
}

TEST(RaftElection, CandidateWithAShorterLogLoses) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.isolate(3);
  net.propose(1, "a");
  net.heal();
  net.isolate(1);
  net.ok(net.engine(2).leader_died());
  net.ok(net.engine(3).leader_died());
  net.drop = [](const Message& m) { return m.type == MessageType::RequestPreVote && m.from == RaftId{2}; };
  net.ok(net.engine(3).campaign());
  net.settle();
  EXPECT_NE(net.engine(3).role(), Role::Leader);
}

// Trap 14.
TEST(RaftElection, AForgottenLeaderIsReplacedWithoutWaitingForTheLease) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.propose(1, "a");
  net.crash(1);
  // With the lease in force the others refuse.
  net.ok(net.engine(2).campaign());
  net.settle();
  EXPECT_NE(net.engine(2).role(), Role::Leader);
  const Term term = net.engine(3).term();
  net.ok(net.engine(2).leader_died());
  net.ok(net.engine(3).leader_died());
  EXPECT_EQ(net.engine(3).leader(), RaftId{});
  EXPECT_EQ(net.engine(3).term(), term);
  EXPECT_TRUE(net.engine(3).has_ready());        // the change of leader is told
  net.elect(2);
  EXPECT_EQ(net.engine(3).leader(), RaftId{2});
}

// Trap 14: the vote of the term is kept, so a false alarm costs an election at most.
TEST(RaftElection, ForgettingTheLeaderKeepsTheVote) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  const RaftId vote = net.node(3).disk.hard_state.vote;
  EXPECT_EQ(vote, RaftId{1});
  net.ok(net.engine(3).leader_died());
  net.settle();
  EXPECT_EQ(net.node(3).disk.hard_state.vote, vote);
  net.tick_all(2);
  EXPECT_EQ(net.engine(3).leader(), RaftId{1});   // its next heartbeat is believed
}

TEST(RaftElection, TransferMovesLeadershipAtOnce) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.propose(1, "a");
  net.ok(net.engine(1).transfer_leader(RaftId{3}));
  net.settle();
  EXPECT_EQ(net.engine(3).role(), Role::Leader);
  EXPECT_EQ(net.engine(1).leader(), RaftId{3});
}

TEST(RaftElection, ProposalsAreRefusedDuringATransfer) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.isolate(3);
  net.propose(1, "a");
  net.ok(net.engine(1).transfer_leader(RaftId{3}));
  EXPECT_EQ(net.engine(1).status().transferee, RaftId{3});
  EXPECT_EQ(errc(net.engine(1).propose("b")), Errc::TransferInProgress);
  EXPECT_EQ(errc(net.engine(1).propose_conf_change({})), Errc::TransferInProgress);
  net.tick_all(11);                               // given up after an election timeout
  EXPECT_EQ(net.engine(1).status().transferee, RaftId{});
  net.propose(1, "c");
}

TEST(RaftElection, OnlyTheLeaderTransfersAndOnlyToAVoter) {
  TestNetwork net;
  net.found(voters({1, 2}, {3}));
  net.elect(1);
  EXPECT_EQ(errc(net.engine(2).transfer_leader(RaftId{1})), Errc::NotLeader);
  EXPECT_EQ(errc(net.engine(1).transfer_leader(RaftId{3})), Errc::BadRequest);
  EXPECT_EQ(errc(net.engine(1).transfer_leader(RaftId{9})), Errc::BadRequest);
}

TEST(RaftElection, ATransferDoesNotGetLostBetweenTwoReadys) {
  // The order to take over comes in one batch with the commit that it follows.
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.isolate(2);
  net.writes_wait = true;
  ASSERT_TRUE(net.engine(1).propose("a"));
  net.ok(net.engine(1).transfer_leader(RaftId{3}));
  for (int i = 0; i < 10; ++i) {
    for (std::uint64_t id : {1, 3}) {
      std::deque<Message> batch = std::exchange(net.wire, {});
      for (Message& m : batch) {
        if (m.to.value == id) net.ok(net.engine(id).step(std::move(m)));
        else net.wire.push_back(std::move(m));
      }
      net.carry_out(net.node(id));
      net.flush(id);
      net.carry_out(net.node(id));
    }
    net.isolated.clear();
  }
  net.settle();
  net.writes_wait = false;
  for (auto& [id, n] : net.nodes) net.flush(n);
  net.settle();
  EXPECT_EQ(net.engine(3).role(), Role::Leader);
}

TEST(RaftElection, LearnersAndStrangersDoNotStand) {
  TestNetwork net;
  net.found(voters({1}, {2}));
  net.add(7);
  net.tick_all(5);
  for (const std::uint64_t id : {2, 7}) {
    net.ok(net.engine(id).campaign());
    net.tick(id, 100);
    EXPECT_EQ(net.engine(id).role(), Role::Follower);
  }
}

// The network checks at each message that what it promises is durable.
TEST(RaftElection, VotesWaitForTheDisk) {
  TestNetwork net;
  net.found(3);
  net.writes_wait = true;
  net.ok(net.engine(1).campaign());
  net.settle();
  net.flush(1);                     // the question whether it may stand changes nothing on disk, but waits its turn
  net.settle();
  net.flush(2);
  net.settle();
  ASSERT_EQ(net.engine(1).role(), Role::Candidate);
  net.settle();
  EXPECT_TRUE(net.wire.empty());
  EXPECT_EQ(net.engine(2).term(), Term{1});
  net.flush(1);
  net.settle();
  EXPECT_EQ(net.engine(2).term(), Term{2});
  EXPECT_EQ(net.engine(1).role(), Role::Candidate);
  net.flush(2);
  net.settle();
  EXPECT_EQ(net.engine(1).role(), Role::Leader);
}

// Otherwise it would, after a crash, lead again in the same term and send its learners other entries.
TEST(RaftElection, LoneVoterSendsNothingUnderATermThatIsNotDurable) {
  TestNetwork net;
  net.found(voters({1}, {2}));
  net.tick_all(1);
  net.writes_wait = true;
  net.ok(net.engine(1).campaign());
  net.carry_out(net.node(1));
  ASSERT_EQ(net.engine(1).role(), Role::Leader);
  ASSERT_TRUE(net.engine(1).propose("a"));
  net.carry_out(net.node(1));
  for (const Message& m : net.wire) EXPECT_LE(m.term, net.node(1).disk.hard_state.term) << static_cast<int>(m.type);
  net.flush(1);
  net.carry_out(net.node(1));
  EXPECT_FALSE(net.wire.empty());
  for (const Message& m : net.wire) EXPECT_LE(m.term, net.node(1).disk.hard_state.term);
}

// raft-rs panics when it wins an election with entries that are not durable.
TEST(RaftElection, NobodyStandsBeforeItsLogIsDurable) {
  TestNetwork net;
  net.found(voters({1}));
  net.writes_wait = true;
  Message append{.type = MessageType::Append, .from = RaftId{5}, .to = RaftId{1}, .term = Term{2}, .log_term = Term{1},
                 .index = Index{1}, .commit = Index{1}, .entries = {entry(2, 2, "a")}};
  net.ok(net.engine(1).step(append));
  net.ok(net.engine(1).leader_died());
  net.ok(net.engine(1).campaign());
  net.tick(1, 50);
  EXPECT_EQ(net.engine(1).role(), Role::Follower);
  net.flush(1);
  net.settle();
  net.tick(1, 1);
  EXPECT_EQ(net.engine(1).role(), Role::Leader);   // it asked; it stands as soon as it may
}

}  // namespace
}  // namespace rq::raft
