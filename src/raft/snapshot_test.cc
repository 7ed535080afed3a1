// Peers that are too far behind for the window: entries from disk, snapshots; and what start() accepts.
#include <gtest/gtest.h>

#include "raft/test_network.h"

namespace rq::raft {
namespace {

TestNetwork with_lagging_third(TestNetwork net, int entries) {
  net.options.cache_bytes = 2000;
  net.options.max_message_bytes = 2000;
  net.found(3);
  net.elect(1);
  net.isolate(3);
  for (int i = 0; i < entries; ++i) net.propose(1, std::string(100, 'x') + std::to_string(i));
  return net;
}

TEST(RaftFetch, LaggingPeerIsFedFromDisk) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 500);
  net.fetch_entries_max = 40;
  net.heal();
  net.tick_all(5);
  net.expect_agreement();
  EXPECT_FALSE(net.node(1).fetches.empty());
  // What was read is sent: nearly every entry is asked for once, although a read holds more than a message.
  EXPECT_LT(net.node(1).fetches.size(), 30U);
}

TEST(RaftFetch, OneReadServesPeersThatLagEqually) {
  TestNetwork net;
  net.options.cache_bytes = 2000;
  net.found(5);
  net.elect(1);
  net.isolate(4);
  net.isolate(5);
  for (int i = 0; i < 300; ++i) net.propose(1, std::string(100, 'x'));
  net.answer_fetches = false;
  net.heal();
  net.tick_all(5);
  ASSERT_EQ(net.node(1).fetches.size(), 1U);
  net.answer_fetches = true;
  net.fetch_entries_max = 1000;
  net.answer(net.node(1), net.node(1).fetches.front());
  net.tick_all(5);
  net.expect_agreement();
  EXPECT_LE(net.node(1).fetches.size(), 2U);
}

TEST(RaftFetch, ARequestIsNotRepeatedWhileItIsOpen) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 200);
  net.answer_fetches = false;
  net.heal();
  net.tick_all(50);
  EXPECT_EQ(net.node(1).fetches.size(), 1U);
}

TEST(RaftFetch, AFailedReadIsTriedAgain) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 200);
  net.answer_fetches = false;
  net.heal();
  net.tick_all(3);
  ASSERT_EQ(net.node(1).fetches.size(), 1U);
  net.ok(net.engine(1).entries_fetched(net.node(1).fetches[0].peer, {}));
  net.answer_fetches = true;
  net.tick_all(5);
  net.expect_agreement();
}

TEST(RaftFetch, EntriesThatAreNotOfOurLogAreRefused) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 200);
  net.answer_fetches = false;
  net.heal();
  net.tick_all(3);
  const FetchRequest fetch = net.node(1).fetches.at(0);
  net.ok(net.engine(1).entries_fetched(fetch.peer, {entry(fetch.first.value, 77, "alien")}));
  net.ok(net.engine(1).entries_fetched(RaftId{12345}, {entry(12345, 2, "unasked")}));
  net.answer_fetches = true;
  net.tick_all(5);
  net.expect_agreement();
}

TEST(RaftFetch, AnswerAfterTheLossOfLeadershipIsHarmless) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 200);
  net.answer_fetches = false;
  net.heal();
  net.tick_all(3);
  const FetchRequest fetch = net.node(1).fetches.at(0);
  net.ok(net.engine(1).transfer_leader(RaftId{2}));
  net.settle();
  ASSERT_EQ(net.engine(2).role(), Role::Leader);
  net.answer(net.node(1), fetch);
  net.answer_fetches = true;
  for (const FetchRequest& open : net.node(2).fetches) net.answer(net.node(2), open);
  net.tick_all(5);
  net.expect_agreement();
}

TEST(RaftFetch, WhatNoPeerReadsAnyMoreIsForgotten) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 200);
  net.answer_fetches = false;
  net.heal();
  net.tick_all(3);
  const FetchRequest fetch = net.node(1).fetches.at(0);
  std::vector<Entry> copies;
  for (Index i = fetch.first; i <= fetch.last; i = i.next()) {
    const Entry& e = net.node(1).disk.log.at(i.value - 2);
    copies.push_back(entry(i.value, e.term.value, *e.payload));
  }
  net.ok(net.engine(1).entries_fetched(fetch.peer, copies));
  net.tick_all(5);
  net.expect_agreement();
  std::vector<long> before;
  for (const Entry& copy : copies) before.push_back(copy.payload.use_count());
  net.crash(1);
  for (std::size_t i = 0; i < copies.size(); ++i) EXPECT_EQ(copies[i].payload.use_count(), before[i]) << "held: " << copies[i].index.value;
}

// Trap 11: what is not handed over yet stays in memory, whatever the cache may hold.
TEST(RaftFetch, ElectionFindsEverythingUnappliedInMemory) {
  TestNetwork net;
  net.options.cache_bytes = 0;
  net.found(3);
  net.elect(1);
  for (int i = 0; i < 50; ++i) net.propose(1, std::string(100, 'x'));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(net.engine(1).propose(std::string(100, 'y')));
  net.settle();
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t next = i % 2 == 0 ? 2 : 3;
    for (std::uint64_t id = 1; id <= 3; ++id) net.ok(net.engine(id).leader_died());
    net.elect(next);
    net.propose(next, "z");
  }
  net.expect_agreement();
}

TEST(RaftSnapshot, PeerBeyondTheLogGetsOne) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 100);
  net.compact(1, Index{80});
  net.heal();
  net.tick_all(5);
  EXPECT_GE(net.node(3).disk.snapshot_index, Index{79});
  net.propose(1, "a");
  net.expect_agreement();
}

// Trap 1.
TEST(RaftSnapshot, CountsAsAppliedOnlyWhenDurableAndInstalled) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 100);
  net.compact(1, Index{80});
  net.install_snapshots = false;
  net.heal();
  net.drop = [](const Message& m) { return m.to == RaftId{3} && m.type == MessageType::Append && !m.entries.empty(); };
  net.writes_wait = true;
  for (int i = 0; i < 10 && net.node(3).writes.empty(); ++i) {
    net.tick_all(1);
    for (std::uint64_t id : {1, 2}) net.flush(id);
    if (!net.node(3).writes.empty() && !net.node(3).writes.back().ready.snapshot) net.flush(3);
  }
  net.settle();
  net.ok(net.engine(3).leader_died());
  net.ok(net.engine(3).campaign());               // raft-rs panics if it stands now
  net.tick(3, 50);
  EXPECT_EQ(net.engine(3).role(), Role::Follower);
  net.writes_wait = false;
  for (auto& [id, n] : net.nodes) net.flush(n);
  net.ok(net.engine(3).campaign());
  net.tick(3, 50);
  EXPECT_EQ(net.engine(3).role(), Role::Follower);
  const Index index = net.node(3).disk.snapshot_index;
  ASSERT_GE(index, Index{79});
  net.ok(net.engine(3).snapshot_installed(index));
  net.heal();
  net.tick_all(30);
  net.propose(net.leader(), "a");
  net.expect_agreement();
}

TEST(RaftSnapshot, EntriesBehindOneAreHandedOverInOrder) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 100);
  net.compact(1, Index{80});
  net.install_snapshots = false;
  net.heal();
  net.tick_all(3);
  for (int i = 0; i < 20; ++i) net.propose(1, std::to_string(i));
  const Index snapshot = net.node(3).disk.snapshot_index;
  EXPECT_EQ(net.node(3).handed_over, net.engine(1).commit());
  net.ok(net.engine(3).snapshot_installed(snapshot));
  net.ok(net.engine(3).snapshot_installed(snapshot));           // told twice: nothing new
  net.ok(net.engine(1).transfer_leader(RaftId{3}));
  net.settle();
  EXPECT_EQ(net.engine(3).role(), Role::Leader);
}

// Trap 1: the state machine may be faster than the log.
TEST(RaftSnapshot, MayBeInstalledBeforeItIsDurable) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 100);
  net.compact(1, Index{80});
  net.install_snapshots = false;
  net.heal();
  bool told = false;
  net.drop = [&](const Message& m) {
    if (m.type == MessageType::Snapshot) net.writes_wait = true;
    return false;
  };
  for (int i = 0; i < 5 && !told; ++i) {
    net.tick_all(1);
    for (const TestWrite& write : net.node(3).writes) {
      if (!write.ready.snapshot) continue;
      net.ok(net.engine(3).snapshot_installed(write.ready.snapshot->index));
      told = true;
    }
  }
  ASSERT_TRUE(told);
  net.writes_wait = false;
  net.drop = nullptr;
  for (auto& [id, n] : net.nodes) net.flush(n);
  net.settle();
  net.ok(net.engine(1).transfer_leader(RaftId{3}));
  net.settle();
  EXPECT_EQ(net.engine(3).role(), Role::Leader);
  net.expect_agreement();
}

// Trap 4: a snapshot that comes between a conf entry and its application contains it.
TEST(RaftSnapshot, OvertakesConfEntriesThatWait) {
  const auto engine = make_raft_engine({.id = RaftId{2}});
  ASSERT_TRUE(engine->start({.hard_state = {.term = Term{1}, .commit = Index{1}}, .conf_state = voters({1, 2}), .conf_index = Index{1},
                             .applied = Index{1}, .first_index = Index{2}, .last_index = Index{1}, .snapshot_term = Term{1}}));
  Entry conf = entry(2, 2, encode(change(ConfChangeType::AddLearner, 9)));
  conf.type = EntryType::ConfChange;
  const Message head{.from = RaftId{1}, .to = RaftId{2}, .term = Term{2}};
  Message append = head;
  append.type = MessageType::Append;
  append.log_term = Term{1};
  append.index = Index{1};
  append.commit = Index{2};
  append.entries = {conf};
  ASSERT_TRUE(engine->step(append));
  ASSERT_TRUE(engine->persisted(engine->take_ready()->number));
  const Result<Ready> ready = engine->take_ready();
  ASSERT_TRUE(ready);
  ASSERT_EQ(ready->committed.size(), 1U);
  Message snapshot = head;
  snapshot.type = MessageType::Snapshot;
  snapshot.snapshot = SnapshotDescriptor{.index = Index{10}, .term = Term{2}, .conf_state = voters({1, 2, 3})};
  ASSERT_TRUE(engine->step(snapshot));
  const Result<ConfState> result = engine->apply_conf_change(ready->committed[0]);
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(*result, voters({1, 2, 3}));
  EXPECT_EQ(engine->status().conf_state, voters({1, 2, 3}));
}

// Trap 2.
TEST(RaftSnapshot, LostOnePausesThePeerUntilItIsReported) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 100);
  net.compact(1, Index{80});
  net.report_snapshots = false;
  net.heal();
  net.drop = [](const Message& m) { return m.type == MessageType::Snapshot; };
  net.tick_all(30);
  const auto third = [&] { return net.engine(1).status().peers.at(1); };
  ASSERT_EQ(third().id, RaftId{3});
  EXPECT_TRUE(third().snapshotting);
  net.heal();
  net.tick_all(30);
  EXPECT_TRUE(third().snapshotting) << "nothing but a report frees it";
  net.engine(1).report_snapshot(RaftId{3}, false);
  EXPECT_FALSE(third().snapshotting);
  net.report_snapshots = true;
  net.tick_all(5);
  net.expect_agreement();
}

// Trap 6.
TEST(RaftSnapshot, OneThatDoesNotListTheReceiverIsNotSent) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.offer_snapshots = false;
  net.add(2);
  net.reconfigure(1, change(ConfChangeType::AddLearner, 2));
  net.tick_all(3);
  std::size_t sent = 0;
  net.on_send = [&](const Message& m) { sent += m.type == MessageType::Snapshot; };
  net.engine(1).provide_snapshot(RaftId{2}, {.index = Index{1}, .term = Term{1}, .conf_state = voters({1})});
  net.tick_all(5);
  EXPECT_EQ(sent, 0U);
  net.engine(1).provide_snapshot(RaftId{2}, {.index = Index{1}, .term = Term{1}, .conf_state = voters({1}, {2})});
  net.settle();
  EXPECT_EQ(sent, 1U);                            // at once, without a tick
  net.expect_agreement();
}

TEST(RaftSnapshot, NeedIsToldByAReady) {
  TestNetwork net;
  net.found(1);
  net.elect(1);
  net.offer_snapshots = false;
  net.add(2);
  net.reconfigure(1, change(ConfChangeType::AddLearner, 2));
  net.tick_all(1);
  net.ok(net.engine(1).tick());
  net.settle();                                    // took the Readys, and the needs with them
  Message rejection{.type = MessageType::HeartbeatResponse, .from = RaftId{2}, .to = RaftId{1}, .term = net.engine(1).term()};
  net.ok(net.engine(1).step(rejection));
  ASSERT_TRUE(net.engine(1).has_ready());
  ASSERT_TRUE(net.engine(1).take_ready());
  EXPECT_EQ(net.engine(1).take_snapshot_wanted(), std::vector<RaftId>{RaftId{2}});
  EXPECT_TRUE(net.engine(1).take_snapshot_wanted().empty());
  EXPECT_FALSE(net.engine(1).has_ready());
}

TEST(RaftSnapshot, OfferThatCompactionPassedIsForgotten) {
  TestNetwork net = with_lagging_third(TestNetwork{}, 100);
  net.compact(1, Index{50});
  net.offer_snapshots = false;
  net.engine(1).provide_snapshot(RaftId{3}, {.index = Index{60}, .term = net.node(1).disk.term_of(Index{60}), .conf_state = net.founders});
  net.compact(1, Index{80});
  std::size_t sent = 0;
  net.on_send = [&](const Message& m) { sent += m.type == MessageType::Snapshot; };
  net.heal();
  net.tick_all(3);
  EXPECT_EQ(sent, 0U);
}

TEST(RaftStart, CompactedLogStartsAgain) {
  TestNetwork net;
  net.found(3);
  net.elect(1);
  for (int i = 0; i < 30; ++i) net.propose(1, std::to_string(i));
  net.compact(1, net.engine(1).commit().next());     // nothing is left
  EXPECT_EQ(net.engine(1).status().first_index.value, net.engine(1).status().last_index.value + 1);
  net.crash(1);
  net.restart(1);
  for (std::uint64_t id = 2; id <= 3; ++id) net.ok(net.engine(id).leader_died());
  net.elect(1);
  net.propose(1, "a");
  net.expect_agreement();
}

TEST(RaftStart, TermsOfOldEntriesAreKnown) {
  TestNetwork net;
  net.options.cache_bytes = 0;
  net.found(3);
  net.elect(1);
  net.isolate(3);
  for (int i = 0; i < 12; ++i) {
    const std::uint64_t id = i % 2 == 0 ? 2 : 1;
    for (std::uint64_t other = 1; other <= 2; ++other) net.ok(net.engine(other).leader_died());
    net.elect(id);
    net.propose(id, std::to_string(i));
  }
  net.crash(2);
  net.restart(2);                                     // all of its log is on disk only, in 13 terms
  net.ok(net.engine(1).leader_died());
  net.elect(2);
  net.heal();
  net.tick_all(20);
  EXPECT_FALSE(net.node(2).fetches.empty());
  net.expect_agreement();
}

Result<> start_with(const std::function<void(StartState&)>& spoil) {
  StartState state{.hard_state = {.term = Term{3}, .commit = Index{4}}, .conf_state = voters({1, 2}), .conf_index = Index{1},
                   .applied = Index{2}, .first_index = Index{2}, .last_index = Index{4}, .snapshot_term = Term{1},
                   .term_starts = {{Index{2}, Term{2}}, {Index{4}, Term{3}}}, .entries = {entry(3, 2, "a"), entry(4, 3, "b")}};
  spoil(state);
  return make_raft_engine({.id = RaftId{1}})->start(std::move(state));
}

TEST(RaftStart, AcceptsWhatFits) {
  EXPECT_TRUE(start_with([](StartState&) {}));
  EXPECT_TRUE(start_with([](StartState& s) { s.entries.insert(s.entries.begin(), entry(2, 2)); }));
  EXPECT_TRUE(start_with([](StartState& s) { s.hard_state.commit = Index{}; }));
}

TEST(RaftStart, RefusesWhatContradictsItself) {
  const auto refused = [](const std::function<void(StartState&)>& spoil) {
    const Result<> result = start_with(spoil);
    return !result && result.error().code == Errc::Corrupt;
  };
  EXPECT_TRUE(refused([](StartState& s) { s.hard_state.commit = Index{5}; }));
  EXPECT_TRUE(refused([](StartState& s) { s.applied = Index{5}; }));
  EXPECT_TRUE(refused([](StartState& s) { s.hard_state.term = Term{2}; }));
  EXPECT_TRUE(refused([](StartState& s) { s.entries.pop_back(); }));
  EXPECT_TRUE(refused([](StartState& s) { s.entries.erase(s.entries.begin()); }));
  EXPECT_TRUE(refused([](StartState& s) { s.entries.clear(); }));
  EXPECT_TRUE(refused([](StartState& s) { s.entries[1].term = Term{2}; }));
  EXPECT_TRUE(refused([](StartState& s) { s.term_starts.clear(); }));
  EXPECT_TRUE(refused([](StartState& s) { std::swap(s.term_starts[0], s.term_starts[1]); }));
  EXPECT_TRUE(refused([](StartState& s) { s.term_starts[0].first = Index{3}; }));
  EXPECT_TRUE(refused([](StartState& s) { s.conf_state.learners = {RaftId{2}}; }));
  EXPECT_TRUE(refused([](StartState& s) { s.conf_state.voters = {RaftId{1}, RaftId{1}}; }));
  EXPECT_TRUE(refused([](StartState& s) { s.conf_state.auto_leave = true; }));
}

TEST(RaftStart, RefusesImpossibleOptions) {
  EXPECT_EQ(errc(make_raft_engine({.id = RaftId{0}})->start({})), Errc::BadRequest);
  EXPECT_EQ(errc(make_raft_engine({.id = RaftId{1}, .election_ticks = 0})->start({})), Errc::BadRequest);
  EXPECT_EQ(errc(make_raft_engine({.id = RaftId{1}, .election_ticks = 2, .heartbeat_ticks = 2})->start({})), Errc::BadRequest);
  EXPECT_EQ(errc(make_raft_engine({.id = RaftId{1}, .max_inflight_messages = 0})->start({})), Errc::BadRequest);
}

}  // namespace
}  // namespace rq::raft
