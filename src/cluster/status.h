// The tree of GET /status, without its `http` part (spec cluster.md section 6, observability.md section 2).
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cluster/node.h"
#include "store/store.h"

namespace rq::cluster {

// What doesn't change while the process runs.
struct StatusFacts {
  std::string version, commit, build_time, compiler;
  std::string executable;
  std::string mux_addr;
  bool mux_tls = false;
  WallTime started;
  std::chrono::nanoseconds apply_timeout{}, heartbeat_timeout{}, election_timeout{}, commit_timeout{}, lease_timeout{};
  std::chrono::nanoseconds snapshot_interval{}, reap_timeout{}, reap_read_only_timeout{};
  std::uint64_t snapshot_threshold = 8192;
  std::uint64_t trailing_logs = 10240;
  std::string raft_log_level = "WARN";
  bool foreign_keys = false;
  bool shutdown_on_remove = false;
  bool compress_snapshots = false;
  int read_connections_max = 256;
};

std::string status_json(const StatusFacts& facts, const Node& node, const store::Store* store);

}  // namespace rq::cluster
