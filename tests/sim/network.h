// The network between the simulated nodes: delays, loses, repeats, reorders, cuts.
//
// A parcel goes from slot to slot (a slot is a machine: it keeps its place through restarts and wiped disks). Who is reached
// is decided on arrival. Cuts are one-way; a symmetric partition is two of them, a bridge leaves one slot on both sides.
#pragma once

#include <functional>
#include <set>
#include <utility>

#include "sim/settings.h"
#include "sim/world.h"

namespace rq::sim {

class Network {
 public:
  Network(World& world, const Settings& settings) : world_(world), settings_(settings) {}

  // `deliver` runs on arrival: never, once, or twice.
  void send(unsigned from, unsigned to, std::function<void()> deliver);
  bool reaches(unsigned from, unsigned to) const { return !cuts_.contains({from, to}); }
  void cut(unsigned from, unsigned to) { cuts_.insert({from, to}); }
  void heal() { cuts_.clear(); }
  bool cut_anywhere() const { return !cuts_.empty(); }
  // No more faults, for the end of a run.
  void calm() {
    calm_ = true;
    heal();
  }

 private:
  Instant delay();

  World& world_;
  const Settings& settings_;
  std::set<std::pair<unsigned, unsigned>> cuts_;
  bool calm_ = false;
};

}  // namespace rq::sim
