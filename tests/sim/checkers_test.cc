// The checkers, on histories made by hand: good ones pass, bad ones are told.
#include <gtest/gtest.h>

#include "sim/data_checks.h"
#include "sim/linearizability.h"
#include "sim/raft_checks.h"

namespace rq::sim {
namespace {

using Kind = RegisterOp::Kind;

RegisterOp write(std::int64_t call, std::optional<std::int64_t> end, std::uint64_t value) { return {.kind = Kind::Write, .call = call, .end = end, .value = value}; }
RegisterOp read(std::int64_t call, std::int64_t end, std::uint64_t value) { return {.call = call, .end = end, .value = value}; }
RegisterOp swap(std::int64_t call, std::optional<std::int64_t> end, std::uint64_t expected, std::uint64_t value, bool success = true) {
  return {.kind = Kind::CompareAndSet, .call = call, .end = end, .value = value, .expected = expected, .success = success};
}

TEST(Linearizability, AcceptsWhatOneOrderExplains) {
  EXPECT_FALSE(check_register({}));
  EXPECT_FALSE(check_register({write(0, 10, 1), read(11, 12, 1)}));
  EXPECT_FALSE(check_register({write(0, 10, 1), read(1, 2, 0), read(3, 4, 1)}));          // took effect in between
  EXPECT_FALSE(check_register({write(0, 10, 1), write(0, 10, 2), read(11, 12, 1), read(13, 14, 1)}));
  EXPECT_FALSE(check_register({swap(0, 1, 0, 5), swap(2, 3, 5, 6), swap(4, 5, 5, 7, false), read(6, 7, 6)}));
  EXPECT_FALSE(check_register({read(5, 5, 0), write(5, 5, 1), read(5, 5, 0)}));           // one instant: they overlap
}

TEST(Linearizability, ToldAStaleRead) {
  EXPECT_TRUE(check_register({write(0, 10, 1), read(11, 12, 0)}));
  EXPECT_TRUE(check_register({write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)}));
}

TEST(Linearizability, ToldAReadThatGoesBack) { EXPECT_TRUE(check_register({write(0, 10, 1), read(1, 2, 1), read(3, 4, 0)})); }

TEST(Linearizability, ToldAValueOutOfNowhere) { EXPECT_TRUE(check_register({write(0, 1, 1), read(2, 3, 7)})); }

TEST(Linearizability, ToldTwoWinnersOfOneValue) { EXPECT_TRUE(check_register({swap(0, 10, 0, 1), swap(0, 10, 0, 2)})); }

TEST(Linearizability, ToldAMismatchThatCannotBe) { EXPECT_TRUE(check_register({write(0, 1, 5), swap(2, 3, 5, 6, false)})); }

TEST(Linearizability, AnOpenWriteMayTakeEffectAnyTimeOrNever) {
  EXPECT_FALSE(check_register({write(0, std::nullopt, 1), read(5, 6, 0)}));
  EXPECT_FALSE(check_register({write(0, std::nullopt, 1), read(5, 6, 0), read(7, 8, 1)}));
  EXPECT_TRUE(check_register({write(0, std::nullopt, 1), read(5, 6, 1), read(7, 8, 0)}));  // and not be undone
  EXPECT_TRUE(check_register({read(0, 1, 1), write(2, std::nullopt, 1)}));                 // nor before its call
}

// Found by the simulator's first runs: a comparison that fails notices writes whose values nobody reads.
TEST(Linearizability, AnOpenWriteExplainsAMismatch) {
  EXPECT_FALSE(check_register({write(0, 1, 5), write(2, std::nullopt, 9), swap(3, 4, 5, 6, false), write(7, 8, 1)}));
  EXPECT_TRUE(check_register({write(0, 1, 5), swap(3, 4, 5, 6, false), write(7, std::nullopt, 9)}));
}

TEST(Linearizability, LongHistoriesOfManyClientsAreJudged) {
  std::vector<RegisterOp> history;
  for (std::uint64_t i = 0; i < 400; ++i) {
    const auto at = static_cast<std::int64_t>(i * 10);
    history.push_back(write(at, at + 25, i + 1));          // three overlap
    if (i % 3 == 2) history.push_back(read(at + 26, at + 27, i + 1));
  }
  bool gave_up = false;
  EXPECT_FALSE(check_register(history, 4'000'000, &gave_up));
  EXPECT_FALSE(gave_up);
  history.push_back(read(5000, 5001, 3));
  EXPECT_TRUE(check_register(history, 4'000'000, &gave_up));
  EXPECT_FALSE(gave_up);
}

Append acked(std::uint64_t element, std::int64_t call, std::int64_t end) { return {.element = element, .call = call, .end = end, .fate = Fate::Acknowledged}; }

TEST(ListCheck, AcceptsAppendsInOrder) {
  EXPECT_FALSE(check_list({acked(1, 0, 5), acked(2, 6, 9), {.element = 3, .call = 7}, {.element = 4, .call = 1, .fate = Fate::Refused}},
                          {{{1}, 6, 7, true}, {{}, 8, 9, false}, {{1, 2}, 10, 11, true}}, {1, 2, 3}));
  EXPECT_FALSE(check_list({acked(1, 0, 5), {.element = 3, .call = 7}}, {}, {1}));
}
TEST(ListCheck, ToldALostAcknowledgement) { EXPECT_TRUE(check_list({acked(1, 0, 5), acked(2, 6, 9)}, {}, {1})); }
TEST(ListCheck, ToldAnElementAppliedTwice) { EXPECT_TRUE(check_list({acked(1, 0, 5)}, {}, {1, 1})); }
TEST(ListCheck, ToldARefusedElementThatIsThere) { EXPECT_TRUE(check_list({{.element = 1, .call = 0, .fate = Fate::Refused}}, {}, {1})); }
TEST(ListCheck, ToldAnElementOfNobody) { EXPECT_TRUE(check_list({acked(1, 0, 5)}, {}, {1, 9})); }
TEST(ListCheck, ToldAStaleRead) { EXPECT_TRUE(check_list({acked(1, 0, 5)}, {{{}, 6, 7, true}}, {1})); }
TEST(ListCheck, AllowsAStaleLocalRead) { EXPECT_FALSE(check_list({acked(1, 0, 5)}, {{{}, 6, 7, false}}, {1})); }
TEST(ListCheck, ToldAReadOfAnotherPast) { EXPECT_TRUE(check_list({acked(1, 0, 5), acked(2, 0, 5)}, {{{2}, 1, 2, false}}, {1, 2})); }
TEST(ListCheck, ToldReadsThatGoBack) { EXPECT_TRUE(check_list({{.element = 1, .call = 0}}, {{{1}, 1, 2, true}, {{}, 3, 4, true}}, {1})); }
TEST(ListCheck, ToldAppendsInTheWrongOrder) { EXPECT_TRUE(check_list({acked(1, 0, 5), acked(2, 6, 9)}, {}, {2, 1})); }

TEST(BankCheck, ToldMadeAndLostMoney) {
  EXPECT_FALSE(check_bank({100, 50, 150}, 3, 300));
  EXPECT_TRUE(check_bank({100, 50, 151}, 3, 300));
  EXPECT_TRUE(check_bank({100, 200}, 3, 300));
  EXPECT_TRUE(check_bank({-10, 310}, 2, 300));
}

raft::Entry entry(std::uint64_t index, std::uint64_t term, const std::string& payload) {
  return {.term = Term{term}, .index = Index{index}, .payload = std::make_shared<const std::string>(payload)};
}

TEST(RaftCheck, ToldTwoLeadersOfATerm) {
  RaftChecks checks;
  EXPECT_FALSE(checks.leads(RaftId{1}, Term{2}));
  EXPECT_FALSE(checks.leads(RaftId{1}, Term{2}));
  EXPECT_FALSE(checks.leads(RaftId{2}, Term{3}));
  EXPECT_TRUE(checks.leads(RaftId{2}, Term{2}));
}
TEST(RaftCheck, ToldTwoVotesOfATerm) {
  RaftChecks checks;
  EXPECT_FALSE(checks.votes(RaftId{1}, Term{2}, RaftId{3}));
  EXPECT_FALSE(checks.votes(RaftId{2}, Term{2}, RaftId{1}));
  EXPECT_TRUE(checks.votes(RaftId{1}, Term{2}, RaftId{1}));
}
TEST(RaftCheck, ToldLogsThatDoNotMatch) {
  RaftChecks checks;
  EXPECT_FALSE(checks.logged(entry(5, 2, "a"), Term{2}));
  EXPECT_FALSE(checks.logged(entry(5, 3, "b"), Term{2}));
  EXPECT_TRUE(checks.logged(entry(5, 2, "b"), Term{2}));
  EXPECT_TRUE(checks.logged(entry(5, 2, "a"), Term{1}));
}
TEST(RaftCheck, ToldTwoEntriesOfOneIndex) {
  RaftChecks checks;
  EXPECT_FALSE(checks.committed(entry(5, 2, "a")));
  EXPECT_FALSE(checks.committed(entry(5, 2, "a")));
  EXPECT_TRUE(checks.committed(entry(5, 3, "a")));
  EXPECT_TRUE(checks.committed(entry(5, 2, "b")));
}
TEST(RaftCheck, ToldAnotherResultAndAnotherState) {
  RaftChecks checks;
  EXPECT_FALSE(checks.chain(Index{5}, 1));
  EXPECT_FALSE(checks.chain(Index{5}, 0));
  EXPECT_TRUE(checks.chain(Index{5}, 2));
  EXPECT_FALSE(checks.result(Index{5}, 1));
  EXPECT_TRUE(checks.result(Index{5}, 2));
  EXPECT_FALSE(checks.state(Index{5}, 1));
  EXPECT_TRUE(checks.state(Index{5}, 2));
}

}  // namespace
}  // namespace rq::sim
