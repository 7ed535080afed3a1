// What a SQL request came to, and its JSON form (spec http-api sections 6 and 7). Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "command/command.pb.h"

namespace rq::command {

// How results are written; bits of pb::Request::render.
enum Render : std::uint32_t {
  kTimings = 1, kAssociative = 2, kBlobArray = 4, kQualifyColumns = 8, kRaftIndex = 16, kPretty = 32,
};

struct Outcome {
  std::string results;          // the elements of "results", comma separated, compact JSON; made where the SQL ran
  std::string error;            // top-level error; then results are not shown
  std::uint64_t raft_index = 0; // 0: did not go through the log
  std::chrono::nanoseconds elapsed{0};
  std::uint32_t failed = 0;     // statements whose result is an error; for counters only
};

// The whole answer body. `sequence_number` only for queued writes.
std::string render_body(const Outcome& outcome, std::uint32_t render,
                        std::optional<std::int64_t> sequence_number = std::nullopt);

}  // namespace rq::command
