// Mutants: bugs that the simulator plants at the product's seams (disk, engine, log, outputs, state machine), to see that its
// checkers find them. Nothing of them is in the product: they live in this program alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/disk.h"
#include "raft/engine.h"

namespace rq::sim {

enum class Mutant : std::uint8_t {
  None,
  SkipLogSync, AckBeforeSync, RetryFailedSync, LoseVote, LoseHardState, KeepOldTail, DropLastEntryAtStart,   // log and votes
  SkipLedgerSync, SkipDatabaseWalSync, SkipDatabaseSync, SkipDirectorySync,                                  // ledger, database
  ApplyTwice, SkipApply, ApplyOwnTime, ApplyOwnSeed, PassOverFailedEntry,                                    // apply
  AnswerOnPropose, RetryOpenWrite, ReadBeforeApplied, ReadWithoutQuorum, WeakAsLinearizable,                 // answers
  CountVotesTwice, CountRejections, CommitWithoutMajority, ConfNotStored, BareConfStart, ReceiverNotNamed,   // consensus
  OldIdOnWipedDisk, NoPromotion, DropFetches, NoElection,
  NoQuarantine, AdoptOlderState, ForgetAttempts,                                                             // another member's state, poison
  CompactAhead, SnapshotWithoutMembership, InstallWithoutImage, HoleInImage, ImageNotSynced, LostSnapshotNotReported,   // snapshots
};

std::string_view name_of(Mutant mutant);
// What it does, for the table.
std::string_view about(Mutant mutant);
std::optional<Mutant> mutant_named(std::string_view name);
std::span<const Mutant> all_mutants();
// Whether it takes faults that only later seeds draw (Settings).
inline bool needs_second_generation(Mutant mutant) { return mutant >= Mutant::NoQuarantine && mutant <= Mutant::ForgetAttempts; }

// The engine with a bug around it, or as it is.
std::unique_ptr<raft::RaftEngine> mutate(std::unique_ptr<raft::RaftEngine> engine, Mutant mutant, RaftId self);

// The disk of a node: passes on, and forgets syncs that the mutant skips.
class MutantDisk final : public io::Disk {
 public:
  MutantDisk(io::Disk& disk, Mutant mutant) : disk_(disk), mutant_(mutant) {}
  std::function<void(const std::string& path)> on_replaced;   // the name is free or names another file
  Result<std::unique_ptr<io::File>> open(const std::string& path, io::OpenMode mode) override;
  Result<> remove(const std::string& path) override {
    RQ_CHECK(disk_.remove(path));
    if (on_replaced) on_replaced(path);
    return {};
  }
  Result<> remove_dir(const std::string& path) override { return disk_.remove_dir(path); }
  Result<> rename(const std::string& from, const std::string& to) override {
    RQ_CHECK(disk_.rename(from, to));
    if (on_replaced) on_replaced(to);
    return {};
  }
  Result<std::vector<std::string>> list(const std::string& dir) override { return disk_.list(dir); }
  Result<bool> exists(const std::string& path) override { return disk_.exists(path); }
  Result<> make_dirs(const std::string& dir) override { return disk_.make_dirs(dir); }
  Result<> sync_dir(const std::string& dir) override { return mutant_ == Mutant::SkipDirectorySync ? Result<>() : disk_.sync_dir(dir); }
  Result<std::uint64_t> free_bytes(const std::string& dir) override { return disk_.free_bytes(dir); }

 private:
  io::Disk& disk_;
  const Mutant mutant_;
};

}  // namespace rq::sim
