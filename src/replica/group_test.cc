#include "replica/group.h"

#include <gtest/gtest.h>

namespace rq::replica {
namespace {

TEST(Group, GivesBackWhatWasSealed) {
  GroupWriter writer;
  writer.add("first");
  writer.add("");
  writer.add(std::string(100'000, 'x'));
  const std::string payload = std::move(writer).seal(-5, 0x0102030405060708, 0x1112131415161718);
  const Result<GroupView> view = read_group(payload);
  ASSERT_TRUE(view) << view.error().text();
  ASSERT_EQ(view->proposals.size(), 3u);
  EXPECT_EQ(view->proposals[0], "first");
  EXPECT_EQ(view->proposals[1], "");
  EXPECT_EQ(view->proposals[2].size(), 100'000u);
  EXPECT_EQ(view->wall_ms, -5);
  ASSERT_EQ(view->seed.size(), 16u);
  EXPECT_EQ(view->seed[0], '\x08');
}

TEST(Group, AnEmptyPayloadHasNoProposals) {
  const Result<GroupView> view = read_group("");
  ASSERT_TRUE(view);
  EXPECT_TRUE(view->proposals.empty());
}

TEST(Group, RefusesEveryTruncation) {
  GroupWriter writer;
  writer.add("some proposal");
  const std::string payload = std::move(writer).seal(1'700'000'000'000, 1, 2);
  for (std::size_t size = 1; size < payload.size(); ++size) EXPECT_FALSE(read_group(payload.substr(0, size))) << size;
}

TEST(Group, RefusesALaterVersionAndUnknownFields) {
  GroupWriter writer;
  writer.add("p");
  std::string payload = std::move(writer).seal(1, 1, 2);
  const std::size_t version = payload.find("\x08\x01", 3);
  ASSERT_NE(version, std::string::npos);
  payload[version + 1] = 2;
  const Result<GroupView> later = read_group(payload);
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().code, Errc::Unsupported);
  payload[version + 1] = 1;
  const Result<GroupView> unknown = read_group(payload + "\x7a\x01z");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Errc::Unsupported);
}

TEST(Group, CostCoversWhatAProposalAdds) {
  for (const std::size_t size : {0u, 1u, 127u, 128u, 20'000u}) {
    GroupWriter writer;
    const std::string proposal(size, 'p');
    writer.add(proposal);
    EXPECT_LE(writer.size(), GroupWriter::cost(proposal));
  }
}

}  // namespace
}  // namespace rq::replica
