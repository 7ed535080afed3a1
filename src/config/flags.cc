#include "config/flags.h"

#include <ctime>
#include <filesystem>

#include "config/go_flags.h"
#include "config/validate.h"

namespace rq::config {
namespace {

constexpr const char* kUsageHead =
    "\nrqlite++ is a relational database that stays up: SQLite, fully replicated through Raft,\nbehind a plain HTTP/JSON API.\n\n"
    "Usage: rqlited [flags] <data directory>\n";

void declare(FlagSet& flags, Options& o) {
  flags.boolean("version", o.version, "Show version information and exit");
  flags.text("extensions-path", o.extensions_path, "Comma-delimited list of paths to directories, zipfiles, or tar.gz files containing SQLite extensions");
  flags.text("cdc-config", o.cdc_config, "Set CDC HTTP endpoint, or path to CDC config file");
  flags.text("otlp-endpoint", o.otlp_endpoint, "host:port of an OpenTelemetry collector (gRPC) for metrics");
  flags.duration("otlp-interval", o.otlp_interval, "Period between metrics exports");
  flags.boolean("otlp-insecure", o.otlp_insecure, "Use plaintext gRPC to the collector");
  flags.boolean("otlp-no-verify", o.otlp_no_verify, "Don't verify the collector's certificate");
  flags.text("otlp-ca-cert", o.otlp_ca_cert, "Path to CA certificate of the collector");
  flags.text("otlp-cert", o.otlp_cert, "Path to client certificate for the collector");
  flags.text("otlp-key", o.otlp_key, "Path to client key for the collector");
  flags.text("http-addr", o.http_addr, "HTTP server bind address. To enable HTTPS, set X.509 certificate and key");
  flags.text("http-adv-addr", o.http_adv_addr, "Advertised HTTP address. If not set, same as HTTP server bind");
  flags.text("http-allow-origin", o.http_allow_origin, "Value to set for Access-Control-Allow-Origin HTTP header");
  flags.text("auth", o.auth, "Path to authentication and authorization file. If not set, not enabled");
  flags.text("auto-backup", o.auto_backup, "Path to automatic backup configuration file. If not set, not enabled");
  flags.text("auto-restore", o.auto_restore, "Path to automatic restore configuration file. If not set, not enabled");
  flags.text("http-ca-cert", o.http_ca_cert, "Path to X.509 CA certificate for HTTPS");
  flags.text("http-cert", o.http_cert, "Path to HTTPS X.509 certificate");
  flags.text("http-key", o.http_key, "Path to HTTPS X.509 private key");
  flags.boolean("http-verify-client", o.http_verify_client, "Enable mutual TLS for HTTPS");
  flags.text("http-verify-common-name", o.http_verify_common_name, "Require client certificates with this common name");
  flags.text("node-ca-cert", o.node_ca_cert, "Path to X.509 CA certificate for node-to-node encryption");
  flags.text("node-cert", o.node_cert, "Path to X.509 certificate for node-to-node mutual authentication and encryption");
  flags.text("node-key", o.node_key, "Path to X.509 private key for node-to-node mutual authentication and encryption");
  flags.boolean("node-no-verify", o.node_no_verify, "Skip verification of any node-node certificate");
  flags.boolean("node-verify-client", o.node_verify_client, "Enable mutual TLS for node-to-node communication");
  flags.text("node-verify-server-name", o.node_verify_server_name, "Hostname to verify on certificates returned by nodes");
  flags.text("node-verify-common-name", o.node_verify_common_name, "Require peers' certificates with this common name");
  flags.text("node-id", o.node_id, "Unique ID for node. If not set, set to advertised Raft address");
  flags.boolean("compress-snap-transport", o.compress_snap_transport, "Compress snapshots on their way between nodes");
  flags.unsigned_integer("snap-transport-rate", o.snap_transport_rate, "Bytes a second at which this node fetches databases from others. Set to 0 for no limit");
  flags.text("raft-addr", o.raft_addr, "Raft communication bind address");
  flags.text("raft-adv-addr", o.raft_adv_addr, "Advertised Raft communication address. If not set, same as Raft bind address");
  flags.text("join", o.join_list, "Comma-delimited list of nodes, in host:port form, through which a cluster can be joined");
  flags.integer("join-attempts", o.join_attempts, "Number of join attempts to make");
  flags.duration("join-interval", o.join_interval, "Period between join attempts");
  flags.text("join-as", o.join_as, "Username in authentication file to join as. If not set, joins anonymously");
  flags.integer("bootstrap-expect", o.bootstrap_expect, "Minimum number of nodes required for a bootstrap");
  flags.duration("bootstrap-expect-timeout", o.bootstrap_expect_timeout, "Maximum time for bootstrap process");
  flags.text("disco-mode", o.disco_mode, "Choose clustering discovery mode. If not set, no node discovery is performed");
  flags.text("disco-key", o.disco_key, "Key prefix for cluster discovery service");
  flags.text("disco-config", o.disco_config, "Set discovery config, or path to cluster discovery config file");
  flags.boolean("fk", o.fk, "Enable SQLite foreign key constraints");
  flags.integer("db-max-ro-conns", o.db_max_ro_conns, "Maximum number of read connections to SQLite, 0 or less means no limit");
  flags.duration("auto-vacuum-int", o.auto_vacuum_int, "Period between automatic VACUUMs. If not set, not enabled");
  flags.duration("auto-optimize-int", o.auto_optimize_int, "Period between automatic 'PRAGMA optimize'. Set to 0h to disable");
  flags.text("raft-log-level", o.raft_log_level, "Minimum log level for Raft module: TRACE, DEBUG, INFO, WARN, ERROR or OFF");
  flags.boolean("raft-non-voter", o.raft_non_voter, "Configure as non-voting node");
  flags.unsigned_integer("raft-snap", o.raft_snap, "Number of outstanding log entries which triggers Raft snapshot");
  flags.unsigned_integer("raft-snap-wal-size", o.raft_snap_wal_size, "SQLite WAL file size in bytes which triggers Raft snapshot. Set to 0 to disable");
  flags.duration("raft-snap-int", o.raft_snap_int, "Snapshot threshold check interval");
  flags.duration("raft-leader-lease-timeout", o.raft_leader_lease_timeout, "Raft leader lease timeout. Use 0s for Raft default");
  flags.duration("raft-heartbeat-timeout", o.raft_heartbeat_timeout, "Raft heartbeat timeout");
  flags.duration("raft-election-timeout", o.raft_election_timeout, "Raft election timeout");
  flags.duration("raft-commit-timeout", o.raft_commit_timeout, "Checked only: followers learn a new commit index at once");
  flags.duration("raft-apply-timeout", o.raft_apply_timeout, "Longest time that a write waits for its place in the Raft log");
  flags.boolean("raft-remove-shutdown", o.raft_remove_shutdown, "Stop the Raft subsystem when this node learns that it was removed from the cluster");
  flags.boolean("raft-cluster-remove-shutdown", o.raft_cluster_remove_shutdown, "Node removes itself from cluster on graceful shutdown");
  flags.boolean("raft-shutdown-stepdown", o.raft_shutdown_stepdown, "If leader, stepdown before shutting down");
  flags.duration("raft-reap-node-timeout", o.raft_reap_node_timeout, "Time after which a non-reachable voting node will be reaped. If not set, no reaping takes place");
  flags.duration("raft-reap-read-only-node-timeout", o.raft_reap_read_only_node_timeout,
           "Time after which a non-reachable non-voting node will be reaped. If not set, no reaping takes place");
  flags.duration("cluster-connect-timeout", o.cluster_connect_timeout, "Timeout for initial connection to other nodes");
  flags.integer("write-queue-capacity", o.write_queue_capacity, "QueuedWrites queue capacity");
  flags.integer("write-queue-batch-size", o.write_queue_batch_size, "QueuedWrites queue batch size");
  flags.duration("write-queue-timeout", o.write_queue_timeout, "QueuedWrites queue timeout");
  flags.boolean("write-queue-tx", o.write_queue_tx, "Use a transaction when processing a queued write");
  flags.text("cpu-profile", o.cpu_profile, "Path to file for CPU profiling information (collapsed stacks, written on graceful stop)");
  flags.text("mem-profile", o.mem_profile, "Path to file for heap statistics (malloc_info XML, written on graceful stop)");
  flags.text("trace-profile", o.trace_profile, "Not supported: there is no execution tracer; see -cpu-profile");
  flags.text("log-level", o.log_level, "Minimum level of log lines: debug, info, warn, error or off");
  flags.text("log-format", o.log_format, "Form of log lines: text or json");
  flags.duration("scrub-int", o.scrub_int, "Period between comparisons of the nodes' whole databases. Set to 0 to disable");
  flags.duration("slow-query-log", o.slow_query_log, "Log requests that take at least this long, with their query plan. Set to 0 to disable");
}

std::string log_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y/%m/%d %H:%M:%S", &parts)};
}

std::string list_text(const std::vector<std::string>& items) {
  std::string out = "[";
  for (const std::string& item : items) out += (out.size() > 1 ? " " : "") + item;
  return out + "]";
}

Exit fatal(const std::string& text) { return {1, "fatal: " + text + "\n"}; }

}  // namespace

std::variant<Options, Exit> parse(int argc, const char* const* argv, std::string_view version_line) {
  if (argc < 2) return Exit{1, "[rqlited] " + log_time() + " failed to parse command-line flags: missing required argument: DataPath\n"};
  Options options;
  FlagSet flags(kUsageHead);
  declare(flags, options);
  if (auto exit = flags.parse({argv + 1, argv + argc})) return *exit;
  if (options.version) return Exit{0, std::string(version_line) + "\n"};
  for (const auto& [name, value] : {std::pair("raft-reap-node-timeout", options.raft_reap_node_timeout),
                                    std::pair("raft-reap-read-only-node-timeout", options.raft_reap_read_only_node_timeout)})
    if (flags.given(name) && value.count() <= 0) return fatal(std::string("-") + name + " must be greater than 0");
  const std::vector<std::string>& rest = flags.rest();
  if (rest.size() > 1)
    return Exit{1, "arguments after data directory (" + rest[0] + ") are not accepted (" + list_text({rest.begin() + 1, rest.end()}) + ")\n"};
  if (rest.empty() || rest[0].find_first_not_of(" \t\r\n\v\f") == std::string::npos) return fatal("data directory path is required");
  options.data_dir = std::filesystem::absolute(rest[0]).lexically_normal().string();
  while (options.data_dir.size() > 1 && options.data_dir.back() == '/') options.data_dir.pop_back();
  if (const Problem problem = validate(options, flags.changed())) return fatal(*problem);
  return options;
}

}  // namespace rq::config
