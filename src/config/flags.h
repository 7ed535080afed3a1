// The command line: Go flag syntax, the reference's checks in its order and with its texts (spec cluster.md section 1).
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "config/options.h"

namespace rq::config {

// Looks at files only to see whether those that are named can be read.
std::variant<Options, Exit> parse(int argc, const char* const* argv, std::string_view version_line);

}  // namespace rq::config
