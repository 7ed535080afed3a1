// The doctor: looks at what a node with these options needs from its machine and its network, and says what to do. Changes
// nothing but a scratch file in the data directory (and its removal). May run beside the node.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "config/options.h"
#include "io/disk.h"

namespace rq::ops {

struct Finding {
  enum class Level { Ok, Warning, Bad } level = Level::Ok;
  std::string area;            // "clock", "names", "disk", "ports", "certificates", "directory", "cluster"
  std::string text;            // what was seen
  std::string advice;          // what to do; empty when all is well
};

// Blocks for a few seconds at most for each unreachable address. `told` is called for each finding as it is made.
void examine(const config::Options& options, io::Disk& disk, const Clock& clock, const std::function<void(const Finding&)>& told);

// One line (or two) for a terminal: "[ ok ] disk: ..." and "       what to do: ...".
std::string finding_text(const Finding& finding);

}  // namespace rq::ops
