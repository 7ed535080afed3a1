// Proof: the nodes compare their databases, all the time, and heal the one that is wrong.
//
// The leader asks each member once a second for its effect chain at indexes that the leader itself has just applied, and
// (after a scrub entry) for the hash of its whole database as of that entry. What a majority of all voters has is agreed
// (proof_rules.h) and told to everybody with the next question; who finds that its own value differs from the agreed one
// draws the consequence itself:
//   - a follower goes into quarantine (store/integrity.h) and comes back with another member's state;
//   - a leader hands leadership over to a voter that agrees; it is a follower then.
// Voters that contradict each other without a majority: alarm, writes are refused until a majority agrees again or the
// operator trusts one node (trust(): that node takes the lead and its values count as agreed).
// A scrub that finds them equal ends it: what differed has been written over, and all chains begin anew (ProofMark.begin_chain).
// Members with different engines aren't compared: json() says where a member's chain has a gap. When all have the same engine and
// one doesn't know its chain, they begin anew, too. Scrubs are proposed by the leader every `scrub_interval`.
//
// Threads: own thread `proof`; serve() and operate() on the transport's; the rest from any. stop() may be called twice.
// Nothing here is needed for safety: a node that misses a round is asked again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "cluster/cluster.pb.h"
#include "cluster/proof_rules.h"
#include "http/backend.h"
#include "store/store.h"
#include "transport/transport.h"

namespace rq::cluster {

class Node;

struct ProofOptions {
  std::chrono::nanoseconds interval = std::chrono::seconds(1);
  std::chrono::nanoseconds scrub_interval = std::chrono::hours(24);   // 0: only on request
};

class Proof {
 public:
  explicit Proof(Node& node) : node_(node) {}
  ~Proof() { stop(); }
  void start(store::Store& store, ProofOptions options);
  void stop();

  // Calls of peers.
  void serve(const std::string& payload, const std::shared_ptr<transport::Responder>& responder);
  void serve_operation(const std::string& payload, std::shared_ptr<transport::Responder> responder);
  void operate(const pb::ProofOperation& operation, std::function<void(Result<std::string>)> done);

  // GET and POST /db/proof.
  void answer(const http::ProofQuery& query, const http::Routing& routing, http::ReplyFn reply);

 private:
  struct Value {
    Index index;
    ProofReport report;
  };
  struct Question {
    Index index;
    SteadyTime asked;
    ProofReports reports;
    bool settled = false;        // agreed, all have reported
    bool contradiction = false;
  };
  struct Last {                  // what a member said last
    Value now;
    bool quarantined = false;
    bool odd_chain = false, odd_database = false;
    bool odd() const { return odd_chain || odd_database; }
    Value scrub;
    Index gap_after, gap_until;  // of its chain (executor.h)
    bool suspects = false;       // a read of its clients failed
    std::vector<RaftId> copy_of; // its database is an image of the first one's, and that one's of the next ..., not compared since
    std::uint64_t scrub_done = 0, scrub_total = 0;
    SteadyTime heard;
  };
  struct Subject {               // what is compared
    const char* what;
    bool Last::*odd;
    std::optional<std::string> contradiction;
  };

  void run();
  void tick();
  Last own_report() const;
  void check_self();
  void lead();
  void ask_members(const std::vector<Index>& indexes);
  void heard(RaftId member, const pb::ProofResponse& response);
  void take_answer(RaftId member, const pb::ProofResponse& response);
  void remember(RaftId member, Last report);
  void note_own_answers();
  ProofCopies copies() const;
  void judge_questions();
  void judge_scrub();
  void settle(Subject& subject, Index index, const ProofVerdict& verdict, bool old);
  const std::optional<std::string>& alarm() const { return chains_.contradiction ? chains_.contradiction : databases_.contradiction; }
  void note_alarm();
  bool trusted() const;
  void hand_over(std::string why);
  std::optional<std::string> why_begin_anew();
  void begin_anew_when_due();
  void scrub_when_due();
  void trust_self();
  void operate_at(const std::string& addr, const pb::ProofOperation& operation, std::function<void(Result<std::string>)> done);
  void take_trust();
  void trust(const std::string& node_id, const pb::Credentials& credentials, std::function<void(Result<std::string>)> done);
  std::string json() const;

  Node& node_;
  ProofOptions options_;
  store::Store* store_ = nullptr;

  mutable std::mutex mutex_;             // guards all below
  std::condition_variable changed_;
  bool stop_ = false, wake_ = false;
  std::map<std::uint64_t, ProofReport> agreed_;     // by index: the newest ones that were heard of or found
  Value agreed_scrub_;
  std::map<RaftId, Last> last_;                     // leader
  std::deque<Question> questions_;                  // leader
  Question scrub_question_;                         // leader
  ProofCopies scrubbed_copies_;                     // leader: those of the last scrub that was proposed for copies
  Subject chains_{.what = "effect chains", .odd = &Last::odd_chain}, databases_{.what = "hashes of the databases", .odd = &Last::odd_database};   // leader
  // Trust that waits until this node leads: the one that handed over has said so before the election is over.
  struct Trust {
    SteadyTime deadline;
    std::function<void(Result<std::string>)> done;
  };
  std::optional<Trust> trust_;
  SteadyTime trusted_until_;                        // leader: own values count as agreed, by the operator's word
  SteadyTime hand_over_again_, begin_again_, scrub_again_, suspicion_again_, copy_scrub_again_;
  bool was_leader_ = false;
  std::thread thread_;
};

}  // namespace rq::cluster
