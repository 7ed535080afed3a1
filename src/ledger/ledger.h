// The ledger: which log index the database stands at, for every commit in SQLite's WAL.
//
// Beside db.sqlite and db.sqlite-wal lies db.ledger, a file of 128-byte lines (docs/formats/ledger.md). A line binds a
// commit frame of the WAL (its number and its running checksum) to the state after it: log index, term, effect chain
// and registers. Lines are written before the frame they speak of and never synced alone; whoever syncs the WAL syncs
// the ledger first. So a durable frame has a durable line, and a line without its frame is ignored. When SQLite
// restarts its WAL under new salts, everything before is in db.sqlite; the ledger is then replaced by a new file that
// begins with the epoch {salts, state}, durable before the WAL's new header is written.
//
// Threads: the apply thread; sync() and mark_durable() also the one that checkpoints. Errors: Errc::Io, NoSpace from the disk; after a failed sync the ledger refuses all
// further calls (nothing is known of unsynced bytes). Crash: recover() in recovery.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "io/disk.h"

namespace rq::ledger {

// Replicated values that SQLite keeps per connection and loses at restart and ROLLBACK TO.
struct Registers {
  std::int64_t last_insert_rowid = 0;
  std::int64_t changes = 0;
  std::int64_t total_changes = 0;
  std::uint64_t settings = 0;          // executor/settings.h says which bit is what
  std::uint32_t analysis_limit = 0;
  std::uint32_t max_page_count = 0;    // 0: SQLite's default
  bool operator==(const Registers&) const = default;
};

// Entries that no effect chain tells anything of, since the engine was exchanged: those behind `after`, up to `until`, whose entry
// began the chain anew (0: not yet). No gap: `after` is 0. Of several gaps the newest.
struct ProofGap {
  Index after, until;
  bool operator==(const ProofGap&) const = default;
};

// The state after the entry at `index`.
struct Position {
  Index index;
  Term term;
  std::uint64_t chain = 0;             // effect.h
  Registers registers;
  std::uint64_t engine = 0;            // fingerprint of the engine that the chain was computed with
  ProofGap gap;
  bool operator==(const Position&) const = default;
};

struct Salts {
  std::uint32_t first = 0, second = 0;
  bool operator==(const Salts&) const = default;
};

// A commit frame: number from 1 in its WAL, and the running checksum that its header carries (over all frames so far).
struct CommitFrame {
  std::uint32_t number = 0;
  std::uint32_t checksum[2] = {0, 0};
  bool operator==(const CommitFrame&) const = default;
};

struct Line {
  enum class Kind : std::uint8_t { Epoch = 1, Commit = 2, Durable = 3 };
  Kind kind = Kind::Commit;
  Salts salts;
  CommitFrame frame;     // Epoch: none. Commit with number 0: no frame was written in this epoch yet.
                         // Durable: frames up to here were synced and may be in db.sqlite
  Position position;
  bool operator==(const Line&) const = default;
};

inline constexpr std::size_t kLineBytes = 128;  // a line never crosses a sector
inline constexpr std::uint8_t kLineVersion = 1;

std::array<char, kLineBytes> encode(const Line& line);
Result<Line> decode(std::string_view bytes);    // Errc::Corrupt (checksum, length), Errc::Unsupported (version)

struct Contents {
  Line epoch;
  std::vector<Line> lines;   // Commit and Durable lines of this epoch, in file order; unreadable ones left out
};
// Errc::NotFound; Errc::Corrupt: no valid epoch at its start.
Result<Contents> read(io::Disk& disk, const std::string& path);

// What a sync() covered.
struct SyncPoint {
  Salts salts;
  CommitFrame frame;
  Index index;
};

class Ledger {
 public:
  // Replaces the file at `path`, durably, by one of this epoch and (if its frame is not 0) this one line. The caller has
  // synced the WAL up to that frame.
  static Result<std::unique_ptr<Ledger>> create(io::Disk& disk, std::string path, Salts salts, const Position& base,
                                                const CommitFrame& frame, const Position& position);

  // SQLite restarts its WAL: what was applied so far is the base of a new epoch. Durable when it returns.
  Result<> begin_epoch(Salts salts);
  // The frame that commits `position` is about to be written. May come twice for one commit (rewritten checksums).
  Result<> commit(const CommitFrame& frame, const Position& position);
  // The commit became visible: `position` is the state from now on.
  void committed(const Position& position);
  // An entry that wrote no page took effect. Kept in memory until flush(): losing it costs a replay that does nothing.
  void advance(const Position& position);
  Result<> flush();   // on the apply thread, between commits
  // flush() and fdatasync.
  Result<SyncPoint> sync();
  // To be called after the WAL was synced behind that sync(): frames up to there may now move into db.sqlite. The mark
  // is durable on return.
  Result<> mark_durable(const SyncPoint& point);

  Position position() const;
  CommitFrame newest_frame() const;    // of this epoch; number 0: none
  Index durable_index() const;
  std::uint64_t bytes() const;

 private:
  Ledger(io::Disk& disk, std::string path) : disk_(disk), path_(std::move(path)) {}
  Result<> flush_locked();
  Result<std::shared_ptr<io::File>> put_in_place(std::string_view bytes);
  Result<> replace_file(Salts salts, const Position& base, const CommitFrame& frame, const Position& position);
  Result<> write_line(std::uint64_t offset, const Line& line);
  Result<> sync_file(std::unique_lock<std::mutex>& lock);
  void leave_spare_slots();

  io::Disk& disk_;
  const std::string path_;
  mutable std::mutex mutex_;     // guards all below; not held while the file is synced
  std::shared_ptr<io::File> file_;
  Salts salts_;
  CommitFrame frame_;            // newest commit frame of this epoch; number 0: none
  CommitFrame pending_frame_;    // of commit(), until committed()
  Position position_;
  bool dirty_ = false;           // position_ is newer than its line
  std::uint64_t writes_ = 0, writes_synced_ = 0;
  bool failed_ = false;
  bool spare_used_ = false;
  bool spare_second_ = false;
  bool line_pending_ = false;    // next_ holds the line of a commit that isn't committed()
  Index lined_;                  // of the newest state that has a line
  Index durable_;
  unsigned marks_ = 0;
  std::uint32_t marked_ = 0;     // frames that a Durable line covers
  std::uint64_t next_ = 0;       // where the next commit line goes; lines that repeat a frame use next_ and next_ + 1
};

}  // namespace rq::ledger
