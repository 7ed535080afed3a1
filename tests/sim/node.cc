#include "sim/node.h"

#include <algorithm>
#include <cmath>

#include "replica/group.h"
#include "sql/image_reader.h"
#include "store/quarantine.h"
#include "transport/codec.h"

namespace rq::sim {
namespace {

const std::string kDir = "/data", kLogDir = "/data/raft";
constexpr Instant kRetry = milliseconds(200);
constexpr Instant kHelloPause = milliseconds(500);
constexpr std::uint64_t kCompareEvery = 16;    // indexes between two comparisons of whole databases

// Listens on every node, so that results are compared; passes on to whoever really waits.
class Listener final : public executor::SqlWaiter {
 public:
  explicit Listener(std::shared_ptr<executor::SqlWaiter> real) : real_(std::move(real)) {}
  void applied(command::Outcome&& outcome) override {
    hash = hash_of(outcome.error, hash_of(outcome.results));
    if (real_) real_->applied(std::move(outcome));
  }
  void failed(const Error& error) override {
    hash = hash_of(error.text());
    if (real_) real_->failed(error);
  }
  std::uint64_t hash = 0;

 private:
  const std::shared_ptr<executor::SqlWaiter> real_;
};

pb::Request content_request() {
  pb::Request request;
  request.set_kind(pb::Request::QUERY);
  for (const char* sql : {"SELECT * FROM sqlite_schema ORDER BY name", "SELECT * FROM reg ORDER BY k", "SELECT * FROM list ORDER BY k", "SELECT * FROM bank ORDER BY id",
                          "SELECT * FROM t ORDER BY id", "SELECT * FROM r ORDER BY id", "SELECT * FROM k ORDER BY k", "SELECT * FROM log ORDER BY id"})
    request.add_statements()->set_sql(sql);
  return request;
}

}  // namespace

// ---- what nodes share

Node* Shared::at_address(const std::string& address) {
  for (const auto& node : nodes)
    if (node->member().raft_addr == address) return node.get();
  return nullptr;
}

Node* Shared::leader() {
  Node* newest = nullptr;
  for (const auto& node : nodes)
    if (node->leads() && (newest == nullptr || node->driver().engine().term() > newest->driver().engine().term())) newest = node.get();
  return newest;
}

Instant NodeClock::instant_of(SteadyTime time) const {
  const double wanted = static_cast<double>((time.time_since_epoch() - std::chrono::hours(1)).count());
  const double left = wanted - local();
  return world_.now() + Instant(std::max<std::int64_t>(0, static_cast<std::int64_t>(std::ceil(left / rate_))));
}

// ---- life

Node::Node(Shared& shared, unsigned slot, std::string node_id, bool read_replica)
    : shared_(shared), world_(shared.world), slot_(slot), node_id_(std::move(node_id)), read_replica_(read_replica),
      own_(shared.settings.of_node(shared.world.seed, slot)), clock_(shared.world) {
  wipe();
}

Node::~Node() {
  if (up()) kill(test::MemoryDisk::Loss::All, false);
}

replica::Member Node::member() const {
  return {.raft_id = raft_id_, .node_id = node_id_, .raft_addr = "host" + std::to_string(slot_) + ":" + std::to_string(4002 + moves_), .read_replica = read_replica_};
}

void Node::wipe() {
  disk_ = std::make_unique<test::MemoryDisk>();
  seen_disk_ = std::make_unique<MutantDisk>(*disk_, shared_.mutant);
  seen_disk_->on_replaced = [this](const std::string& path) {
    if (vfs_) vfs_->replaced(path);
  };
  (void)disk_->make_dirs(kLogDir);
  (void)disk_->sync_dir("/");
  if (!raft_id_ || !shared_.is(Mutant::OldIdOnWipedDisk)) raft_id_ = RaftId{++shared_.raft_ids * 1000 + slot_};
  synced_ = {};
  unsynced_.clear();
  unsynced_lost_ = false;
  rotten = faulty_disk = false;
  rotten_since_.reset();
  judged_from_ = {};
  copy_of_ = {};
  rotten_images_.clear();
}

void Node::move() { ++moves_; }

Node::Boot Node::boot() {
  ++life_;
  apply_error_.reset();
  log_broken_ = wal_busy_ = wal_full_ = apply_busy_ = false;
  frozen_until_ = Instant{0};
  const auto refused = [&](const Error& error) {
    const bool expected = rotten || rotten_database() || faulty_disk || error.code == Errc::NoSpace;
    world_.note(node_id_ + " does not start: " + error.text());
    if (!expected) world_.violated(node_id_ + " does not start: " + error.text());
    kill(test::MemoryDisk::Loss::None, false);
    return Boot::Refused;
  };
  vfs_ = std::make_unique<test::DiskVfs>(*seen_disk_);
  if (shared_.is(Mutant::ForgetAttempts)) (void)disk_->remove(kDir + "/apply.attempt");
  executor::Options options;
  options.disk = seen_disk_.get();
  options.clock = &clock_;
  options.dir = kDir;
  options.base_vfs = vfs_->name();
  options.cache_kib = 1024;
  options.checkpoint_inline = true;
  options.wal_bytes_soft = own_.wal_bytes_soft;
  options.wal_bytes_hard = own_.wal_bytes_hard;
  options.before_exchange = [this] { reader_.reset(); };
  options.after_exchange = [this] { (void)open_reader(); };
  options.on_scrub = [this](Index index) { scrub(index); };
  options.on_strong_reads = [this](Index, std::span<executor::StrongRead> reads) { strong_reads(reads); };
  auto executor = executor::Executor::open(options);
  if (!executor) return refused(executor.error());
  executor_ = *std::move(executor);
  if (const Result<> opened = open_reader(); !opened) return refused(opened.error());

  auto opened = wal::Log::open(*seen_disk_, kLogDir, {.segment_bytes_first = own_.segment_bytes_first, .segment_bytes_max = own_.segment_bytes_max});
  if (!opened) return refused(opened.error());
  log_ = std::move(opened->log);
  wal::Recovered& recovered = opened->recovered;
  if (shared_.is(Mutant::DropLastEntryAtStart) && recovered.last > recovered.first && (recovered.conf_entries.empty() || recovered.conf_entries.back() < recovered.last)) {
    recovered.last = Index{recovered.last.value - 1};
    if (recovered.term_starts.back().first > recovered.last) recovered.term_starts.pop_back();
    recovered.hard_state.commit = std::min(recovered.hard_state.commit, recovered.last);
  }
  std::vector<raft::Entry> entries;
  for (Index next = recovered.first; next <= recovered.last && recovered.snapshot.index;) {
    auto read = log_->read(next, recovered.last, 1 << 20);
    if (!read) return refused(read.error());
    next = read->back().index.next();
    std::ranges::move(*read, std::back_inserter(entries));
  }
  check_recovered(recovered, entries);
  log_terms_.clear();
  log_base_ = recovered.snapshot.index;
  log_base_term_ = recovered.snapshot.term;
  for (const raft::Entry& entry : entries) log_terms_[entry.index.value] = entry.term.value;

  if (const Result<> finished = finish_staged_snapshot(recovered.snapshot.index); !finished) return refused(finished.error());
  replica::MembershipRecord record;
  const bool has_state = recovered.snapshot.index.value != 0;
  if (has_state) {
    auto decoded = replica::decode_membership_record(recovered.membership.members);
    if (!decoded) return refused(decoded.error());
    record = *std::move(decoded);
  }
  const Index applied = executor_->applied_index();
  if (has_state && applied > std::max(recovered.last, recovered.snapshot.index)) return refused({Errc::Corrupt, "the database is ahead of the log"});
  if (has_state && applied.next() < recovered.first) return refused({Errc::Corrupt, "the log begins behind what the database has"});
  auto start = replica::prepare_start(raft_id_, std::move(recovered), std::move(record), applied, *log_);
  if (!start) return refused(start.error());
  handed_over_ = start->handed_over;
  if (has_state && applied.next() <= start->handed_over) {
    apply_queue_.push_back(Replay{applied.next(), start->handed_over});
    begin_apply(own_.apply_delay);
  }
  raft::Options engine = own_.engine;
  engine.id = raft_id_;
  engine.election_ticks = shared_.settings.timing.election_ticks;
  engine.heartbeat_ticks = shared_.settings.timing.heartbeat_ticks;
  engine.seed = world_.rng().next();
  driver_rng_ = std::make_unique<test::SeededRng>(world_.rng().next());
  const Mutant mutant = shared_.mutant;
  driver_ = std::make_unique<replica::Driver>([engine, mutant] { return mutate(raft::make_raft_engine(engine), mutant, engine.id); }, raft_id_, shared_.settings.timing,
                                              own_.limits, clock_, *driver_rng_, *this);
  if (const auto started = driver_->start(*std::move(start)); !started) return refused(started.error());
  if (!has_state && shared_.founded && shared_.is(Mutant::BareConfStart)) {
    replica::MembershipRecord alone{.cluster_id = shared_.cluster_id};
    alone.members.put(member());
    found_cluster(alone, {.voters = {raft_id_}});
  }
  log_cut_at_ = applied;
  restore_index_ = Index{};
  if (const auto mark = store::read_quarantine_mark(*seen_disk_, kDir); mark && *mark) {
    quarantined_ = true;
    wait_for_state(applied);
  }
  mind_log();
  let_states_go();
  world_.note(node_id_ + " started, applied=" + std::to_string(applied.value));
  wake(world_.now());
  if (moves_ > 0) say_hello();
  return Boot::Started;
}

Result<> Node::open_reader() {
  RQ_TRY(reader_, sql::Reader::open({.path = kDir + "/db.sqlite", .vfs = vfs_->name(), .clock = &clock_, .mmap_bytes = 0}));
  return {};
}

// The log must give back what was synced, whatever the crash was.
void Node::check_recovered(const wal::Recovered& recovered, const std::vector<raft::Entry>& entries) {
  std::uint64_t overwritten = UINT64_MAX;      // what was written behind the last sync may have replaced a tail
  bool reset = false;
  for (const replica::PersistItem& item : unsynced_) {
    if (!item.entries.empty()) overwritten = std::min(overwritten, item.entries.front().index.value);
    reset |= item.snapshot.has_value();
  }
  const auto lost = [&](const std::string& what) { world_.violated(node_id_ + " lost what it had synced: " + what); };
  if (!reset) {
    for (const auto& [index, name] : synced_.entries) {
      if (index >= overwritten || index < recovered.first.value) continue;
      if (index > recovered.last.value) return lost("entry " + std::to_string(index));
      const raft::Entry& entry = entries[index - recovered.first.value];
      if (entry.term.value != name.first || hash_of(entry) != name.second) return lost("entry " + std::to_string(index) + " is another");
    }
    if (recovered.first.value > std::max<std::uint64_t>(synced_.snapshot.value + 1, 2) && own_.snapshot_entries == 0) return lost("the log's beginning");
    if (recovered.membership.index < synced_.membership) return lost("a membership");
  }
  const raft::HardState &now = recovered.hard_state, &then = synced_.hard_state;
  if (now.term < then.term) return lost("a term");
  if (now.term == then.term && then.vote && now.vote != then.vote) return lost("a vote");
  synced_ = {.snapshot = recovered.snapshot.index, .snapshot_term = recovered.snapshot.term, .hard_state = now, .membership = recovered.membership.index};
  for (const raft::Entry& entry : entries) synced_.entries[entry.index.value] = {entry.term.value, hash_of(entry)};
  unsynced_.clear();
  unsynced_lost_ = false;
}

void Node::kill(test::MemoryDisk::Loss loss, bool noticed) {
  ++life_;
  const bool noticed_lethal = executor_ && stuck_at_lethal();
  // From here on nothing reaches the disk, whatever destructors try.
  disk_->fail_call(1, Errc::Io, true);
  inbox_.clear();
  wake_at_ = Instant::max();
  wal_queue_.clear();
  wal_writing_.clear();
  apply_queue_.clear();
  reads_waiting_.clear();
  heard_at_.clear();
  install_.reset();
  state_.reset();
  adoption_.reset();
  asking_state_ = wants_state_ = quarantined_ = false;
  held_states_.clear();
  chains_.clear();
  scrubbed_ = {};
  passed_over_.clear();
  shown_to_ = {};
  images_held_ = 0;
  held_an_image_ = false;
  driver_.reset();
  reader_.reset();
  executor_.reset();
  vfs_.reset();
  log_.reset();
  disk_->heal();
  disk_->lose_power(world_.rng(), loss);
  // The kernel still has it all, unless an earlier crash took some of it and no start has looked at the log since.
  unsynced_lost_ |= loss != test::MemoryDisk::Loss::None;
  if (!unsynced_lost_) {
    for (const replica::PersistItem& item : unsynced_) put(synced_, item);
    unsynced_.clear();
  }
  extra_disk = extra_apply = Instant{0};
  faulty_disk = false;
  // The operator knows that a healthy entry is no poison.
  if (std::exchange(poisoned_, false) && !noticed_lethal) (void)disk_->remove(kDir + "/apply.attempt");
  if (!noticed) return;
  for (const auto& peer : shared_.nodes) {
    if (peer.get() == this || !peer->up()) continue;
    shared_.network.send(slot_, peer->slot(), [this, peer = peer.get(), id = raft_id_] {
      if (peer->up() && !up()) peer->input([peer, id] { peer->driver().peer_dead(id); });
    });
  }
}

void Node::guard(Instant delay, std::function<void()> work) {
  world_.after(delay, [this, life = life_, work = std::move(work)] {
    if (life == life_) work();
  });
}

bool Node::found_cluster(const replica::MembershipRecord& record, const raft::ConfState& conf) {
  const Result<> founded = driver_->bootstrap(record, conf);
  if (!founded) world_.violated("bootstrap failed: " + founded.error().text());
  wake(world_.now());
  return founded.has_value();
}

// ---- raft thread

void Node::input(std::function<void()> work) {
  inbox_.push_back(std::move(work));
  wake(world_.now() + Instant(20));
}

void Node::wake(Instant when) {
  when = std::max({when, frozen_until_, world_.now()});
  if (when >= wake_at_) return;
  wake_at_ = when;
  guard(when - world_.now(), [this, when] {
    if (wake_at_ != when) return;
    wake_at_ = Instant::max();
    if (world_.now() < frozen_until_) return wake(frozen_until_);
    run_raft();
  });
}

void Node::run_raft() {
  const auto inputs = std::exchange(inbox_, {});
  for (const auto& work : inputs) {
    work();
    if (!up()) return;
  }
  driver_->run(clock_.now());
  if (driver_->broken() && !faulty_disk) return world_.violated(node_id_ + " broke: " + driver_->broken()->text());
  wake(std::max(clock_.instant_of(driver_->next_deadline()), world_.now() + Instant(1)));
}

void Node::watch(const raft::Message& message) {
  if (message.type == raft::MessageType::RequestVote) shared_.found(shared_.checks.votes(message.from, message.term, message.from));
  if (message.type == raft::MessageType::RequestVoteResponse && !message.reject) shared_.found(shared_.checks.votes(message.from, message.term, message.to));
}

void Node::send(std::vector<raft::Message>&& messages) {
  for (raft::Message& message : messages) {
    watch(message);
    Node* target = shared_.at_address(address_of(message.to));
    if (target == nullptr || target->raft_id() != message.to) continue;
    world_.trace(static_cast<std::uint64_t>(message.type) << 56 ^ message.to.value << 40 ^ message.term.value << 20 ^ message.index.value);
    if (shared_.settings.wire_codec) {
      auto back = transport::decode_message(transport::encode(message));
      if (!back) return world_.violated("a message is not what it was: " + back.error().text());
      message = *std::move(back);
    }
    const RaftId to = message.to;
    auto parcel = std::make_shared<raft::Message>(std::move(message));
    shared_.network.send(slot_, target->slot(), [this, target, to, parcel, life = life_, from_address = member().raft_addr] {
      if (target->up() && target->raft_id() == to) {
        if (member().raft_addr == from_address) target->note_address(parcel->from, from_address);
        if (parcel->type == raft::MessageType::Snapshot) return target->receive_snapshot(raft::Message(*parcel));
        std::vector<raft::Message> one{*parcel};
        target->receive(std::move(one));
      } else if (life == life_ && up()) {
        input([this, to] { driver_->unreachable(to); });
      }
    });
  }
}

// The transport connects to all members it knows, and says first who it is and where: so a node that moved is found by
// those whose table is old, even when it has no message for them.
void Node::say_hello() {
  for (const replica::Member& peer : driver_->record().members.all()) {
    Node* target = shared_.at_address(address_of(peer.raft_id));
    const bool connected = target != nullptr && target != this && target->up() && target->raft_id() == peer.raft_id &&
                           shared_.network.reaches(slot_, target->slot()) && shared_.network.reaches(target->slot(), slot_);
    if (connected) target->note_address(raft_id_, member().raft_addr);
  }
  guard(kHelloPause, [this] { say_hello(); });
}

// As the transport does: the member table says where a peer is, unless the peer itself said otherwise since.
std::string Node::address_of(RaftId peer) const {
  const replica::Member* known = driver_->record().members.find(peer);
  const auto heard = heard_at_.find(peer);
  if (heard != heard_at_.end() && heard->second.table == (known ? known->raft_addr : "")) return heard->second.said;
  return known ? known->raft_addr : "";
}

void Node::note_address(RaftId peer, const std::string& said) {
  const replica::Member* known = driver_->record().members.find(peer);
  heard_at_[peer] = {said, known ? known->raft_addr : ""};
}

void Node::receive(std::vector<raft::Message>&& messages) {
  auto shared = std::make_shared<std::vector<raft::Message>>(std::move(messages));
  input([this, shared] { driver_->step(std::move(*shared)); });
}

void Node::role(const raft::Status& status) {
  world_.trace(status.term.value << 8 ^ static_cast<std::uint64_t>(status.role) << 4 ^ slot_);
  if (status.role != raft::Role::Leader) return;
  world_.note(node_id_ + " leads term " + std::to_string(status.term.value));
  shared_.found(shared_.checks.leads(raft_id_, status.term));
}

// ---- wal thread

Term Node::term_before(Index index, const Shadow&) const {
  if (index.value == log_base_.value + 1) return log_base_term_;
  const auto found = log_terms_.find(index.value - 1);
  return found == log_terms_.end() ? Term{} : Term{found->second};
}

void Node::put(Shadow& shadow, const replica::PersistItem& item) {
  if (item.snapshot) {
    shadow.entries.clear();
    shadow.snapshot = item.snapshot->index;
    shadow.snapshot_term = item.snapshot->term;
  }
  for (const raft::Entry& entry : item.entries) {
    shadow.entries.erase(shadow.entries.lower_bound(entry.index.value), shadow.entries.end());
    shadow.entries[entry.index.value] = {entry.term.value, hash_of(entry)};
  }
  if (item.hard_state) shadow.hard_state = *item.hard_state;
  if (item.membership) shadow.membership = item.membership->index;
}

Result<> Node::write(const replica::PersistItem& item) {
  std::vector<raft::Entry> entries = item.entries;
  std::optional<raft::HardState> hard_state = item.hard_state;
  std::optional<wal::Membership> membership = item.membership;
  if (shared_.is(Mutant::LoseVote) && hard_state) hard_state->vote = RaftId{};
  if (shared_.is(Mutant::LoseHardState) && !item.snapshot) hard_state.reset();
  if (shared_.is(Mutant::ConfNotStored) && !item.snapshot) membership.reset();
  if (shared_.is(Mutant::SnapshotWithoutMembership) && item.snapshot && item.snapshot->index.value > 1) membership.reset();
  if (shared_.is(Mutant::KeepOldTail)) std::erase_if(entries, [&](const raft::Entry& entry) { return entry.index <= log_->last(); });
  RQ_CHECK(log_->append({.snapshot = item.snapshot, .entries = entries, .hard_state = hard_state, .membership = membership}));
  unsynced_.push_back(item);
  if (item.snapshot) {
    log_terms_.clear();
    log_base_ = item.snapshot->index;
    log_base_term_ = item.snapshot->term;
  }
  for (const raft::Entry& entry : item.entries) {
    shared_.found(shared_.checks.logged(entry, term_before(entry.index, synced_)));
    log_terms_.erase(log_terms_.lower_bound(entry.index.value), log_terms_.end());
    log_terms_[entry.index.value] = entry.term.value;
  }
  return {};
}

Result<> Node::sync() {
  if (log_->spare_wanted()) (void)log_->prepare_spare();
  if (!shared_.is(Mutant::SkipLogSync)) {
    const Result<> synced = log_->sync();
    if (!synced && !shared_.is(Mutant::RetryFailedSync)) return synced;
  }
  for (const replica::PersistItem& item : unsynced_) put(synced_, item);
  unsynced_.clear();
  return {};
}

void Node::tell_persisted(const std::vector<replica::PersistItem>& items) {
  std::uint64_t engine = 0, ready = 0;
  for (const replica::PersistItem& item : items)
    if (item.ready_number != 0) engine = item.engine, ready = item.ready_number;
  if (ready != 0) input([this, engine, ready] { driver_->persisted(engine, ready); });
}

void Node::persist(replica::PersistItem&& item) {
  if (log_broken_) return;
  if (shared_.is(Mutant::AckBeforeSync)) tell_persisted({item});
  wal_queue_.push_back(std::move(item));
  begin_write();
}

Result<> Node::persist_now(replica::PersistItem&& item) {
  if (log_broken_) return fail(Errc::Io, "log stopped");
  // What was handed in before goes first; its news comes later, as in the server.
  if (wal_full_) {                             // the raft thread would wait for space: somebody makes some
    disk_->set_capacity(UINT64_MAX);
    wal_full_ = false;
    for (const replica::PersistItem& waiting : wal_writing_) RQ_CHECK(write(waiting));
    driver_->disk_full(false);
    guard(own_.disk_delay, [this] { finish_write(); });
  }
  disk_->set_capacity(UINT64_MAX);
  for (replica::PersistItem& earlier : wal_queue_) {
    RQ_CHECK(write(earlier));
    earlier = {.ready_number = earlier.ready_number, .engine = earlier.engine};
  }
  RQ_CHECK(write(item));
  return sync();
}

void Node::begin_write() {
  if (wal_busy_ || wal_queue_.empty() || log_broken_) return;
  wal_busy_ = true;
  wal_writing_ = std::exchange(wal_queue_, {});
  write_out(wal_writing_);
}

// True: all of it is written. A full disk: the rest is tried again later.
bool Node::write_out(std::vector<replica::PersistItem>& items) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    const Result<> written = write(items[i]);
    if (written) continue;
    if (written.error().code != Errc::NoSpace) return log_stopped(written.error()), false;
    if (!std::exchange(wal_full_, true)) {
      world_.note(node_id_ + " has a full disk, writes wait");
      input([this] { driver_->disk_full(true); });
    }
    // What is written keeps its news for the end.
    for (std::size_t done = 0; done < i; ++done) items[done] = {.ready_number = items[done].ready_number, .engine = items[done].engine};
    guard(kRetry, [this] {
      if (wal_full_) write_out(wal_writing_);
    });
    return false;
  }
  if (std::exchange(wal_full_, false)) {
    world_.note(node_id_ + " has space again");
    input([this] { driver_->disk_full(false); });
  }
  const Instant delay = world_.between(own_.disk_delay / 4, own_.disk_delay) + extra_disk;
  guard(delay, [this] { finish_write(); });
  return true;
}

void Node::finish_write() {
  if (!wal_busy_ || log_broken_) return;
  if (const Result<> synced = sync(); !synced) return log_stopped(synced.error());
  tell_persisted(wal_writing_);
  wal_writing_.clear();
  wal_busy_ = false;
  begin_write();
}

void Node::log_stopped(const Error& error) {
  log_broken_ = true;
  world_.note(node_id_ + "'s log stopped: " + error.text());
  if (!faulty_disk) world_.violated(node_id_ + "'s log stopped: " + error.text());
  input([this, error] { driver_->log_failed(error); });
}

void Node::fetch(const raft::FetchRequest& request) {
  if (shared_.is(Mutant::DropFetches)) return;
  guard(world_.between(Instant{100}, own_.disk_delay + Instant{100}), [this, request] {
    auto entries = log_->read(request.first, request.last, 1 << 16);
    auto given = std::make_shared<std::vector<raft::Entry>>(entries ? *std::move(entries) : std::vector<raft::Entry>{});
    input([this, request, given] { driver_->fetched(request.peer, std::move(*given)); });
  });
}

// ---- apply thread

void Node::apply(std::vector<replica::ApplyItem>&& items) {
  for (replica::ApplyItem& item : items) {
    shared_.found(shared_.checks.committed(item.entry));
    handed_over_ = item.entry.index;
    if (item.waiters.empty() && apply_queue_.size() > own_.apply_queue_entries) item.entry.payload = nullptr;
    apply_queue_.emplace_back(std::move(item));
  }
  begin_apply(world_.between(own_.apply_delay / 4, own_.apply_delay));
}

void Node::restore(raft::SnapshotDescriptor&& descriptor) {
  restore_index_ = handed_over_ = descriptor.index;
  apply_queue_.emplace_back(std::move(descriptor));
  begin_apply(own_.apply_delay);
}

void Node::begin_apply(Instant delay) {
  if (std::exchange(apply_busy_, true)) return;
  guard(std::max(delay + extra_apply, frozen_until_ - world_.now()), [this] {
    apply_busy_ = false;
    run_apply();
  });
}

void Node::run_apply() {
  if (world_.now() < frozen_until_) return begin_apply(frozen_until_ - world_.now());
  if (wants_state_) {
    const bool here = take_adoption() && applied().next() >= wanted_;
    if (here) wants_state_ = false;
    else if (restore_index_ <= applied()) {      // else a snapshot of the leader is in the queue
      ask_state();
      return begin_apply(kRetry);
    }
  }
  for (int budget = extra_apply.count() > 0 ? 1 : 8; budget > 0 && !apply_queue_.empty(); --budget) {
    Result<> result;
    if (auto* item = std::get_if<replica::ApplyItem>(&apply_queue_.front())) {
      const bool due = item->entry.index > applied() && item->entry.index > restore_index_;
      if (due && item->entry.payload == nullptr) {
        auto read = log_->read(item->entry.index, item->entry.index, 1);
        if (!read && log_->first() > item->entry.index) {
          wait_for_state(log_->first());
          return begin_apply(own_.apply_delay);
        }
        if (read) item->entry = std::move(read->front());
        else result = fail(read.error());
      }
      if (result && due) result = apply_entry(item->entry, item->waiters);
      if (!result) return apply_failed(result.error(), item->waiters);
      if (!due)
        for (const auto& waiter : item->waiters)
          if (waiter) waiter->failed({Errc::LeadershipLost, {}});
    } else if (auto* replay = std::get_if<Replay>(&apply_queue_.front())) {
      std::vector<std::shared_ptr<raft::Waiter>> nobody;
      const Index next = std::max(replay->first, applied().next());
      if (next <= replay->last && next > restore_index_) {
        auto read = log_->read(next, next, 1);
        if (!read && log_->first() > next) {       // cut meanwhile, or a snapshot replaced it
          wait_for_state(log_->first());
          return begin_apply(own_.apply_delay);
        }
        if (!read) return apply_failed(read.error(), nobody);
        shared_.found(shared_.checks.committed(read->front()));
        if (const Result<> done = apply_entry(read->front(), {}); !done) return apply_failed(done.error(), nobody);
        if (next < replay->last) continue;
      }
    } else {
      const raft::SnapshotDescriptor descriptor = std::get<raft::SnapshotDescriptor>(apply_queue_.front());
      std::vector<std::shared_ptr<raft::Waiter>> nobody;
      if (const Result<> taken = take_snapshot(descriptor); !taken) return apply_failed(taken.error(), nobody);
      const Index index = descriptor.index;
      wants_state_ = false;
      if (applied() < index) return world_.violated(node_id_ + " took a snapshot and stands elsewhere");
      applied_until(applied());
      input([this, index] { driver_->restored(index); });
    }
    apply_queue_.pop_front();
  }
  if (!apply_queue_.empty()) begin_apply(own_.apply_delay / 4);
  else executor_->idle();
}

Result<> Node::apply_entry(const raft::Entry& entry, const std::vector<std::shared_ptr<raft::Waiter>>& waiters) {
  if (entry.index != applied().next()) {
    world_.violated(node_id_ + " applies index " + std::to_string(entry.index.value) + " behind " + std::to_string(applied().value));
    return fail(Errc::Internal);
  }
  const bool skips = entry.type == raft::EntryType::ConfChange || entry.payload->empty() ||
                     (shared_.is(Mutant::SkipApply) && slot_ == 1 && entry.index.value % 11 == 0);
  RQ_CHECK(skips ? executor_->skip(entry.index, entry.term) : apply_group(entry, waiters));
  applied_until(entry.index);
  return {};
}

Result<> Node::apply_group(const raft::Entry& entry, const std::vector<std::shared_ptr<raft::Waiter>>& waiters) {
  RQ_TRY(replica::GroupView view, replica::read_group(*entry.payload));
  std::string seed(view.seed);
  if (shared_.is(Mutant::ApplyOwnSeed)) seed[0] = static_cast<char>(slot_);
  if (shared_.is(Mutant::ApplyOwnTime)) view.wall_ms = std::chrono::duration_cast<milliseconds>(clock_.wall().time_since_epoch()).count();
  std::vector<std::shared_ptr<raft::Waiter>> listeners;
  for (std::size_t i = 0; i < view.proposals.size(); ++i)
    listeners.push_back(std::make_shared<Listener>(waiters.empty() ? nullptr : std::static_pointer_cast<executor::SqlWaiter>(waiters[i])));
  if (shared_.is(Mutant::ApplyTwice) && entry.index.value % 9 == 0) {
    view.proposals.push_back(view.proposals[0]);
    listeners.push_back(std::make_shared<Listener>(nullptr));
  }
  const raft::Group group{.index = entry.index, .term = entry.term, .wall_ms = view.wall_ms, .seed = seed, .proposals = view.proposals, .waiters = listeners};
  const auto is_lethal = [](std::string_view one) { return one.find(kLethal) != std::string_view::npos; };
  const bool lethal = shared_.settings.poison.count() > 0 && std::ranges::any_of(group.proposals, is_lethal);
  RQ_CHECK(lethal ? apply_lethal(group) : executor_->apply(group));
  if (!judged(entry.index)) return {};
  std::uint64_t hash = 14695981039346656037u;
  for (const auto& listener : listeners) hash = (hash ^ static_cast<Listener&>(*listener).hash) * 1099511628211u;
  world_.trace(hash);
  shared_.found(shared_.checks.result(entry.index, hash));
  return {};
}

// Nothing of the entry took effect; it is tried again until it works.
void Node::apply_failed(const Error& error, std::vector<std::shared_ptr<raft::Waiter>>& waiters) {
  // Killed three times in one entry: it looks like poison, and the operator knows whether it is.
  const Index next = applied().next();
  const bool poison = executor_->poisoned().has_value();
  if (error.code == Errc::Corrupt && shown_ahead(next)) return begin_apply(Instant{100});
  poisoned_ |= poison;
  const bool damaged = error.code == Errc::Corrupt && rotten_database();
  if (!faulty_disk && error.code != Errc::NoSpace && !poison && !damaged) world_.violated(node_id_ + " can't apply: " + error.text());
  if (!apply_error_) {
    world_.note(node_id_ + " stopped applying: " + error.text());
    input([this] { driver_->apply_stalled(true); });
  }
  apply_error_ = error;
  for (const auto& waiter : waiters)
    if (waiter) waiter->failed(error);
  waiters.clear();
  if (shared_.is(Mutant::PassOverFailedEntry) && !std::holds_alternative<raft::SnapshotDescriptor>(apply_queue_.front())) {
    if (executor_->skip(applied().next(), Term{1})) applied_until(applied());
  }
  if (error.code == Errc::Corrupt) {
    ask_state();
    (void)take_adoption();
  }
  begin_apply(kRetry);
}

void Node::applied_until(Index index) {
  if (std::exchange(apply_error_, std::nullopt)) {
    world_.note(node_id_ + " applies again");
    input([this] { driver_->apply_stalled(false); });
  }
  note_chain(index, executor_->status().chain);
  if (judged(index)) {
    shared_.found(shared_.checks.chain(index, executor_->status().chain));
    if (index.value % kCompareEvery == 0) shared_.found(shared_.checks.state(index, content_hash()));
  }
  auto waiting = std::exchange(reads_waiting_, {});
  for (auto& [wanted, done] : waiting) {
    if (wanted <= index) done(wanted);
    else reads_waiting_.emplace_back(wanted, std::move(done));
  }
}

void Node::reads(Index index, std::vector<replica::ReadDone>&& reads) {
  for (replica::ReadDone& done : reads) {
    if (applied() >= index || shared_.is(Mutant::ReadBeforeApplied)) done(index);
    else reads_waiting_.emplace_back(index, std::move(done));
  }
}

void Node::strong_reads(std::span<executor::StrongRead> reads) {
  for (executor::StrongRead& read : reads) {
    command::Outcome outcome;
    (void)reader_->run(*read.request, outcome, {});
    read.waiter->applied(std::move(outcome));
  }
}

// ---- requests

void Node::read_now(const std::shared_ptr<Call>& call) {
  if (!reader_) return call->failed({Errc::NotOpen, {}});   // the database is being exchanged
  if (quarantined_) return call->failed({Errc::Busy, "in quarantine"});
  command::Outcome outcome;
  (void)reader_->run(call->request, outcome, {});
  call->finish(std::move(outcome));
}

void Node::serve(const std::shared_ptr<Call>& call) {
  if (!up()) return;
  if (call->way == Call::Way::Local) return guard(Instant{50}, [this, call] { read_now(call); });
  input([this, call] {
    if (!leads()) {
      if (driver_->engine().leader()) return forward(call);
      return call->failed({Errc::LeaderNotFound, {}});
    }
    if (call->way == Call::Way::Log) {
      if (apply_error_) return call->failed(*apply_error_);
      if (shared_.is(Mutant::AnswerOnPropose) && !call->request.read_only()) call->finish(command::Outcome{.results = "{\"rows_affected\":1}"});
      pb::Proposal proposal;
      *proposal.mutable_request() = call->request;
      return driver_->propose({.bytes = proposal.SerializeAsString(), .waiter = call});
    }
    if (shared_.is(Mutant::WeakAsLinearizable)) return read_now(call);
    const auto done = [this, call](const Result<Index>& index) {
      if (!index) return call->failed(index.error());
      read_now(call);
    };
    driver_->read_index(done, clock_.now() + milliseconds(2000));
  });
}

// As one call over its own connection: the answer comes back, or never.
void Node::forward(const std::shared_ptr<Call>& call) {
  Node* target = shared_.at_address(address_of(driver_->engine().leader()));
  if (target == nullptr || target == this) return call->failed({Errc::NotLeader, {}});
  auto there = std::make_shared<Call>();
  there->way = call->way;
  there->request = call->request;
  there->done = [this, target, call](Result<command::Outcome> result) {
    auto kept = std::make_shared<Result<command::Outcome>>(std::move(result));
    shared_.network.send(target->slot(), slot_, [call, kept] { call->finish(*kept); });
  };
  auto once = std::make_shared<bool>(false);
  shared_.network.send(slot_, target->slot(), [target, there, once] {
    if (std::exchange(*once, true) || !target->up()) return;
    if (!target->leads()) return there->failed({Errc::NotLeader, {}});
    target->serve(there);
  });
}

// ---- looks from outside

std::vector<std::string> Node::column(const std::string& sql) {
  auto call = std::make_shared<Call>();
  call->request.set_kind(pb::Request::QUERY);
  call->request.add_statements()->set_sql(sql);
  std::vector<std::string> rows;
  call->done = [&](const Result<command::Outcome>& result) {
    if (result) rows = first_column(result->results).value_or(std::vector<std::string>{});
  };
  read_now(call);
  return rows;
}

std::uint64_t Node::content_hash() {
  static const pb::Request request = content_request();
  command::Outcome outcome;
  (void)reader_->run(request, outcome, {});
  return hash_of(outcome.error, hash_of(outcome.results));
}

std::string Node::image() {
  std::string bytes;
  const Result<> read = [&]() -> Result<> {
    RQ_TRY(const auto reader, sql::ImageReader::open(kDir + "/db.sqlite", vfs_->name(), &clock_));
    RQ_TRY(bytes, reader->read(0, reader->bytes()));
    return {};
  }();
  if (!read) world_.violated(node_id_ + "'s pages can't be read: " + read.error().text());
  if (bytes.size() >= 100) {
    bytes.replace(24, 4, 4, '\0');
    bytes.replace(92, 4, 4, '\0');
  }
  return bytes;
}

// Memory and files stay within what the settings allow.
void Node::check_bounds() {
  const auto bound = [&](const char* what, std::uint64_t value, std::uint64_t limit) {
    if (value > limit) world_.violated(node_id_ + ": " + what + " grew to " + std::to_string(value) + ", the limit is " + std::to_string(limit));
  };
  const executor::Status status = executor_->status();
  if (!held_an_image_) bound("bytes of SQLite's WAL", status.wal_bytes, own_.wal_bytes_hard + (1 << 20));
  bound("bytes of the ledger", status.ledger_bytes, 4 << 20);
  bound("queued bytes", driver_->queued_bytes(), own_.limits.queue_bytes + (1 << 20));
  bound("files", files(kDir).size() + files(kDir + "/staging").size(), 16);
  // While a member is fed by an image the log behind it is kept, for its time.
  if (own_.snapshot_entries > 0 && !held_an_image_)
    bound("bytes of the log", log_->disk_bytes(), own_.log_bytes_max + 4 * own_.segment_bytes_max + (1 << 20));
}

// Changes bytes of a file as they lie on the disk. The last pages of a file are left alone: of what was written last
// nothing behind it proves that it was synced, so damage there can't be told from a torn write.
void Node::rot(const std::string& path, std::uint64_t chance) {
  constexpr std::size_t kYoung = 8192;
  std::string bytes = disk_->contents(path);
  const std::size_t used = bytes.find_last_not_of('\0');
  if (used == std::string::npos || used < kYoung + 128) return;
  const std::size_t at = 64 + chance % (used - kYoung - 64);
  bytes[at] = static_cast<char>(bytes[at] ^ static_cast<char>(1u << (chance >> 32) % 8));
  disk_->overwrite(path, bytes);
  rotten = true;
  world_.note(node_id_ + "'s disk rots: " + path + " at byte " + std::to_string(at));
}

}  // namespace rq::sim
