// The checks of a command line, in the reference's order and with its texts (spec cluster.md section 1.1 and 13).
// Pure but for access(): it looks whether the files that are named can be read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/options.h"

namespace rq::config {

using Problem = std::optional<std::string>;    // the text after "fatal: "

// Fills what follows from other flags: advertised addresses, node id, the join list, Raft timings of 0.
// `changed` are the flags whose value isn't the default, as given. Stops at the first problem; the options are
// then half filled.
Problem validate(Options& options, const std::vector<std::string>& changed);

// Raft's timing on its own: 0 becomes the default, then the relations are checked.
Problem validate_timing(Options& options);

// The first of `changed` whose feature is built later, as "not supported yet: -NAME".
Problem unsupported(const std::vector<std::string>& changed);

}  // namespace rq::config
