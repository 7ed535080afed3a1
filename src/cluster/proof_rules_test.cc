#include "cluster/proof_rules.h"

#include <gtest/gtest.h>

namespace rq::cluster {
namespace {

raft::ConfState voters(std::initializer_list<std::uint64_t> ids) {
  raft::ConfState conf;
  for (const std::uint64_t id : ids) conf.voters.push_back(RaftId{id});
  return conf;
}
ProofReport value(std::uint64_t v, std::uint64_t engine = 7) { return {engine, v}; }

TEST(ProofRules, MajorityOfAllVotersAgreesWithoutTheOthers) {
  const auto verdict = judge(voters({1, 2, 3}), {{RaftId{1}, value(5)}, {RaftId{2}, value(5)}});
  EXPECT_EQ(verdict.agreed, value(5));
  EXPECT_TRUE(verdict.odd.empty());
  EXPECT_FALSE(verdict.complete);
}

TEST(ProofRules, HalfOfThemIsNoMajority) {
  EXPECT_FALSE(judge(voters({1, 2, 3}), {{RaftId{1}, value(5)}}).agreed);
  EXPECT_FALSE(judge(voters({1, 2, 3, 4}), {{RaftId{1}, value(5)}, {RaftId{2}, value(5)}}).agreed);
  EXPECT_FALSE(judge(voters({1, 2, 3, 4}), {{RaftId{1}, value(5)}, {RaftId{2}, value(5)}}).contradiction);
}

TEST(ProofRules, NamesTheOddOneALearnerToo) {
  raft::ConfState conf = voters({1, 2, 3});
  conf.learners.push_back(RaftId{9});
  const auto verdict = judge(conf, {{RaftId{1}, value(5)}, {RaftId{2}, value(6)}, {RaftId{3}, value(5)}, {RaftId{9}, value(6)}});
  EXPECT_EQ(verdict.agreed, value(5));
  EXPECT_EQ(verdict.odd, (std::vector<RaftId>{RaftId{2}, RaftId{9}}));
  EXPECT_TRUE(verdict.complete);
}

TEST(ProofRules, LearnersDontCountForTheMajority) {
  raft::ConfState conf = voters({1, 2, 3});
  conf.learners = {RaftId{8}, RaftId{9}};
  EXPECT_FALSE(judge(conf, {{RaftId{1}, value(5)}, {RaftId{8}, value(5)}, {RaftId{9}, value(5)}}).agreed);
}

TEST(ProofRules, NobodyCanTellWithoutAMajority) {
  const auto two = judge(voters({1, 2}), {{RaftId{1}, value(5)}, {RaftId{2}, value(6)}});
  EXPECT_FALSE(two.agreed);
  EXPECT_TRUE(two.contradiction);
  EXPECT_TRUE(judge(voters({1, 2, 3}), {{RaftId{1}, value(5)}, {RaftId{2}, value(6)}, {RaftId{3}, value(7)}}).contradiction);
  EXPECT_FALSE(judge(voters({1, 2, 3}), {{RaftId{1}, value(5)}, {RaftId{2}, value(6)}, {RaftId{3}, value(6)}}).contradiction);
}

TEST(ProofRules, OtherEnginesAndUnknownChainsAreNotCompared) {
  const auto verdict = judge(voters({1, 2, 3}), {{RaftId{1}, value(5, 1)}, {RaftId{2}, value(6, 2)}, {RaftId{3}, value(0, 1)}});
  EXPECT_FALSE(verdict.agreed);
  EXPECT_FALSE(verdict.contradiction);
  const auto rolling = judge(voters({1, 2, 3}), {{RaftId{1}, value(5, 1)}, {RaftId{2}, value(6, 2)}, {RaftId{3}, value(5, 1)}});
  EXPECT_EQ(rolling.agreed, value(5, 1));
  EXPECT_TRUE(rolling.odd.empty());
}

// What rotted was copied: the copy and its source don't bear each other out.
TEST(ProofRules, CopiesAreNoWitnessesAgainstOneThatIsNone) {
  const auto three = [](std::uint64_t a, std::uint64_t b, std::uint64_t c, const ProofCopies& copies) {
    return judge(voters({1, 2, 3}), {{RaftId{1}, value(a)}, {RaftId{2}, value(b)}, {RaftId{3}, value(c)}}, copies);
  };
  const ProofCopies second_of_first{{RaftId{2}, {RaftId{1}}}};
  EXPECT_EQ(three(5, 5, 5, second_of_first).agreed, value(5));
  EXPECT_FALSE(three(5, 5, 6, second_of_first).agreed);
  EXPECT_TRUE(three(5, 5, 6, second_of_first).contradiction);
  EXPECT_EQ(three(5, 6, 5, second_of_first).agreed, value(5));       // the copy went wrong by itself
  EXPECT_EQ(three(5, 6, 5, second_of_first).odd, std::vector<RaftId>{RaftId{2}});
  EXPECT_EQ(three(6, 5, 5, second_of_first).agreed, value(5));       // and so its source
  // Who has not reported yet may contradict; unless the value has two origins.
  EXPECT_FALSE(judge(voters({1, 2, 3}), {{RaftId{1}, value(5)}, {RaftId{2}, value(5)}}, second_of_first).agreed);
  EXPECT_EQ(judge(voters({1, 2, 3}), {{RaftId{1}, value(5)}, {RaftId{3}, value(5)}}, second_of_first).agreed, value(5));
  // All of one origin: the plain majority.
  const ProofCopies all{{RaftId{2}, {RaftId{1}}}, {RaftId{3}, {RaftId{2}}}};
  EXPECT_EQ(three(5, 5, 6, all).agreed, value(5));
  EXPECT_EQ(three(6, 5, 5, all).agreed, value(5));
  // Copies of each other, or of one that is gone.
  EXPECT_FALSE(three(5, 5, 6, {{RaftId{1}, {RaftId{2}}}, {RaftId{2}, {RaftId{1}}}}).agreed);
  EXPECT_FALSE(three(5, 5, 6, {{RaftId{1}, {RaftId{9}}}, {RaftId{2}, {RaftId{9}}}}).agreed);
  // A copy of a copy that is gone: what it stemmed from is remembered.
  EXPECT_FALSE(three(5, 5, 6, {{RaftId{2}, {RaftId{9}, RaftId{1}}}}).agreed);
  EXPECT_FALSE(three(5, 5, 6, {{RaftId{1}, {RaftId{8}, RaftId{7}}}, {RaftId{2}, {RaftId{9}, RaftId{7}}}}).agreed);
  const auto five = judge(voters({1, 2, 3, 4, 5}), {{RaftId{1}, value(5)}, {RaftId{2}, value(5)}, {RaftId{3}, value(5)}, {RaftId{4}, value(6)}, {RaftId{5}, value(6)}},
                          {{RaftId{2}, {RaftId{1}}}, {RaftId{3}, {RaftId{1}}}});
  EXPECT_FALSE(five.agreed);
  EXPECT_TRUE(five.contradiction);
  EXPECT_EQ(judge(voters({1, 2, 3, 4, 5}), {{RaftId{1}, value(5)}, {RaftId{2}, value(5)}, {RaftId{3}, value(5)}, {RaftId{4}, value(5)}, {RaftId{5}, value(6)}},
                  {{RaftId{2}, {RaftId{1}}}, {RaftId{3}, {RaftId{1}}}}).agreed, value(5));
}

TEST(ProofRules, WhatAllHaveAgainHasBeenWrittenOver) {
  const ProofReports chains{{RaftId{1}, value(5)}, {RaftId{2}, value(5)}, {RaftId{3}, value(6)}};
  EXPECT_TRUE(written_over(chains, {{RaftId{1}, value(8)}, {RaftId{2}, value(8)}, {RaftId{3}, value(8)}}));
  EXPECT_FALSE(written_over(chains, {{RaftId{1}, value(8)}, {RaftId{2}, value(8)}}));
  EXPECT_FALSE(written_over(chains, {{RaftId{1}, value(8)}, {RaftId{2}, value(8)}, {RaftId{3}, value(9)}}));
  EXPECT_FALSE(written_over(chains, {{RaftId{1}, value(8)}, {RaftId{2}, value(8)}, {RaftId{3}, value(8, 2)}}));
  EXPECT_FALSE(written_over(chains, {}));
}

TEST(ProofRules, JointMembershipNeedsBothMajorities) {
  raft::ConfState conf = voters({1, 2, 3});
  conf.voters_outgoing = {RaftId{3}, RaftId{4}, RaftId{5}};
  ProofReports reports = {{RaftId{1}, value(5)}, {RaftId{2}, value(5)}, {RaftId{3}, value(5)}};
  EXPECT_FALSE(judge(conf, reports).agreed);
  reports[RaftId{4}] = value(5);
  EXPECT_EQ(judge(conf, reports).agreed, value(5));
}

}  // namespace
}  // namespace rq::cluster
