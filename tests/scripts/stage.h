// Stage: a few members on which a script is played. Real drivers, engines and logs; messages lie in order until the script
// delivers them, time goes on when it says tick, a disk is as fast as it says. Nothing is random but the engine's seed.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "replica/driver.h"
#include "support/memory_disk.h"
#include "wal/log.h"

namespace rq::scripts {

class StageClock final : public Clock {
 public:
  SteadyTime now() const override { return time; }
  WallTime wall() const override { return WallTime(std::chrono::hours(24 * 365 * 53) + time.time_since_epoch()); }
  SteadyTime time{std::chrono::hours(1)};
};

class Stage;

class Actor final : public replica::Outputs {
 public:
  Actor(Stage& stage, std::uint64_t id) : stage_(stage), id_(RaftId{id}) {}

  void start();
  void stop();
  bool up() const { return driver_ != nullptr; }
  void run();
  void write();                                // what waits for the disk is there now
  replica::Driver& driver() { return *driver_; }
  std::string line() const;                    // who it is, at a glance
  std::string log_text() const;
  replica::Member member() const;
  StageClock clock;                            // its own: time goes on where the script says
  bool holds_writes = false;                   // the script says when
  unsigned moves = 0;

  void persist(replica::PersistItem&& item) override;
  Result<> persist_now(replica::PersistItem&& item) override;
  void send(std::vector<raft::Message>&& messages) override;
  void apply(std::vector<replica::ApplyItem>&& items) override;
  void restore(raft::SnapshotDescriptor&& descriptor) override;
  // The stage's machine has no image to hold: its logs are never cut.
  void make_snapshot() override {}
  void release_snapshot(std::uint64_t) override {}
  void reads(Index index, std::vector<replica::ReadDone>&& reads) override;
  void fetch(const raft::FetchRequest& request) override;
  void membership(const replica::MembershipRecord&, const raft::ConfState&, Index) override {}
  void role(const raft::Status& status) override;

 private:
  Result<> append(const replica::PersistItem& item) {
    return log_->append({.snapshot = item.snapshot, .entries = item.entries, .hard_state = item.hard_state, .membership = item.membership});
  }
  Stage& stage_;
  const RaftId id_;
  test::MemoryDisk disk_;
  std::unique_ptr<wal::Log> log_;
  std::unique_ptr<replica::Driver> driver_;
  std::vector<replica::PersistItem> writing_;
  std::vector<std::function<void()>> later_;
  std::vector<std::pair<Index, replica::ReadDone>> reads_waiting_;
  Index applied_{1};
};

class Stage {
 public:
  // One line of a script; the answer is what happened. An unknown command is part of the answer.
  std::string play(const std::string& command);

  void say(const std::string& text) { said_ += text + "\n"; }
  void post(raft::Message&& message) { wire_.push_back(std::move(message)); }
  Actor* actor(std::uint64_t id) { return actors_.contains(id) ? actors_.at(id).get() : nullptr; }
  test::SeededRng rng{7};

 private:
  void cluster(std::uint64_t count);
  void settle();
  bool deliver_one();
  void run_all();
  void tick(std::uint64_t id, std::uint64_t times);   // 0: all
  void elect(std::uint64_t id);
  Actor& at(std::uint64_t id);

  std::map<std::uint64_t, std::unique_ptr<Actor>> actors_;
  std::deque<raft::Message> wire_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> cuts_;
  std::string said_;
};

}  // namespace rq::scripts
