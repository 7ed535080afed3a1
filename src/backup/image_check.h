// Whether a file is a whole, sound SQLite database: before it takes the place of one.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sql/connection.h"

namespace rq::backup {

inline constexpr std::string_view kImageMagic = "SQLite format 3";   // a NUL byte follows
inline constexpr std::size_t kImageHeaderBytes = 100;

// The first 100 bytes against the size of the file. Errc::Corrupt, detail "invalid SQLite data: ...".
Result<> check_image_header(std::string_view header, std::uint64_t file_bytes);
// PRAGMA quick_check of a file in DELETE mode, as long as `cancellation` lets it. Errc::Corrupt as above, Canceled, Io. Rows
// that break a constraint are no damage. Reads the whole file; memory is bounded.
Result<> check_image_pages(const std::string& path, const Clock* clock, const sql::Cancellation& cancellation);

}  // namespace rq::backup
