// Node: the database as a whole: snapshots, backups, loads.
#include <algorithm>

#include "cluster/cluster.pb.h"
#include "base/log.h"
#include "cluster/node.h"
#include "store/recover.h"

namespace rq::cluster {
namespace {

using transport::CallType;
constexpr auto kMembershipTimeout = std::chrono::seconds(10);
constexpr auto kLoadTime = std::chrono::hours(1);            // at the most, of spreading an image

http::TextReply text_reply(int status, std::string body) {
  return {.status = status, .body = std::move(body), .type = http::TextReply::Type::Text};
}

template <class Message>
void set_credentials(Message& message, const http::Credentials& who) {
  message.mutable_credentials()->set_username(who.username);
  message.mutable_credentials()->set_password(who.password);
}

}  // namespace

void Node::snapshot(std::uint64_t trailing, http::ReplyFn reply) {
  store::Store* store = open_store();
  if (store == nullptr) return reply(text_reply(503, "store not open"));
  store->snapshot(trailing, [reply = std::move(reply)](const Result<bool>& result) {
    if (!result) return reply(text_reply(500, result.error().text()));
    reply({.status = *result ? 200 : 204, .type = http::TextReply::Type::None});
  });
}

void Node::reap(http::ReplyFn reply) {
  store::Store* store = open_store();
  if (store == nullptr) return reply(text_reply(503, "store not open"));
  store->begin_checkpoint();
  reply({.body = "{\"snapshots_reaped\":0,\"wals_checkpointed\":0}\n"});
}

Result<std::string> Node::leader_url() const {
  if (open_store() == nullptr) return fail(Errc::NotOpen);
  const std::optional<Leader> leader = leader_member();
  if (!leader) return fail(Errc::LeaderNotFound);
  if (leader->self) return std::string();
  return (leader->member.https ? "https://" : "http://") + leader->member.api_addr;
}

void Node::backup(const http::BackupQuery& query, const http::Routing& routing, std::function<void(http::BackupReply&&)> done) {
  const auto transfers = this->transfers();
  if (open_store() == nullptr || !transfers) return done({.failure = Error{Errc::NotOpen, {}}});
  const Result<std::string> leader = query.here ? Result<std::string>(std::string()) : leader_url();
  if (!leader) return done({.failure = leader.error()});
  if (!leader->empty() && routing.redirect) return done({.redirect_to = *leader});
  const auto opened = [done](Result<std::shared_ptr<ByteSource>> source) {
    if (source) return done({.source = *std::move(source)});
    done({.failure = source.error()});
  };
  if (leader->empty() && open_store()->integrity().quarantined()) return done({.failure = Error{Errc::Busy, "this node is in quarantine"}});
  if (leader->empty()) return transfers->backup(query, opened);
  metrics_.counter("proxy", "remote_backups").add();
  pb::BackupOpenRequest message = backup_message(query);
  set_credentials(message, routing.credentials);
  const auto known = leader_member();
  if (!known) return done({.failure = Error{Errc::LeaderNotFound, {}}});
  open_remote_backup(transport_, clock_, known->member.raft_addr, message, routing.timeout, [done](Result<std::shared_ptr<ByteSource>> source) {
    if (source) return done({.source = *std::move(source)});
    Error error = source.error();
    if (error.code == Errc::NotLeader) error = {Errc::LeaderNotFound, {}};
    if (error.code == Errc::Unauthorized) error.detail = "remote backup not authorized";
    done({.failure = std::move(error)});
  });
}

void Node::serve_backup(CallType type, const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  const auto transfers = this->transfers();
  store::Store* store = open_store();
  if (store == nullptr || !transfers) return responder->reply(fail(Errc::NotOpen));
  if (type != CallType::BackupOpen) return transfers->on_call(type, payload, std::move(responder));
  metrics_.counter("cluster", "num_backup_req").add();
  pb::BackupOpenRequest message;
  if (!message.ParseFromString(payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (identify_first(message.credentials(), type, payload, responder)) return;
  if (!allowed({message.credentials().username(), message.credentials().password()}, "backup")) return responder->reply(fail(Errc::Unauthorized));
  if (!store->replica().is_leader()) return responder->reply(fail(has_leader() ? Errc::NotLeader : Errc::LeaderNotFound));
  transfers->open_session(message, std::move(responder));
}

Result<std::shared_ptr<http::UploadWriter>> Node::begin_upload(const http::UploadOptions& options) {
  const auto transfers = this->transfers();
  if (open_store() == nullptr || !transfers) return fail(Errc::NotOpen);
  return transfers->begin_upload(options);
}

Result<> Node::may_boot() const {
  const store::Store* store = open_store();
  if (store == nullptr) return fail(Errc::NotOpen);
  if (!store->replica().is_leader()) return fail(Errc::BadRequest, "not leader");
  if (members().size() != 1) return fail(Errc::BadRequest, "not single-node");
  return {};
}

namespace {

// Refused before anything was proposed: no entry will ever name the image.
bool never_proposed(const Error& error) {
  return error.code == Errc::LeaderNotFound || error.code == Errc::NotLeader || error.code == Errc::Unauthorized || error.code == Errc::Unreachable;
}

}  // namespace

void Node::load_image(const pb::LoadImage& image, const http::Routing& routing, Loaded loaded) {
  const Loaded done = [this, name = image.name(), loaded = std::move(loaded)](const Result<Index>& result, std::string served_by) {
    if (result) metrics_.counter("store", "num_loads").add();
    const auto transfers = this->transfers();
    if (!result && transfers && never_proposed(result.error())) transfers->discard(name);
    loaded(result, std::move(served_by));
  };
  const auto images = this->images();
  if (!images || open_store() == nullptr) return done(fail(Errc::NotOpen), {});
  const SteadyTime deadline = clock_.now() + std::max<std::chrono::nanoseconds>(routing.timeout, kLoadTime);
  const std::optional<Leader> leader = leader_member();
  if (!leader) return done(fail(Errc::LeaderNotFound), {});
  if (leader->self) {
    return images->load(image, identity_.raft_addr, identity_.raft_id, deadline,
                        [done, api = identity_.api_addr](const Result<Index>& result) { done(result, api); });
  }
  metrics_.counter("proxy", "remote_loads").add();
  pb::LoadRequest message;
  *message.mutable_image() = image;
  message.set_source_addr(identity_.raft_addr);
  message.set_source(identity_.raft_id.value);
  set_credentials(message, routing.credentials);
  transport_.call(leader->member.raft_addr, CallType::Load, message.SerializeAsString(), deadline,
                  [done, addr = leader->member.raft_addr](const Result<std::string>& response) {
                    pb::LoadResponse answer;
                    if (!response) return done(fail(response.error()), addr);
                    if (!answer.ParseFromString(*response)) return done(fail(Errc::Corrupt, "unreadable answer"), addr);
                    done(Index{answer.raft_index()}, addr);
                  });
}

void Node::serve_load(const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  metrics_.counter("cluster", "num_load_req").add();
  pb::LoadRequest message;
  if (!message.ParseFromString(payload) || !is_staged_name(message.image().name())) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (identify_first(message.credentials(), CallType::Load, payload, responder)) return;
  if (!allowed({message.credentials().username(), message.credentials().password()}, "load")) return responder->reply(fail(Errc::Unauthorized));
  const auto images = this->images();
  store::Store* store = open_store();
  if (!images || store == nullptr) return responder->reply(fail(Errc::NotOpen));
  if (!store->replica().is_leader()) return responder->reply(fail(has_leader() ? Errc::NotLeader : Errc::LeaderNotFound));
  images->load(message.image(), message.source_addr(), RaftId{message.source()}, clock_.now() + kLoadTime,
               [responder = std::move(responder)](const Result<Index>& result) {
                 if (!result) return responder->reply(fail(result.error()));
                 pb::LoadResponse answer;
                 answer.set_raft_index(result->value);
                 responder->reply(answer.SerializeAsString());
               });
}

// ---- an entry that the operator wants to be passed over

// On the cluster thread: what `recover -skip` left is told to the leader until it is done.
void Node::mind_skip() {
  store::Store* store = open_store();
  if (store == nullptr || !store->replica().apply_error()) return;
  const Result<Index> index = store::asked_to_skip(store->disk(), store->data_dir());
  if (!index) return log::warn("store", index.error().text());
  if (!*index || store->replica().applied() >= *index) return;
  log::info("store", "asking the cluster to pass over the entry at index " + std::to_string(index->value));
  const Images::World here = world();
  if (here.leader == here.self) return store->propose_skip(*index);
  const replica::Member* leader = here.record.members.find(here.leader);
  if (leader == nullptr) return;
  pb::SkipRequest request;
  request.mutable_reader()->set_cluster_id(here.record.cluster_id);
  request.mutable_reader()->set_raft_id(here.self.value);
  request.set_index(index->value);
  transport_.call(leader->raft_addr, CallType::Skip, request.SerializeAsString(), clock_.now() + kMembershipTimeout, [](const Result<std::string>& response) {
    if (!response) log::warn("store", "the leader could not be asked: " + response.error().text());
  });
}

void Node::serve_skip(const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  pb::SkipRequest message;
  store::Store* store = open_store();
  if (store == nullptr) return responder->reply(fail(Errc::NotOpen));
  const Images::World here = world();
  if (!message.ParseFromString(payload) || message.index() == 0) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (message.reader().cluster_id() != here.record.cluster_id || here.record.members.find(RaftId{message.reader().raft_id()}) == nullptr)
    return responder->reply(fail(Errc::Unauthorized));
  store->propose_skip(Index{message.index()});
  responder->reply(std::string());
}

}  // namespace rq::cluster
