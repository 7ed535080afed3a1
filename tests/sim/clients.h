// Clients of the simulated cluster: registers, lists, a bank, and SQL of all kinds beside them. Each client does one thing
// after the other and keeps what it saw; at the end the histories are judged.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "executor/test_workload.h"
#include "sim/data_checks.h"
#include "sim/linearizability.h"
#include "sim/node.h"

namespace rq::sim {

class Clients {
 public:
  explicit Clients(Shared& shared);

  void set_up(std::function<void()> done);    // makes the tables, however often it must be tried
  void start();
  void stop() { stopped_ = true; }
  // One write and one linearizable read that must succeed; `done` when they have.
  void probe(std::function<void()> done);
  // Judges all histories against the state of a node that has applied everything.
  void check(Node& node);
  std::size_t acknowledged() const { return acknowledged_; }
  std::size_t operations() const { return operations_; }
  bool gave_up() const { return gave_up_; }

 private:
  using Done = std::function<void(const Result<command::Outcome>&)>;

  Node* contact();
  void next(unsigned client);
  void act(unsigned client);
  // `done` exactly once; nothing came within the client's patience: Errc::Timeout.
  void ask(pb::Request request, Call::Way way, Done done);
  Fate fate_of(const Result<command::Outcome>& result, const std::string& what);
  void write_register(unsigned client);
  void swap_register(unsigned client);
  void read_register(unsigned client);
  void append(unsigned client);
  void read_list(unsigned client);
  void transfer(unsigned client);
  void read_bank(unsigned client);
  void noise(unsigned client);
  void write_cold(unsigned client);
  void poison();
  std::int64_t now() const { return shared_.world.now().count(); }
  World& world() { return shared_.world; }

  Shared& shared_;
  executor::test::Workload workload_;
  bool stopped_ = false, gave_up_ = false;
  std::size_t acknowledged_ = 0, operations_ = 0;
  std::uint64_t values_ = 0;
  std::map<unsigned, std::vector<RegisterOp>> registers_;
  std::map<unsigned, std::vector<Append>> appends_;
  std::map<unsigned, std::vector<ListRead>> list_reads_;
};

}  // namespace rq::sim
