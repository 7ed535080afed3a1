#include "config/flags.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "base/go_text.h"

namespace rq::config {
namespace {

// ---- Go's flag syntax

struct Flag {
  std::string_view name;
  std::string_view type;         // "" for bool
  std::string_view help;
  std::string shown_default;     // "" when it is the zero value
  std::function<bool(const std::string&)> set;
};

bool parse_bool(const std::string& text, bool& out) {
  static const std::set<std::string> kTrue = {"1", "t", "T", "true", "TRUE", "True"}, kFalse = {"0", "f", "F", "false", "FALSE", "False"};
  if (kTrue.contains(text)) out = true;
  else if (kFalse.contains(text)) out = false;
  else return false;
  return true;
}

// Decimal, 0x, 0o, 0b, with _ between digits.
template <class T>
bool parse_integer(std::string text, T& out) {
  bool negative = false;
  std::string_view digits = text;
  if (!digits.empty() && (digits[0] == '-' || digits[0] == '+')) {
    negative = digits[0] == '-';
    digits.remove_prefix(1);
  }
  int base = 10;
  if (digits.size() > 1 && digits[0] == '0') {
    const char kind = static_cast<char>(digits[1] | 0x20);
    base = kind == 'x' ? 16 : kind == 'b' ? 2 : 8;
    digits.remove_prefix(kind == 'x' || kind == 'b' || kind == 'o' ? 2 : 1);
  }
  std::string plain;
  for (const char c : digits)
    if (c != '_') plain += c;
  if (plain.empty() || digits.front() == '_' || digits.back() == '_') return false;
  if (negative) plain.insert(plain.begin(), '-');
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), out, base);
  return error == std::errc() && end == plain.data() + plain.size();
}

class Flags {
 public:
  explicit Flags(Options& options) : options_(options) { declare(); }

  void text(std::string_view name, std::string& out, std::string_view help) {
    add(name, "string", help, out.empty() ? "" : "\"" + out + "\"", [&out](const std::string& value) {
      out = value;
      return true;
    });
  }
  void flag(std::string_view name, bool& out, std::string_view help) {
    add(name, "", help, out ? "true" : "", [&out](const std::string& value) { return parse_bool(value, out); });
  }
  template <class T>
  void number(std::string_view name, std::string_view type, T& out, std::string_view help) {
    add(name, type, help, out == 0 ? "" : std::to_string(out), [&out](const std::string& value) { return parse_integer(value, out); });
  }
  void duration(std::string_view name, Duration& out, std::string_view help) {
    add(name, "duration", help, out.count() == 0 ? "" : go_duration_text(out), [&out](const std::string& value) {
      const auto parsed = parse_go_duration(value);
      if (parsed) out = *parsed;
      return parsed.has_value();
    });
  }

  std::optional<Exit> parse(int argc, const char* const* argv, std::vector<std::string>& rest) {
    int i = 1;
    for (; i < argc; ++i) {
      std::string argument = argv[i];
      if (argument.size() < 2 || argument[0] != '-') break;
      std::string name = argument.substr(argument[1] == '-' ? 2 : 1);
      if (name.empty()) {                                    // "--"
        ++i;
        break;
      }
      if (name[0] == '-' || name[0] == '=') return wrong("bad flag syntax: " + argument);
      std::optional<std::string> value;
      if (const std::size_t equals = name.find('='); equals != std::string::npos) {
        value = name.substr(equals + 1);
        name.resize(equals);
      }
      const auto found = flags_.find(name);
      if (found == flags_.end()) {
        if (name == "h" || name == "help") return Exit{0, usage()};
        return wrong("flag provided but not defined: -" + name);
      }
      const Flag& flag = found->second;
      given.insert(std::string(flag.name));
      if (flag.type.empty()) {
        if (!flag.set(value.value_or("true"))) return wrong("invalid boolean value \"" + *value + "\" for -" + name + ": parse error");
        continue;
      }
      if (!value) {
        if (++i >= argc) return wrong("flag needs an argument: -" + name);
        value = argv[i];
      }
      if (!flag.set(*value)) return wrong("invalid value \"" + *value + "\" for flag -" + name + ": parse error");
    }
    for (; i < argc; ++i) rest.emplace_back(argv[i]);
    return std::nullopt;
  }

  std::set<std::string> given;

 private:
  void add(std::string_view name, std::string_view type, std::string_view help, std::string shown, std::function<bool(const std::string&)> set) {
    flags_[std::string(name)] = {name, type, help, std::move(shown), std::move(set)};
  }
  void declare();
  std::string usage() const {
    std::string out =
        "\nrqlite is a lightweight, distributed relational database, which uses SQLite as its\nstorage engine. It provides an easy-to-use, "
        "fault-tolerant store for relational data.\n\nUsage: rqlited [flags] <data directory>\n";
    for (const auto& [name, flag] : flags_) {
      out += "  -" + name + (flag.type.empty() ? "" : " " + std::string(flag.type)) + "\n    \t" + std::string(flag.help);
      if (!flag.shown_default.empty()) out += " (default " + flag.shown_default + ")";
      out += "\n";
    }
    return out;
  }
  Exit wrong(const std::string& text) const { return {2, text + "\n" + usage()}; }

  Options& options_;
  std::map<std::string, Flag, std::less<>> flags_;
};

void Flags::declare() {
  Options& o = options_;
  flag("version", o.version, "Show version information and exit");
  text("extensions-path", o.extensions_path, "Comma-delimited list of paths to directories, zipfiles, or tar.gz files containing SQLite extensions");
  text("cdc-config", o.cdc_config, "Set CDC HTTP endpoint, or path to CDC config file");
  text("otlp-endpoint", o.otlp_endpoint, "host:port of an OpenTelemetry collector (gRPC) for metrics");
  duration("otlp-interval", o.otlp_interval, "Period between metrics exports");
  flag("otlp-insecure", o.otlp_insecure, "Use plaintext gRPC to the collector");
  flag("otlp-no-verify", o.otlp_no_verify, "Don't verify the collector's certificate");
  text("otlp-ca-cert", o.otlp_ca_cert, "Path to CA certificate of the collector");
  text("otlp-cert", o.otlp_cert, "Path to client certificate for the collector");
  text("otlp-key", o.otlp_key, "Path to client key for the collector");
  text("http-addr", o.http_addr, "HTTP server bind address. To enable HTTPS, set X.509 certificate and key");
  text("http-adv-addr", o.http_adv_addr, "Advertised HTTP address. If not set, same as HTTP server bind");
  text("http-allow-origin", o.http_allow_origin, "Value to set for Access-Control-Allow-Origin HTTP header");
  text("auth", o.auth, "Path to authentication and authorization file. If not set, not enabled");
  text("auto-backup", o.auto_backup, "Path to automatic backup configuration file. If not set, not enabled");
  text("auto-restore", o.auto_restore, "Path to automatic restore configuration file. If not set, not enabled");
  text("http-ca-cert", o.http_ca_cert, "Path to X.509 CA certificate for HTTPS");
  text("http-cert", o.http_cert, "Path to HTTPS X.509 certificate");
  text("http-key", o.http_key, "Path to HTTPS X.509 private key");
  flag("http-verify-client", o.http_verify_client, "Enable mutual TLS for HTTPS");
  text("http-verify-common-name", o.http_verify_common_name, "Require client certificates with this common name");
  text("node-ca-cert", o.node_ca_cert, "Path to X.509 CA certificate for node-to-node encryption");
  text("node-cert", o.node_cert, "Path to X.509 certificate for node-to-node mutual authentication and encryption");
  text("node-key", o.node_key, "Path to X.509 private key for node-to-node mutual authentication and encryption");
  flag("node-no-verify", o.node_no_verify, "Skip verification of any node-node certificate");
  flag("node-verify-client", o.node_verify_client, "Enable mutual TLS for node-to-node communication");
  text("node-verify-server-name", o.node_verify_server_name, "Hostname to verify on certificates returned by nodes");
  text("node-verify-common-name", o.node_verify_common_name, "Require peers' certificates with this common name");
  text("node-id", o.node_id, "Unique ID for node. If not set, set to advertised Raft address");
  flag("compress-snap-transport", o.compress_snap_transport, "Compress snapshots on their way between nodes");
  text("raft-addr", o.raft_addr, "Raft communication bind address");
  text("raft-adv-addr", o.raft_adv_addr, "Advertised Raft communication address. If not set, same as Raft bind address");
  text("join", o.join_list, "Comma-delimited list of nodes, in host:port form, through which a cluster can be joined");
  number("join-attempts", "int", o.join_attempts, "Number of join attempts to make");
  duration("join-interval", o.join_interval, "Period between join attempts");
  text("join-as", o.join_as, "Username in authentication file to join as. If not set, joins anonymously");
  number("bootstrap-expect", "int", o.bootstrap_expect, "Minimum number of nodes required for a bootstrap");
  duration("bootstrap-expect-timeout", o.bootstrap_expect_timeout, "Maximum time for bootstrap process");
  text("disco-mode", o.disco_mode, "Choose clustering discovery mode. If not set, no node discovery is performed");
  text("disco-key", o.disco_key, "Key prefix for cluster discovery service");
  text("disco-config", o.disco_config, "Set discovery config, or path to cluster discovery config file");
  flag("fk", o.fk, "Enable SQLite foreign key constraints");
  number("db-max-ro-conns", "int", o.db_max_ro_conns, "Maximum number of read connections to SQLite, 0 or less means no limit");
  duration("auto-vacuum-int", o.auto_vacuum_int, "Period between automatic VACUUMs. If not set, not enabled");
  duration("auto-optimize-int", o.auto_optimize_int, "Period between automatic 'PRAGMA optimize'. Set to 0h to disable");
  text("raft-log-level", o.raft_log_level, "Minimum log level for Raft module");
  flag("raft-non-voter", o.raft_non_voter, "Configure as non-voting node");
  number("raft-snap", "uint", o.raft_snap, "Number of outstanding log entries which triggers Raft snapshot");
  number("raft-snap-wal-size", "uint", o.raft_snap_wal_size, "SQLite WAL file size in bytes which triggers Raft snapshot. Set to 0 to disable");
  duration("raft-snap-int", o.raft_snap_int, "Snapshot threshold check interval");
  duration("raft-leader-lease-timeout", o.raft_leader_lease_timeout, "Raft leader lease timeout. Use 0s for Raft default");
  duration("raft-heartbeat-timeout", o.raft_heartbeat_timeout, "Raft heartbeat timeout");
  duration("raft-election-timeout", o.raft_election_timeout, "Raft election timeout");
  duration("raft-commit-timeout", o.raft_commit_timeout, "Raft commit timeout");
  duration("raft-apply-timeout", o.raft_apply_timeout, "Raft apply timeout");
  flag("raft-remove-shutdown", o.raft_remove_shutdown, "Shutdown Raft if node removed from cluster");
  flag("raft-cluster-remove-shutdown", o.raft_cluster_remove_shutdown, "Node removes itself from cluster on graceful shutdown");
  flag("raft-shutdown-stepdown", o.raft_shutdown_stepdown, "If leader, stepdown before shutting down");
  duration("raft-reap-node-timeout", o.raft_reap_node_timeout, "Time after which a non-reachable voting node will be reaped. If not set, no reaping takes place");
  duration("raft-reap-read-only-node-timeout", o.raft_reap_read_only_node_timeout,
           "Time after which a non-reachable non-voting node will be reaped. If not set, no reaping takes place");
  duration("cluster-connect-timeout", o.cluster_connect_timeout, "Timeout for initial connection to other nodes");
  number("write-queue-capacity", "int", o.write_queue_capacity, "QueuedWrites queue capacity");
  number("write-queue-batch-size", "int", o.write_queue_batch_size, "QueuedWrites queue batch size");
  duration("write-queue-timeout", o.write_queue_timeout, "QueuedWrites queue timeout");
  flag("write-queue-tx", o.write_queue_tx, "Use a transaction when processing a queued write");
  text("cpu-profile", o.cpu_profile, "Path to file for CPU profiling information");
  text("mem-profile", o.mem_profile, "Path to file for memory profiling information");
  text("trace-profile", o.trace_profile, "Path to file for trace profiling information");
}

// ---- validation

struct HostPort {
  std::string host, port;
};

// As Go splits: exactly one colon outside brackets.
std::optional<HostPort> split(const std::string& addr) {
  if (!addr.empty() && addr[0] == '[') {
    const std::size_t end = addr.find(']');
    if (end == std::string::npos || end + 1 >= addr.size() || addr[end + 1] != ':' || addr.find(':', end + 2) != std::string::npos) return std::nullopt;
    return HostPort{addr.substr(1, end - 1), addr.substr(end + 2)};
  }
  const std::size_t colon = addr.find(':');
  if (colon == std::string::npos || addr.find(':', colon + 1) != std::string::npos) return std::nullopt;
  return HostPort{addr.substr(0, colon), addr.substr(colon + 1)};
}

bool begins_with_http(std::string addr) {
  std::ranges::transform(addr, addr.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return addr.starts_with("http");
}

bool is_unspecified(const std::string& host) {
  in_addr four{};
  in6_addr six{};
  if (inet_pton(AF_INET, host.c_str(), &four) == 1) return four.s_addr == 0;
  return inet_pton(AF_INET6, host.c_str(), &six) == 1 && std::memcmp(&six, &in6addr_any, sizeof six) == 0;
}

bool is_number(const std::string& port) {
  std::int64_t value = 0;
  return parse_integer(port, value);
}

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    if (end > at) out.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

using Problem = std::optional<std::string>;

Problem check_pairs(const Options& o) {
  for (const std::string& path : split_list(o.extensions_path))
    if (::access(path.c_str(), F_OK) != 0) return "extension path does not exist: " + path;
  if (o.http_cert.empty() != o.http_key.empty()) return "either both -http-cert and -http-key must be set, or neither";
  if (o.node_cert.empty() != o.node_key.empty()) return "either both -node-cert and -node-key must be set, or neither";
  if (!o.http_verify_common_name.empty() && !o.http_verify_client) return "-http-verify-common-name requires -http-verify-client";
  if (!o.node_verify_common_name.empty() && !o.node_verify_client) return "-node-verify-common-name requires -node-verify-client";
  return std::nullopt;
}

Problem check_addresses(Options& o) {
  if (o.http_addr == o.raft_addr) return "HTTP and Raft addresses must differ";
  if (o.http_adv_addr.empty()) o.http_adv_addr = o.http_addr;
  if (o.raft_adv_addr.empty()) o.raft_adv_addr = o.raft_addr;
  if (begins_with_http(o.http_addr) || begins_with_http(o.http_adv_addr))
    return "HTTP options should not include protocol (http:// or https://)";
  if (!split(o.http_addr)) return "HTTP bind address not valid";
  const auto http_adv = split(o.http_adv_addr);
  if (!http_adv) return "HTTP advertised HTTP address not valid";
  if (is_unspecified(http_adv->host))
    return "advertised HTTP address is not routable (" + http_adv->host + "), specify it via -http-addr or -http-adv-addr";
  const auto raft = split(o.raft_addr);
  if (!raft) return "raft bind address not valid";
  if (!is_number(raft->port)) return "raft bind port not valid";
  const auto raft_adv = split(o.raft_adv_addr);
  if (!raft_adv) return "raft advertised address not valid";
  if (is_unspecified(raft_adv->host))
    return "advertised Raft address is not routable (" + raft_adv->host + "), specify it via -raft-addr or -raft-adv-addr";
  if (!is_number(raft_adv->port)) return "raft advertised port is not valid";
  if (o.http_adv_addr == o.raft_adv_addr) return "advertised HTTP and Raft addresses must differ";
  if (o.node_id.empty()) o.node_id = o.raft_adv_addr;
  return std::nullopt;
}

Problem check_clustering(Options& o) {
  if (o.raft_non_voter && o.bootstrap_expect > 0) return "bootstrapping only applicable to voting nodes";
  o.join = split_list(o.join_list);
  for (const std::string& addr : o.join) {
    if (!split(addr)) return addr + " is an invalid join address";
    if (o.bootstrap_expect == 0 && addr == o.raft_adv_addr) return "node cannot join with itself unless bootstrapping";
  }
  if (!o.join.empty() && !o.auto_restore.empty() && o.bootstrap_expect == 0) return "auto-restoring cannot be used when joining a cluster";
  if (!o.join.empty() && !o.disco_mode.empty()) return "disco mode cannot be used when also explicitly joining a cluster";
  if (o.bootstrap_expect < 0) return "-bootstrap-expect must not be negative";
  return std::nullopt;
}

Problem check_features(const Options& o, const std::set<std::string>& given) {
  if (!o.cdc_config.empty() && o.raft_non_voter) return "CDC cannot be enabled on non-voting nodes";
  if (o.otlp_cert.empty() != o.otlp_key.empty()) return "either both -otlp-cert and -otlp-key must be set, or neither";
  const bool otlp = std::ranges::any_of(given, [](const std::string& name) { return name.starts_with("otlp-") && name != "otlp-endpoint"; });
  if (otlp && o.otlp_endpoint.empty()) return "OTLP options require -otlp-endpoint";
  if (!o.otlp_endpoint.empty()) {
    if (o.otlp_endpoint.find("://") != std::string::npos) return "-otlp-endpoint must not include a protocol scheme";
    if (!split(o.otlp_endpoint)) return "-otlp-endpoint is not a valid address";
    if (o.otlp_interval.count() <= 0) return "-otlp-interval must be greater than zero";
    if (o.otlp_insecure && (o.otlp_no_verify || !o.otlp_ca_cert.empty() || !o.otlp_cert.empty()))
      return "-otlp-insecure cannot be used with other OTLP TLS options";
  }
  const std::string& mode = o.disco_mode;
  if ((mode == "consul-kv" || mode == "etcd-kv") && o.bootstrap_expect > 0) return "bootstrapping not applicable when using " + mode;
  if ((mode == "dns" || mode == "dns-srv") && o.bootstrap_expect == 0 && !o.raft_non_voter)
    return "bootstrap-expect value required when using " + mode + " with a voting node";
  if (!mode.empty() && mode != "consul-kv" && mode != "etcd-kv" && mode != "dns" && mode != "dns-srv")
    return "disco mode must be one of consul-kv, etcd-kv, dns, or dns-srv";
  return std::nullopt;
}

Problem check_timing(Options& o) {
  using namespace std::chrono_literals;
  const auto or_default = [](Duration& value, Duration standard) {
    if (value.count() == 0) value = standard;
  };
  or_default(o.raft_heartbeat_timeout, 1s);
  or_default(o.raft_election_timeout, 1s);
  or_default(o.raft_commit_timeout, 50ms);
  or_default(o.raft_leader_lease_timeout, 500ms);
  const auto failed = [](const std::string& why) { return "failed to open store: creating the raft system failed: " + why; };
  if (o.raft_heartbeat_timeout < 5ms) return failed("HeartbeatTimeout is too low");
  if (o.raft_election_timeout < 5ms) return failed("ElectionTimeout is too low");
  if (o.raft_commit_timeout < 1ms) return failed("CommitTimeout is too low");
  if (o.raft_snap_int < 5ms) return failed("SnapshotInterval is too low");
  if (o.raft_leader_lease_timeout < 5ms) return failed("LeaderLeaseTimeout is too low");
  if (o.raft_leader_lease_timeout > o.raft_heartbeat_timeout)
    return failed("LeaderLeaseTimeout (" + go_duration_text(o.raft_leader_lease_timeout) + ") cannot be larger than heartbeat timeout (" +
                  go_duration_text(o.raft_heartbeat_timeout) + ")");
  if (o.raft_election_timeout < o.raft_heartbeat_timeout)
    return failed("ElectionTimeout (" + go_duration_text(o.raft_election_timeout) + ") must be equal or greater than Heartbeat Timeout (" +
                  go_duration_text(o.raft_heartbeat_timeout) + ")");
  return std::nullopt;
}

Problem check_limits(const Options& o) {
  if (o.write_queue_capacity < 1) return "-write-queue-capacity must be greater than 0";
  if (o.write_queue_batch_size < 1) return "-write-queue-batch-size must be greater than 0";
  if (o.join_attempts < 1) return "-join-attempts must be greater than 0";
  return std::nullopt;
}

Problem check_files(const Options& o) {
  const std::pair<const char*, const std::string&> files[] = {{"-auth", o.auth}};
  for (const auto& [flag, path] : files)
    if (!path.empty() && ::access(path.c_str(), R_OK) != 0)
      return std::string("failed to open file of ") + flag + ": open " + path + ": " + std::strerror(errno);
  return std::nullopt;
}

// Flags whose feature is built later are never accepted silently.
Problem check_supported(const Options& o, const std::set<std::string>& given) {
  static constexpr std::string_view kLater[] = {
      "extensions-path", "cdc-config", "otlp-endpoint", "auto-backup", "auto-restore", "http-ca-cert", "http-cert", "http-key", "http-verify-client",
      "http-verify-common-name", "node-ca-cert", "node-cert", "node-key", "node-no-verify", "node-verify-client", "node-verify-server-name",
      "node-verify-common-name", "compress-snap-transport", "disco-mode", "disco-config", "raft-reap-node-timeout", "raft-reap-read-only-node-timeout",
      "raft-remove-shutdown", "cpu-profile", "mem-profile", "trace-profile"};
  for (const std::string_view name : kLater)
    if (given.contains(std::string(name))) return "not supported yet: -" + std::string(name);
  if (o.auto_vacuum_int.count() != 0) return "not supported yet: -auto-vacuum-int";
  return std::nullopt;
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

}  // namespace

std::variant<Options, Exit> parse(int argc, const char* const* argv, std::string_view version_line) {
  Options options;
  if (argc < 2) return Exit{1, "[rqlited] " + log_time() + " failed to parse command-line flags: missing required argument: DataPath\n"};
  Flags flags(options);
  std::vector<std::string> rest;
  if (auto exit = flags.parse(argc, argv, rest)) return *exit;
  if (options.version) return Exit{0, std::string(version_line) + "\n"};
  const auto fatal = [](const std::string& text) { return Exit{1, "fatal: " + text + "\n"}; };
  for (const auto& [name, value] : {std::pair("raft-reap-node-timeout", options.raft_reap_node_timeout),
                                    std::pair("raft-reap-read-only-node-timeout", options.raft_reap_read_only_node_timeout)})
    if (flags.given.contains(name) && value.count() <= 0) return fatal(std::string("-") + name + " must be greater than 0");
  if (rest.size() > 1)
    return Exit{1, "arguments after data directory (" + rest[0] + ") are not accepted (" + list_text({rest.begin() + 1, rest.end()}) + ")\n"};
  if (rest.empty() || rest[0].find_first_not_of(" \t") == std::string::npos) return fatal("data directory path is required");
  options.data_dir = std::filesystem::absolute(rest[0]).lexically_normal().string();
  while (options.data_dir.size() > 1 && options.data_dir.back() == '/') options.data_dir.pop_back();
  for (const Problem& problem : {check_pairs(options), check_addresses(options), check_clustering(options), check_features(options, flags.given),
                                 check_limits(options), check_timing(options), check_supported(options, flags.given), check_files(options)})
    if (problem) return fatal(*problem);
  return options;
}

}  // namespace rq::config
