#include "cluster/formation.h"

#include <algorithm>
#include <future>

#include "base/log.h"
#include "cluster/cluster.pb.h"
#include "cluster/http_probe.h"

namespace rq::cluster {
namespace {

using transport::CallType;

constexpr auto kJoinTimeout = std::chrono::seconds(5);
constexpr auto kNotifyTimeout = std::chrono::seconds(1);
constexpr auto kBootstrapPause = std::chrono::milliseconds(300);
constexpr auto kClaimHeld = std::chrono::seconds(5);
constexpr auto kRemoveSelfMax = std::chrono::milliseconds(2200);      // a graceful stop has five seconds in all
constexpr int kJoinHopsMax = 10;

std::string list_text(const std::vector<std::string>& items) {
  std::string out = "[";
  for (const std::string& item : items) out += (out.size() > 1 ? " " : "") + item;
  return out + "]";
}

void fill(pb::Credentials& out, const http::Credentials& in) {
  out.set_username(in.username);
  out.set_password(in.password);
}

void fill(pb::Member& out, const replica::Member& member) { out.ParseFromString(replica::encode(member)); }

Result<std::string> wait_for(Node& node, const std::string& addr, CallType type, const std::string& payload, SteadyTime deadline) {
  auto promise = std::make_shared<std::promise<Result<std::string>>>();
  auto future = promise->get_future();
  node.transport().call(addr, type, payload, deadline, [promise](Result<std::string> result) { promise->set_value(std::move(result)); });
  return future.get();
}

}  // namespace

Formation::Formation(Node& node, Clock& clock, Rng& rng, JoinOptions options, bool has_state, Found found)
    : node_(node), clock_(clock), rng_(rng), options_(std::move(options)), found_(std::move(found)), has_state_(has_state) {
  known_[node.identity().node_id] = node.self_member();
  node_.set_notify_handler([this](std::string_view payload) { return on_notify(payload); });
}

Formation::~Formation() { node_.set_notify_handler(nullptr); }

Result<std::string> Formation::call(const std::string& addr, CallType type, const std::string& payload,
                                    std::chrono::nanoseconds timeout) {
  return wait_for(node_, addr, type, payload, clock_.now() + timeout);
}

Result<> Formation::probe_addresses() {
  log::info("cluster-join", "checking that supplied join addresses don't serve HTTP(S)");
  for (const std::string& addr : options_.addresses)
    if (serves_http(addr, std::chrono::seconds(2)))
      return fail(Errc::BadRequest, "join address " + addr + " appears to be serving HTTP when it should be Raft");
  return {};
}

bool Formation::in_cluster() const { return node_.has_leader() && node_.conf().contains(node_.identity().raft_id); }

// ---- joining

// Asks one address, follows it to the leader. The leader has us as a member when it says so; that its first messages
// come in is awaited too, so that whoever saw "joined" finds a node that knows its leader.
Result<> Formation::join_through(const std::string& addr) {
  pb::JoinRequest message;
  fill(*message.mutable_member(), node_.self_member());
  message.set_voter(!node_.identity().read_replica);
  fill(*message.mutable_credentials(), options_.credentials);
  const std::string payload = message.SerializeAsString();
  std::string target = addr;
  for (int hop = 0; hop < kJoinHopsMax; ++hop) {
    RQ_TRY(const std::string answer, call(target, CallType::Join, payload, kJoinTimeout));
    pb::JoinResponse response;
    if (!response.ParseFromString(answer)) return fail(Errc::Internal, "unreadable answer");
    if (!response.joined()) {
      if (response.leader_addr().empty()) return fail(Errc::BadRequest, "no leader");
      target = response.leader_addr();
      continue;
    }
    node_.transport().set_cluster_id(response.cluster_id());
    if (!node_.wait_until(clock_.now() + kJoinTimeout, [this] { return in_cluster(); }))
      return fail(Errc::Timeout, "joined, but the leader was not heard of");
    return {};
  }
  return fail(Errc::BadRequest, "max redirects exceeded");
}

Result<> Formation::join() {
  for (int attempt = 1;; ++attempt) {
    for (const std::string& addr : options_.addresses) {
      const Result<> joined = join_through(addr);
      if (joined) {
        log::info("rqlited", "successfully joined cluster at " + addr);
        return {};
      }
      const bool hint = joined.error().code == Errc::Unauthorized && options_.credentials.username.empty();
      log::warn("cluster-join", "failed to join via node at " + addr + ": " + joined.error().text() +
                                    (hint ? " (did you forget to set -join-as?)" : ""));
    }
    if (attempt >= options_.attempts) break;
    log::warn("cluster-join", "failed to join cluster at " + list_text(options_.addresses) + ", sleeping before retry");
    (void)node_.wait_until(clock_.now() + options_.interval, [] { return false; });
    if (node_.canceled()) return fail(Errc::Canceled, "failed to join cluster: join operation canceled");
  }
  log::error("cluster-join", "failed to join cluster at " + list_text(options_.addresses) + ", after " +
                                 std::to_string(options_.attempts) + " attempt(s)");
  return fail(Errc::BadRequest, "failed to join cluster: failed to join cluster");
}

// ---- founding

Result<std::string> Formation::on_notify(std::string_view payload) {
  pb::NotifyRequest message;
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) return fail(Errc::BadRequest, "unreadable request");
  pb::NotifyResponse response;
  const bool has_leader = node_.has_leader();
  const std::lock_guard lock(mutex_);
  if (options_.bootstrap_expect > 0 && !has_state_ && !has_leader) {
    const SteadyTime now = clock_.now();
    if (message.claim() == 0) {
      RQ_TRY(replica::Member member, replica::decode_member(message.member().SerializeAsString()));
      known_[member.node_id] = std::move(member);
      response.set_granted(true);
    } else if (granted_ == message.claim() || granted_ == 0 || now >= granted_until_) {
      granted_ = message.claim();
      granted_until_ = now + kClaimHeld;
      response.set_granted(true);
      node_.transport().set_cluster_id(message.claim());
    }
  }
  return response.SerializeAsString();
}

bool Formation::notify_all() {
  pb::NotifyRequest message;
  fill(*message.mutable_member(), node_.self_member());
  fill(*message.mutable_credentials(), options_.credentials);
  const std::string payload = message.SerializeAsString();
  bool all = true;
  for (const std::string& addr : options_.addresses) {
    if (addr == node_.identity().raft_addr) continue;
    const Result<std::string> answer = call(addr, CallType::Notify, payload, kNotifyTimeout);
    if (answer) continue;
    all = false;
    log::info("cluster-bootstrap", "failed to notify node at " + addr + ": " + answer.error().text() + ", will retry");
  }
  return all;
}

Result<bool> Formation::try_to_found() {
  std::vector<replica::Member> founders;
  std::uint64_t claim = 0;
  {
    const std::lock_guard lock(mutex_);
    if (known_.size() < static_cast<std::size_t>(options_.bootstrap_expect) || has_state_) return false;
    for (const auto& [id, member] : known_) founders.push_back(member);
    founders.resize(static_cast<std::size_t>(options_.bootstrap_expect));   // the smallest ids
    if (founders.front().raft_id != node_.identity().raft_id) return false;
    if (granted_ != 0 && clock_.now() < granted_until_) return false;       // promised to another
    claim = rng_.next() | 1;
    granted_ = claim;
    granted_until_ = clock_.now() + kClaimHeld;
  }
  log::info("cluster-bootstrap", "reached expected bootstrap count of " + std::to_string(options_.bootstrap_expect) +
                                     ", starting cluster bootstrap");
  pb::NotifyRequest message;
  fill(*message.mutable_member(), node_.self_member());
  fill(*message.mutable_credentials(), options_.credentials);
  message.set_claim(claim);
  const std::string payload = message.SerializeAsString();
  for (const replica::Member& founder : founders) {
    if (founder.raft_id == node_.identity().raft_id) continue;
    const Result<std::string> answer = call(founder.raft_addr, CallType::Notify, payload, kNotifyTimeout);
    pb::NotifyResponse response;
    if (!answer || !response.ParseFromString(*answer) || !response.granted()) {
      log::warn("cluster-bootstrap", "cluster bootstrap failed: node " + founder.node_id + " did not agree, will retry");
      const std::lock_guard lock(mutex_);
      granted_ = 0;
      return false;
    }
  }
  replica::MembershipRecord record{.cluster_id = claim};
  raft::ConfState conf;
  std::string servers;
  for (const replica::Member& founder : founders) {
    record.members.put(founder);
    conf.voters.push_back(founder.raft_id);
    servers += (servers.empty() ? "" : " ") + founder.node_id + "@" + founder.raft_addr;
  }
  RQ_CHECK(found_(std::move(record), std::move(conf)));
  {
    const std::lock_guard lock(mutex_);
    has_state_ = true;
  }
  log::info("cluster-bootstrap", "cluster bootstrap successful, servers: [" + servers + "]");
  return true;
}

Result<> Formation::bootstrap() {
  const SteadyTime deadline = clock_.now() + options_.bootstrap_expect_timeout;
  bool founded = false;
  while (clock_.now() < deadline) {
    if (in_cluster()) {
      log::info("cluster-bootstrap", "boot operation marked done");
      return {};
    }
    if (!founded) {
      // Only a cluster that exists can be joined: a node that is being founded itself must not add us as well.
      for (const std::string& addr : options_.addresses) {
        if (addr == node_.identity().raft_addr || in_cluster()) continue;
        if (join_through(addr)) {
          log::info("cluster-bootstrap", "succeeded directly joining cluster via node at " + addr + " as " +
                                             (node_.identity().read_replica ? "NON-VOTER" : "VOTER"));
          return {};
        }
      }
      if (!node_.identity().read_replica && notify_all()) {
        RQ_TRY(founded, try_to_found());
      }
    }
    (void)node_.wait_until(std::min(deadline, clock_.now() + kBootstrapPause), [this] { return in_cluster(); });
    if (node_.canceled()) return fail(Errc::Canceled, "boot canceled");
  }
  return fail(Errc::Timeout, "boot timeout");
}

// ---- leaving

Result<> Formation::remove_self(Node& node, const http::Credentials& credentials) {
  log::info("cluster-remove", "initiating removal of this node from cluster before shutdown");
  const SteadyTime deadline = node.clock().now() + kRemoveSelfMax;
  pb::RemoveNodeRequest message;
  message.set_node_id(node.identity().node_id);
  fill(*message.mutable_credentials(), credentials);
  Error last{Errc::LeaderNotFound, {}};
  while (node.clock().now() < deadline) {
    const auto leader = node.leader_member();
    if (leader && !node.conf().contains(node.identity().raft_id)) return {};
    if (leader && leader->self) {
      if (node.conf().voters.size() < 2) return fail(Errc::BadRequest, "cannot remove the only voter");
      std::promise<Result<>> promise;
      auto future = promise.get_future();
      node.open_store()->replica().transfer(RaftId{}, deadline, [&](Result<> result) { promise.set_value(std::move(result)); });
      if (const Result<> moved = future.get(); !moved) last = moved.error();
    } else if (leader) {
      const auto removed = wait_for(node, leader->member.raft_addr, CallType::RemoveNode, message.SerializeAsString(), deadline);
      if (removed) {
        log::info("cluster-remove", "removed this node successfully from cluster before shutdown");
        return {};
      }
      last = removed.error();
    }
    node.pause(std::chrono::milliseconds(250));      // not wait_until(): the stop signal has ended those
  }
  return fail(last);
}

}  // namespace rq::cluster
