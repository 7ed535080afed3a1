// The Raft log on disk: segments of checksummed records; entries, term and vote, and the membership share one sync.
//
// Contract
//   - One thread (the `wal` thread) calls append(), sync(), compact(); read() may be called from any thread.
//   - append() only writes; nothing is durable before sync() returned success. sync() is one fdatasync for all that
//     was appended since the last one (plus a directory sync when a segment was begun).
//   - An entry whose index is at or below the log's last index replaces the tail from there on.
//   - open() replays: a torn tail of the last segment is cut; a bad record with good ones behind it, or in an earlier
//     segment, is Errc::Corrupt with segment and offset (the node must not start).
//   - A failed sync is final: every later call answers Errc::Io "log stopped: ..."; the process must be restarted.
//     NoSpace on append leaves the log as it was before that call (usable again when space returns); one segment is
//     always preallocated ahead, so a vote fits on a full disk.
//   - Segments raft/wal-<first index>-<sequence>, zero-filled ahead. First 4 MiB, doubling to
//     64 MiB, at most 1/8 of the free space. Byte format: docs/formats/raft-log.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "io/disk.h"
#include "raft/engine.h"

namespace rq::wal {

// The membership in force from `index` on, with the members' records (opaque here), durable before it is acted on.
struct Membership {
  Index index;
  raft::ConfState conf_state;
  std::string members;      // encoded by the replica
  bool operator==(const Membership&) const = default;
};

// Start of the log: everything up to index is in a snapshot (index 1: the bootstrap).
struct SnapshotMark {
  Index index;
  Term term;
};

// Written in this order, durable together at the next sync(). Before that a crash may leave any beginning of it; but never a
// snapshot mark without the membership beside it.
struct Batch {
  std::optional<SnapshotMark> snapshot;         // drops all entries; the log begins behind it
  std::span<const raft::Entry> entries;
  std::optional<raft::HardState> hard_state;
  std::optional<Membership> membership;         // with a snapshot: as of its index; else at most the last entry's
};

struct Recovered {
  raft::HardState hard_state;
  Membership membership;                        // newest; empty conf_state: never set
  SnapshotMark snapshot;                        // {0,0}: empty log
  Index first, last;                            // last < first: no entries
  Term last_term;
  std::vector<std::pair<Index, Term>> term_starts;
  std::vector<Index> conf_entries;              // indexes of ConfChange entries in the log, ascending
  std::uint64_t cut_bytes = 0;                  // torn tail that was dropped
};

struct Options {
  std::uint64_t segment_bytes_first = 4u << 20;
  std::uint64_t segment_bytes_max = 64u << 20;
  std::uint64_t record_bytes_max = 512u << 20;  // larger entries: Errc::TooLarge
};

class Log {
 public:
  struct Opened;
  static Result<Opened> open(io::Disk& disk, const std::string& dir, const Options& options);
  virtual ~Log() = default;

  virtual Result<> append(const Batch& batch) = 0;
  virtual Result<> sync() = 0;
  // Entries first..last, fewer when `bytes_max` is reached (at least one). Errc::NotFound: outside the log.
  virtual Result<std::vector<raft::Entry>> read(Index first, Index last, std::size_t bytes_max) const = 0;
  virtual Result<Term> term_of(Index index) const = 0;     // also of the snapshot's index
  // Drops whole segments whose entries are all below first_kept; and, while the log takes more than `bytes_max` on disk,
  // those whose entries are all below first_needed (>= first_kept). Keeps hard state and membership. One thread at a time,
  // beside append(), sync() and read().
  virtual Result<> compact(Index first_kept, Index first_needed, std::uint64_t bytes_max) = 0;
  Result<> compact(Index first_kept) { return compact(first_kept, first_kept, UINT64_MAX); }
  virtual Index first() const = 0;
  virtual Index last() const = 0;
  virtual std::uint64_t disk_bytes() const = 0;
  // The next segment is made ahead, off the wal thread: when spare_wanted(), some other thread calls prepare_spare()
  // (one at a time; beside append() and sync()). Without it append() makes the segment itself when it needs one.
  virtual bool spare_wanted() const = 0;
  virtual Result<> prepare_spare() = 0;
};
struct Log::Opened {
  std::unique_ptr<Log> log;
  Recovered recovered;
};

}  // namespace rq::wal
