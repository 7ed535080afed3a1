// A Raft group in one thread, for tests: real engines, logs in memory, messages as values.
//
// What a member has written survives crash(); what it was still writing (writes_wait) does not. Every committed entry is
// compared with what the others committed at that index, every leader with the other leaders of its term: a test that
// drives the network checks safety on the way. Nothing here is random but RandomNetwork's choices (raft_safety_test.cc).
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "raft/engine.h"

namespace rq::raft {

// The code of a refusal; nullopt: it succeeded.
template <class T>
std::optional<Errc> errc(const Result<T>& result) {
  return result ? std::nullopt : std::optional(result.error().code);
}
inline Entry entry(std::uint64_t index, std::uint64_t term, std::string payload = {}) {
  return {.term = Term{term}, .index = Index{index}, .payload = std::make_shared<const std::string>(std::move(payload))};
}
inline ConfState voters(std::initializer_list<std::uint64_t> ids, std::initializer_list<std::uint64_t> learners = {}) {
  ConfState conf;
  for (const std::uint64_t id : ids) conf.voters.push_back(RaftId{id});
  for (const std::uint64_t id : learners) conf.learners.push_back(RaftId{id});
  return conf;
}
inline ConfChange change(ConfChangeType type, std::uint64_t id, std::string context = {}) {
  return {.steps = {{type, RaftId{id}}}, .context = std::move(context)};
}

// The newest of a member's log, and what its state machine has: durable.
struct TestDisk {
  HardState hard_state;
  ConfState conf;
  Index conf_index;
  Index snapshot_index;        // the log begins behind it; 0: nothing was ever written
  Term snapshot_term;
  std::vector<Entry> log;      // log[i] has index snapshot_index + 1 + i
  Index applied;

  Index last() const { return Index{snapshot_index.value + log.size()}; }
  Term term_of(Index index) const {
    return index == snapshot_index ? snapshot_term : log.at(index.value - snapshot_index.value - 1).term;
  }
  void write(const Ready& ready);
  StartState start_state(Index handed_over) const;
};

struct TestWrite {             // a Ready on its way to the disk
  Ready ready;
};

struct TestNode {
  Options options;
  std::unique_ptr<RaftEngine> engine;   // null: crashed
  TestDisk disk;
  std::deque<TestWrite> writes;
  Index handed_over;
  std::vector<Entry> committed;         // in this life
  std::vector<ReadState> reads;
  std::vector<FetchRequest> fetches;    // all that were asked for
  std::size_t readys = 0;
};

class TestNetwork {
 public:
  using Nodes = std::map<RaftId, TestNode>;
  explicit TestNetwork(std::uint64_t seed = 1) : seed_(seed) {}

  // Members 1..count, all voters, all of which have the bootstrap snapshot at index 1.
  void found(std::uint64_t count) {
    ConfState conf;
    for (std::uint64_t id = 1; id <= count; ++id) conf.voters.push_back(RaftId{id});
    found(conf);
  }
  void found(const ConfState& conf) {
    founders = conf;
    for (const auto* list : {&conf.voters, &conf.learners})
      for (const RaftId id : *list) add(id.value, conf);
  }
  // A member with a bootstrap snapshot, or (empty conf) one that waits for a snapshot.
  TestNode& add(std::uint64_t id, const ConfState& conf = {}) {
    TestNode& added = nodes[RaftId{id}];
    added.options = options;
    added.options.id = RaftId{id};
    added.options.seed = seed_ * 1000 + id;
    if (!conf.voters.empty()) {
      added.disk = {.hard_state = {.term = Term{1}, .commit = Index{1}}, .conf = conf, .conf_index = Index{1},
                    .snapshot_index = Index{1}, .snapshot_term = Term{1}, .applied = Index{1}};
    }
    restart(id);
    return added;
  }

  TestNode& node(std::uint64_t id) { return nodes.at(RaftId{id}); }
  RaftEngine& engine(std::uint64_t id) { return *node(id).engine; }

  void crash(std::uint64_t id) {
    node(id).engine.reset();
    node(id).writes.clear();
    std::erase_if(wire, [&](const Message& m) { return m.from.value == id && drop_sent_at_crash; });
  }
  void restart(std::uint64_t id) {
    TestNode& n = node(id);
    n.engine = make_raft_engine(n.options);
    n.writes.clear();
    n.committed.clear();
    n.handed_over = std::max(n.disk.applied, n.disk.snapshot_index);
    const Result<> started = n.engine->start(n.disk.start_state(n.handed_over));
    ASSERT_TRUE(started) << started.error().text();
  }

  // ---- time and proposals
  void tick(std::uint64_t id, int times = 1) {
    for (; times > 0; --times) {
      if (!node(id).engine) return;
      ok(node(id).engine->tick());
      settle();
    }
  }
  void tick_all(int times = 1) {
    for (; times > 0; --times) {
      for (auto& [id, n] : nodes)
        if (n.engine) ok(n.engine->tick());
      settle();
    }
  }
  void elect(std::uint64_t id) {
    ok(engine(id).campaign());
    settle();
    ASSERT_EQ(engine(id).role(), Role::Leader) << id << " was not elected";
  }
  // Waits, with the clock, until somebody leads.
  std::uint64_t wait_for_leader(int ticks_max = 200) {
    for (int i = 0; i < ticks_max; ++i) {
      if (const std::uint64_t id = leader()) return id;
      tick_all();
    }
    return 0;
  }
  std::uint64_t leader() {     // of the newest term, or 0
    std::uint64_t best = 0;
    for (auto& [id, n] : nodes)
      if (n.engine && n.engine->role() == Role::Leader && (best == 0 || n.engine->term() > engine(best).term())) best = id.value;
    return best;
  }
  Index propose(std::uint64_t id, std::string payload) {
    const Result<Index> index = engine(id).propose(std::move(payload));
    EXPECT_TRUE(index) << index.error().text();
    settle();
    return index ? *index : Index{};
  }
  void reconfigure(std::uint64_t id, const ConfChange& wanted) {
    const Result<Index> index = engine(id).propose_conf_change(wanted);
    ASSERT_TRUE(index) << index.error().text();
    settle();
  }

  // ---- faults
  void isolate(std::uint64_t id) { isolated.insert(RaftId{id}); }
  void heal() {
    isolated.clear();
    drop = nullptr;
  }

  // Carries out Readys and delivers messages until nothing moves any more.
  void settle() {
    for (int round = 0; round < 100'000; ++round) {
      bool moved = false;
      for (auto& [id, n] : nodes) moved |= carry_out(n);
      if (!wire.empty()) {
        deliver(0);
        moved = true;
      }
      if (!moved) return;
    }
    FAIL() << "the network does not come to rest";
  }

  // All Readys of one member; false: there was none.
  bool carry_out(TestNode& n) {
    bool any = false;
    while (n.engine && n.engine->has_ready()) {
      Result<Ready> ready = n.engine->take_ready();
      if (!ready) {
        ADD_FAILURE() << ready.error().text();
        return any;
      }
      any = true;
      ++n.readys;
      carry_out(n, *std::move(ready));
      if (!writes_wait) flush(n);
    }
    return any;
  }
  // The disk catches up: what was written is durable, and what waited for it is sent.
  void flush(TestNode& n, std::size_t count = SIZE_MAX) {
    for (; count > 0 && !n.writes.empty() && n.engine; --count) {
      TestWrite write = std::move(n.writes.front());
      n.writes.pop_front();
      n.disk.write(write.ready);
      ok(n.engine->persisted(write.ready.number));
      if (write.ready.snapshot) {
        n.disk.applied = write.ready.snapshot->index;
        if (install_snapshots) ok(n.engine->snapshot_installed(write.ready.snapshot->index));
      }
      send(n, std::move(write.ready.messages_after_persist));
    }
  }
  void flush(std::uint64_t id) { flush(node(id)); }

  void deliver(std::size_t at) {
    const Message& next = wire.at(at);
    const bool lost = isolated.contains(next.from) || isolated.contains(next.to) || (drop && drop(next)) ||
                      !nodes.contains(next.to) || !nodes.at(next.to).engine;
    if (lost) return lose(at);
    const Message message = take(at);
    ok(nodes.at(message.to).engine->step(message));
    report(message, true);
  }
  void lose(std::size_t at) { report(take(at), false); }

  void compact(std::uint64_t id, Index first_kept) {
    TestNode& n = node(id);
    const Term term = n.disk.term_of(Index{first_kept.value - 1});
    const auto count = static_cast<std::ptrdiff_t>(first_kept.value - n.disk.snapshot_index.value - 1);
    n.disk.log.erase(n.disk.log.begin(), n.disk.log.begin() + count);
    n.disk.snapshot_index = Index{first_kept.value - 1};
    n.disk.snapshot_term = term;
    n.engine->compact(first_kept, term);
  }

  // All living members have applied the same entries up to the newest commit.
  void expect_agreement() {
    Index commit;
    for (auto& [id, n] : nodes)
      if (n.engine) commit = std::max(commit, n.engine->commit());
    for (auto& [id, n] : nodes) {
      if (!n.engine || !n.disk.conf.contains(id)) continue;
      EXPECT_EQ(n.handed_over.value, commit.value) << "member " << id.value;
    }
  }

  Options options{.election_ticks = 10, .heartbeat_ticks = 1};
  Nodes nodes;
  ConfState founders;
  std::deque<Message> wire;
  std::set<RaftId> isolated;
  std::function<bool(const Message&)> drop;
  std::function<void(const Message&)> on_send;
  bool writes_wait = false;          // true: only flush() makes durable
  bool install_snapshots = true;     // false: the test calls snapshot_installed()
  bool report_snapshots = true;
  bool offer_snapshots = true;
  bool answer_fetches = true;
  bool drop_sent_at_crash = false;
  std::size_t fetch_entries_max = 64;
  std::map<Index, std::pair<Term, std::string>> truth;   // what was committed, by anybody, ever
  std::map<Term, RaftId> leaders;

  void ok(const Result<>& result) { EXPECT_TRUE(result) << result.error().text(); }

 private:
  Message take(std::size_t at) {
    Message message = std::move(wire.at(at));
    wire.erase(wire.begin() + static_cast<std::ptrdiff_t>(at));
    return message;
  }
  // Trap 2: what the transport owes for each snapshot message.
  void report(const Message& message, bool arrived) {
    if (message.type != MessageType::Snapshot || !report_snapshots) return;
    if (const auto sender = nodes.find(message.from); sender != nodes.end() && sender->second.engine)
      sender->second.engine->report_snapshot(message.to, arrived);
  }

  void send(TestNode& n, std::vector<Message>&& messages) {
    for (Message& message : messages) {
      expect_durable(n.disk, message);
      if (on_send) on_send(message);
      wire.push_back(std::move(message));
    }
  }

  // Whatever a message promises is on the sender's disk.
  static void expect_durable(const TestDisk& disk, const Message& m) {
    const bool future = m.type == MessageType::RequestPreVote || m.type == MessageType::RequestPreVoteResponse;
    const bool votes = m.type == MessageType::RequestVote || (m.type == MessageType::RequestVoteResponse && !m.reject);
    const bool acknowledges = m.type == MessageType::AppendResponse && !m.reject;
    const RaftId candidate = m.type == MessageType::RequestVote ? m.from : m.to;
    EXPECT_TRUE(future || m.term <= disk.hard_state.term) << "message type " << static_cast<int>(m.type);
    // A later term keeps from voting again in this one as well as the vote does.
    EXPECT_TRUE(!votes || disk.hard_state.term > m.term || disk.hard_state.vote == candidate) << candidate.value;
    EXPECT_TRUE(!acknowledges || m.index <= disk.last()) << m.index.value;
  }

  void carry_out(TestNode& n, Ready&& ready) {
    if (n.engine->role() == Role::Leader) {
      const auto [known, fresh] = leaders.emplace(n.engine->term(), n.options.id);
      EXPECT_EQ(known->second, n.options.id) << "two leaders in term " << known->first.value;
    }
    send(n, std::move(ready.messages));
    if (ready.snapshot) n.handed_over = ready.snapshot->index;
    for (const Entry& e : ready.committed) hand_over(n, e);
    std::ranges::copy(ready.reads, std::back_inserter(n.reads));
    std::vector<FetchRequest> fetches = std::move(ready.fetches);
    n.writes.push_back({std::move(ready)});
    for (const FetchRequest& fetch : fetches) {
      n.fetches.push_back(fetch);
      if (answer_fetches) answer(n, fetch);
    }
    for (const RaftId peer : n.engine->take_snapshot_wanted())
      if (offer_snapshots) n.engine->provide_snapshot(peer, snapshot_for(n, peer));
  }

  void hand_over(TestNode& n, const Entry& e) {
    EXPECT_EQ(e.index, n.handed_over.next()) << "a gap at member " << n.options.id.value;
    EXPECT_LE(e.index, n.disk.last()) << "applied before it was durable";
    const auto [known, fresh] = truth.emplace(e.index, std::pair(e.term, *e.payload));
    EXPECT_EQ(known->second, std::pair(e.term, *e.payload)) << "members disagree at " << e.index.value;
    if (e.type == EntryType::ConfChange && e.index > n.disk.conf_index) {
      const Result<ConfState> conf = n.engine->apply_conf_change(e);
      ASSERT_TRUE(conf) << conf.error().text();
      n.disk.conf = *conf;
      n.disk.conf_index = e.index;
    }
    n.handed_over = e.index;
    n.disk.applied = e.index;
    n.committed.push_back(e);
  }

 public:
  void answer(TestNode& n, const FetchRequest& fetch) {
    std::vector<Entry> entries;
    const bool compacted = fetch.first <= n.disk.snapshot_index;    // meanwhile: it can't be read
    for (Index i = fetch.first; !compacted && i <= fetch.last && entries.size() < fetch_entries_max; i = i.next())
      entries.push_back(n.disk.log.at(i.value - n.disk.snapshot_index.value - 1));
    ok(n.engine->entries_fetched(fetch.peer, std::move(entries)));
  }

  // The bootstrap while the log begins behind it, else the state as it is now.
  SnapshotDescriptor snapshot_for(const TestNode& n, RaftId peer) const {
    SnapshotDescriptor out{.index = n.disk.applied, .conf_state = n.disk.conf, .data = "image"};
    if (n.disk.snapshot_index == Index{1}) out = {.index = Index{1}, .conf_state = founders, .data = "bootstrap"};
    if (!out.conf_state.contains(peer) && n.disk.snapshot_index == Index{1}) out.conf_state.learners.push_back(peer);
    out.term = n.disk.term_of(out.index);
    return out;
  }

 private:
  const std::uint64_t seed_;
};

inline void TestDisk::write(const Ready& ready) {
  if (ready.snapshot) {
    log.clear();
    snapshot_index = ready.snapshot->index;
    snapshot_term = ready.snapshot->term;
    conf = ready.snapshot->conf_state;
    conf_index = ready.snapshot->index;
  }
  for (const Entry& e : ready.entries) {
    ASSERT_GT(e.index, snapshot_index);
    ASSERT_LE(e.index.value, last().value + 1) << "a gap in the log";
    log.resize(e.index.value - snapshot_index.value - 1);
    log.push_back(e);
  }
  if (ready.hard_state) {
    ASSERT_GE(ready.hard_state->term, hard_state.term);
    hard_state = *ready.hard_state;
  }
}

inline StartState TestDisk::start_state(Index handed_over) const {
  StartState out{.hard_state = hard_state, .conf_state = conf, .conf_index = conf_index, .applied = handed_over,
                 .first_index = snapshot_index.next(), .last_index = last(), .snapshot_term = snapshot_term};
  Term term;
  for (const Entry& e : log) {
    if (e.term != term) out.term_starts.emplace_back(e.index, e.term);
    term = e.term;
    if (e.index > handed_over) out.entries.push_back(e);
  }
  return out;
}

}  // namespace rq::raft
