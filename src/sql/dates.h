// Dates as columns of type date, datetime and timestamp show them (spec http-api section 8). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace rq::sql {

// Appends a quoted RFC 3339 text. Errors (Errc::BadRequest): a year beyond 9999, an offset of 24 hours or more.
Result<> append_date(std::string& out, std::int64_t seconds_or_ms);   // above 10^12: milliseconds
Result<> append_date(std::string& out, std::string_view text);        // what can't be read is the year 1

}  // namespace rq::sql
