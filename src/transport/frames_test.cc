#include "transport/frames.h"

#include <gtest/gtest.h>

#include "transport/codec.h"

namespace rq::transport {
namespace {

TEST(Frames, GiveBackMessagesHoweverTheBytesAreCut) {
  std::string bytes;
  const std::string large(kFramePayloadMax * 2 + 5, 'L');
  append_frames(bytes, FrameType::Request, 7, large);
  append_frames(bytes, FrameType::Raft, 1, "");
  append_frames(bytes, FrameType::Response, 9, "small");
  for (const std::size_t piece : {std::size_t{1000}, std::size_t{65536}, bytes.size()}) {
    FrameReader reader;
    reader.set_limit(kMessageMax);
    std::vector<MessageFrame> got;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      std::string_view in = std::string_view(bytes).substr(at, piece);
      while (true) {
        auto message = reader.next(in);
        ASSERT_TRUE(message);
        if (!*message) break;
        got.push_back(std::move(**message));
      }
    }
    ASSERT_EQ(got.size(), 3u);
    EXPECT_EQ(got[0].payload, large);
    EXPECT_EQ(got[0].stream, 7u);
    EXPECT_EQ(got[2].payload, "small");
  }
}

TEST(Frames, RefuseEveryFlippedBit) {
  std::string bytes;
  append_frames(bytes, FrameType::Hello, 3, "a hello of some kind");
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x04);
    FrameReader reader;
    std::string_view in = flipped;
    const auto message = reader.next(in);
    EXPECT_TRUE(!message || !*message) << at;   // an error, or a longer length that never comes
  }
}

TEST(Frames, KeepTheLimitOfAStrangerSmall) {
  std::string bytes;
  append_frames(bytes, FrameType::Hello, 0, std::string(kHelloMax + 1, 'x'));
  FrameReader reader;
  std::string_view in = bytes;
  const auto message = reader.next(in);
  ASSERT_FALSE(message);
  EXPECT_EQ(message.error().code, Errc::TooLarge);
}

raft::Message append_message() {
  raft::Message message;
  message.from = RaftId{1};
  message.to = RaftId{2};
  message.term = Term{5};
  message.index = Index{9};
  message.context = "ctx";
  for (std::uint64_t i = 10; i < 13; ++i)
    message.entries.push_back({.type = raft::EntryType::Normal, .term = Term{5}, .index = Index{i}, .payload = std::make_shared<const std::string>("p" + std::to_string(i))});
  return message;
}

TEST(Codec, GivesBackRaftMessages) {
  const auto read = decode_message(encode(append_message()));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->term, Term{5});
  EXPECT_EQ(read->entries.size(), 3u);
  EXPECT_EQ(*read->entries[2].payload, "p12");
  raft::Message snapshot;
  snapshot.type = raft::MessageType::Snapshot;
  snapshot.snapshot = raft::SnapshotDescriptor{.index = Index{1}, .term = Term{1}, .conf_state = {.voters = {RaftId{1}}}, .data = "d"};
  const auto again = decode_message(encode(snapshot));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->snapshot->conf_state, snapshot.snapshot->conf_state);
}

TEST(Codec, RefusesGapsUnknownTypesAndHalfMessages) {
  raft::Message gap = append_message();
  gap.entries.erase(gap.entries.begin() + 1);
  EXPECT_EQ(decode_message(encode(gap)).error().code, Errc::Corrupt);
  raft::Message bare;
  bare.type = raft::MessageType::Snapshot;
  EXPECT_EQ(decode_message(encode(bare)).error().code, Errc::Corrupt);
  const std::string bytes = encode(append_message());
  for (std::size_t size = 0; size < bytes.size(); ++size) (void)decode_message(std::string_view(bytes).substr(0, size));
  EXPECT_FALSE(decode_message("\x08\x63"));
  EXPECT_FALSE(decode_hello("\xff"));
}

TEST(Codec, CarriesErrorsAsCodeAndDetail) {
  const auto error = decode_response(encode_response(fail(Errc::NotLeader, "d")));
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error(), (Error{Errc::NotLeader, "d"}));
  EXPECT_EQ(*decode_response(encode_response(std::string("fine"))), "fine");
}

}  // namespace
}  // namespace rq::transport
