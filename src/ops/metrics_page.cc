#include "ops/metrics_page.h"

#include <dirent.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <vector>

#include "ops/certificates.h"
#include "ops/exposition.h"

namespace rq::ops {
namespace {

double seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }
std::uint64_t file_bytes(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}
std::string_view flag(bool value) { return value ? "true" : "false"; }

void put_process(Exposition& out, const MetricsSources& sources) {
  const std::string version = sources.node.identity().version;
  out.gauge("rqlite_build_info", "What runs; always 1.");
  out.sample(std::uint64_t{1}, {{"version", version}, {"commit", sources.commit}, {"sqlite_version", sqlite3_libversion()}});
  out.gauge("process_start_time_seconds", "Start of the process, Unix time.", seconds(sources.started.time_since_epoch()));
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto total = [](const timeval& user, const timeval& system) {
    return static_cast<double>(user.tv_sec + system.tv_sec) + static_cast<double>(user.tv_usec + system.tv_usec) * 1e-6;
  };
  out.counter("process_cpu_seconds_total", "Processor time used.", total(usage.ru_utime, usage.ru_stime));
  long pages = 0, resident = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) pages = resident = 0;
    std::fclose(file);
  }
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  out.gauge("process_resident_memory_bytes", "Memory in use.", static_cast<std::uint64_t>(resident) * page_bytes);
  out.gauge("process_virtual_memory_bytes", "Address space in use.", static_cast<std::uint64_t>(pages) * page_bytes);
  std::uint64_t files = 0;
  if (DIR* dir = ::opendir("/proc/self/fd")) {
    while (::readdir(dir) != nullptr) ++files;
    ::closedir(dir);
  }
  out.gauge("process_open_fds", "Open file descriptors.", files > 3 ? files - 3 : 0);      // without ".", ".." and this one
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  out.gauge("process_max_fds", "Limit of open file descriptors.", static_cast<std::uint64_t>(limit.rlim_cur));
}

void put_http(Exposition& out, const MetricsSources& sources) {
  out.histogram("rqlite_http_request_seconds", "From a request's arrival until its answer is ready to be sent.");
  const auto labels_of = [](const http::EndpointStats& stats) {
    Labels labels{{"endpoint", stats.endpoint}};
    if (!stats.level.empty()) labels.emplace_back("level", stats.level);
    return labels;
  };
  // An endpoint appears with its first request: most of them are never asked.
  std::vector<const http::EndpointStats*> used;
  for (const auto& stats : sources.api.stats())
    if (stats && (stats->in_flight.load(std::memory_order_relaxed) > 0 || stats->seconds.snapshot().count > 0)) used.push_back(stats.get());
  for (const http::EndpointStats* stats : used) out.times(stats->seconds, labels_of(*stats));
  out.counter("rqlite_http_requests_total", "Answered requests, by status code (other: any not listed).");
  for (const http::EndpointStats* stats : used) {
    for (std::size_t i = 0; i < http::EndpointStats::kCodes.size(); ++i) {
      const std::uint64_t count = stats->codes[i].load(std::memory_order_relaxed);
      const int code = http::EndpointStats::kCodes[i];
      if (count == 0 && code != 200) continue;
      const std::string text = code == 0 ? "other" : std::to_string(code);
      Labels labels = labels_of(*stats);
      labels.emplace_back("code", text);
      out.sample(count, labels);
    }
  }
  out.gauge("rqlite_http_in_flight", "Requests under way.");
  for (const http::EndpointStats* stats : used) out.sample(stats->in_flight.load(std::memory_order_relaxed), labels_of(*stats));
  out.gauge("rqlite_http_connections", "Open client connections.", std::uint64_t{sources.server.connections()});
  out.gauge("rqlite_tls_cert_expiry_seconds", "Until the certificate file of a port expires; negative: since.");
  for (const auto& [port, path] : {std::pair("http", sources.http_cert), std::pair("node", sources.node_cert)}) {
    if (path.empty()) continue;
    if (const Result<CertificateFacts> facts = read_certificate(path)) out.sample(seconds(facts->not_after - sources.node.clock().wall()), {{"port", port}});
  }
  const http::WriteQueue& queue = sources.api.queue();
  out.gauge("rqlite_queue_depth", "Queued writes (?queue) that wait.", std::uint64_t{queue.waiting()});
  out.gauge("rqlite_queue_capacity", "Room for queued writes.", std::uint64_t{queue.options().capacity});
}

void put_raft(Exposition& out, const MetricsSources& sources, const store::Store& store, const replica::View& view) {
  const replica::Replica& replica = store.replica();
  const SteadyTime now = sources.node.clock().now();
  const bool leads = view.role == raft::Role::Leader && !view.broken;
  const bool candidate = view.role == raft::Role::Candidate || view.role == raft::Role::PreCandidate;
  const std::string_view state = view.broken ? "Shutdown" : leads ? "Leader" : candidate ? "Candidate" : "Follower";
  out.gauge("rqlite_raft_state", "1 for the present state.");
  for (const std::string_view name : {"Leader", "Follower", "Candidate", "Shutdown"}) out.sample(std::uint64_t{name == state}, {{"state", name}});
  out.gauge("rqlite_raft_is_leader", "Whether this node leads.", std::uint64_t{leads});
  out.gauge("rqlite_raft_has_leader", "Whether this node knows a leader.", std::uint64_t{static_cast<bool>(view.leader)});
  out.gauge("rqlite_raft_is_voter", "Whether this node votes.", std::uint64_t{view.conf.is_voter(sources.node.identity().raft_id)});
  out.gauge("rqlite_raft_voters", "Voters of the cluster.", std::uint64_t{view.conf.voters.size()});
  out.gauge("rqlite_raft_members", "Members of the cluster.", std::uint64_t{view.record.members.all().size()});
  out.gauge("rqlite_raft_term", "Present term.", view.term.value);
  out.gauge("rqlite_raft_commit_index", "Newest entry known to be committed.", replica.commit().value);
  out.gauge("rqlite_raft_applied_index", "Newest entry in the database.", replica.applied().value);
  out.gauge("rqlite_raft_last_log_index", "Newest entry in the log.", std::max(view.last_index, replica.commit()).value);
  const std::uint64_t first = replica.log_first().value;
  out.gauge("rqlite_raft_last_snapshot_index", "Newest entry that the log no longer holds.", first > 0 ? first - 1 : 0);
  out.gauge("rqlite_raft_log_bytes", "The log on disk.", replica.log_bytes());
  out.gauge("rqlite_raft_lag_entries", "Entries committed as far as this node knows, and not applied.",
            replica.commit().value - std::min(replica.commit(), replica.applied()).value);
  out.gauge("rqlite_raft_fsm_pending", "Committed entries that wait for the apply thread.", std::uint64_t{replica.apply_pending()});
  out.gauge("rqlite_raft_queued_bytes", "Leader: bytes of writes that wait for the log or for their commit.", std::uint64_t{view.queued_bytes});
  if (const auto contact = replica.leader_contact(); contact && !leads)
    out.gauge("rqlite_raft_last_contact_seconds", "Follower: since the leader was heard last.", seconds(now - *contact));
  out.gauge("rqlite_raft_healthy", "0: Raft or the apply of its entries is stopped on this node.", std::uint64_t{!view.broken && !replica.apply_error()});

  out.gauge("rqlite_raft_peer_lag_entries", "Leader: entries that a member doesn't have yet.");
  const auto each_peer = [&](const auto& tell) {
    if (!leads) return;
    for (const raft::PeerStatus& peer : view.peers)
      if (const replica::Member* member = view.record.members.find(peer.id)) tell(peer, Labels{{"peer", member->node_id}, {"voter", flag(!peer.learner)}});
  };
  each_peer([&](const raft::PeerStatus& peer, const Labels& labels) { out.sample(view.last_index.value - std::min(view.last_index, peer.match).value, labels); });
  out.gauge("rqlite_raft_peer_match_index", "Leader: newest entry that a member is known to have.");
  each_peer([&](const raft::PeerStatus& peer, const Labels& labels) { out.sample(peer.match.value, labels); });
  out.gauge("rqlite_raft_peer_reachable", "Leader: whether a member was heard within the last election timeout.");
  each_peer([&](const raft::PeerStatus& peer, const Labels& labels) { out.sample(std::uint64_t{peer.recent_active}, labels); });
  out.gauge("rqlite_raft_peer_last_contact_seconds", "Leader: since a member was heard last.");
  each_peer([&](const raft::PeerStatus& peer, const Labels& labels) {
    const auto heard = view.contacts.find(peer.id);
    if (heard != view.contacts.end()) out.sample(seconds(now - heard->second), labels);
  });
  out.gauge("rqlite_peer_connections", "Connections for calls to other nodes.");
  for (const transport::Transport::PoolStats& pool : sources.node.transport().pool_stats()) out.sample(std::int64_t{pool.open}, {{"addr", pool.addr}});
}

void put_stages(Exposition& out, const store::Store& store) {
  const replica::Stats& stats = store.replica().stats();
  out.histogram("rqlite_raft_queue_seconds", "Leader: a write from its arrival until it is part of a group entry.");
  out.times(stats.queue);
  out.histogram("rqlite_raft_commit_seconds", "Leader: a group entry from then until it is committed.");
  out.times(stats.commit);
  out.histogram("rqlite_raft_append_seconds", "A batch of the log: its writes.");
  out.times(stats.append);
  out.histogram("rqlite_raft_fsync_seconds", "A batch of the log: its sync to disk.");
  out.times(stats.fsync);
  out.histogram("rqlite_raft_apply_seconds", "An entry: its transaction in the database.");
  out.times(stats.apply);
  out.histogram("rqlite_raft_read_index_seconds", "Linearizable reads: until a majority confirmed the leader.");
  out.times(stats.read_index);
  out.counter("rqlite_raft_groups_total", "Group entries proposed here.", stats.groups.value());
  out.counter("rqlite_raft_proposals_total", "Writes in them.", stats.proposals.value());
  out.counter("rqlite_raft_group_bytes_total", "Bytes of them.", stats.group_bytes.value());
  out.counter("rqlite_raft_entries_applied_total", "Entries applied here.", stats.entries_applied.value());
  out.counter("rqlite_raft_elections_total", "Elections begun here.", stats.elections.value());
  out.counter("rqlite_raft_proposals_expired_total", "Writes that found no place in the log within -raft-apply-timeout.", stats.expired.value());
  out.histogram("rqlite_sql_read_seconds", "A request of reads, where it ran: on a net thread, in the read pool, at its place in the log.");
  out.times(store.read_times().inline_reads, {{"where", "net"}});
  out.times(store.read_times().pool_reads, {{"where", "pool"}});
  out.times(store.read_times().strong_reads, {{"where", "log"}});
  out.counter("rqlite_slow_queries_total", "Requests that took longer than -slow-query-log.", store.slow_requests());
}

void put_database(Exposition& out, const store::Store& store) {
  const std::string path = store.data_dir() + "/db.sqlite";
  const store::DatabaseFacts facts = store.database_facts();
  out.gauge("rqlite_db_bytes", "Size of the database: its pages.", std::int64_t{facts.page_count * facts.page_size});
  out.gauge("rqlite_db_file_bytes", "Size of the database file.", file_bytes(path));
  out.gauge("rqlite_db_wal_bytes", "Size of SQLite's WAL file.", file_bytes(path + "-wal"));
  out.gauge("rqlite_db_freelist_pages", "Unused pages of the database.", std::int64_t{facts.freelist_count});
  const executor::Status status = store.executor().status();
  out.gauge("rqlite_db_wal_used_bytes", "Part of SQLite's WAL that isn't in the database file yet.", status.wal_bytes);
  out.counter("rqlite_db_checkpoints_total", "Checkpoints of SQLite's WAL.", status.checkpoints);
  out.gauge("rqlite_db_durable_index", "Newest entry that is in the database for good, power loss or not.", status.durable.value);
  // A sample is a float of 53 bits: the chain comes in two halves, each exact.
  out.gauge("rqlite_effect_chain", "Hash over what all entries wrote up to rqlite_effect_chain_index: equal on all nodes at equal indexes.");
  out.sample(status.chain >> 32, {{"half", "high"}});
  out.sample(status.chain & 0xffffffffu, {{"half", "low"}});
  out.gauge("rqlite_effect_chain_index", "The entry up to which the effect chain goes.", status.applied.value);
  const store::Scrubber::State scrub = store.integrity().scrubber().newest();
  out.gauge("rqlite_effect_quarantined", "The database differs from the majority's: nothing is served from it.", std::uint64_t{store.integrity().quarantined()});
  out.gauge("rqlite_effect_scrub_index", "The entry as of which the whole database was hashed last or is being hashed; 0: not since the start.", scrub.index.value);
  const sql::ReadPool::Stats pool = store.pool_stats();
  out.gauge("rqlite_db_read_connections", "Open read connections of the pool.", std::uint64_t{pool.connections});
  out.gauge("rqlite_db_read_connections_busy", "Read connections in use.", std::uint64_t{pool.busy});
  out.gauge("rqlite_db_reads_waiting", "Reads that wait for a thread of the pool.", std::uint64_t{pool.waiting});
  out.counter("rqlite_db_read_waits_total", "Reads that waited for a connection.", std::uint64_t{pool.waits});
}

void put_counters(Exposition& out, const Metrics& counters) {
  for (const auto& [map, members] : counters.maps())
    for (const auto& [key, counter] : members) {
      const std::string name = counter_name(map, key);
      const std::string help = "/debug/vars " + map + "." + key;
      if (only_grows(map, key)) out.counter(name + "_total", help, counter.value());
      else out.gauge(name, help, counter.value());
    }
}

}  // namespace

std::string counter_name(std::string_view map, std::string_view key) {
  std::string name = "rqlite_vars_" + std::string(map) + "_" + std::string(key);
  std::ranges::replace(name, '.', '_');
  return name;
}

// The reference's own rule for its metrics export.
bool only_grows(std::string_view map, std::string_view key) {
  if (key.find("duration") != std::string_view::npos || key.ends_with("_size") || key.ends_with("_ratio") || key.starts_with("last_")) return false;
  if (map == "db.wal" && (key == "compact_frames_input" || key == "compact_frames_output")) return false;
  return !(map == "snapshot" && (key == "reap_snapshots" || key == "reap_wals"));
}

std::string metrics_text(const MetricsSources& sources, const std::optional<replica::View>& view) {
  Exposition out;
  put_process(out, sources);
  put_http(out, sources);
  const store::Store* store = sources.node.open_store();
  out.gauge("rqlite_store_open", "Whether the store is open.", std::uint64_t{store != nullptr});
  if (store != nullptr && view) {
    out.gauge("rqlite_ready", "Whether this node's own log is applied and a leader is known.", std::uint64_t{store->ready() && view->leader});
    put_raft(out, sources, *store, *view);
    put_stages(out, *store);
    put_database(out, *store);
  }
  put_counters(out, sources.counters);
  return out.take();
}

}  // namespace rq::ops
