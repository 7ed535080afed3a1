// The text of GET /metrics (docs/metrics.md names every family). Asks what it shows; nothing is kept between two calls but
// when the process began.
//
// Threads: render() from any; it reads a few files and asks SQLite for its sizes, as /status does.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "cluster/node.h"
#include "http/api.h"
#include "http/server.h"
#include "replica/replica.h"

namespace rq::ops {

struct MetricsSources {
  const cluster::Node& node;
  const http::Api& api;
  const http::Server& server;
  const Metrics& counters;
  std::string commit;
  WallTime started;
  std::string http_cert, node_cert;       // files; empty: no TLS on that port
};

// `view`: of the replica, fresh; nullopt: the store isn't open, its families are left out.
std::string metrics_text(const MetricsSources& sources, const std::optional<replica::View>& view);

// The name of a counter of /debug/vars at /metrics, without `_total`: rqlite_vars_MAP_KEY. Whether it only grows.
std::string counter_name(std::string_view map, std::string_view key);
bool only_grows(std::string_view map, std::string_view key);

}  // namespace rq::ops
