// Checkers of what clients saw: lists that are only appended to, and a bank whose money is neither made nor lost.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rq::sim {

enum class Fate : std::uint8_t { Open, Acknowledged, Refused };   // Refused: surely without effect

struct Append {
  std::uint64_t element = 0;
  std::int64_t call = 0, end = 0;          // end: only of acknowledged ones
  Fate fate = Fate::Open;
};
struct ListRead {
  std::vector<std::uint64_t> elements;
  std::int64_t call = 0, end = 0;
  bool newest = true;                      // linearizable or strong; else any earlier state will do
};

// `final_list`: after everything is over. Each acknowledged element is in it once and for ever, refused ones never, no element
// twice; every read is a beginning of it; reads that must be new contain what was acknowledged before they began, and never
// less than an earlier such read.
std::optional<std::string> check_list(const std::vector<Append>& appends, const std::vector<ListRead>& reads,
                                      const std::vector<std::uint64_t>& final_list);

// Balances as one read saw them.
std::optional<std::string> check_bank(const std::vector<std::int64_t>& balances, std::size_t accounts, std::int64_t total);

// The rows' first column, out of {"columns":[..],"types":[..],"values":[[1],["x"]]}. Nothing: no such part.
std::optional<std::vector<std::string>> first_column(const std::string& results);

// "1,2,3," -> 1 2 3
std::vector<std::uint64_t> parse_list(std::string_view text);

}  // namespace rq::sim
