// Whether a history of one register is linearizable: the search of Wing and Gong with Lowe's memory of what was tried.
//
// A register holds a number, 0 at first. An operation has an interval; one whose answer never came may have taken effect at
// any moment after its call, or not at all. Histories of different registers are judged apart (locality).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rq::sim {

struct RegisterOp {
  enum class Kind : std::uint8_t { Read, Write, CompareAndSet } kind = Kind::Read;
  std::int64_t call = 0;
  std::optional<std::int64_t> end;     // nullopt: no answer
  std::uint64_t value = 0;             // read, or to be written
  std::uint64_t expected = 0;          // CompareAndSet
  bool success = true;                 // CompareAndSet with an answer: whether it matched
};

// Nothing, or why not. `work_max` bounds the search; a history that exceeds it counts as fine (and is told by `*gave_up`).
std::optional<std::string> check_register(std::vector<RegisterOp> history, std::uint64_t work_max = 4'000'000, bool* gave_up = nullptr);

}  // namespace rq::sim
