#include "cluster/status.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <netpacket/packet.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/go_text.h"
#include "cluster/json_tree.h"

namespace rq::cluster {
namespace {

std::string duration(std::chrono::nanoseconds value) { return go_duration_text(value); }

std::uint64_t file_bytes(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

WallTime newest_change(const std::string& a, const std::string& b) {
  WallTime newest{};
  for (const std::string& path : {a, b}) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) continue;
    const WallTime at(std::chrono::seconds(info.st_mtim.tv_sec) + std::chrono::nanoseconds(info.st_mtim.tv_nsec));
    newest = std::max(newest, at);
  }
  return newest;
}

std::uint64_t directory_bytes(const std::string& dir) {
  std::uint64_t total = 0;
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(dir, std::filesystem::directory_options::skip_permission_denied, error);
  const std::filesystem::recursive_directory_iterator end;
  for (; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) total += entry->file_size(ignored);
  }
  return total;
}

std::string zero_time() { return "0001-01-01T00:00:00Z"; }
std::string time_text(const std::optional<WallTime>& time) { return time ? rfc3339_text(*time) : zero_time(); }

void put_build(JsonTree& tree, const StatusFacts& facts) {
  tree["version"] = facts.version;
  tree["commit"] = facts.commit;
  tree["build_time"] = facts.build_time;
  tree["compiler_toolchain"] = facts.compiler;
  tree["compiler_command"] = "g++";
}

void put_os(JsonTree& tree, const StatusFacts& facts) {
  char host[256] = {};
  (void)::gethostname(host, sizeof host - 1);
  tree["executable"] = facts.executable;
  tree["hostname"] = host;
  tree["page_size"] = static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
  tree["pid"] = static_cast<std::int64_t>(::getpid());
  tree["ppid"] = static_cast<std::int64_t>(::getppid());
}

std::int64_t thread_count() {
  std::int64_t count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc/self/task", error), end; !error && entry != end; entry.increment(error)) ++count;
  return count;
}

void put_runtime(JsonTree& tree, const StatusFacts& facts) {
  const auto cores = static_cast<std::int64_t>(std::thread::hardware_concurrency());
#if defined(__x86_64__)
  tree["GOARCH"] = "amd64";
#elif defined(__aarch64__)
  tree["GOARCH"] = "arm64";
#else
  tree["GOARCH"] = "unknown";
#endif
  tree["GOOS"] = "linux";
  tree["GOMAXPROCS"] = cores;
  tree["num_cpu"] = cores;
  tree["num_goroutine"] = thread_count();
  tree["version"] = facts.compiler;
  tree["kubernetes_hint"] = std::getenv("KUBERNETES_SERVICE_HOST") != nullptr;
}

std::string flags_text(unsigned flags) {
  std::string out;
  const auto add = [&](unsigned bit, const char* name) {
    if ((flags & bit) == 0) return;
    if (!out.empty()) out += '|';
    out += name;
  };
  add(IFF_UP, "up");
  add(IFF_BROADCAST, "broadcast");
  add(IFF_LOOPBACK, "loopback");
  add(IFF_POINTOPOINT, "pointtopoint");
  add(IFF_MULTICAST, "multicast");
  add(IFF_RUNNING, "running");
  return out;
}

int prefix_length(const sockaddr* mask) {
  if (mask == nullptr) return 0;
  const unsigned char* bytes = nullptr;
  int count = 0;
  if (mask->sa_family == AF_INET6) {
    bytes = reinterpret_cast<const sockaddr_in6*>(mask)->sin6_addr.s6_addr;
    count = 16;
  } else {
    bytes = reinterpret_cast<const unsigned char*>(&reinterpret_cast<const sockaddr_in*>(mask)->sin_addr);
    count = 4;
  }
  int bits = 0;
  for (int i = 0; i < count; ++i) bits += __builtin_popcount(bytes[i]);
  return bits;
}

void put_network(JsonTree& tree) {
  struct Interface {
    std::string flags, hardware;
    std::vector<std::string> addresses;
  };
  std::map<std::string, Interface> interfaces;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return;
  for (const ifaddrs* item = list; item != nullptr; item = item->ifa_next) {
    Interface& interface = interfaces[item->ifa_name];
    interface.flags = flags_text(item->ifa_flags);
    if (item->ifa_addr == nullptr) continue;
    char text[INET6_ADDRSTRLEN] = {};
    if (item->ifa_addr->sa_family == AF_INET) {
      ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(item->ifa_addr)->sin_addr, text, sizeof text);
    } else if (item->ifa_addr->sa_family == AF_INET6) {
      ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(item->ifa_addr)->sin6_addr, text, sizeof text);
    } else if (item->ifa_addr->sa_family == AF_PACKET) {
      const auto* link = reinterpret_cast<const sockaddr_ll*>(item->ifa_addr);
      bool any = false;
      for (int i = 0; i < link->sll_halen && i < 8; ++i) any |= link->sll_addr[i] != 0;
      for (int i = 0; any && i < link->sll_halen && i < 8; ++i) {
        char byte[4];
        std::snprintf(byte, sizeof byte, i == 0 ? "%02x" : ":%02x", link->sll_addr[i]);
        interface.hardware += byte;
      }
    }
    if (text[0] != 0) interface.addresses.push_back(std::string(text) + "/" + std::to_string(prefix_length(item->ifa_netmask)));
  }
  ::freeifaddrs(list);
  JsonTree& all = tree["interfaces"];
  for (const auto& [name, interface] : interfaces) {
    all[name]["flags"] = interface.flags;
    all[name]["hardware_address"] = interface.hardware;
    std::string addresses;
    for (const std::string& address : interface.addresses) {
      addresses += addresses.empty() ? "[{\"address\":" : ",{\"address\":";
      append_json_string(addresses, address);
      addresses += '}';
    }
    all[name]["addresses"].set_raw(addresses.empty() ? "null" : addresses + "]");
  }
}

std::string nodes_list(const replica::View& view) {
  std::string out = "[";
  for (const replica::Member& member : view.record.members.all()) {
    if (out.size() > 1) out += ',';
    out += "{\"id\":";
    append_json_string(out, member.node_id);
    out += ",\"addr\":";
    append_json_string(out, member.raft_addr);
    out += view.conf.is_voter(member.raft_id) ? ",\"suffrage\":\"voter\"}" : ",\"suffrage\":\"nonvoter\"}";
  }
  return out + "]";
}

std::string configuration_text(const replica::View& view) {
  std::string out = "[";
  for (const replica::Member& member : view.record.members.all()) {
    if (out.size() > 1) out += ' ';
    out += std::string("{Suffrage:") + (view.conf.is_voter(member.raft_id) ? "Voter" : "Nonvoter") + " ID:" + member.node_id +
           " Address:" + member.raft_addr + "}";
  }
  return out + "]";
}

std::string_view role_text(raft::Role role) {
  switch (role) {
    case raft::Role::Leader: return "Leader";
    case raft::Role::Follower: return "Follower";
    case raft::Role::Candidate:
    case raft::Role::PreCandidate: return "Candidate";
  }
  return "Follower";
}

// Beyond the reference: how far the leader's peers are.
std::string peers_list(const replica::View& view) {
  std::string out = "[";
  for (const raft::PeerStatus& peer : view.peers) {
    const replica::Member* member = view.record.members.find(peer.id);
    if (out.size() > 1) out += ',';
    out += "{\"id\":";
    append_json_string(out, member == nullptr ? "" : member->node_id);
    out += ",\"match_index\":" + std::to_string(peer.match.value) + ",\"lag_entries\":" +
           std::to_string(view.last_index.value > peer.match.value ? view.last_index.value - peer.match.value : 0) +
           ",\"learner\":" + (peer.learner ? "true" : "false") + ",\"active\":" + (peer.recent_active ? "true" : "false") + "}";
  }
  return out + "]";
}

void put_raft(JsonTree& tree, const StatusFacts& facts, const Node& node, const store::Store& store, const replica::View& view) {
  const replica::Replica& replica = store.replica();
  const bool leads = view.role == raft::Role::Leader;
  tree["state"] = view.broken ? "Shutdown" : role_text(view.role);
  tree["term"] = view.term.value;
  tree["commit_index"] = replica.commit().value;
  tree["applied_index"] = replica.applied().value;
  tree["fsm_pending"] = static_cast<std::uint64_t>(replica.apply_pending());
  tree["last_log_index"] = std::max(view.last_index, replica.commit()).value;
  tree["last_log_term"] = view.last_term.value;
  const store::Keeper::Facts kept = store.keeper_facts();
  tree["last_snapshot_index"] = kept.index.value != 0 ? kept.index.value : store.executor().durable_index().value;
  tree["last_snapshot_term"] = kept.index.value != 0 ? kept.term.value : std::uint64_t{1};
  tree["latest_configuration"] = configuration_text(view);
  tree["latest_configuration_index"] = view.conf_index.value;
  const bool voter = view.conf.is_voter(node.identity().raft_id);
  tree["num_peers"] = static_cast<std::uint64_t>(view.conf.voters.size() - (voter ? 1 : 0));
  tree["voter"] = voter;
  tree["protocol_version"] = 3;
  tree["protocol_version_min"] = 0;
  tree["protocol_version_max"] = 3;
  tree["snapshot_version_min"] = 0;
  tree["snapshot_version_max"] = 1;
  tree["log_size"] = replica.log_bytes();
  // The reference's log is a B-tree file with these internals; of ours there are the syncs and what they took.
  JsonTree& store_log = tree["bolt"];
  for (const char* name : {"FreePageN", "PendingPageN", "FreeAlloc", "FreelistInuse", "OpenTxN"}) store_log[name] = 0;
  const Histogram::Snapshot syncs = replica.stats().fsync.snapshot();
  store_log["TxN"] = syncs.count;
  for (const char* name : {"PageCount", "PageAlloc", "CursorCount", "NodeCount", "NodeDeref", "Rebalance", "RebalanceTime", "Split", "Spill", "SpillTime"})
    store_log["TxStats"][name] = 0;
  store_log["TxStats"]["Write"] = replica.stats().append.snapshot().count;
  store_log["TxStats"]["WriteTime"] = syncs.sum;
  tree["log_size_friendly"] = friendly_size(replica.log_bytes());
  if (leads) tree["last_contact"] = 0;
  else if (const auto contact = replica.leader_contact()) tree["last_contact"] = duration(node.clock().now() - *contact);
  else tree["last_contact"] = "never";
  tree["peers"].set_raw(leads ? peers_list(view) : "[]");
  tree["transport"]["command_commit_index"] = leads ? std::uint64_t{0} : replica.commit().value;
  tree["transport"]["leader_commit_index"] = leads ? std::uint64_t{0} : replica.commit().value;
  tree["transport"]["compress_snap"] = facts.compress_snapshots;
  JsonTree& config = tree["config"];
  config["LocalID"] = node.identity().node_id;
  config["HeartbeatTimeout"] = static_cast<std::int64_t>(facts.heartbeat_timeout.count());
  config["ElectionTimeout"] = static_cast<std::int64_t>(facts.election_timeout.count());
  config["LeaderLeaseTimeout"] = static_cast<std::int64_t>(facts.lease_timeout.count());
  config["CommitTimeout"] = static_cast<std::int64_t>(facts.commit_timeout.count());
  config["SnapshotInterval"] = static_cast<std::int64_t>(facts.snapshot_interval.count());
  config["SnapshotThreshold"] = facts.snapshot_threshold;
  config["MaxAppendEntries"] = 64;
  config["ShutdownOnRemove"] = facts.shutdown_on_remove;
  config["LogLevel"] = facts.raft_log_level;
  config["NoSnapshotRestoreOnStart"] = false;
}

// Beyond the reference: databases that clients are sending, while they do.
std::string uploads_list(const Transfers& transfers) {
  std::string out = "[";
  for (const Transfers::Progress& upload : transfers.uploads()) {
    if (out.size() > 1) out += ',';
    out += "{\"bytes\":" + std::to_string(upload.bytes) + ",\"state\":\"" + (upload.checking ? "checking" : "receiving") + "\"}";
  }
  return out + "]";
}

// Beyond the reference: whole databases that this node is fetching from others.
std::string fetches_list(const Images& images) {
  std::string out = "[";
  for (const Images::Progress& fetch : images.progress()) {
    if (out.size() > 1) out += ',';
    JsonTree entry;
    entry["what"] = fetch.what;
    entry["from"] = fetch.from;
    entry["bytes"] = fetch.bytes;
    entry["received"] = fetch.received;
    entry.write(out);
  }
  return out + "]";
}

void put_integrity(JsonTree& tree, const store::Store& store) {
  const auto hex = [](std::uint64_t value) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
    return std::string(text);
  };
  const auto [index, chain] = store.integrity().chains().newest();
  tree["index"] = index.value;
  tree["chain"] = hex(chain);
  tree["engine"] = hex(store.executor().status().engine);
  const auto reason = store.integrity().quarantine_reason();
  tree["state"] = reason ? "quarantined" : "serving";
  if (reason) tree["reason"] = *reason;
  const store::Scrubber::State scrub = store.integrity().scrubber().newest();
  if (scrub.index.value == 0) return;
  tree["scrub"]["index"] = scrub.index.value;
  tree["scrub"]["bytes"] = scrub.done;
  tree["scrub"]["total"] = scrub.total;
  tree["scrub"]["hash"] = hex(scrub.value);
}

void put_store(JsonTree& tree, const StatusFacts& facts, const Node& node, const store::Store& store) {
  const replica::View view = store.replica().view();
  const replica::Replica& replica = store.replica();
  const std::string& dir = store.data_dir();
  tree["addr"] = node.identity().raft_addr;
  tree["node_id"] = node.identity().node_id;
  tree["dir"] = dir;
  const std::uint64_t bytes = directory_bytes(dir);
  tree["dir_size"] = bytes;
  tree["dir_size_friendly"] = friendly_size(bytes);
  tree["apply_timeout"] = duration(facts.apply_timeout);
  tree["commit_timeout"] = duration(facts.commit_timeout);
  tree["election_timeout"] = duration(facts.election_timeout);
  tree["heartbeat_timeout"] = duration(facts.heartbeat_timeout);
  tree["snapshot_interval"] = duration(facts.snapshot_interval);
  tree["reap_timeout"] = duration(facts.reap_timeout);
  tree["reap_read_only_timeout"] = duration(facts.reap_read_only_timeout);
  tree["snapshot_threshold"] = facts.snapshot_threshold;
  tree["trailing_logs"] = facts.trailing_logs;
  tree["db_applied_index"] = replica.applied().value;
  tree["fsm_index"] = replica.applied().value;
  tree["fsm_term"] = replica.applied_term().value;
  tree["fsm_update_time"] = time_text(store.last_applied_at());
  const bool leads = replica.is_leader();
  tree["leader_appended_at_time"] = leads ? zero_time() : time_text(store.last_appended());
  tree["strong_read_term"] = view.own_term_committed ? view.term.value : std::uint64_t{0};
  tree["ready"] = store.ready() && static_cast<bool>(replica.leader());
  tree["no_freelist_sync"] = false;
  const auto leader = node.leader_member();
  tree["leader"]["addr"] = leader ? leader->member.raft_addr : std::string();
  tree["leader"]["node_id"] = leader ? leader->member.node_id : std::string();
  tree["nodes"].set_raw(nodes_list(view));
  tree["observer"]["observed"] = node.metrics().counter("store", "leader_changes_observed").value();
  tree["observer"]["dropped"] = node.metrics().counter("store", "leader_changes_dropped").value();
  tree["cdc"]["enabled"] = false;
  tree["cdc"]["registered"] = false;
  tree["db_conf"]["fk_constraints"] = facts.foreign_keys;
  tree["request_marshaler"]["compression_batch"] = 512;
  tree["request_marshaler"]["compression_size"] = 4096;
  tree["request_marshaler"]["force_compression"] = false;
  tree["snapshot_cas"]["owner"].set_raw("null");
  // The database file is the snapshot: there is one, that of the durable index.
  const store::Keeper::Facts kept = store.keeper_facts();
  tree["snapshot_store"]["dir"] = dir;
  tree["snapshot_store"]["dir_size"] = kept.index.value == 0 ? std::uint64_t{0} : file_bytes(dir + "/db.sqlite");
  tree["snapshot_store"]["snapshots"].set_raw(
      kept.index.value == 0 ? "[]" : "[\"" + std::to_string(kept.term.value) + "-" + std::to_string(kept.index.value) + "-" +
                                         std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(kept.taken.time_since_epoch()).count()) + "\"]");
  if (kept.next_vacuum) {
    if (kept.last_vacuum) tree["auto_vacuum"]["last_vacuum"] = time_text(kept.last_vacuum);
    tree["auto_vacuum"]["next_vacuum_after"] = time_text(kept.next_vacuum);
  }
  tree["open"].set_raw("{}");
  if (const auto transfers = node.transfers()) {
    if (const std::string uploads = uploads_list(*transfers); uploads != "[]") tree["load"].set_raw(uploads);
  }
  if (const auto images = node.images()) {
    if (const std::string fetches = fetches_list(*images); fetches != "[]") tree["fetches"].set_raw(fetches);
  }
  put_integrity(tree["integrity"], store);
  if (const auto error = replica.apply_error()) tree["apply_error"] = error->text();
  if (view.broken) tree["raft_error"] = view.broken->text();
  put_raft(tree["raft"], facts, node, store, view);
}

void put_pool(JsonTree& tree, int max_open, int open, int busy, std::int64_t waits) {
  tree["max_open_connections"] = max_open;
  tree["open_connections"] = open;
  tree["in_use"] = busy;
  tree["idle"] = open - busy;
  tree["wait_count"] = waits;
  for (const char* name : {"wait_duration", "max_idle_closed", "max_idle_time_closed", "max_lifetime_closed"}) tree[name] = 0;
}

void put_sqlite(JsonTree& tree, const StatusFacts& facts, const store::Store& store) {
  const std::string path = store.data_dir() + "/db.sqlite";
  const store::DatabaseFacts database = store.database_facts();
  tree["version"] = database.version;
  tree["path"] = path;
  tree["size"] = file_bytes(path);
  tree["wal_size"] = file_bytes(path + "-wal");
  tree["db_size"] = database.page_count * database.page_size;
  tree["db_size_friendly"] = friendly_size(static_cast<std::uint64_t>(database.page_count * database.page_size));
  tree["last_modified"] = rfc3339_text(newest_change(path, path + "-wal"));
  std::string options;
  for (const std::string& option : database.compile_options) {
    options += options.empty() ? "[" : ",";
    append_json_string(options, option);
  }
  tree["compile_options"].set_raw(options.empty() ? "[]" : options + "]");
  tree["extensions"].set_raw("[]");
  JsonTree& memory = tree["mem_stats"];
  memory["cache_size"] = database.cache_size;
  memory["freelist_count"] = database.freelist_count;
  memory["hard_heap_limit"] = 0;
  memory["soft_heap_limit"] = 0;
  memory["max_page_count"] = database.max_page_count;
  memory["page_count"] = database.page_count;
  memory["page_size"] = database.page_size;
  for (const char* side : {"ro", "rw"}) {
    JsonTree& pragmas = tree["pragmas"][side];
    pragmas["busy_timeout"] = "5000";
    pragmas["foreign_keys"] = facts.foreign_keys ? "1" : "0";
    pragmas["journal_mode"] = "wal";
    pragmas["synchronous"] = "0";
    pragmas["wal_autocheckpoint"] = side[1] == 'o' ? "1000" : "0";
    tree["transaction"][side] = false;
  }
  const std::string fk = facts.foreign_keys ? "true" : "false";
  tree["ro_dsn"] = "file:" + path + "?_fk=" + fk + "&_journal=WAL&_query_only=true&_sync=0&mode=ro";
  tree["rw_dsn"] = "file:" + path + "?_fk=" + fk + "&_journal=WAL&_sync=0";
  const sql::ReadPool::Stats pool = store.pool_stats();
  put_pool(tree["conn_pool_stats"]["ro"], facts.read_connections_max, static_cast<int>(pool.connections),
           static_cast<int>(pool.busy), static_cast<std::int64_t>(pool.waits));
  put_pool(tree["conn_pool_stats"]["rw"], 1, 1, 0, 0);
}

}  // namespace

std::string status_json(const StatusFacts& facts, const Node& node, const store::Store* store) {
  JsonTree tree;
  put_build(tree["build"], facts);
  put_os(tree["os"], facts);
  put_runtime(tree["runtime"], facts);
  const WallTime now = node.clock().wall();
  tree["node"]["start_time"] = rfc3339_text(facts.started);
  tree["node"]["current_time"] = rfc3339_text(now);
  tree["node"]["uptime"] = duration(now - facts.started);
  if (store == nullptr) {
    tree["store"]["open"] = false;
  } else {
    tree["cluster"]["addr"] = node.identity().raft_addr;
    tree["cluster"]["api_addr"] = node.identity().api_addr;
    tree["cluster"]["https"] = node.identity().https ? "true" : "false";
    tree["extensions"]["dir"] = store->data_dir() + "/extensions";
    tree["extensions"]["names"].set_raw("[]");
    tree["mux"]["addr"] = facts.mux_addr;
    tree["mux"]["handlers"].set_raw("\"\\u0001\\u0002\"");
    tree["mux"]["timeout"] = "30s";
    tree["mux"]["tls"] = facts.mux_tls ? "enabled" : "disabled";
    put_network(tree["network"]);
    put_store(tree["store"], facts, node, *store);
    const auto transfers = node.transfers();
    if (const auto last = transfers ? transfers->last_backup() : std::nullopt) tree["last_backup_time"] = time_text(last);
    put_sqlite(tree["store"]["sqlite3"], facts, *store);
  }
  std::string out;
  tree.write(out);
  return out;
}

}  // namespace rq::cluster
