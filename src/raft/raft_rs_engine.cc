// RaftEngine on the crate raft, through the C ABI of engine_abi.h.
#include <algorithm>
#include <deque>

#include "base/assert.h"
#include "base/log.h"
#include "raft/engine.h"
#include "raft/engine_abi.h"

namespace rq::raft {
namespace {

rq_bytes view(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }
std::string_view text(const rq_bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data), bytes.size}; }

static_assert(sizeof(RaftId) == sizeof(std::uint64_t));
rq_ids view(const std::vector<RaftId>& ids) { return {reinterpret_cast<const std::uint64_t*>(ids.data()), ids.size()}; }
std::vector<RaftId> ids(const rq_ids& in) {
  std::vector<RaftId> out;
  for (std::size_t i = 0; i < in.size; ++i) out.push_back(RaftId{in.data[i]});
  return out;
}

rq_conf view(const ConfState& conf) {
  return {view(conf.voters), view(conf.learners), view(conf.voters_outgoing), view(conf.learners_next),
          static_cast<std::uint8_t>(conf.auto_leave)};
}
ConfState conf_state(const rq_conf& in) {
  return {.voters = ids(in.voters), .learners = ids(in.learners), .voters_outgoing = ids(in.voters_outgoing),
          .learners_next = ids(in.learners_next), .auto_leave = in.auto_leave != 0};
}

rq_entry view(const Entry& entry) {
  return {entry.index.value, entry.term.value, view(*entry.payload), static_cast<std::uint8_t>(entry.type)};
}
std::vector<rq_entry> view(const std::vector<Entry>& entries) {
  std::vector<rq_entry> out;
  out.reserve(entries.size());
  for (const Entry& entry : entries) out.push_back(view(entry));
  return out;
}

// Payloads of the newest entries, so that an entry which comes out as appended, sent and committed is one string.
class PayloadWindow {
 public:
  void put(Index index, Term term, Payload payload) {
    while (!slots_.empty() && slots_.back().index >= index) drop_back();
    if (!slots_.empty() && slots_.back().index.next() != index) clear();
    bytes_ += payload->size();
    slots_.push_back({index, term, std::move(payload)});
    while (slots_.size() > kEntriesMax || (bytes_ > kBytesMax && slots_.size() > 1)) {
      bytes_ -= slots_.front().payload->size();
      slots_.pop_front();
    }
  }
  Payload find(std::uint64_t index, std::uint64_t term) const {
    if (slots_.empty() || index < slots_.front().index.value || index > slots_.back().index.value) return nullptr;
    const Slot& slot = slots_[index - slots_.front().index.value];
    return slot.term.value == term ? slot.payload : nullptr;
  }

 private:
  static constexpr std::size_t kEntriesMax = 1024;
  static constexpr std::size_t kBytesMax = 4u << 20;
  struct Slot {
    Index index;
    Term term;
    Payload payload;
  };
  void drop_back() {
    bytes_ -= slots_.back().payload->size();
    slots_.pop_back();
  }
  void clear() {
    slots_.clear();
    bytes_ = 0;
  }
  std::deque<Slot> slots_;
  std::size_t bytes_ = 0;
};

class RaftRsEngine final : public RaftEngine {
 public:
  explicit RaftRsEngine(const Options& options) : id_(options.id) {
    const rq_options out{.id = options.id.value,
                         .election_ticks = static_cast<std::uint64_t>(options.election_ticks),
                         .heartbeat_ticks = static_cast<std::uint64_t>(options.heartbeat_ticks),
                         .seed = options.seed,
                         .max_message_bytes = options.max_message_bytes,
                         .max_inflight_messages = options.max_inflight_messages,
                         .max_uncommitted_bytes = options.max_uncommitted_bytes,
                         .max_committed_bytes_per_ready = options.max_committed_bytes_per_ready,
                         .cache_bytes = options.cache_bytes};
    engine_ = rq_engine_new(&out);
  }
  ~RaftRsEngine() override { rq_engine_free(engine_); }
  RaftRsEngine(const RaftRsEngine&) = delete;
  RaftRsEngine& operator=(const RaftRsEngine&) = delete;

  Result<> start(StartState state) override {
    std::vector<std::uint64_t> runs;
    for (const auto& [index, term] : state.term_starts) {
      runs.push_back(index.value);
      runs.push_back(term.value);
    }
    const std::vector<rq_entry> entries = view(state.entries);
    const rq_start out{.hard_state = {state.hard_state.term.value, state.hard_state.vote.value, state.hard_state.commit.value},
                       .conf = view(state.conf_state),
                       .applied = state.applied.value,
                       .first_index = state.first_index.value,
                       .last_index = state.last_index.value,
                       .snapshot_term = state.snapshot_term.value,
                       .term_starts = runs.data(),
                       .term_starts_size = state.term_starts.size(),
                       .entries = entries.data(),
                       .entries_size = entries.size()};
    RQ_CHECK(check(rq_engine_start(engine_, &out)));
    conf_ = std::move(state.conf_state);
    return {};
  }
  Result<> tick() override { return check(rq_engine_tick(engine_)); }
  Result<> campaign() override { return check(rq_engine_campaign(engine_)); }

  Result<> step(Message message) override {
    const std::vector<rq_entry> entries = view(message.entries);
    rq_snapshot snapshot{};
    rq_message out{.from = message.from.value,
                   .to = message.to.value,
                   .term = message.term.value,
                   .log_term = message.log_term.value,
                   .index = message.index.value,
                   .commit = message.commit.value,
                   .commit_term = message.commit_term.value,
                   .reject_hint = message.reject_hint.value,
                   .request_snapshot = message.request_snapshot.value,
                   .priority = static_cast<std::int64_t>(message.priority),
                   .context = view(message.context),
                   .entries = entries.data(),
                   .entries_size = entries.size(),
                   .snapshot = nullptr,
                   .type = static_cast<std::uint8_t>(message.type),
                   .reject = static_cast<std::uint8_t>(message.reject)};
    if (message.snapshot) {
      snapshot = view(*message.snapshot);
      out.snapshot = &snapshot;
    }
    for (Entry& entry : message.entries) window_.put(entry.index, entry.term, std::move(entry.payload));
    return check(rq_engine_step(engine_, &out));
  }

  Result<Index> propose(std::string payload) override {
    std::uint64_t index = 0;
    RQ_CHECK(check(rq_engine_propose(engine_, view(payload), &index)));
    window_.put(Index{index}, term(), std::make_shared<const std::string>(std::move(payload)));
    return Index{index};
  }

  Result<Index> propose_conf_change(const ConfChange& change) override {
    const std::vector<rq_conf_step> steps = view(change.steps);
    const std::string payload = encode(change);
    std::uint64_t index = 0;
    RQ_CHECK(check(rq_engine_propose_conf(engine_, steps.data(), steps.size(), change.joint, view(payload), &index)));
    return Index{index};
  }

  Result<ConfState> apply_conf_change(const Entry& entry) override {
    RQ_TRY(const ConfChange change, decode_conf_change(*entry.payload));
    const std::vector<rq_conf_step> steps = view(change.steps);
    rq_conf out{};
    RQ_CHECK(check(rq_engine_apply_conf(engine_, steps.data(), steps.size(), change.joint, &out)));
    conf_ = conf_state(out);
    return conf_;
  }

  Result<> read_index(std::string context) override { return check(rq_engine_read_index(engine_, view(context))); }
  Result<> transfer_leader(RaftId to) override { return check(rq_engine_transfer(engine_, to.value)); }
  Result<> leader_died() override { return check(rq_engine_forget_leader(engine_)); }
  void report_unreachable(RaftId peer) override { (void)rq_engine_report(engine_, peer.value, 0); }
  void report_snapshot(RaftId peer, bool ok) override { (void)rq_engine_report(engine_, peer.value, ok ? 2 : 1); }

  void provide_snapshot(RaftId peer, SnapshotDescriptor descriptor) override {
    const rq_snapshot out = view(descriptor);
    (void)rq_engine_offer_snapshot(engine_, peer.value, &out);
  }
  std::vector<RaftId> take_snapshot_wanted() override {
    std::uint64_t wanted[64];
    const std::size_t count = rq_engine_take_wanted(engine_, wanted, std::size(wanted));
    std::vector<RaftId> out;
    for (std::size_t i = 0; i < count; ++i) out.push_back(RaftId{wanted[i]});
    return out;
  }
  Result<> entries_fetched(RaftId token, std::vector<Entry> entries) override {
    const std::vector<rq_entry> out = view(entries);
    return check(rq_engine_fetched(engine_, token.value, out.data(), out.size()));
  }
  Result<> persisted(std::uint64_t ready_number) override { return check(rq_engine_persisted(engine_, ready_number)); }
  Result<> snapshot_installed(Index index) override { return check(rq_engine_snapshot_installed(engine_, index.value)); }
  void compact(Index first_kept, Term term_before) override { (void)rq_engine_compact(engine_, first_kept.value, term_before.value); }
  bool has_ready() override { return rq_engine_has_ready(engine_) != 0; }

  Result<Ready> take_ready() override {
    const rq_ready* in = nullptr;
    RQ_CHECK(check(rq_engine_take_ready(engine_, &in)));
    Ready out{.number = in->number, .must_sync = in->must_sync != 0, .role_changed = in->role_changed != 0};
    // Entries first: those of a new leader's own come out here for the first time and go into the window.
    for (std::size_t i = 0; i < in->entries_size; ++i) {
      out.entries.push_back(entry(in->entries[i]));
      const Entry& made = out.entries.back();
      window_.put(made.index, made.term, made.payload);
    }
    for (std::size_t i = 0; i < in->messages_size; ++i) out.messages.push_back(message(in->messages[i]));
    for (std::size_t i = 0; i < in->messages_after_persist_size; ++i)
      out.messages_after_persist.push_back(message(in->messages_after_persist[i]));
    for (std::size_t i = 0; i < in->committed_size; ++i) out.committed.push_back(entry(in->committed[i]));
    for (std::size_t i = 0; i < in->reads_size; ++i)
      out.reads.push_back({Index{in->reads[i].index}, std::string(text(in->reads[i].context))});
    for (std::size_t i = 0; i < in->fetches_size; ++i)
      out.fetches.push_back({RaftId{in->fetches[i].token}, Index{in->fetches[i].first}, Index{in->fetches[i].last}});
    if (in->hard_state != nullptr)
      out.hard_state = HardState{Term{in->hard_state->term}, RaftId{in->hard_state->vote}, Index{in->hard_state->commit}};
    if (in->snapshot != nullptr) {
      out.snapshot = snapshot(*in->snapshot);
      conf_ = out.snapshot->conf_state;
    }
    return out;
  }

  Status status() const override {
    const rq_status in = raw_status();
    Status out{.id = id_, .leader = RaftId{in.leader}, .role = role_of(in.role), .term = Term{in.term},
               .commit = Index{in.commit}, .applied = Index{in.applied}, .last_index = Index{in.last_index},
               .first_index = Index{in.first_index}, .last_term = Term{in.last_term}, .transferee = RaftId{in.transferee},
               .has_pending_conf = in.has_pending_conf != 0, .own_term_committed = in.own_term_committed != 0, .conf_state = conf_};
    rq_peer peers[256];
    const std::size_t count = std::min(rq_engine_peers(engine_, peers, std::size(peers)), std::size(peers));
    for (std::size_t i = 0; i < count; ++i)
      out.peers.push_back({RaftId{peers[i].id}, Index{peers[i].match}, Index{peers[i].next}, peers[i].learner != 0,
                           peers[i].active != 0, peers[i].paused != 0, peers[i].snapshotting != 0});
    std::ranges::sort(out.peers, {}, &PeerStatus::id);
    return out;
  }
  Role role() const override { return role_of(raw_status().role); }
  RaftId leader() const override { return RaftId{raw_status().leader}; }
  Term term() const override { return Term{raw_status().term}; }
  Index commit() const override { return Index{raw_status().commit}; }

 private:
  static Role role_of(std::uint8_t role) {
    switch (role) {
      case 1: return Role::Candidate;
      case 2: return Role::PreCandidate;
      case 3: return Role::Leader;
      default: return Role::Follower;
    }
  }
  rq_status raw_status() const {
    rq_status out{};
    rq_engine_status(engine_, &out);
    return out;
  }

  Result<> check(rq_code code) const {
    switch (code) {
      case RQ_OK: return {};
      case RQ_NOT_LEADER: return fail(Errc::NotLeader);
      case RQ_BUSY: return fail(Errc::Busy, "too much is waiting for its commit");
      case RQ_TRANSFER: return fail(Errc::TransferInProgress);
      case RQ_INTERNAL: break;
    }
    const std::string_view fault = text(rq_engine_fault(engine_));
    return fail(Errc::Internal, fault.empty() ? "not started" : std::string(fault));
  }

  static std::vector<rq_conf_step> view(const std::vector<ConfChangeStep>& steps) {
    std::vector<rq_conf_step> out;
    for (const ConfChangeStep& step : steps) out.push_back({step.id.value, static_cast<std::uint8_t>(step.type)});
    return out;
  }
  static rq_snapshot view(const SnapshotDescriptor& in) {
    return {in.index.value, in.term.value, raft::view(in.conf_state), raft::view(in.data)};
  }
  static rq_bytes view(std::string_view in) { return raft::view(in); }
  static rq_conf view(const ConfState& in) { return raft::view(in); }
  static std::vector<rq_entry> view(const std::vector<Entry>& in) { return raft::view(in); }

  SnapshotDescriptor snapshot(const rq_snapshot& in) const {
    return {.index = Index{in.index}, .term = Term{in.term}, .conf_state = conf_state(in.conf), .data = std::string(text(in.data))};
  }

  Entry entry(const rq_entry& in) const {
    Payload payload = window_.find(in.index, in.term);
    if (payload == nullptr) payload = std::make_shared<const std::string>(text(in.payload));
    return {.type = static_cast<EntryType>(in.type), .term = Term{in.term}, .index = Index{in.index}, .payload = std::move(payload)};
  }

  Message message(const rq_message& in) const {
    Message out{.type = static_cast<MessageType>(in.type), .from = RaftId{in.from}, .to = RaftId{in.to}, .term = Term{in.term},
                .log_term = Term{in.log_term}, .index = Index{in.index}, .commit = Index{in.commit}, .reject_hint = Index{in.reject_hint},
                .commit_term = Term{in.commit_term}, .reject = in.reject != 0, .request_snapshot = Index{in.request_snapshot},
                .priority = static_cast<std::uint64_t>(in.priority), .context = std::string(text(in.context))};
    out.entries.reserve(in.entries_size);
    for (std::size_t i = 0; i < in.entries_size; ++i) out.entries.push_back(entry(in.entries[i]));
    if (in.snapshot != nullptr) out.snapshot = snapshot(*in.snapshot);
    return out;
  }

  const RaftId id_;
  rq_engine* engine_ = nullptr;
  ConfState conf_;
  PayloadWindow window_;
};

}  // namespace

std::unique_ptr<RaftEngine> make_raft_engine(const Options& options) { return std::make_unique<RaftRsEngine>(options); }

}  // namespace rq::raft
