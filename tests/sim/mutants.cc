#include "sim/mutants.h"

#include <array>
#include <utility>
#include <vector>

namespace rq::sim {
namespace {

using raft::Message;
using raft::MessageType;

struct Row {
  Mutant mutant;
  std::string_view name, about;
};
constexpr Row kRows[] = {
    {Mutant::None, "none", "the product as it is"},
    {Mutant::SkipLogSync, "skip-log-sync", "the log is never synced"},
    {Mutant::AckBeforeSync, "ack-before-sync", "entries count as persisted when they are handed to the log"},
    {Mutant::RetryFailedSync, "retry-failed-sync", "a failed sync of the log is passed over"},
    {Mutant::LoseVote, "lose-vote", "terms are stored without the vote"},
    {Mutant::LoseHardState, "lose-hard-state", "terms and votes are not stored"},
    {Mutant::KeepOldTail, "keep-old-tail", "the log keeps entries that a new leader replaced"},
    {Mutant::DropLastEntryAtStart, "drop-last-entry", "a start forgets the last entry of the log"},
    {Mutant::SkipLedgerSync, "skip-ledger-sync", "the ledger is never synced"},
    {Mutant::SkipDatabaseWalSync, "skip-sqlite-wal-sync", "SQLite's WAL is never synced"},
    {Mutant::SkipDatabaseSync, "skip-database-sync", "the database file is not synced behind a checkpoint"},
    {Mutant::SkipDirectorySync, "skip-directory-sync", "names of new files are never synced"},
    {Mutant::ApplyTwice, "apply-twice", "now and then a proposal is applied twice, on every node"},
    {Mutant::SkipApply, "skip-apply", "one node passes over an entry now and then"},
    {Mutant::ApplyOwnTime, "own-time", "entries are applied with the node's clock"},
    {Mutant::ApplyOwnSeed, "own-seed", "entries are applied with a seed of the node's own"},
    {Mutant::PassOverFailedEntry, "pass-over-failure", "an entry that fails for the disk is passed over"},
    {Mutant::AnswerOnPropose, "answer-on-propose", "a write is answered when it is proposed"},
    {Mutant::RetryOpenWrite, "retry-open-write", "a write whose fate is open is sent again"},
    {Mutant::ReadBeforeApplied, "read-before-applied", "a linearizable read doesn't wait until its index is applied"},
    {Mutant::ReadWithoutQuorum, "read-without-quorum", "the leader answers ReadIndex by itself"},
    {Mutant::WeakAsLinearizable, "weak-as-linearizable", "linearizable reads are served by belief"},
    {Mutant::CountVotesTwice, "count-votes-twice", "each vote counts for another voter too"},
    {Mutant::CountRejections, "count-rejections", "a refused vote counts as a vote"},
    {Mutant::CommitWithoutMajority, "commit-without-majority", "the leader's own log is enough to commit"},
    {Mutant::ConfNotStored, "conf-not-stored", "trap 4: a membership is acted on and not stored"},
    {Mutant::BareConfStart, "bare-conf-start", "trap 3: a member without a snapshot believes that it is alone"},
    {Mutant::ReceiverNotNamed, "receiver-not-named", "trap 6: a snapshot doesn't list its receiver"},
    {Mutant::OldIdOnWipedDisk, "old-id-on-wiped-disk", "trap 8: a wiped disk keeps its Raft id"},
    {Mutant::NoPromotion, "no-promotion", "trap 13: the leader always sees a change pending"},
    {Mutant::DropFetches, "drop-fetches", "entries that left the cache are never read for a peer"},
    {Mutant::NoElection, "no-election", "followers' clocks stand still"},
    {Mutant::NoQuarantine, "no-quarantine", "a member that differs from the majority goes on"},
    {Mutant::AdoptOlderState, "adopt-older-state", "a state is taken that lies behind what is applied"},
    {Mutant::ForgetAttempts, "forget-attempts", "the note of a begun entry doesn't outlive the process"},
    {Mutant::CompactAhead, "compact-ahead", "the log is cut up to what is applied, durable or not"},
    {Mutant::SnapshotWithoutMembership, "snapshot-without-conf", "a received snapshot is logged without its membership"},
    {Mutant::InstallWithoutImage, "install-without-image", "Raft sees a snapshot before its image is here"},
    {Mutant::HoleInImage, "hole-in-image", "pieces of an image are left out"},
    {Mutant::ImageNotSynced, "image-not-synced", "an image is not synced before Raft sees its snapshot"},
    {Mutant::LostSnapshotNotReported, "lost-snapshot", "trap 2: a snapshot that was lost is not reported"},
};

// An engine with one bug around it; everything else passes through.
class MutantEngine final : public raft::RaftEngine {
 public:
  MutantEngine(std::unique_ptr<RaftEngine> engine, Mutant mutant, RaftId self) : engine_(std::move(engine)), mutant_(mutant), self_(self) {}

  Result<> start(raft::StartState state) override { return engine_->start(std::move(state)); }
  Result<> tick() override {
    if (mutant_ == Mutant::NoElection && engine_->role() == raft::Role::Follower && engine_->term().value > 1) return {};
    return engine_->tick();
  }
  Result<> step(Message message) override {
    const bool vote = message.type == MessageType::RequestVoteResponse || message.type == MessageType::RequestPreVoteResponse;
    if (mutant_ == Mutant::CountVotesTwice && vote && !message.reject) RQ_CHECK(forge(message));
    if (mutant_ == Mutant::CountRejections && vote) message.reject = false;
    return engine_->step(std::move(message));
  }
  Result<> campaign() override { return engine_->campaign(); }
  Result<Index> propose(std::string payload) override { return engine_->propose(std::move(payload)); }
  Result<Index> propose_conf_change(const raft::ConfChange& change) override { return engine_->propose_conf_change(change); }
  Result<raft::ConfState> apply_conf_change(const raft::Entry& entry) override { return engine_->apply_conf_change(entry); }
  Result<> read_index(std::string context) override {
    if (mutant_ != Mutant::ReadWithoutQuorum || engine_->role() != raft::Role::Leader || !engine_->status().own_term_committed) return engine_->read_index(std::move(context));
    reads_.push_back({engine_->commit(), std::move(context)});
    return {};
  }
  Result<> transfer_leader(RaftId to) override { return engine_->transfer_leader(to); }
  Result<> leader_died() override { return engine_->leader_died(); }
  void report_unreachable(RaftId peer) override { engine_->report_unreachable(peer); }
  void report_snapshot(RaftId peer, bool ok) override {
    if (ok || mutant_ != Mutant::LostSnapshotNotReported) engine_->report_snapshot(peer, ok);
  }
  void provide_snapshot(RaftId peer, raft::SnapshotDescriptor descriptor) override {
    if (mutant_ == Mutant::ReceiverNotNamed) std::erase(descriptor.conf_state.learners, peer);
    engine_->provide_snapshot(peer, std::move(descriptor));
  }
  std::vector<RaftId> take_snapshot_wanted() override { return engine_->take_snapshot_wanted(); }
  Result<> entries_fetched(RaftId token, std::vector<raft::Entry> entries) override { return engine_->entries_fetched(token, std::move(entries)); }
  Result<> persisted(std::uint64_t ready_number) override {
    RQ_CHECK(engine_->persisted(ready_number));
    if (mutant_ != Mutant::CommitWithoutMajority || engine_->role() != raft::Role::Leader) return {};
    const raft::Status status = engine_->status();
    for (const RaftId voter : status.conf_state.voters) {
      if (voter == self_) continue;
      RQ_CHECK(engine_->step({.type = MessageType::AppendResponse, .from = voter, .to = self_, .term = status.term, .index = status.last_index, .commit = status.commit}));
    }
    return {};
  }
  Result<> snapshot_installed(Index index) override { return engine_->snapshot_installed(index); }
  void compact(Index first_kept, Term term_before) override { engine_->compact(first_kept, term_before); }
  bool has_ready() override { return !reads_.empty() || engine_->has_ready(); }
  Result<raft::Ready> take_ready() override {
    RQ_TRY(raft::Ready ready, engine_->take_ready());
    for (raft::ReadState& read : std::exchange(reads_, {})) ready.reads.push_back(std::move(read));
    return ready;
  }
  raft::Status status() const override {
    raft::Status status = engine_->status();
    if (mutant_ == Mutant::NoPromotion) status.has_pending_conf = true;
    return status;
  }
  raft::Role role() const override { return engine_->role(); }
  RaftId leader() const override { return engine_->leader(); }
  Term term() const override { return engine_->term(); }
  Index commit() const override { return engine_->commit(); }

 private:
  // The same once more, from another voter.
  Result<> forge(const Message& message) {
    const raft::ConfState conf = engine_->status().conf_state;
    for (const RaftId voter : conf.voters) {
      if (voter == self_ || voter == message.from) continue;
      Message copy = message;
      copy.from = voter;
      RQ_CHECK(engine_->step(std::move(copy)));
    }
    return {};
  }

  const std::unique_ptr<RaftEngine> engine_;
  const Mutant mutant_;
  const RaftId self_;
  std::vector<raft::ReadState> reads_;
};

class UnsyncedFile final : public io::File {
 public:
  explicit UnsyncedFile(std::unique_ptr<io::File> file) : file_(std::move(file)) {}
  Result<std::string> read_at(std::uint64_t offset, std::size_t size) const override { return file_->read_at(offset, size); }
  Result<std::size_t> read_into(std::uint64_t offset, std::span<char> out) const override { return file_->read_into(offset, out); }
  Result<> write_at(std::uint64_t offset, std::string_view bytes) override { return file_->write_at(offset, bytes); }
  Result<> write_pieces_at(std::uint64_t offset, std::span<const std::string_view> pieces) override { return file_->write_pieces_at(offset, pieces); }
  Result<> truncate(std::uint64_t size) override { return file_->truncate(size); }
  Result<> extend_with_zeros(std::uint64_t size) override { return file_->extend_with_zeros(size); }
  Result<> sync() override { return {}; }
  Result<std::uint64_t> size() const override { return file_->size(); }

 private:
  const std::unique_ptr<io::File> file_;
};

}  // namespace

std::string_view name_of(Mutant mutant) {
  for (const Row& row : kRows)
    if (row.mutant == mutant) return row.name;
  return "?";
}

std::string_view about(Mutant mutant) {
  for (const Row& row : kRows)
    if (row.mutant == mutant) return row.about;
  return "?";
}

std::optional<Mutant> mutant_named(std::string_view name) {
  for (const Row& row : kRows)
    if (row.name == name) return row.mutant;
  return std::nullopt;
}

std::span<const Mutant> all_mutants() {
  static const std::vector<Mutant> all = [] {
    std::vector<Mutant> out;
    for (const Row& row : kRows)
      if (row.mutant != Mutant::None) out.push_back(row.mutant);
    return out;
  }();
  return all;
}

std::unique_ptr<raft::RaftEngine> mutate(std::unique_ptr<raft::RaftEngine> engine, Mutant mutant, RaftId self) {
  if (mutant == Mutant::None) return engine;
  return std::make_unique<MutantEngine>(std::move(engine), mutant, self);
}

Result<std::unique_ptr<io::File>> MutantDisk::open(const std::string& path, io::OpenMode mode) {
  RQ_TRY(std::unique_ptr<io::File> file, disk_.open(path, mode));
  const bool skips = (mutant_ == Mutant::SkipLedgerSync && path.find("db.ledger") != std::string::npos) ||
                     (mutant_ == Mutant::SkipDatabaseWalSync && path.ends_with("db.sqlite-wal")) ||
                     (mutant_ == Mutant::SkipDatabaseSync && path.ends_with("db.sqlite"));
  if (skips) return std::unique_ptr<io::File>(std::make_unique<UnsyncedFile>(std::move(file)));
  return file;
}

}  // namespace rq::sim
