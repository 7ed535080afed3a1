// node.json of a data directory: who this node is. Written once at birth, again when the cluster is known.
//   {"format":1,"cluster_id":"HEX16","raft_id":"HEX16","node_id":"n1"}
// A directory with a later format is refused (Errc::Unsupported), a damaged file too (Errc::Corrupt).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "base/types.h"
#include "io/disk.h"

namespace rq::store {

struct NodeFile {
  std::uint64_t cluster_id = 0;   // 0: belongs to no cluster yet
  RaftId raft_id;
  std::string node_id;
  bool operator==(const NodeFile&) const = default;
};

Result<std::optional<NodeFile>> read_node_file(io::Disk& disk, const std::string& data_dir);
Result<> write_node_file(io::Disk& disk, const std::string& data_dir, const NodeFile& node);

}  // namespace rq::store
