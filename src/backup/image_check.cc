#include "backup/image_check.h"

namespace rq::backup {
namespace {

std::uint32_t number_at(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < size; ++i) out = out << 8 | static_cast<unsigned char>(bytes[at + i]);
  return out;
}

tl::unexpected<Error> invalid(const std::string& why) { return fail(Errc::Corrupt, "invalid SQLite data: " + why); }

// quick_check also tells of rows that a constraint or a type doesn't allow: they were stored so.
bool tells_of_content(std::string_view row) {
  return row.starts_with("NULL value in ") || row.starts_with("CHECK constraint failed in ") || row.starts_with("NUMERIC value in ") ||
         row.starts_with("TEXT value in ") || (row.starts_with("non-") && row.find(" value in ") != std::string_view::npos);
}

// Of modules that this engine lacks: their tables can't be used, but they are not damaged.
bool tells_of_module(std::string_view row) { return row.starts_with("no such module: "); }

}  // namespace

Result<> check_image_header(std::string_view header, std::uint64_t file_bytes) {
  if (header.size() < kImageHeaderBytes) return invalid("the file has only " + std::to_string(file_bytes) + " bytes");
  if (!header.starts_with(kImageMagic) || header[kImageMagic.size()] != '\0') return fail(Errc::Corrupt, "invalid SQLite data");
  std::uint64_t page_bytes = number_at(header, 16, 2);
  if (page_bytes == 1) page_bytes = 65536;
  if (page_bytes < 512 || (page_bytes & (page_bytes - 1)) != 0) return invalid("a page size of " + std::to_string(page_bytes));
  for (const std::size_t at : {18u, 19u})
    if (header[at] != 1 && header[at] != 2) return invalid("unknown file format version");
  // The count of pages in the header is valid when whoever wrote it last also wrote the change counter.
  const std::uint64_t pages = number_at(header, 28, 4);
  const bool counted = pages > 0 && number_at(header, 24, 4) == number_at(header, 92, 4);
  if (file_bytes % page_bytes != 0 || (counted && file_bytes != pages * page_bytes))
    return invalid("the file has " + std::to_string(file_bytes) + " bytes, " +
                   (counted ? "its header says " + std::to_string(pages) + " pages of " : "which are no whole pages of ") + std::to_string(page_bytes));
  return {};
}

namespace {

Result<> quick_check(sql::Connection& connection, const sql::Cancellation& cancellation) {
  RQ_CHECK(connection.run("PRAGMA ignore_check_constraints=ON"));
  connection.arm({.cancellation = &cancellation});
  RQ_TRY(sql::Statement check, connection.prepare("PRAGMA main.quick_check(100)", sql::Connection::Reuse::Fresh));
  int code = SQLITE_OK;
  while ((code = check.step()) == SQLITE_ROW) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(check.handle(), 0));
    const std::string row = text == nullptr ? "" : text;
    if (row != "ok" && !tells_of_content(row) && !tells_of_module(row)) return fail(Errc::Corrupt, row);
  }
  if (code != SQLITE_DONE) return fail(connection.error(code));
  return {};
}

}  // namespace

Result<> check_image_pages(const std::string& path, const Clock* clock, const sql::Cancellation& cancellation) {
  // Opening it reads the schema: already that may fail.
  Result<std::unique_ptr<sql::Connection>> connection =
      sql::Connection::open({.path = path, .read_only = true, .clock = clock, .cache_kib = 8192, .statements_cached = 0});
  const Result<> checked = connection ? quick_check(**connection, cancellation) : Result<>(fail(connection.error()));
  if (checked) return {};
  const Error& error = checked.error();
  if (error.code == Errc::Corrupt || error.code == Errc::Sql) return invalid(error.detail);
  return fail(error);
}

}  // namespace rq::backup
