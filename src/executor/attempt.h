// The note of the entry that is being applied (file apply.attempt): how a process that dies of an entry is found out.
//
// 16 bytes {index, number of starts that began it, CRC32C}, overwritten before each entry, not synced: the page cache
// survives the death of the process, and nothing is lost if power takes it. A second note stands behind the first: entries that
// are replayed on the way to one that an earlier start died of have theirs there. (Power may take what was applied and leave
// the note of a later entry: that one must not hide an earlier one that nobody survives.)
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/types.h"
#include "io/disk.h"

namespace rq::executor {

inline constexpr std::uint32_t kAttemptsMax = 2;   // a third start finds them and doesn't begin the entry

class AttemptNote {
 public:
  static Result<AttemptNote> open(io::Disk& disk, const std::string& path, Index applied);

  // The entry that earlier starts began too often and that isn't applied yet; 0: none.
  Index poison() const;
  std::uint32_t attempts(Index index) const;   // of earlier starts
  // When such an entry has been applied, that is to be made known to the next start at once.
  bool suspected(Index index) const { return attempts(index) > 0; }

  // Everything up to there is applied, or passed over.
  void passed(Index until);
  Result<> begin(Index index);
  // It was suspected, and has been applied: what earlier starts died of was something else. Durable: power may take once more what
  // was applied. Happens once a start at most, after one that did not end in good order.
  Result<> survived(Index index);
  // It was given up in good order: this start doesn't count.
  Result<> withdraw(Index index);

 private:
  struct Suspect {                      // begun by an earlier start, not applied then
    Index index;
    std::uint32_t attempts = 0;
  };

  explicit AttemptNote(std::unique_ptr<io::File> file) : file_(std::move(file)) {}
  std::size_t place_of(Index index) const;
  Result<> write(Index index, std::uint32_t attempts);

  std::unique_ptr<io::File> file_;
  std::array<Suspect, 2> suspects_;     // as the places of the file had them at the start; none: 0
};

}  // namespace rq::executor
