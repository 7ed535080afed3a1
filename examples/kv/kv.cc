// A replicated key-value server: the consensus engine, the log and the transport of rqlited under another state machine.
//
//   kv DIR NUMBER          starts node NUMBER (1 to 3) of a cluster on 127.0.0.1; run.sh starts all three
//
// Peers meet on ports 7101-7103, clients on 7001-7003, one line a command:
//   SET key value   -> OK              through the log
//   GET key         -> value, or NONE  linearizable: the leader confirms its leadership first
//   any, elsewhere  -> NOT LEADER, the leader is node N
//
// The map lives in memory and is made again from the log at each start.
#include <arpa/inet.h>
#include <csignal>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include "base/clock.h"
#include "base/metrics.h"
#include "io/posix_disk.h"
#include "raft/state_machine.h"
#include "replica/replica.h"
#include "transport/transport.h"

namespace {

using namespace rq;
constexpr int kNodes = 3;
constexpr std::uint64_t kClusterId = 0x6b76;   // all nodes of the example know it beforehand

std::string peer_addr(std::uint64_t number) { return "127.0.0.1:" + std::to_string(7100 + number); }

class Promise final : public raft::Waiter {    // a client that waits for its SET
 public:
  std::promise<std::string> answer;
  void failed(const Error& error) override { answer.set_value("ERROR " + error.text()); }
};

class Map final : public raft::StateMachine {
 public:
  Index applied_index() const override { return applied_; }
  Result<> apply(const raft::Group& group) override {
    for (std::size_t i = 0; i < group.proposals.size(); ++i) {
      const std::string_view proposal = group.proposals[i];
      const std::size_t split = proposal.find(' ');
      {
        const std::lock_guard lock(mutex_);
        values_[std::string(proposal.substr(0, split))] = proposal.substr(split + 1);
      }
      if (!group.waiters.empty() && group.waiters[i]) static_cast<Promise&>(*group.waiters[i]).answer.set_value("OK");
    }
    return skip(group.index, group.term);
  }
  Result<> skip(Index index, Term term) override {
    applied_ = index;
    term_ = term;
    return {};
  }
  Result<raft::MachineSnapshot> snapshot() override {
    const std::lock_guard lock(mutex_);
    std::string image;
    for (const auto& [key, value] : values_) image += key + " " + value + "\n";
    const std::uint64_t id = ++last_image_, bytes = image.size();
    images_[id] = std::move(image);
    return raft::MachineSnapshot{.index = applied_, .term = term_, .id = id, .bytes = bytes};
  }
  Result<std::string> persist(std::uint64_t id, std::uint64_t offset, std::size_t size) override {
    const std::lock_guard lock(mutex_);
    const auto image = images_.find(id);
    if (image == images_.end()) return fail(Errc::NotFound);
    return offset < image->second.size() ? image->second.substr(offset, size) : std::string();
  }
  void release(std::uint64_t id) override {
    const std::lock_guard lock(mutex_);
    images_.erase(id);
  }
  Result<> restore(const raft::MachineSnapshot& snapshot, const std::string& image) override {
    const std::lock_guard lock(mutex_);
    values_.clear();
    std::ifstream lines(image);
    for (std::string key, value; lines >> key && std::getline(lines.ignore(1), value);) values_[key] = value;
    applied_ = snapshot.index;
    term_ = snapshot.term;
    return {};
  }
  std::string get(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto found = values_.find(key);
    return found == values_.end() ? "NONE" : found->second;
  }

 private:
  mutable std::mutex mutex_;   // guards values and images
  std::map<std::string, std::string> values_;
  std::map<std::uint64_t, std::string> images_;   // snapshots that somebody reads
  std::uint64_t last_image_ = SystemRng().next() >> 1;   // ids of no other start
  Index applied_{1};
  Term term_{1};
};

class Network final : public replica::Replica::Events {
 public:
  explicit Network(transport::Transport& transport) : transport_(transport) {}
  void send(std::vector<raft::Message>&& messages) override { transport_.send(std::move(messages)); }
  void membership_changed(const replica::MembershipRecord&, const raft::ConfState&) override {}
  void role_changed(const raft::Status& status) override {
    std::fprintf(stderr, "term %llu, leader is node %llu\n", static_cast<unsigned long long>(status.term.value),
                 static_cast<unsigned long long>(status.leader.value));
  }

 private:
  transport::Transport& transport_;
};

std::string command(replica::Replica& replica, const Map& map, const std::string& line) {
  std::istringstream words(line);
  std::string verb, key;
  words >> verb >> key;
  if (!replica.is_leader()) return "NOT LEADER, the leader is node " + std::to_string(replica.leader().value);
  if (verb == "SET" && !key.empty()) {
    auto waiter = std::make_shared<Promise>();
    auto answer = waiter->answer.get_future();
    replica.propose({.bytes = line.substr(line.find(key)), .waiter = waiter});
    return answer.get();
  }
  if (verb == "GET" && !key.empty()) {
    auto confirmed = std::make_shared<std::promise<bool>>();
    auto answer = confirmed->get_future();
    replica.read_index([confirmed](const Result<Index>& index) { confirmed->set_value(index.has_value()); },
                       std::chrono::steady_clock::now() + std::chrono::seconds(5));
    return answer.get() ? map.get(key) : "ERROR no majority";
  }
  return "ERROR say SET key value, or GET key";
}

void serve_client(int fd, replica::Replica& replica, const Map& map) {
  std::string input;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::recv(fd, buffer, sizeof buffer, 0)) > 0 && input.size() < 1'000'000;) {
    input.append(buffer, static_cast<std::size_t>(got));
    for (std::size_t end = 0; (end = input.find('\n')) != std::string::npos; input.erase(0, end + 1)) {
      const std::string answer = command(replica, map, input.substr(0, end)) + "\n";
      if (::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
    }
  }
  ::close(fd);
}

[[noreturn]] void give_up(const std::string& text) {
  std::fprintf(stderr, "kv: %s\n", text.c_str());
  std::exit(1);
}

template <class T>
T must(Result<T> result) {
  if (!result) give_up(result.error().text());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

}  // namespace

int main(int argc, char** argv) {
  const int number = argc == 3 ? std::atoi(argv[2]) : 0;
  if (number < 1 || number > kNodes) give_up("usage: kv DIR NUMBER (1 to 3)");
  std::signal(SIGPIPE, SIG_IGN);
  const RaftId self{static_cast<std::uint64_t>(number)};
  SystemClock clock;
  SystemRng rng;
  Metrics metrics;
  io::PosixDisk disk;
  Map map;
  auto transport = must(transport::Transport::listen({.bind_addr = peer_addr(self.value), .advertised_addr = peer_addr(self.value), .self = self}, metrics));
  Network network(*transport);
  const replica::Options options{.log_dir = std::string(argv[1]) + "/raft", .self = self};
  must(disk.make_dirs(options.log_dir));
  auto replica = must(replica::Replica::open(options, disk, clock, rng, map, network));
  if (number == 1 && !replica->has_state()) {          // one founds the cluster, the others receive it
    replica::MembershipRecord record{.cluster_id = kClusterId};
    raft::ConfState conf;
    for (std::uint64_t id = 1; id <= kNodes; ++id) {
      record.members.put({.raft_id = RaftId{id}, .node_id = std::to_string(id), .raft_addr = peer_addr(id)});
      conf.voters.push_back(RaftId{id});
    }
    must(replica->bootstrap(record, conf));
  }
  std::vector<std::pair<RaftId, std::string>> peers;
  for (std::uint64_t id = 1; id <= kNodes; ++id)
    if (id != self.value) peers.emplace_back(RaftId{id}, peer_addr(id));
  transport->set_cluster_id(kClusterId);
  transport->set_peers(peers);
  transport->start({.on_messages = [&](std::vector<raft::Message>&& messages) { replica->step(std::move(messages)); },
                    .on_peer_dead = [&](RaftId peer) { replica->peer_dead(peer); },
                    .on_unreachable = [&](RaftId peer) { replica->unreachable(peer); },
                    .on_call = [](transport::CallType, const std::string&, const std::shared_ptr<transport::Responder>& responder) {
                      responder->reply(fail(Errc::Unsupported, "no calls here"));
                    }});
  must(replica->start());

  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in addr{};
  addr.sin_family = AF_INET;
  addr.sin_port = htons(static_cast<std::uint16_t>(7000 + number));
  addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&addr), sizeof addr) != 0 || ::listen(listener, 64) != 0)
    give_up(std::string("client port: ") + std::strerror(errno));
  std::fprintf(stderr, "node %d: clients on 127.0.0.1:%d\n", number, 7000 + number);
  for (int fd = 0; (fd = ::accept(listener, nullptr, nullptr)) >= 0;)
    std::thread([fd, &replica, &map] { serve_client(fd, *replica, map); }).detach();
  return 0;
}
