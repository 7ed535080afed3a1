#include "config/flags.h"

#include <gtest/gtest.h>

#include <vector>

#include "config/validate.h"

namespace rq::config {
namespace {

using Arguments = std::vector<const char*>;

std::variant<Options, Exit> run(Arguments arguments) {
  arguments.insert(arguments.begin(), "rqlited");
  return parse(static_cast<int>(arguments.size()), arguments.data(), "rqlited 10 linux amd64");
}
Exit refused(const Arguments& arguments) {
  auto result = run(arguments);
  return std::holds_alternative<Exit>(result) ? std::get<Exit>(result) : Exit{-1, "accepted"};
}
Options accepted(const Arguments& arguments) {
  auto result = run(arguments);
  EXPECT_TRUE(std::holds_alternative<Options>(result)) << std::get<Exit>(result).text;
  return std::holds_alternative<Options>(result) ? std::get<Options>(result) : Options{};
}

struct Refusal {
  Arguments arguments;
  const char* text;      // after "fatal: "
};
void expect_fatal(const std::vector<Refusal>& cases) {
  for (const auto& [arguments, text] : cases) EXPECT_EQ(refused(arguments), (Exit{1, std::string("fatal: ") + text + "\n"}));
}

TEST(Flags, HaveTheDefaultsOfTheReference) {
  const Options options = accepted({"/data"});
  EXPECT_EQ(options.http_addr, "localhost:4001");
  EXPECT_EQ(options.http_adv_addr, "localhost:4001");
  EXPECT_EQ(options.raft_adv_addr, "localhost:4002");
  EXPECT_EQ(options.node_id, "localhost:4002");
  EXPECT_EQ(options.data_dir, "/data");
  EXPECT_EQ(options.raft_leader_lease_timeout, std::chrono::milliseconds(500));
  EXPECT_TRUE(options.join.empty());
}

TEST(Flags, TakeTheNodeIdFromTheAdvertisedAddress) {
  EXPECT_EQ(accepted({"-raft-adv-addr", "a:1", "d"}).node_id, "a:1");
  EXPECT_EQ(accepted({"-raft-adv-addr", "a:1", "-node-id", "n", "d"}).node_id, "n");
}

TEST(Flags, MakeTheDirectoryAbsolute) {
  EXPECT_EQ(accepted({"/a/b/../c/"}).data_dir, "/a/c");
  const std::string relative = accepted({"--", "-odd"}).data_dir;
  EXPECT_TRUE(relative.starts_with("/") && relative.ends_with("/-odd")) << relative;
}

// All flags of the table in spec cluster.md section 1, one by one, each with a value that changes it.
TEST(Flags, KnowEveryFlagOfTheReference) {
  const std::string usage = refused({"-h"}).text;
  const char* const lines[] = {
      "-auth string", "-auto-backup string", "-auto-optimize-int duration", "-auto-restore string", "-auto-vacuum-int duration",
      "-bootstrap-expect int", "-bootstrap-expect-timeout duration", "-cdc-config string", "-cluster-connect-timeout duration",
      "-compress-snap-transport", "-cpu-profile string", "-db-max-ro-conns int", "-disco-config string", "-disco-key string",
      "-disco-mode string", "-extensions-path string", "-fk", "-http-addr string", "-http-adv-addr string", "-http-allow-origin string",
      "-http-ca-cert string", "-http-cert string", "-http-key string", "-http-verify-client", "-http-verify-common-name string",
      "-join string", "-join-as string", "-join-attempts int", "-join-interval duration", "-log-format string", "-log-level string",
      "-mem-profile string", "-node-ca-cert string",
      "-node-cert string", "-node-id string", "-node-key string", "-node-no-verify", "-node-verify-client", "-node-verify-common-name string",
      "-node-verify-server-name string", "-otlp-ca-cert string", "-otlp-cert string", "-otlp-endpoint string", "-otlp-insecure",
      "-otlp-interval duration", "-otlp-key string", "-otlp-no-verify", "-raft-addr string", "-raft-adv-addr string",
      "-raft-apply-timeout duration", "-raft-cluster-remove-shutdown", "-raft-commit-timeout duration", "-raft-election-timeout duration",
      "-raft-heartbeat-timeout duration", "-raft-leader-lease-timeout duration", "-raft-log-level string", "-raft-non-voter",
      "-raft-reap-node-timeout duration", "-raft-reap-read-only-node-timeout duration", "-raft-remove-shutdown", "-raft-shutdown-stepdown",
      "-raft-snap uint", "-raft-snap-int duration", "-raft-snap-wal-size uint", "-scrub-int duration", "-slow-query-log duration",
      "-snap-transport-rate uint", "-trace-profile string", "-version",
      "-write-queue-batch-size int", "-write-queue-capacity int", "-write-queue-timeout duration", "-write-queue-tx"};
  std::size_t at = 0;                                   // and in this order
  for (const char* line : lines) {
    const std::size_t found = usage.find(std::string("\n  ") + line + "\n    \t", at);
    ASSERT_NE(found, std::string::npos) << line;
    at = found;
  }
  std::size_t listed = 0;
  for (std::size_t i = usage.find("\n  -"); i != std::string::npos; i = usage.find("\n  -", i + 1)) ++listed;
  EXPECT_EQ(listed, std::size(lines));
}

TEST(Flags, ShowTheDefaultsOfTheReferenceInTheUsage) {
  const std::string usage = refused({"-h"}).text;
  EXPECT_TRUE(usage.starts_with("\nrqlite++ ")) << usage.substr(0, 40);
  EXPECT_NE(usage.find("\nUsage: rqlited [flags] <data directory>\n  -auth string\n"), std::string::npos);
  const std::pair<const char*, const char*> shown[] = {
      {"-http-addr string", "(default \"localhost:4001\")"}, {"-raft-addr string", "(default \"localhost:4002\")"}, {"-otlp-interval duration", "(default 30s)"},
      {"-join-attempts int", "(default 5)"}, {"-join-interval duration", "(default 3s)"}, {"-bootstrap-expect-timeout duration", "(default 2m0s)"},
      {"-log-format string", "(default \"text\")"}, {"-log-level string", "(default \"info\")"},
      {"-disco-key string", "(default \"rqlite\")"}, {"-db-max-ro-conns int", "(default 256)"}, {"-auto-optimize-int duration", "(default 24h0m0s)"},
      {"-raft-log-level string", "(default \"WARN\")"}, {"-raft-snap uint", "(default 8192)"}, {"-raft-snap-wal-size uint", "(default 4194304)"},
      {"-raft-snap-int duration", "(default 10s)"}, {"-raft-heartbeat-timeout duration", "(default 1s)"}, {"-raft-election-timeout duration", "(default 1s)"},
      {"-raft-commit-timeout duration", "(default 50ms)"}, {"-raft-apply-timeout duration", "(default 10s)"}, {"-raft-shutdown-stepdown", "(default true)"},
      {"-cluster-connect-timeout duration", "(default 30s)"}, {"-write-queue-capacity int", "(default 1024)"},
      {"-scrub-int duration", "(default 24h0m0s)"}, {"-write-queue-batch-size int", "(default 128)"}, {"-write-queue-timeout duration", "(default 50ms)"}};
  std::size_t defaults = 0;
  for (std::size_t i = usage.find("(default "); i != std::string::npos; i = usage.find("(default ", i + 1)) ++defaults;
  EXPECT_EQ(defaults, std::size(shown));
  for (const auto& [flag, text] : shown) {
    const std::size_t begin = usage.find(std::string("\n  ") + flag + "\n    \t");
    ASSERT_NE(begin, std::string::npos) << flag;
    const std::size_t help = usage.find("\n    \t", begin + 1);
    const std::string line = usage.substr(help, usage.find('\n', help + 1) - help);
    EXPECT_TRUE(line.ends_with(text)) << line;
  }
}

TEST(Flags, TellTheVersionWhateverFollows) {
  const Exit version{0, "rqlited 10 linux amd64\n"};
  EXPECT_EQ(refused({"-version"}), version);
  EXPECT_EQ(refused({"-version", "a", "b"}), version);
  EXPECT_EQ(refused({"-version", "-raft-reap-node-timeout", "0s"}), version);
  EXPECT_EQ(refused({"-version", "-nosuch"}).code, 2);
}

TEST(Flags, LogThatTheDirectoryIsMissingWithoutAnyArgument) {
  const Exit exit = refused({});
  EXPECT_EQ(exit.code, 1);
  EXPECT_TRUE(exit.text.starts_with("[rqlited] "));
  EXPECT_TRUE(exit.text.ends_with(" failed to parse command-line flags: missing required argument: DataPath\n")) << exit.text;
}

TEST(Flags, RefuseWhatStandsBehindTheDirectory) {
  EXPECT_EQ(refused({"d", "a", "b"}), (Exit{1, "arguments after data directory (d) are not accepted ([a b])\n"}));
  EXPECT_EQ(refused({"d", "-fk"}), (Exit{1, "arguments after data directory (d) are not accepted ([-fk])\n"}));
}

TEST(Flags, WantADirectoryAndPairs) {
  expect_fatal({
      {{"-raft-reap-node-timeout", "0s", "d"}, "-raft-reap-node-timeout must be greater than 0"},
      {{"-raft-reap-read-only-node-timeout", "-1s", "d"}, "-raft-reap-read-only-node-timeout must be greater than 0"},
      {{"-fk"}, "data directory path is required"},
      {{" \t"}, "data directory path is required"},
      {{""}, "data directory path is required"},
      {{"-extensions-path", "/dev/null,/no/such", "d"}, "extension path does not exist: /no/such"},
      {{"-http-cert", "c", "d"}, "either both -http-cert and -http-key must be set, or neither"},
      {{"-http-key", "c", "d"}, "either both -http-cert and -http-key must be set, or neither"},
      {{"-node-cert", "c", "d"}, "either both -node-cert and -node-key must be set, or neither"},
      {{"-node-key", "c", "d"}, "either both -node-cert and -node-key must be set, or neither"},
      {{"-http-verify-common-name", "x", "d"}, "-http-verify-common-name requires -http-verify-client"},
      {{"-node-verify-common-name", "x", "d"}, "-node-verify-common-name requires -node-verify-client"},
  });
}

TEST(Flags, RefuseAddressesThatOthersCannotUse) {
  expect_fatal({
      {{"-http-addr", "a:1", "-raft-addr", "a:1", "d"}, "HTTP and Raft addresses must differ"},
      {{"-http-addr", "HTTP://a:1", "d"}, "HTTP options should not include protocol (http:// or https://)"},
      {{"-http-adv-addr", "https://a:1", "d"}, "HTTP options should not include protocol (http:// or https://)"},
      {{"-http-addr", "a", "d"}, "HTTP bind address not valid"},
      {{"-http-addr", "a:1:2", "d"}, "HTTP bind address not valid"},
      {{"-http-addr", "[::1]", "d"}, "HTTP bind address not valid"},
      {{"-http-addr", "[::1]1:2", "d"}, "HTTP bind address not valid"},
      {{"-http-addr", "a]:1", "d"}, "HTTP bind address not valid"},
      {{"-http-adv-addr", "a", "d"}, "HTTP advertised HTTP address not valid"},
      {{"-http-addr", "0.0.0.0:4001", "d"}, "advertised HTTP address is not routable (0.0.0.0), specify it via -http-addr or -http-adv-addr"},
      {{"-raft-addr", "a", "d"}, "raft bind address not valid"},
      {{"-raft-addr", "a:x", "d"}, "raft bind port not valid"},
      {{"-raft-addr", "a:0x10", "d"}, "raft bind port not valid"},
      {{"-raft-addr", "a:", "d"}, "raft bind port not valid"},
      {{"-raft-adv-addr", "a", "d"}, "raft advertised address not valid"},
      {{"-raft-addr", "[::]:4002", "d"}, "advertised Raft address is not routable (::), specify it via -raft-addr or -raft-adv-addr"},
      {{"-raft-adv-addr", "a:x", "d"}, "raft advertised port is not valid"},
      {{"-http-adv-addr", "a:1", "-raft-adv-addr", "a:1", "d"}, "advertised HTTP and Raft addresses must differ"},
  });
  accepted({"-http-addr", "0.0.0.0:4001", "-http-adv-addr", "a:1", "d"});
  accepted({"-http-addr", ":4001", "-raft-addr", ":4002", "d"});            // an empty host is nobody's mistake here
  EXPECT_EQ(accepted({"-raft-addr", "[::1]:4002", "d"}).node_id, "[::1]:4002");
}

TEST(Flags, RefuseClusteringThatContradictsItself) {
  expect_fatal({
      {{"-raft-non-voter", "-bootstrap-expect", "3", "d"}, "bootstrapping only applicable to voting nodes"},
      {{"-join", "http://1.2.3.4:4002", "d"}, "http://1.2.3.4:4002 is an invalid join address"},
      {{"-join", "a:1,b", "d"}, "b is an invalid join address"},
      {{"-join", "a:1,", "d"}, " is an invalid join address"},
      {{"-join", "localhost:4002", "d"}, "node cannot join with itself unless bootstrapping"},
      {{"-join", "a:1,b:1", "-raft-adv-addr", "b:1", "d"}, "node cannot join with itself unless bootstrapping"},
      {{"-join", "b:1", "-raft-addr", "b:1", "-raft-adv-addr", "c:1", "d"}, "node cannot join with itself unless bootstrapping"},
      {{"-join", "a:1", "-auto-restore", "f", "d"}, "auto-restoring cannot be used when joining a cluster"},
      {{"-join", "a:1", "-disco-mode", "dns", "d"}, "disco mode cannot be used when also explicitly joining a cluster"},
      {{"-cdc-config", "x", "-raft-non-voter", "d"}, "CDC cannot be enabled on non-voting nodes"},
      {{"-disco-mode", "consul-kv", "-bootstrap-expect", "3", "d"}, "bootstrapping not applicable when using consul-kv"},
      {{"-disco-mode", "etcd-kv", "-bootstrap-expect", "3", "d"}, "bootstrapping not applicable when using etcd-kv"},
      {{"-disco-mode", "dns", "d"}, "bootstrap-expect value required when using dns with a voting node"},
      {{"-disco-mode", "dns-srv", "d"}, "bootstrap-expect value required when using dns-srv with a voting node"},
      {{"-disco-mode", "x", "d"}, "disco mode must be one of consul-kv, etcd-kv, dns, or dns-srv"},
  });
  EXPECT_EQ(accepted({"-join", "http://nonsense", "d"}).join, (std::vector<std::string>{"http://nonsense"}));
  EXPECT_EQ(accepted({"-join", "localhost:4002,a:1", "-bootstrap-expect", "2", "d"}).join.size(), 2u);
}

TEST(Flags, RefuseMetricsOptionsThatContradictThemselves) {
  expect_fatal({
      {{"-otlp-cert", "c", "d"}, "either both -otlp-cert and -otlp-key must be set, or neither"},
      {{"-otlp-insecure", "d"}, "OTLP options require -otlp-endpoint"},
      {{"-otlp-interval", "1s", "d"}, "OTLP options require -otlp-endpoint"},
      {{"-otlp-endpoint", "http://a:1", "d"}, "-otlp-endpoint must not include a protocol scheme"},
      {{"-otlp-endpoint", "a", "d"}, "-otlp-endpoint is not a valid address"},
      {{"-otlp-endpoint", "a:1", "-otlp-interval", "0s", "d"}, "-otlp-interval must be greater than zero"},
      {{"-otlp-endpoint", "a:1", "-otlp-insecure", "-otlp-no-verify", "d"}, "-otlp-insecure cannot be used with other OTLP TLS options"},
  });
}

TEST(Flags, CheckInTheOrderOfTheReference) {
  expect_fatal({
      {{"-raft-reap-node-timeout", "0s", "a", "b"}, "-raft-reap-node-timeout must be greater than 0"},
      {{"-http-cert", "c", "-http-addr", "a", "d"}, "either both -http-cert and -http-key must be set, or neither"},
      {{"-http-addr", "a", "-raft-addr", "b", "d"}, "HTTP bind address not valid"},
      {{"-http-adv-addr", "a", "-raft-addr", "b", "d"}, "HTTP advertised HTTP address not valid"},
      {{"-raft-addr", "a:x", "-join", "b", "d"}, "raft bind port not valid"},
      {{"-join", "b", "-disco-mode", "x", "d"}, "b is an invalid join address"},
      {{"-otlp-insecure", "-disco-mode", "x", "d"}, "OTLP options require -otlp-endpoint"},
      {{"-disco-mode", "x", "-raft-heartbeat-timeout", "1ms", "d"}, "disco mode must be one of consul-kv, etcd-kv, dns, or dns-srv"},
  });
}

TEST(Flags, RefuseTimingThatRaftCannotWorkWith) {
  const auto timing = [](Arguments arguments) {
    arguments.push_back("d");
    const std::string text = refused(arguments).text, prefix = "fatal: failed to open store: creating the raft system failed: ";
    return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
  };
  EXPECT_EQ(timing({"-raft-heartbeat-timeout", "4ms"}), "HeartbeatTimeout is too low\n");
  EXPECT_EQ(timing({"-raft-election-timeout", "4ms"}), "ElectionTimeout is too low\n");
  EXPECT_EQ(timing({"-raft-commit-timeout", "999us"}), "CommitTimeout is too low\n");
  EXPECT_EQ(timing({"-raft-snap-int", "4ms"}), "SnapshotInterval is too low\n");
  EXPECT_EQ(timing({"-raft-leader-lease-timeout", "4ms"}), "LeaderLeaseTimeout is too low\n");
  EXPECT_EQ(timing({"-raft-election-timeout", "500ms"}), "ElectionTimeout (500ms) must be equal or greater than Heartbeat Timeout (1s)\n");
  EXPECT_EQ(timing({"-raft-leader-lease-timeout", "5s"}), "LeaderLeaseTimeout (5s) cannot be larger than heartbeat timeout (1s)\n");
  EXPECT_EQ(timing({"-raft-heartbeat-timeout", "250ms"}), "LeaderLeaseTimeout (500ms) cannot be larger than heartbeat timeout (250ms)\n");
  const Options zero = accepted({"-raft-heartbeat-timeout", "0", "-raft-election-timeout", "0", "-raft-commit-timeout", "0", "d"});
  EXPECT_EQ(zero.raft_heartbeat_timeout, std::chrono::seconds(1));
  EXPECT_EQ(zero.raft_election_timeout, std::chrono::seconds(1));
  EXPECT_EQ(zero.raft_commit_timeout, std::chrono::milliseconds(50));
}

TEST(Flags, NameTheFirstOneWhoseFeatureIsBuiltLater) {
  const Arguments later[] = {{"-cdc-config", "stdout"}, {"-extensions-path", "/"}, {"-otlp-endpoint", "a:1"}, {"-auto-backup", "f"}, {"-auto-restore", "f"},
                             {"-disco-config", "f"}, {"-disco-key", "k"}};
  for (Arguments arguments : later) {
    const std::string text = std::string("fatal: not supported yet: ") + arguments[0] + "\n";
    arguments.push_back("d");
    EXPECT_EQ(refused(arguments), (Exit{1, text}));
  }
  expect_fatal({
      {{"-disco-mode", "dns", "-bootstrap-expect", "3", "-cdc-config", "x", "d"}, "not supported yet: -disco-mode"},
  });
}

TEST(Flags, TakeAskingForNothingAsNothing) {
  accepted({"-cdc-config=", "-auto-vacuum-int", "0s", "-http-verify-client=false", "-disco-mode=", "-disco-key=rqlite", "d"});
  EXPECT_EQ(refused({"-snap-transport-rate", "1000", "d"}).text, "fatal: -snap-transport-rate must be 0, or at least 65536 bytes a second\n");
  accepted({"-snap-transport-rate", "65536", "d"});
  accepted({"-raft-snap", "100", "-raft-snap-wal-size", "0", "-raft-snap-int", "1s", "-auto-optimize-int", "0h", "-raft-log-level", "debug", "d"});
}

TEST(Flags, RefuseValuesThatNobodyCanWaitFor) {
  expect_fatal({
      {{"-join-attempts", "0", "d"}, "-join-attempts must be at least 1"},
      {{"-join-attempts", "2147483648", "d"}, "-join-attempts must be at most 2147483647"},
      {{"-bootstrap-expect", "-1", "d"}, "-bootstrap-expect must be at least 0"},
      {{"-write-queue-capacity", "0", "d"}, "-write-queue-capacity must be at least 1"},
      {{"-write-queue-batch-size", "-3", "d"}, "-write-queue-batch-size must be at least 1"},
      {{"-db-max-ro-conns", "2147483648", "d"}, "-db-max-ro-conns must be at most 2147483647"},
      {{"-join-interval", "2000000h", "d"}, "-join-interval must be at most 876000h0m0s"},
  });
}

TEST(Flags, WantToReadTheCredentialsFile) {
  expect_fatal({{{"-auth", "/no/such/file", "d"}, "failed to get credential store: open /no/such/file: no such file or directory"}});
  EXPECT_EQ(accepted({"-auth", "/dev/null", "d"}).auth, "/dev/null");
}

TEST(Flags, TakeWhatTellsOperatorsMore) {
  const Options options = accepted({"-log-level", "WARN", "-log-format", "json", "-slow-query-log", "100ms", "-raft-log-level", "loud", "d"});
  EXPECT_EQ(options.log_level, "WARN");
  EXPECT_EQ(options.log_format, "json");
  EXPECT_EQ(options.slow_query_log, std::chrono::milliseconds(100));
  expect_fatal({
      {{"-log-level", "loud", "d"}, "-log-level must be one of debug, info, warn, error, or off"},
      {{"-slow-query-log", "-1s", "d"}, "-slow-query-log must not be negative"},
      {{"-log-format", "xml", "d"}, "-log-format must be one of text, or json"},
      {{"-trace-profile", "f", "d"}, "-trace-profile is not supported: there is no execution tracer. Use -cpu-profile, or GET /debug/pprof/profile"},
  });
}

}  // namespace
}  // namespace rq::config
