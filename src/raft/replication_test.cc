// Entries on their way into all logs.
#include <gtest/gtest.h>

#include "raft/test_network.h"

namespace rq::raft {
namespace {

TEST(RaftReplication, ProposalIsCommittedOnAllMembers) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  const Index index = net.propose(1, "a");
  EXPECT_EQ(index, Index{3});             // 1 is the bootstrap snapshot, 2 the leader's own entry
  for (std::uint64_t id = 1; id <= 3; ++id) {
    ASSERT_EQ(net.node(id).committed.size(), 2U) << id;
    EXPECT_EQ(*net.node(id).committed[0].payload, "");
    EXPECT_EQ(*net.node(id).committed[1].payload, "a");
  }
}

TEST(RaftReplication, OnePayloadServesLogMessagesAndCommit) {
  TestNetwork net;
  net.found(voters({1}, {2, 3}));
  net.elect(1);
  net.tick_all(2);
  net.writes_wait = true;
  ASSERT_TRUE(net.engine(1).propose(std::string(1000, 'x')));
  Result<Ready> ready = net.engine(1).take_ready();
  ASSERT_TRUE(ready);
  ASSERT_EQ(ready->entries.size(), 1U);
  const std::string* payload = ready->entries[0].payload.get();
  ASSERT_EQ(ready->messages.size(), 2U);
  for (const Message& m : ready->messages) EXPECT_EQ(m.entries.at(0).payload.get(), payload);
  net.ok(net.engine(1).persisted(ready->number));
  ready = net.engine(1).take_ready();
  ASSERT_TRUE(ready);
  ASSERT_EQ(ready->committed.size(), 1U);
  EXPECT_EQ(ready->committed[0].payload.get(), payload);
}

TEST(RaftReplication, LeaderSendsWhileItWrites) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.writes_wait = true;
  ASSERT_TRUE(net.engine(1).propose("a"));
  net.carry_out(net.node(1));
  EXPECT_EQ(std::ranges::count(net.wire, MessageType::Append, &Message::type), 2);
  // A majority without the leader commits; the leader itself hands over what is on its own disk only.
  net.settle();
  net.flush(2);
  net.flush(3);
  net.settle();
  EXPECT_EQ(net.engine(1).commit(), Index{3});
  EXPECT_EQ(net.node(1).handed_over, Index{2});
  net.flush(1);
  net.settle();
  EXPECT_EQ(net.node(1).handed_over, Index{3});
}

TEST(RaftReplication, SeveralReadysMayBeUnderWay) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.writes_wait = true;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(net.engine(1).propose(std::to_string(i)));
    net.carry_out(net.node(1));
  }
  EXPECT_EQ(net.node(1).writes.size(), 5U);
  net.flush(net.node(1), 2);
  net.settle();
  net.flush(2);
  net.flush(3);
  net.settle();
  EXPECT_EQ(net.engine(1).commit(), Index{7});
  EXPECT_EQ(net.node(1).handed_over, Index{4});
  net.flush(1);
  net.settle();
  EXPECT_EQ(net.node(1).handed_over, Index{7});
}

TEST(RaftReplication, ProposalsOfOneReadyLeaveAsOneMessageToEachPeer) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(net.engine(1).propose("x"));
  net.carry_out(net.node(1));
  ASSERT_EQ(net.wire.size(), 2U);
  for (const Message& m : net.wire) EXPECT_EQ(m.entries.size(), 20U);
  net.settle();
  net.expect_agreement();
}

// Trap 9.
TEST(RaftReplication, MessagesKeepTheirSizeLimit) {
  TestNetwork net;
  net.options.max_message_bytes = 10'000;
  net.found(3);
  net.elect(1);
  std::size_t largest = 0;
  net.on_send = [&](const Message& m) {
    std::size_t bytes = 0;
    for (const Entry& e : m.entries) bytes += e.payload->size();
    largest = std::max(largest, bytes);
  };
  net.isolate(3);
  for (int i = 0; i < 50; ++i) net.propose(1, std::string(1000, 'x'));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(net.engine(1).propose(std::string(1000, 'y')));
  net.settle();
  net.heal();
  net.tick_all(5);
  EXPECT_LE(largest, 10'000U);
  EXPECT_GT(largest, 5'000U);
  net.expect_agreement();
  net.propose(1, std::string(50'000, 'z'));   // one entry always fits
  net.expect_agreement();
}

// Trap 9.
TEST(RaftReplication, UncommittedBytesAreLimited) {
  TestNetwork net;
  net.options.max_message_bytes = 500;
  net.options.max_uncommitted_bytes = 1000;
  net.found(3);
  net.elect(1);
  net.isolate(1);
  EXPECT_TRUE(net.engine(1).propose(std::string(5000, 'x')));   // one always fits
  EXPECT_EQ(errc(net.engine(1).propose("y")), Errc::Busy);
  net.settle();
  net.heal();
  net.tick_all(3);
  EXPECT_TRUE(net.engine(1).propose("y"));                       // usable again
  net.settle();
  net.expect_agreement();
}

// Trap 9.
TEST(RaftReplication, CommittedBytesOfOneReadyAreLimited) {
  TestNetwork net;
  net.options.max_committed_bytes_per_ready = 3000;
  net.found(1);
  net.elect(1);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(net.engine(1).propose(std::string(1000, 'x')));
  Result<Ready> ready = net.engine(1).take_ready();
  ASSERT_TRUE(ready);
  net.ok(net.engine(1).persisted(ready->number));
  std::size_t handed_over = 0, readys = 0;
  for (; net.engine(1).has_ready(); ++readys) {
    ready = net.engine(1).take_ready();
    ASSERT_TRUE(ready);
    EXPECT_LE(ready->committed.size(), 3U);
    handed_over += ready->committed.size();
  }
  EXPECT_EQ(handed_over, 10U);
  EXPECT_GE(readys, 4U);
}

// Trap 7.
TEST(RaftReplication, OnlyEntriesAndVotesAskForASync) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.propose(1, "a");
  net.ok(net.engine(1).tick());
  Result<Ready> ready = net.engine(1).take_ready();       // heartbeats
  ASSERT_TRUE(ready);
  EXPECT_FALSE(ready->messages.empty());
  EXPECT_FALSE(ready->must_sync);
  EXPECT_TRUE(ready->entries.empty());
  EXPECT_FALSE(ready->hard_state);
  ASSERT_TRUE(net.engine(1).propose("b"));
  EXPECT_TRUE(net.engine(1).take_ready()->must_sync);
}

// Trap 7.
TEST(RaftReplication, AMovedCommitAloneAsksForNoSync) {
  TestNetwork net;
  net.found(2);
  net.elect(1);
  net.writes_wait = true;
  ASSERT_TRUE(net.engine(1).propose("a"));
  net.settle();
  net.flush(1);
  net.flush(2);
  net.settle();
  bool moved = false;
  for (const TestWrite& write : net.node(2).writes) {
    if (!write.ready.hard_state) continue;
    moved = true;
    EXPECT_FALSE(write.ready.must_sync);
  }
  EXPECT_TRUE(moved);
}

TEST(RaftReplication, OnlyTheLeaderTakesProposals) {
  TestNetwork net;
  net.found(3);
  EXPECT_EQ(errc(net.engine(1).propose("a")), Errc::NotLeader);
  net.elect(1);
  EXPECT_EQ(errc(net.engine(2).propose("a")), Errc::NotLeader);
  EXPECT_EQ(errc(net.engine(2).propose_conf_change({})), Errc::NotLeader);
}

TEST(RaftReplication, ConflictingTailIsReplaced) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.propose(1, "a");
  net.isolate(1);
  for (int i = 0; i < 10; ++i) net.propose(1, "lost" + std::to_string(i));
  net.ok(net.engine(2).leader_died());
  net.ok(net.engine(3).leader_died());
  net.elect(2);
  net.propose(2, "b");
  net.heal();
  net.tick_all(5);
  EXPECT_EQ(net.engine(1).role(), Role::Follower);
  net.expect_agreement();
  ASSERT_EQ(net.node(1).disk.log.size(), net.node(2).disk.log.size());
  for (std::size_t i = 0; i < net.node(1).disk.log.size(); ++i)
    EXPECT_EQ(*net.node(1).disk.log[i].payload, *net.node(2).disk.log[i].payload);
}

TEST(RaftReplication, CrashForgetsOnlyWhatWasNotAcknowledged) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.propose(1, "a");
  net.writes_wait = true;
  ASSERT_TRUE(net.engine(1).propose("b"));
  net.settle();
  for (std::uint64_t id = 1; id <= 3; ++id) net.crash(id);
  net.wire.clear();
  net.writes_wait = false;
  for (std::uint64_t id = 1; id <= 3; ++id) net.restart(id);
  net.elect(2);
  net.propose(2, "c");
  net.expect_agreement();
  EXPECT_EQ(net.truth.at(Index{3}).second, "a");
  EXPECT_EQ(net.truth.rbegin()->second.second, "c");
}

TEST(RaftReplication, RestartedMemberCatchesUpFromTheWindow) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.crash(3);
  for (int i = 0; i < 100; ++i) net.propose(1, std::to_string(i));
  net.restart(3);
  net.tick_all(5);
  net.expect_agreement();
  EXPECT_TRUE(net.node(1).fetches.empty());
}

TEST(RaftReplication, LostMessagesAreRepeated) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  int count = 0;
  net.drop = [&](const Message& m) { return m.type == MessageType::Append && ++count % 2 == 0; };
  for (int i = 0; i < 20; ++i) net.propose(1, std::to_string(i));
  net.tick_all(30);
  net.heal();
  net.tick_all(5);
  net.expect_agreement();
}

TEST(RaftReplication, AStoppedFollowerDoesNotCostUnboundedMessages) {
  TestNetwork net;
  net.options.max_inflight_messages = 4;
  net.found(3);
  net.elect(1);
  std::size_t sent = 0;
  net.on_send = [&](const Message& m) { sent += m.type == MessageType::Append && m.to == RaftId{3} && !m.entries.empty(); };
  net.isolate(3);
  for (int i = 0; i < 100; ++i) net.propose(1, std::to_string(i));
  EXPECT_LE(sent, 4U);
  net.heal();
  net.tick_all(10);
  net.expect_agreement();
}

TEST(RaftReplication, UnreachablePeerIsProbedInsteadOfFlooded) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  std::size_t sent = 0;
  net.isolate(3);
  net.engine(1).report_unreachable(RaftId{3});
  net.on_send = [&](const Message& m) { sent += m.type == MessageType::Append && m.to == RaftId{3}; };
  for (int i = 0; i < 100; ++i) net.propose(1, std::to_string(i));
  EXPECT_LE(sent, 1U);
  net.heal();
  net.tick_all(3);
  net.expect_agreement();
}

TEST(RaftReplication, EmptyPayloadsAndLargeOnesAreTheSameToTheEngine) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  net.propose(1, "");
  net.propose(1, std::string(3u << 20, 'x'));
  net.propose(1, "short");
  net.expect_agreement();
  EXPECT_EQ(net.truth.at(Index{4}).second.size(), 3u << 20);
}

TEST(RaftReplication, ATakenSharedPayloadOutlivesTheEngine) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.propose(1, "a payload that is longer than a short string");
  const Payload kept = net.node(1).committed.back().payload;
  net.crash(1);
  EXPECT_EQ(*kept, "a payload that is longer than a short string");
}

}  // namespace
}  // namespace rq::raft
