#include "sim/run.h"

#include <sqlite3.h>

#include <algorithm>

#include "sim/auditor.h"
#include "sim/clients.h"
#include "sim/nemesis.h"

namespace rq::sim {
namespace {

// SQLite seeds its generator (salts of its WAL) from the default VFS: one whose randomness is the run's.
class SeededSqlite {
 public:
  explicit SeededSqlite(std::uint64_t seed) : rng_(seed) {
    current = &rng_;
    vfs_ = *sqlite3_vfs_find(nullptr);
    vfs_.zName = "rq-seeded";
    vfs_.xRandomness = [](sqlite3_vfs*, int size, char* out) {
      for (int i = 0; i < size; ++i) out[i] = static_cast<char>(current->next());
      return size;
    };
    sqlite3_vfs_register(&vfs_, 1);
    sqlite3_randomness(0, nullptr);
  }
  ~SeededSqlite() { sqlite3_vfs_unregister(&vfs_); }

 private:
  static inline test::SeededRng* current = nullptr;
  test::SeededRng rng_;
  sqlite3_vfs vfs_{};
};

class Run {
 public:
  explicit Run(const RunOptions& options)
      : sqlite_(options.seed),
        world_(options.seed, options.print_story),
        settings_(Settings::draw(options.seed)),
        network_(world_, settings_),
        shared_{.world = world_, .settings = settings_, .network = network_, .mutant = options.mutant, .cluster_id = options.seed | 1},
        clients_(shared_),
        nemesis_(shared_),
        auditor_(shared_) {}

  Verdict judge() {
    world_.note(settings_.text());
    found();
    work();
    settle("the cluster did not settle after healing");
    compare();
    lose_all_power();
    Verdict verdict{.violation = world_.violation(), .trace = world_.trace_hash(), .operations = clients_.operations(), .acknowledged = clients_.acknowledged(),
                    .faults = nemesis_.faults(), .terms = shared_.checks.terms_led(), .entries = shared_.checks.last_committed().value, .events = world_.events_run(),
                    .virtual_seconds = static_cast<double>(world_.now().count()) / 1e6, .gave_up = clients_.gave_up()};
    return verdict;
  }

 private:
  bool over() const { return world_.violation().has_value(); }

  void found() {
    replica::MembershipRecord record{.cluster_id = shared_.cluster_id};
    raft::ConfState conf;
    for (unsigned slot = 0; slot < settings_.voters + settings_.read_replicas; ++slot) {
      const bool replica = slot >= settings_.voters;
      shared_.nodes.push_back(std::make_unique<Node>(shared_, slot, "n" + std::to_string(slot + 1), replica));
      const Node& node = *shared_.nodes.back();
      record.members.put(node.member());
      (replica ? conf.learners : conf.voters).push_back(node.raft_id());
    }
    for (const auto& node : shared_.nodes) node->boot();
    if (over() || !shared_.nodes[0]->found_cluster(record, conf)) return;
    shared_.founded = true;
    bool ready = false;
    clients_.set_up([&] { ready = true; });
    world_.run_until(world_.now() + seconds(60), [&] { return ready; });
    if (!ready) world_.violated("a new cluster without faults does not take a write");
  }

  void work() {
    if (over()) return;
    world_.note("the cluster works");
    clients_.start();
    if (world_.seed >= kSecondGeneration) auditor_.begin();
    nemesis_.begin();
    world_.run_until(world_.now() + settings_.storm);
    if (over()) return;
    nemesis_.end();
    world_.run_until(world_.now() + seconds(3));
    clients_.stop();
    world_.run_until(world_.now() + seconds(3));
  }

  bool settled() {
    if (!nemesis_.at_peace() || !auditor_.at_peace()) return false;
    Node* leader = shared_.leader();
    if (leader == nullptr) return false;
    const raft::ConfState& conf = leader->driver().conf();
    if (conf.joint() || leader->driver().engine().commit() != leader->driver().status().last_index) return false;
    return std::ranges::all_of(shared_.nodes, [&](const auto& node) {
      if (!node->member_wanted) return !conf.contains(node->raft_id());
      const bool role = node->member().read_replica ? conf.contains(node->raft_id()) : conf.is_voter(node->raft_id());
      return role && node->applied() == leader->applied() && node->applied() == leader->driver().engine().commit() && node->driver().conf() == conf;
    });
  }

  void settle(const std::string& otherwise) {
    if (over()) return;
    const Instant end = world_.now() + settings_.calm;
    bool probed = false;
    if (world_.seed >= kSecondGeneration) auditor_.demand();
    clients_.probe([&] { probed = true; });
    while (!over() && !(probed && settled()) && world_.now() < end) world_.run_until(world_.now() + milliseconds(100));
    if (over()) return;
    if (probed && settled()) return;
    std::string state = probed ? "" : " writes or reads are not answered,";
    for (const auto& node : shared_.nodes)
      state += " " + node->name() + (node->up() ? " applied=" + std::to_string(node->applied().value) + " commit=" + std::to_string(node->driver().engine().commit().value) +
                                                      " term=" + std::to_string(node->driver().engine().term().value) + (node->leads() ? " leads" : "") +
                                                      (node->stalled() ? " stalled" : "") +
                                                      (node->quarantined() ? " quarantined" : "") + " voters=" + std::to_string(node->driver().conf().voters.size())
                                                : " down") + (node->member_wanted ? ";" : " (removed);");
    if (Node* leader = shared_.leader())
      for (const raft::PeerStatus& peer : leader->driver().status().peers)
        state += " peer " + std::to_string(peer.id.value) + ": match=" + std::to_string(peer.match.value) + " next=" + std::to_string(peer.next.value) +
                 (peer.paused ? " paused" : "") + (peer.snapshotting ? " snapshotting" : "") + (peer.learner ? " learner;" : ";");
    world_.violated(otherwise + ":" + state);
  }

  std::vector<Node*> members() {
    std::vector<Node*> out;
    for (const auto& node : shared_.nodes)
      if (node->member_wanted) out.push_back(node.get());
    return out;
  }

  void compare() {
    if (over()) return;
    clients_.check(*members().front());
    const std::string image = members().front()->image();
    for (Node* node : members()) {
      if (over()) return;
      node->check_bounds();
      if (node->image() != image) world_.violated("the database files of " + members().front()->name() + " and " + node->name() + " differ");
    }
  }

  // Everything that was acknowledged survives the loss of power of all nodes at one moment.
  void lose_all_power() {
    if (over()) return;
    world_.note("all lose power at once");
    for (const auto& node : shared_.nodes)
      if (node->up()) node->kill(test::MemoryDisk::Loss::All, false);
    for (Node* node : members()) node->boot();
    settle("the cluster did not come back after a loss of all power");
    if (over()) return;
    clients_.check(*members().front());
    for (Node* node : members()) shared_.found(shared_.checks.state(node->applied(), node->content_hash()));
  }

  SeededSqlite sqlite_;
  World world_;
  const Settings settings_;
  Network network_;
  Shared shared_;
  Clients clients_;
  Nemesis nemesis_;
  Auditor auditor_;
};

}  // namespace

Verdict run(const RunOptions& options) {
  Run one(options);
  return one.judge();
}

}  // namespace rq::sim
