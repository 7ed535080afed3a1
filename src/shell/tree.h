// Trees of .status, .nodes, .expvar and .leader: keys sorted, two blanks a level, arrays and maps within arrays as Go prints
// them (spec shell section 6.2). Pure.
#pragma once

#include <string>
#include <string_view>

#include "shell/json.h"

namespace rq::shell {

// The whole object, or with a key that one member of its top level; nothing for an unknown key.
std::string tree_text(const Json& object, std::string_view key = {});

// A value on one line, as Go's %v shows it: [1 two map[k:v]], <nil>.
std::string go_value_text(const Json& value);

}  // namespace rq::shell
