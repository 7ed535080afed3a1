// The reference's Raft log (raft.db): hard state and entries, in our terms. Reads, never writes; entries come one by one,
// their commands as ranges of the file.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "import/bbolt.h"
#include "import/file_range.h"

namespace rq::import {

// A member of a configuration of the reference.
struct Server {
  std::string node_id;
  std::string raft_addr;
  bool voter = true;
  bool operator==(const Server&) const = default;
};

struct LogEntry {
  enum class Kind : std::uint8_t { Command = 0, Noop = 1, AddPeer = 2, RemovePeer = 3, Barrier = 4, Configuration = 5 };
  Index index;
  Term term;
  Kind kind = Kind::Command;
  std::optional<std::int64_t> appended_ms;   // Unix time at the leader; none in old logs
  FileRange data;
};

class ReferenceLog {
 public:
  // Errc::NotFound (no file), Corrupt, Unsupported, Io.
  static Result<ReferenceLog> open(io::Disk& disk, const std::string& path);

  Term current_term() const { return current_term_; }
  Index first() const { return first_; }      // 0: no entries
  Index last() const { return last_; }
  // The entries from `from` (at least first()) to the end. Errc::Corrupt: a gap, a wrong index, falling terms.
  Result<> read(Index from, const std::function<Result<>(const LogEntry&)>& visit) const;

 private:
  explicit ReferenceLog(BoltFile file) : file_(std::move(file)) {}
  Result<> find_ends();

  BoltFile file_;
  Term current_term_;
  Index first_, last_;
};

// Pure decoders. Errc::Corrupt.
Result<LogEntry> decode_log_entry(const FileRange& value);
Result<std::vector<Server>> decode_configuration(const FileRange& data);

}  // namespace rq::import
