// Scrubber: hashes the whole database as of one entry, in the background, at a bounded rate, so that nodes can be compared
// in pages that no entry touches. One at a time: an entry that asks for another meanwhile is passed over here.
//
// While it runs SQLite's WAL can't begin anew (a read transaction is held); the rate bounds for how long.
// Threads: begin() and forget() on the apply thread; own thread `scrub`; the rest from any. stop() may be called twice.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/types.h"
#include "raft/state_machine.h"

namespace rq::store {

class Scrubber {
 public:
  struct State {
    Index index;                       // 0: none was begun
    std::uint64_t value = 0;           // of the database; 0: not finished
    std::uint64_t done = 0, total = 0; // bytes
    std::string error;
    std::optional<WallTime> begun;
  };

  Scrubber(raft::StateMachine& machine, const Clock& clock, std::uint64_t bytes_per_second)
      : machine_(machine), clock_(clock), bytes_per_second_(bytes_per_second) {}
  ~Scrubber() { stop(); }
  void start();
  void stop();

  void begin(Index index);             // the machine stands there now
  void forget();                       // the state was exchanged: what was found is of no use
  State newest() const;

 private:
  void run();
  void scrub(const raft::MachineSnapshot& snapshot);
  bool pause_until(SteadyTime time);

  raft::StateMachine& machine_;
  const Clock& clock_;
  const std::uint64_t bytes_per_second_;

  mutable std::mutex mutex_;           // guards all below
  std::condition_variable changed_;
  State state_;
  std::optional<raft::MachineSnapshot> waiting_;
  bool busy_ = false, stop_ = false;
  std::thread thread_;
};

}  // namespace rq::store
