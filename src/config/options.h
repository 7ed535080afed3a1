// Options: what the command line says (spec cluster.md section 1). Plain values, immutable once parsed.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace rq::config {

using Duration = std::chrono::nanoseconds;

struct Options {
  std::string data_dir;                       // absolute
  bool version = false;
  std::string extensions_path, cdc_config;
  std::string otlp_endpoint, otlp_ca_cert, otlp_cert, otlp_key;
  Duration otlp_interval = std::chrono::seconds(30);
  bool otlp_insecure = false, otlp_no_verify = false;
  std::string http_addr = "localhost:4001", http_adv_addr, http_allow_origin, auth, auto_backup, auto_restore;
  std::string http_ca_cert, http_cert, http_key, http_verify_common_name;
  bool http_verify_client = false;
  std::string node_ca_cert, node_cert, node_key, node_verify_server_name, node_verify_common_name;
  bool node_no_verify = false, node_verify_client = false;
  std::string node_id;
  bool compress_snap_transport = false;
  std::uint64_t snap_transport_rate = 0;      // bytes a second; 0: no limit
  std::string raft_addr = "localhost:4002", raft_adv_addr;
  std::string join_list;
  std::vector<std::string> join;              // of join_list
  std::int64_t join_attempts = 5;
  Duration join_interval = std::chrono::seconds(3);
  std::string join_as;
  std::int64_t bootstrap_expect = 0;
  Duration bootstrap_expect_timeout = std::chrono::minutes(2);
  std::string disco_mode, disco_key = "rqlite", disco_config;
  bool fk = false;
  std::int64_t db_max_ro_conns = 256;
  Duration auto_vacuum_int{0}, auto_optimize_int = std::chrono::hours(24);
  std::string raft_log_level = "WARN";
  bool raft_non_voter = false;
  std::uint64_t raft_snap = 8192, raft_snap_wal_size = 4194304;
  Duration raft_snap_int = std::chrono::seconds(10);
  Duration raft_leader_lease_timeout{0};
  Duration raft_heartbeat_timeout = std::chrono::seconds(1), raft_election_timeout = std::chrono::seconds(1);
  Duration raft_commit_timeout = std::chrono::milliseconds(50), raft_apply_timeout = std::chrono::seconds(10);
  bool raft_remove_shutdown = false, raft_cluster_remove_shutdown = false, raft_shutdown_stepdown = true;
  Duration raft_reap_node_timeout{0}, raft_reap_read_only_node_timeout{0};
  Duration cluster_connect_timeout = std::chrono::seconds(30);
  std::int64_t write_queue_capacity = 1024, write_queue_batch_size = 128;
  Duration write_queue_timeout = std::chrono::milliseconds(50);
  bool write_queue_tx = false;
  std::string cpu_profile, mem_profile, trace_profile;
  std::string log_level = "info", log_format = "text";
  Duration slow_query_log{0};                 // 0: off
  Duration scrub_int = std::chrono::hours(24);
};

// The end of the process instead of options.
struct Exit {
  int code = 0;
  std::string text;      // for stderr, may be empty
  bool operator==(const Exit&) const = default;
};

}  // namespace rq::config
