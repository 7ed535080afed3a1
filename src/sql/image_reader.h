// ImageReader: the pages of a database as of one committed state, read while writes and checkpoints go on.
//
// It holds a read transaction on a connection of its own until it is destroyed; meanwhile SQLite's WAL can't begin anew, and
// frames behind that state are not moved. Pages come from sqlite_dbpage, which other connections may not use.
// Threads: one at a time, but interrupt() from any. Memory: a few pages. Errors: Errc::Io, Corrupt, NoSpace, Canceled.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "sql/connection.h"

namespace rq::sql {

class ImageReader {
 public:
  static Result<std::unique_ptr<ImageReader>> open(const std::string& path, const std::string& vfs, const Clock* clock);

  std::uint64_t page_bytes() const { return page_bytes_; }
  std::uint64_t bytes() const { return pages_ * page_bytes_; }
  // Up to `size` bytes from `offset` on, fewer at the end only. Both in whole pages, or Errc::BadRequest.
  Result<std::string> read(std::uint64_t offset, std::size_t size);
  void interrupt() { connection_->interrupt(); }
  Connection& connection() { return *connection_; }   // inside its transaction

 private:
  ImageReader() = default;
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };

  std::unique_ptr<Connection> connection_;
  std::unique_ptr<sqlite3_stmt, Finalizer> page_;
  std::uint64_t page_bytes_ = 0, pages_ = 0;
};

}  // namespace rq::sql
