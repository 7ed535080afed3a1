// Replays the reference's log into an SQLite file, as the reference would: one connection, statements in their order, those
// that failed there fail here and change nothing. SQL arrives rewritten already (random numbers, 'now'); what wasn't rewritten
// sees the time at which the leader appended the entry.
//
// A load replaces the file by the image in the entry. Nothing but the file at `path` (and files beside it) is written: ATTACH
// of files is refused.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "import/input.h"
#include "import/raft_log.h"
#include "io/disk.h"

namespace rq::import {

struct ReplayOptions {
  io::Disk* disk = nullptr;
  std::string base_vfs = "unix";   // must see the same files as `disk`
  std::string path;                // of the database; made when it doesn't exist
  bool foreign_keys = false;
};

struct ReplayCounts {
  std::uint64_t entries = 0, statements = 0, loads = 0;
  std::uint64_t failed = 0;        // statements and loads
  std::string first_failure;
};

class Replay {
 public:
  // Errors of all: Errc::Io, NoSpace, Internal, Corrupt (the database breaks, a command is damaged), Unsupported, TooLarge,
  // Canceled (by `progress`). After an error the file is of no use.
  static Result<std::unique_ptr<Replay>> open(const ReplayOptions& options);
  virtual ~Replay() = default;
  virtual Result<> apply(const LogEntry& entry, const Progress& progress) = 0;
  // An open transaction of the user ends as it would at a restart: rolled back. Closes the file.
  virtual Result<> finish() = 0;
  virtual const ReplayCounts& counts() const = 0;
};

}  // namespace rq::import
