// Driver alone: an engine that says what the test tells it to, outputs that only remember.
#include "replica/driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "replica/group.h"
#include "replica/snapshot_data.h"

namespace rq::replica {
namespace {

using namespace std::chrono_literals;

class ManualClock final : public Clock {
 public:
  SteadyTime now() const override { return now_; }
  WallTime wall() const override { return WallTime{1'700'000'000s}; }
  void advance(std::chrono::nanoseconds by) { now_ += by; }

 private:
  SteadyTime now_{1h};
};

class CountingRng final : public Rng {
 public:
  std::uint64_t next() override { return ++last_; }

 private:
  std::uint64_t last_ = 0;
};

// Proposals become Readys by themselves, as in the real one; all else comes from the test.
class ScriptedEngine final : public raft::RaftEngine {
 public:
  raft::Status now;
  std::deque<raft::Ready> readys;
  std::vector<RaftId> wanted;
  std::vector<std::string> read_contexts;
  std::vector<std::uint64_t> persisted_numbers;
  std::vector<Index> installed;
  std::vector<std::pair<RaftId, raft::SnapshotDescriptor>> provided;
  std::vector<std::pair<RaftId, bool>> reports;
  std::vector<raft::ConfChange> conf_changes;
  std::vector<RaftId> transfers;
  std::optional<Index> first_kept;
  raft::ConfState conf_after;
  int campaigns = 0, deaths = 0;
  bool reads_held = false, step_fails = false;

  void say(raft::Ready ready) {
    ready.number = ++last_ready_;
    readys.push_back(std::move(ready));
  }

  Result<> start(raft::StartState state) override {
    now.term = state.hard_state.term;
    now.last_index = state.last_index;
    return {};
  }
  Result<> tick() override { return {}; }
  Result<> step(raft::Message) override { return step_fails ? Result<>(fail(Errc::Internal, "poisoned")) : Result<>{}; }
  Result<> campaign() override { return ++campaigns, Result<>{}; }
  Result<Index> propose(std::string payload) override {
    return append(raft::EntryType::Normal, std::move(payload));
  }
  Result<Index> propose_conf_change(const raft::ConfChange& change) override {
    conf_changes.push_back(change);
    return append(raft::EntryType::ConfChange, raft::encode(change));
  }
  Result<raft::ConfState> apply_conf_change(const raft::Entry&) override { return conf_after; }
  Result<> read_index(std::string context) override {
    if (reads_held) return fail(Errc::NotLeader);
    read_contexts.push_back(std::move(context));
    return {};
  }
  Result<> transfer_leader(RaftId to) override {
    transfers.push_back(to);
    now.transferee = to;
    return {};
  }
  Result<> leader_died() override { return ++deaths, now.leader = RaftId{}, Result<>{}; }
  void report_unreachable(RaftId) override {}
  void report_snapshot(RaftId peer, bool ok) override { reports.emplace_back(peer, ok); }
  void provide_snapshot(RaftId peer, raft::SnapshotDescriptor descriptor) override { provided.emplace_back(peer, std::move(descriptor)); }
  std::vector<RaftId> take_snapshot_wanted() override { return std::exchange(wanted, {}); }
  Result<> entries_fetched(RaftId, std::vector<raft::Entry>) override { return {}; }
  Result<> persisted(std::uint64_t number) override { return persisted_numbers.push_back(number), Result<>{}; }
  Result<> snapshot_installed(Index index) override { return installed.push_back(index), Result<>{}; }
  void compact(Index first, Term) override { first_kept = first; }
  bool has_ready() override { return !readys.empty(); }
  Result<raft::Ready> take_ready() override {
    raft::Ready ready = std::move(readys.front());
    readys.pop_front();
    return ready;
  }
  raft::Status status() const override { return now; }
  raft::Role role() const override { return now.role; }
  RaftId leader() const override { return now.leader; }
  Term term() const override { return now.term; }
  Index commit() const override { return now.commit; }

 private:
  Result<Index> append(raft::EntryType type, std::string bytes) {
    now.last_index = now.last_index.next();
    raft::Ready ready{.must_sync = true};
    ready.entries.push_back({type, now.term, now.last_index, std::make_shared<const std::string>(std::move(bytes))});
    say(std::move(ready));
    return now.last_index;
  }
  std::uint64_t last_ready_ = 0;
};

class Remembered final : public Outputs {
 public:
  std::vector<PersistItem> persisted, persisted_now;
  std::vector<raft::Message> sent;
  std::vector<ApplyItem> applied;
  std::vector<raft::SnapshotDescriptor> restores;
  std::vector<std::uint64_t> released;
  std::vector<std::pair<Index, std::size_t>> served;
  int snapshots = 0, memberships = 0;

  void persist(PersistItem&& item) override { persisted.push_back(std::move(item)); }
  Result<> persist_now(PersistItem&& item) override { return persisted_now.push_back(std::move(item)), Result<>{}; }
  void send(std::vector<raft::Message>&& messages) override { std::ranges::move(messages, std::back_inserter(sent)); }
  void apply(std::vector<ApplyItem>&& items) override { std::ranges::move(items, std::back_inserter(applied)); }
  void restore(raft::SnapshotDescriptor&& descriptor) override { restores.push_back(std::move(descriptor)); }
  void make_snapshot() override { ++snapshots; }
  void release_snapshot(std::uint64_t id) override { released.push_back(id); }
  void reads(Index index, std::vector<ReadDone>&& reads) override {
    served.emplace_back(index, reads.size());
    for (ReadDone& done : reads) done(index);
  }
  void fetch(const raft::FetchRequest&) override {}
  void membership(const MembershipRecord&, const raft::ConfState&, Index) override { ++memberships; }
  void role(const raft::Status&) override {}
};

struct Fate final : raft::Waiter {
  std::vector<Errc> told;
  void failed(const Error& error) override { told.push_back(error.code); }
};

using Told = std::vector<Errc>;

raft::ConfState voters(std::vector<RaftId> ids) { return {.voters = std::move(ids)}; }

Member member(std::uint64_t id) {
  return {.raft_id = RaftId{id}, .node_id = "n" + std::to_string(id), .raft_addr = "h" + std::to_string(id) + ":4002"};
}

class DriverTest : public ::testing::Test {
 protected:
  DriverTest() {
    for (const std::uint64_t id : {1u, 2u, 3u}) record.members.put(member(id));
    record.cluster_id = 7;
    record.base_conf = voters({RaftId{1}, RaftId{2}, RaftId{3}});
    record.base_members = record.members;
  }

  void start() {
    DriverStart from{.self = RaftId{1}, .handed_over = Index{1}, .record = record};
    from.log.hard_state = {.term = Term{1}, .commit = Index{1}};
    from.log.membership = {Index{1}, record.base_conf, encode(record)};
    from.log.snapshot = {Index{1}, Term{1}};
    from.log.first = Index{2};
    from.log.last = Index{1};
    ASSERT_TRUE(driver.start(std::move(from)));
  }

  void become(raft::Role role, std::uint64_t leader, std::uint64_t term) {
    engine->now.role = role;
    engine->now.leader = RaftId{leader};
    engine->now.term = Term{term};
    engine->say({.role_changed = true});
    run();
  }
  void lead() {
    start();
    become(raft::Role::Leader, 1, 2);
  }

  void run(std::chrono::nanoseconds after = 0ns) {
    clock.advance(after);
    driver.run(clock.now());
  }
  void synced() { driver.persisted(outputs.persisted.back().engine, outputs.persisted.back().ready_number); }

  std::shared_ptr<Fate> propose(const std::string& bytes, SteadyTime begun = {}) {
    auto fate = std::make_shared<Fate>();
    driver.propose({.bytes = bytes, .waiter = fate, .begun = begun});
    return fate;
  }
  void read() {
    driver.read_index([this](const Result<Index>& index) { reads.push_back(index ? std::nullopt : std::optional(index.error().code)); },
                      clock.now() + 2s);
  }
  ConfDone note_conf() {
    return [this](const Result<>& result) { confs.push_back(result ? std::nullopt : std::optional(result.error().code)); };
  }
  void commit(const raft::Entry& entry) { engine->say({.committed = {entry}}), run(); }

  // Makes peer 3 want a snapshot and gives it one, named `id`.
  void offer_image(std::uint64_t id) {
    engine->now.last_index = Index{1000};
    engine->wanted = {RaftId{3}};
    run(timing.tick);
    driver.snapshot_made(raft::MachineSnapshot{.index = Index{900}, .term = Term{2}, .id = id});
  }
  void send_snapshot() {
    raft::Message message{.type = raft::MessageType::Snapshot, .to = RaftId{3}};
    message.snapshot = engine->provided.back().second;
    raft::Ready ready;
    ready.messages.push_back(std::move(message));
    engine->say(std::move(ready));
    engine->now.peers = {{.id = RaftId{3}, .snapshotting = true}};
    run();
  }

  // Neither its lease nor its queue ends by itself in a test that is about something else.
  Timing timing{.leader_lease = 24h};
  Limits limits{.queue_requests = 4, .reads_waiting = 4};
  ManualClock clock;
  CountingRng rng;
  Remembered outputs;
  ScriptedEngine* engine = nullptr;
  Driver driver{[this] {
                  auto made = std::make_unique<ScriptedEngine>();
                  engine = made.get();
                  return std::unique_ptr<raft::RaftEngine>(std::move(made));
                },
                RaftId{1}, timing, limits, clock, rng, outputs};
  MembershipRecord record;
  std::vector<std::optional<Errc>> reads, confs;
};

// ---- proposals

TEST_F(DriverTest, OneGroupIsFormedWhileTheOneBeforeIsSynced) {
  lead();
  propose("a");
  run();
  ASSERT_EQ(outputs.persisted.size(), 1u);
  propose("b");
  propose("c");
  run();
  EXPECT_EQ(outputs.persisted.size(), 1u);
  synced();
  run();
  ASSERT_EQ(outputs.persisted.size(), 2u);
  const auto group = read_group(*outputs.persisted[1].entries.at(0).payload);
  ASSERT_TRUE(group);
  ASSERT_EQ(group->proposals.size(), 2u);
  EXPECT_EQ(group->proposals[0], "b");
  EXPECT_EQ(group->proposals[1], "c");
}

TEST_F(DriverTest, AProposalThatMustStandAloneGetsAnEntryOfItsOwn) {
  lead();
  propose("a");
  driver.propose({.bytes = "alone", .alone = true});
  propose("b");
  for (int entry = 1; entry <= 3; ++entry) {
    run();
    ASSERT_EQ(outputs.persisted.size(), static_cast<std::size_t>(entry));
    EXPECT_EQ(read_group(*outputs.persisted.back().entries.at(0).payload)->proposals.size(), 1u);
    synced();
  }
}

TEST_F(DriverTest, RefusesWhatItCannotTake) {
  start();
  EXPECT_EQ(propose("a")->told, Told{Errc::LeaderNotFound});
  become(raft::Role::Follower, 2, 2);
  EXPECT_EQ(propose("a")->told, Told{Errc::NotLeader});
  become(raft::Role::Leader, 1, 3);
  for (std::size_t i = 0; i < limits.queue_requests; ++i) EXPECT_EQ(propose("a")->told, Told{});
  EXPECT_EQ(propose("a")->told, Told{Errc::Busy});
  driver.disk_full(true);
  EXPECT_EQ(driver.queued_bytes(), 0u);
  EXPECT_EQ(propose("a")->told, Told{Errc::NoSpace});
  driver.disk_full(false);
  EXPECT_EQ(propose("a")->told, Told{});
}

TEST_F(DriverTest, WhatFindsNoPlaceInTheLogInTimeExpires) {
  lead();
  const auto in_log = propose("a", clock.now());
  run();
  const auto waits = propose("b", clock.now());
  run(limits.enqueue_time + 1s);
  EXPECT_EQ(in_log->told, Told{});
  EXPECT_EQ(waits->told, Told{Errc::Timeout});
  EXPECT_EQ(driver.queued_bytes(), 1u);
}

TEST_F(DriverTest, ACommittedGroupTakesItsWaitersAlong) {
  lead();
  const auto fate = propose("a");
  run();
  commit(outputs.persisted[0].entries.at(0));
  ASSERT_EQ(outputs.applied.size(), 1u);
  ASSERT_EQ(outputs.applied[0].waiters.size(), 1u);
  EXPECT_EQ(outputs.applied[0].waiters[0], fate);
  EXPECT_EQ(fate->told, Told{});
  EXPECT_EQ(driver.queued_bytes(), 0u);
}

TEST_F(DriverTest, AnEntryOfAnotherTermInAGroupsPlaceMeansItWasReplaced) {
  lead();
  const auto fate = propose("a");
  run();
  raft::Entry other = outputs.persisted[0].entries.at(0);
  other.term = Term{3};
  commit(other);
  EXPECT_TRUE(outputs.applied.at(0).waiters.empty());
  EXPECT_EQ(fate->told, Told{Errc::LeadershipLost});
}

TEST_F(DriverTest, ALeaderThatLosesTellsWhatIsKnownOfEach) {
  lead();
  const auto in_log = propose("a");
  run();
  const auto waits = propose("b");
  read();
  driver.change_membership({}, clock.now() + 1h, note_conf());
  become(raft::Role::Follower, 2, 3);
  EXPECT_EQ(in_log->told, Told{Errc::LeadershipLost});
  EXPECT_EQ(waits->told, Told{Errc::NotLeader});
  ASSERT_EQ(reads.size(), 1u);
  EXPECT_EQ(reads[0], Errc::NotLeader);
  ASSERT_EQ(confs.size(), 1u);
  EXPECT_EQ(driver.queued_bytes(), 0u);
}

TEST_F(DriverTest, AnEngineThatStoppedTakesNothingAnyMore) {
  lead();
  const auto fate = propose("a");
  run();
  engine->step_fails = true;
  driver.step({raft::Message{.from = RaftId{2}}});
  ASSERT_TRUE(driver.broken());
  EXPECT_EQ(fate->told, Told{Errc::Internal});
  EXPECT_EQ(propose("b")->told, Told{Errc::Internal});
}

TEST_F(DriverTest, ALogThatFailedFailsAllThatWaits) {
  lead();
  const auto fate = propose("a");
  driver.log_failed({Errc::Io, "gone"});
  EXPECT_EQ(fate->told, Told{Errc::Io});
  read();
  EXPECT_EQ(reads.at(0), Errc::Io);
}

// ---- durability

TEST_F(DriverTest, AnswersThatDependOnTheDiskWaitForIt) {
  start();
  raft::Ready writes{.must_sync = true};
  writes.messages.push_back({.type = raft::MessageType::Heartbeat, .to = RaftId{2}});
  writes.messages_after_persist.push_back({.type = raft::MessageType::AppendResponse, .to = RaftId{2}, .index = Index{5}});
  writes.hard_state = raft::HardState{.term = Term{4}};
  engine->say(std::move(writes));
  raft::Ready behind;       // writes nothing, and yet must not overtake
  behind.messages_after_persist.push_back({.type = raft::MessageType::AppendResponse, .to = RaftId{2}, .index = Index{6}});
  engine->say(std::move(behind));
  run();
  ASSERT_EQ(outputs.sent.size(), 1u);
  EXPECT_EQ(outputs.sent[0].type, raft::MessageType::Heartbeat);
  EXPECT_TRUE(engine->persisted_numbers.empty());
  synced();
  EXPECT_EQ(engine->persisted_numbers, std::vector<std::uint64_t>{2});
  ASSERT_EQ(outputs.sent.size(), 3u);
  EXPECT_EQ(outputs.sent[1].index, Index{5});
  EXPECT_EQ(outputs.sent[2].index, Index{6});
}

TEST_F(DriverTest, AMovedCommitAloneIsWrittenWithTheNextBatch) {
  start();
  engine->say({.hard_state = raft::HardState{.term = Term{1}, .commit = Index{9}}});
  run();
  EXPECT_TRUE(outputs.persisted.empty());
  engine->say({.must_sync = true});
  run();
  ASSERT_EQ(outputs.persisted.size(), 1u);
  ASSERT_TRUE(outputs.persisted[0].hard_state);
  EXPECT_EQ(outputs.persisted[0].hard_state->commit, Index{9});
}

TEST_F(DriverTest, WhatAnEngineBeforeTheBootstrapWroteIsNotTheNewOnes) {
  ASSERT_TRUE(driver.start({.self = RaftId{1}}));
  engine->now.term = Term{6};                      // it voted for another founder
  engine->say({.hard_state = raft::HardState{.term = Term{6}, .vote = RaftId{2}}, .must_sync = true});
  run();
  ASSERT_TRUE(driver.bootstrap(record, record.base_conf));
  ASSERT_EQ(outputs.persisted_now.size(), 1u);
  EXPECT_EQ(outputs.persisted_now[0].hard_state, (raft::HardState{Term{6}, RaftId{1}, Index{1}}));
  synced();
  EXPECT_TRUE(engine->persisted_numbers.empty());
  EXPECT_FALSE(driver.bootstrap(record, record.base_conf));
}

TEST_F(DriverTest, AnInstalledSnapshotIsToldAtOnceWhileWritesAreOutstanding) {
  start();
  const SnapshotData data{.record = record, .source = RaftId{2}, .machine = {.index = Index{50}, .term = Term{2}, .id = 4, .copied_from = {RaftId{3}, RaftId{9}}}};
  engine->say({.snapshot = raft::SnapshotDescriptor{Index{50}, Term{2}, record.base_conf, encode(data)}, .must_sync = true});
  run();
  EXPECT_TRUE(outputs.restores.empty());           // the machine must not be ahead of the log
  ASSERT_TRUE(outputs.persisted.at(0).snapshot);
  synced();
  ASSERT_EQ(outputs.restores.size(), 1u);
  EXPECT_EQ(decode_snapshot_data(outputs.restores[0])->machine.copied_from, data.machine.copied_from);
  engine->say({.entries = {{raft::EntryType::Normal, Term{2}, Index{51}, std::make_shared<const std::string>()}}, .must_sync = true});
  run();
  ASSERT_EQ(outputs.persisted.size(), 2u);         // under way, and it stays so
  driver.restored(Index{50});
  EXPECT_EQ(engine->installed, std::vector{Index{50}});
  driver.compacted(Index{51}, Term{2});            // not news: the log began there when the snapshot came
  EXPECT_FALSE(engine->first_kept);
  driver.compacted(Index{52}, Term{2});
  EXPECT_EQ(engine->first_kept, Index{52});
}

// ---- reads

TEST_F(DriverTest, ReadsShareARoundAndAnUnansweredOneIsIssuedAgain) {
  lead();
  read();
  read();
  run();
  ASSERT_EQ(engine->read_contexts.size(), 1u);
  read();                                          // too late for this round
  run();
  EXPECT_EQ(engine->read_contexts.size(), 1u);
  run(250ms);
  ASSERT_EQ(engine->read_contexts.size(), 2u);
  EXPECT_NE(engine->read_contexts[0], engine->read_contexts[1]);
  engine->say({.reads = {{Index{8}, engine->read_contexts[0]}}});
  run();
  EXPECT_TRUE(outputs.served.empty());             // the answer to the round that was given up
  engine->say({.reads = {{Index{9}, engine->read_contexts[1]}}});
  run();
  EXPECT_EQ(outputs.served, (std::vector<std::pair<Index, std::size_t>>{{Index{9}, 3}}));
  EXPECT_EQ(reads, (std::vector<std::optional<Errc>>(3)));
}

TEST_F(DriverTest, ReadsThatTheEngineHoldsBackAreTriedAgainUntilTheirTimeIsOver) {
  lead();
  engine->reads_held = true;
  read();
  run();
  run(1s);
  EXPECT_TRUE(reads.empty());
  run(1s);
  EXPECT_EQ(reads.at(0), Errc::Timeout);
  for (std::size_t i = 0; i < limits.reads_waiting; ++i) read();
  EXPECT_EQ(reads.size(), 1u);
  read();
  EXPECT_EQ(reads.at(1), Errc::Busy);
}

// ---- snapshots for others

TEST_F(DriverTest, AMemberOfAYoungClusterGetsTheLogFromItsBeginning) {
  lead();
  engine->now.last_index = Index{64};
  engine->wanted = {RaftId{4}};
  run(timing.tick);
  EXPECT_EQ(outputs.snapshots, 0);
  ASSERT_EQ(engine->provided.size(), 1u);
  const auto& [peer, descriptor] = engine->provided[0];
  EXPECT_EQ(peer, RaftId{4});
  EXPECT_EQ(descriptor.index, Index{1});
  EXPECT_EQ(descriptor.conf_state.learners, std::vector{RaftId{4}});   // trap 6: the receiver is named
}

TEST_F(DriverTest, AMemberOfAnOlderClusterGetsAnImageThatOthersShare) {
  lead();
  engine->now.last_index = Index{65};
  engine->wanted = {RaftId{3}};
  run(timing.tick);
  run(timing.tick);
  EXPECT_EQ(outputs.snapshots, 1);                 // one is enough, however long it takes
  EXPECT_TRUE(engine->provided.empty());
  driver.snapshot_made(raft::MachineSnapshot{.index = Index{60}, .term = Term{2}, .id = 11});
  engine->wanted = {RaftId{2}};
  run(timing.tick);
  EXPECT_EQ(outputs.snapshots, 1);
  ASSERT_EQ(engine->provided.size(), 2u);
  EXPECT_EQ(engine->provided[1].second.index, Index{60});
  EXPECT_EQ(driver.log_needed(), Index{61});
}

TEST_F(DriverTest, AnImageThatCouldNotBeMadeIsTriedAgain) {
  lead();
  engine->now.last_index = Index{65};
  engine->wanted = {RaftId{3}};
  run(timing.tick);
  driver.snapshot_made(fail(Errc::NoSpace));
  run(timing.tick);
  EXPECT_EQ(outputs.snapshots, 2);
}

TEST_F(DriverTest, AReceiverThatReadsNothingIsGivenUpAndTheImageReleased) {
  lead();
  offer_image(11);
  send_snapshot();
  ASSERT_EQ(outputs.sent.size(), 1u);
  run(9s);
  driver.snapshot_used(11);
  run(9s);
  EXPECT_TRUE(engine->reports.empty());
  run(2s);
  EXPECT_EQ(engine->reports, (std::vector<std::pair<RaftId, bool>>{{RaftId{3}, false}}));
  EXPECT_TRUE(outputs.released.empty());
  engine->now.peers.clear();
  run(30s);
  EXPECT_EQ(outputs.released, std::vector<std::uint64_t>{11});
  EXPECT_EQ(driver.log_needed(), Index{UINT64_MAX});
}

TEST_F(DriverTest, AReceiverThatCannotBeReachedIsProbedAgain) {
  lead();
  offer_image(11);
  driver.unreachable(RaftId{3});
  EXPECT_TRUE(engine->reports.empty());            // nothing was sent yet
  send_snapshot();
  driver.unreachable(RaftId{3});
  EXPECT_EQ(engine->reports, (std::vector<std::pair<RaftId, bool>>{{RaftId{3}, false}}));
}

TEST_F(DriverTest, AReleasedImageIsNotSentButMadeAnew) {
  lead();
  offer_image(11);
  run(31s);
  ASSERT_EQ(outputs.released.size(), 1u);
  send_snapshot();
  EXPECT_TRUE(outputs.sent.empty());
  EXPECT_EQ(outputs.snapshots, 2);
}

// ---- membership and leadership

TEST_F(DriverTest, AMembershipIsDurableBeforeItIsActedOn) {
  lead();
  bool done = false;
  driver.join(member(4), clock.now() + 1h, [&](const Result<>& result) {
    EXPECT_TRUE(result);
    EXPECT_EQ(outputs.persisted_now.size(), 1u);
    done = true;
  });
  run();
  ASSERT_EQ(engine->conf_changes.size(), 1u);
  engine->conf_after = record.base_conf;
  engine->conf_after.learners = {RaftId{4}};
  commit(outputs.persisted.at(0).entries.at(0));
  EXPECT_TRUE(done);
  EXPECT_EQ(driver.conf(), engine->conf_after);
  EXPECT_EQ(driver.conf_index(), Index{2});
  ASSERT_NE(driver.record().members.find_node("n4"), nullptr);
  commit(outputs.persisted.at(0).entries.at(0));   // replayed: it is in the membership already
  EXPECT_EQ(outputs.persisted_now.size(), 1u);
}

TEST_F(DriverTest, AChangeThatAnotherTermReplacedIsToldSo) {
  lead();
  driver.join(member(4), clock.now() + 1h, note_conf());
  run();
  raft::Entry other = outputs.persisted.at(0).entries.at(0);
  other.term = Term{3};
  engine->conf_after = record.base_conf;
  commit(other);
  ASSERT_EQ(confs.size(), 1u);
  EXPECT_EQ(confs[0], Errc::LeadershipLost);
}

TEST_F(DriverTest, AChangeOfARecoveredClustersPastHasNoEffect) {
  lead();
  const raft::ConfChange past{.steps = {{raft::ConfChangeType::AddLearner, RaftId{4}}}, .context = conf_context(member(4), record.cluster_id + 1)};
  engine->conf_after = record.base_conf;
  commit({raft::EntryType::ConfChange, Term{2}, Index{2}, std::make_shared<const std::string>(raft::encode(past))});
  EXPECT_EQ(driver.record().members.find_node("n4"), nullptr);
  EXPECT_EQ(driver.conf_index(), Index{2});
}

TEST_F(DriverTest, ALearnerThatCaughtUpBecomesAVoter) {
  lead();
  engine->now.own_term_committed = true;
  engine->now.last_index = Index{200};
  engine->now.peers = {{.id = RaftId{3}, .match = Index{135}, .learner = true}};
  run(timing.tick);
  EXPECT_TRUE(engine->conf_changes.empty());
  engine->now.peers[0].match = Index{136};
  run(timing.tick);
  ASSERT_EQ(engine->conf_changes.size(), 1u);
  EXPECT_EQ(engine->conf_changes[0].steps.at(0).type, raft::ConfChangeType::AddVoter);
}

TEST_F(DriverTest, ATransferGoesToTheVoterThatIsFurthest) {
  lead();
  engine->now.peers = {{.id = RaftId{2}, .match = Index{7}, .recent_active = true},
                       {.id = RaftId{3}, .match = Index{9}, .recent_active = false},
                       {.id = RaftId{4}, .match = Index{9}, .learner = true, .recent_active = true}};
  driver.transfer(RaftId{}, clock.now() + 1h, note_conf());
  driver.transfer(RaftId{2}, clock.now() + 1h, note_conf());
  EXPECT_EQ(confs.at(0), Errc::TransferInProgress);
  run();
  EXPECT_EQ(engine->transfers, std::vector{RaftId{2}});
  EXPECT_EQ(propose("a")->told, Told{Errc::TransferInProgress});
  EXPECT_EQ(confs.size(), 1u);
  become(raft::Role::Follower, 2, 3);
  run();
  EXPECT_EQ(confs.at(1), std::nullopt);
}

TEST_F(DriverTest, ATransferThatTheEngineGaveUpIsTriedAgainUntilItsDeadline) {
  lead();
  driver.transfer(RaftId{3}, clock.now() + 1s, note_conf());
  run();
  engine->now.transferee = RaftId{};
  run(timing.tick);
  EXPECT_EQ(engine->transfers.size(), 2u);
  run(1s);
  EXPECT_EQ(confs.at(0), Errc::Timeout);
  EXPECT_EQ(propose("a")->told, Told{});
}

TEST_F(DriverTest, ALeaderDoesNotRemoveItselfButHandsOver) {
  lead();
  driver.remove("nobody", clock.now() + 1h, note_conf());
  EXPECT_EQ(confs.at(0), std::nullopt);
  engine->now.peers = {{.id = RaftId{2}, .match = Index{1}, .recent_active = true}};
  driver.remove("n1", clock.now() + 1h, note_conf());
  run();
  EXPECT_TRUE(engine->conf_changes.empty());
  EXPECT_EQ(engine->transfers, std::vector{RaftId{2}});
  become(raft::Role::Follower, 2, 3);
  run();
  EXPECT_EQ(confs.at(1), Errc::NotLeader);
}

TEST_F(DriverTest, VotersFollowADeadLeaderOneAfterTheOther) {
  start();
  become(raft::Role::Follower, 3, 2);
  driver.peer_dead(RaftId{2});                     // not the leader
  EXPECT_EQ(engine->deaths, 0);
  driver.peer_dead(RaftId{3});
  EXPECT_EQ(engine->deaths, 1);
  EXPECT_EQ(driver.next_deadline(), clock.now());  // the lowest id of those left comes first
  run();
  EXPECT_EQ(engine->campaigns, 1);
}

TEST_F(DriverTest, AStalledOrFullLeaderHandsOver) {
  lead();
  engine->now.peers = {{.id = RaftId{2}, .match = Index{1}, .recent_active = true}};
  driver.apply_stalled(true);
  run(timing.tick);
  EXPECT_EQ(engine->transfers, std::vector{RaftId{2}});
}

TEST_F(DriverTest, LeadershipDoesNotGoRoundAmongStalledMembers) {
  lead();
  engine->now.peers = {{.id = RaftId{2}, .match = Index{1}, .recent_active = true}};
  driver.apply_stalled(true);
  // It comes back at once, over and over.
  for (int ticks = 0; ticks < 600; ++ticks) {
    run(timing.tick);
    if (!engine->now.transferee) continue;
    engine->now.transferee = {};
    become(raft::Role::Follower, 2, static_cast<std::uint64_t>(ticks) * 2 + 10);
    run();
    become(raft::Role::Leader, 1, static_cast<std::uint64_t>(ticks) * 2 + 11);
    run();
  }
  const auto seconds = std::chrono::duration<double>(600 * timing.tick).count();
  EXPECT_GE(engine->transfers.size(), 4u) << seconds;
  EXPECT_LE(engine->transfers.size(), 10u) << seconds;
  driver.apply_stalled(false);
  run(timing.tick);
  driver.apply_stalled(true);
  const std::size_t before = engine->transfers.size();
  run(timing.tick);
  EXPECT_EQ(engine->transfers.size(), before + 1);
}

TEST_F(DriverTest, WhatStillWaitsAtTheStopIsTold) {
  lead();
  const auto fate = propose("a");
  read();
  driver.transfer(RaftId{2}, clock.now() + 1h, note_conf());
  driver.change_membership({}, clock.now() + 1h, note_conf());
  driver.fail_all({Errc::NotOpen, {}});
  EXPECT_EQ(fate->told, Told{Errc::NotOpen});
  EXPECT_EQ(reads.at(0), Errc::NotOpen);
  EXPECT_EQ(confs, (std::vector<std::optional<Errc>>{Errc::NotOpen, Errc::NotOpen}));
}

TEST(DriverLease, ALeaderWithoutContactToAMajorityStepsDown) {
  ManualClock clock;
  CountingRng rng;
  Remembered outputs;
  ScriptedEngine* engine = nullptr;
  const Timing timing;
  Driver driver([&] {
    auto made = std::make_unique<ScriptedEngine>();
    engine = made.get();
    return std::unique_ptr<raft::RaftEngine>(std::move(made));
  }, RaftId{1}, timing, Limits{}, clock, rng, outputs);
  DriverStart from{.self = RaftId{1}, .handed_over = Index{1}};
  from.log.membership.conf_state = voters({RaftId{1}, RaftId{2}, RaftId{3}});
  from.log.snapshot = {Index{1}, Term{1}};
  ASSERT_TRUE(driver.start(std::move(from)));
  engine->now.role = raft::Role::Leader;
  engine->say({.role_changed = true});
  driver.run(clock.now());
  clock.advance(timing.leader_lease);
  driver.step({raft::Message{.from = RaftId{2}}});   // heard at the time of the last run
  driver.run(clock.now() - 1ms);
  EXPECT_EQ(engine->deaths, 0);
  driver.step({raft::Message{.from = RaftId{2}}});
  driver.run(clock.now());
  EXPECT_EQ(engine->deaths, 0);
  clock.advance(timing.leader_lease);
  driver.run(clock.now());
  EXPECT_EQ(engine->deaths, 1);
}

}  // namespace
}  // namespace rq::replica
