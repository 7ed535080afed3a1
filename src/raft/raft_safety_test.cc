// Random runs with faults. Goal: whatever the network, the disks and the members do, there is one leader a term, no two
// members commit different entries at one index, logs match, nothing committed is lost, and the group goes on when the
// faults end. Method: TestNetwork checks the first two at each step; a run is a pure function of its seed.
#include <gtest/gtest.h>

#include "raft/test_network.h"

namespace rq::raft {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
  std::uint64_t below(std::uint64_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % limit;
  }
  bool one_in(std::uint64_t n) { return below(n) == 0; }

 private:
  std::uint64_t state_;
};

// What the runs met, all together: faults that never happen prove nothing.
struct Met {
  std::size_t committed = 0, terms = 0, snapshots = 0, fetches = 0, conf_changes = 0, reads = 0, joint = 0;
};

class RandomRun {
 public:
  void add_to(Met& met) const {
    met.committed += net_.truth.size();
    met.terms += net_.leaders.size();
    met.snapshots += snapshots_;
    met.joint += joint_;
    for (const auto& [id, n] : net_.nodes) {
      met.fetches += n.fetches.size();
      met.reads += n.reads.size();
      met.conf_changes += n.disk.conf_index.value > 1;
    }
  }
  explicit RandomRun(std::uint64_t seed) : random_(seed), net_(seed) {
    net_.options.cache_bytes = random_.one_in(2) ? 500 : 1 << 20;
    net_.options.max_message_bytes = 600;
    net_.options.max_uncommitted_bytes = 5000;
    net_.options.max_inflight_messages = 1 + random_.below(8);
    net_.options.max_committed_bytes_per_ready = 400;
    net_.writes_wait = true;
    net_.on_send = [this](const Message& m) { snapshots_ += m.type == MessageType::Snapshot && m.snapshot->index.value > 1; };
    trouble_every_ = random_.below(12);
    members_ = 3 + random_.below(3);
    net_.found(members_);
    for (std::uint64_t id = members_ + 1; id <= members_ + 2; ++id) net_.add(id);   // may be let in
  }

  void run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) step();
    recover();
  }

 private:
  std::uint64_t any() { return 1 + random_.below(net_.nodes.size()); }

  void step() {
    TestNode& node = net_.node(any());
    const std::uint64_t choice = random_.below(100);
    if (choice < 20) tick(node);
    else if (choice < 35) propose();
    else if (choice < 53) net_.flush(node, 1 + random_.below(3));
    else if (choice < 90) deliver();
    else if (choice < 92) compact(node);
    else if (choice < 94 && !node.engine) net_.restart(node.options.id.value);
    else if (choice < 95) reconfigure(node);
    else if (random_.one_in(1 + trouble_every_)) make_trouble(node);
    for (auto& [id, n] : net_.nodes) {
      if (random_.one_in(2)) net_.carry_out(n);
      joint_ += n.disk.conf.joint();
    }
  }

  void tick(TestNode& node) {
    if (random_.one_in(4)) {
      if (node.engine) net_.ok(node.engine->tick());
      return;
    }
    for (auto& [id, n] : net_.nodes)
      if (n.engine) net_.ok(n.engine->tick());
  }

  void propose() {
    const std::uint64_t leader = net_.leader();
    if (leader != 0) (void)net_.engine(leader).propose(std::string(random_.below(120), 'x') + std::to_string(proposed_++));
  }

  void deliver() {
    for (std::uint64_t count = random_.below(12); count > 0 && !net_.wire.empty(); --count) {
      const std::size_t at = random_.one_in(3) ? random_.below(net_.wire.size()) : 0;
      if (random_.one_in(30)) net_.wire.push_back(net_.wire[at]);                  // twice
      if (random_.one_in(30)) {
        net_.lose(at);
        continue;
      }
      net_.deliver(at);
    }
    while (net_.wire.size() > 200) net_.lose(random_.below(net_.wire.size()));
  }

  void reconfigure(TestNode& node) {
    if (!node.engine || node.engine->role() != Role::Leader || !random_.one_in(2)) return;
    const auto step = [&]() -> ConfChangeStep { return {static_cast<ConfChangeType>(random_.below(3)), RaftId{any()}}; };
    ConfChange wanted{.steps = {step()}, .joint = random_.one_in(2)};
    if (random_.one_in(3)) wanted.steps.push_back(step());
    if (random_.one_in(6)) wanted.steps.clear();
    (void)node.engine->propose_conf_change(wanted);
  }

  void make_trouble(TestNode& node) {
    const std::uint64_t kind = random_.below(10);
    if (kind < 2) net_.isolated.clear();
    else if (kind == 2 && net_.isolated.size() < 2) net_.isolate(any());
    else if (!node.engine) return;
    else if (kind == 3) net_.crash(node.options.id.value);
    else if (kind == 4) net_.ok(node.engine->leader_died());
    else if (kind == 5) net_.ok(node.engine->campaign());
    else if (kind == 6) (void)node.engine->transfer_leader(RaftId{any()});
    else if (kind == 7) node.engine->report_unreachable(RaftId{any()});
    else if (kind == 8) (void)node.engine->read_index(std::to_string(proposed_++));
    else if (kind == 9) net_.drop = random_.one_in(2) ? nullptr : std::function<bool(const Message&)>([type = 3 + random_.below(16)](const Message& m) {
      return static_cast<std::uint64_t>(m.type) == type;
    });
  }

  void compact(TestNode& node) {
    if (!node.engine || !random_.one_in(2)) return;
    const Index first{node.disk.snapshot_index.value + 1};
    if (node.disk.conf.voters.empty() || node.disk.applied < first || node.engine->status().applied != node.disk.applied) return;
    net_.compact(node.options.id.value, Index{first.value + random_.below(node.disk.applied.value - first.value + 1) + 1});
  }

  // The faults end: what was committed is still there, and the group takes proposals again.
  void recover() {
    if (::testing::Test::HasFailure()) return;
    net_.writes_wait = false;
    net_.heal();
    for (auto& [id, n] : net_.nodes) {
      if (!n.engine) net_.restart(id.value);
      net_.flush(n);
    }
    net_.settle();
    const Index before = net_.truth.empty() ? Index{1} : net_.truth.rbegin()->first;
    std::uint64_t leader = 0;
    for (int i = 0; i < 40 && net_.truth.size() < 1'000'000; ++i) {
      net_.tick_all(15);
      leader = net_.leader();
      if (leader == 0) continue;
      const Result<Index> index = net_.engine(leader).propose("after the faults");
      net_.settle();
      if (index && net_.engine(leader).commit() >= *index) break;
    }
    ASSERT_NE(leader, 0U) << "nobody leads";
    ASSERT_GT(net_.engine(leader).commit(), before) << "nothing is committed any more";
    net_.tick_all(60);
    expect_logs_match(leader);
  }

  void expect_logs_match(std::uint64_t leader) {
    const TestNode& best = net_.node(leader);
    const ConfState conf = best.engine->status().conf_state;
    for (auto& [id, n] : net_.nodes) {
      if (!conf.contains(id)) continue;
      EXPECT_EQ(n.engine->commit(), best.engine->commit()) << "member " << id.value << " did not catch up";
      EXPECT_EQ(n.handed_over, n.engine->commit()) << id.value;
      for (const Entry& e : n.disk.log) {
        if (e.index > n.engine->commit() || !net_.truth.contains(e.index)) continue;
        EXPECT_EQ(net_.truth.at(e.index), std::pair(e.term, *e.payload)) << "member " << id.value << " at " << e.index.value;
      }
    }
  }

  Random random_;
  TestNetwork net_;
  std::uint64_t members_ = 0, trouble_every_ = 0;
  std::uint64_t proposed_ = 0;
  std::size_t snapshots_ = 0, joint_ = 0;
};

// --gtest_random_seed=N takes the N-th block of seeds; a failure names its seed.
TEST(RaftSafety, HoldsOnRandomRuns) {
  constexpr std::uint64_t kRuns = 300;
  const auto first = static_cast<std::uint64_t>(GTEST_FLAG_GET(random_seed)) * kRuns + 1;
  Met met;
  for (std::uint64_t seed = first; seed < first + kRuns; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRun run(seed);
    run.run(3000);
    run.add_to(met);
    if (HasFailure()) return;
  }
  EXPECT_GT(met.committed, 10'000U);
  EXPECT_GT(met.terms, 400U);
  EXPECT_GT(met.snapshots, 50U);
  EXPECT_GT(met.fetches, 100U);
  EXPECT_GT(met.conf_changes, 200U);
  EXPECT_GT(met.joint, 1000U);
  EXPECT_GT(met.reads, 5U);
}

}  // namespace
}  // namespace rq::raft
