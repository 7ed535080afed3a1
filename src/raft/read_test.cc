// Linearizable reads: read_index().
#include <gtest/gtest.h>

#include "raft/test_network.h"

namespace rq::raft {
namespace {

std::vector<std::string> contexts(const TestNode& node) {
  std::vector<std::string> out;
  for (const ReadState& read : node.reads) out.push_back(read.context);
  return out;
}

TEST(RaftRead, LoneVoterAnswersAtOnce) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.ok(net.engine(1).read_index("r"));
  net.settle();
  ASSERT_EQ(net.node(1).reads.size(), 1U);
  EXPECT_EQ(net.node(1).reads[0].context, "r");
  EXPECT_EQ(net.node(1).reads[0].index, net.engine(1).commit());
}

TEST(RaftRead, LeaderAsksAMajorityFirst) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.propose(1, "a");
  net.isolate(1);
  net.ok(net.engine(1).read_index("r"));
  net.settle();
  EXPECT_TRUE(net.node(1).reads.empty());
  net.heal();
  net.isolate(3);
  net.tick(1);                                   // the next heartbeat asks again
  EXPECT_EQ(contexts(net.node(1)), std::vector<std::string>{"r"});
}

TEST(RaftRead, FollowerAsksTheLeader) {
  TestNetwork net;
  net.found(voters({1, 2}, {3}));
  net.elect(1);
  net.propose(1, "a");
  net.tick_all(1);
  for (const std::uint64_t id : {2, 3}) {
    net.ok(net.engine(id).read_index("r"));
    net.settle();
    ASSERT_EQ(net.node(id).reads.size(), 1U);
    EXPECT_EQ(net.node(id).reads[0].context, "r");
    EXPECT_EQ(net.node(id).reads[0].index, net.engine(1).commit());
  }
}

// raft-rs forgets a read whose context it holds already, whoever sent it.
TEST(RaftRead, EqualContextsOfDifferentMembersAreDifferentReads) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  for (std::uint64_t id = 1; id <= 3; ++id) net.ok(net.engine(id).read_index("1"));
  net.settle();
  for (std::uint64_t id = 1; id <= 3; ++id) EXPECT_EQ(contexts(net.node(id)), std::vector<std::string>{"1"}) << id;
}

// The leader may still hold a read of our previous life, with the index of then.
TEST(RaftRead, AnswersToAPreviousLifeAreIgnored) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.propose(1, "a");
  Message answer;
  net.drop = [&](const Message& m) {
    if (m.type != MessageType::ReadIndexResponse) return false;
    answer = m;
    return true;
  };
  net.ok(net.engine(2).read_index("1"));
  net.settle();
  net.crash(2);
  net.propose(1, "b");
  net.restart(2);
  net.tick_all(1);
  net.heal();
  net.ok(net.engine(2).step(answer));
  net.settle();
  EXPECT_TRUE(net.node(2).reads.empty());
  net.ok(net.engine(2).read_index("1"));
  net.settle();
  ASSERT_EQ(net.node(2).reads.size(), 1U);
  EXPECT_EQ(net.node(2).reads[0].index, net.engine(1).commit());
}

// Trap 12.
TEST(RaftRead, RefusedBeforeTheFirstCommitOfTheTerm) {
  TestNetwork net;
  net.found(3);
  net.drop = [](const Message& m) { return m.type == MessageType::Append; };
  net.elect(1);
  EXPECT_FALSE(net.engine(1).status().own_term_committed);
  EXPECT_EQ(errc(net.engine(1).read_index("r")), Errc::NotLeader);
  net.heal();
  net.tick_all(2);
  EXPECT_TRUE(net.engine(1).status().own_term_committed);
  EXPECT_TRUE(net.engine(1).read_index("r"));
}

// Trap 12.
TEST(RaftRead, RefusedWithoutALeader) {
  TestNetwork net;
  net.found(3);
  EXPECT_EQ(errc(net.engine(1).read_index("r")), Errc::NotLeader);
  net.elect(1);
  net.ok(net.engine(2).leader_died());
  EXPECT_EQ(errc(net.engine(2).read_index("r")), Errc::NotLeader);
}

// Trap 12: such reads are simply gone; the caller sees the change of role and fails them.
TEST(RaftRead, ChangeOfRoleDropsReadsAndIsTold) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.isolate(1);
  net.ok(net.engine(1).read_index("r"));
  net.settle();
  net.ok(net.engine(1).leader_died());
  const Result<Ready> ready = net.engine(1).take_ready();
  ASSERT_TRUE(ready);
  EXPECT_TRUE(ready->role_changed);
  net.heal();
  net.tick_all(40);
  EXPECT_TRUE(net.node(1).reads.empty());
}

TEST(RaftRead, OneRoundServesAllThatWait) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  for (const char* context : {"1", "2", "3"}) net.ok(net.engine(1).read_index(context));
  net.carry_out(net.node(1));
  net.settle();
  EXPECT_EQ(contexts(net.node(1)), (std::vector<std::string>{"1", "2", "3"}));
}

}  // namespace
}  // namespace rq::raft
