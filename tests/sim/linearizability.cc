#include "sim/linearizability.h"

#include <algorithm>
#include <limits>
#include <set>
#include <unordered_set>

namespace rq::sim {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// Whether `op` may come next when the register holds `state`; then `state` is what it holds afterwards.
bool fits(const RegisterOp& op, std::uint64_t& state) {
  switch (op.kind) {
    case RegisterOp::Kind::Read:
      return state == op.value;
    case RegisterOp::Kind::Write:
      state = op.value;
      return true;
    case RegisterOp::Kind::CompareAndSet:
      if (!op.end) {                       // its answer would have been whatever it was
        if (state == op.expected) state = op.value;
        return true;
      }
      if ((state == op.expected) != op.success) return false;
      if (op.success) state = op.value;
      return true;
  }
  return false;
}

// What nobody can have noticed leaves the others' possibilities as they are: reads without an answer, and writes without an
// answer whose value appears nowhere else. A comparison that failed may have noticed any write.
void drop_unseen(std::vector<RegisterOp>& history) {
  std::set<std::uint64_t> seen;
  std::int64_t mismatch_end = std::numeric_limits<std::int64_t>::min();
  for (const RegisterOp& op : history) {
    if (op.kind == RegisterOp::Kind::Read && op.end) seen.insert(op.value);
    if (op.kind != RegisterOp::Kind::CompareAndSet) continue;
    seen.insert(op.expected);
    if (op.end && !op.success) mismatch_end = std::max(mismatch_end, *op.end);
  }
  std::erase_if(history, [&](const RegisterOp& op) {
    if (op.end) return false;
    return op.kind == RegisterOp::Kind::Read || (!seen.contains(op.value) && op.call >= mismatch_end);
  });
}

struct Call {          // one event of the list that the search walks: a call, or the end of one
  std::int64_t time = 0;
  std::size_t op = 0;
  bool is_end = false;
  std::size_t next = 0, before = 0;
};

struct Tried {
  std::vector<std::uint64_t> done;
  std::uint64_t state = 0;
  bool operator==(const Tried&) const = default;
};
struct TriedHash {
  std::size_t operator()(const Tried& tried) const {
    std::uint64_t hash = tried.state * 0x9e3779b97f4a7c15;
    for (const std::uint64_t word : tried.done) hash = (hash ^ word) * 0xbf58476d1ce4e5b9 + (hash >> 29);
    return static_cast<std::size_t>(hash);
  }
};

std::string text_of(const RegisterOp& op) {
  const std::string span = " in [" + std::to_string(op.call) + ", " + (op.end ? std::to_string(*op.end) : "?") + "]";
  switch (op.kind) {
    case RegisterOp::Kind::Read:
      return "read " + std::to_string(op.value) + span;
    case RegisterOp::Kind::Write:
      return "write " + std::to_string(op.value) + span;
    case RegisterOp::Kind::CompareAndSet:
      break;
  }
  return "set " + std::to_string(op.expected) + " to " + std::to_string(op.value) + (op.success ? "" : " (no match)") + span;
}

}  // namespace

std::optional<std::string> check_register(std::vector<RegisterOp> history, std::uint64_t work_max, bool* gave_up) {
  drop_unseen(history);
  const std::size_t count = history.size();
  std::vector<Call> calls{{}};             // calls[0] is the list's head
  for (std::size_t op = 0; op < count; ++op) {
    calls.push_back({.time = history[op].call, .op = op});
    calls.push_back({.time = history[op].end.value_or(kNever), .op = op, .is_end = true});
  }
  // At one instant calls come first: the two overlap.
  std::stable_sort(calls.begin() + 1, calls.end(), [](const Call& a, const Call& b) { return std::pair(a.time, a.is_end) < std::pair(b.time, b.is_end); });
  std::vector<std::size_t> end_of(count);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    calls[i].next = i + 1 < calls.size() ? i + 1 : 0;
    calls[i].before = i == 0 ? calls.size() - 1 : i - 1;
    if (i > 0 && calls[i].is_end) end_of[calls[i].op] = i;
  }
  const auto unlink = [&](std::size_t at) {
    calls[calls[at].before].next = calls[at].next;
    calls[calls[at].next].before = calls[at].before;
  };
  const auto relink = [&](std::size_t at) {
    calls[calls[at].before].next = at;
    calls[calls[at].next].before = at;
  };
  std::size_t answered = static_cast<std::size_t>(std::ranges::count_if(history, [](const RegisterOp& op) { return op.end.has_value(); }));
  Tried now{std::vector<std::uint64_t>((count + 63) / 64), 0};
  std::unordered_set<Tried, TriedHash> tried;
  std::vector<std::pair<std::size_t, std::uint64_t>> chosen;    // call, state before it
  std::size_t deepest = 0, stuck = 0;
  std::uint64_t work = 0;
  std::size_t at = calls[0].next;
  while (answered > 0) {
    if (++work > work_max) {
      if (gave_up) *gave_up = true;
      return std::nullopt;
    }
    if (at != 0 && !calls[at].is_end) {
      const std::size_t op = calls[at].op;
      std::uint64_t state = now.state;
      if (fits(history[op], state)) {
        Tried next = now;
        next.done[op / 64] |= std::uint64_t{1} << (op % 64);
        next.state = state;
        if (tried.insert(next).second) {
          chosen.emplace_back(at, now.state);
          now = std::move(next);
          if (history[op].end) --answered;
          unlink(at);
          unlink(end_of[op]);
          at = calls[0].next;
          continue;
        }
      }
      at = calls[at].next;
      continue;
    }
    // The end of an operation that found no place: another choice before it is needed.
    if (chosen.size() >= deepest) {
      deepest = chosen.size();
      stuck = at;
    }
    if (chosen.empty()) return "no order explains: " + (stuck == 0 ? "the whole" : text_of(history[calls[stuck].op]));
    const auto [last, before] = chosen.back();
    chosen.pop_back();
    const std::size_t op = calls[last].op;
    now.done[op / 64] &= ~(std::uint64_t{1} << (op % 64));
    now.state = before;
    if (history[op].end) ++answered;
    relink(end_of[op]);
    relink(last);
    at = calls[last].next;
  }
  return std::nullopt;
}

}  // namespace rq::sim
