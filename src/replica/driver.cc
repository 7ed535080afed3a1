// Invariants
//   1. A proposal is in exactly one place: waiting_, uncommitted_, or handed to apply; its waiter is told once.
//   2. uncommitted_ is ordered by index; its entries have the term in which they were proposed.
//   3. queued_bytes_ is the sum over waiting_ and uncommitted_.
//   4. messages_after_persist of a Ready leave only after persisted(n) of it or a later one.
//   5. A membership is durable before this driver acts on it (trap 4).
#include "replica/driver.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "replica/group.h"
#include "replica/snapshot_data.h"

namespace rq::replica {
namespace {

constexpr std::uint64_t kLearnerLagMax = 64;            // entries; below it a learner is promoted
constexpr std::size_t kStartReadBytes = 1u << 20;
constexpr auto kReadReissue = std::chrono::milliseconds(250);
constexpr auto kTransferIdle = std::chrono::seconds(10);     // a receiver that reads nothing for so long has given up
constexpr auto kOfferIdle = std::chrono::seconds(30);
constexpr auto kOfferDone = std::chrono::seconds(2);          // the same, when its receiver has it: SQLite's WAL grows while it is held
constexpr auto kOfferAge = std::chrono::minutes(2);          // then a later receiver gets a newer one
constexpr std::uint64_t kReplayEntriesMax = 64;               // a new member of a young cluster gets the log instead of an image
constexpr std::chrono::nanoseconds kHandOverPauseMax = std::chrono::seconds(10);
constexpr auto kRankDelay = std::chrono::milliseconds(50);   // trap 14

std::string context_bytes(std::uint64_t number) { return {reinterpret_cast<const char*>(&number), sizeof number}; }

std::uint64_t context_number(std::string_view bytes) {
  std::uint64_t number = 0;
  if (bytes.size() == sizeof number) std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

}  // namespace

Driver::Driver(MakeEngine make_engine, RaftId self, const Timing& timing, const Limits& limits,
               Clock& clock, Rng& rng, Outputs& outputs)
    : make_engine_(std::move(make_engine)), engine_(make_engine_()), self_(self), timing_(timing), limits_(limits), clock_(clock), rng_(rng),
      outputs_(outputs), now_(clock.now()), next_tick_(now_ + timing.tick) {}

// What the state machine has applied was committed, whatever the last hard state on disk says.
Result<DriverStart> prepare_start(RaftId self, wal::Recovered&& recovered, MembershipRecord record, Index machine_applied, const wal::Log& log) {
  DriverStart start{.self = self, .log = std::move(recovered), .record = std::move(record)};
  wal::Recovered& in = start.log;
  if (in.snapshot.index.value == 0) {
    in.first = Index{1};
    in.last = Index{0};
    return start;
  }
  const Index end = std::max(in.last, in.snapshot.index);
  in.hard_state.commit = std::min(std::max({in.hard_state.commit, machine_applied, in.snapshot.index}), end);
  start.handed_over = in.hard_state.commit;
  const auto conf = std::ranges::upper_bound(in.conf_entries, in.membership.index);
  if (conf != in.conf_entries.end()) start.handed_over = std::min(start.handed_over, Index{conf->value - 1});
  for (Index next = start.handed_over.next(); next <= in.last;) {
    RQ_TRY(std::vector<raft::Entry> entries, log.read(next, in.last, kStartReadBytes));
    RQ_ASSERT(!entries.empty());
    next = entries.back().index.next();
    std::ranges::move(entries, std::back_inserter(start.entries));
  }
  return start;
}

Result<> Driver::start(DriverStart start) {
  record_ = std::move(start.record);
  conf_ = start.log.membership.conf_state;
  conf_index_ = start.log.membership.index;
  log_first_ = start.log.first;
  bootstrapped_ = start.log.snapshot.index.value != 0;
  raft::StartState state{
      .hard_state = start.log.hard_state,
      .conf_state = conf_,
      .conf_index = conf_index_,
      .applied = start.handed_over,
      .first_index = start.log.first,
      .last_index = start.log.last,
      .snapshot_term = start.log.snapshot.term,
      .term_starts = start.log.term_starts,
      .entries = std::move(start.entries),
  };
  RQ_CHECK(engine_->start(std::move(state)));
  started_ = true;
  outputs_.membership(record_, conf_, conf_index_);
  // A lone voter has nobody to wait for.
  if (conf_.voters.size() == 1 && conf_.is_voter(self_) && !conf_.joint()) RQ_CHECK(engine_->campaign());
  return {};
}

Result<> Driver::bootstrap(MembershipRecord record, raft::ConfState conf) {
  if (bootstrapped_) return fail(Errc::AlreadyExists, "bootstrap only works on new clusters");
  record.base_conf = conf;
  record.base_members = record.members;
  // While it waited this node may have voted for another founder: a vote for itself in that term can't harm.
  raft::HardState hard_state{.term = Term{1}, .commit = Index{1}};
  if (started_ && engine_->term() > hard_state.term) hard_state = {engine_->term(), self_, Index{1}};
  const wal::Membership membership{Index{1}, conf, encode(record)};
  RQ_CHECK(outputs_.persist_now({.hard_state = hard_state, .snapshot = wal::SnapshotMark{Index{1}, Term{1}},
                                 .membership = membership, .must_sync = true}));
  if (!started_) return {};
  engine_ = make_engine_();
  ++engine_number_;
  after_persist_.clear();
  last_ready_ = persisted_ready_ = unpersisted_ready_ = 0;
  DriverStart fresh{.self = self_, .handed_over = Index{1}, .record = std::move(record)};
  fresh.log.hard_state = hard_state;
  fresh.log.membership = membership;
  fresh.log.snapshot = {Index{1}, Term{1}};
  fresh.log.first = Index{2};
  fresh.log.last = Index{1};
  fresh.log.last_term = Term{1};
  return start(std::move(fresh));
}

// ---- proposals

void Driver::refuse(Proposal& proposal, const Error& error) {
  if (proposal.waiter) proposal.waiter->failed(error);
}

void Driver::propose(Proposal&& proposal) {
  if (broken_) return refuse(proposal, *broken_);
  if (!leads()) return refuse(proposal, {engine_->leader() ? Errc::NotLeader : Errc::LeaderNotFound, {}});
  if (disk_full_) return refuse(proposal, {Errc::NoSpace, {}});
  if (transfer_ && transfer_->started) return refuse(proposal, {Errc::TransferInProgress, {}});
  if (queued_bytes_ > limits_.queue_bytes || waiting_.size() >= limits_.queue_requests)
    return refuse(proposal, {Errc::Busy, "too many requests wait for the log"});
  queued_bytes_ += proposal.bytes.size();
  waiting_.push_back(std::move(proposal));
}

// One group is formed while the one before it is being synced here: the disk sets the pace, no timer does.
void Driver::propose_groups() {
  while (!waiting_.empty() && unpersisted_ready_ <= persisted_ready_ && leads() && !broken_) {
    const std::size_t before = waiting_.size();
    propose_group();
    if (waiting_.size() == before) return;
    carry_out();
  }
}

void Driver::propose_group() {
  GroupWriter group;
  std::size_t count = 0;
  std::size_t bytes = 0;
  for (const Proposal& proposal : waiting_) {
    const bool full = count >= limits_.group_requests || group.size() + GroupWriter::cost(proposal.bytes) > limits_.group_bytes;
    if (count > 0 && (proposal.alone || full)) break;
    group.add(proposal.bytes);
    bytes += proposal.bytes.size();
    ++count;
    if (proposal.alone) break;
  }
  const auto wall = std::chrono::duration_cast<std::chrono::milliseconds>(clock_.wall().time_since_epoch()).count();
  const SteadyTime now = clock_.now();
  const Result<Index> index = engine_->propose(std::move(group).seal(wall, rng_.next(), rng_.next()));
  if (!index && index.error().code == Errc::Busy && !uncommitted_.empty()) return;   // tried again when some commit
  Uncommitted entry{.index = index ? *index : Index{}, .term = engine_->term(), .bytes = bytes, .proposed = now};
  if (index) {
    stats_.groups.add();
    stats_.proposals.add(static_cast<std::int64_t>(count));
    stats_.group_bytes.add(static_cast<std::int64_t>(bytes));
  }
  for (; count > 0; --count) {
    Proposal proposal = std::move(waiting_.front());
    waiting_.pop_front();
    if (index) {
      if (proposal.begun != SteadyTime()) stats_.queue.record(now - proposal.begun);
      entry.waiters.push_back(std::move(proposal.waiter));
    } else {
      queued_bytes_ -= proposal.bytes.size();
      refuse(proposal, index.error());
    }
  }
  if (index) uncommitted_.push_back(std::move(entry));
}

// What finds no place in the log in time had no effect: its client is told so.
void Driver::expire_waiting(SteadyTime now) {
  while (!waiting_.empty() && waiting_.front().begun != SteadyTime() && now - waiting_.front().begun > limits_.enqueue_time) {
    Proposal proposal = std::move(waiting_.front());
    waiting_.pop_front();
    queued_bytes_ -= proposal.bytes.size();
    stats_.expired.add();
    refuse(proposal, {Errc::Timeout, "timed out enqueuing operation"});
  }
}

void Driver::take_waiters(ApplyItem& item) {
  while (!uncommitted_.empty() && uncommitted_.front().index <= item.entry.index) {
    Uncommitted group = std::move(uncommitted_.front());
    uncommitted_.pop_front();
    queued_bytes_ -= group.bytes;
    if (group.index == item.entry.index && group.term == item.entry.term) {
      stats_.commit.record(clock_.now() - group.proposed);
      item.waiters = std::move(group.waiters);
      continue;
    }
    for (const auto& waiter : group.waiters)
      if (waiter) waiter->failed({Errc::LeadershipLost, {}});
  }
}

void Driver::fail_waiting(const Error& unproposed, const Error& proposed) {
  auto waiting = std::move(waiting_);
  auto uncommitted = std::move(uncommitted_);
  waiting_.clear();
  uncommitted_.clear();
  queued_bytes_ = 0;
  for (Proposal& proposal : waiting) refuse(proposal, unproposed);
  for (const Uncommitted& group : uncommitted)
    for (const auto& waiter : group.waiters)
      if (waiter) waiter->failed(proposed);
}

// ---- reads

void Driver::read_index(ReadDone done, SteadyTime deadline) {
  if (broken_) return done(fail(*broken_));
  if (!leads()) return done(fail(engine_->leader() ? Errc::NotLeader : Errc::LeaderNotFound));
  if (reads_waiting_.size() >= limits_.reads_waiting) return done(fail(Errc::Busy, "too many reads wait"));
  reads_waiting_.emplace_back(std::move(done), deadline);
}

// All reads that wait share one heartbeat round; the next round begins when this one is answered (trap 12).
void Driver::issue_reads(SteadyTime now) {
  for (auto it = reads_issued_.begin(); it != reads_issued_.end();) {
    if (now < it->second.reissue_at) {
      ++it;
      continue;
    }
    std::ranges::move(it->second.reads, std::back_inserter(reads_waiting_));
    it = reads_issued_.erase(it);
  }
  std::erase_if(reads_waiting_, [&](auto& read) {
    if (now < read.second) return false;
    read.first(fail(Errc::Timeout, "timeout waiting for leadership confirmation"));
    return true;
  });
  if (reads_waiting_.empty() || !reads_issued_.empty() || !leads()) return;
  const std::uint64_t number = ++read_context_;
  if (!engine_->read_index(context_bytes(number))) return;   // before the own-term commit: held, tried again
  reads_issued_.emplace(number, ReadBatch{std::move(reads_waiting_), now + kReadReissue, now});
  reads_waiting_.clear();
}

// ---- carrying out Readys

void Driver::check(const Result<>& result) {
  if (result || broken_) return;
  broken_ = Error{Errc::Internal, "raft engine stopped: " + result.error().text()};
  log::error("raft", broken_->detail);
  fail_waiting(*broken_, *broken_);
}

void Driver::carry_out() {
  while (!broken_ && engine_->has_ready()) {
    Result<raft::Ready> ready = engine_->take_ready();
    if (!ready) return check(fail(ready.error()));
    carry_out(*std::move(ready));
    offer_snapshots();
  }
}

void Driver::send(std::vector<raft::Message>&& messages) {
  if (messages.empty()) return;
  std::vector<RaftId> delivered;
  std::erase_if(messages, [&](const raft::Message& message) {
    if (message.type != raft::MessageType::Snapshot || !message.snapshot) return false;
    const auto data = decode_snapshot_data(*message.snapshot);
    const std::uint64_t id = data ? data->machine.id : 0;
    // The bootstrap snapshot travels inside its message: sent is delivered, or lost like any message and probed for
    // again (trap 2).
    if (id == 0) return delivered.push_back(message.to), false;
    const auto offer = std::ranges::find(offers_, id, [](const Offer& o) { return o.snapshot.id; });
    if (offer == offers_.end()) {
      snapshot_wanted_.insert(message.to);
      snapshot_lost_.insert(message.to);
      return true;
    }
    offer->used = now_;
    transfers_[message.to] = id;
    return false;
  });
  if (!messages.empty()) outputs_.send(std::move(messages));
  for (const RaftId peer : delivered) engine_->report_snapshot(peer, true);
}

void Driver::carry_out(raft::Ready&& ready) {
  // What is sent first costs nothing: the leader's own sync and its followers' run side by side.
  send(std::move(ready.messages));
  last_ready_ = ready.number;
  PersistItem item{.ready_number = ready.number, .engine = engine_number_, .entries = std::move(ready.entries), .must_sync = ready.must_sync};
  if (ready.snapshot) on_snapshot(std::move(*ready.snapshot), item);
  if (ready.hard_state) lazy_hard_state_ = ready.hard_state;
  const bool nothing_to_write = item.entries.empty() && !item.snapshot && !item.must_sync;
  if (!ready.messages_after_persist.empty()) after_persist_[ready.number] = std::move(ready.messages_after_persist);
  if (!nothing_to_write) {
    item.must_sync = true;
    item.hard_state = std::exchange(lazy_hard_state_, std::nullopt);
    unpersisted_ready_ = ready.number;
    outputs_.persist(std::move(item));
  }
  hand_over(std::move(ready.committed));
  for (raft::ReadState& read : ready.reads) {
    const auto batch = reads_issued_.find(context_number(read.context));
    if (batch == reads_issued_.end()) continue;     // re-issued meanwhile
    const auto waited = clock_.now() - batch->second.issued;
    stats_.read_index.record(waited);
    stats_.last_read_index_us.set(std::chrono::duration_cast<std::chrono::microseconds>(waited).count());
    std::vector<ReadDone> done;
    for (auto& waiting : batch->second.reads) done.push_back(std::move(waiting.first));
    reads_issued_.erase(batch);
    outputs_.reads(read.index, std::move(done));
  }
  for (const raft::FetchRequest& fetch : ready.fetches) outputs_.fetch(fetch);
  // Nothing of it awaits the disk: as good as persisted once all Readys before it are.
  if (nothing_to_write && unpersisted_ready_ <= persisted_ready_) note_persisted(ready.number);
  if (ready.role_changed) on_role();
}

void Driver::persisted(std::uint64_t engine, std::uint64_t ready_number) {
  if (engine == engine_number_) note_persisted(ready_number);
}

void Driver::note_persisted(std::uint64_t ready_number) {
  persisted_ready_ = std::max(persisted_ready_, ready_number);
  // Readys without anything to write that came behind it are covered too.
  const std::uint64_t covered = unpersisted_ready_ <= persisted_ready_ ? last_ready_ : persisted_ready_;
  check(engine_->persisted(covered));
  while (!after_persist_.empty() && after_persist_.begin()->first <= covered) {
    send(std::move(after_persist_.begin()->second));
    after_persist_.erase(after_persist_.begin());
  }
  // The machine must not be ahead of the log: it follows when the log stands at the snapshot for good.
  if (restoring_ && restoring_ready_ <= persisted_ready_) outputs_.restore(*std::exchange(restoring_, std::nullopt));
}

void Driver::hand_over(std::vector<raft::Entry>&& committed) {
  if (committed.empty()) return;
  std::vector<ApplyItem> items;
  items.reserve(committed.size());
  for (raft::Entry& entry : committed) {
    if (entry.type == raft::EntryType::ConfChange) check(apply_conf(entry));
    ApplyItem item{.entry = std::move(entry)};
    take_waiters(item);
    items.push_back(std::move(item));
  }
  outputs_.apply(std::move(items));
}

// ---- membership

Result<> Driver::apply_conf(const raft::Entry& entry) {
  if (entry.index <= conf_index_) return {};      // replay: already in the membership that the log gave back
  RQ_TRY(const raft::ConfChange change, raft::decode_conf_change(*entry.payload));
  raft::Entry effective = entry;
  const bool foreign = of_another_epoch(change, record_.cluster_id);
  if (foreign) effective.payload = std::make_shared<const std::string>(raft::encode(raft::ConfChange{}));
  RQ_TRY(raft::ConfState result, engine_->apply_conf_change(effective));
  MembershipRecord record = record_;
  if (!foreign) apply_to(record.members, change, result);
  RQ_CHECK(outputs_.persist_now({.membership = wal::Membership{entry.index, result, encode(record)}, .must_sync = true}));
  record_ = std::move(record);
  conf_ = std::move(result);
  conf_index_ = entry.index;
  outputs_.membership(record_, conf_, conf_index_);
  for (ConfWait& wait : conf_waits_) {
    if (wait.change || wait.index != entry.index) continue;
    auto done = std::exchange(wait.done, nullptr);
    if (wait.term == entry.term) done({});
    else done(fail(Errc::LeadershipLost));
  }
  std::erase_if(conf_waits_, [](const ConfWait& wait) { return wait.done == nullptr; });
  return {};
}

void Driver::change_membership(raft::ConfChange change, SteadyTime deadline, ConfDone done) {
  if (broken_) return done(fail(*broken_));
  if (!leads()) return done(fail(engine_->leader() ? Errc::NotLeader : Errc::LeaderNotFound));
  conf_waits_.push_back({.change = std::move(change), .deadline = deadline, .done = std::move(done)});
}

void Driver::join(Member joiner, SteadyTime deadline, ConfDone done) {
  if (!leads()) return done(fail(engine_->leader() ? Errc::NotLeader : Errc::LeaderNotFound));
  std::optional<raft::ConfChange> change = join_change(record_.members, conf_, joiner);
  if (!change) return done({});
  change->context = conf_context(joiner, record_.cluster_id);
  change_membership(std::move(*change), deadline, std::move(done));
}

void Driver::remove(std::string node_id, SteadyTime deadline, ConfDone done) {
  if (!leads()) return done(fail(engine_->leader() ? Errc::NotLeader : Errc::LeaderNotFound));
  const Member* member = record_.members.find_node(node_id);
  if (member == nullptr) return done({});          // unknown ids succeed
  raft::ConfChange change{.steps = {{raft::ConfChangeType::Remove, member->raft_id}}, .context = conf_context(*member, record_.cluster_id)};
  if (member->raft_id != self_) return change_membership(std::move(change), deadline, std::move(done));
  if (conf_.voters.size() < 2) return done(fail(Errc::BadRequest, "cannot remove the only voter"));
  // Trap 5: a leader does not remove itself; it hands over and the request is made again at its successor.
  transfer(RaftId{}, deadline, [done = std::move(done)](const Result<>& result) {
    done(result ? Result<>(fail(Errc::NotLeader)) : result);
  });
}

void Driver::advance_conf_waits(SteadyTime now) {
  bool proposed = false;
  for (ConfWait& wait : conf_waits_) {
    if (now >= wait.deadline) {
      std::exchange(wait.done, nullptr)(fail(Errc::Timeout, "timeout waiting for membership change"));
      continue;
    }
    if (!wait.change || proposed || conf_.joint()) continue;
    proposed = true;                               // one change at a time
    const Result<Index> index = engine_->propose_conf_change(*wait.change);
    if (index) {
      wait.index = *index;
      wait.term = engine_->term();
      wait.change.reset();
    } else if (index.error().code != Errc::Busy) {
      std::exchange(wait.done, nullptr)(fail(index.error()));
    }
  }
  std::erase_if(conf_waits_, [](const ConfWait& wait) { return wait.done == nullptr; });
}

void Driver::promote_learners() {
  if (!leads() || conf_.joint() || !conf_waits_.empty()) return;
  const raft::Status status = engine_->status();
  if (status.has_pending_conf || !status.own_term_committed) return;
  for (const raft::PeerStatus& peer : status.peers) {
    const Member* member = record_.members.find(peer.id);
    if (!peer.learner || member == nullptr || member->read_replica || peer.snapshotting) continue;
    if (peer.match.value + kLearnerLagMax < status.last_index.value || !peer.match) continue;
    raft::ConfChange change{.steps = {{raft::ConfChangeType::AddVoter, peer.id}}, .context = conf_context(*member, record_.cluster_id)};
    if (engine_->propose_conf_change(change))
      log::info("store", "node with ID " + member->node_id + ", at " + member->raft_addr + ", caught up, made voter");
    return;
  }
}

void Driver::leave_stuck_joint() {   // trap 13
  if (!leads() || !conf_.joint()) return;
  if (engine_->status().has_pending_conf) return;
  (void)engine_->propose_conf_change(raft::ConfChange{});
}

void Driver::offer_snapshots() {
  for (const RaftId peer : engine_->take_snapshot_wanted()) snapshot_wanted_.insert(peer);
  if (snapshot_wanted_.empty() || making_snapshot_) return;
  // A cluster just founded is told from its first entry on. Later an image is the faster way, however little the log was
  // cut: what statements did is copied, not done again. Without a base (recovered, imported) the log leads to no membership.
  if (log_first_.value == 2 && !record_.base_conf.voters.empty() && engine_->status().last_index.value <= kReplayEntriesMax) {
    for (const RaftId peer : std::exchange(snapshot_wanted_, {})) offer_bootstrap(peer);
    return;
  }
  // Several members at once are fed from one image. It must not be older than the membership (trap 4).
  const bool usable = !offers_.empty() && offers_.back().snapshot.index >= conf_index_ && offers_.back().snapshot.index.next() >= log_first_ &&
                      now_ - offers_.back().made < kOfferAge;
  if (!usable) {
    making_snapshot_ = true;
    return outputs_.make_snapshot();
  }
  for (const RaftId peer : std::exchange(snapshot_wanted_, {})) offer_image(peer, offers_.back().snapshot);
}

// Without an image: the state of a new cluster. The receiver must be named in it (trap 6); it replays the conf entries
// behind it and so ends with the true membership. Learners count for no quorum meanwhile.
void Driver::offer_bootstrap(RaftId peer) {
  raft::ConfState conf = record_.base_conf;
  if (!conf.contains(peer)) conf.learners.push_back(peer);
  SnapshotData base{.record = {.cluster_id = record_.cluster_id, .members = record_.base_members,
                               .base_conf = record_.base_conf, .base_members = record_.base_members}};
  if (const Member* member = record_.members.find(peer)) base.record.members.put(*member);
  engine_->provide_snapshot(peer, {.index = Index{1}, .term = Term{1}, .conf_state = std::move(conf), .data = encode(base)});
  if (snapshot_lost_.erase(peer) != 0) engine_->report_snapshot(peer, false);
}

void Driver::offer_image(RaftId peer, const raft::MachineSnapshot& snapshot) {
  const SnapshotData data{.record = record_, .source = self_, .machine = snapshot};
  engine_->provide_snapshot(peer, {.index = snapshot.index, .term = snapshot.term, .conf_state = conf_, .data = encode(data)});
  if (snapshot_lost_.erase(peer) != 0) engine_->report_snapshot(peer, false);
}

void Driver::snapshot_made(Result<raft::MachineSnapshot>&& made) {
  making_snapshot_ = false;
  if (!made) {
    log::warn("store", "no snapshot for a member that needs one: " + made.error().text());
    return;                                        // tried again at the next tick
  }
  offers_.push_back({*std::move(made), now_, now_});
  offer_snapshots();
}

void Driver::snapshot_used(std::uint64_t id) {
  for (Offer& offer : offers_)
    if (offer.snapshot.id == id) offer.used = now_;
}

void Driver::mind_transfers(SteadyTime now) {
  std::set<RaftId> installing;
  if (leads())
    for (const raft::PeerStatus& peer : engine_->status().peers)
      if (peer.snapshotting) installing.insert(peer.id);
  std::set<std::uint64_t> in_use;
  std::erase_if(transfers_, [&](const auto& transfer) {
    const auto& [peer, id] = transfer;
    const auto offer = std::ranges::find(offers_, id, [](const Offer& o) { return o.snapshot.id; });
    if (!installing.contains(peer)) {              // it has it, or we lead no more: who still reads says so
      if (offer != offers_.end()) offer->used = std::min(offer->used, now - kOfferIdle + kOfferDone);
      return true;
    }
    if (offer != offers_.end() && now - offer->used < kTransferIdle) return in_use.insert(id), false;
    engine_->report_snapshot(peer, false);         // lost, or the receiver died: probed again (trap 2)
    return true;
  });
  std::erase_if(offers_, [&](const Offer& offer) {
    if (in_use.contains(offer.snapshot.id) || now - offer.used < kOfferIdle) return false;
    outputs_.release_snapshot(offer.snapshot.id);
    return true;
  });
}

Index Driver::log_needed() const {
  Index needed{UINT64_MAX};
  for (const Offer& offer : offers_) needed = std::min(needed, offer.snapshot.index.next());
  return needed;
}

void Driver::compacted(Index first_kept, Term term_before) {
  if (broken_ || first_kept <= log_first_) return;
  log_first_ = first_kept;
  engine_->compact(first_kept, term_before);
}

void Driver::on_snapshot(raft::SnapshotDescriptor&& descriptor, PersistItem& item) {
  auto data = decode_snapshot_data(descriptor);
  if (!data) return check(fail(data.error()));
  item.snapshot = wal::SnapshotMark{descriptor.index, descriptor.term};
  item.membership = wal::Membership{descriptor.index, descriptor.conf_state, encode(data->record)};
  item.must_sync = true;
  record_ = std::move(data->record);
  conf_ = descriptor.conf_state;
  conf_index_ = descriptor.index;
  log_first_ = descriptor.index.next();
  bootstrapped_ = true;
  outputs_.membership(record_, conf_, conf_index_);
  restoring_ready_ = item.ready_number;
  restoring_ = std::move(descriptor);
}

// Its Ready is durable, or restore() would not have been said. Not put off until nothing else is being written: under load
// that may take long, and all the while the engine would not count what is applied here as handed over.
void Driver::restored(Index index) {
  check(engine_->snapshot_installed(index));
}

// ---- time, contact, leadership

void Driver::note_contact(const raft::Message& message, SteadyTime now) {
  if (leads()) contacts_[message.from] = now;
  if (message.from == engine_->leader()) last_leader_contact_ = now;
}

void Driver::step(std::vector<raft::Message>&& messages) {
  for (raft::Message& message : messages) {
    if (broken_) return;
    note_contact(message, now_);
    check(engine_->step(std::move(message)));
  }
}

void Driver::fetched(RaftId peer, std::vector<raft::Entry>&& entries) { check(engine_->entries_fetched(peer, std::move(entries))); }
// A receiver that comes back knows nothing of the message that began its transfer. One that was not away goes on with it.
void Driver::unreachable(RaftId peer) {
  engine_->report_unreachable(peer);
  if (transfers_.erase(peer) != 0) engine_->report_snapshot(peer, false);
}

void Driver::peer_dead(RaftId peer) {
  unreachable(peer);
  if (broken_ || engine_->leader() != peer || peer == self_) return;
  log::info("store", "the leader's process ended, electing another");
  check(engine_->leader_died());
  if (!conf_.is_voter(self_)) return;
  std::vector<RaftId> voters = conf_.voters;
  std::erase(voters, peer);
  std::ranges::sort(voters);
  const auto rank = std::ranges::find(voters, self_) - voters.begin();
  campaign_at_ = now_ + rank * kRankDelay;
}

void Driver::log_role(const raft::Status& status) const {
  const auto campaigns = [](raft::Role role) { return role == raft::Role::Candidate || role == raft::Role::PreCandidate; };
  const std::string term = "term=" + std::to_string(status.term.value);
  if (campaigns(status.role) && !campaigns(last_role_)) {
    const Member* leader = record_.members.find(last_leader_);
    log::warn("raft", "heartbeat timeout reached, starting election: last-leader-addr=" + (leader == nullptr ? "" : leader->raft_addr) +
                          " last-leader-id=" + (leader == nullptr ? "" : leader->node_id));
  } else if (status.role == raft::Role::Leader && last_role_ != raft::Role::Leader) {
    log::info("raft", "election won: " + term);
  } else if (status.role == raft::Role::Follower && last_role_ != raft::Role::Follower) {
    log::info("raft", "entering follower state: " + term);
  }
}

void Driver::on_role() {
  const raft::Status status = engine_->status();
  log_role(status);
  if (status.role != raft::Role::Leader && status.role != raft::Role::Follower && last_role_ == raft::Role::Follower) stats_.elections.add();
  const bool lost = last_role_ == raft::Role::Leader && status.role != raft::Role::Leader;
  const bool won = status.role == raft::Role::Leader && (last_role_ != raft::Role::Leader || last_term_ != status.term);
  last_role_ = status.role;
  last_leader_ = status.leader;
  last_term_ = status.term;
  if (won) {
    led_since_ = now_;
    contacts_.clear();
  }
  if (lost) {
    // What never entered the log may be tried elsewhere; the fate of what did is open.
    fail_waiting({Errc::NotLeader, {}}, {Errc::LeadershipLost, {}});
    auto reads = std::move(reads_waiting_);
    reads_waiting_.clear();
    for (auto& [number, batch] : reads_issued_) std::ranges::move(batch.reads, std::back_inserter(reads));
    reads_issued_.clear();
    for (auto& read : reads) read.first(fail(Errc::NotLeader));
    auto waits = std::move(conf_waits_);
    conf_waits_.clear();
    for (ConfWait& wait : waits) wait.done(fail(wait.change ? Errc::NotLeader : Errc::LeadershipLost));
  }
  if (status.leader) campaign_at_.reset();
  if (status.leader && status.leader != self_) last_leader_contact_ = now_;
  outputs_.role(status);
}

// The engine's own check takes up to two election timeouts; a leader cut off must fall silent earlier.
void Driver::check_lease(SteadyTime now) {
  if (!leads() || conf_.voters.size() < 2 || now - led_since_ < timing_.leader_lease) return;
  const auto in_contact = [&](const std::vector<RaftId>& voters) {
    if (voters.empty()) return true;
    std::size_t count = 0;
    for (const RaftId id : voters) {
      const auto contact = contacts_.find(id);
      if (id == self_ || (contact != contacts_.end() && now - contact->second < timing_.leader_lease)) ++count;
    }
    return count > voters.size() / 2;
  };
  if (in_contact(conf_.voters) && in_contact(conf_.voters_outgoing)) return;
  log::warn("store", "no contact with a majority for the leader lease, stepping down");
  check(engine_->leader_died());
}

void Driver::transfer(RaftId to, SteadyTime deadline, ConfDone done) {
  if (!leads()) return done(fail(engine_->leader() ? Errc::NotLeader : Errc::LeaderNotFound));
  if (transfer_) return done(fail(Errc::TransferInProgress));
  transfer_ = Transfer{.to = to, .deadline = deadline, .done = std::move(done)};
}

void Driver::advance_transfer(SteadyTime now) {
  if (!transfer_) return;
  const auto finish = [&](Result<> result) { std::exchange(transfer_, std::nullopt)->done(std::move(result)); };
  if (!leads()) return finish({});
  if (now >= transfer_->deadline) return finish(fail(Errc::Timeout, "timeout waiting for leadership transfer"));
  if (transfer_->started) return;
  RaftId best = transfer_->to;
  if (!best) {
    Index match;
    for (const raft::PeerStatus& peer : engine_->status().peers) {
      if (peer.learner || !conf_.is_voter(peer.id) || !peer.recent_active || (best && peer.match <= match)) continue;
      best = peer.id;
      match = peer.match;
    }
  }
  if (!best) return finish(fail(Errc::NotFound, "cannot find peer"));
  transfer_->started = true;
  if (const Result<> started = engine_->transfer_leader(best); !started) finish(started);
}

// At once when it begins. When leadership comes back meanwhile, the others are no better off (an entry that nobody survives, say):
// then after longer and longer pauses, so that a leader is there for long enough to take what the operator says.
void Driver::hand_over_when_stalled(SteadyTime now) {
  if (!apply_stalled_ && !disk_full_) {
    hand_over_pause_ = kHandOverPauseFirst;
    hand_over_again_ = {};
    return;
  }
  if (!leads() || conf_.voters.size() == 1 || transfer_ || now < hand_over_again_) return;
  transfer_ = Transfer{.deadline = now + std::chrono::seconds(1), .done = [](const Result<>&) {}};
  hand_over_again_ = now + hand_over_pause_;
  hand_over_pause_ = std::min(hand_over_pause_ * 2, kHandOverPauseMax);
}

void Driver::on_tick(SteadyTime now) {
  check(engine_->tick());
  check_lease(now);
  promote_learners();
  leave_stuck_joint();
  expire_waiting(now);
  mind_transfers(now);
  offer_snapshots();
  hand_over_when_stalled(now);
  // The library gives a transfer up after an election timeout; so do we, and may try another.
  if (transfer_ && transfer_->started && leads() && !engine_->status().transferee) transfer_->started = false;
}

void Driver::run(SteadyTime now) {
  now_ = now;
  if (broken_) {
    next_tick_ = now + timing_.tick;
    return;
  }
  // After a long pause (a stopped process) one tick is enough: the others would only hurry an election.
  if (now >= next_tick_) {
    on_tick(now);
    next_tick_ = now + timing_.tick;
  }
  if (campaign_at_ && now >= *campaign_at_) {
    campaign_at_.reset();
    if (!engine_->leader()) check(engine_->campaign());
  }
  advance_conf_waits(now);
  advance_transfer(now);
  carry_out();
  propose_groups();
  issue_reads(now);
  carry_out();
}

SteadyTime Driver::next_deadline() const { return campaign_at_ ? std::min(*campaign_at_, next_tick_) : next_tick_; }

void Driver::log_failed(const Error& error) {
  if (broken_) return;
  broken_ = error;
  fail_waiting(error, error);
}

void Driver::disk_full(bool full) {
  if (full && !disk_full_) fail_waiting({Errc::NoSpace, {}}, {Errc::NoSpace, {}});
  disk_full_ = full;
}

void Driver::fail_all(const Error& error) {
  fail_waiting(error, error);
  auto reads = std::move(reads_waiting_);
  reads_waiting_.clear();
  for (auto& [number, batch] : reads_issued_) std::ranges::move(batch.reads, std::back_inserter(reads));
  reads_issued_.clear();
  for (auto& read : reads) read.first(fail(error));
  auto waits = std::move(conf_waits_);
  conf_waits_.clear();
  for (ConfWait& wait : waits) wait.done(fail(error));
  if (transfer_) std::exchange(transfer_, std::nullopt)->done(fail(error));
}

}  // namespace rq::replica
