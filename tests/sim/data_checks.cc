#include "sim/data_checks.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace rq::sim {

std::optional<std::string> check_list(const std::vector<Append>& appends, const std::vector<ListRead>& reads,
                                      const std::vector<std::uint64_t>& final_list) {
  std::map<std::uint64_t, std::size_t> place;
  for (std::size_t i = 0; i < final_list.size(); ++i)
    if (!place.emplace(final_list[i], i).second) return "element " + std::to_string(final_list[i]) + " was applied twice";
  std::map<std::uint64_t, const Append*> known;
  for (const Append& append : appends) {
    known[append.element] = &append;
    const bool there = place.contains(append.element);
    if (append.fate == Fate::Acknowledged && !there) return "acknowledged element " + std::to_string(append.element) + " is lost";
    if (append.fate == Fate::Refused && there) return "element " + std::to_string(append.element) + " was refused and is there";
  }
  for (const std::uint64_t element : final_list)
    if (!known.contains(element)) return "element " + std::to_string(element) + " was never appended";
  for (const ListRead& read : reads)
    if (read.elements.size() > final_list.size() || !std::equal(read.elements.begin(), read.elements.end(), final_list.begin()))
      return "a read saw what is no beginning of the final list (" + std::to_string(read.elements.size()) + " elements at " + std::to_string(read.call) + ")";
  // In the order of calls: how long the list must be at least, from what ended before.
  struct Known { std::int64_t end; std::size_t length; };
  std::vector<Known> facts;
  for (const Append& append : appends)
    if (append.fate == Fate::Acknowledged) facts.push_back({append.end, place[append.element] + 1});
  for (const ListRead& read : reads)
    if (read.newest) facts.push_back({read.end, read.elements.size()});
  std::ranges::sort(facts, {}, &Known::end);
  std::vector<const ListRead*> newest;
  for (const ListRead& read : reads)
    if (read.newest) newest.push_back(&read);
  std::ranges::sort(newest, {}, [](const ListRead* read) { return read->call; });
  std::size_t at_least = 0, next = 0;
  for (const ListRead* read : newest) {
    for (; next < facts.size() && facts[next].end < read->call; ++next) at_least = std::max(at_least, facts[next].length);
    if (read->elements.size() < at_least)
      return "a read at " + std::to_string(read->call) + " saw " + std::to_string(read->elements.size()) + " elements, " + std::to_string(at_least) + " were known before";
  }
  // Appends take place between call and end: one that ended before another was called stands before it.
  std::vector<const Append*> in_list;
  for (const std::uint64_t element : final_list) in_list.push_back(known[element]);
  std::int64_t latest_call = INT64_MIN;
  for (const Append* append : in_list) {
    if (append->fate == Fate::Acknowledged && append->end < latest_call) return "element " + std::to_string(append->element) + " stands behind one that was called after its end";
    latest_call = std::max(latest_call, append->call);
  }
  return std::nullopt;
}

std::optional<std::string> check_bank(const std::vector<std::int64_t>& balances, std::size_t accounts, std::int64_t total) {
  if (balances.size() != accounts) return "the bank has " + std::to_string(balances.size()) + " accounts";
  for (const std::int64_t balance : balances)
    if (balance < 0) return "an account is overdrawn: " + std::to_string(balance);
  const std::int64_t sum = std::accumulate(balances.begin(), balances.end(), std::int64_t{0});
  if (sum != total) return "the bank holds " + std::to_string(sum) + " instead of " + std::to_string(total);
  return std::nullopt;
}

std::optional<std::vector<std::string>> first_column(const std::string& results) {
  static const std::string kMark = "\"values\":[";
  const std::size_t begin = results.find(kMark);
  if (begin == std::string::npos) {
    if (results.find("\"columns\"") == std::string::npos) return std::nullopt;
    return std::vector<std::string>{};
  }
  std::vector<std::string> out;
  std::string cell;
  for (std::size_t at = begin + kMark.size(); at < results.size() && results[at] != '}'; ++at) {
    const char c = results[at];
    if (c == '[') cell.clear();
    else if (c == ']' && results[at - 1] != ']') out.push_back(cell);
    else if (c != '"' && !(c == ',' && results[at - 1] == ']')) cell += c;
  }
  return out;
}

std::vector<std::uint64_t> parse_list(std::string_view text) {
  std::vector<std::uint64_t> out;
  std::uint64_t number = 0;
  for (const char c : text) {
    if (c == ',') {
      out.push_back(number);
      number = 0;
    } else {
      number = number * 10 + static_cast<std::uint64_t>(c - '0');
    }
  }
  return out;
}

}  // namespace rq::sim
