// Invariants
//   1. The log is written by the wal thread only, the state machine is touched by the apply thread only.
//   2. Entries reach the apply thread in order and without gap, beginning behind machine.applied_index().
//   3. applied_ never falls.
#include "replica/replica.h"

#include <algorithm>
#include <condition_variable>
#include <future>

#include "base/assert.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "replica/group.h"
#include "replica/snapshot_data.h"

namespace rq::replica {
namespace {

constexpr std::size_t kReadChunkBytes = 1u << 20;
constexpr std::size_t kNoteBytesMax = 16u << 20;
constexpr auto kRetryPause = std::chrono::milliseconds(200);
constexpr auto kViewAge = std::chrono::milliseconds(200);      // older views of indexes and peers are renewed

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;   // clang 16 doesn't find it by itself

}  // namespace

// Outputs of the driver: hands everything to the thread that does it.
class Replica::Shell final : public Outputs {
 public:
  explicit Shell(Replica& replica) : replica_(replica) {}

  void persist(PersistItem&& item) override {
    follow_truncation(item.entries);
    replica_.wal_inbox_.post({std::move(item), nullptr});
  }

  Result<> persist_now(PersistItem&& item) override {
    if (replica_.threads_.empty()) {   // bootstrap: the wal thread doesn't run yet
      RQ_CHECK(replica_.append(item));
      return replica_.log_->sync();
    }
    std::promise<Result<>> promise;
    auto future = promise.get_future();
    if (!replica_.wal_inbox_.post({std::move(item), [&](Result<> result) { promise.set_value(std::move(result)); }}))
      return fail(Errc::Closed);
    return future.get();
  }

  void send(std::vector<raft::Message>&& messages) override { replica_.events_.send(std::move(messages)); }

  void apply(std::vector<ApplyItem>&& items) override {
    replica_.apply_pending_.fetch_add(items.size(), std::memory_order_relaxed);
    if (!items.empty()) replica_.handed_over_.store(items.back().entry.index.value, std::memory_order_release);
    for (ApplyItem& item : items) {
      const std::size_t bytes = item.entry.payload ? item.entry.payload->size() : 0;
      const bool far_behind = replica_.apply_bytes_.load(std::memory_order_relaxed) > replica_.options_.apply_queue_bytes;
      if (far_behind && item.waiters.empty()) item.entry.payload = nullptr;   // read again when its turn comes
      else replica_.apply_bytes_.fetch_add(bytes, std::memory_order_relaxed);
      replica_.apply_inbox_.post(ApplyInput(std::move(item)));
    }
  }

  void restore(raft::SnapshotDescriptor&& descriptor) override {
    replica_.restore_index_.store(descriptor.index.value, std::memory_order_release);
    replica_.handed_over_.store(descriptor.index.value, std::memory_order_release);
    replica_.apply_inbox_.post(ApplyInput(std::move(descriptor)));
  }

  void make_snapshot() override {
    replica_.hold_state([this](Result<raft::MachineSnapshot> made) {
      auto shared = std::make_shared<Result<raft::MachineSnapshot>>(std::move(made));
      replica_.raft_inbox_.post(Work([shared](Driver& driver) { driver.snapshot_made(std::move(*shared)); }));
    });
  }

  void release_snapshot(std::uint64_t id) override { replica_.machine_.release(id); }

  void reads(Index index, std::vector<ReadDone>&& reads) override {
    if (replica_.applied() >= index) {
      for (ReadDone& done : reads) done(index);
      return;
    }
    for (ReadDone& done : reads)
      replica_.apply_inbox_.post(ApplyInput(AppliedWait{index, SteadyTime::max(), std::move(done)}));
  }

  void fetch(const raft::FetchRequest& request) override { replica_.fetch_inbox_.post(raft::FetchRequest(request)); }

  void membership(const MembershipRecord& record, const raft::ConfState& conf, Index) override {
    replica_.view_stale_ = true;
    replica_.events_.membership_changed(record, conf);
  }

  void role(const raft::Status& status) override {
    const bool leads = status.role == raft::Role::Leader;
    if (leads && !replica_.leader_.load(std::memory_order_relaxed))
      replica_.own_term_start_.store(status.last_index.value, std::memory_order_relaxed);
    if (!leads) replica_.serves_weak_.store(false, std::memory_order_release);
    replica_.leader_.store(leads, std::memory_order_release);
    replica_.leader_id_.store(status.leader.value, std::memory_order_release);
    replica_.view_stale_ = true;
    replica_.events_.role_changed(status);
  }

 private:
  // A new leader may replace the uncommitted tail that we had at start: then less is to be caught up with.
  void follow_truncation(const std::vector<raft::Entry>& entries) {
    if (entries.empty()) return;
    const std::uint64_t before = entries.front().index.value - 1;
    if (before < replica_.start_target_.load(std::memory_order_relaxed)) replica_.start_target_.store(before, std::memory_order_release);
  }

  Replica& replica_;
};

Replica::Replica(const Options& options, Clock& clock, Rng& rng, raft::StateMachine& machine, Events& events)
    : options_(options), clock_(clock), machine_(machine), events_(events), shell_(std::make_unique<Shell>(*this)) {
  raft::Options engine_options{.id = options.self,
                               .election_ticks = options.timing.election_ticks,
                               .retry_ticks = options.timing.retry_ticks,
                               .heartbeat_ticks = options.timing.heartbeat_ticks,
                               .seed = rng.next()};
  const auto make_engine = [engine_options] { return raft::make_raft_engine(engine_options); };
  driver_ = std::make_unique<Driver>(make_engine, options.self, options.timing, options.limits,
                                     clock, rng, *shell_);
}

Replica::~Replica() { stop(); }

Result<std::unique_ptr<Replica>> Replica::open(const Options& options, io::Disk& disk, Clock& clock, Rng& rng,
                                               raft::StateMachine& machine, Events& events) {
  std::unique_ptr<Replica> replica(new Replica(options, clock, rng, machine, events));
  RQ_TRY(wal::Log::Opened opened, wal::Log::open(disk, options.log_dir, {}));
  replica->log_ = std::move(opened.log);
  replica->start_.self = options.self;
  replica->start_.log = std::move(opened.recovered);
  replica->has_state_ = replica->start_.log.snapshot.index.value != 0;
  if (replica->has_state_) {
    RQ_TRY(replica->start_.record, decode_membership_record(replica->start_.log.membership.members));
  }
  if (replica->has_state_) RQ_CHECK(replica->finish_staged_snapshot(disk));
  if (machine.applied_index() > std::max(replica->start_.log.last, replica->start_.log.snapshot.index) && replica->has_state_)
    return fail(Errc::Corrupt, "the database has applied index " + std::to_string(machine.applied_index().value) +
                                   ", but the log ends at " + std::to_string(replica->start_.log.last.value));
  return replica;
}

Result<> Replica::bootstrap(MembershipRecord record, raft::ConfState conf) {
  if (!threads_.empty()) {
    std::promise<Result<>> promise;
    auto future = promise.get_future();
    const bool posted = raft_inbox_.post(
        Work([&](Driver& driver) { promise.set_value(driver.bootstrap(std::move(record), std::move(conf))); }));
    if (!posted) return fail(Errc::NotOpen);
    RQ_CHECK(future.get());
    has_state_ = true;
    return {};
  }
  RQ_CHECK(driver_->bootstrap(record, conf));
  start_.record = std::move(record);
  start_.record.base_conf = conf;
  start_.record.base_members = start_.record.members;
  start_.log.snapshot = {Index{1}, Term{1}};
  start_.log.hard_state = {.term = Term{1}, .commit = Index{1}};
  start_.log.membership = {Index{1}, std::move(conf), encode(start_.record)};
  start_.log.first = Index{2};
  start_.log.last = Index{1};
  start_.log.last_term = Term{1};
  has_state_ = true;
  return {};
}

Result<> Replica::start() {
  applied_.store(machine_.applied_index().value);
  DriverStart stored = std::exchange(start_, {});
  RQ_TRY(DriverStart start, prepare_start(options_.self, std::move(stored.log), std::move(stored.record), machine_.applied_index(), *log_));
  start_target_.store(has_state_ ? start.log.last.value : 0);
  const Index replay_from = machine_.applied_index().next();
  handed_over_.store(start.handed_over.value);
  if (has_state_ && replay_from < start.log.first) wants_state_.store(true);
  if (has_state_ && replay_from <= start.handed_over) apply_inbox_.post(ApplyInput(ReplayRange{replay_from, start.handed_over}));
  commit_.store(start.log.hard_state.commit.value);
  threads_.emplace_back([this] { run_wal(); });
  threads_.emplace_back([this] { run_fetch(); });
  threads_.emplace_back([this] { run_apply(); });
  RQ_CHECK(driver_->start(std::move(start)));
  publish();
  threads_.emplace_back([this] { run_raft(); });
  return {};
}

void Replica::stop() {
  if (std::exchange(stopped_, true)) return;
  stopping_.store(true);
  raft_inbox_.close();
  fetch_inbox_.close();
  if (threads_.size() == 4) threads_[3].join();      // the raft thread may wait for the wal thread: it goes first
  wal_inbox_.close();
  apply_inbox_.close();
  for (std::thread& thread : threads_)
    if (thread.joinable()) thread.join();
}

// ---- raft thread

void Replica::run_raft() {
  name_this_thread("raft");
  std::vector<RaftInput> inputs;
  driver_->run(clock_.now());
  publish();
  while (raft_inbox_.take(inputs, driver_->next_deadline())) {
    for (RaftInput& input : inputs) handle(input);
    driver_->run(clock_.now());
    publish();
  }
  driver_->fail_all({Errc::Closed, "node is stopping"});
}

void Replica::handle(RaftInput& input) {
  std::visit(Overloaded{
                 [&](Proposal& proposal) { driver_->propose(std::move(proposal)); },
                 [&](std::vector<raft::Message>& messages) { driver_->step(std::move(messages)); },
                 [&](Persisted& done) { driver_->persisted(done.engine, done.ready); },
                 [&](Read& read) { driver_->read_index(std::move(read.done), read.deadline); },
                 [&](Work& work) { work(*driver_); },
                 [&](Fetched& fetched) { driver_->fetched(fetched.peer, std::move(fetched.entries)); },
                 [&](Restored& restored) { driver_->restored(restored.index); },
                 [&](DiskFull& disk) { driver_->disk_full(disk.full); },
                 [&](WalFailed& failed) { driver_->log_failed(failed.error); },
             },
             input);
}

void Replica::publish() {
  const raft::RaftEngine& engine = driver_->engine();
  commit_.store(engine.commit().value, std::memory_order_release);
  if (const auto contact = driver_->last_leader_contact()) leader_contact_.store(contact->time_since_epoch().count(), std::memory_order_release);
  log_needed_.store(driver_->log_needed().value, std::memory_order_release);
  if (leader_.load(std::memory_order_relaxed) && !serves_weak_.load(std::memory_order_relaxed) &&
      applied_.load(std::memory_order_acquire) >= own_term_start_.load(std::memory_order_relaxed))
    serves_weak_.store(true, std::memory_order_release);
  const SteadyTime now = clock_.now();
  if (!view_stale_ && !driver_->broken() && now - viewed_at_ < kViewAge) return;
  view_stale_ = false;
  viewed_at_ = now;
  View fresh;
  const raft::Status status = driver_->status();
  fresh = View{.role = status.role, .leader = status.leader, .term = status.term, .commit = status.commit,
               .last_index = status.last_index, .conf_index = driver_->conf_index(), .last_term = status.last_term,
               .own_term_committed = status.own_term_committed, .conf = driver_->conf(), .record = driver_->record(),
               .peers = status.peers, .broken = driver_->broken(),
               .led_since = driver_->led_since(), .queued_bytes = driver_->queued_bytes(), .contacts = driver_->contacts()};
  const std::lock_guard lock(mutex_);
  view_ = std::move(fresh);
}

std::optional<SteadyTime> Replica::leader_contact() const {
  const SteadyTime::rep at = leader_contact_.load(std::memory_order_acquire);
  return at == 0 ? std::nullopt : std::optional(SteadyTime(SteadyTime::duration(at)));
}

View Replica::view() const {
  const std::lock_guard lock(mutex_);
  return view_;
}

void Replica::fresh_view(std::function<void(const View&)> done) {
  auto shared = std::make_shared<std::function<void(const View&)>>(std::move(done));
  const bool posted = raft_inbox_.post(Work([this, shared](Driver&) {
    view_stale_ = true;
    publish();
    (*shared)(view());
  }));
  if (!posted) (*shared)(view());
}

// ---- inputs

void Replica::propose(Proposal&& proposal) {
  // Apply is stopped (disk full, I/O): a write could be logged, but not answered. It is refused before it has any effect.
  if (apply_stopped_.load(std::memory_order_acquire)) {
    if (const std::optional<Error> why = apply_error(); why && proposal.waiter) return proposal.waiter->failed(*why);
  }
  RaftInput input(std::move(proposal));
  if (raft_inbox_.post(std::move(input))) return;
  auto& refused = std::get<Proposal>(input);
  if (refused.waiter) refused.waiter->failed({Errc::NotOpen, {}});
}

void Replica::read_index(ReadDone done, SteadyTime deadline) {
  RaftInput input(Read{std::move(done), deadline});
  if (!raft_inbox_.post(std::move(input))) std::get<Read>(input).done(fail(Errc::NotOpen));
}

void Replica::wait_applied(Index index, SteadyTime deadline, ReadDone done) {
  if (applied() >= index) return done(index);
  ApplyInput input(AppliedWait{index, deadline, std::move(done)});
  if (!apply_inbox_.post(std::move(input))) std::get<AppliedWait>(input).done(fail(Errc::NotOpen));
}

void Replica::step(std::vector<raft::Message>&& messages) { raft_inbox_.post(RaftInput(std::move(messages))); }
void Replica::peer_dead(RaftId peer) { raft_inbox_.post(Work([peer](Driver& driver) { driver.peer_dead(peer); })); }
void Replica::unreachable(RaftId peer) { raft_inbox_.post(Work([peer](Driver& driver) { driver.unreachable(peer); })); }
void Replica::on_apply_thread(std::function<void()> work) { apply_inbox_.post(ApplyInput(std::move(work))); }
void Replica::snapshot_used(std::uint64_t id) { raft_inbox_.post(Work([id](Driver& driver) { driver.snapshot_used(id); })); }

void Replica::hold_state(std::function<void(Result<raft::MachineSnapshot>)> done) {
  auto shared = std::make_shared<std::function<void(Result<raft::MachineSnapshot>)>>(std::move(done));
  ApplyInput input(std::function<void()>([this, shared] {
    if (wants_state()) return (*shared)(fail(Errc::NotOpen, "this member waits for a state itself"));
    (*shared)(machine_.snapshot());
  }));
  if (!apply_inbox_.post(std::move(input))) (*shared)(fail(Errc::NotOpen));
}

void Replica::join(Member joiner, SteadyTime deadline, ConfDone done) {
  auto shared = std::make_shared<ConfDone>(std::move(done));
  const bool posted = raft_inbox_.post(
      Work([joiner = std::move(joiner), deadline, shared](Driver& driver) { driver.join(joiner, deadline, std::move(*shared)); }));
  if (!posted) (*shared)(fail(Errc::NotOpen));
}

void Replica::remove(std::string node_id, SteadyTime deadline, ConfDone done) {
  auto shared = std::make_shared<ConfDone>(std::move(done));
  const bool posted = raft_inbox_.post(
      Work([id = std::move(node_id), deadline, shared](Driver& driver) { driver.remove(id, deadline, std::move(*shared)); }));
  if (!posted) (*shared)(fail(Errc::NotOpen));
}

void Replica::transfer(RaftId to, SteadyTime deadline, ConfDone done) {
  auto shared = std::make_shared<ConfDone>(std::move(done));
  const bool posted =
      raft_inbox_.post(Work([to, deadline, shared](Driver& driver) { driver.transfer(to, deadline, std::move(*shared)); }));
  if (!posted) (*shared)(fail(Errc::NotOpen));
}

void Replica::shut_down(Error why) {
  raft_inbox_.post(Work([why = std::move(why)](Driver& driver) { driver.log_failed(why); }));
}

// ---- wal thread

void Replica::run_wal() {
  name_this_thread("wal");
  std::vector<WalInput> inputs;
  while (wal_inbox_.take(inputs)) {
    if (!write_out(inputs)) break;
  }
  // Broken or closed: whoever still waits is told.
  while (wal_inbox_.take(inputs))
    for (WalInput& input : inputs)
      if (input.done) input.done(fail(Errc::Io, "log stopped"));
}

Result<> Replica::append(PersistItem& item) {
  return log_->append({.snapshot = item.snapshot, .entries = item.entries, .hard_state = item.hard_state,
                       .membership = item.membership});
}

// False: the log is broken for good (failed sync, I/O error): never retried, the process stays up and says so.
bool Replica::write_out(std::vector<WalInput>& inputs) {
  bool sync = false;
  bool full = false;
  Result<> result;
  const SteadyTime begun = clock_.now();
  for (WalInput& input : inputs) {
    result = append(input.item);
    while (!result && result.error().code == Errc::NoSpace && !stopping_.load()) {
      if (!std::exchange(full, true)) {
        log::error("store", "disk full, writes are refused until there is space: " + result.error().detail);
        raft_inbox_.post(RaftInput(DiskFull{true}));
      }
      std::this_thread::sleep_for(kRetryPause);
      result = append(input.item);
    }
    if (!result) break;
    sync |= input.item.must_sync;
  }
  if (full && result) {
    log::info("store", "disk has space again, writes are taken");
    raft_inbox_.post(RaftInput(DiskFull{false}));
  }
  const SteadyTime written = clock_.now();
  driver_->stats().append.record(written - begun);
  if (result && sync) {
    result = log_->sync();
    driver_->stats().fsync.record(clock_.now() - written);
  }
  Persisted newest;
  for (WalInput& input : inputs) {
    if (input.item.ready_number != 0) newest = {input.item.engine, input.item.ready_number};
    if (input.done) input.done(result);
  }
  if (!result) {
    log::error("store", "raft log stopped, restart the node: " + result.error().text());
    raft_inbox_.post(RaftInput(WalFailed{result.error()}));
    return false;
  }
  if (newest.ready != 0) raft_inbox_.post(RaftInput(newest));
  return true;
}

// ---- fetch thread

void Replica::run_fetch() {
  name_this_thread("fetch");
  std::vector<raft::FetchRequest> requests;
  while (fetch_inbox_.take(requests))
    for (const raft::FetchRequest& request : requests) {
      Result<std::vector<raft::Entry>> entries = log_->read(request.first, request.last, kReadChunkBytes);
      if (!entries) log::warn("store", "could not read old log entries for a peer: " + entries.error().text());
      raft_inbox_.post(RaftInput(Fetched{request.peer, entries ? *std::move(entries) : std::vector<raft::Entry>{}}));
    }
}

// ---- apply thread

void Replica::run_apply() {
  name_this_thread("apply");
  std::vector<ApplyInput> inputs;
  if (wants_state()) wait_for_state(log_->first());
  while (true) {
    const bool open = applied_waits_.empty() ? apply_inbox_.take(inputs)
                                             : apply_inbox_.take(inputs, clock_.now() + std::chrono::milliseconds(50));
    if (!open) break;
    for (ApplyInput& input : inputs) {
      if (stopping_.load(std::memory_order_relaxed)) break;
      std::visit(Overloaded{
                     [&](ApplyItem& item) { apply_item(item); },
                     [&](ReplayRange& range) { apply_range(range); },
                     [&](AppliedWait& wait) { applied_waits_.push_back(std::move(wait)); },
                     [&](raft::SnapshotDescriptor& descriptor) { restore_snapshot(descriptor); },
                     [&](std::function<void()>& work) { work(); },
                 },
                 input);
      if (!applied_waits_.empty()) release_waits(false);
    }
    if (stopping_.load(std::memory_order_relaxed)) {
      for (ApplyInput& input : inputs) {
        if (auto* item = std::get_if<ApplyItem>(&input))
          for (const auto& waiter : item->waiters)
            if (waiter) waiter->failed({Errc::LeadershipLost, {}});
        if (auto* wait = std::get_if<AppliedWait>(&input))
          if (wait->done) wait->done(fail(Errc::NotOpen));
      }
      continue;
    }
    if (inputs.empty()) {                          // the time of those who wait goes by without entries too
      release_waits(false);
      continue;
    }
    if (apply_inbox_.size() == 0) machine_.idle();
  }
  release_waits(true);
}

void Replica::apply_item(ApplyItem& item) {
  const std::size_t bytes = item.entry.payload ? item.entry.payload->size() : 0;
  apply_pending_.fetch_sub(1, std::memory_order_relaxed);
  if (item.entry.index <= applied() || covered(item.entry.index)) {   // by a state that is adopted: nothing is applied twice
    for (const auto& waiter : item.waiters)
      if (waiter) waiter->failed({Errc::LeadershipLost, {}});
  } else if (item.entry.payload == nullptr) {
    apply_range({item.entry.index, item.entry.index});
  } else {
    apply_entry(item.entry, item.waiters);
    item.waiters.clear();
  }
  if (item.entry.payload) apply_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
}

void Replica::apply_range(ReplayRange range) {
  for (Index next = std::max(range.first, applied().next()); next <= range.last && !covered(next) && !stopping_.load();) {
    Result<std::vector<raft::Entry>> entries = log_->read(next, range.last, kReadChunkBytes);
    if (!entries && log_->first() > next) {          // cut meanwhile: only a snapshot brings us on
      wait_for_state(log_->first());
      next = std::max(next, applied().next());
      continue;
    }
    if (!entries) {
      log::error("store", "could not read the log to apply it: " + entries.error().text());
      std::this_thread::sleep_for(kRetryPause);
      continue;
    }
    for (const raft::Entry& entry : *entries) {
      if (entry.index > applied() && !covered(entry.index)) apply_entry(entry, {});
      if (stopping_.load(std::memory_order_relaxed)) return;
    }
    next = std::max(entries->back().index, applied()).next();
    release_waits(false);
  }
}

// Applies, and on failure (disk full, I/O, poison) tries again until it works or the node stops: an entry is never
// passed over, and what a failed try did is undone by the state machine. A state of another member may take its place.
void Replica::apply_entry(const raft::Entry& entry, std::span<const std::shared_ptr<raft::Waiter>> waiters) {
  bool stalled = false;
  while (!stopping_.load(std::memory_order_relaxed) && !covered(entry.index)) {
    const Result<> result = try_apply(entry, waiters);
    if (result) {
      if (stalled) unstall(entry.index);
      return set_applied(entry.index, entry.term);
    }
    stalled = stall(stalled, entry.index, result.error());
    // The fate of these requests is known to the log, not to their clients: they are told what stopped us.
    for (const auto& waiter : waiters)
      if (waiter) waiter->failed(result.error());
    waiters = {};
    release_waits(false);
    if (result.error().code == Errc::Corrupt && shown_ahead(entry.index)) continue;
    // Damage of this member's state alone: others are further on.
    if (result.error().code == Errc::NotFound || result.error().code == Errc::Corrupt) events_.state_wanted(entry.index);
    for (int i = 0; i < 10 && !stopping_.load(); ++i) {
      if (take_adoption() && applied() >= entry.index) return unstall(entry.index);
      std::this_thread::sleep_for(kRetryPause / 10);
    }
  }
  for (const auto& waiter : waiters)
    if (waiter) waiter->failed({Errc::LeadershipLost, {}});
  if (stalled && covered(entry.index)) unstall(entry.index);   // else the node stops, and nothing goes on
}

bool Replica::stall(bool already, Index index, const Error& error) {
  if (already) return true;
  log::error("store", "apply stopped, index=" + std::to_string(index.value) + ": " + error.text());
  raft_inbox_.post(Work([](Driver& driver) { driver.apply_stalled(true); }));
  const std::lock_guard lock(mutex_);
  apply_error_ = error;
  apply_stopped_.store(true, std::memory_order_release);
  return true;
}

void Replica::unstall(Index index) {
  log::info("store", "apply goes on, index=" + std::to_string(index.value));
  raft_inbox_.post(Work([](Driver& driver) { driver.apply_stalled(false); }));
  apply_stopped_.store(false, std::memory_order_release);
  const std::lock_guard lock(mutex_);
  apply_error_.reset();
}

// Whether a later committed entry says what to do with the one that can't be applied.
bool Replica::shown_ahead(Index stuck) {
  const Index end{handed_over_.load(std::memory_order_acquire)};
  for (Index next = std::max(stuck.next(), shown_to_.next()); next <= end && !stopping_.load(std::memory_order_relaxed);) {
    const Result<std::vector<raft::Entry>> entries = log_->read(next, end, kReadChunkBytes);
    if (!entries || entries->empty()) return false;
    for (const raft::Entry& entry : *entries) {
      shown_to_ = entry.index;
      if (entry.type != raft::EntryType::Normal || entry.payload->empty()) continue;
      const Result<GroupView> view = read_group(*entry.payload);
      if (view && machine_.look_ahead({.index = entry.index, .term = entry.term, .proposals = view->proposals}, stuck)) return true;
    }
    next = entries->back().index.next();
  }
  return false;
}

// ---- snapshots and states of other members

std::string Replica::staged_image(Index index) const { return options_.staging_dir + "/" + staged_image_name(index); }

Result<> Replica::write_staged_note(io::Disk& disk, const std::string& image, const raft::SnapshotDescriptor& descriptor) {
  return io::write_file_atomically(disk, staged_note(image), encode_note(descriptor));
}

Result<raft::SnapshotDescriptor> Replica::read_staged_note(io::Disk& disk, const std::string& image) {
  RQ_TRY(const std::string bytes, io::read_file(disk, staged_note(image), kNoteBytesMax));
  return decode_note(bytes);
}

// The log stands at a snapshot that the machine did not take before the process ended: it lies in the staging folder.
Result<> Replica::finish_staged_snapshot(io::Disk& disk) {
  const Index at = start_.log.snapshot.index;
  if (machine_.applied_index() >= at) return {};
  const std::string image = staged_image(at);
  RQ_TRY(const bool there, disk.exists(image));
  if (!there) return {};
  RQ_TRY(const raft::SnapshotDescriptor descriptor, read_staged_note(disk, image));
  RQ_TRY(const SnapshotData data, decode_snapshot_data(descriptor));
  log::info("store", "finishing the installation of a snapshot, index=" + std::to_string(at.value));
  return machine_.restore(data.machine, image);
}

void Replica::restore_snapshot(const raft::SnapshotDescriptor& descriptor) {
  bool stalled = false;
  while (!stopping_.load(std::memory_order_relaxed) && applied() < descriptor.index) {
    const Result<> result = [&]() -> Result<> {
      // A new directory stands at the bootstrap already: there is nothing to replace.
      if (machine_.applied_index() == descriptor.index) return {};
      RQ_TRY(const SnapshotData data, decode_snapshot_data(descriptor));
      return machine_.restore(data.machine, data.machine.id == 0 ? std::string() : staged_image(descriptor.index));
    }();
    if (result) {
      set_applied(descriptor.index, descriptor.term);
      break;
    }
    stalled = stall(stalled, descriptor.index, result.error());
    if (result.error().code == Errc::NotFound) events_.state_wanted(descriptor.index);
    if (!take_adoption()) std::this_thread::sleep_for(kRetryPause);
  }
  if (stopping_.load(std::memory_order_relaxed)) return;
  if (stalled || apply_stopped_.load(std::memory_order_relaxed)) unstall(descriptor.index);
  wants_state_.store(false, std::memory_order_release);
  raft_inbox_.post(RaftInput(Restored{descriptor.index}));
}

void Replica::adopt_state(raft::MachineSnapshot snapshot, std::string image) {
  const std::lock_guard lock(mutex_);
  adoption_ = Adoption{std::move(snapshot), std::move(image)};
}

// True: the machine stands at a state of another member now.
bool Replica::take_adoption() {
  std::optional<Adoption> adoption;
  {
    const std::lock_guard lock(mutex_);
    if (!adoption_) return false;
    if (adoption_->snapshot.index.value > handed_over_.load(std::memory_order_acquire)) return false;   // our log isn't there yet
    adoption = std::exchange(adoption_, std::nullopt);
  }
  const bool forward = adoption->snapshot.index > applied() || (wants_state() && adoption->snapshot.index >= applied());
  if (!forward) return false;
  if (const Result<> restored = machine_.restore(adoption->snapshot, adoption->image); !restored) {
    log::error("store", "the state of another member could not be installed: " + restored.error().text());
    return false;
  }
  log::info("store", "installed the state of another member, index=" + std::to_string(adoption->snapshot.index.value));
  set_applied(adoption->snapshot.index, adoption->snapshot.term);
  return true;
}

// Nothing is applied until the machine has a state from which the log goes on.
void Replica::wait_for_state(Index at_least) {
  wants_state_.store(true, std::memory_order_release);
  const bool stalled = stall(false, at_least, {Errc::NotFound, "the state must come from another member"});
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (take_adoption() && applied().next() >= at_least) break;
    // A snapshot of the leader has come meanwhile: its restoration waits behind us.
    if (restore_index_.load(std::memory_order_acquire) > applied().value) return;
    events_.state_wanted(at_least);
    release_waits(false);
    for (int i = 0; i < 10 && !stopping_.load(); ++i) std::this_thread::sleep_for(kRetryPause / 10);
  }
  wants_state_.store(false, std::memory_order_release);
  if (stalled) unstall(applied());
}

void Replica::reinstall(std::string why) {
  on_apply_thread([this, why = std::move(why)] {
    log::error("store", "giving up the state of this member, it comes from another: " + why);
    wait_for_state(applied());
  });
}

Result<Index> Replica::cut_log(Index durable, std::uint64_t trailing, std::uint64_t bytes_max) {
  const Index needed = std::min(durable.next(), Index{log_needed_.load(std::memory_order_acquire)});
  const Index kept{needed.value > trailing ? std::max<std::uint64_t>(needed.value - trailing, 1) : 1};
  RQ_CHECK(log_->compact(kept, needed, bytes_max));
  const Index first = log_->first();
  RQ_TRY(const Term term, log_->term_of(Index{first.value - 1}));
  raft_inbox_.post(Work([first, term](Driver& driver) { driver.compacted(first, term); }));
  return first;
}

Result<> Replica::try_apply(const raft::Entry& entry, std::span<const std::shared_ptr<raft::Waiter>> waiters) {
  if (entry.type == raft::EntryType::ConfChange || entry.payload->empty()) return machine_.skip(entry.index, entry.term);
  RQ_TRY(const GroupView view, read_group(*entry.payload));
  RQ_ASSERT(waiters.empty() || waiters.size() == view.proposals.size());
  const SteadyTime begun = clock_.now();
  const Result<> result = machine_.apply({.index = entry.index, .term = entry.term, .wall_ms = view.wall_ms, .seed = view.seed,
                                          .proposals = view.proposals, .waiters = waiters});
  const auto took = clock_.now() - begun;
  driver_->stats().apply.record(took);
  driver_->stats().last_apply_us.set(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
  driver_->stats().entries_applied.add();
  return result;
}

void Replica::set_applied(Index index, Term term) {
  RQ_ASSERT(index.value >= applied_.load(std::memory_order_relaxed));
  applied_term_.store(term.value, std::memory_order_relaxed);
  applied_.store(index.value, std::memory_order_release);
  if (leader_.load(std::memory_order_acquire) && !serves_weak_.load(std::memory_order_relaxed))
    raft_inbox_.post(Work([](Driver&) {}));      // publish() looks whether weak reads may be served now
}

void Replica::release_waits(bool all) {
  if (applied_waits_.empty()) return;
  const SteadyTime now = clock_.now();
  std::vector<AppliedWait> due;
  std::erase_if(applied_waits_, [&](AppliedWait& wait) {
    const bool over = all || wait.index <= applied() || now >= wait.deadline;
    if (over) due.push_back(std::move(wait));
    return over;
  });
  for (AppliedWait& wait : due) {
    if (wait.index <= applied()) wait.done(wait.index);
    else if (all) wait.done(fail(Errc::NotOpen));
    else wait.done(fail(Errc::Timeout, "timeout"));
  }
}

std::optional<Error> Replica::apply_error() const {
  const std::lock_guard lock(mutex_);
  return apply_error_;
}

}  // namespace rq::replica
