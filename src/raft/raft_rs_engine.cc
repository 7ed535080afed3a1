// RaftEngine on the crate raft, through the C ABI of engine_abi.h.
//
// Invariants
//   1. lent_ holds every payload that Rust refers to, counted; so a pointer that comes out is found here, and an entry
//      that comes out appended, sent and committed is one string.
//   2. Every pointer given in as a payload was counted in lent_ before; release() takes it out.
#include <algorithm>
#include <unordered_map>

#include "base/assert.h"
#include "base/log.h"
#include "raft/conf_change.h"
#include "raft/engine.h"
#include "raft/engine_abi.h"

namespace rq::raft {
namespace {

rq_bytes view(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }
std::string_view text(const rq_bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data), bytes.size}; }

static_assert(sizeof(RaftId) == sizeof(std::uint64_t));
rq_ids view(const std::vector<RaftId>& ids) { return {reinterpret_cast<const std::uint64_t*>(ids.data()), ids.size()}; }

std::vector<RaftId> ids(const rq_ids& in) {
  std::vector<RaftId> out(in.size);
  std::transform(in.data, in.data + in.size, out.begin(), [](std::uint64_t id) { return RaftId{id}; });
  return out;
}

rq_conf view(const ConfState& conf) {
  return {view(conf.voters), view(conf.learners), view(conf.voters_outgoing), view(conf.learners_next),
          static_cast<std::uint8_t>(conf.auto_leave)};
}
// Sorted: raft-rs keeps sets, whose order depends on their history.
ConfState conf_state(const rq_conf& in) {
  ConfState out{.voters = ids(in.voters), .learners = ids(in.learners), .voters_outgoing = ids(in.voters_outgoing),
                .learners_next = ids(in.learners_next), .auto_leave = in.auto_leave != 0};
  for (auto* list : {&out.voters, &out.learners, &out.voters_outgoing, &out.learners_next}) std::ranges::sort(*list);
  return out;
}

rq_snapshot view(const SnapshotDescriptor& in) {
  return {in.index.value, in.term.value, view(in.conf_state), view(in.data)};
}
SnapshotDescriptor snapshot(const rq_snapshot& in) {
  return {Index{in.index}, Term{in.term}, conf_state(in.conf), std::string(text(in.data))};
}

std::vector<rq_conf_step> view(const std::vector<ConfChangeStep>& steps) {
  std::vector<rq_conf_step> out;
  for (const ConfChangeStep& step : steps) out.push_back({step.id.value, static_cast<std::uint8_t>(step.type)});
  return out;
}

const Payload& empty_payload() {
  static const Payload empty = std::make_shared<const std::string>();
  return empty;
}

// The payloads that Rust refers to, by the address of their bytes.
class LentPayloads {
 public:
  rq_bytes lend(const Payload& payload) {
    if (payload == nullptr || payload->empty()) return {nullptr, 0};
    const rq_bytes bytes = view(*payload);
    Slot& slot = slots_[bytes.data];
    if (slot.count++ == 0) slot.payload = payload;
    return bytes;
  }
  Payload find(const rq_bytes& bytes) const {
    if (bytes.size == 0) return empty_payload();
    const auto slot = slots_.find(bytes.data);
    RQ_ASSERT(slot != slots_.end());
    return slot->second.payload;
  }
  static void release(void* self, const std::uint8_t* data) { static_cast<LentPayloads*>(self)->give_back(data); }

 private:
  struct Slot {
    Payload payload;
    std::size_t count = 0;
  };
  void give_back(const std::uint8_t* data) noexcept {
    const auto slot = slots_.find(data);
    RQ_ASSERT(slot != slots_.end());
    if (--slot->second.count == 0) slots_.erase(slot);
  }
  std::unordered_map<const std::uint8_t*, Slot> slots_;
};

class RaftRsEngine final : public RaftEngine {
 public:
  explicit RaftRsEngine(const Options& options) : id_(options.id) {
    const rq_options out{.id = options.id.value,
                         .election_ticks = static_cast<std::uint64_t>(options.election_ticks),
                         .retry_ticks = static_cast<std::uint64_t>(options.retry_ticks),
                         .heartbeat_ticks = static_cast<std::uint64_t>(options.heartbeat_ticks),
                         .seed = options.seed,
                         .max_message_bytes = options.max_message_bytes,
                         .max_inflight_messages = options.max_inflight_messages,
                         .max_uncommitted_bytes = options.max_uncommitted_bytes,
                         .max_committed_bytes_per_ready = options.max_committed_bytes_per_ready,
                         .cache_bytes = options.cache_bytes,
                         .release = &LentPayloads::release,
                         .release_context = &lent_};
    engine_ = rq_engine_new(&out);
    glance_ = rq_engine_glance(engine_);
  }
  ~RaftRsEngine() override { rq_engine_free(engine_); }
  RaftRsEngine(const RaftRsEngine&) = delete;
  RaftRsEngine& operator=(const RaftRsEngine&) = delete;

  Result<> start(StartState state) override;
  Result<> tick() override { return signal(RQ_TICK); }
  Result<> step(Message message) override;
  Result<> campaign() override { return signal(RQ_CAMPAIGN); }
  Result<Index> propose(std::string payload) override;
  Result<Index> propose_conf_change(const ConfChange& change) override;
  Result<ConfState> apply_conf_change(const Entry& entry) override;
  Result<> read_index(std::string context) override { return check(rq_engine_read_index(engine_, view(context))); }
  Result<> transfer_leader(RaftId to) override { return signal(RQ_TRANSFER_TO, to.value); }
  Result<> leader_died() override { return signal(RQ_LEADER_DIED); }
  void report_unreachable(RaftId peer) override { (void)signal(RQ_UNREACHABLE, peer.value); }
  void report_snapshot(RaftId peer, bool ok) override {
    (void)signal(ok ? RQ_SNAPSHOT_ARRIVED : RQ_SNAPSHOT_LOST, peer.value);
  }
  void provide_snapshot(RaftId peer, SnapshotDescriptor descriptor) override {
    const rq_snapshot out = view(descriptor);
    (void)check(rq_engine_offer_snapshot(engine_, peer.value, &out));
  }
  std::vector<RaftId> take_snapshot_wanted() override { return std::exchange(wanted_, {}); }
  Result<> entries_fetched(RaftId token, std::vector<Entry> entries) override {
    const std::span<const rq_entry> out = lend(entries);
    return check(rq_engine_fetched(engine_, token.value, out.data(), out.size()));
  }
  Result<> persisted(std::uint64_t ready_number) override { return signal(RQ_PERSISTED, ready_number); }
  Result<> snapshot_installed(Index index) override { return signal(RQ_SNAPSHOT_INSTALLED, index.value); }
  void compact(Index first_kept, Term term_before) override {
    (void)check(rq_engine_compact(engine_, first_kept.value, term_before.value));
  }
  bool has_ready() override { return rq_engine_has_ready(engine_) != 0; }
  Result<Ready> take_ready() override;
  Status status() const override;
  Role role() const override { return static_cast<Role>(glance_->role); }
  RaftId leader() const override { return RaftId{glance_->leader}; }
  Term term() const override { return Term{glance_->term}; }
  Index commit() const override { return Index{glance_->commit}; }

 private:
  Result<> check(rq_code code) const;
  Result<> signal(std::uint8_t what, std::uint64_t value = 0) { return check(rq_engine_signal(engine_, what, value)); }
  std::span<const rq_entry> lend(const std::vector<Entry>& entries);
  Entry entry(const rq_entry& in) const;
  std::vector<Entry> entries(const rq_entry* data, std::size_t size) const;
  std::vector<Message> messages(const rq_message* data, std::size_t size) const;
  Message message(const rq_message& in) const;

  const RaftId id_;
  LentPayloads lent_;             // outlives engine_, which gives back to it
  rq_engine* engine_ = nullptr;
  const rq_glance* glance_ = nullptr;
  std::vector<rq_entry> flat_;    // of lend(); kept for its memory
  std::vector<RaftId> wanted_;
};

Result<> RaftRsEngine::check(rq_code code) const {
  const auto detail = [&] { return std::string(text(rq_engine_error(engine_))); };
  switch (code) {
    case RQ_OK: return {};
    case RQ_NOT_LEADER: return fail(Errc::NotLeader);
    case RQ_BUSY: return fail(Errc::Busy, "too much waits in the log, or another membership change does");
    case RQ_TRANSFER: return fail(Errc::TransferInProgress);
    case RQ_BAD_REQUEST: return fail(Errc::BadRequest, detail());
    case RQ_CORRUPT: return fail(Errc::Corrupt, detail());
    default: return fail(Errc::Internal, "raft engine stopped: " + detail());
  }
}

// ---- into Rust

std::span<const rq_entry> RaftRsEngine::lend(const std::vector<Entry>& entries) {
  flat_.clear();
  flat_.reserve(entries.size());
  for (const Entry& in : entries)
    flat_.push_back({in.index.value, in.term.value, lent_.lend(in.payload), static_cast<std::uint8_t>(in.type)});
  return flat_;
}

Result<> RaftRsEngine::start(StartState state) {
  std::vector<std::uint64_t> runs;
  for (const auto& [index, term] : state.term_starts) {
    runs.push_back(index.value);
    runs.push_back(term.value);
  }
  const std::span<const rq_entry> entries = lend(state.entries);
  const std::uint64_t first = std::max<std::uint64_t>(state.first_index.value, 1);
  const rq_start out{.hard_state = {state.hard_state.term.value, state.hard_state.vote.value, state.hard_state.commit.value},
                     .conf = view(state.conf_state),
                     .conf_index = state.conf_index.value,
                     .applied = state.applied.value,
                     .first_index = first,
                     .last_index = std::max(state.last_index.value, first - 1),
                     .snapshot_term = state.snapshot_term.value,
                     .term_starts = runs.data(),
                     .term_starts_size = state.term_starts.size(),
                     .entries = entries.data(),
                     .entries_size = entries.size()};
  return check(rq_engine_start(engine_, &out));
}

Result<> RaftRsEngine::step(Message in) {
  const std::span<const rq_entry> entries = lend(in.entries);
  rq_snapshot received{};
  if (in.snapshot) received = view(*in.snapshot);
  const rq_message out{.from = in.from.value,
                       .to = in.to.value,
                       .term = in.term.value,
                       .log_term = in.log_term.value,
                       .index = in.index.value,
                       .commit = in.commit.value,
                       .commit_term = in.commit_term.value,
                       .reject_hint = in.reject_hint.value,
                       .request_snapshot = in.request_snapshot.value,
                       .priority = static_cast<std::int64_t>(in.priority),
                       .context = view(in.context),
                       .entries = entries.data(),
                       .entries_size = entries.size(),
                       .snapshot = in.snapshot ? &received : nullptr,
                       .type = static_cast<std::uint8_t>(in.type),
                       .reject = static_cast<std::uint8_t>(in.reject)};
  return check(rq_engine_step(engine_, &out));
}

Result<Index> RaftRsEngine::propose(std::string payload) {
  const rq_bytes bytes = lent_.lend(std::make_shared<const std::string>(std::move(payload)));
  std::uint64_t index = 0;
  RQ_CHECK(check(rq_engine_propose(engine_, bytes, &index)));
  return Index{index};
}

Result<Index> RaftRsEngine::propose_conf_change(const ConfChange& change) {
  RQ_CHECK(check_limits(change));
  const std::vector<rq_conf_step> steps = view(change.steps);
  const rq_conf_change out{steps.data(), steps.size(), static_cast<std::uint8_t>(change.joint)};
  const rq_bytes bytes = lent_.lend(std::make_shared<const std::string>(encode(change)));
  std::uint64_t index = 0;
  RQ_CHECK(check(rq_engine_propose_conf(engine_, &out, bytes, &index)));
  return Index{index};
}

Result<ConfState> RaftRsEngine::apply_conf_change(const Entry& entry) {
  RQ_TRY(const ConfChange change, decode_conf_change(*entry.payload));
  const std::vector<rq_conf_step> steps = view(change.steps);
  const rq_conf_change in{steps.data(), steps.size(), static_cast<std::uint8_t>(change.joint)};
  rq_conf out{};
  RQ_CHECK(check(rq_engine_apply_conf(engine_, entry.index.value, &in, &out)));
  return conf_state(out);
}

// ---- out of Rust

Entry RaftRsEngine::entry(const rq_entry& in) const {
  return {static_cast<EntryType>(in.type), Term{in.term}, Index{in.index}, lent_.find(in.payload)};
}

std::vector<Entry> RaftRsEngine::entries(const rq_entry* data, std::size_t size) const {
  std::vector<Entry> out;
  out.reserve(size);
  for (const rq_entry& in : std::span(data, size)) out.push_back(entry(in));
  return out;
}

Message RaftRsEngine::message(const rq_message& in) const {
  Message out{.type = static_cast<MessageType>(in.type),
              .from = RaftId{in.from},
              .to = RaftId{in.to},
              .term = Term{in.term},
              .log_term = Term{in.log_term},
              .index = Index{in.index},
              .commit = Index{in.commit},
              .reject_hint = Index{in.reject_hint},
              .commit_term = Term{in.commit_term},
              .reject = in.reject != 0,
              .request_snapshot = Index{in.request_snapshot},
              .priority = static_cast<std::uint64_t>(in.priority),
              .context = std::string(text(in.context)),
              .entries = entries(in.entries, in.entries_size)};
  if (in.snapshot != nullptr) out.snapshot = snapshot(*in.snapshot);
  return out;
}

std::vector<Message> RaftRsEngine::messages(const rq_message* data, std::size_t size) const {
  std::vector<Message> out;
  out.reserve(size);
  for (const rq_message& in : std::span(data, size)) out.push_back(message(in));
  return out;
}

Result<Ready> RaftRsEngine::take_ready() {
  const rq_ready* in = nullptr;
  RQ_CHECK(check(rq_engine_take_ready(engine_, &in)));
  for (const rq_bytes& line : std::span(in->log, in->log_size)) log::warn("raft", text(line));
  Ready out{.number = in->number,
            .messages = messages(in->messages, in->messages_size),
            .messages_after_persist = messages(in->messages_after_persist, in->messages_after_persist_size),
            .entries = entries(in->entries, in->entries_size),
            .committed = entries(in->committed, in->committed_size),
            .must_sync = in->must_sync != 0,
            .role_changed = in->role_changed != 0};
  for (const rq_read& read : std::span(in->reads, in->reads_size))
    out.reads.push_back({Index{read.index}, std::string(text(read.context))});
  // The token is the first index: a late answer fits whatever was asked for again meanwhile.
  for (const rq_fetch& fetch : std::span(in->fetches, in->fetches_size))
    out.fetches.push_back({RaftId{fetch.first}, Index{fetch.first}, Index{fetch.last}});
  if (in->hard_state != nullptr)
    out.hard_state = HardState{Term{in->hard_state->term}, RaftId{in->hard_state->vote}, Index{in->hard_state->commit}};
  if (in->snapshot != nullptr) out.snapshot = snapshot(*in->snapshot);
  for (const RaftId peer : ids(in->wanted))
    if (std::ranges::find(wanted_, peer) == wanted_.end()) wanted_.push_back(peer);
  return out;
}

Status RaftRsEngine::status() const {
  Status out{.id = id_, .leader = leader(), .role = role(), .term = term(), .commit = commit()};
  rq_status in{};
  if (rq_engine_status(engine_, &in) != RQ_OK) return out;   // not started
  out.applied = Index{in.applied};
  out.last_index = Index{in.last_index};
  out.first_index = Index{in.first_index};
  out.last_term = Term{in.last_term};
  out.transferee = RaftId{in.transferee};
  out.has_pending_conf = in.has_pending_conf != 0;
  out.own_term_committed = in.own_term_committed != 0;
  out.conf_state = conf_state(in.conf);
  for (const rq_peer& peer : std::span(in.peers, in.peers_size))
    out.peers.push_back({RaftId{peer.id}, Index{peer.match}, Index{peer.next}, peer.learner != 0, peer.active != 0,
                         peer.paused != 0, peer.snapshotting != 0});
  return out;
}

}  // namespace

std::unique_ptr<RaftEngine> make_raft_engine(const Options& options) { return std::make_unique<RaftRsEngine>(options); }

}  // namespace rq::raft
