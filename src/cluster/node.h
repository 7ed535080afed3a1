// Node: this server in its cluster. Implements what the HTTP API needs (http::Backend) and answers its peers' calls:
// serves SQL here or forwards it to the leader, takes members in and out, says how the cluster is.
//
// Forwarding: a request that had no effect (not sent, or answered "not leader") is parked and tried again when the
// leadership settles, within its own timeout; a read also when its leader went away in the middle. A write whose fate is
// unknown is never repeated.
//
// Threads: public functions from any thread unless said otherwise. Own thread `cluster`: parked requests, announcements.
// Lifetime: made before the store is open (HTTP answers "store not open" until open() was called).
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "auth/authority.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "cluster/images.h"
#include "cluster/proof.h"
#include "cluster/reaper.h"
#include "cluster/transfers.h"
#include "http/backend.h"
#include "store/store.h"
#include "transport/transport.h"

namespace rq::pb {
class Credentials;
}

namespace rq::cluster {

struct Identity {
  std::string node_id;
  RaftId raft_id;
  std::string raft_addr;      // advertised
  std::string api_addr;       // advertised, host:port
  bool https = false;
  bool read_replica = false;
  std::string version = "10";
};

class Node final : public http::Backend, public replica::Replica::Events {
 public:
  // `on_net_thread(i, work)` runs work on the HTTP server's net thread i.
  using NetPoster = std::function<void(unsigned, std::function<void()>)>;

  Node(Identity identity, transport::Transport& transport, auth::Authority* authority, Clock& clock,
       Metrics& metrics, std::function<std::string(const Node&, const store::Store*)> status);
  ~Node() override;

  void set_net_poster(NetPoster poster);        // before the HTTP server takes requests
  void set_image_options(ImageOptions options) { image_options_ = options; }   // before open()
  // As whom this node announces itself when auth is on (-join-as); before open().
  void set_own_credentials(std::function<http::Credentials()> credentials) { own_credentials_ = std::move(credentials); }
  void set_proof_options(const ProofOptions& options) { proof_options_ = options; }   // before open()
  // Handlers for the transport; call once, before open().
  transport::Transport::Handlers handlers();
  struct Upkeep {                               // set before open()
    ReapLimits reap;
    std::chrono::nanoseconds contact = std::chrono::seconds(1);   // -raft-heartbeat-timeout: who was heard within it is there
    bool shut_down_when_removed = false;
  };
  void set_upkeep(const Upkeep& upkeep) { upkeep_ = upkeep; }
  void open(store::Store& store);               // the store is started; from now on requests are served
  void stop_parking();                          // a stop has begun: who waits for a leader is told that there is none
  void close();                                 // before the store stops; parked requests fail. Twice is fine

  // http::Backend
  void sql(std::shared_ptr<http::SqlCall> call) override;
  bool has_leader() const override;
  std::string status_json() override;
  void nodes(const http::NodesQuery& query, http::ReplyFn reply) override;
  void leader(bool pretty, std::chrono::nanoseconds timeout, http::ReplyFn reply) override;
  void step_down(std::string node_id, bool wait, const http::Routing& routing, http::ReplyFn reply) override;
  void remove_node(std::string node_id, const http::Routing& routing, http::ReplyFn reply) override;
  void snapshot(std::uint64_t trailing, http::ReplyFn reply) override;
  void reap(http::ReplyFn reply) override;
  void ready(const http::ReadyQuery& query, http::ReplyFn reply) override;
  void backup(const http::BackupQuery& query, const http::Routing& routing, std::function<void(http::BackupReply&&)> done) override;
  Result<std::string> leader_url() const override;
  Result<std::shared_ptr<http::UploadWriter>> begin_upload(const http::UploadOptions& options) override;
  Result<> may_boot() const override;
  using Loaded = std::function<void(Result<Index> result, std::string served_by)>;
  void load_image(const pb::LoadImage& image, const http::Routing& routing, Loaded done) override;
  void proof(const http::ProofQuery& query, const http::Routing& routing, http::ReplyFn reply) override {
    proof_.answer(query, routing, std::move(reply));
  }

  // Replica::Events (raft thread)
  void send(std::vector<raft::Message>&& messages) override;
  void membership_changed(const replica::MembershipRecord& record, const raft::ConfState& conf) override;
  void role_changed(const raft::Status& status) override;
  void state_wanted(Index at_least) override;

  std::shared_ptr<Images> images() const;       // null: the store isn't open

  const Identity& identity() const { return identity_; }
  replica::Member self_member() const;
  struct Leader {
    replica::Member member;
    bool self = false;
  };
  std::optional<Leader> leader_member() const;  // known and in the member table
  std::vector<replica::Member> members() const;
  raft::ConfState conf() const;
  transport::Transport& transport() { return transport_; }
  const transport::Transport& transport() const { return transport_; }
  std::shared_ptr<Transfers> transfers() const;  // null: the store isn't open
  store::Store* open_store() const { return store_.load(std::memory_order_acquire); }
  Clock& clock() const { return clock_; }
  Metrics& metrics() const { return metrics_; }
  // How a bootstrap claim or notification is answered; set by the formation.
  using NotifyHandler = std::function<Result<std::string>(std::string_view payload)>;
  void set_notify_handler(NotifyHandler handler);
  // Waits until the condition holds; woken by role and membership changes. False: deadline or stop.
  bool wait_until(SteadyTime deadline, const std::function<bool()>& condition);
  void cancel_waits();                          // a stop signal: every wait_until() ends
  bool canceled() const;
  bool allowed(const http::Credentials& who, std::string_view permission) const;
  bool identify_first(const pb::Credentials& who, transport::CallType type, const std::string& payload,
                      const std::shared_ptr<transport::Responder>& responder);
  void pause(std::chrono::nanoseconds time);    // ends early only when the node is closed

 private:
  class LocalJob;
  class PeerJob;
  struct Parked {
    std::shared_ptr<http::SqlCall> call;
    SteadyTime until;                           // give up then
    Error last;
  };
  struct SqlContext;

  void dispatch(const std::shared_ptr<http::SqlCall>& call, SteadyTime parked_until);
  void forward(const std::shared_ptr<http::SqlCall>& call, SteadyTime parked_until);
  void forwarded(const std::shared_ptr<http::SqlCall>& call, const std::string& leader_addr, SteadyTime parked_until,
                 Result<std::string>&& response);
  void park(const std::shared_ptr<http::SqlCall>& call, SteadyTime until, Error last);
  void fail_call(http::SqlCall& call, Error error);
  void run_cluster_thread();
  void announce();
  void reap();
  void reap_member(const SilentMember& member);
  void announce_to(const std::string& addr, const replica::Member& self, int hops);

  void on_call(transport::CallType type, std::string payload, std::shared_ptr<transport::Responder> responder);
  void serve_sql(const std::string& payload, std::shared_ptr<transport::Responder> responder);
  void serve_join(transport::CallType type, const std::string& payload, std::shared_ptr<transport::Responder> responder);
  void serve_remove(const std::string& payload, std::shared_ptr<transport::Responder> responder);
  void serve_backup(transport::CallType type, const std::string& payload, std::shared_ptr<transport::Responder> responder);
  void serve_step_down(const std::string& payload, std::shared_ptr<transport::Responder> responder);
  void serve_load(const std::string& payload, std::shared_ptr<transport::Responder> responder);
  void serve_skip(const std::string& payload, std::shared_ptr<transport::Responder> responder);
  void mind_skip();
  Images::World world() const;
  std::string node_meta() const;
  void remove_locally(const std::string& node_id, SteadyTime deadline, std::function<void(Result<>)> done);
  void step_down_locally(const std::string& node_id, bool wait, SteadyTime deadline, std::function<void(Result<>)> done);
  // Runs `local` here if we lead, else sends (type, payload) to the leader; again while it had no effect.
  void at_leader(transport::CallType type, std::string payload, const http::Routing& routing,
                 std::function<void(std::function<void(Result<>)>)> local,
                 std::function<void(Result<>, std::string served_by)> done, int hops);
  void check_ready(const http::ReadyQuery& query, SteadyTime deadline, std::uint64_t leader_commit, http::ReplyFn reply);

  const Identity identity_;
  transport::Transport& transport_;
  auth::Authority* const authority_;            // null: no auth
  Clock& clock_;
  Metrics& metrics_;
  const std::function<std::string(const Node&, const store::Store*)> status_;
  NetPoster net_poster_;
  std::function<http::Credentials()> own_credentials_;
  Upkeep upkeep_;
  ImageOptions image_options_;
  ProofOptions proof_options_;
  std::atomic<store::Store*> store_{nullptr};
  Proof proof_{*this};

  mutable std::mutex mutex_;                    // guards all below
  std::condition_variable changed_;
  std::shared_ptr<Transfers> transfers_;
  std::shared_ptr<Images> images_;
  replica::MembershipRecord record_;
  raft::ConfState conf_;
  RaftId leader_;
  std::vector<Parked> parked_;
  std::vector<std::function<void()>> later_;    // tried again with the parked requests
  std::size_t announce_turn_ = 0;               // which member is asked next while no leader is known
  NotifyHandler notify_handler_;
  bool stopping_ = false, canceled_ = false, wake_ = false, parking_ = true;
  bool announcing_ = false;
  SteadyTime announce_again_, reap_again_;
  bool reaping_ = false;
  bool was_member_ = false;                     // raft thread
  std::thread thread_;
};

}  // namespace rq::cluster
