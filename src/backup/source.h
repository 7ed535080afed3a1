// Backups of a database as streams of pieces, each of one committed state (spec backup-restore section 1).
//
// A Source holds one read transaction from open_source() until it is destroyed: writes and checkpoints go on, what was
// committed later is not in it, SQLite's WAL can't begin anew meanwhile. Memory: two pieces, whatever the size; a SQL dump
// also the row at hand. Where a copy is needed (vacuum) the first next() makes it, of the state of that moment, as a file in
// `staging_dir` that is removed with the Source.
// Threads: one at a time uses a Source; cancel() from any, also while next() runs.
// Errors of open_source() and next(): Errc::BadRequest "invalid backup format" (vacuum of another format than binary), Io,
// NoSpace, Corrupt, Sql, Canceled. After an error the stream is over.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "base/clock.h"
#include "base/result.h"
#include "io/disk.h"

namespace rq::backup {

enum class Format : unsigned char {
  Image,         // the SQLite file in WAL mode
  DeleteImage,   // the same in DELETE mode
  Sql,           // text that builds it
};

struct Query {
  Format format = Format::Image;
  bool vacuum = false;               // of Format::Image: compacted, in DELETE mode
  bool compress = false;             // gzip around it
  std::vector<std::string> tables;   // of Format::Sql: only these; empty: all
};

struct Database {
  std::string path, vfs;             // vfs empty: SQLite's default
  std::string staging_dir;           // exists
  io::Disk* disk = nullptr;          // where staging_dir is; must see the same files as SQLite
  const Clock* clock = nullptr;
};

class Source {
 public:
  virtual ~Source() = default;
  virtual Result<Piece> next() = 0;
  virtual void cancel() = 0;         // a running next() ends soon, and so does every later one
};

inline constexpr std::size_t kPieceBytes = 256 * 1024;

Result<std::unique_ptr<Source>> open_source(const Database& database, const Query& query);

// Copies for `vacuum` begin with this name. What a crash left of them may be removed when no source is open.
inline constexpr std::string_view kCopyPrefix = "backup-";

}  // namespace rq::backup
