#include "sim/auditor.h"

#include <algorithm>
#include <ranges>

namespace rq::sim {
namespace {

constexpr Instant kInterval = milliseconds(200), kScrubInterval = milliseconds(1200), kOld = milliseconds(1500), kBeginPause = milliseconds(1000);
constexpr std::size_t kQuestionsMax = 8, kAgreedMax = 16;

}  // namespace

void Auditor::begin() { world_.after(kInterval, [this] { tick(); }); }

void Auditor::demand() {
  demanded_ = true;
  proven_ = false;
  scrub_ = {};
  scrub_again_ = Instant{0};
}

std::vector<Node*> Auditor::members() const {
  std::vector<Node*> out;
  for (const auto& node : shared_.nodes)
    if (node->member_wanted) out.push_back(node.get());
  return out;
}

void Auditor::tick() {
  world_.after(kInterval, [this] { tick(); });
  Node* leader = shared_.leader();
  if (leader == nullptr) return;
  if (leader_ != leader->raft_id()) {
    leader_ = leader->raft_id();
    questions_.clear();
    copies_.clear();
    scrub_ = {};
    agreed_.clear();
    agreed_scrubs_.clear();
  }
  if (leader->quarantined()) return differs(*leader, "it leads in quarantine");
  if (const Index newest = leader->chain_newest(); newest && (questions_.empty() || questions_.back().index < newest)) {
    questions_.push_back({.index = newest, .asked = world_.now()});
    if (questions_.size() > kQuestionsMax) questions_.pop_front();
  }
  if (const auto [index, digest] = leader->scrubbed(); index > scrub_.index) scrub_ = {.index = index, .asked = world_.now()};
  answered(leader->raft_id(), leader->copy_of(), leader->scrubbed().first, leader->scrubbed().second, leader->chains(), leader->engine_fingerprint());
  judge_chains(*leader);
  judge(*leader, scrub_, agreed_scrubs_);
  conclude(*leader);
  begin_anew_when_due(*leader);
  scrub_when_due(*leader);
  told(*leader, agreed_, agreed_scrubs_);
  for (const auto& node : shared_.nodes)
    if (node.get() != leader) ask(*leader, *node);
}

void Auditor::judge_chains(Node& leader) {
  bool later_agreed = false;
  for (Question& question : questions_ | std::views::reverse) later_agreed |= judge(leader, question, agreed_, later_agreed);
}

// What differed has been written over.
void Auditor::begin_anew_when_due(Node& leader) {
  const auto equal_again = [this](const Question& question) {
    return question.contradiction && question.index <= scrub_.index && cluster::written_over(question.reports, scrub_.reports);
  };
  if (world_.now() < begin_again_ || leader.stalled() || std::ranges::none_of(questions_, equal_again)) return;
  begin_again_ = world_.now() + kBeginPause;
  world_.note("the databases are equal at " + std::to_string(scrub_.index.value) + ", and the chains differ: they begin anew");
  pb::Proposal proposal;
  proposal.mutable_proof()->set_begin_chain(true);
  proposal.mutable_proof()->set_scrub(true);
  leader.propose(proposal);
}

void Auditor::scrub_when_due(Node& leader) {
  if (world_.now() < scrub_again_ || leader.stalled()) return;
  scrub_again_ = world_.now() + kScrubInterval;
  pb::Proposal proposal;
  proposal.mutable_proof()->set_scrub(true);
  leader.propose(proposal);
}

void Auditor::ask(Node& leader, Node& member) {
  shared_.network.send(leader.slot(), member.slot(), [this, &leader, &member, asked = leader_, agreed = agreed_, scrubs = agreed_scrubs_] {
    if (!member.up() || member.driver().engine().leader() != asked) return;    // what somebody else takes for agreed is no news
    told(member, agreed, scrubs);
    if (member.quarantined()) return;
    const auto [scrubbed, digest] = member.scrubbed();
    shared_.network.send(member.slot(), leader.slot(), [=, this, id = member.raft_id(), copy = member.copy_of(), chains = member.chains(),
                                                        engine = member.engine_fingerprint(), scrubbed = scrubbed, digest = digest] {
      if (leader_ == asked) answered(id, copy, scrubbed, digest, chains, engine);
    });
  });
}

void Auditor::answered(RaftId member, const std::vector<RaftId>& copy_of, Index scrubbed, std::uint64_t digest,
                       const std::map<Index, std::uint64_t>& chains, std::uint64_t engine) {
  if (!copy_of.empty()) copies_[member] = copy_of;
  else copies_.erase(member);
  for (Question& question : questions_)
    if (const auto found = chains.find(question.index); found != chains.end()) question.reports[member] = {engine, found->second};
  if (scrub_.index && scrub_.index == scrubbed) scrub_.reports[member] = {engine, digest};
}

// True: it is agreed.
bool Auditor::judge(Node& leader, Question& question, std::vector<Value>& agreed, bool later_agreed) {
  if (!question.index) return false;
  const cluster::ProofVerdict verdict = cluster::judge(leader.driver().conf(), question.reports, copies_);
  std::optional<cluster::ProofReport> value = verdict.agreed;
  question.contradiction = verdict.contradiction && !later_agreed;
  if (question.contradiction && (verdict.complete || world_.now() - question.asked > kOld)) {
    const Node* trusted = nullptr;                 // the leader first: a rotten one whose pages are well-formed can't be told
    for (const auto& node : shared_.nodes) {
      const bool sound = question.reports.contains(node->raft_id()) && node->up() && node->column("PRAGMA quick_check") == std::vector<std::string>{"ok"};
      if (sound && (trusted == nullptr || node.get() == &leader)) trusted = node.get();
    }
    if (trusted == nullptr) return false;
    trusted_ = true;
    world_.note("no majority at " + std::to_string(question.index.value) + ": the operator trusts " + trusted->name());
    for (Node* node : members()) node->set_rotten(shared_.checks.last_committed());   // whatever that one has they will have
    value = question.reports.at(trusted->raft_id());
  }
  if (!value) return false;
  std::erase_if(agreed, [&](const Value& one) { return one.index == question.index; });
  agreed.push_back({question.index, *value});
  if (agreed.size() > kAgreedMax) agreed.erase(agreed.begin());
  return true;
}

void Auditor::told(Node& member, const std::vector<Value>& chains, const std::vector<Value>& scrubs) {
  if (member.quarantined()) return;
  const std::uint64_t engine = member.engine_fingerprint();
  bool chain_agrees = false;
  for (const Value& agreed : chains) {
    const auto own = member.chains().find(agreed.index);
    if (own == member.chains().end() || own->second == 0 || agreed.report.engine != engine) continue;
    chain_agrees |= own->second == agreed.report.value;
    if (own->second == agreed.report.value) continue;
    return differs(member, "its effect chain differs at " + std::to_string(agreed.index.value));
  }
  const auto [scrubbed, digest] = member.scrubbed();
  for (const Value& agreed : scrubs) {
    if (agreed.index != scrubbed || agreed.report.engine != engine) continue;
    if (agreed.report.value == digest) {
      if (chain_agrees) member.proven();
      continue;
    }
    return differs(member, "a scrub found it to differ at " + std::to_string(scrubbed.value));
  }
}

void Auditor::differs(Node& node, const std::string& why) {
  if (!node.rotten_database() && !trusted_ && shared_.mutant == Mutant::None) world_.violated(node.name() + " is taken for odd and is sound: " + why);
  if (!node.leads()) return node.quarantine(why);
  for (const auto& other : shared_.nodes) {
    if (other.get() == &node || !other->up() || other->quarantined() || !node.driver().conf().is_voter(other->raft_id())) continue;
    const auto odd = [&](const Value& agreed) {
      const auto found = other->chains().find(agreed.index);
      return found != other->chains().end() && found->second != agreed.report.value;
    };
    if (std::ranges::any_of(agreed_, odd)) continue;
    world_.note(node.name() + " hands over to " + other->name() + ": " + why);
    return node.input([&node, target = other->raft_id()] { node.driver().transfer(target, node.clock().now() + milliseconds(1000), [](const Result<>&) {}); });
  }
}

// A scrub that found all equal: what rotted somewhere is healed, written over, or everybody's by now.
void Auditor::conclude(Node& leader) {
  if (!scrub_.index) return;
  const auto own = scrub_.reports.find(leader_);
  const auto chain = leader.chains().find(scrub_.index);
  if (own == scrub_.reports.end() || chain == leader.chains().end()) return;
  const bool all = std::ranges::all_of(members(), [&](const Node* node) {
    const auto report = scrub_.reports.find(node->raft_id());
    const auto theirs = node->chains().find(scrub_.index);
    return node->up() && !node->quarantined() && report != scrub_.reports.end() && report->second == own->second && theirs != node->chains().end() &&
           theirs->second == chain->second &&
           (!node->rotten_database() || node->rotten_since() < scrub_.index);
  });
  if (!all) return;
  proven_ = true;
  for (Node* node : members()) node->set_sound(scrub_.index);
}

}  // namespace rq::sim
