// Effect: what a transaction wrote into the database, as one number that is chained from entry to entry.
//
// Equal entries on equal databases give equal chains, whatever else differs between two nodes: caches, checkpoints,
// readers, restarts, statements that were run again, savepoints. What counts:
//   - the last version of each page that the transaction wrote, in no order. Of page 1 all but bytes 24-27 and 92-95: the
//     change counters, which count what SQLite did;
//   - not pages behind the end of the database, and not those that are free at the end: whether a page that was used and
//     freed again was written depends on what had to leave the page cache. Of the trunks of the free list their lists count;
//   - the size of the database, the index of the entry and its registers.
// A transaction that writes no page leaves the chain as it is. kUnknown stays: a chain that isn't known can't go on.
//
// The frames are told as SQLite writes them into its WAL, several times for some pages: a page that had to leave the cache
// early (a spill) is overwritten in place later, and frames of what was rolled back are written over. Thread: the writer's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/ledger.h"

namespace rq::ledger {

inline constexpr std::uint64_t kUnknownChain = 0;
inline constexpr std::uint64_t kFirstChain = 1;     // of a database that nothing was written to

class Effect {
 public:
  // A frame behind all that count so far, or over those that don't count any more. Frames number from 1 in the WAL.
  void appended(std::uint32_t frame, std::uint32_t page, std::string_view content);
  void overwritten(std::uint32_t frame, std::string_view content);
  void clear();   // the transaction is over

  // Fills `page` with what the frame holds now. False: it can't be read.
  using ReadFrame = std::function<bool(std::uint32_t frame, std::string& page)>;
  // The chain after the commit that makes the database `pages` long and its state `after` (whose chain is the one before
  // it). Errc::Io: a frame can't be read.
  Result<std::uint64_t> chain(const Position& after, std::uint32_t pages, const ReadFrame& read) const;

 private:
  struct Written {
    std::uint32_t page = 0;
    std::uint32_t frame = 0;
    std::uint64_t hash = 0;
  };
  std::vector<Written> last_versions(std::uint32_t pages) const;

  std::uint32_t first_ = 0;            // frame of the first below
  std::vector<Written> frames_;
};

// The hash of a page that is in use, of a trunk of the free list, and of a whole database (the sum over its pages, and
// their number); also for whoever compares whole databases. Never 0.
std::uint64_t database_hash(std::uint64_t sum, std::uint64_t pages);
std::uint64_t page_hash(std::uint32_t page, std::string_view content);

// A trunk page of the free list.
struct Trunk {
  std::uint32_t next = 0;
  std::vector<std::uint32_t> leaves;
};
Trunk parse_trunk(std::string_view content);
std::uint64_t trunk_hash(std::uint32_t page, const Trunk& trunk);
std::uint32_t first_trunk(std::string_view page1);   // 0: no page is free

// The chain after an entry whose effect is known by name: the database was replaced by one with this digest.
std::uint64_t chain_of_replacement(const Position& after, std::string_view digest);
// The chain of all nodes after an entry that begins it anew.
std::uint64_t chain_anew(Index index);

}  // namespace rq::ledger
