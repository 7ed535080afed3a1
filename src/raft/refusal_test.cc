// Trap 8: what would make the library panic, or believe what can't be, is refused before; a misuse poisons the engine and
// leaves the process alone.
#include <gtest/gtest.h>

#include "raft/test_network.h"

namespace rq::raft {
namespace {

// Member 2 of three, a follower of 1 in the present term, with some log.
struct Follower {
  Follower() {
    net.found(3);
    net.elect(1);
    net.propose(1, "a");
    term = net.engine(2).term();
    last = net.engine(2).status().last_index;
  }
  Message from_leader(MessageType type) const {
    return {.type = type, .from = RaftId{1}, .to = RaftId{2}, .term = term};
  }
  // Dropped: nothing happens at all.
  void expect_ignored(std::uint64_t id, const Message& message, const char* what) {
    RaftEngine& engine = net.engine(id);
    const Status before = engine.status();
    EXPECT_TRUE(engine.step(message)) << what;
    EXPECT_FALSE(engine.has_ready()) << what;
    const Status after = engine.status();
    EXPECT_EQ(before.term, after.term) << what;
    EXPECT_EQ(before.commit, after.commit) << what;
    EXPECT_EQ(before.last_index, after.last_index) << what;
    EXPECT_EQ(before.conf_state, after.conf_state) << what;
  }
  void expect_alive() {
    net.settle();
    net.propose(1, "still alive");
    net.expect_agreement();
  }
  TestNetwork net;
  Term term;
  Index last;
};

// A disk that was wiped under an old id: raft-rs calls it fatal.
TEST(RaftRefusal, HeartbeatWithACommitBeyondOurLog) {
  Follower f;
  Message m = f.from_leader(MessageType::Heartbeat);
  m.commit = f.last.next();
  f.expect_ignored(2, m, "commit beyond the log");
  f.expect_alive();
}

TEST(RaftRefusal, WrongAddresses) {
  Follower f;
  Message m = f.from_leader(MessageType::Heartbeat);
  m.to = RaftId{3};
  f.expect_ignored(2, m, "for another");
  m.to = RaftId{2};
  m.from = RaftId{2};
  f.expect_ignored(2, m, "from ourselves");
  m.from = RaftId{0};
  f.expect_ignored(2, m, "from nobody");
  f.expect_alive();
}

TEST(RaftRefusal, AnswersOfUnknownPeers) {
  Follower f;
  for (const MessageType type : {MessageType::AppendResponse, MessageType::HeartbeatResponse, MessageType::RequestVoteResponse}) {
    const Message m{.type = type, .from = RaftId{77}, .to = RaftId{1}, .term = f.term, .index = f.last};
    f.expect_ignored(1, m, "answer of a stranger");
  }
  f.expect_alive();
}

TEST(RaftRefusal, MessagesWithoutATerm) {
  Follower f;
  for (int type = 3; type <= 18; ++type) {
    if (type >= 10 && type <= 13) continue;
    Message m = f.from_leader(static_cast<MessageType>(type));
    m.term = Term{};
    f.expect_ignored(2, m, std::to_string(type).c_str());
    m.to = RaftId{1};
    m.from = RaftId{2};
    if (m.type == MessageType::ReadIndex) continue;
    f.expect_ignored(1, m, std::to_string(type).c_str());
  }
  f.expect_alive();
}

TEST(RaftRefusal, UnknownTypesAndLocalOnes) {
  Follower f;
  for (const int type : {0, 1, 2, 10, 11, 12, 13, 19, 200}) {
    Message m = f.from_leader(static_cast<MessageType>(type));
    m.entries = {entry(f.last.value + 1, f.term.value, "x")};
    f.expect_ignored(2, m, std::to_string(type).c_str());
    std::swap(m.from, m.to);
    f.expect_ignored(1, m, std::to_string(type).c_str());
  }
  f.expect_alive();
}

TEST(RaftRefusal, EntriesThatDoNotFollowEachOther) {
  Follower f;
  Message m = f.from_leader(MessageType::Append);
  m.index = f.last;
  m.log_term = f.term;
  const std::uint64_t next = f.last.value + 1, term = f.term.value;
  const auto refused = [&](std::vector<Entry> entries, const char* what) {
    m.entries = std::move(entries);
    f.expect_ignored(2, m, what);
  };
  refused({entry(next + 1, term)}, "a gap");
  refused({entry(next, term), entry(next, term)}, "the same twice");
  refused({entry(next, term + 1)}, "from a later term");
  refused({entry(next, term - 1)}, "from an earlier term");
  refused({entry(next, 0)}, "without a term");
  refused({entry(0, term)}, "index 0");
  Entry strange = entry(next, term);
  strange.type = static_cast<EntryType>(1);
  refused({strange}, "of an unknown type");
  m.index = Index{UINT64_MAX};
  refused({entry(0, term)}, "overflow");
  f.expect_alive();
}

TEST(RaftRefusal, AcknowledgementsOfWhatDoesNotExist) {
  Follower f;
  Message m{.type = MessageType::AppendResponse, .from = RaftId{2}, .to = RaftId{1}, .term = f.term, .index = f.last.next()};
  f.expect_ignored(1, m, "beyond our log");
  m.reject = true;
  m.reject_hint = f.last.next();
  f.expect_ignored(1, m, "hint beyond our log");
  m.reject_hint = Index{UINT64_MAX};
  f.expect_ignored(1, m, "hint that overflows");
  m = {.type = MessageType::AppendResponse, .from = RaftId{2}, .to = RaftId{1}, .term = f.term, .index = f.last, .reject = true,
       .request_snapshot = f.last};
  f.expect_ignored(1, m, "a request that we never make");
  f.expect_alive();
}

TEST(RaftRefusal, ImpossibleSnapshots) {
  Follower f;
  Message m = f.from_leader(MessageType::Snapshot);
  f.expect_ignored(2, m, "none");
  const auto refused = [&](const std::function<void(SnapshotDescriptor&)>& spoil, const char* what) {
    SnapshotDescriptor descriptor{.index = Index{100}, .term = f.term, .conf_state = f.net.founders};
    spoil(descriptor);
    m.snapshot = descriptor;
    f.expect_ignored(2, m, what);
  };
  refused([](auto& d) { d.index = {}; }, "no index");
  refused([](auto& d) { d.term = {}; }, "no term");
  refused([](auto& d) { d.term = Term{99}; }, "future term");
  refused([](auto& d) { d.conf_state = {}; }, "no members");
  refused([](auto& d) { d.conf_state.learners = {RaftId{2}}; }, "voter and learner");
  refused([](auto& d) { d.conf_state.voters.push_back(RaftId{2}); }, "twice");
  refused([](auto& d) { d.conf_state.learners_next = {RaftId{2}}; }, "half joint");
  f.net.settle();
  m.snapshot = SnapshotDescriptor{.index = Index{100}, .term = f.term, .conf_state = voters({1, 3})};
  EXPECT_TRUE(f.net.engine(2).step(m));
  EXPECT_EQ(f.net.engine(2).status().last_index, f.last) << "it does not list us";
  f.expect_alive();
}

TEST(RaftRefusal, ImpossibleTerms) {
  Follower f;
  for (const MessageType type : {MessageType::Heartbeat, MessageType::RequestVote, MessageType::RequestPreVote}) {
    Message m = f.from_leader(type);
    m.term = Term{UINT64_MAX};
    f.expect_ignored(2, m, "the last term there is");
  }
  f.expect_alive();
}

TEST(RaftRefusal, ReadsOfOthersAndReadsAtAFollower) {
  Follower f;
  Message m{.type = MessageType::ReadIndexResponse, .from = RaftId{1}, .to = RaftId{2}, .term = f.term, .index = f.last, .context = "x"};
  f.expect_ignored(2, m, "an answer to no read of ours");
  m = {.type = MessageType::ReadIndex, .from = RaftId{3}, .to = RaftId{2}, .context = "x"};
  f.expect_ignored(2, m, "a read at a follower");
  f.expect_alive();
}

// ---- misuse

void expect_poisoned(RaftEngine& engine) {
  EXPECT_EQ(errc(engine.tick()), Errc::Internal);
  EXPECT_EQ(errc(engine.step({})), Errc::Internal);
  EXPECT_EQ(errc(engine.propose("a payload that must be given back")), Errc::Internal);
  EXPECT_EQ(errc(engine.propose_conf_change({})), Errc::Internal);
  EXPECT_EQ(errc(engine.apply_conf_change(entry(1, 1))), Errc::Internal);
  EXPECT_EQ(errc(engine.read_index("x")), Errc::Internal);
  EXPECT_EQ(errc(engine.campaign()), Errc::Internal);
  EXPECT_EQ(errc(engine.persisted(1)), Errc::Internal);
  EXPECT_EQ(errc(engine.take_ready()), Errc::Internal);
  EXPECT_EQ(errc(engine.start({})), Errc::Internal);
  EXPECT_FALSE(engine.has_ready());
  EXPECT_EQ(engine.status().id, RaftId{1});
  engine.report_unreachable(RaftId{2});
  engine.report_snapshot(RaftId{2}, true);
  engine.provide_snapshot(RaftId{2}, {});
  engine.compact(Index{2}, Term{1});
}

TestNetwork leading() {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.propose(1, "a");
  return net;
}

TEST(RaftPoison, CallsBeforeStart) {
  const auto engine = make_raft_engine({.id = RaftId{1}});
  EXPECT_FALSE(engine->has_ready());
  EXPECT_EQ(engine->role(), Role::Follower);
  EXPECT_EQ(errc(engine->tick()), Errc::Internal);
  expect_poisoned(*engine);
}

TEST(RaftPoison, SecondStart) {
  TestNetwork net = leading();
  const Result<> result = net.engine(1).start({});
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().detail.find("started twice"), std::string::npos) << result.error().detail;
  expect_poisoned(net.engine(1));
}

TEST(RaftPoison, PersistenceOfAReadyThatWasNotTaken) {
  TestNetwork net = leading();
  EXPECT_EQ(errc(net.engine(1).persisted(1000)), Errc::Internal);
  expect_poisoned(net.engine(1));
}

TEST(RaftPoison, ConfEntryThatWasNotHandedOver) {
  TestNetwork net = leading();
  Entry conf = entry(100, 1, encode(ConfChange{}));
  conf.type = EntryType::ConfChange;
  const Result<ConfState> result = net.engine(1).apply_conf_change(conf);
  ASSERT_FALSE(result);
  EXPECT_EQ(errc(result), Errc::Internal);
  EXPECT_NE(result.error().detail.find("out of order"), std::string::npos);
  expect_poisoned(net.engine(1));
}

TEST(RaftPoison, CompactionOfWhatWasNotHandedOver) {
  TestNetwork net = leading();
  net.engine(1).compact(Index{100}, Term{1});
  expect_poisoned(net.engine(1));
}

TEST(RaftPoison, CompactionWithAWrongTerm) {
  TestNetwork net = leading();
  net.engine(1).compact(Index{3}, Term{77});
  expect_poisoned(net.engine(1));
}

TEST(RaftPoison, InstallationOfAnUnknownSnapshot) {
  TestNetwork net = leading();
  EXPECT_EQ(errc(net.engine(1).snapshot_installed(Index{100})), Errc::Internal);
  expect_poisoned(net.engine(1));
}

TEST(RaftPoison, OfferOfASnapshotFromTheFuture) {
  TestNetwork net = leading();
  net.engine(1).provide_snapshot(RaftId{2}, {.index = Index{100}, .term = Term{1}, .conf_state = voters({1, 2})});
  expect_poisoned(net.engine(1));
}

TEST(RaftPoison, DamagedConfEntryIsAnErrorOfItsOwn) {
  TestNetwork net = leading();
  Entry conf = entry(4, 2, "\x01\x00\x05");
  conf.type = EntryType::ConfChange;
  EXPECT_EQ(errc(net.engine(1).apply_conf_change(conf)), Errc::Corrupt);
  net.propose(1, "not poisoned by it");
}

// Nothing but a damaged hard state leads here: a term that can't grow. Arithmetic is checked in release builds too.
TEST(RaftPoison, PanicOfTheLibraryLeavesItsTextAndTheProcess) {
  const auto engine = make_raft_engine({.id = RaftId{1}});
  ASSERT_TRUE(engine->start({.hard_state = {.term = Term{UINT64_MAX}, .commit = Index{1}}, .conf_state = voters({1}),
                             .conf_index = Index{1}, .applied = Index{1}, .first_index = Index{2}, .last_index = Index{1},
                             .snapshot_term = Term{1}}));
  const Result<> result = engine->campaign();
  ASSERT_FALSE(result);
  EXPECT_EQ(errc(result), Errc::Internal);
  EXPECT_NE(result.error().detail.find("overflow"), std::string::npos) << result.error().detail;
  EXPECT_NE(result.error().detail.find("raft.rs"), std::string::npos) << "where it happened";
  expect_poisoned(*engine);
}

}  // namespace
}  // namespace rq::raft
