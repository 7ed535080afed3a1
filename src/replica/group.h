// The payload of a Normal entry: the proposals that were waiting together (pb::GroupEntry), written once and read
// without copying the proposals. Format: docs/formats/command.md. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace rq::replica {

struct GroupView {               // points into the payload it was read from
  std::int64_t wall_ms = 0;
  std::string_view seed;         // 16 bytes
  std::vector<std::string_view> proposals;
};

class GroupWriter {
 public:
  // What add() will grow the payload by, at most.
  static std::size_t cost(std::string_view proposal) { return proposal.size() + 11; }

  void add(std::string_view proposal);
  std::size_t size() const { return body_.size(); }
  std::string seal(std::int64_t wall_ms, std::uint64_t seed_high, std::uint64_t seed_low) &&;

 private:
  std::string body_;
};

// Errc::Corrupt, Errc::Unsupported (a later version's entry). An empty payload (a new leader's own entry) has no proposals.
Result<GroupView> read_group(std::string_view payload);

}  // namespace rq::replica
