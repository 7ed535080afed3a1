// Driver: what one member of the Raft group does, as a machine without threads, clock and I/O.
//
// It owns the RaftEngine, forms group entries out of waiting proposals, batches reads, keeps the member table and
// decides about promotions, hand-overs and the death of a leader. The shell (Replica, or a simulator) calls it from one
// thread, gives it the time, and carries out what it says through Outputs, in the order of the calls.
//
// Invariants: see the top of driver.cc.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "base/types.h"
#include "raft/engine.h"
#include "raft/state_machine.h"
#include "replica/membership.h"
#include "replica/stats.h"
#include "wal/log.h"

namespace rq::replica {

struct Timing {
  std::chrono::milliseconds tick{50};
  int election_ticks = 20;    // -raft-heartbeat-timeout
  int retry_ticks = 0;        // -raft-election-timeout: how long a candidate waits for votes; 0: as election_ticks
  int heartbeat_ticks = 2;
  std::chrono::milliseconds leader_lease{500};
};

struct Limits {
  std::size_t group_bytes = 1u << 20;
  std::size_t group_requests = 1024;
  std::size_t queue_bytes = 256u << 20;      // waiting and uncommitted proposals together
  std::size_t queue_requests = 100'000;
  std::size_t reads_waiting = 100'000;
  std::chrono::nanoseconds enqueue_time = std::chrono::seconds(10);   // -raft-apply-timeout: until a proposal is part of a group
};

struct Proposal {
  std::string bytes;
  bool alone = false;                         // must be an entry of its own
  std::shared_ptr<raft::Waiter> waiter;       // may be null
  SteadyTime begun;                           // when its client asked; the epoch: unknown
};

using ReadDone = std::function<void(Result<Index>)>;
using ConfDone = std::function<void(Result<>)>;

// A committed entry on its way to the state machine. A null payload in a Normal entry: read it from the log.
struct ApplyItem {
  raft::Entry entry;
  std::vector<std::shared_ptr<raft::Waiter>> waiters;   // empty, or one for each proposal
};

struct PersistItem {
  std::uint64_t ready_number = 0;             // 0: nobody waits
  std::uint64_t engine = 0;                   // which engine's Ready it is: goes back with persisted()
  std::vector<raft::Entry> entries;
  std::optional<raft::HardState> hard_state;
  std::optional<wal::SnapshotMark> snapshot;
  std::optional<wal::Membership> membership;
  bool must_sync = false;
};

class Outputs {
 public:
  virtual ~Outputs() = default;
  virtual void persist(PersistItem&& item) = 0;
  // Persists and waits; membership changes are rare, and must be durable before they are acted on (trap 4).
  virtual Result<> persist_now(PersistItem&& item) = 0;
  virtual void send(std::vector<raft::Message>&& messages) = 0;
  virtual void apply(std::vector<ApplyItem>&& items) = 0;
  // A received snapshot is in the log, durably. Then: Driver::restored().
  virtual void restore(raft::SnapshotDescriptor&& descriptor) = 0;
  // A member needs a snapshot: hold the state machine's present state fast, behind all that was handed over. Then:
  // Driver::snapshot_made(). release_snapshot(): nobody needs it any more.
  virtual void make_snapshot() = 0;
  virtual void release_snapshot(std::uint64_t id) = 0;
  // Call `done` of each once `index` is applied.
  virtual void reads(Index index, std::vector<ReadDone>&& reads) = 0;
  virtual void fetch(const raft::FetchRequest& request) = 0;          // then: Driver::fetched()
  virtual void membership(const MembershipRecord& record, const raft::ConfState& conf, Index index) = 0;
  virtual void role(const raft::Status& status) = 0;                  // role, leader or term changed
};

struct DriverStart {
  RaftId self;
  wal::Recovered log;
  std::vector<raft::Entry> entries;           // the log behind `handed_over`
  Index handed_over;
  MembershipRecord record;
};

// What a driver starts from, made of what the log gave back and how far the state machine is. Entries up to the first conf
// entry that the stored membership doesn't contain yet count as handed over: they are to be applied from the log.
Result<DriverStart> prepare_start(RaftId self, wal::Recovered&& recovered, MembershipRecord record, Index machine_applied, const wal::Log& log);

class Driver {
 public:
  using MakeEngine = std::function<std::unique_ptr<raft::RaftEngine>()>;
  Driver(MakeEngine make_engine, RaftId self, const Timing& timing, const Limits& limits, Clock& clock,
         Rng& rng, Outputs& outputs);

  Result<> start(DriverStart start);
  // A new cluster whose first members are `record.members`: writes the index-1 snapshot, durable on return. Before start(),
  // or later while this node still belongs to no cluster (then it goes on with a fresh engine).
  Result<> bootstrap(MembershipRecord record, raft::ConfState conf);

  void propose(Proposal&& proposal);          // the waiter hears of everything that goes wrong
  void read_index(ReadDone done, SteadyTime deadline);
  void step(std::vector<raft::Message>&& messages);
  void persisted(std::uint64_t engine, std::uint64_t ready_number);   // of an engine that was replaced: ignored
  void restored(Index index);
  void snapshot_made(Result<raft::MachineSnapshot>&& made);
  void snapshot_used(std::uint64_t id);       // its image was read by somebody
  // The log on disk begins at `first_kept` now; `term_before`: of the entry before it.
  void compacted(Index first_kept, Term term_before);
  // Members that are being fed by a snapshot go on from here: the log isn't to be cut behind it. Index max: none.
  Index log_needed() const;
  void fetched(RaftId peer, std::vector<raft::Entry>&& entries);
  void peer_dead(RaftId peer);
  void unreachable(RaftId peer);
  void apply_stalled(bool stalled) { apply_stalled_ = stalled; }   // a leader then hands over
  void log_failed(const Error& error);        // nothing is taken any more
  void disk_full(bool full);                  // writes are refused, a leader hands over

  void change_membership(raft::ConfChange change, SteadyTime deadline, ConfDone done);   // done when applied here
  void join(Member joiner, SteadyTime deadline, ConfDone done);        // learner first; promoted when caught up
  void remove(std::string node_id, SteadyTime deadline, ConfDone done);
  void transfer(RaftId to, SteadyTime deadline, ConfDone done);        // 0: the best follower; done when leadership is gone

  // Runs the clock and everything that waits; call after any batch of inputs and at next_deadline().
  void run(SteadyTime now);
  SteadyTime next_deadline() const;

  void fail_all(const Error& error);          // on stop
  raft::Status status() const { return engine_->status(); }
  const raft::RaftEngine& engine() const { return *engine_; }
  const MembershipRecord& record() const { return record_; }
  const raft::ConfState& conf() const { return conf_; }
  Index conf_index() const { return conf_index_; }
  std::optional<SteadyTime> last_leader_contact() const { return last_leader_contact_; }
  std::size_t queued_bytes() const { return queued_bytes_; }
  const std::optional<Error>& broken() const { return broken_; }
  Stats& stats() { return stats_; }
  // Leader: when each peer was heard last; those that were never heard are not in it.
  const std::unordered_map<RaftId, SteadyTime>& contacts() const { return contacts_; }
  SteadyTime led_since() const { return led_since_; }

 private:
  struct Uncommitted {           // a group of ours in the log
    Index index;
    Term term;
    std::vector<std::shared_ptr<raft::Waiter>> waiters;
    std::size_t bytes = 0;
    SteadyTime proposed;
  };
  struct ReadBatch {
    std::vector<std::pair<ReadDone, SteadyTime>> reads;
    SteadyTime reissue_at, issued;
  };
  struct ConfWait {
    std::optional<raft::ConfChange> change;   // not proposed yet
    Index index;                              // proposed
    Term term;
    SteadyTime deadline;
    ConfDone done;
  };

  void hand_over_when_stalled(SteadyTime now);
  void propose_groups();
  void propose_group();
  void expire_waiting(SteadyTime now);
  void issue_reads(SteadyTime now);
  void carry_out();
  void carry_out(raft::Ready&& ready);
  void note_persisted(std::uint64_t ready_number);
  void send(std::vector<raft::Message>&& messages);
  void hand_over(std::vector<raft::Entry>&& committed);
  Result<> apply_conf(const raft::Entry& entry);
  void take_waiters(ApplyItem& item);
  void on_snapshot(raft::SnapshotDescriptor&& descriptor, PersistItem& item);
  void on_role();
  void log_role(const raft::Status& status) const;
  void on_tick(SteadyTime now);
  void check_lease(SteadyTime now);
  void promote_learners();
  void leave_stuck_joint();
  void offer_snapshots();
  void offer_bootstrap(RaftId peer);
  void offer_image(RaftId peer, const raft::MachineSnapshot& snapshot);
  void mind_transfers(SteadyTime now);
  void advance_conf_waits(SteadyTime now);
  void advance_transfer(SteadyTime now);
  void note_contact(const raft::Message& message, SteadyTime now);
  void fail_waiting(const Error& unproposed, const Error& proposed);
  void refuse(Proposal& proposal, const Error& error);
  void check(const Result<>& result);         // an engine error poisons the driver
  bool leads() const { return engine_->role() == raft::Role::Leader; }

  const MakeEngine make_engine_;
  std::unique_ptr<raft::RaftEngine> engine_;
  const RaftId self_;
  const Timing timing_;
  const Limits limits_;
  Clock& clock_;
  Rng& rng_;
  Outputs& outputs_;

  MembershipRecord record_;
  raft::ConfState conf_;
  Index conf_index_;
  Index log_first_;
  bool bootstrapped_ = false;
  bool started_ = false;

  std::deque<Proposal> waiting_;
  std::deque<Uncommitted> uncommitted_;
  std::size_t queued_bytes_ = 0;
  std::uint64_t unpersisted_ready_ = 0;       // newest Ready that must be synced; 0: none outstanding
  std::uint64_t persisted_ready_ = 0;
  std::uint64_t last_ready_ = 0;              // newest taken
  std::uint64_t engine_number_ = 1;           // grows when bootstrap() replaces the engine
  std::optional<raft::HardState> lazy_hard_state_;   // commit moved only: written with the next batch
  std::map<std::uint64_t, std::vector<raft::Message>> after_persist_;
  std::optional<raft::SnapshotDescriptor> restoring_;   // not durable yet
  std::uint64_t restoring_ready_ = 0;

  struct Offer {                              // a state held fast for members that are to install it
    raft::MachineSnapshot snapshot;
    SteadyTime made, used;
  };
  std::vector<Offer> offers_;                 // newest last
  std::map<RaftId, std::uint64_t> transfers_;   // members that were sent a snapshot -> its id
  std::set<RaftId> snapshot_wanted_;
  std::set<RaftId> snapshot_lost_;            // of them: the engine waits for the end of an earlier one
  bool making_snapshot_ = false;

  std::vector<std::pair<ReadDone, SteadyTime>> reads_waiting_;
  std::map<std::uint64_t, ReadBatch> reads_issued_;
  std::uint64_t read_context_ = 0;

  std::deque<ConfWait> conf_waits_;
  struct Transfer { RaftId to; SteadyTime deadline; ConfDone done; bool started = false; };
  std::optional<Transfer> transfer_;

  std::unordered_map<RaftId, SteadyTime> contacts_;  // leader: when each peer was heard last
  SteadyTime led_since_;
  std::optional<SteadyTime> last_leader_contact_;
  std::optional<SteadyTime> campaign_at_;
  raft::Role last_role_ = raft::Role::Follower;
  RaftId last_leader_;
  Term last_term_;
  SteadyTime now_;
  SteadyTime next_tick_;
  bool apply_stalled_ = false;
  bool disk_full_ = false;
  SteadyTime hand_over_again_;
  static constexpr std::chrono::nanoseconds kHandOverPauseFirst = std::chrono::milliseconds(500);
  std::chrono::nanoseconds hand_over_pause_ = kHandOverPauseFirst;
  std::optional<Error> broken_;
  Stats stats_;
};

}  // namespace rq::replica
