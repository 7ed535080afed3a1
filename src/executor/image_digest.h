// ImageDigest: one number of a whole database as a held snapshot shows it, to be compared between nodes.
//
// Equal databases give equal numbers; what may differ between replicas that are equal doesn't count: the change counters
// and the writer's version in page 1, and the content of free pages. Read in pieces, so that the caller sets the pace.
// Thread: one at a time. Errors: those of StateMachine::persist(); Errc::Corrupt: not a database.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "raft/state_machine.h"

namespace rq::executor {

class ImageDigest {
 public:
  // The snapshot is held by the caller for as long as this lives.
  ImageDigest(raft::StateMachine& machine, const raft::MachineSnapshot& snapshot) : machine_(machine), id_(snapshot.id), total_(snapshot.bytes) {}

  Result<bool> step(std::size_t bytes);   // reads about that much; true: nothing is left
  std::uint64_t value() const;            // once step() said so
  std::uint64_t done() const { return done_; }
  std::uint64_t total() const { return total_; }

 private:
  Result<> begin();
  Result<> read_free_list(std::uint32_t trunk);
  void add(std::uint32_t page, std::string_view content);

  raft::StateMachine& machine_;
  const std::uint64_t id_, total_;
  std::uint64_t done_ = 0, sum_ = 0;
  std::uint32_t page_bytes_ = 0;
  std::vector<bool> free_;                // by page number
};

}  // namespace rq::executor
