// Integrity: whether this node's database is that of the others, as far as this node alone is concerned: it remembers the
// effect chains of the newest entries, hashes the whole database when an entry asks for it, and goes into quarantine.
// Comparing is the business of cluster/proof.h.
//
// Quarantine: the node serves nothing from its database, keeps the evidence aside (quarantine.h) and asks for another member's
// state; when that stands in the place of its own it serves again. It goes on storing the log and voting. A restart
// doesn't end it.
// Threads: applied() and exchanged() on the apply thread; start() and stop() by the owner; the rest from any, quarantine()
// waits for the disk.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "io/disk.h"
#include "raft/state_machine.h"
#include "replica/replica.h"
#include "store/chain_ring.h"
#include "store/scrubber.h"

namespace rq::store {

class Integrity {
 public:
  static constexpr std::uint64_t kScrubBytesPerSecond = 64u << 20;
  static constexpr std::size_t kLineageMax = 64;   // a state that went on that long without being compared counts as one of the last ones'

  Integrity(std::string dir, io::Disk& disk, const Clock& clock, Metrics& metrics, raft::StateMachine& machine)
      : dir_(std::move(dir)), disk_(disk), clock_(clock), metrics_(metrics), scrubber_(machine, clock, kScrubBytesPerSecond) {}

  void start(replica::Replica& replica);   // a quarantine that outlived the process goes on
  void stop() { scrubber_.stop(); }

  void applied(Index index, std::uint64_t chain) { chains_.note(index, chain); }
  // The state is about to become that of this snapshot; apply thread. An error: then it must not.
  Result<> will_copy(const raft::MachineSnapshot& snapshot);
  // Whose copy it is, and whose that one was, until it has been agreed on: proof_rules.h. Empty: of nobody.
  std::vector<RaftId> copy_of() const;
  void proven();                           // any thread
  // The state is another member's now.
  void exchanged(Index index, std::uint64_t chain);

  const ChainRing& chains() const { return chains_; }
  Scrubber& scrubber() { return scrubber_; }
  const Scrubber& scrubber() const { return scrubber_; }

  // SQLite found the database malformed while it applied an entry (apply thread): the replica fetches another member's
  // state by itself, the evidence stays.
  void damaged(const std::string& why);
  void scrub(Index index);                 // apply thread: the database as of now
  // A read found it malformed: a scrub will tell. Any thread.
  void suspect();
  bool suspected() const { return suspected_.load(std::memory_order_relaxed); }
  void quarantine(const std::string& why);
  bool quarantined() const { return quarantined_.load(std::memory_order_acquire); }
  std::optional<std::string> quarantine_reason() const;

  // Set while this node leads and nobody can tell which state is right; none: writes are taken.
  void refuse_writes(std::optional<std::string> why);
  std::optional<Error> writes_refused() const;

 private:
  void keep_evidence();

  const std::string dir_;
  io::Disk& disk_;
  const Clock& clock_;
  Metrics& metrics_;
  ChainRing chains_;
  Scrubber scrubber_;
  std::atomic<replica::Replica*> replica_{nullptr};
  std::atomic<bool> quarantined_{false}, refuses_writes_{false};
  std::atomic<bool> suspected_{false};   // until the next scrub
  bool damaged_ = false;                 // apply thread
  mutable std::mutex mutex_;             // guards all below
  std::vector<RaftId> copy_of_;
  std::string reason_;
  std::optional<std::string> refusal_;
};

}  // namespace rq::store
