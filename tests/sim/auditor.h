// Auditor: what cluster/proof does in the server, as events: whoever leads asks the members for their effect chains and for what
// a scrub found, judges the answers by the rules of cluster/proof_rules.h and tells all what is agreed; who differs hands over
// or gives its state up. Where no majority is to be had its operator trusts the leader.
#pragma once

#include <deque>
#include <map>

#include "cluster/proof_rules.h"
#include "sim/node.h"

namespace rq::sim {

class Auditor {
 public:
  explicit Auditor(Shared& shared) : shared_(shared), world_(shared.world) {}

  void begin();
  // From here on at_peace() is true only when a scrub later than this call has found all members equal.
  void demand();
  bool at_peace() const { return !demanded_ || proven_; }

 private:
  struct Value {
    Index index;
    cluster::ProofReport report;
  };
  struct Question {
    Index index;
    Instant asked{0};
    cluster::ProofReports reports;
    bool contradiction = false;
  };

  void tick();
  void judge_chains(Node& leader);
  void begin_anew_when_due(Node& leader);
  void scrub_when_due(Node& leader);
  void ask(Node& leader, Node& member);
  void answered(RaftId member, const std::vector<RaftId>& copy_of, Index scrubbed, std::uint64_t digest, const std::map<Index, std::uint64_t>& chains, std::uint64_t engine);
  bool judge(Node& leader, Question& question, std::vector<Value>& agreed, bool later_agreed = false);
  void told(Node& member, const std::vector<Value>& chains, const std::vector<Value>& scrubs);
  void differs(Node& node, const std::string& why);
  void conclude(Node& leader);
  std::vector<Node*> members() const;

  Shared& shared_;
  World& world_;
  bool demanded_ = false, proven_ = false;
  RaftId leader_;                          // whose the following is
  cluster::ProofCopies copies_;
  bool trusted_ = false;                   // an operator chose: who is sound may have to give its state up
  std::deque<Question> questions_;
  Question scrub_;                         // of the leader's newest one
  std::vector<Value> agreed_, agreed_scrubs_;
  Instant scrub_again_{0}, begin_again_{0};
};

}  // namespace rq::sim
