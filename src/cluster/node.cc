#include "cluster/node.h"

#include <algorithm>

#include "base/assert.h"
#include "base/go_text.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "cluster/cluster.pb.h"

namespace rq::cluster {
namespace {

using transport::CallType;

constexpr auto kParkMax = std::chrono::seconds(5);           // how long a request without effect waits for a leader
constexpr auto kParkedPause = std::chrono::milliseconds(10);
constexpr auto kAnnounceEvery = std::chrono::milliseconds(200);    // until the leader knows our addresses
constexpr int kLeaderHops = 100;                             // tries of an operation, 10 ms apart while there is no leader
constexpr auto kTidyEvery = std::chrono::seconds(5);
constexpr auto kMembershipTimeout = std::chrono::seconds(10);
constexpr auto kReapEvery = std::chrono::milliseconds(200);

bool is_read(const pb::Request& request) { return request.kind() == pb::Request::QUERY; }

// No effect anywhere: may be tried again as soon as there is a leader.
bool had_no_effect(const Error& error) {
  switch (error.code) {
    case Errc::NotLeader:
    case Errc::LeaderNotFound:
    case Errc::TransferInProgress:
    case Errc::Unreachable:
      return true;
    default:
      return false;
  }
}

http::TextReply text_reply(int status, std::string body) {
  return {.status = status, .body = std::move(body), .type = http::TextReply::Type::Text};
}

template <class Message>
bool parse(Message& message, const std::string& payload) {
  return message.ParseFromString(payload);
}

void fill(pb::Credentials& out, const http::Credentials& in) {
  out.set_username(in.username);
  out.set_password(in.password);
}

std::string_view remote_counter(const pb::Request& request, bool failed) {
  if (request.load() && !failed) return "remote_loads";
  switch (request.kind()) {
    case pb::Request::EXECUTE: return failed ? "remote_executions_failed" : "remote_executions";
    case pb::Request::QUERY: return failed ? "remote_queries_failed" : "remote_queries";
    default: return failed ? "remote_requests_failed" : "remote_requests";
  }
}

std::string_view refused_text(const pb::Request& request) {
  if (request.load()) return "remote load not authorized";
  switch (request.kind()) {
    case pb::Request::EXECUTE: return "remote Execute not authorized";
    case pb::Request::QUERY: return "remote query not authorized";
    default: return "remote Request not authorized";
  }
}

}  // namespace

// A client's request while it runs in the store of this node.
class Node::LocalJob final : public store::SqlJob {
 public:
  LocalJob(Node& node, std::shared_ptr<http::SqlCall> call, SteadyTime parked_until)
      : node_(node), call_(std::move(call)), parked_until_(parked_until) {
    request.Swap(&call_->request);
    freshness = call_->freshness.bound;
    freshness_strict = call_->freshness.strict;
    linearizable_timeout = call_->linearizable_timeout;
    net_thread = static_cast<int>(call_->net_thread);
    begun = node.clock_.now();
  }

  void finished(Result<command::Outcome>&& result) override {
    call_->request.Swap(&request);
    if (result) {
      http::SqlReply reply{.outcome = *std::move(result)};
      if (reply.outcome.error.empty()) reply.served_by = node_.identity_.api_addr;
      return call_->done(std::move(reply));
    }
    const Error& error = result.error();
    if (error.code == Errc::NotLeader) return node_.forward(call_, parked_until_);
    if (error.code == Errc::TransferInProgress) return node_.park(call_, parked_until_, error);
    if (error.code == Errc::LeaderNotFound && parked_until_ != SteadyTime::max())
      return node_.park(call_, parked_until_, error);
    node_.fail_call(*call_, error);
  }
  bool canceled() const override { return call_->canceled(); }
  bool on_net_thread(std::function<void()> work) override {
    if (!node_.net_poster_) return false;
    node_.net_poster_(call_->net_thread, std::move(work));
    return true;
  }

 private:
  Node& node_;
  const std::shared_ptr<http::SqlCall> call_;
  const SteadyTime parked_until_;
};

// A request that a peer forwarded to us.
class Node::PeerJob final : public store::SqlJob {
 public:
  explicit PeerJob(std::shared_ptr<transport::Responder> responder) : responder_(std::move(responder)) {}

  void finished(Result<command::Outcome>&& result) override {
    if (!result) return responder_->reply(fail(result.error()));
    pb::SqlResponse response;
    response.set_body(command::render_body(*result, request.render()));
    response.set_top_level_error(!result->error.empty());
    responder_->reply(response.SerializeAsString());
  }

 private:
  const std::shared_ptr<transport::Responder> responder_;
};

Node::Node(Identity identity, transport::Transport& transport, auth::Authority* authority, Clock& clock,
           Metrics& metrics, std::function<std::string(const Node&, const store::Store*)> status)
    : identity_(std::move(identity)), transport_(transport), authority_(authority), clock_(clock), metrics_(metrics),
      status_(std::move(status)), thread_([this] { run_cluster_thread(); }) {}

Node::~Node() { close(); }

void Node::set_net_poster(NetPoster poster) { net_poster_ = std::move(poster); }

void Node::open(store::Store& store) {
  auto images = std::make_shared<Images>(store, transport_, clock_, metrics_, image_options_, [this] { return world(); });
  auto transfers = std::make_shared<Transfers>(store, clock_, metrics_);
  const std::lock_guard lock(mutex_);
  images_ = std::move(images);
  transfers_ = std::move(transfers);
  store_.store(&store, std::memory_order_release);
  proof_.start(store, proof_options_);
  wake_ = true;
  changed_.notify_all();
}

void Node::stop_parking() {
  std::vector<Parked> parked;
  {
    const std::lock_guard lock(mutex_);
    parking_ = false;
    parked.swap(parked_);
  }
  for (Parked& one : parked) fail_call(*one.call, {Errc::LeaderNotFound, {}});
}

void Node::pause(std::chrono::nanoseconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, clock_.now() + time, [this] { return stopping_; });
}

void Node::close() {
  std::vector<Parked> parked;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    parked.swap(parked_);
    changed_.notify_all();
  }
  for (Parked& one : parked) fail_call(*one.call, {Errc::NotOpen, {}});
  proof_.stop();
  if (thread_.joinable()) thread_.join();
  if (const auto transfers = this->transfers()) transfers->stop();
  if (const auto images = this->images()) images->stop();
  store_.store(nullptr, std::memory_order_release);
}

std::shared_ptr<Transfers> Node::transfers() const {
  const std::lock_guard lock(mutex_);
  return transfers_;
}

std::shared_ptr<Images> Node::images() const {
  const std::lock_guard lock(mutex_);
  return images_;
}

Images::World Node::world() const {
  const std::lock_guard lock(mutex_);
  return {.self = identity_.raft_id, .self_addr = identity_.raft_addr, .record = record_, .conf = conf_, .leader = leader_};
}

void Node::state_wanted(Index) {
  if (const auto images = this->images()) images->state_wanted();
}

replica::Member Node::self_member() const {
  return {.raft_id = identity_.raft_id, .node_id = identity_.node_id, .raft_addr = identity_.raft_addr,
          .api_addr = identity_.api_addr, .https = identity_.https, .read_replica = identity_.read_replica};
}

std::optional<Node::Leader> Node::leader_member() const {
  const std::lock_guard lock(mutex_);
  if (!leader_) return std::nullopt;
  const replica::Member* member = record_.members.find(leader_);
  if (member == nullptr) return std::nullopt;
  return Leader{*member, leader_ == identity_.raft_id};
}

std::vector<replica::Member> Node::members() const {
  const std::lock_guard lock(mutex_);
  return record_.members.all();
}

raft::ConfState Node::conf() const {
  const std::lock_guard lock(mutex_);
  return conf_;
}

bool Node::has_leader() const {
  if (open_store() == nullptr) return false;
  const std::lock_guard lock(mutex_);
  return static_cast<bool>(leader_);
}

bool Node::wait_until(SteadyTime deadline, const std::function<bool()>& condition) {
  std::unique_lock lock(mutex_);
  while (!stopping_ && !canceled_) {
    lock.unlock();
    const bool holds = condition();
    lock.lock();
    if (holds) return true;
    if (clock_.now() >= deadline) return false;
    changed_.wait_until(lock, std::min(deadline, clock_.now() + std::chrono::milliseconds(50)));
  }
  return false;
}

void Node::cancel_waits() {
  const std::lock_guard lock(mutex_);
  canceled_ = true;
  changed_.notify_all();
}

bool Node::canceled() const {
  const std::lock_guard lock(mutex_);
  return canceled_ || stopping_;
}

void Node::set_notify_handler(NotifyHandler handler) {
  const std::lock_guard lock(mutex_);
  notify_handler_ = std::move(handler);
}

// ---- SQL

void Node::fail_call(http::SqlCall& call, Error error) { call.done({.failure = std::move(error)}); }

void Node::sql(std::shared_ptr<http::SqlCall> call) { dispatch(call, SteadyTime::max()); }

void Node::dispatch(const std::shared_ptr<http::SqlCall>& call, SteadyTime parked_until) {
  store::Store* store = open_store();
  if (store == nullptr) return fail_call(*call, {Errc::NotOpen, {}});
  store->run(std::make_shared<LocalJob>(*this, call, parked_until));
}

void Node::forward(const std::shared_ptr<http::SqlCall>& call, SteadyTime parked_until) {
  const std::optional<Leader> leader = leader_member();
  if (!leader) {
    if (parked_until == SteadyTime::max()) return fail_call(*call, {Errc::LeaderNotFound, {}});
    return park(call, parked_until, {Errc::LeaderNotFound, {}});
  }
  if (leader->self) return park(call, parked_until, {Errc::NotLeader, {}});   // just became it: once more, here
  if (call->routing.redirect) {
    const std::string url = std::string(leader->member.https ? "https://" : "http://") + leader->member.api_addr;
    return call->done({.failure = Error{Errc::NotLeader, {}}, .redirect_to = url});
  }
  const SteadyTime deadline = clock_.now() + call->routing.timeout;
  pb::SqlRequest message;
  message.mutable_request()->Swap(&call->request);
  fill(*message.mutable_credentials(), call->routing.credentials);
  message.set_linearizable_timeout_ns(call->linearizable_timeout.count());
  std::string payload = message.SerializeAsString();
  message.mutable_request()->Swap(&call->request);
  metrics_.counter("proxy", remote_counter(call->request, false)).add();
  transport_.call(leader->member.raft_addr, CallType::Sql, std::move(payload), deadline,
                  [this, call, addr = leader->member.raft_addr, parked_until](Result<std::string> response) {
                    forwarded(call, addr, parked_until, std::move(response));
                  });
}

void Node::forwarded(const std::shared_ptr<http::SqlCall>& call, const std::string& leader_addr, SteadyTime parked_until,
                     Result<std::string>&& response) {
  if (response) {
    pb::SqlResponse message;
    if (!parse(message, *response)) return fail_call(*call, {Errc::Internal, "unreadable answer of the leader"});
    http::SqlReply reply{.rendered = std::move(*message.mutable_body())};
    if (!message.top_level_error()) reply.served_by = leader_addr;
    return call->done(std::move(reply));
  }
  const Error& error = response.error();
  const bool repeatable = is_read(call->request) && (error.code == Errc::Closed || error.code == Errc::Canceled ||
                                                     error.code == Errc::LeadershipLost);
  if (had_no_effect(error) || repeatable) return park(call, parked_until, error);
  metrics_.counter("proxy", remote_counter(call->request, true)).add();
  if (error.code == Errc::Unauthorized)
    return fail_call(*call, {Errc::Unauthorized, std::string(refused_text(call->request))});
  fail_call(*call, error.code == Errc::Canceled ? Error{Errc::LeadershipLost, {}} : error);
}

void Node::park(const std::shared_ptr<http::SqlCall>& call, SteadyTime until, Error last) {
  const SteadyTime now = clock_.now();
  if (until == SteadyTime::max())
    until = now + std::min<std::chrono::nanoseconds>(kParkMax, call->routing.timeout);
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_ && parking_ && now < until) {
      parked_.push_back({call, until, std::move(last)});
      changed_.notify_all();
      return;
    }
  }
  fail_call(*call, last.code == Errc::NotLeader ? Error{Errc::LeaderNotFound, {}} : std::move(last));
}

// Parked requests are tried every few milliseconds: an election takes that long at least, and no event is missed.
void Node::run_cluster_thread() {
  name_this_thread("cluster");
  SteadyTime tidy_at = clock_.now() + kTidyEvery;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const bool nothing = parked_.empty() && later_.empty();
    if (nothing) changed_.wait_for(lock, std::chrono::milliseconds(500), [&] { return stopping_ || wake_ || !parked_.empty() || !later_.empty(); });
    else changed_.wait_for(lock, kParkedPause, [&] { return stopping_; });
    wake_ = false;
    if (stopping_) break;
    std::vector<Parked> parked;
    parked.swap(parked_);
    std::vector<std::function<void()>> later;
    later.swap(later_);
    lock.unlock();
    for (Parked& one : parked) dispatch(one.call, one.until);
    for (const auto& work : later) work();
    announce();
    if (const auto transfers = this->transfers()) transfers->tidy();
    reap();
    if (const auto images = this->images(); images && clock_.now() >= tidy_at) {
      images->tidy();
      mind_skip();
      tidy_at = clock_.now() + kTidyEvery;
    }
    lock.lock();
  }
}

// Tells the leader who we are when its table says otherwise: changed addresses after a restart, a changed node id. With a
// changed address nobody can reach us, so we may not know the leader: then the members are asked in turn.
void Node::announce() {
  if (open_store() == nullptr) return;
  const replica::Member self = self_member();
  std::string addr;
  bool lead = false;
  {
    const std::lock_guard lock(mutex_);
    const replica::Member* known = record_.members.find(self.raft_id);
    if (known == nullptr || announcing_ || clock_.now() < announce_again_) return;
    replica::Member wanted = self;
    wanted.read_replica = known->read_replica;      // suffrage is not changed by a restart
    if (*known == wanted) return;
    std::vector<replica::Member> others = record_.members.all();
    std::erase_if(others, [&](const replica::Member& member) { return member.raft_id == self.raft_id; });
    lead = leader_ == self.raft_id;
    if (const replica::Member* leader = record_.members.find(leader_); leader != nullptr) addr = leader->raft_addr;
    else if (!others.empty()) addr = others[announce_turn_++ % others.size()].raft_addr;
    else return;
    announcing_ = true;
    announce_again_ = clock_.now() + kAnnounceEvery;
  }
  if (!lead) return announce_to(addr, self, 2);
  open_store()->replica().join(self, clock_.now() + kMembershipTimeout, [this](const Result<>&) {
    const std::lock_guard lock(mutex_);
    announcing_ = false;
  });
}

void Node::announce_to(const std::string& addr, const replica::Member& self, int hops) {
  pb::JoinRequest message;
  message.mutable_member()->ParseFromString(replica::encode(self));
  if (own_credentials_) fill(*message.mutable_credentials(), own_credentials_());
  transport_.call(addr, CallType::Announce, message.SerializeAsString(), clock_.now() + std::chrono::seconds(1),
                  [this, self, hops](const Result<std::string>& answer) {
                    pb::JoinResponse response;
                    if (answer && response.ParseFromString(*answer) && !response.joined() && !response.leader_addr().empty() && hops > 0)
                      return announce_to(response.leader_addr(), self, hops - 1);
                    const std::lock_guard lock(mutex_);
                    announcing_ = false;
                  });
}

// A leader looks now and then who was silent for too long. One removal at a time: the membership must settle in between.
void Node::reap() {
  store::Store* store = open_store();
  if (!upkeep_.reap.any() || store == nullptr || !store->replica().is_leader()) return;
  {
    const std::lock_guard lock(mutex_);
    if (reaping_ || clock_.now() < reap_again_) return;
    reaping_ = true;
    reap_again_ = clock_.now() + kReapEvery;
  }
  store->replica().fresh_view([this](const replica::View& view) {
    const std::vector<SilentMember> silent = silent_members(view, identity_.raft_id, clock_.now(), upkeep_.reap, upkeep_.contact);
    if (!silent.empty()) return reap_member(silent.front());
    const std::lock_guard lock(mutex_);
    reaping_ = false;
  });
}

void Node::reap_member(const SilentMember& member) {
  open_store()->replica().remove(member.node_id, clock_.now() + kMembershipTimeout, [this, member](const Result<>& result) {
    const std::string what = std::string(member.voter ? "voting node " : "non-voting node ") + member.node_id;
    metrics_.counter("store", result ? "nodes_reaped_ok" : "nodes_reaped_failed").add();
    if (result) log::info("store", "successfully reaped " + what);
    else log::warn("store", "failed to reap " + what + ": " + result.error().text());
    const std::lock_guard lock(mutex_);
    reaping_ = false;
  });
}

// ---- events of the replica

void Node::send(std::vector<raft::Message>&& messages) { transport_.send(std::move(messages)); }

void Node::membership_changed(const replica::MembershipRecord& record, const raft::ConfState& conf) {
  std::vector<std::pair<RaftId, std::string>> peers;
  for (const replica::Member& member : record.members.all())
    if (member.raft_id != identity_.raft_id) peers.emplace_back(member.raft_id, member.raft_addr);
  transport_.set_cluster_id(record.cluster_id);
  transport_.set_peers(std::move(peers));
  const bool member = record.members.find(identity_.raft_id) != nullptr;
  const bool removed = std::exchange(was_member_, member) && !member;      // raft thread
  if (removed) {
    log::warn("store", "this node was removed from the cluster");
    store::Store* store = open_store();
    if (upkeep_.shut_down_when_removed && store != nullptr) store->replica().shut_down({Errc::NotOpen, "removed from the cluster"});
  }
  const std::lock_guard lock(mutex_);
  record_ = record;
  conf_ = conf;
  wake_ = true;
  changed_.notify_all();
}

void Node::role_changed(const raft::Status& status) {
  std::string old_leader_addr;
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    if (leader_ == status.leader) return;
    if (const replica::Member* old = record_.members.find(leader_); old != nullptr && leader_ != identity_.raft_id)
      old_leader_addr = old->raft_addr;
    leader_ = status.leader;
    const replica::Member* leader = record_.members.find(leader_);
    if (leader_ == identity_.raft_id) text = "this node (ID=" + identity_.node_id + ", addr=" + identity_.raft_addr + ") is now Leader";
    else if (leader != nullptr) text = "node " + leader->node_id + " at " + leader->raft_addr + " is now Leader";
    else text = "Leader is now unknown";
    wake_ = true;
    changed_.notify_all();
  }
  metrics_.counter("store", "leader_changes_observed").add();
  log::info("store", text);
  // Whoever waits for the old leader would wait in vain, or for an answer that no longer counts.
  if (!old_leader_addr.empty()) transport_.cancel_calls(old_leader_addr);
}

// ---- calls of peers

transport::Transport::Handlers Node::handlers() {
  return {
      .on_messages = [this](std::vector<raft::Message>&& messages) {
        store::Store* store = open_store();
        if (store == nullptr) return;
        // The image of a snapshot travels apart: Raft sees the message when it is here.
        if (std::ranges::any_of(messages, [](const raft::Message& m) { return m.type == raft::MessageType::Snapshot && m.snapshot; })) {
          const auto images = this->images();
          std::vector<raft::Message> rest;
          for (raft::Message& message : messages) {
            if (message.type != raft::MessageType::Snapshot || !message.snapshot) rest.push_back(std::move(message));
            else if (images) images->receive(std::move(message));
          }
          messages = std::move(rest);
        }
        if (!messages.empty()) store->replica().step(std::move(messages));
      },
      .on_peer_dead = [this](RaftId peer) {
        if (store::Store* store = open_store()) store->replica().peer_dead(peer);
      },
      .on_unreachable = [this](RaftId peer) {
        store::Store* store = open_store();
        if (store == nullptr) return;
        if (store->replica().is_leader()) metrics_.counter("store", "failed_heartbeat_observed").add();
        store->replica().unreachable(peer);
      },
      .on_call = [this](CallType type, std::string payload, std::shared_ptr<transport::Responder> responder) {
        on_call(type, std::move(payload), std::move(responder));
      },
  };
}

bool Node::allowed(const http::Credentials& who, std::string_view permission) const {
  if (authority_ == nullptr) return true;
  const std::optional<auth::Caller> caller = authority_->identify(who.username, who.password);
  return caller && caller->may(permission);
}

// True: who calls must first be found out by a slow hash; then the call comes in once more.
bool Node::identify_first(const pb::Credentials& who, CallType type, const std::string& payload, const std::shared_ptr<transport::Responder>& responder) {
  if (authority_ == nullptr || authority_->identify(who.username(), who.password())) return false;
  authority_->identify(who.username(), who.password(), [this, type, payload, responder](const Result<auth::Caller>& caller) {
    if (caller) on_call(type, payload, responder);
    else responder->reply(fail(caller.error()));
  });
  return true;
}

void Node::on_call(CallType type, std::string payload, std::shared_ptr<transport::Responder> responder) {
  switch (type) {
    case CallType::NodeMeta:
      metrics_.counter("cluster", "num_get_node_api_req").add();
      if (open_store() == nullptr) return responder->reply(fail(Errc::NotOpen));
      metrics_.counter("cluster", "num_get_node_api_resp").add();
      return responder->reply(node_meta());
    case CallType::Sql:
      return serve_sql(payload, std::move(responder));
    case CallType::Join:
    case CallType::Announce:
      return serve_join(type, payload, std::move(responder));
    case CallType::Notify: {
      NotifyHandler handler;
      {
        const std::lock_guard lock(mutex_);
        handler = notify_handler_;
      }
      pb::NotifyRequest message;
      if (!parse(message, payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
      if (identify_first(message.credentials(), type, payload, responder)) return;
      metrics_.counter("cluster", "num_notify_req").add();
      if (!allowed({message.credentials().username(), message.credentials().password()}, "join"))
        return responder->reply(fail(Errc::Unauthorized));
      pb::NotifyResponse nothing;
      return responder->reply(handler ? handler(payload) : Result<std::string>(nothing.SerializeAsString()));
    }
    case CallType::RemoveNode:
      return serve_remove(payload, std::move(responder));
    case CallType::StepDown:
      return serve_step_down(payload, std::move(responder));
    case CallType::BackupOpen:
    case CallType::BackupRead:
    case CallType::BackupClose:
      return serve_backup(type, payload, std::move(responder));
    case CallType::ReadImage:
    case CallType::HoldState:
    case CallType::Stage: {
      const auto images = this->images();
      if (!images || open_store() == nullptr) return responder->reply(fail(Errc::NotOpen));
      return images->on_call(type, std::move(payload), std::move(responder));
    }
    case CallType::Load:
      return serve_load(payload, std::move(responder));
    case CallType::Proof:
      return proof_.serve(payload, responder);
    case CallType::ProofOperation:
      return proof_.serve_operation(payload, std::move(responder));
    case CallType::Skip:
      return serve_skip(payload, std::move(responder));
  }
  responder->reply(fail(Errc::Unsupported, "unknown call"));
}

std::string Node::node_meta() const {
  pb::NodeMetaResponse meta;
  meta.set_node_id(identity_.node_id);
  meta.set_api_addr(identity_.api_addr);
  meta.set_https(identity_.https);
  meta.set_version(identity_.version);
  if (const store::Store* store = open_store()) {
    meta.set_commit_index(store->replica().commit().value);
    meta.set_leader(store->replica().is_leader());
  }
  return meta.SerializeAsString();
}

void Node::serve_sql(const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  pb::SqlRequest message;
  if (!parse(message, payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (identify_first(message.credentials(), CallType::Sql, payload, responder)) return;
  const auto kind = message.request().kind();
  const http::Credentials who{message.credentials().username(), message.credentials().password()};
  const bool reads = kind != pb::Request::EXECUTE;
  const bool writes = kind != pb::Request::QUERY;
  const bool load = message.request().load();
  metrics_.counter("cluster", load ? "num_load_req" : kind == pb::Request::EXECUTE ? "num_execute_req" : kind == pb::Request::QUERY ? "num_query_req" : "num_request_req").add();
  if (load ? !allowed(who, "load") : (reads && !allowed(who, "query")) || (writes && !allowed(who, "execute")))
    return responder->reply(fail(Errc::Unauthorized));
  store::Store* store = open_store();
  if (store == nullptr) return responder->reply(fail(Errc::NotOpen));
  auto job = std::make_shared<PeerJob>(std::move(responder));
  job->request.Swap(message.mutable_request());
  job->linearizable_timeout = std::chrono::nanoseconds(message.linearizable_timeout_ns());
  job->begun = clock_.now();
  store->run(job);
}

void Node::serve_join(CallType type, const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  pb::JoinRequest message;
  if (!parse(message, payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (identify_first(message.credentials(), type, payload, responder)) return;
  metrics_.counter("cluster", "num_join_req").add();
  Result<replica::Member> joiner = replica::decode_member(message.member().SerializeAsString());
  if (!joiner) return responder->reply(fail(joiner.error()));
  const http::Credentials who{message.credentials().username(), message.credentials().password()};
  const bool may = joiner->read_replica ? allowed(who, "join-read-only") || allowed(who, "join-read-replica") : allowed(who, "join");
  if (!may) return responder->reply(fail(Errc::Unauthorized));
  store::Store* store = open_store();
  if (store == nullptr) return responder->reply(fail(Errc::NotOpen));
  const std::optional<Leader> leader = leader_member();
  pb::JoinResponse response;
  if (!leader || !leader->self) {
    if (leader) response.set_leader_addr(leader->member.raft_addr);
    return responder->reply(response.SerializeAsString());
  }
  bool known = false;
  bool replaces = false;
  {
    const std::lock_guard lock(mutex_);
    response.set_cluster_id(record_.cluster_id);
    if (const replica::Member* same = record_.members.find(joiner->raft_id)) {
      joiner->read_replica = same->read_replica;
      known = *same == *joiner;
    }
    const replica::Member* by_id = record_.members.find_node(joiner->node_id);
    replaces = !known && by_id != nullptr;
  }
  const std::string who_text = "node with ID " + joiner->node_id + ", at " + joiner->raft_addr;
  const bool voter = !joiner->read_replica;
  store->replica().join(*joiner, clock_.now() + kMembershipTimeout,
                        [this, known, replaces, who_text, voter, response, responder, id = joiner->node_id,
                         addr = joiner->raft_addr](const Result<>& result) mutable {
                          if (!result) return responder->reply(fail(result.error()));
                          if (known) {
                            metrics_.counter("store", "num_ignored_joins").add();
                            log::info("store", "node " + id + " at " + addr + " already member of cluster, ignoring join request");
                          } else {
                            metrics_.counter("store", "num_joins").add();
                            if (replaces) {
                              metrics_.counter("store", "num_removed_before_joins").add();
                              log::info("store", "removed node " + id + " prior to rejoin with changed ID or address");
                            }
                            log::info("store", who_text + ", joined successfully as " + (voter ? "voter" : "non-voter"));
                          }
                          response.set_joined(true);
                          responder->reply(response.SerializeAsString());
                        });
}

void Node::serve_remove(const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  pb::RemoveNodeRequest message;
  if (!parse(message, payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (identify_first(message.credentials(), CallType::RemoveNode, payload, responder)) return;
  metrics_.counter("cluster", "num_remove_node_req").add();
  if (!allowed({message.credentials().username(), message.credentials().password()}, "remove"))
    return responder->reply(fail(Errc::Unauthorized));
  remove_locally(message.node_id(), clock_.now() + kMembershipTimeout,
                 [responder](Result<> result) { responder->reply(result ? Result<std::string>(std::string()) : fail(result.error())); });
}

void Node::serve_step_down(const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  pb::StepDownRequest message;
  if (!parse(message, payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (identify_first(message.credentials(), CallType::StepDown, payload, responder)) return;
  metrics_.counter("cluster", "num_stepdown_req").add();
  if (!allowed({message.credentials().username(), message.credentials().password()}, "leader-ops"))
    return responder->reply(fail(Errc::Unauthorized));
  step_down_locally(message.node_id(), message.wait(), clock_.now() + kMembershipTimeout,
                    [responder](Result<> result) { responder->reply(result ? Result<std::string>(std::string()) : fail(result.error())); });
}

// ---- operations

void Node::remove_locally(const std::string& node_id, SteadyTime deadline, std::function<void(Result<>)> done) {
  store::Store* store = open_store();
  if (store == nullptr) return done(fail(Errc::NotOpen));
  store->replica().remove(node_id, deadline, std::move(done));
}

void Node::step_down_locally(const std::string& node_id, bool wait, SteadyTime deadline, std::function<void(Result<>)> done) {
  store::Store* store = open_store();
  if (store == nullptr) return done(fail(Errc::BadRequest, "stepdown: store not open"));
  if (!store->replica().is_leader()) return done(fail(has_leader() ? Errc::NotLeader : Errc::LeaderNotFound));
  RaftId to;
  if (!node_id.empty()) {
    const std::lock_guard lock(mutex_);
    const replica::Member* member = record_.members.find_node(node_id);
    if (member == nullptr) return done(fail(Errc::BadRequest, "stepdown: node not found in cluster"));
    to = member->raft_id;
    if (to == identity_.raft_id) return done(fail(Errc::BadRequest, "stepdown: cannot step down to the current Leader"));
    if (!conf_.is_voter(to)) return done(fail(Errc::BadRequest, "stepdown: node is not a voter"));
  }
  if (!wait) {
    store->replica().transfer(to, deadline, [](const Result<>& result) {
      if (!result) log::warn("store", "leadership transfer failed: " + result.error().text());
    });
    return done({});
  }
  store->replica().transfer(to, deadline, [done = std::move(done)](const Result<>& result) {
    if (result) return done({});
    done(fail(Errc::BadRequest, "stepdown: " + result.error().text()));
  });
}

void Node::at_leader(CallType type, std::string payload, const http::Routing& routing,
                     std::function<void(std::function<void(Result<>)>)> local,
                     std::function<void(Result<>, std::string served_by)> done, int hops) {
  const std::optional<Leader> leader = leader_member();
  if (!leader && (hops == kLeaderHops || hops == 1)) return done(fail(Errc::LeaderNotFound), {});
  if (!leader) {                                    // just handed over: its successor is a moment away
    if (hops == 0) return done(fail(Errc::LeaderNotFound), {});
    const std::lock_guard lock(mutex_);
    later_.push_back([=, this] { at_leader(type, payload, routing, local, done, hops - 1); });
    changed_.notify_all();
    return;
  }
  if (leader->self) {
    local([this, type, payload, routing, local, done, hops](Result<> result) {
      if (!result && result.error().code == Errc::NotLeader && hops > 0)   // handed over meanwhile: at the successor
        return at_leader(type, payload, routing, local, done, hops - 1);
      done(std::move(result), identity_.api_addr);
    });
    return;
  }
  transport_.call(leader->member.raft_addr, type, payload, clock_.now() + routing.timeout,
                  [this, type, payload, routing, local, done, hops, addr = leader->member.raft_addr](const Result<std::string>& response) {
                    if (response) return done({}, addr);
                    const bool moved = response.error().code == Errc::NotLeader || response.error().code == Errc::LeaderNotFound;
                    if (!moved || hops == 0) return done(fail(response.error()), addr);
                    const std::lock_guard lock(mutex_);      // not at once: the news of its successor is on the way
                    later_.push_back([=, this] { at_leader(type, payload, routing, local, done, hops - 1); });
                    changed_.notify_all();
                  });
}

namespace {

void reply_operation(const http::ReplyFn& reply, const Result<>& result, const std::string& served_by, std::string_view refused) {
  if (result) return reply({.status = 200, .type = http::TextReply::Type::None, .served_by = served_by});
  const Error& error = result.error();
  if (error.code == Errc::LeaderNotFound) return reply(text_reply(503, "leader not found"));
  if (error.code == Errc::Unauthorized) return reply(text_reply(401, std::string(refused)));
  if (error.code == Errc::NotOpen) return reply(text_reply(500, error.text()));
  reply(text_reply(500, error.text()));
}

std::optional<http::TextReply> redirected(const Node& node, const http::Routing& routing) {
  if (!routing.redirect) return std::nullopt;
  const auto leader = node.leader_member();
  if (!leader) return text_reply(500, "leader not found");
  if (leader->self) return std::nullopt;
  return http::TextReply{.status = 301, .type = http::TextReply::Type::None,
                         .redirect_to = std::string(leader->member.https ? "https://" : "http://") + leader->member.api_addr};
}

}  // namespace

void Node::remove_node(std::string node_id, const http::Routing& routing, http::ReplyFn reply) {
  if (open_store() == nullptr) return reply(text_reply(500, "store not open"));
  if (auto redirect = redirected(*this, routing)) return reply(*std::move(redirect));
  pb::RemoveNodeRequest message;
  message.set_node_id(node_id);
  fill(*message.mutable_credentials(), routing.credentials);
  metrics_.counter("proxy", "remote_remove_node").add(has_leader() && !open_store()->replica().is_leader() ? 1 : 0);
  at_leader(CallType::RemoveNode, message.SerializeAsString(), routing,
            [this, node_id](std::function<void(Result<>)> done) { remove_locally(node_id, clock_.now() + kMembershipTimeout, std::move(done)); },
            [reply](const Result<>& result, const std::string& served_by) {
              reply_operation(reply, result, served_by, "remote remove node not authorized");
            },
            kLeaderHops);
}

void Node::step_down(std::string node_id, bool wait, const http::Routing& routing, http::ReplyFn reply) {
  if (open_store() == nullptr) return reply(text_reply(503, "stepdown: store not open"));
  if (auto redirect = redirected(*this, routing)) return reply(*std::move(redirect));
  pb::StepDownRequest message;
  message.set_node_id(node_id);
  message.set_wait(wait);
  fill(*message.mutable_credentials(), routing.credentials);
  metrics_.counter("proxy", "remote_stepdowns").add(has_leader() && !open_store()->replica().is_leader() ? 1 : 0);
  at_leader(CallType::StepDown, message.SerializeAsString(), routing,
            [this, node_id, wait](std::function<void(Result<>)> done) {
              step_down_locally(node_id, wait, clock_.now() + kMembershipTimeout, std::move(done));
            },
            [reply](const Result<>& result, const std::string& served_by) {
              reply_operation(reply, result, served_by, "remote stepdown not authorized");
            },
            1);
}

std::string Node::status_json() { return status_(*this, open_store()); }

// ---- the cluster as seen from here

namespace {

struct Probe {
  replica::Member member;
  bool voter = false, reachable = false, leader = false;
  std::string version, error, api_addr;
  bool https = false;
  std::chrono::nanoseconds took{0};
};

void append_member(std::string& out, std::string_view name, std::string_view text) {
  append_json_string(out, name);
  out += ':';
  append_json_string(out, text);
  out += ',';
}

std::string node_json(const Probe& probe) {
  std::string out = "{";
  append_member(out, "id", probe.member.node_id);
  if (probe.reachable) append_member(out, "api_addr", (probe.https ? "https://" : "http://") + probe.api_addr);
  append_member(out, "addr", probe.member.raft_addr);
  append_member(out, "version", probe.version);
  out += std::string("\"voter\":") + (probe.voter ? "true" : "false") + ",\"reachable\":" + (probe.reachable ? "true" : "false") +
         ",\"leader\":" + (probe.reachable && probe.leader ? "true" : "false");
  if (probe.reachable) {
    out += ",\"time\":";
    append_json_double(out, std::chrono::duration<double>(probe.took).count());
    out += ",\"time_s\":";
    append_json_string(out, go_duration_text(probe.took));
  } else {
    out += ",\"error\":";
    append_json_string(out, probe.error);
  }
  return out + "}";
}

std::string nodes_json(const std::vector<Probe>& probes, int version) {
  std::string out = version == 2 ? "{\"nodes\":[" : "{";
  bool first = true;
  for (const Probe& probe : probes) {
    if (!first) out += ',';
    first = false;
    if (version != 2) {
      append_json_string(out, probe.member.node_id);
      out += ':';
    }
    out += node_json(probe);
  }
  return out + (version == 2 ? "]}" : "}");
}

// Asks every member for its meta data at the same time; `done` gets the probes in their order.
class ProbeRound : public std::enable_shared_from_this<ProbeRound> {
 public:
  ProbeRound(Node& node, std::vector<Probe> probes, std::function<void(std::vector<Probe>&&)> done)
      : node_(node), probes_(std::move(probes)), left_(probes_.size()), done_(std::move(done)) {}

  void run(std::chrono::nanoseconds timeout) {
    if (left_ == 0) return done_(std::move(probes_));
    const SteadyTime begun = node_.clock().now();
    const std::size_t count = probes_.size();
    for (std::size_t i = 0; i < count; ++i) {
      const std::string addr = probes_[i].member.raft_addr;
      if (probes_[i].member.raft_id == node_.identity().raft_id) {
        node_.metrics().counter("cluster", "num_get_node_api_req_local").add();
        pb::NodeMetaResponse meta;
        meta.set_api_addr(node_.identity().api_addr);
        meta.set_https(node_.identity().https);
        meta.set_version(node_.identity().version);
        answered(i, begun, meta.SerializeAsString());
        continue;
      }
      node_.transport().call(addr, CallType::NodeMeta, pb::NodeMetaRequest().SerializeAsString(), begun + timeout,
                             [self = shared_from_this(), i, begun](Result<std::string> response) {
                               self->answered(i, begun, std::move(response));
                             });
    }
  }

 private:
  void answered(std::size_t i, SteadyTime begun, Result<std::string> response) {
    {
      const std::lock_guard lock(mutex_);
      Probe& probe = probes_[i];
      pb::NodeMetaResponse meta;
      if (response && parse(meta, *response)) {
        probe.reachable = true;
        probe.api_addr = meta.api_addr();
        probe.https = meta.https();
        probe.version = meta.version();
        probe.took = node_.clock().now() - begun;
      } else if (response) {
        probe.error = "unreadable answer";
      } else {
        probe.error = response.error().code == Errc::Timeout ? "timeout waiting for node to respond" : response.error().text();
      }
      if (--left_ > 0) return;
    }
    done_(std::move(probes_));
  }

  Node& node_;
  std::mutex mutex_;   // guards probes_ and left_
  std::vector<Probe> probes_;
  std::size_t left_;
  std::function<void(std::vector<Probe>&&)> done_;
};

std::vector<Probe> probes_of(const Node& node, bool non_voters) {
  const raft::ConfState conf = node.conf();
  const auto leader = node.leader_member();
  std::vector<Probe> probes;
  for (replica::Member& member : node.members()) {
    const bool voter = conf.is_voter(member.raft_id);
    if (!voter && !non_voters) continue;
    const bool leads = leader && leader->member.raft_id == member.raft_id;
    probes.push_back({.member = std::move(member), .voter = voter, .leader = leads});
  }
  return probes;
}

}  // namespace

void Node::nodes(const http::NodesQuery& query, http::ReplyFn reply) {
  if (open_store() == nullptr) return reply(text_reply(503, "store nodes: store not open"));
  const auto done = [reply = std::move(reply), version = query.version, pretty = query.pretty](const std::vector<Probe>& probes) {
    const std::string body = nodes_json(probes, version);
    reply({.status = 200, .body = pretty ? pretty_json(body) : body});
  };
  std::make_shared<ProbeRound>(*this, probes_of(*this, query.non_voters), done)->run(query.timeout);
}

void Node::leader(bool pretty, std::chrono::nanoseconds timeout, http::ReplyFn reply) {
  if (open_store() == nullptr || !leader_member()) return reply(text_reply(503, "leader not found"));
  std::vector<Probe> probes = probes_of(*this, true);
  std::erase_if(probes, [](const Probe& probe) { return !probe.leader; });
  if (probes.empty()) return reply(text_reply(503, "leader not found"));
  const auto done = [reply = std::move(reply), pretty](const std::vector<Probe>& answered) {
    const std::string body = node_json(answered.front());
    reply({.status = 200, .body = pretty ? pretty_json(body) : body});
  };
  std::make_shared<ProbeRound>(*this, std::move(probes), done)->run(timeout);
}

void Node::ready(const http::ReadyQuery& query, http::ReplyFn reply) {
  const std::string node_ok = "[+]node ok";
  if (query.no_leader) return reply(text_reply(200, node_ok));
  const std::optional<Leader> leader = leader_member();
  if (open_store() == nullptr || !leader) return reply(text_reply(503, node_ok + "\n[+]leader does not exist"));
  const SteadyTime deadline = clock_.now() + query.timeout;
  if (leader->self) return check_ready(query, deadline, open_store()->replica().commit().value, std::move(reply));
  transport_.call(leader->member.raft_addr, CallType::NodeMeta, pb::NodeMetaRequest().SerializeAsString(), deadline,
                  [this, query, deadline, reply = std::move(reply), node_ok](Result<std::string> response) {
                    pb::NodeMetaResponse meta;
                    if (response && !parse(meta, *response)) response = fail(Errc::Internal, "unreadable answer");
                    if (!response)
                      return reply(text_reply(503, node_ok + "\n[+]leader not contactable: " +
                                                       (response.error().code == Errc::Timeout ? "timeout waiting for node to respond"
                                                                                               : response.error().text())));
                    check_ready(query, deadline, meta.commit_index(), reply);
                  });
}

void Node::check_ready(const http::ReadyQuery& query, SteadyTime deadline, std::uint64_t leader_commit, http::ReplyFn reply) {
  store::Store* store = open_store();
  const std::string so_far = "[+]node ok\n[+]leader ok";
  const bool member = [&] {
    const raft::ConfState conf = this->conf();
    const bool voter = conf.is_voter(identity_.raft_id);
    const std::lock_guard lock(mutex_);
    const replica::Member* self = record_.members.find(identity_.raft_id);
    return self != nullptr && (voter || self->read_replica);
  }();
  if (store == nullptr || !member || !store->ready()) return reply(text_reply(503, so_far + "\n[+]store not ready"));
  if (const auto error = store->replica().apply_error())
    return reply(text_reply(503, so_far + "\n[+]store ok\n[+]db not ok: (" + error->text() + ", [])"));
  if (!query.sync) return reply(text_reply(200, so_far + "\n[+]store ok\n[+]db ok"));
  store->replica().wait_applied(Index{std::max<std::uint64_t>(leader_commit, 1)}, deadline,
                                [reply = std::move(reply), so_far](const Result<Index>& result) {
                                  if (!result) return reply(text_reply(503, so_far + "\n[+]store ok\n[+]sync " + result.error().text()));
                                  reply(text_reply(200, so_far + "\n[+]store ok\n[+]sync ok\n[+]db ok"));
                                });
}

}  // namespace rq::cluster
