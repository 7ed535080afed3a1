// Nemesis: what goes wrong in a run, and the operator who repairs it: restarts what died or stopped, replaces wiped and rotten
// disks, adds, removes and moves members. Disks are lost one at a time: two at once may lose data, and no product can help it.
#pragma once

#include <functional>
#include <memory>

#include "sim/node.h"

namespace rq::sim {

class Nemesis {
 public:
  explicit Nemesis(Shared& shared) : shared_(shared), world_(shared.world), settings_(shared.settings) {
    shared.died = [this](Node& node) { died(node); };
  }

  void begin();                            // faults, from now on
  void end();                              // no more; what is broken is healed, who is down starts
  bool at_peace() const;                   // nothing of the operator is under way, all wanted members are up
  unsigned faults() const { return faults_; }

 private:
  void every(Instant mean, std::function<void()> fault);
  Node* some(bool up);
  void kill(Node& node, test::MemoryDisk::Loss loss);
  void start_later(Node& node, Instant delay);
  void start(Node& node);
  void look_after();
  void crash_in_call(Node& node);
  void partition();
  void refuse_leader();
  void heal_later(Instant at_most);
  void rot(Node& node);
  void rot_database(Node& node);
  void misdirect(Node& node);
  void damaged_at_rest(Node& node);
  void died(Node& node);
  std::vector<std::string> segments(const Node& node) const;
  void change_members();
  void replace(Node& node);
  void add();
  void move(Node& node);
  void remove(Node& node);
  void join(Node& node);
  bool may_lose_a_disk();
  bool knows_all(Node& leader);
  test::MemoryDisk::Loss some_loss() { return static_cast<test::MemoryDisk::Loss>(world_.below(4)); }

  Shared& shared_;
  World& world_;
  const Settings& settings_;
  bool over_ = true;
  bool changing_ = false;                  // a membership operation is under way
  unsigned added_ = 0, faults_ = 0;
};

}  // namespace rq::sim
