// Membership changes as bytes.
#include <gtest/gtest.h>

#include "raft/test_network.h"

namespace rq::raft {
namespace {

bool equal(const ConfChange& a, const ConfChange& b) {
  const auto same = [](const ConfChangeStep& x, const ConfChangeStep& y) { return x.type == y.type && x.id == y.id; };
  return a.joint == b.joint && a.context == b.context && std::equal(a.steps.begin(), a.steps.end(), b.steps.begin(), b.steps.end(), same);
}

const ConfChange kFull{.steps = {{ConfChangeType::Remove, RaftId{1}}, {ConfChangeType::AddLearner, RaftId{UINT64_MAX}}},
                       .joint = true,
                       .context = std::string("a\0b", 3)};

TEST(ConfChangeCodec, ComesBackAsItWas) {
  for (const ConfChange& change : {kFull, ConfChange{}, ConfChange{.context = "only"}, ConfChange{.steps = {{ConfChangeType::AddVoter, RaftId{7}}}}}) {
    const Result<ConfChange> back = decode_conf_change(encode(change));
    ASSERT_TRUE(back) << back.error().text();
    EXPECT_TRUE(equal(change, *back));
  }
}

TEST(ConfChangeCodec, BytesAreFixed) {
  const ConfChange change{.steps = {{ConfChangeType::AddLearner, RaftId{0x0102}}}, .joint = true, .context = "xy"};
  EXPECT_EQ(encode(change), std::string("\x01\x01\x01\x00\x01\x02\x01\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00xy", 19));
}

TEST(ConfChangeCodec, NoBytesAreTheEngineLeavingAJointConfiguration) {
  const Result<ConfChange> change = decode_conf_change("");
  ASSERT_TRUE(change);
  EXPECT_TRUE(equal(*change, ConfChange{}));
}

TEST(ConfChangeCodec, EveryCutIsRefused) {
  const std::string bytes = encode(kFull);
  for (std::size_t size = 1; size < bytes.size(); ++size)
    EXPECT_EQ(errc(decode_conf_change(bytes.substr(0, size))), Errc::Corrupt) << size;
  EXPECT_EQ(errc(decode_conf_change(bytes + "x")), Errc::Corrupt);
}

TEST(ConfChangeCodec, RefusesWhatItDoesNotKnow) {
  const auto spoiled = [](std::size_t at, char value) {
    std::string bytes = encode(kFull);
    bytes[at] = value;
    return decode_conf_change(bytes);
  };
  EXPECT_EQ(errc(spoiled(0, 2)), Errc::Unsupported);
  EXPECT_EQ(errc(spoiled(1, 2)), Errc::Unsupported);
  EXPECT_EQ(errc(spoiled(4, 3)), Errc::Corrupt);       // type of the first step
  EXPECT_EQ(errc(spoiled(5, 0)), Errc::Corrupt);       // member 0
  EXPECT_EQ(errc(spoiled(3, 1)), Errc::TooLarge);      // 258 steps
}

TEST(ConfChangeCodec, RefusesTooMuchContext) {
  EXPECT_TRUE(decode_conf_change(encode({.context = std::string(64 * 1024, 'x')})));
  EXPECT_EQ(errc(decode_conf_change(encode({.context = std::string(64 * 1024 + 1, 'x')}))), Errc::TooLarge);
}

}  // namespace
}  // namespace rq::raft
