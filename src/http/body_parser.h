// Request bodies: JSON arrays of statements (spec http-api section 5), read from left to right, the first defect decides
// the answer. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "command/command.pb.h"

namespace rq::http {

// Fills `request`'s statements; empty SQL strings are left out. The value is the number of elements there were, with the
// empty ones. Errors: Errc::BadRequest with the text for the client. `body` is changed (strings are unescaped in place).
Result<std::size_t> parse_statements(std::string& body, pb::Request& request);

// The statements as they stand in the body, empty ones too, for /db/sql.
Result<std::size_t> parse_all_statements(std::string& body, pb::Request& request);

}  // namespace rq::http
