#include "sim/nemesis.h"

#include <algorithm>

namespace rq::sim {

using Loss = test::MemoryDisk::Loss;

void Nemesis::every(Instant mean, std::function<void()> fault) {
  if (mean.count() == 0) return;
  world_.after(world_.around(mean), [this, mean, fault = std::move(fault)] {
    if (over_) return;
    ++faults_;
    fault();
    every(mean, fault);
  });
}

Node* Nemesis::some(bool up) {
  std::vector<Node*> fitting;
  for (const auto& node : shared_.nodes)
    if (node->up() == up && node->member_wanted) fitting.push_back(node.get());
  return fitting.empty() ? nullptr : fitting[world_.below(fitting.size())];
}

void Nemesis::kill(Node& node, Loss loss) {
  static const char* const kHow[] = {"loses power, and all it hadn't synced", "loses power, and the last it hadn't synced", "loses power, sectors survive by chance", "is killed"};
  world_.note(node.name() + " " + kHow[static_cast<int>(loss)]);
  node.kill(loss, loss == Loss::None || world_.one_in(2));
}

void Nemesis::start_later(Node& node, Instant delay) {
  world_.after(delay, [this, &node] { start(node); });
}

void Nemesis::start(Node& node) {
  if (node.up() || !node.member_wanted) return;
  if (node.boot() == Node::Boot::Started) return;
  if (!node.rotten) return start_later(node, milliseconds(200));
  world_.note(node.name() + " gets a new disk");
  replace(node);
}

void Nemesis::begin() {
  over_ = false;
  const auto on_some = [this](void (Nemesis::*fault)(Node&)) {
    return [this, fault] {
      if (Node* node = some(true)) (this->*fault)(*node);
    };
  };
  every(settings_.crash, [this] {
    Node* node = some(true);
    if (node == nullptr) return;
    kill(*node, some_loss());
    start_later(*node, world_.between(milliseconds(5), milliseconds(1500)));
  });
  every(settings_.crash_in_call, on_some(&Nemesis::crash_in_call));
  every(settings_.partition, [this] { partition(); });
  every(settings_.slow_disk, [this] {
    Node* node = some(true);
    if (node == nullptr) return;
    world_.note(node->name() + "'s disk is slow");
    node->extra_disk = world_.between(milliseconds(10), milliseconds(300));
    world_.after(world_.between(milliseconds(200), seconds(2)), [node] { node->extra_disk = Instant{0}; });
  });
  every(settings_.full_disk, [this] {
    Node* node = some(true);
    if (node == nullptr) return;
    world_.note(node->name() + "'s disk fills up");
    node->faulty_disk = true;              // SQLite calls some of it an I/O error
    node->disk().leave_free(world_.below(20'000));
    world_.after(world_.between(milliseconds(200), seconds(3)), [node] { node->disk().set_capacity(UINT64_MAX); });
  });
  every(settings_.io_error, [this] {
    Node* node = some(true);
    if (node == nullptr) return;
    world_.note(node->name() + " will have an I/O error");
    node->faulty_disk = true;
    node->disk().fail_call(1 + world_.below(30), Errc::Io);
  });
  every(settings_.clock_jump, [this] {
    Node* node = some(true);
    if (node == nullptr) return;
    const auto by = milliseconds(static_cast<int>(world_.below(1'200'000)) - 600'000);
    world_.note(node->name() + "'s clock jumps by " + std::to_string(by.count()) + " ms");
    node->clock().jump(by);
  });
  every(settings_.pause, [this] {
    Node* node = some(true);
    if (node == nullptr) return;
    world_.note(node->name() + " is stopped for a while");
    node->freeze(world_.now() + world_.between(milliseconds(20), milliseconds(2500)));
  });
  every(settings_.slow_apply, [this] {
    Node* node = some(true);
    if (node == nullptr) return;
    world_.note(node->name() + " applies slowly");
    node->extra_apply = world_.between(milliseconds(5), milliseconds(200));
    world_.after(world_.between(milliseconds(300), seconds(3)), [node] { node->extra_apply = Instant{0}; });
  });
  every(settings_.transfer, [this] {
    Node* leader = shared_.leader();
    const Node* to = some(true);
    if (leader == nullptr || to == nullptr) return;
    const RaftId target = world_.one_in(2) ? RaftId{} : to->raft_id();
    world_.note(leader->name() + " is told to hand over" + (target ? " to " + to->name() : ""));
    leader->input([leader, target] { leader->driver().transfer(target, leader->clock().now() + milliseconds(1000), [](const Result<>&) {}); });
  });
  every(settings_.false_death, [this] {
    if (world_.one_in(2)) return refuse_leader();
    Node* node = some(true);
    if (node == nullptr) return;
    world_.note(node->name() + " takes its leader for dead");
    node->input([node] { node->driver().peer_dead(node->driver().engine().leader()); });
  });
  every(settings_.membership, [this] { change_members(); });
  every(settings_.wipe, [this] {
    Node* node = some(true);
    if (node == nullptr || !may_lose_a_disk()) return;
    world_.note(node->name() + " loses its disk");
    node->kill(Loss::All, world_.one_in(2));
    replace(*node);
  });
  every(settings_.rot, on_some(&Nemesis::rot));
  every(settings_.rot_database, on_some(&Nemesis::rot_database));
  every(settings_.misdirected, on_some(&Nemesis::misdirect));
  every(settings_.snapshot_cut, [this] {
    for (const auto& node : shared_.nodes) node->cut_install();
  });
  if (settings_.drift_permille > 0)
    for (const auto& node : shared_.nodes) node->clock().run_at(static_cast<int>(world_.below(2 * settings_.drift_permille)) - static_cast<int>(settings_.drift_permille));
  look_after();
}

// Something between them refuses the leader's connections: to all others it looks dead, and it lives.
void Nemesis::refuse_leader() {
  Node* leader = shared_.leader();
  if (leader == nullptr || shared_.network.cut_anywhere()) return;
  world_.note(leader->name() + " leads and looks dead to all others");
  for (const auto& node : shared_.nodes) {
    if (node.get() == leader) continue;
    shared_.network.cut(leader->slot(), node->slot());
    shared_.network.cut(node->slot(), leader->slot());
    if (node->up()) node->input([peer = node.get(), id = leader->raft_id()] { peer->driver().peer_dead(id); });
  }
  heal_later(milliseconds(1000));
}

void Nemesis::heal_later(Instant at_most) {
  world_.after(world_.between(milliseconds(50), at_most), [this] {
    if (shared_.network.cut_anywhere()) world_.note("the network is whole again");
    shared_.network.heal();
  });
}

void Nemesis::crash_in_call(Node& node) {
  const bool before = std::exchange(node.faulty_disk, true);
  node.disk().fail_call(1 + world_.below(30), Errc::Io, true);
  const Instant until = world_.now() + milliseconds(800);
  const auto watch = std::make_shared<std::function<void()>>();
  *watch = [this, &node, until, before, again = std::weak_ptr(watch), keep = watch]() mutable {
    const bool gone = !node.up() || !node.faulty_disk;
    if (!gone && !node.disk().failed() && world_.now() < until && !over_) return world_.after(Instant{300}, *again.lock());
    if (!gone && node.disk().failed()) {
      world_.note(node.name() + " dies between two calls to its disk");
      node.kill(some_loss(), world_.one_in(2));
      start_later(node, world_.between(milliseconds(5), milliseconds(1000)));
    } else if (!gone) {
      node.disk().heal();
      node.faulty_disk = before;           // what failed earlier may still show
    }
    keep.reset();
  };
  world_.after(Instant{300}, *watch);
}

void Nemesis::partition() {
  if (shared_.network.cut_anywhere()) return;
  const auto count = static_cast<unsigned>(shared_.nodes.size());
  if (count < 2) return;
  std::vector<unsigned> order(count);
  for (unsigned i = 0; i < count; ++i) order[i] = i;
  for (unsigned i = count - 1; i > 0; --i) std::swap(order[i], order[world_.below(i + 1)]);
  const unsigned cut_at = 1 + static_cast<unsigned>(world_.below(count - 1));
  const std::uint64_t kind = world_.below(4);
  const auto cut = [&](unsigned a, unsigned b, bool both) {
    shared_.network.cut(order[a], order[b]);
    if (both) shared_.network.cut(order[b], order[a]);
  };
  std::string text;
  for (unsigned i = 0; i < count; ++i) text += (i == cut_at ? " | " : " ") + shared_.nodes[order[i]]->name();
  if (kind == 0) {
    world_.note("one link goes one way only:" + text);
    cut(0, count - 1, false);
  } else if (kind == 1 && count > 2) {
    world_.note("a bridge stands between two sides:" + text);      // order[cut_at] sees both
    for (unsigned a = 0; a < cut_at; ++a)
      for (unsigned b = cut_at + 1; b < count; ++b) cut(a, b, true);
    if (cut_at + 1 >= count) cut(0, count - 1, true);
  } else {
    world_.note((kind == 2 ? "one side is no longer heard:" : "the network splits:") + text);
    for (unsigned a = 0; a < cut_at; ++a)
      for (unsigned b = cut_at; b < count; ++b) cut(a, b, kind != 2);
  }
  heal_later(milliseconds(3000));
}

// A process whose log stopped, or that can't apply for long, is started again.
void Nemesis::look_after() {
  for (const auto& node : shared_.nodes) {
    if (!node->up()) continue;
    const bool broken = node->log_broken() || node->driver().broken();
    if (const Index lethal = broken ? Index{} : node->stuck_at_lethal()) {
      Node* leader = shared_.leader();
      if (leader == nullptr) continue;
      world_.note("the operator has the entry at " + std::to_string(lethal.value) + " passed over");
      pb::Proposal skip;
      skip.set_skip_index(lethal.value);
      leader->propose(skip);
      continue;
    }
    const bool stuck = node->faulty_disk && node->stalled() && world_.one_in(3);
    if (!broken && !stuck && !node->poisoned()) continue;
    world_.note(node->name() + " is started again by its operator");
    node->kill(Loss::None, true);
    start_later(*node, milliseconds(20));
  }
  world_.after(milliseconds(400), [this] { look_after(); });     // also behind the last fault: what failed may show late
}

// ---- members

bool Nemesis::may_lose_a_disk() {
  const Node* leader = shared_.leader();
  if (leader == nullptr || changing_) return false;
  const raft::ConfState& conf = shared_.leader()->driver().conf();
  if (conf.joint() || conf.voters.size() < 3) return false;
  // Every voter is somebody whose disk is whole.
  return std::ranges::all_of(conf.voters, [&](RaftId id) {
    return std::ranges::any_of(shared_.nodes, [&](const auto& node) {
      return node->raft_id() == id && !node->rotten && !node->rotten_database() && !node->quarantined();
    });
  });
}

void Nemesis::rot(Node& node) {
  if (!may_lose_a_disk()) return;
  node.kill(some_loss(), false);
  const std::vector<std::string> places = segments(node);
  if (!places.empty()) node.rot(places[world_.below(places.size())], world_.rng().next());
  damaged_at_rest(node);
}

void Nemesis::misdirect(Node& node) {
  if (!may_lose_a_disk()) return;
  node.kill(some_loss(), false);
  std::vector<std::string> places = segments(node);
  if (!places.empty()) {
    const std::string to = places[world_.below(places.size())];
    places.push_back("/data/db.sqlite");
    node.misdirect(places[world_.below(places.size())], to, world_.rng().next());
  }
  damaged_at_rest(node);
}

std::vector<std::string> Nemesis::segments(const Node& node) const {
  std::vector<std::string> out;
  for (const std::string& name : node.files("/data/raft"))
    if (name.starts_with("wal-")) out.push_back("/data/raft/" + name);
  return out;
}

void Nemesis::damaged_at_rest(Node& node) {
  changing_ = true;                        // until it is known whether it must be replaced
  world_.after(milliseconds(100), [this, &node] {
    changing_ = false;
    start(node);
    if (node.up()) node.rotten = false;    // what was hit mattered to nobody
  });
}

void Nemesis::rot_database(Node& node) {
  if (!may_lose_a_disk()) return;
  node.rot_database(world_.rng().next());
  if (!node.up()) start_later(node, world_.between(milliseconds(5), milliseconds(300)));
}

// Its process, of an entry; sometimes with the power, which takes the note of it along.
void Nemesis::died(Node& node) {
  node.kill(world_.one_in(8) ? some_loss() : Loss::None, world_.one_in(2));
  start_later(node, world_.between(milliseconds(5), milliseconds(300)));
}

void Nemesis::change_members() {
  if (changing_ || shared_.leader() == nullptr) return;
  std::size_t voters = 0;
  for (const auto& node : shared_.nodes) voters += node->member_wanted && !node->member().read_replica ? 1u : 0u;
  const std::uint64_t die = world_.below(3);
  if (die == 0 && shared_.nodes.size() < settings_.nodes_max) return add();
  Node* node = some(true);
  if (node == nullptr) return;
  if (die == 1 && (voters > 3 || node->member().read_replica)) return remove(*node);
  if (die == 2) move(*node);
}

void Nemesis::add() {
  const auto slot = static_cast<unsigned>(shared_.nodes.size());
  shared_.nodes.push_back(std::make_unique<Node>(shared_, slot, "n" + std::to_string(slot + 1), world_.one_in(4)));
  Node& node = *shared_.nodes.back();
  world_.note(node.name() + " is new and joins");
  node.boot();
  join(node);
}

void Nemesis::replace(Node& node) {
  node.wipe();
  node.boot();
  join(node);
}

void Nemesis::move(Node& node) {
  world_.note(node.name() + " moves to another address");
  node.kill(Loss::None, true);
  node.move();
  start_later(node, milliseconds(50));
  join(node);
}

// Whether its membership is the newest there is: one who leads no more may not know yet.
bool Nemesis::knows_all(Node& leader) { return leader.driver().engine().commit() >= shared_.checks.last_committed(); }

// Asks whoever leads until the table shows the node as it is, with the role it is to have.
void Nemesis::join(Node& node) {
  changing_ = true;
  Node* leader = shared_.leader();
  if (leader != nullptr) {
    const replica::Member wanted = node.member();
    const replica::Member* known = leader->driver().record().members.find(wanted.raft_id);
    const raft::ConfState& conf = leader->driver().conf();
    const bool there = known != nullptr && *known == wanted && !conf.joint() && (wanted.read_replica ? conf.contains(wanted.raft_id) : conf.is_voter(wanted.raft_id));
    if (there && knows_all(*leader)) {
      world_.note(node.name() + " is a member as wanted");
      changing_ = false;
      return;
    }
    if (known == nullptr || *known != wanted)
      leader->input([leader, wanted] { leader->driver().join(wanted, leader->clock().now() + milliseconds(1500), [](const Result<>&) {}); });
  }
  world_.after(milliseconds(300), [this, &node] { join(node); });
}

void Nemesis::remove(Node& node) {
  changing_ = true;
  node.member_wanted = false;
  Node* leader = shared_.leader();
  if (leader != nullptr) {
    const raft::ConfState& conf = leader->driver().conf();
    if (!conf.joint() && !conf.contains(node.raft_id()) && knows_all(*leader)) {
      world_.note(node.name() + " is removed");
      if (node.up()) node.kill(Loss::None, true);
      changing_ = false;
      return;
    }
    leader->input([leader, id = node.name()] { leader->driver().remove(id, leader->clock().now() + milliseconds(1500), [](const Result<>&) {}); });
  }
  world_.after(milliseconds(300), [this, &node] { remove(node); });
}

// ---- the end

void Nemesis::end() {
  over_ = true;
  world_.note("all faults end");
  shared_.calm = true;
  shared_.network.calm();
  for (const auto& node : shared_.nodes) {
    node->disk().heal();
    node->disk().set_capacity(UINT64_MAX);
    node->extra_disk = node->extra_apply = Instant{0};
    node->freeze(Instant{0});
    if (!node->up()) start(*node);
  }
}

bool Nemesis::at_peace() const {
  if (changing_) return false;
  return std::ranges::all_of(shared_.nodes, [](const auto& node) {
    return !node->member_wanted || (node->up() && !node->stalled() && !node->quarantined() && !node->log_broken() && !node->driver().broken());
  });
}

}  // namespace rq::sim
