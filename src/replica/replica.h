// Replica: one member of a Raft group at work: the threads around a Driver.
//
//   raft   owns the Driver (engine, batcher, membership)          never touches disk or state machine
//   wal    owns the log: appends and syncs whatever waits, one sync for all
//   fetch  reads old entries from the log for peers that lag
//   apply  owns the state machine: applies committed entries in order
//
// It knows nothing of SQL: the state machine does. examples/kv runs on it too.
//
// Threads: every public function may be called from any thread unless it says otherwise. Completions are called on the
// raft or the apply thread and must not block. stop() ends all threads; waiters and callbacks that are still open are
// failed with Errc::Closed; may be called twice.
// Crash behaviour: open() finds what was synced; the state machine says how far it is, the rest is replayed from the log.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/metrics.h"
#include "base/result.h"
#include "io/disk.h"
#include "raft/engine.h"
#include "raft/state_machine.h"
#include "replica/driver.h"
#include "wal/log.h"

namespace rq::replica {

struct Options {
  std::string log_dir;
  std::string staging_dir;                     // where images lie that were received: see staged_image()
  RaftId self;
  Timing timing;
  Limits limits;
  std::size_t apply_queue_bytes = 32u << 20;   // beyond it queued entries are read again from the log
};

// What others may know at a glance; a consistent copy.
struct View {
  raft::Role role = raft::Role::Follower;
  RaftId leader;
  Term term;
  Index commit, last_index, conf_index;
  Term last_term;
  bool own_term_committed = false;
  raft::ConfState conf;
  MembershipRecord record;
  std::vector<raft::PeerStatus> peers;
  std::optional<Error> broken;                 // the engine or the log stopped: restart needed
  // Leader: since when it leads, and when it heard each peer last (those it never heard are missing).
  SteadyTime led_since;
  std::size_t queued_bytes = 0;                // of proposals that wait for the log or their commit
  std::unordered_map<RaftId, SteadyTime> contacts;
};

class Replica {
 public:
  class Events {                               // to the owner; on the raft thread, must not block
   public:
    virtual ~Events() = default;
    virtual void send(std::vector<raft::Message>&& messages) = 0;
    virtual void membership_changed(const MembershipRecord& record, const raft::ConfState& conf) = 0;
    virtual void role_changed(const raft::Status& status) = 0;
    // On the apply thread, repeated while it lasts: the state machine can't go on from the log (what it needs isn't in it any
    // more). Fetch a state of another member at `at_least` or later and give it to adopt_state().
    virtual void state_wanted(Index at_least) { (void)at_least; }
  };

  // Opens the log. The state machine is already open and says its applied index.
  // Errc::Corrupt (log damaged, or the state machine is ahead of the log), Io, NoSpace.
  static Result<std::unique_ptr<Replica>> open(const Options& options, io::Disk& disk, Clock& clock, Rng& rng,
                                               raft::StateMachine& machine, Events& events);
  ~Replica();

  bool has_state() const { return has_state_; }               // at open, or since bootstrap
  const MembershipRecord& stored_record() const { return start_.record; }   // before start()
  const raft::ConfState& stored_conf() const { return start_.log.membership.conf_state; }

  // Founds a cluster; before start(), or later while this node belongs to none. Waits for the disk.
  Result<> bootstrap(MembershipRecord record, raft::ConfState conf);
  Result<> start();
  void stop();

  void propose(Proposal&& proposal);
  void read_index(ReadDone done, SteadyTime deadline);         // done when this node may serve the read
  void wait_applied(Index index, SteadyTime deadline, ReadDone done);
  void step(std::vector<raft::Message>&& messages);
  void peer_dead(RaftId peer);
  void unreachable(RaftId peer);
  void join(Member joiner, SteadyTime deadline, ConfDone done);
  void remove(std::string node_id, SteadyTime deadline, ConfDone done);
  void transfer(RaftId to, SteadyTime deadline, ConfDone done);
  void shut_down(Error why);                                   // takes no part in Raft from now on; local reads go on
  void on_apply_thread(std::function<void()> work);            // between two entries

  // Snapshots. A received Snapshot message is given to step() only when its image lies complete and durable at
  // staged_image(index), with its descriptor beside it (write_staged_note()).
  std::string staged_image(Index index) const;
  static std::string staged_note(const std::string& image) { return image + ".note"; }
  static Result<> write_staged_note(io::Disk& disk, const std::string& image, const raft::SnapshotDescriptor& descriptor);
  static Result<raft::SnapshotDescriptor> read_staged_note(io::Disk& disk, const std::string& image);
  void snapshot_used(std::uint64_t id);                        // a piece of a held image was read
  raft::StateMachine& machine() { return machine_; }           // for persist(), release(): any thread
  // Holds the present state fast for a member that asks for it outside of Raft; the descriptor names the membership too.
  void hold_state(std::function<void(Result<raft::MachineSnapshot>)> done);
  // The answer to Events::state_wanted(): the state at snapshot.index, its image complete and durable at `image`. Used as soon as
  // the log here reaches that far; no use if the machine has gone on meanwhile.
  void adopt_state(raft::MachineSnapshot snapshot, std::string image);
  // Gives the state machine's state up for one of another member (damage was found): state_wanted() follows until then.
  void reinstall(std::string why);
  bool wants_state() const { return wants_state_.load(std::memory_order_acquire); }

  // Drops the beginning of the log: entries up to `durable` (of the state machine) less the `trailing` newest of them stay
  // only where a member that is being fed needs them; beyond `bytes_max` the trailing ones go too. Waits for the disk; one
  // thread at a time. The value: the first entry that is left.
  Result<Index> cut_log(Index durable, std::uint64_t trailing, std::uint64_t bytes_max);
  bool spare_wanted() const { return log_->spare_wanted(); }
  Result<> prepare_spare() { return log_->prepare_spare(); }   // by the thread that calls cut_log()

  bool is_leader() const { return leader_.load(std::memory_order_acquire); }
  // Leader, its own term's first entry applied here, in contact with a majority: may serve weak reads.
  bool may_serve_weak() const { return serves_weak_.load(std::memory_order_acquire); }
  RaftId leader() const { return RaftId{leader_id_.load(std::memory_order_acquire)}; }
  Index applied() const { return Index{applied_.load(std::memory_order_acquire)}; }
  Term applied_term() const { return Term{applied_term_.load(std::memory_order_relaxed)}; }
  Index commit() const { return Index{commit_.load(std::memory_order_acquire)}; }
  // The log that was here at start is applied.
  bool caught_up_with_start() const { return applied_.load(std::memory_order_acquire) >= start_target_.load(std::memory_order_acquire); }
  std::optional<Error> apply_error() const;                    // apply is stopped by this
  std::optional<SteadyTime> leader_contact() const;            // follower: when it heard its leader last
  std::size_t apply_pending() const { return apply_pending_.load(std::memory_order_relaxed); }
  View view() const;                                           // as of the raft thread's last step
  void fresh_view(std::function<void(const View&)> done);      // asks the raft thread
  std::uint64_t log_bytes() const { return log_->disk_bytes(); }
  Index log_first() const { return log_->first(); }
  const Stats& stats() const { return driver_->stats(); }

 private:
  struct Persisted { std::uint64_t engine = 0, ready = 0; };
  struct WalFailed { Error error; };
  struct DiskFull { bool full = false; };
  struct Read { ReadDone done; SteadyTime deadline; };
  struct Restored { Index index; };
  struct Adoption { raft::MachineSnapshot snapshot; std::string image; };
  struct Fetched { RaftId peer; std::vector<raft::Entry> entries; };
  using Work = std::function<void(Driver&)>;
  using RaftInput = std::variant<Proposal, std::vector<raft::Message>, Persisted, Read, Work, Fetched, Restored, DiskFull, WalFailed>;

  struct WalInput { PersistItem item; std::function<void(Result<>)> done; };

  struct ReplayRange { Index first, last; };
  struct AppliedWait { Index index; SteadyTime deadline; ReadDone done; };
  using ApplyInput = std::variant<ApplyItem, ReplayRange, AppliedWait, raft::SnapshotDescriptor, std::function<void()>>;

  class Shell;   // Outputs of the driver

  Replica(const Options& options, Clock& clock, Rng& rng, raft::StateMachine& machine, Events& events);
  void run_raft();
  void run_wal();
  void run_fetch();
  void run_apply();
  void handle(RaftInput& input);
  void publish();
  bool write_out(std::vector<WalInput>& inputs);
  Result<> append(PersistItem& item);
  Result<> finish_staged_snapshot(io::Disk& disk);
  void restore_snapshot(const raft::SnapshotDescriptor& descriptor);
  bool take_adoption();
  void wait_for_state(Index at_least);
  bool stall(bool already, Index index, const Error& error);
  void unstall(Index index);
  bool shown_ahead(Index stuck);
  // A snapshot that is on its way to the apply thread holds it.
  bool covered(Index index) const { return index.value <= restore_index_.load(std::memory_order_acquire); }
  void apply_item(ApplyItem& item);
  void apply_range(ReplayRange range);
  void apply_entry(const raft::Entry& entry, std::span<const std::shared_ptr<raft::Waiter>> waiters);
  Result<> try_apply(const raft::Entry& entry, std::span<const std::shared_ptr<raft::Waiter>> waiters);
  void set_applied(Index index, Term term);
  void release_waits(bool all);

  const Options options_;
  Clock& clock_;
  raft::StateMachine& machine_;
  Events& events_;
  std::unique_ptr<wal::Log> log_;
  DriverStart start_;
  std::atomic<bool> has_state_{false};
  std::unique_ptr<Shell> shell_;
  std::unique_ptr<Driver> driver_;               // raft thread

  Mailbox<RaftInput> raft_inbox_;
  Mailbox<WalInput> wal_inbox_;
  Mailbox<raft::FetchRequest> fetch_inbox_;
  Mailbox<ApplyInput> apply_inbox_;
  std::vector<AppliedWait> applied_waits_;       // apply thread
  Index shown_to_;                               // apply thread: the committed log was searched up to here for a word about a stuck entry
  std::atomic<std::size_t> apply_bytes_{0}, apply_pending_{0};
  std::atomic<bool> stopping_{false}, leader_{false}, serves_weak_{false}, apply_stopped_{false};
  std::atomic<std::uint64_t> leader_id_{0}, applied_{0}, applied_term_{0}, commit_{0}, start_target_{0};
  std::atomic<SteadyTime::rep> leader_contact_{0};          // 0: never
  std::atomic<std::uint64_t> handed_over_{0};    // newest entry on its way to the apply thread
  std::atomic<std::uint64_t> restore_index_{0};  // newest received snapshot
  std::atomic<std::uint64_t> log_needed_{UINT64_MAX};
  std::atomic<bool> wants_state_{false};
  std::atomic<std::uint64_t> own_term_start_{UINT64_MAX};   // leader: applied must reach it before weak reads
  std::optional<Adoption> adoption_;             // guarded by mutex_
  mutable std::mutex mutex_;                     // guards view_, apply_error_ and adoption_
  View view_;
  std::optional<Error> apply_error_;
  bool view_stale_ = true;                       // raft thread
  SteadyTime viewed_at_;                         // raft thread
  std::vector<std::thread> threads_;
  bool stopped_ = false;
};

}  // namespace rq::replica
