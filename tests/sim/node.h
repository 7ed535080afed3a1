// Node: one simulated machine with the product's parts on it: wal::Log, Driver, Executor and a Reader on one MemoryDisk. It
// does in one thread and in virtual time what Replica's threads do: raft, wal, fetch and apply are events that take a while.
//
// It keeps a shadow of what was synced: after any crash the log must give back at least that.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "executor/executor.h"
#include "replica/driver.h"
#include "sim/data_checks.h"
#include "sim/mutants.h"
#include "sim/network.h"
#include "sim/raft_checks.h"
#include "sim/settings.h"
#include "sim/world.h"
#include "sql/reader.h"
#include "support/disk_vfs.h"
#include "support/memory_disk.h"
#include "wal/log.h"

namespace rq::sim {

class Node;

inline constexpr std::string_view kLethal = "/*lethal*/";   // a process that begins an entry with it dies

// What all nodes of a run share.
struct Shared {
  World& world;
  const Settings& settings;
  Network& network;
  RaftChecks checks;
  Mutant mutant = Mutant::None;
  std::vector<std::unique_ptr<Node>> nodes;   // by slot
  std::uint64_t raft_ids = 0;                 // given out so far
  std::uint64_t cluster_id = 0;
  bool founded = false, calm = false;
  std::set<Index> lethal;                     // entries that kill every process which begins them
  std::function<void(Node&)> died;            // of one; told to the operator

  bool is(Mutant wanted) const { return mutant == wanted; }
  void found(const RaftChecks::Found& wrong) {
    if (wrong) world.violated(*wrong);
  }
  Node* at_address(const std::string& address);
  Node* leader();                             // of the highest term, by its own belief
};

// A clock that drifts and jumps; its steady time never goes back.
class NodeClock final : public Clock {
 public:
  explicit NodeClock(const World& world) : world_(world) {}
  SteadyTime now() const override { return SteadyTime(std::chrono::hours(1)) + std::chrono::nanoseconds(static_cast<std::int64_t>(local())); }
  WallTime wall() const override {
    return WallTime(std::chrono::hours(24 * 365 * 53) + std::chrono::nanoseconds(static_cast<std::int64_t>(local())) + offset_);
  }
  void jump(std::chrono::milliseconds by) { offset_ += by; }
  void run_at(int permille_faster) {
    begun_ns_ = local();
    begun_ = world_.now();
    rate_ = 1000 + permille_faster;
  }
  Instant instant_of(SteadyTime time) const;    // when the world's time will be that

 private:
  double local() const { return begun_ns_ + static_cast<double>((world_.now() - begun_).count()) * static_cast<double>(rate_); }
  const World& world_;
  double begun_ns_ = 0;
  Instant begun_{0};
  int rate_ = 1000;                           // nanoseconds per microsecond
  std::chrono::nanoseconds offset_{0};
};

// One request of a client under way.
class Call final : public executor::SqlWaiter {
 public:
  enum class Way : std::uint8_t { Log, Linearizable, Local } way = Way::Log;   // Log: writes and strong reads
  pb::Request request;
  std::function<void(Result<command::Outcome>)> done;   // at most once
  void finish(Result<command::Outcome> result) {
    if (auto told = std::exchange(done, nullptr)) told(std::move(result));
  }
  void applied(command::Outcome&& outcome) override { finish(std::move(outcome)); }
  void failed(const Error& error) override { finish(fail(error)); }
};

class Node final : public replica::Outputs {
 public:
  Node(Shared& shared, unsigned slot, std::string node_id, bool read_replica);
  ~Node() override;

  unsigned slot() const { return slot_; }
  const std::string& name() const { return node_id_; }
  RaftId raft_id() const { return raft_id_; }
  replica::Member member() const;
  bool up() const { return driver_ != nullptr; }
  bool leads() const { return up() && driver_->engine().role() == raft::Role::Leader; }
  replica::Driver& driver() { return *driver_; }
  executor::Executor& executor() { return *executor_; }
  test::MemoryDisk& disk() { return *disk_; }
  NodeClock& clock() { return clock_; }
  Index applied() const { return executor_ ? executor_->applied_index() : Index{}; }

  enum class Boot : std::uint8_t { Started, Refused };
  Boot boot();                                // Refused: its disk is damaged, and it says so
  void kill(test::MemoryDisk::Loss loss, bool noticed);   // noticed: its peers see the connections end
  void wipe();                                // a new disk, and with it another Raft id
  void move();                                // another address from the next boot on
  void cut_install();                         // of the images under way nothing more comes
  void freeze(Instant until) { frozen_until_ = until; }   // a stopped process
  void serve(const std::shared_ptr<Call>& call);
  void input(std::function<void()> work);     // on the raft thread
  bool found_cluster(const replica::MembershipRecord& record, const raft::ConfState& conf);
  void read_now(const std::shared_ptr<Call>& call);
  std::uint64_t content_hash();
  std::string image();                        // of the database file, change counters masked
  void check_bounds();
  void rot(const std::string& path, std::uint64_t chance);
  void misdirect(const std::string& from, const std::string& to, std::uint64_t chance);
  void rot_database(std::uint64_t chance);    // a page of the table that nobody reads
  std::vector<std::string> column(const std::string& sql);   // the first one, of the state as it is here
  void propose(const pb::Proposal& proposal); // of the operator: nobody waits for it

  // Comparing (cluster/proof) and what follows from it (store/integrity, Replica::adopt_state).
  const std::map<Index, std::uint64_t>& chains() const { return chains_; }
  Index chain_newest() const { return chains_.empty() ? Index{} : chains_.rbegin()->first; }
  std::pair<Index, std::uint64_t> scrubbed() const { return scrubbed_; }
  std::uint64_t engine_fingerprint() const { return executor_->status().engine; }
  void quarantine(const std::string& why);
  bool quarantined() const { return quarantined_; }
  std::vector<std::string> files(const std::string& dir) const { return disk_->list(dir).value_or(std::vector<std::string>{}); }

  // What the nemesis sets and the operator asks.
  Instant extra_disk{0}, extra_apply{0};
  bool faulty_disk = false;                   // errors were injected in this life: it may break
  bool rotten = false;                        // bytes of the log were changed at rest: it may refuse to start
  // Bytes of the database were: it may differ from the others until a scrub of a later index says that it doesn't.
  bool rotten_database() const { return rotten_since_.has_value(); }
  Index rotten_since() const { return *rotten_since_; }
  const std::vector<RaftId>& copy_of() const { return copy_of_; }
  void proven() { copy_of_ = {}; }
  void set_rotten(Index since) { rotten_since_ = since; }
  void set_sound(Index scrubbed) {            // all are equal there
    if (std::exchange(rotten_since_, std::nullopt)) judged_from_ = scrubbed;
  }
  bool judged(Index index) const { return !rotten_database() && index > judged_from_; }
  unsigned images_taken = 0;
  bool member_wanted = true;                  // part of the cluster, as far as the operator knows
  bool stalled() const { return apply_error_.has_value(); }
  bool poisoned() const { return poisoned_; }
  Index stuck_at_lethal() const;              // the operator must say what becomes of it; 0: none
  bool log_broken() const { return log_broken_; }

  void persist(replica::PersistItem&& item) override;
  Result<> persist_now(replica::PersistItem&& item) override;
  void send(std::vector<raft::Message>&& messages) override;
  void apply(std::vector<replica::ApplyItem>&& items) override;
  void restore(raft::SnapshotDescriptor&& descriptor) override;
  void make_snapshot() override;
  void release_snapshot(std::uint64_t id) override;
  void reads(Index index, std::vector<replica::ReadDone>&& reads) override;
  void fetch(const raft::FetchRequest& request) override;
  void membership(const replica::MembershipRecord&, const raft::ConfState&, Index) override {}
  void role(const raft::Status& status) override;

 private:
  struct Replay { Index first, last; };
  using ApplyInput = std::variant<replica::ApplyItem, Replay, raft::SnapshotDescriptor>;
  struct Written { Index first_entry; replica::PersistItem item; };
  struct Fetch {                              // of an image, in pieces
    std::optional<raft::Message> message;     // the snapshot that it belongs to; none: a state that we asked for
    RaftId source;
    raft::MachineSnapshot image;
    std::string path;
    std::uint64_t number = 0, received = 0;
    unsigned tries = 0;
    bool rotten = false;                      // its source was, at some piece
  };
  using FetchSlot = std::unique_ptr<Fetch> Node::*;
  struct Adoption {
    raft::MachineSnapshot snapshot;
    std::string path;
  };
  struct Shadow {
    std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> entries;   // index -> term, hash
    Index snapshot;
    Term snapshot_term;
    raft::HardState hard_state;
    Index membership;
  };

  void guard(Instant delay, std::function<void()> work);   // an event of this life
  std::string address_of(RaftId peer) const;
  void note_address(RaftId peer, const std::string& said);
  void say_hello();
  void receive(std::vector<raft::Message>&& messages);
  void wake(Instant when);
  void run_raft();
  void begin_write();
  void finish_write();
  bool write_out(std::vector<replica::PersistItem>& items);
  Result<> write(const replica::PersistItem& item);
  Result<> sync();
  void tell_persisted(const std::vector<replica::PersistItem>& items);
  void log_stopped(const Error& error);
  void begin_apply(Instant delay);
  void run_apply();
  Result<> apply_entry(const raft::Entry& entry, const std::vector<std::shared_ptr<raft::Waiter>>& waiters);
  Result<> apply_group(const raft::Entry& entry, const std::vector<std::shared_ptr<raft::Waiter>>& waiters);
  void apply_failed(const Error& error, std::vector<std::shared_ptr<raft::Waiter>>& waiters);
  void applied_until(Index index);
  Result<> open_reader();
  static std::string staged_image(Index index);
  void mind_log();
  void receive_snapshot(raft::Message&& message);
  void begin_fetch(FetchSlot slot, Fetch&& fetch);
  void ask_piece(FetchSlot slot);
  void piece_came(FetchSlot slot, const Result<std::string>& piece);
  void ask_state();
  void begin_hold(const std::function<void(const raft::MachineSnapshot&)>& done);
  void let_states_go();
  void wait_for_state(Index at_least);
  bool take_adoption();
  void now_copy_of(const raft::MachineSnapshot& image);
  void state_exchanged(const std::string& image);
  bool shown_ahead(Index stuck);
  void scrub(Index index);
  void note_chain(Index index, std::uint64_t chain);
  Result<> apply_lethal(const raft::Group& group);
  Result<> take_snapshot(const raft::SnapshotDescriptor& descriptor);
  Result<> finish_staged_snapshot(Index at);
  void strong_reads(std::span<executor::StrongRead> reads);
  void forward(const std::shared_ptr<Call>& call);
  void watch(const raft::Message& message);
  void check_recovered(const wal::Recovered& recovered, const std::vector<raft::Entry>& entries);
  Term term_before(Index index, const Shadow& shadow) const;
  static void put(Shadow& shadow, const replica::PersistItem& item);

  Shared& shared_;
  World& world_;
  const unsigned slot_;
  const std::string node_id_;
  const bool read_replica_;
  const Settings own_;
  RaftId raft_id_;
  unsigned moves_ = 0;
  NodeClock clock_;
  std::unique_ptr<test::MemoryDisk> disk_;
  std::unique_ptr<MutantDisk> seen_disk_;     // the same, as the product sees it
  std::unique_ptr<test::DiskVfs> vfs_;
  std::unique_ptr<executor::Executor> executor_;
  std::unique_ptr<sql::Reader> reader_;
  std::unique_ptr<wal::Log> log_;
  std::unique_ptr<replica::Driver> driver_;
  std::unique_ptr<test::SeededRng> driver_rng_;
  std::uint64_t life_ = 0;

  std::vector<std::function<void()>> inbox_;
  Instant wake_at_{Instant::max()};
  Instant frozen_until_{0};

  std::vector<replica::PersistItem> wal_queue_, wal_writing_;
  bool wal_busy_ = false, wal_full_ = false, log_broken_ = false;
  Shadow synced_;                             // surely on disk
  std::vector<replica::PersistItem> unsynced_;   // written behind it
  bool unsynced_lost_ = false;                  // a crash took some of it, and no start has read the log since
  std::map<std::uint64_t, std::uint64_t> log_terms_;   // of the log as written
  Index log_base_;
  Term log_base_term_;

  std::deque<ApplyInput> apply_queue_;
  bool apply_busy_ = false;
  std::optional<Error> apply_error_;
  bool poisoned_ = false;
  std::vector<std::pair<Index, replica::ReadDone>> reads_waiting_;
  Index restore_index_;                       // newest received snapshot: what it holds is not applied
  Index log_cut_at_;
  std::unique_ptr<Fetch> install_, state_;
  std::uint64_t fetches_ = 0, states_asked_ = 0;
  bool asking_state_ = false;
  bool wants_state_ = false, quarantined_ = false;
  Index wanted_;                              // the state must let the log go on from here
  Index handed_over_;                         // newest entry on its way to the apply thread
  std::optional<Adoption> adoption_;
  std::map<std::uint64_t, Instant> held_states_;   // for members that asked: last used
  std::map<Index, std::uint64_t> chains_;
  std::pair<Index, std::uint64_t> scrubbed_;
  std::set<Index> passed_over_;               // lethal entries about which a later one said so
  Index shown_to_;
  std::optional<Index> rotten_since_;
  Index judged_from_;                         // of earlier entries chain and content aren't compared: it was rotten when they were applied first
  std::vector<RaftId> copy_of_;                            // as the file copy-of
  std::set<std::string> rotten_images_;
  bool held_an_image_ = false;                // since the start: WAL and log stay as large as they became until the next writes
  unsigned images_held_ = 0;                  // for others: until they have them SQLite's WAL can't begin anew
  struct Heard { std::string said, table; };  // what the table said then
  std::map<RaftId, Heard> heard_at_;          // where senders say they are
};

}  // namespace rq::sim
