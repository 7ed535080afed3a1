// RaftEngine: consensus as a pure machine. No clock, no thread, no I/O, no randomness of its own.
//
// One thread calls it (the `raft` thread, or the simulator). Inputs are methods; after any of them the caller takes
// the next Ready and carries it out in this order:
//   1. send `messages` at once;
//   2. append `entries`, `hard_state` and a received `snapshot` to the log; they are durable together;
//   3. hand `committed` to the state machine (conf entries go to apply_conf_change() first, on this thread);
//   4. when step 2 is durable: persisted(ready.number), then send `messages_after_persist` of that Ready.
// Several Readys may be under way at once; persisted(n) covers all up to n.
// `applied` in this class means handed over, not applied to SQLite (design section 6, trap 11): entries that appear in
// `committed` count as handed over as soon as the Ready is taken, except after a snapshot (trap 1).
//
// On misuse or a broken invariant inside the library every call returns Errc::Internal from then on ("poisoned"), with the
// reason as its detail; the process lives. Misuse: start() missing or repeated, a Ready persisted that was not taken, conf
// entries out of order, compaction or a snapshot beyond what was handed over. Crash behaviour: the machine holds nothing that isn't given back to it by start().
// Source: the Raft thesis; crate raft 0.7.0 behind raft/engine (C ABI).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace rq::raft {

using Payload = std::shared_ptr<const std::string>;  // never null in an Entry

enum class EntryType : std::uint8_t { Normal = 0, ConfChange = 2 };  // ConfChange: a ConfChangeV2
struct Entry {
  EntryType type = EntryType::Normal;
  Term term;
  Index index;
  Payload payload;  // Normal: opaque bytes of the proposer (empty: the new leader's own entry). ConfChange: encode(ConfChange)
};

struct HardState {
  Term term;
  RaftId vote;
  Index commit;
  bool operator==(const HardState&) const = default;
};

// The membership in force from some index on.
struct ConfState {
  std::vector<RaftId> voters, learners, voters_outgoing, learners_next;
  bool auto_leave = false;
  bool operator==(const ConfState&) const = default;
  bool joint() const { return !voters_outgoing.empty(); }
  bool contains(RaftId id) const;
  bool is_voter(RaftId id) const;
};

enum class ConfChangeType : std::uint8_t { AddVoter, AddLearner, Remove };
struct ConfChangeStep {
  ConfChangeType type = ConfChangeType::AddVoter;
  RaftId id;
};
// One membership change. No step: leaves a joint configuration, or (outside one) only carries `context`.
// AddVoter of a voter and AddLearner of a learner change nothing: that is how a member's addresses are updated.
struct ConfChange {
  std::vector<ConfChangeStep> steps;
  bool joint = false;    // several steps at once, through a joint configuration that is left automatically
  std::string context;   // opaque bytes of the proposer (the member's record)
};
std::string encode(const ConfChange& change);
Result<ConfChange> decode_conf_change(std::string_view bytes);  // Errc::Corrupt, Errc::Unsupported, Errc::TooLarge

// Names a snapshot: everything up to and including `index` in one image. `data` is opaque to the engine (the state
// machine's descriptor and the membership table).
struct SnapshotDescriptor {
  Index index;
  Term term;
  ConfState conf_state;
  std::string data;
};

enum class MessageType : std::uint8_t {
  Append = 3, AppendResponse = 4, RequestVote = 5, RequestVoteResponse = 6, Snapshot = 7, Heartbeat = 8,
  HeartbeatResponse = 9, TransferLeader = 13, TimeoutNow = 14, ReadIndex = 15, ReadIndexResponse = 16,
  RequestPreVote = 17, RequestPreVoteResponse = 18,
};
struct Message {
  MessageType type = MessageType::Append;
  RaftId from, to;
  Term term, log_term;
  Index index, commit, reject_hint;
  Term commit_term;
  bool reject = false;
  Index request_snapshot;
  std::uint64_t priority = 0;
  std::string context;             // of heartbeats and reads
  std::vector<Entry> entries;
  std::optional<SnapshotDescriptor> snapshot;
};

enum class Role : std::uint8_t { Follower, Candidate, PreCandidate, Leader };

struct ReadState {          // a read_index() answered: serve the reads of `context` once `index` is applied
  Index index;
  std::string context;
};

// The log lacks these in memory; read them from disk and give them, with the token in `peer`, to entries_fetched().
struct FetchRequest {
  RaftId peer;              // a token: it names the request, not a member
  Index first, last;        // inclusive
};

struct Ready {
  std::uint64_t number = 0;                 // for persisted(); grows by one per Ready
  std::vector<Message> messages;            // may leave before anything is durable
  std::vector<Message> messages_after_persist;
  std::vector<Entry> entries;               // append; an index at or below the log's end replaces the tail from there
  std::optional<HardState> hard_state;
  std::optional<SnapshotDescriptor> snapshot;  // received: replaces log and state
  std::vector<Entry> committed;             // in order, without gap
  std::vector<ReadState> reads;
  std::vector<FetchRequest> fetches;
  bool must_sync = false;                   // entries, vote or term changed: answers depend on durability (trap 7)
  bool role_changed = false;                // role, leader or term differs from the last Ready: see status()
};

struct PeerStatus {
  RaftId id;
  Index match, next;
  bool learner = false, recent_active = false, paused = false, snapshotting = false;
};
struct Status {
  RaftId id, leader;        // leader 0: unknown
  Role role = Role::Follower;
  Term term;
  Index commit, applied, last_index, first_index;
  Term last_term;
  RaftId transferee;        // 0: no transfer under way
  bool has_pending_conf = false;
  bool own_term_committed = false;  // leader: an entry of the present term is committed (reads may be answered)
  ConfState conf_state;
  std::vector<PeerStatus> peers;    // leader only, without itself
};

struct Options {
  RaftId id;
  int election_ticks = 10;         // how long a follower waits for its leader; random 1x..2x of it
  int retry_ticks = 0;             // how long a candidate waits for votes, the same way; 0: as election_ticks. Not less than these
  int heartbeat_ticks = 1;
  std::uint64_t seed = 0;          // of timeouts and read marks: equal seeds give equal runs
  std::size_t max_message_bytes = 1 << 20;
  std::size_t max_inflight_messages = 256;
  std::size_t max_uncommitted_bytes = 64u << 20;    // beyond it propose() answers Errc::Busy; one entry always fits
  std::size_t max_committed_bytes_per_ready = 4u << 20;
  std::size_t cache_bytes = 8u << 20;      // entries kept in memory for peers that lag
};

// What the log knows at start. `entries` are all from `applied`+1 on (those below need not be in memory).
struct StartState {
  HardState hard_state;
  ConfState conf_state;            // in force at conf_index
  Index conf_index;                // conf entries at or below it are already in conf_state and skipped (trap 4)
  Index applied;                   // handed over before; >= conf_index's last seen conf entry, <= commit
  Index first_index, last_index;   // of the log; first_index - 1 is the snapshot's index
  Term snapshot_term;              // term of first_index - 1
  std::vector<std::pair<Index, Term>> term_starts;  // ascending: first index of each run of equal terms in the log
  std::vector<Entry> entries;
};

class RaftEngine {
 public:
  virtual ~RaftEngine() = default;

  // Once, first; an empty conf_state: waits to be given a snapshot. The commit is raised to what `applied` and
  // `conf_index` prove. Errc::Corrupt: the parts contradict each other; Errc::BadRequest: impossible options.
  virtual Result<> start(StartState state) = 0;
  virtual Result<> tick() = 0;
  // Answers of unknown peers, a foreign `to`, heartbeats with a commit beyond our log and whatever no member can have
  // sent are dropped (trap 8).
  virtual Result<> step(Message message) = 0;
  // Begins with a pre-vote. Put off while a Ready is not taken or not durable, a conf entry not applied, or a snapshot
  // not installed. Nothing, if we lead or are no voter.
  virtual Result<> campaign() = 0;
  // Errc::NotLeader, Errc::TransferInProgress, Errc::Busy (uncommitted bytes). The entry shows up in the next Ready;
  // the value is its index.
  virtual Result<Index> propose(std::string payload) = 0;
  // Errc::NotLeader, Errc::Busy (another change is not yet applied, uncommitted bytes), Errc::TransferInProgress,
  // Errc::BadRequest (leads to no possible membership), Errc::TooLarge.
  virtual Result<Index> propose_conf_change(const ConfChange& change) = 0;
  // To be called with each committed conf entry above StartState::conf_index, in order (an older one is skipped). Returns
  // the membership in force from it on. A change that doesn't fit has no effect. If we lead and are no voter any more we
  // step down (trap 5). Errc::Corrupt, Errc::Unsupported, Errc::TooLarge: as decode_conf_change().
  virtual Result<ConfState> apply_conf_change(const Entry& entry) = 0;
  // Leader or follower (forwarded by message). Errc::NotLeader: no leader known, or the own-term entry isn't committed
  // yet (trap 12: the caller holds and re-issues with a new context). Errc::Busy. Contexts need to be unique within this
  // engine only, given a fresh Options::seed at each start.
  virtual Result<> read_index(std::string context) = 0;
  virtual Result<> transfer_leader(RaftId to) = 0;   // Errc::NotLeader, Errc::BadRequest (no voter)
  virtual Result<> leader_died() = 0;                // trap 14: forgets the leader, keeps term and vote; a leader steps down
  virtual void report_unreachable(RaftId peer) = 0;
  virtual void report_snapshot(RaftId peer, bool ok) = 0;       // trap 2
  // The state machine's answer to `snapshot wanted`: offered to peers that need one, until compact() passes it.
  // A descriptor whose conf_state lacks the receiver is not sent to it (trap 6).
  virtual void provide_snapshot(RaftId peer, SnapshotDescriptor descriptor) = 0;
  virtual std::vector<RaftId> take_snapshot_wanted() = 0;       // peers that need provide_snapshot()
  // The beginning of what was asked for is enough; empty: could not be read. Each FetchRequest must be answered.
  virtual Result<> entries_fetched(RaftId token, std::vector<Entry> entries) = 0;
  virtual Result<> persisted(std::uint64_t ready_number) = 0;
  // The state machine stands at Ready.snapshot (trap 1). May come before or after persisted(); until both, nobody stands
  // for election here.
  virtual Result<> snapshot_installed(Index index) = 0;
  virtual void compact(Index first_kept, Term term_before) = 0; // the log on disk now begins here
  virtual bool has_ready() = 0;
  virtual Result<Ready> take_ready() = 0;
  virtual Status status() const = 0;
  virtual Role role() const = 0;                     // cheap
  virtual RaftId leader() const = 0;                 // cheap
  virtual Term term() const = 0;                     // cheap
  virtual Index commit() const = 0;                  // cheap
};

std::unique_ptr<RaftEngine> make_raft_engine(const Options& options);

}  // namespace rq::raft
