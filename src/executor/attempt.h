// The note of the entry that is being applied (file apply.attempt): how a process that dies of an entry is found out.
//
// 16 bytes {index, number of starts that began it, CRC32C}, overwritten before each entry, never synced: the page cache
// survives the death of the process, and nothing is lost if power takes it.
#pragma once

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
  Index poison() const { return suspect_attempts_ >= kAttemptsMax ? suspect_ : Index{}; }
  std::uint32_t attempts() const { return suspect_attempts_; }
  bool suspected(Index index) const { return index == suspect_; }

  Result<> begin(Index index);
  // It was given up in good order: this start doesn't count.
  Result<> withdraw(Index index);

 private:
  explicit AttemptNote(std::unique_ptr<io::File> file) : file_(std::move(file)) {}
  Result<> write(Index index, std::uint32_t attempts);

  std::unique_ptr<io::File> file_;
  Index suspect_;                       // begun by an earlier start, not applied then
  std::uint32_t suspect_attempts_ = 0;
};

}  // namespace rq::executor
