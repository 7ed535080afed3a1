// Parts of /debug/vars and /status that are looked up when somebody asks.
#pragma once

#include <string>

#include "base/metrics.h"
#include "cluster/node.h"

namespace rq::ops {

// Counters whose truth is kept elsewhere: log, database, peers.
void refresh_counters(Metrics& metrics, const cluster::Node& node);

// The members of Go's runtime.MemStats, with what malloc and the kernel say; those of its collector are 0.
std::string memstats_json();

// {"ADDR":{"idle":..,"max_open_connections":..,"open_connections":..},...}
std::string peer_pools_json(const cluster::Node& node);

}  // namespace rq::ops
