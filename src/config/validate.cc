#include "config/validate.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstring>

#include "base/go_text.h"
#include "base/log.h"

namespace rq::config {
namespace {

constexpr std::uint64_t kTransportRateMin = 64 * 1024;   // slower, and the sender takes it for dead

struct HostPort {
  std::string host, port;
};

// As Go splits: exactly one colon outside brackets, neither side inspected.
std::optional<HostPort> split(const std::string& addr) {
  HostPort out;
  std::size_t colon = addr.find(':');
  if (addr.starts_with('[')) {
    const std::size_t end = addr.find(']');
    if (end == std::string::npos || end + 1 >= addr.size() || addr[end + 1] != ':') return std::nullopt;
    colon = end + 1;
    out.host = addr.substr(1, end - 1);
  } else {
    if (colon == std::string::npos) return std::nullopt;
    out.host = addr.substr(0, colon);
  }
  out.port = addr.substr(colon + 1);
  const bool odd_brackets = (out.host + out.port).find_first_of("[]") != std::string::npos;
  if (odd_brackets || out.port.find(':') != std::string::npos) return std::nullopt;
  return out;
}

bool begins_with_http(std::string addr) {
  std::ranges::transform(addr, addr.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return addr.starts_with("http");
}

bool is_unspecified(const std::string& host) {
  in_addr four{};
  in6_addr six{};
  if (inet_pton(AF_INET, host.c_str(), &four) == 1) return four.s_addr == 0;
  return inet_pton(AF_INET6, host.c_str(), &six) == 1 && IN6_IS_ADDR_UNSPECIFIED(&six);
}

// Decimal, as Go's Atoi takes it.
bool is_number(std::string_view port) {
  if (port.starts_with('+')) port.remove_prefix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), value);
  return error == std::errc() && end == port.data() + port.size();
}

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> out;
  if (list.empty()) return out;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    out.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

Problem check_pairs(const Options& o) {
  for (const std::string& path : split_list(o.extensions_path))
    if (::access(path.c_str(), F_OK) != 0) return "extension path does not exist: " + path;
  if (o.http_cert.empty() != o.http_key.empty()) return "either both -http-cert and -http-key must be set, or neither";
  if (o.node_cert.empty() != o.node_key.empty()) return "either both -node-cert and -node-key must be set, or neither";
  if (!o.http_verify_common_name.empty() && !o.http_verify_client) return "-http-verify-common-name requires -http-verify-client";
  if (!o.node_verify_common_name.empty() && !o.node_verify_client) return "-node-verify-common-name requires -node-verify-client";
  return std::nullopt;
}

Problem check_http_addresses(const Options& o) {
  if (begins_with_http(o.http_addr) || begins_with_http(o.http_adv_addr))
    return "HTTP options should not include protocol (http:// or https://)";
  if (!split(o.http_addr)) return "HTTP bind address not valid";
  const auto advertised = split(o.http_adv_addr);
  if (!advertised) return "HTTP advertised HTTP address not valid";
  if (is_unspecified(advertised->host))
    return "advertised HTTP address is not routable (" + advertised->host + "), specify it via -http-addr or -http-adv-addr";
  return std::nullopt;
}

Problem check_raft_addresses(const Options& o) {
  const auto bind = split(o.raft_addr);
  if (!bind) return "raft bind address not valid";
  if (!is_number(bind->port)) return "raft bind port not valid";
  const auto advertised = split(o.raft_adv_addr);
  if (!advertised) return "raft advertised address not valid";
  if (is_unspecified(advertised->host))
    return "advertised Raft address is not routable (" + advertised->host + "), specify it via -raft-addr or -raft-adv-addr";
  if (!is_number(advertised->port)) return "raft advertised port is not valid";
  return std::nullopt;
}

Problem check_addresses(Options& o) {
  if (o.http_addr == o.raft_addr) return "HTTP and Raft addresses must differ";
  if (o.http_adv_addr.empty()) o.http_adv_addr = o.http_addr;
  if (o.raft_adv_addr.empty()) o.raft_adv_addr = o.raft_addr;
  if (auto problem = check_http_addresses(o)) return problem;
  if (auto problem = check_raft_addresses(o)) return problem;
  if (o.http_adv_addr == o.raft_adv_addr) return "advertised HTTP and Raft addresses must differ";
  if (o.node_id.empty()) o.node_id = o.raft_adv_addr;
  return std::nullopt;
}

Problem check_clustering(Options& o) {
  if (o.raft_non_voter && o.bootstrap_expect > 0) return "bootstrapping only applicable to voting nodes";
  o.join = split_list(o.join_list);
  for (const std::string& addr : o.join) {
    if (!split(addr)) return addr + " is an invalid join address";
    if (o.bootstrap_expect != 0) continue;
    if (addr == o.raft_adv_addr || addr == o.raft_addr) return "node cannot join with itself unless bootstrapping";
    if (!o.auto_restore.empty()) return "auto-restoring cannot be used when joining a cluster";
  }
  if (!o.join.empty() && !o.disco_mode.empty()) return "disco mode cannot be used when also explicitly joining a cluster";
  return std::nullopt;
}

Problem check_otlp(const Options& o, const std::vector<std::string>& changed) {
  if (o.otlp_cert.empty() != o.otlp_key.empty()) return "either both -otlp-cert and -otlp-key must be set, or neither";
  if (o.otlp_endpoint.empty()) {
    const bool other = std::ranges::any_of(changed, [](const std::string& name) { return name.starts_with("otlp-"); });
    return other ? Problem("OTLP options require -otlp-endpoint") : std::nullopt;
  }
  if (o.otlp_endpoint.find("://") != std::string::npos) return "-otlp-endpoint must not include a protocol scheme";
  if (!split(o.otlp_endpoint)) return "-otlp-endpoint is not a valid address";
  if (o.otlp_interval.count() <= 0) return "-otlp-interval must be greater than zero";
  if (o.otlp_insecure && (o.otlp_no_verify || !o.otlp_ca_cert.empty() || !o.otlp_cert.empty()))
    return "-otlp-insecure cannot be used with other OTLP TLS options";
  return std::nullopt;
}

Problem check_discovery(const Options& o) {
  const std::string& mode = o.disco_mode;
  if (mode.empty()) return std::nullopt;
  if (mode == "consul-kv" || mode == "etcd-kv")
    return o.bootstrap_expect > 0 ? Problem("bootstrapping not applicable when using " + mode) : std::nullopt;
  if (mode != "dns" && mode != "dns-srv") return "disco mode must be one of consul-kv, etcd-kv, dns, or dns-srv";
  if (o.bootstrap_expect == 0 && !o.raft_non_voter) return "bootstrap-expect value required when using " + mode + " with a voting node";
  return std::nullopt;
}

// Not in the reference: values that would end in an overflow or in waiting for ever.
Problem check_limits(const Options& o) {
  struct Bound {
    const char* name;
    std::int64_t value, least, most;
  };
  for (const Bound& bound : {Bound{"-join-attempts", o.join_attempts, 1, INT_MAX}, Bound{"-bootstrap-expect", o.bootstrap_expect, 0, INT_MAX},
                             Bound{"-db-max-ro-conns", o.db_max_ro_conns, INT_MIN, INT_MAX},
                             Bound{"-write-queue-capacity", o.write_queue_capacity, 1, INT_MAX},
                             Bound{"-write-queue-batch-size", o.write_queue_batch_size, 1, INT_MAX}}) {
    if (bound.value < bound.least) return std::string(bound.name) + " must be at least " + std::to_string(bound.least);
    if (bound.value > bound.most) return std::string(bound.name) + " must be at most " + std::to_string(bound.most);
  }
  constexpr Duration kLongest = std::chrono::hours(876'000);     // a hundred years: it can still be added to a time
  for (const auto& [name, value] :
       {std::pair("-join-interval", o.join_interval), std::pair("-bootstrap-expect-timeout", o.bootstrap_expect_timeout),
        std::pair("-cluster-connect-timeout", o.cluster_connect_timeout), std::pair("-write-queue-timeout", o.write_queue_timeout),
        std::pair("-raft-heartbeat-timeout", o.raft_heartbeat_timeout), std::pair("-raft-election-timeout", o.raft_election_timeout)})
    if (value > kLongest) return std::string(name) + " must be at most " + go_duration_text(kLongest);
  return std::nullopt;
}

std::string last_error() {      // as Go writes it
  std::string reason = std::strerror(errno);
  if (!reason.empty() && reason[0] >= 'A' && reason[0] <= 'Z') reason[0] = static_cast<char>(reason[0] + 32);
  return reason;
}

// What is named must be there before anything is bound.
Problem check_files(const Options& o) {
  static constexpr const char* kMux = "failed to start node mux: failed to create node-to-node mux: ";
  static constexpr const char* kHttp = "failed to start HTTP server: ";
  struct File {
    const std::string& path;
    const char* what;
  };
  for (const File& file :
       {File{o.auth, "failed to get credential store: "}, File{o.node_cert, kMux}, File{o.node_key, kMux}, File{o.node_ca_cert, kMux},
        File{o.http_cert, kHttp}, File{o.http_key, kHttp}, File{o.http_ca_cert, kHttp}, File{o.auto_backup, "failed to read auto-backup file: "},
        File{o.auto_restore, "failed to read auto-restore file: "}, File{o.otlp_ca_cert, "failed to start OTLP metrics: "},
        File{o.otlp_cert, "failed to start OTLP metrics: "}, File{o.otlp_key, "failed to start OTLP metrics: "}})
    if (!file.path.empty() && ::access(file.path.c_str(), R_OK) != 0) return file.what + ("open " + file.path) + ": " + last_error();
  return std::nullopt;
}

Problem check_observability(const Options& o) {
  if (!log::parse_level(o.log_level)) return "-log-level must be one of debug, info, warn, error, or off";
  if (o.log_format != "text" && o.log_format != "json") return "-log-format must be one of text, or json";
  if (o.scrub_int.count() < 0) return "-scrub-int must not be negative";
  if (o.snap_transport_rate != 0 && o.snap_transport_rate < kTransportRateMin)
    return "-snap-transport-rate must be 0, or at least " + std::to_string(kTransportRateMin) + " bytes a second";
  if (o.slow_query_log.count() < 0) return "-slow-query-log must not be negative";
  if (!o.trace_profile.empty()) return "-trace-profile is not supported: there is no execution tracer. Use -cpu-profile, or GET /debug/pprof/profile";
  return std::nullopt;
}

}  // namespace

Problem validate_timing(Options& o) {
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

// Only flags that ask for something: a flag that is given its default value changes nothing, scripts pass such ones.
Problem unsupported(const std::vector<std::string>& changed) {
  static constexpr std::string_view kLater[] = {
      "extensions-path",         "cdc-config",      "auto-backup",        "auto-restore",
      "disco-mode",              "disco-config",    "disco-key"};
  for (const std::string& name : changed)
    if (name.starts_with("otlp-") || std::ranges::find(kLater, name) != std::end(kLater)) return "not supported yet: -" + name;
  return std::nullopt;
}

Problem validate(Options& o, const std::vector<std::string>& changed) {
  if (auto problem = check_pairs(o)) return problem;
  if (auto problem = check_addresses(o)) return problem;
  if (auto problem = check_clustering(o)) return problem;
  if (!o.cdc_config.empty() && o.raft_non_voter) return "CDC cannot be enabled on non-voting nodes";
  if (auto problem = check_otlp(o, changed)) return problem;
  if (auto problem = check_discovery(o)) return problem;
  if (auto problem = check_limits(o)) return problem;
  if (auto problem = validate_timing(o)) return problem;
  if (auto problem = unsupported(changed)) return problem;
  if (auto problem = check_observability(o)) return problem;
  return check_files(o);
}

}  // namespace rq::config
