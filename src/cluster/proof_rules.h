// When are replicas equal, which one is odd, and when can nobody tell: the rules behind cluster/proof.h. Pure.
//
// Members report a value for one index: the effect chain after that entry, or the hash of the whole database as of it.
// Values of different engines (fingerprints) are not comparable; 0 means that the member doesn't know.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "raft/engine.h"

namespace rq::cluster {

struct ProofReport {
  std::uint64_t engine = 0, value = 0;
  bool operator==(const ProofReport&) const = default;
};
using ProofReports = std::map<RaftId, ProofReport>;

struct ProofVerdict {
  std::optional<ProofReport> agreed;   // what a majority of all voters (of both halves, when joint) reported
  std::vector<RaftId> odd;             // members, learners too, of the agreed engine that reported another value
  // Comparable voters contradict each other, and no value has a majority: once all have reported, or long enough after the
  // question, nobody can tell which is right.
  bool contradiction = false;
  bool complete = false;               // all voters have reported
};

// Members whose state is another one's, by an image, and has not been compared since: the copy and whose it is, and whose that one
// was. What rotted there is in the copy too: they don't bear each other out against one that is no copy.
using ProofCopies = std::map<RaftId, std::vector<RaftId>>;

// Chains that contradict each other, though a scrub at that index or later found the databases of all who reported one to be equal: what
// differed has been written over. The chains can begin anew.
bool written_over(const ProofReports& chains, const ProofReports& scrub);

ProofVerdict judge(const raft::ConfState& conf, const ProofReports& reports, const ProofCopies& copies = {});

}  // namespace rq::cluster
