#include "config/flags.h"

#include <gtest/gtest.h>

#include <vector>

namespace rq::config {
namespace {

std::variant<Options, Exit> run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "rqlited");
  return parse(static_cast<int>(arguments.size()), arguments.data(), "rqlited 10 linux amd64");
}
Exit refused(std::vector<const char*> arguments) {
  auto result = run(std::move(arguments));
  return std::holds_alternative<Exit>(result) ? std::get<Exit>(result) : Exit{-1, "accepted"};
}
Options accepted(std::vector<const char*> arguments) {
  auto result = run(std::move(arguments));
  EXPECT_TRUE(std::holds_alternative<Options>(result)) << std::get<Exit>(result).text;
  return std::get<Options>(result);
}

TEST(Flags, HaveTheDefaultsOfTheReference) {
  const Options options = accepted({"/data"});
  EXPECT_EQ(options.http_addr, "localhost:4001");
  EXPECT_EQ(options.http_adv_addr, "localhost:4001");
  EXPECT_EQ(options.raft_adv_addr, "localhost:4002");
  EXPECT_EQ(options.node_id, "localhost:4002");
  EXPECT_EQ(options.data_dir, "/data");
  EXPECT_EQ(options.raft_leader_lease_timeout, std::chrono::milliseconds(500));
}

TEST(Flags, FollowGosSyntax) {
  const Options options = accepted({"--fk", "-join-attempts=0x10", "-http-addr", "a:1", "-raft-shutdown-stepdown=false", "--", "-odd"});
  EXPECT_TRUE(options.fk);
  EXPECT_EQ(options.join_attempts, 16);
  EXPECT_EQ(options.http_addr, "a:1");
  EXPECT_FALSE(options.raft_shutdown_stepdown);
  EXPECT_TRUE(options.data_dir.ends_with("/-odd"));
}

TEST(Flags, RefuseWhatIsWronglyWrittenWithCode2) {
  const std::pair<std::vector<const char*>, const char*> cases[] = {
      {{"-nosuch"}, "flag provided but not defined: -nosuch\n"},
      {{"-join-attempts", "x"}, "invalid value \"x\" for flag -join-attempts: parse error\n"},
      {{"-fk=maybe"}, "invalid boolean value \"maybe\" for -fk: parse error\n"},
      {{"-http-addr"}, "flag needs an argument: -http-addr\n"},
      {{"-join-interval", "10"}, "invalid value \"10\" for flag -join-interval: parse error\n"},
  };
  for (const auto& [arguments, text] : cases) {
    const Exit exit = refused(arguments);
    EXPECT_EQ(exit.code, 2);
    EXPECT_TRUE(exit.text.starts_with(text)) << exit.text.substr(0, 100);
    EXPECT_NE(exit.text.find("Usage: rqlited [flags] <data directory>"), std::string::npos);
  }
}

TEST(Flags, CheckInOrderWithTheTextsOfTheReference) {
  const std::pair<std::vector<const char*>, const char*> cases[] = {
      {{"-raft-reap-node-timeout", "0s", "d"}, "fatal: -raft-reap-node-timeout must be greater than 0\n"},
      {{"d", "a", "b"}, "arguments after data directory (d) are not accepted ([a b])\n"},
      {{"-fk"}, "fatal: data directory path is required\n"},
      {{" "}, "fatal: data directory path is required\n"},
      {{"-extensions-path", "/no/such", "d"}, "fatal: extension path does not exist: /no/such\n"},
      {{"-http-cert", "c", "d"}, "fatal: either both -http-cert and -http-key must be set, or neither\n"},
      {{"-node-key", "c", "d"}, "fatal: either both -node-cert and -node-key must be set, or neither\n"},
      {{"-http-verify-common-name", "x", "d"}, "fatal: -http-verify-common-name requires -http-verify-client\n"},
      {{"-http-addr", "a:1", "-raft-addr", "a:1", "d"}, "fatal: HTTP and Raft addresses must differ\n"},
      {{"-http-addr", "HTTP://a:1", "d"}, "fatal: HTTP options should not include protocol (http:// or https://)\n"},
      {{"-http-addr", "a", "d"}, "fatal: HTTP bind address not valid\n"},
      {{"-http-adv-addr", "a", "d"}, "fatal: HTTP advertised HTTP address not valid\n"},
      {{"-raft-addr", "a", "d"}, "fatal: raft bind address not valid\n"},
      {{"-raft-adv-addr", "a", "d"}, "fatal: raft advertised address not valid\n"},
      {{"-http-addr", "0.0.0.0:4001", "d"}, "fatal: advertised HTTP address is not routable (0.0.0.0), specify it via -http-addr or -http-adv-addr\n"},
      {{"-raft-addr", "[::]:4002", "d"}, "fatal: advertised Raft address is not routable (::), specify it via -raft-addr or -raft-adv-addr\n"},
      {{"-raft-addr", "a:x", "d"}, "fatal: raft bind port not valid\n"},
      {{"-raft-adv-addr", "a:x", "d"}, "fatal: raft advertised port is not valid\n"},
      {{"-http-adv-addr", "a:1", "-raft-adv-addr", "a:1", "d"}, "fatal: advertised HTTP and Raft addresses must differ\n"},
      {{"-raft-non-voter", "-bootstrap-expect", "3", "d"}, "fatal: bootstrapping only applicable to voting nodes\n"},
      {{"-join", "http://1.2.3.4:4002", "d"}, "fatal: http://1.2.3.4:4002 is an invalid join address\n"},
      {{"-join", "localhost:4002", "d"}, "fatal: node cannot join with itself unless bootstrapping\n"},
      {{"-join", "a:1", "-auto-restore", "f", "d"}, "fatal: auto-restoring cannot be used when joining a cluster\n"},
      {{"-join", "a:1", "-disco-mode", "dns", "d"}, "fatal: disco mode cannot be used when also explicitly joining a cluster\n"},
      {{"-cdc-config", "x", "-raft-non-voter", "d"}, "fatal: CDC cannot be enabled on non-voting nodes\n"},
      {{"-otlp-insecure", "d"}, "fatal: OTLP options require -otlp-endpoint\n"},
      {{"-disco-mode", "consul-kv", "-bootstrap-expect", "3", "d"}, "fatal: bootstrapping not applicable when using consul-kv\n"},
      {{"-disco-mode", "dns", "d"}, "fatal: bootstrap-expect value required when using dns with a voting node\n"},
      {{"-disco-mode", "x", "d"}, "fatal: disco mode must be one of consul-kv, etcd-kv, dns, or dns-srv\n"},
      {{"-raft-heartbeat-timeout", "1ms", "d"}, "fatal: failed to open store: creating the raft system failed: HeartbeatTimeout is too low\n"},
      {{"-raft-election-timeout", "500ms", "d"},
       "fatal: failed to open store: creating the raft system failed: ElectionTimeout (500ms) must be equal or greater than Heartbeat Timeout (1s)\n"},
      {{"-raft-leader-lease-timeout", "5s", "d"},
       "fatal: failed to open store: creating the raft system failed: LeaderLeaseTimeout (5s) cannot be larger than heartbeat timeout (1s)\n"},
      {{"-cdc-config", "stdout", "d"}, "fatal: not supported yet: -cdc-config\n"},
      {{"-auto-vacuum-int", "1h", "d"}, "fatal: not supported yet: -auto-vacuum-int\n"},
      {{"-auth", "/no/such/file", "d"}, "fatal: failed to open file of -auth: open /no/such/file: No such file or directory\n"},
  };
  for (const auto& [arguments, text] : cases) {
    const Exit exit = refused(arguments);
    EXPECT_EQ(exit.code, 1) << text;
    EXPECT_EQ(exit.text, text);
  }
}

TEST(Flags, TellTheVersionWithoutADirectory) {
  const Exit exit = refused({"-version"});
  EXPECT_EQ(exit.code, 0);
  EXPECT_EQ(exit.text, "rqlited 10 linux amd64\n");
}

TEST(Flags, HelpWithCode0) {
  for (const char* flag : {"-h", "-help", "--help"}) {
    const Exit exit = refused({flag});
    EXPECT_EQ(exit.code, 0);
    EXPECT_NE(exit.text.find("  -http-addr string\n    \t"), std::string::npos);
    EXPECT_NE(exit.text.find("(default \"localhost:4001\")"), std::string::npos);
  }
}

TEST(Flags, AnOddButSplittableJoinAddressPasses) { EXPECT_EQ(accepted({"-join", "http://nonsense", "d"}).join.size(), 1u); }

}  // namespace
}  // namespace rq::config
