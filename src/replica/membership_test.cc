#include "replica/membership.h"

#include <gtest/gtest.h>

namespace rq::replica {
namespace {

using raft::ConfChange;
using raft::ConfChangeType;
using raft::ConfState;

Member member(std::uint64_t id, std::string node_id, std::string addr) {
  return {.raft_id = RaftId{id}, .node_id = std::move(node_id), .raft_addr = std::move(addr), .api_addr = "a:1"};
}

struct Fixture : ::testing::Test {
  Fixture() {
    table.put(member(1, "n1", "h1:4002"));
    table.put(member(2, "n2", "h2:4002"));
    conf.voters = {RaftId{1}, RaftId{2}};
  }
  MemberTable table;
  ConfState conf;
};
using MembershipTest = Fixture;

TEST_F(MembershipTest, RecordSurvivesEncoding) {
  const MembershipRecord record{.cluster_id = 77, .members = table, .base_conf = conf, .base_members = table};
  const Result<MembershipRecord> read = decode_membership_record(encode(record));
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, record);
  EXPECT_FALSE(decode_membership_record("\xff\xff"));
}

TEST_F(MembershipTest, ANewNodeComesInAsALearner) {
  const auto change = join_change(table, conf, member(3, "n3", "h3:4002"));
  ASSERT_TRUE(change);
  ASSERT_EQ(change->steps.size(), 1u);
  EXPECT_EQ(change->steps[0].type, ConfChangeType::AddLearner);
  EXPECT_FALSE(change->joint);
}

TEST_F(MembershipTest, TheSameMemberAtTheSameAddressChangesNothing) {
  EXPECT_FALSE(join_change(table, conf, member(2, "n2", "h2:4002")));
}

TEST_F(MembershipTest, AMemberWithAnotherAddressStaysAVoter) {
  const auto change = join_change(table, conf, member(2, "n2", "elsewhere:4002"));
  ASSERT_TRUE(change);
  ASSERT_EQ(change->steps.size(), 1u);
  EXPECT_EQ(change->steps[0].type, ConfChangeType::AddVoter);
  apply_to(table, *change, conf);
  EXPECT_EQ(table.find(RaftId{2})->raft_addr, "elsewhere:4002");
}

TEST_F(MembershipTest, ANewDataDirectoryUnderTheSameIdReplacesTheOldInOneJointChange) {
  const auto change = join_change(table, conf, member(9, "n2", "h2:4002"));
  ASSERT_TRUE(change);
  ASSERT_EQ(change->steps.size(), 2u);
  EXPECT_EQ(change->steps[0].type, ConfChangeType::Remove);
  EXPECT_EQ(change->steps[0].id, RaftId{2});
  EXPECT_EQ(change->steps[1].id, RaftId{9});
  EXPECT_TRUE(change->joint);
}

TEST_F(MembershipTest, AnotherIdAtAnAddressInUseReplacesTheStaleMember) {
  const auto change = join_change(table, conf, member(9, "n9", "h2:4002"));
  ASSERT_TRUE(change);
  ASSERT_EQ(change->steps.size(), 2u);
  EXPECT_EQ(change->steps[0].id, RaftId{2});
}

TEST_F(MembershipTest, WhoLeftTheConfigurationLeavesTheTable) {
  const ConfState without{.voters = {RaftId{1}}};
  apply_to(table, {.steps = {{ConfChangeType::Remove, RaftId{2}}}}, without);
  EXPECT_EQ(table.find(RaftId{2}), nullptr);
  EXPECT_NE(table.find(RaftId{1}), nullptr);
}

TEST_F(MembershipTest, ADamagedMemberIsRefused) {
  EXPECT_FALSE(decode_member("\x09"));
  EXPECT_FALSE(decode_member(""));        // no raft id
}

}  // namespace
}  // namespace rq::replica
