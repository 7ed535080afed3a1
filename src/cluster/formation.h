// Formation: how this node comes to be in a cluster: alone, by joining, or by founding one with others
// (spec cluster.md section 4). Runs on the caller's thread and blocks it until the node is a member, a deadline passes, or
// node.cancel_waits() was called.
//
// Founding with -bootstrap-expect: every node tells all others that it is here. The one with the smallest node id among
// exactly N known asks the others to grant its claim; each grants one claim at a time and only while it belongs to no
// cluster. With all granted it writes the index-1 snapshot with all N as voters; the others receive it through Raft.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/node.h"
#include "http/backend.h"

namespace rq::cluster {

struct JoinOptions {
  std::vector<std::string> addresses;
  int attempts = 5;
  std::chrono::nanoseconds interval = std::chrono::seconds(3);
  int bootstrap_expect = 0;
  std::chrono::nanoseconds bootstrap_expect_timeout = std::chrono::minutes(2);
  http::Credentials credentials;      // of -join-as
};

class Formation {
 public:
  // `found` writes the first snapshot and starts the replica as a founder; called at most once.
  using Found = std::function<Result<>(replica::MembershipRecord record, raft::ConfState conf)>;
  Formation(Node& node, Clock& clock, Rng& rng, JoinOptions options, bool has_state, Found found);
  ~Formation();

  // Errc::BadRequest with the text that follows "clustering failure: ".
  Result<> probe_addresses();         // a -join address that serves HTTP is a mistake
  Result<> join();                    // section 4.2
  Result<> bootstrap();               // section 4.3
  // Leaves the cluster on a graceful stop (-raft-cluster-remove-shutdown), within 2.2 s.
  static Result<> remove_self(Node& node, const http::Credentials& credentials);

 private:
  Result<std::string> call(const std::string& addr, transport::CallType type, const std::string& payload,
                           std::chrono::nanoseconds timeout);
  Result<> join_through(const std::string& addr);
  bool in_cluster() const;
  bool notify_all();
  Result<std::string> on_notify(std::string_view payload);
  Result<bool> try_to_found();        // true: this node founded the cluster

  Node& node_;
  Clock& clock_;
  Rng& rng_;
  const JoinOptions options_;
  const Found found_;
  std::mutex mutex_;                  // guards all below
  std::map<std::string, replica::Member> known_;   // by node id, this node too
  std::uint64_t granted_ = 0;         // claim of another node
  SteadyTime granted_until_;
  bool has_state_;
};

}  // namespace rq::cluster
