#include "sql/image_reader.h"

#include <algorithm>

namespace rq::sql {
namespace {
constexpr std::int64_t kMapBytes = 1 << 30;   // spares a system call and a copy for each page
}

Result<std::unique_ptr<ImageReader>> ImageReader::open(const std::string& path, const std::string& vfs, const Clock* clock) {
  std::unique_ptr<ImageReader> reader(new ImageReader());
  OpenOptions options{.path = path, .vfs = vfs, .read_only = true, .clock = clock, .cache_kib = 256, .mmap_bytes = kMapBytes, .lookaside_slots = 40, .statements_cached = 0};
  RQ_TRY(reader->connection_, Connection::open(options));
  Connection& connection = *reader->connection_;
  RQ_CHECK(connection.run("BEGIN"));
  RQ_TRY(const std::int64_t objects, connection.number("SELECT count(*) FROM sqlite_schema"));   // takes the snapshot
  (void)objects;
  RQ_TRY(const std::int64_t page_bytes, connection.number("PRAGMA page_size"));
  RQ_TRY(const std::int64_t pages, connection.number("PRAGMA page_count"));
  reader->page_bytes_ = static_cast<std::uint64_t>(page_bytes);
  reader->pages_ = static_cast<std::uint64_t>(pages);
  sqlite3_stmt* statement = nullptr;
  const int rc = sqlite3_prepare_v3(connection.handle(), "SELECT data FROM sqlite_dbpage WHERE pgno=?1", -1, SQLITE_PREPARE_PERSISTENT,
                                    &statement, nullptr);
  if (rc != SQLITE_OK) return fail(connection.error(rc));
  reader->page_.reset(statement);
  return reader;
}

Result<std::string> ImageReader::read(std::uint64_t offset, std::size_t size) {
  if (offset % page_bytes_ != 0 || size % page_bytes_ != 0) return fail(Errc::BadRequest, "not on page borders");
  std::string out;
  if (offset >= bytes()) return out;
  size = static_cast<std::size_t>(std::min<std::uint64_t>(size, bytes() - offset));
  out.reserve(size);
  for (std::uint64_t page = offset / page_bytes_ + 1; out.size() < size; ++page) {
    sqlite3_bind_int64(page_.get(), 1, static_cast<std::int64_t>(page));
    const int rc = sqlite3_step(page_.get());
    if (rc == SQLITE_ROW) {
      out.append(static_cast<const char*>(sqlite3_column_blob(page_.get(), 0)), static_cast<std::size_t>(sqlite3_column_bytes(page_.get(), 0)));
    }
    const bool good = rc == SQLITE_ROW && out.size() % page_bytes_ == 0;
    Error error = good ? Error{} : connection_->error(rc);
    sqlite3_reset(page_.get());
    if (!good) return fail(rc == SQLITE_ROW || rc == SQLITE_DONE ? Error{Errc::Corrupt, "page " + std::to_string(page) + " can't be read"} : std::move(error));
  }
  return out;
}

}  // namespace rq::sql
