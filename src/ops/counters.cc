#include "ops/counters.h"

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "base/go_text.h"

namespace rq::ops {

void refresh_counters(Metrics& metrics, const cluster::Node& node) {
  const store::Store* store = node.open_store();
  if (store == nullptr) return;
  const replica::Stats& stats = store->replica().stats();
  // Nothing is compressed on its way into the log.
  metrics.counter("store", "num_uncompressed_commands").set(stats.proposals.value());
  metrics.counter("proto", "num_requests").set(stats.proposals.value());
  metrics.counter("proto", "num_uncompressed_requests").set(stats.proposals.value());
  metrics.counter("proto", "num_uncompressed_bytes").set(stats.group_bytes.value());
  metrics.counter("store", "fsm_apply_duration_us").set(stats.last_apply_us.value());
  metrics.counter("store", "num_verify_leader").set(static_cast<std::int64_t>(stats.read_index.snapshot().count));
  metrics.counter("store", "verify_leader_duration").set(stats.last_read_index_us.value() / 1000);
  const executor::Status status = store->executor().status();
  metrics.counter("db", "checkpoints").set(static_cast<std::int64_t>(status.checkpoints));
  metrics.counter("db", "checkpoint_total").set(static_cast<std::int64_t>(status.checkpoints));
}

std::string memstats_json() {
  const struct mallinfo2 info = ::mallinfo2();
  const std::uint64_t in_use = info.uordblks + info.hblkhd, from_system = info.arena + info.hblkhd;
  std::map<std::string, std::uint64_t> members = {
      {"Alloc", in_use},      {"HeapAlloc", in_use}, {"HeapInuse", in_use},         {"Sys", from_system},
      {"HeapSys", from_system}, {"HeapIdle", info.fordblks}, {"HeapReleased", info.keepcost}, {"TotalAlloc", in_use}};
  for (const char* name : {"BuckHashSys", "Frees", "GCCPUFraction", "GCSys", "HeapObjects", "LastGC", "Lookups", "MCacheInuse", "MCacheSys", "MSpanInuse",
                           "MSpanSys", "Mallocs", "NextGC", "NumForcedGC", "NumGC", "OtherSys", "PauseTotalNs", "StackInuse", "StackSys"})
    members[name] = 0;
  std::map<std::string, std::string> texts = {{"BySize", "[]"}, {"PauseNs", "[]"}, {"PauseEnd", "[]"}, {"EnableGC", "false"}, {"DebugGC", "false"}};
  for (const auto& [name, value] : members) texts[name] = std::to_string(value);
  std::string out;
  for (const auto& [name, text] : texts) {
    out += out.empty() ? "{\"" : ",\"";
    out.append(name).append("\":").append(text);
  }
  return out + "}";
}

std::string peer_pools_json(const cluster::Node& node) {
  std::vector<transport::Transport::PoolStats> pools = node.transport().pool_stats();
  std::ranges::sort(pools, {}, &transport::Transport::PoolStats::addr);
  std::string out = "{";
  for (const transport::Transport::PoolStats& pool : pools) {
    if (out.size() > 1) out += ',';
    append_json_string(out, pool.addr);
    out += ":{\"idle\":" + std::to_string(pool.idle) + ",\"max_open_connections\":" + std::to_string(pool.max_open) +
           ",\"open_connections\":" + std::to_string(pool.open) + "}";
  }
  return out + "}";
}

}  // namespace rq::ops
