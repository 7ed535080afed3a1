// One run: a cluster is founded, does its work while things go wrong, is healed, and is judged.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "sim/mutants.h"

namespace rq::sim {

struct RunOptions {
  std::uint64_t seed = 1;
  Mutant mutant = Mutant::None;
  bool print_story = false;
};

struct Verdict {
  std::optional<std::string> violation;
  std::uint64_t trace = 0;                 // equal seeds give equal traces
  std::size_t operations = 0, acknowledged = 0, faults = 0, terms = 0;
  std::uint64_t entries = 0, events = 0;
  double virtual_seconds = 0;
  bool gave_up = false;                    // a history was too large to be judged
};

Verdict run(const RunOptions& options);

}  // namespace rq::sim
