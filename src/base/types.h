// Strong integer types of the domain: values of different meaning do not mix.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace rq {

template <class Tag>
struct Strong {
  std::uint64_t value = 0;
  auto operator<=>(const Strong&) const = default;
  Strong next() const { return Strong{value + 1}; }
  explicit operator bool() const { return value != 0; }
};

using Term = Strong<struct TermTag>;      // Raft term; 0 = none
using Index = Strong<struct IndexTag>;    // place in the Raft log; the first entry has index 2 (1 is the bootstrap snapshot)
using RaftId = Strong<struct RaftIdTag>;  // a member of the Raft group: random, born with the data directory; 0 = none

}  // namespace rq

template <class Tag>
struct std::hash<rq::Strong<Tag>> {
  std::size_t operator()(rq::Strong<Tag> v) const noexcept { return std::hash<std::uint64_t>{}(v.value); }
};
