#include "cluster/proof.h"

#include <algorithm>
#include <cstdio>
#include <ranges>

#include "base/go_text.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "cluster/node.h"

namespace rq::cluster {
namespace {

using transport::CallType;

constexpr std::size_t kQuestionsMax = 16;      // under way; older ones are dropped
constexpr std::size_t kAgreedKept = 64;
constexpr std::size_t kAgreedTold = 8;         // a member that lags finds one that it has just reached
constexpr std::size_t kIndexesMax = 64;        // of one request
constexpr auto kCallTimeout = std::chrono::seconds(5);
constexpr auto kContradictionAfter = std::chrono::seconds(5);   // members that don't answer are waited for so long
constexpr auto kHandOverPause = std::chrono::seconds(3);
constexpr auto kProposePause = std::chrono::seconds(10);
constexpr auto kSuspicionPause = std::chrono::minutes(10);    // a shadow table of FTS that somebody broke fails all the time
constexpr auto kCopyScrubPause = std::chrono::minutes(5);     // a member of another engine, or one that is down, can't be compared
constexpr auto kTrustPause = std::chrono::milliseconds(20);
constexpr auto kTrustFor = std::chrono::minutes(5);
constexpr auto kSilentAfter = std::chrono::seconds(10);

std::string hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

void fill(pb::ValueAt& out, Index index, const ProofReport& report) {
  out.set_index(index.value);
  out.set_value(report.value);
  out.set_engine(report.engine);
}

}  // namespace

void Proof::start(store::Store& store, ProofOptions options) {
  store_ = &store;
  options_ = options;
  scrub_again_ = node_.clock().now() + options.scrub_interval;
  thread_ = std::thread([this] { run(); });
}

void Proof::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (const auto trust = std::exchange(trust_, std::nullopt)) trust->done(fail(Errc::Closed, "node is stopping"));
}

void Proof::run() {
  name_this_thread("proof");
  std::unique_lock lock(mutex_);
  while (!stop_) {
    lock.unlock();
    tick();
    lock.lock();
    const auto pause = trust_ ? std::min<std::chrono::nanoseconds>(kTrustPause, options_.interval) : options_.interval;
    changed_.wait_for(lock, pause, [this] { return stop_ || wake_; });
    wake_ = false;
  }
}

void Proof::tick() {
  const bool leads = store_->replica().is_leader();
  {
    const std::lock_guard lock(mutex_);
    if (leads != std::exchange(was_leader_, leads)) {
      questions_.clear();
      last_.clear();
      scrub_question_ = {};
      scrubbed_copies_.clear();
      chains_.contradiction.reset();
      databases_.contradiction.reset();
      note_alarm();
      if (!leads) trusted_until_ = {};
    }
  }
  take_trust();
  if (leads) lead();
  check_self();
}

// ---- every node

Proof::Last Proof::own_report() const {
  const store::Integrity& integrity = store_->integrity();
  const executor::Status status = store_->executor().status();
  const std::uint64_t engine = status.engine;
  const auto [index, chain] = integrity.chains().newest();
  const store::Scrubber::State scrub = integrity.scrubber().newest();
  return {.now = {index, {engine, chain}}, .quarantined = integrity.quarantined(), .scrub = {scrub.index, {engine, scrub.value}},
          .gap_after = status.gap_after, .gap_until = status.gap_until, .suspects = integrity.suspected(), .copy_of = integrity.copy_of(),
          .scrub_done = scrub.done, .scrub_total = scrub.total, .heard = node_.clock().now()};
}

void Proof::serve(const std::string& payload, const std::shared_ptr<transport::Responder>& responder) {
  pb::ProofRequest request;
  if (!request.ParseFromString(payload) || request.indexes_size() > static_cast<int>(kIndexesMax))
    return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  store::Store* store = node_.open_store();
  if (store == nullptr) return responder->reply(fail(Errc::NotOpen));
  const Last own = own_report();
  pb::ProofResponse response;
  fill(*response.mutable_now(), own.now.index, own.now.report);
  for (const std::uint64_t index : request.indexes()) {
    if (const auto chain = store->integrity().chains().at(Index{index})) fill(*response.add_known(), Index{index}, {own.now.report.engine, *chain});
  }
  response.set_quarantined(own.quarantined);
  fill(*response.mutable_scrub(), own.scrub.index, own.scrub.report);
  response.set_scrub_done(own.scrub_done);
  response.set_scrub_total(own.scrub_total);
  response.set_gap_after(own.gap_after.value);
  response.set_gap_until(own.gap_until.value);
  response.set_suspects(own.suspects);
  for (const RaftId id : own.copy_of) response.add_copy_of(id.value);
  responder->reply(response.SerializeAsString());
  // What somebody else than our leader takes for agreed is no news.
  if (request.leader() == 0 || RaftId{request.leader()} != store->replica().leader()) return;
  const std::lock_guard lock(mutex_);
  for (const pb::ValueAt& value : request.agreed()) agreed_[value.index()] = {value.engine(), value.value()};
  while (agreed_.size() > kAgreedKept) agreed_.erase(agreed_.begin());
  const pb::ValueAt& scrub = request.agreed_scrub();
  if (scrub.index() != 0) agreed_scrub_ = {Index{scrub.index()}, {scrub.engine(), scrub.value()}};
  wake_ = true;
  changed_.notify_all();
}

// Does what is here differ from what a majority has?
void Proof::check_self() {
  if (store_->integrity().quarantined()) return;
  const std::uint64_t engine = store_->executor().status().engine;
  std::optional<std::string> why;
  {
    const std::lock_guard lock(mutex_);
    bool chain_agrees = false;
    for (const auto& [index, agreed] : agreed_) {
      const auto own = store_->integrity().chains().at(Index{index});
      if (!own || *own == 0 || agreed.engine != engine) continue;
      chain_agrees |= agreed.value == *own;
      if (agreed.value == *own) continue;
      why = "its effect chain differs from that of the majority, index=" + std::to_string(index) + " chain=" + hex(*own) + " agreed=" + hex(agreed.value);
      break;
    }
    const store::Scrubber::State scrub = store_->integrity().scrubber().newest();
    const bool comparable = scrub.value != 0 && scrub.index == agreed_scrub_.index && agreed_scrub_.report.engine == engine;
    if (!why && chain_agrees && comparable && scrub.value == agreed_scrub_.report.value) store_->integrity().proven();
    if (!why && comparable && scrub.value != agreed_scrub_.report.value)
      why = "a scrub found its database to differ from that of the majority, index=" + std::to_string(scrub.index.value);
  }
  if (!why) return;
  if (store_->replica().is_leader()) return hand_over(*std::move(why));
  node_.metrics().counter("proof", "num_divergences").add();
  {
    const std::lock_guard lock(mutex_);   // the new state is compared with what is agreed from now on
    agreed_.clear();
    agreed_scrub_ = {};
  }
  store_->integrity().quarantine(*why);
}

void Proof::hand_over(std::string why) {
  const SteadyTime now = node_.clock().now();
  RaftId to;
  {
    const std::lock_guard lock(mutex_);
    if (now < hand_over_again_) return;
    hand_over_again_ = now + kHandOverPause;
    for (const auto& [member, last] : last_) {
      const bool better = !to || last.now.index > last_[to].now.index;
      if (member != node_.identity().raft_id && !last.odd() && !last.quarantined && node_.conf().is_voter(member) && better) to = member;
    }
  }
  log::error("proof", "this node leads and is wrong, it hands leadership over: " + why);
  store_->replica().transfer(to, now + kHandOverPause, [](const Result<>& result) {
    if (!result) log::warn("proof", "leadership was not handed over: " + result.error().text());
  });
}

// ---- the leader

void Proof::lead() {
  std::vector<Index> indexes;
  {
    const Last own = own_report();
    const std::lock_guard lock(mutex_);
    if (own.now.index.value != 0 && (questions_.empty() || questions_.back().index != own.now.index))
      questions_.push_back({.index = own.now.index, .asked = node_.clock().now()});
    while (questions_.size() > kQuestionsMax) questions_.pop_front();
    for (const Question& question : questions_) indexes.push_back(question.index);
    remember(node_.identity().raft_id, own);
    const std::vector<replica::Member> members = node_.members();
    std::erase_if(last_, [&](const auto& one) { return std::ranges::none_of(members, [&](const replica::Member& m) { return m.raft_id == one.first; }); });
  }
  note_own_answers();
  trust_self();
  judge_questions();
  judge_scrub();
  ask_members(indexes);
  begin_anew_when_due();
  scrub_when_due();
}

// The lock is held. What was found out about the member stays, unless it has another database now.
void Proof::remember(RaftId member, Last report) {
  Last& last = last_[member];
  report.odd_chain = last.odd_chain;
  report.odd_database = last.odd_database && last.scrub.index == report.scrub.index;
  last = report;
}

void Proof::note_own_answers() {
  if (store_->integrity().quarantined()) return;
  const std::uint64_t engine = store_->executor().status().engine;
  const std::lock_guard lock(mutex_);
  for (Question& question : questions_) {
    if (const auto chain = store_->integrity().chains().at(question.index)) question.reports[node_.identity().raft_id] = {engine, *chain};
  }
}

void Proof::ask_members(const std::vector<Index>& indexes) {
  pb::ProofRequest request;
  request.set_leader(node_.identity().raft_id.value);
  for (const Index index : indexes) request.add_indexes(index.value);
  {
    const std::lock_guard lock(mutex_);
    std::size_t told = 0;
    for (auto at = agreed_.rbegin(); at != agreed_.rend() && told < kAgreedTold; ++at, ++told) fill(*request.add_agreed(), Index{at->first}, at->second);
    fill(*request.mutable_agreed_scrub(), agreed_scrub_.index, agreed_scrub_.report);
  }
  const std::string payload = request.SerializeAsString();
  for (const replica::Member& member : node_.members()) {
    if (member.raft_id == node_.identity().raft_id) continue;
    // A late answer outlives us: the node is asked for its proof anew.
    node_.transport().call(member.raft_addr, CallType::Proof, payload, node_.clock().now() + kCallTimeout,
                           [this, id = member.raft_id](const Result<std::string>& answer) {
                             pb::ProofResponse response;
                             if (answer && response.ParseFromString(*answer)) heard(id, response);
                           });
  }
}

void Proof::heard(RaftId member, const pb::ProofResponse& response) {
  take_answer(member, response);
  judge_questions();
  judge_scrub();
}

void Proof::take_answer(RaftId member, const pb::ProofResponse& response) {
  std::vector<RaftId> copy_of;
  for (const std::uint64_t id : response.copy_of()) copy_of.push_back(RaftId{id});
  if (copy_of.size() > store::Integrity::kLineageMax) copy_of.resize(store::Integrity::kLineageMax);
  const std::lock_guard lock(mutex_);
  if (stop_ || !was_leader_) return;
  const auto value = [](const pb::ValueAt& in) { return Value{Index{in.index()}, {in.engine(), in.value()}}; };
  remember(member, {.now = value(response.now()), .quarantined = response.quarantined(), .scrub = value(response.scrub()),
                    .gap_after = Index{response.gap_after()}, .gap_until = Index{response.gap_until()}, .suspects = response.suspects(), .copy_of = std::move(copy_of),
                    .scrub_done = response.scrub_done(), .scrub_total = response.scrub_total(), .heard = node_.clock().now()});
  if (response.quarantined()) {            // what it said before counts no more
    for (Question& question : questions_) question.reports.erase(member);
    return;
  }
  for (const pb::ValueAt& known : response.known())
    for (Question& question : questions_)
      if (question.index.value == known.index()) question.reports[member] = {known.engine(), known.value()};
}

// The lock is held.
ProofCopies Proof::copies() const {
  ProofCopies out;
  for (const auto& [member, last] : last_)
    if (!last.copy_of.empty() && !last.quarantined) out[member] = last.copy_of;
  return out;
}

void Proof::judge_questions() {
  const raft::ConfState conf = node_.conf();
  const SteadyTime now = node_.clock().now();
  const std::lock_guard lock(mutex_);
  bool later_agreed = false;           // each chain goes on from the one before: agreement ends what there was of contradiction
  for (Question& question : questions_ | std::views::reverse) {
    ProofVerdict verdict = judge(conf, question.reports, copies());
    if (later_agreed) verdict.contradiction = false;
    question.contradiction = verdict.contradiction;
    question.settled = verdict.complete && (verdict.agreed || later_agreed);
    later_agreed |= verdict.agreed.has_value();
    if (verdict.agreed && !trusted()) {
      if (agreed_.emplace(question.index.value, *verdict.agreed).second) node_.metrics().counter("proof", "num_comparisons").add();
      for (const auto& [member, report] : question.reports)
        if (report.engine == verdict.agreed->engine && report.value == verdict.agreed->value) last_[member].odd_chain = false;
    }
    settle(chains_, question.index, verdict, now - question.asked > kContradictionAfter);
  }
  while (agreed_.size() > kAgreedKept) agreed_.erase(agreed_.begin());
  while (questions_.size() > 1 && questions_.front().settled) questions_.pop_front();
}

// The lock is held.
void Proof::settle(Subject& subject, Index index, const ProofVerdict& verdict, bool old) {
  for (const RaftId member : verdict.odd) {
    if (std::exchange(last_[member].*subject.odd, true)) continue;
    log::error("proof", std::string(subject.what) + " differ, index=" + std::to_string(index.value) + " member=" + hex(member.value) + " is in the minority");
    wake_ = true;                        // it is told at once
    changed_.notify_all();
  }
  if (verdict.agreed && subject.contradiction) {
    log::info("proof", std::string("the nodes agree again on the ") + subject.what + ", index=" + std::to_string(index.value));
    subject.contradiction.reset();
    note_alarm();
  }
  if (!verdict.contradiction || subject.contradiction || trusted() || !(verdict.complete || old)) return;
  subject.contradiction = std::string("the ") + subject.what + " of the nodes differ at index " + std::to_string(index.value) +
                          " and none has a majority: writes are refused until the operator trusts a node (POST /db/proof?trust=NODE)";
  node_.metrics().counter("proof", "num_contradictions").add();
  log::error("proof", *subject.contradiction);
  note_alarm();
}

// The lock is held.
void Proof::note_alarm() {
  store_->integrity().refuse_writes(alarm());
}

void Proof::judge_scrub() {
  const raft::ConfState conf = node_.conf();
  const SteadyTime now = node_.clock().now();
  const std::lock_guard lock(mutex_);
  Index newest;
  for (const auto& [member, last] : last_) newest = std::max(newest, last.scrub.index);
  if (newest.value == 0 || newest < agreed_scrub_.index) return;
  if (scrub_question_.index != newest) scrub_question_ = {.index = newest, .asked = now};
  bool busy = false;
  scrub_question_.reports.clear();
  for (const auto& [member, last] : last_) {
    if (last.scrub.index != newest || last.quarantined) continue;
    if (last.scrub.report.value != 0) scrub_question_.reports[member] = last.scrub.report;
    busy |= last.scrub.report.value == 0;
  }
  if (busy) scrub_question_.asked = now;
  const ProofVerdict verdict = judge(conf, scrub_question_.reports, copies());
  if (verdict.agreed && !trusted() && agreed_scrub_.index != newest) {
    agreed_scrub_ = {newest, *verdict.agreed};
    node_.metrics().counter("proof", "num_scrubs").add();
  }
  settle(databases_, newest, verdict, now - scrub_question_.asked > kContradictionAfter);
}

// The lock is held. The operator has said that this node is right.
bool Proof::trusted() const { return node_.clock().now() < trusted_until_; }

void Proof::trust_self() {
  const Last own = own_report();
  const std::lock_guard lock(mutex_);
  if (!trusted()) return;
  agreed_[own.now.index.value] = own.now.report;
  if (own.scrub.report.value != 0) agreed_scrub_ = own.scrub;
}

// The lock is held.
std::optional<std::string> Proof::why_begin_anew() {
  const auto equal_again = [this](const Question& question) {
    return question.contradiction && question.index <= scrub_question_.index && written_over(question.reports, scrub_question_.reports);
  };
  if (std::ranges::any_of(questions_, equal_again))
    return "the effect chains differ, but a scrub found the databases equal at index " + std::to_string(scrub_question_.index.value);
  bool unknown = false;
  const std::uint64_t engine = last_[node_.identity().raft_id].now.report.engine;
  for (const RaftId voter : node_.conf().voters) {
    const auto last = last_.find(voter);
    if (last == last_.end() || node_.clock().now() - last->second.heard > kSilentAfter || last->second.quarantined) return std::nullopt;
    if (last->second.now.report.engine != engine) return std::nullopt;
    unknown |= last->second.now.report.value == 0;
  }
  if (!unknown) return std::nullopt;
  return "a node doesn't know its effect chain";
}

void Proof::begin_anew_when_due() {
  const SteadyTime now = node_.clock().now();
  std::optional<std::string> why;
  {
    const std::lock_guard lock(mutex_);
    if (now < begin_again_) return;
    why = why_begin_anew();
    if (!why) return;
    begin_again_ = now + kProposePause;
  }
  log::info("proof", *why + ": all begin them anew");
  pb::ProofMark mark;
  mark.set_begin_chain(true);
  mark.set_scrub(true);            // whatever the chains don't cover is compared at that index
  store_->propose_proof(mark, [](const Result<Index>&) {});
}

void Proof::scrub_when_due() {
  const SteadyTime now = node_.clock().now();
  const std::optional<WallTime> begun = store_->integrity().scrubber().newest().begun;
  bool suspected = false;
  {
    const std::lock_guard lock(mutex_);
    // A new copy is compared soon: until then it doesn't count as a witness.
    const ProofCopies present = copies();
    const bool copied = options_.scrub_interval.count() > 0 && !present.empty() && (present != scrubbed_copies_ || now >= copy_scrub_again_);
    if (copied) {
      copy_scrub_again_ = now + kCopyScrubPause;
      scrubbed_copies_ = present;
    }
    const bool doubt = chains_.contradiction || std::ranges::any_of(last_, [](const auto& one) { return one.second.suspects; });
    suspected = now >= suspicion_again_ && doubt;
    if (suspected) suspicion_again_ = now + kSuspicionPause;
    suspected |= copied;
    if (!suspected && (options_.scrub_interval.count() <= 0 || now < scrub_again_)) return;
    scrub_again_ = now + kProposePause;
  }
  if (!suspected && begun && node_.clock().wall() - *begun < options_.scrub_interval) return;
  pb::ProofMark mark;
  mark.set_scrub(true);
  store_->propose_proof(mark, [](const Result<Index>&) {});
}

// ---- operations

void Proof::serve_operation(const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  pb::ProofOperation operation;
  if (!operation.ParseFromString(payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (node_.identify_first(operation.credentials(), CallType::ProofOperation, payload, responder)) return;
  const http::Credentials who{operation.credentials().username(), operation.credentials().password()};
  const bool trusts = operation.kind() == pb::ProofOperation::TRUST;
  if (!node_.allowed(who, trusts ? "load" : "status")) return responder->reply(fail(Errc::Unauthorized));
  operate(operation, [responder = std::move(responder)](Result<std::string> json) {
    if (!json) return responder->reply(fail(json.error()));
    pb::ProofOperationResponse response;
    response.set_json(*json);
    responder->reply(response.SerializeAsString());
  });
}

void Proof::operate(const pb::ProofOperation& operation, std::function<void(Result<std::string>)> done) {
  store::Store* store = node_.open_store();
  if (store == nullptr) return done(fail(Errc::NotOpen));
  switch (operation.kind()) {
    case pb::ProofOperation::SCRUB: {
      pb::ProofMark mark;
      mark.set_scrub(true);
      return store->propose_proof(mark, [done = std::move(done)](const Result<Index>& index) {
        if (!index) return done(fail(index.error()));
        done("{\"scrub\":{\"index\":" + std::to_string(index->value) + "}}");
      });
    }
    case pb::ProofOperation::TRUST:
      return trust(operation.node_id(), operation.credentials(), std::move(done));
    default:
      if (!store->replica().is_leader()) return done(fail(Errc::NotLeader));
      return done(json());
  }
}

void Proof::take_trust() {
  const bool leads = store_->replica().is_leader();
  std::optional<Trust> trust;
  {
    const std::lock_guard lock(mutex_);
    if (!trust_ || (!leads && node_.clock().now() < trust_->deadline)) return;
    trust = std::exchange(trust_, std::nullopt);
    if (leads) {
      trusted_until_ = node_.clock().now() + kTrustFor;
      agreed_.clear();
      agreed_scrub_ = {};
      chains_.contradiction.reset();
      databases_.contradiction.reset();
      note_alarm();
    }
  }
  if (!leads) return trust->done(fail(Errc::NotLeader));
  log::warn("proof", "the operator trusts this node: its state counts as agreed");
  std::string json = "{\"trusted\":";
  append_json_string(json, node_.identity().node_id);
  trust->done(json + "}");
}

void Proof::trust(const std::string& node_id, const pb::Credentials& credentials, std::function<void(Result<std::string>)> done) {
  if (node_id == node_.identity().node_id) {
    const std::lock_guard lock(mutex_);
    if (stop_ || trust_) return done(fail(Errc::Busy, "the node is stopping, or about to be trusted already"));
    trust_ = {node_.clock().now() + kCallTimeout / 2, std::move(done)};
    wake_ = true;
    return changed_.notify_all();
  }
  for (const replica::Member& member : node_.members()) {
    if (member.node_id != node_id) continue;
    if (!store_->replica().is_leader()) return done(fail(Errc::NotLeader));
    store_->replica().transfer(member.raft_id, node_.clock().now() + kCallTimeout, [this, member, credentials, done = std::move(done)](const Result<>& moved) {
      if (!moved) return done(fail(Errc::BadRequest, "leadership was not handed over: " + moved.error().text()));
      pb::ProofOperation operation;
      operation.set_kind(pb::ProofOperation::TRUST);
      operation.set_node_id(member.node_id);
      *operation.mutable_credentials() = credentials;
      operate_at(member.raft_addr, operation, done);
    });
    return;
  }
  done(fail(Errc::BadRequest, "no such node: " + node_id));
}

void Proof::operate_at(const std::string& addr, const pb::ProofOperation& operation, std::function<void(Result<std::string>)> done) {
  node_.transport().call(addr, CallType::ProofOperation, operation.SerializeAsString(), node_.clock().now() + kCallTimeout,
                         [done = std::move(done)](const Result<std::string>& answer) {
                           if (!answer) return done(fail(answer.error()));
                           pb::ProofOperationResponse response;
                           if (!response.ParseFromString(*answer)) return done(fail(Errc::Internal, "unreadable answer"));
                           done(response.json());
                         });
}

void Proof::answer(const http::ProofQuery& query, const http::Routing& routing, http::ReplyFn reply) {
  pb::ProofOperation operation;
  operation.set_kind(query.trust ? pb::ProofOperation::TRUST : query.scrub ? pb::ProofOperation::SCRUB : pb::ProofOperation::SHOW);
  operation.set_node_id(query.trust.value_or(""));
  operation.mutable_credentials()->set_username(routing.credentials.username);
  operation.mutable_credentials()->set_password(routing.credentials.password);
  const auto done = [reply = std::move(reply), pretty = query.pretty](const Result<std::string>& body) {
    if (body) return reply({.status = 200, .body = pretty ? pretty_json(*body) : *body});
    const int status = body.error().code == Errc::BadRequest ? 400 : body.error().code == Errc::Unauthorized ? 401 : 503;
    reply({.status = status, .body = body.error().text(), .type = http::TextReply::Type::Text});
  };
  const std::optional<Node::Leader> leader = node_.leader_member();
  if (node_.open_store() == nullptr) return done(fail(Errc::NotOpen));
  if (!leader) return done(fail(Errc::LeaderNotFound));
  if (leader->self) return operate(operation, done);
  operate_at(leader->member.raft_addr, operation, done);
}

std::string Proof::json() const {
  const raft::ConfState conf = node_.conf();
  const SteadyTime now = node_.clock().now();
  const std::vector<replica::Member> members = node_.members();
  const std::lock_guard lock(mutex_);
  std::string out = "{\"nodes\":[";
  for (const replica::Member& member : members) {
    const auto found = last_.find(member.raft_id);
    const bool known = found != last_.end() && now - found->second.heard < kSilentAfter;
    const Last last = found == last_.end() ? Last{} : found->second;
    const bool compared = last.now.report.value != 0 && (agreed_.empty() || agreed_.rbegin()->second.engine == last.now.report.engine);
    const char* state = !known ? "unreachable" : last.quarantined ? "quarantined" : last.odd() ? "divergent" : !compared ? "unknown" : "ok";
    if (out.back() != '[') out += ',';
    out += "{\"id\":";
    append_json_string(out, member.node_id);
    out += ",\"index\":" + std::to_string(last.now.index.value) + ",\"chain\":\"" + hex(last.now.report.value) + "\",\"state\":\"" + state +
           "\",\"voter\":" + (conf.is_voter(member.raft_id) ? "true" : "false") + ",\"engine\":\"" + hex(last.now.report.engine) + "\"";
    if (last.scrub.index.value != 0) {
      out += ",\"scrub\":{\"index\":" + std::to_string(last.scrub.index.value) + ",\"hash\":\"" + hex(last.scrub.report.value) +
             "\",\"bytes\":" + std::to_string(last.scrub_done) + ",\"total\":" + std::to_string(last.scrub_total) + "}";
    }
    if (last.gap_after.value != 0) {     // until: null while it lasts
      out += ",\"gap\":{\"after\":" + std::to_string(last.gap_after.value) +
             ",\"until\":" + (last.gap_until.value == 0 ? "null" : std::to_string(last.gap_until.value)) + "}";
    }
    if (!last.copy_of.empty()) {
      const auto source = std::ranges::find(members, last.copy_of.front(), &replica::Member::raft_id);
      out += ",\"copy_of\":";
      append_json_string(out, source == members.end() ? hex(last.copy_of.front().value) : source->node_id);
    }
    out += "}";
  }
  out += "],\"agreed_index\":" + std::to_string(agreed_.empty() ? 0 : agreed_.rbegin()->first) +
         ",\"agreed_scrub_index\":" + std::to_string(agreed_scrub_.index.value);
  if (alarm()) {
    out += ",\"alarm\":";
    append_json_string(out, *alarm());
  }
  return out + "}";
}

}  // namespace rq::cluster
