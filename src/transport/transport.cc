// Invariants
//   1. Everything but Link::send() runs on the peer thread.
//   2. A call's `done` is called once: it is in calls_ until then, and whoever takes it out calls it.
//   3. on_peer_dead(id) follows the delivery of all messages that had come from id.
#include "transport/transport.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#pragma GCC diagnostic pop

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>

#include "base/localhost.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "transport/codec.h"
#include "transport/frames.h"
#include "transport/link.h"

namespace rq::transport {
namespace {

namespace net = boost::asio;
using Tcp = net::ip::tcp;
using boost::system::error_code;
using Acceptor = net::basic_socket_acceptor<Tcp, net::io_context::executor_type>;
using Resolver = net::ip::basic_resolver<Tcp, net::io_context::executor_type>;
using Timer = net::steady_timer;
using Milliseconds = std::chrono::milliseconds;

constexpr auto kRetryFirst = Milliseconds(20);
constexpr auto kRetryMax = Milliseconds(500);
constexpr int kCallLinksMax = 8;
constexpr std::size_t kCallLinkBusy = 256 * 1024;
constexpr std::size_t kCallsServedMax = 4096;
constexpr auto kIdleClose = std::chrono::seconds(90);         // answering side
constexpr auto kIdleCloseAsking = std::chrono::seconds(45);

bool split(const std::string& addr, std::string& host, std::string& port) {
  const std::size_t colon = addr.rfind(':');
  if (colon == std::string::npos) return false;
  host = addr.substr(0, colon);
  port = addr.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return true;
}

class TransportImpl final : public Transport, public LinkOwner, public std::enable_shared_from_this<TransportImpl> {
 public:
  TransportImpl(const Options& options, Metrics& metrics) : options_(options), metrics_(metrics), context_(1), resolver_(context_.get_executor()) {}
  ~TransportImpl() override { stop(); }

  Result<> bind();
  void start(Handlers handlers) override;
  void stop() override;
  void set_cluster_id(std::uint64_t id) override { cluster_id_.store(id); }
  void set_peers(std::vector<std::pair<RaftId, std::string>> peers) override;
  void send(std::vector<raft::Message>&& messages) override;
  void call(const std::string& addr, CallType type, std::string payload, SteadyTime deadline,
            std::function<void(Result<std::string>)> done) override;
  void cancel_calls(const std::string& addr) override;
  std::vector<PoolStats> pool_stats() const override;

 private:
  struct Peer {                                    // whom we send raft messages to
    RaftId id;
    std::string addr;
    std::string table_addr;                        // as the member table says; empty: not in it
    std::shared_ptr<Link> link;                    // established
    bool dialing = false;
    bool told_dead = false;
    Milliseconds retry{kRetryFirst};
    std::unique_ptr<Timer> timer;
    SteadyTime unreachable_told;
    std::uint64_t generation = 0;
  };
  struct Pool {                                    // connections for calls to one address
    std::vector<std::shared_ptr<Link>> links;
    int dialing = 0;
    std::vector<std::uint32_t> waiting;            // calls for the connection being dialled
  };
  struct Call {
    std::string addr;
    CallType type;
    std::string payload;                           // kept while it may have to be sent again
    SteadyTime deadline;
    std::function<void(Result<std::string>)> done;
    std::shared_ptr<Link> link;                    // sent on
    bool retried = false;
    std::unique_ptr<Timer> timer;
  };
  class CallResponder;

  struct DialError {
    error_code code;                               // success: of TLS, see text
    std::string text;                              // for people and clients
  };
  using Dialed = std::function<void(const DialError&, std::shared_ptr<Link>)>;   // link: null after an error
  void dial(const std::string& addr, Dialed done);
  void accept(Acceptor& acceptor);
  void accepted(Socket&& socket);
  bool on_first_frame(const std::shared_ptr<Link>& link, MessageFrame&& frame);
  void serve_raft(const std::shared_ptr<Link>& link, const Hello& hello);
  void serve_calls(const std::shared_ptr<Link>& link);
  bool on_request(const std::shared_ptr<Link>& link, MessageFrame&& frame);
  void refuse(const std::shared_ptr<Link>& link, const std::string& why);
  net::io_context& context() override { return context_; }
  void complain(const std::string& remote, const std::string& why) override;
  void handshake_failed(const std::string& remote, const std::string& why) override;
  void make_room();
  void sweep();

  bool move_to(Peer& peer, const std::string& addr);
  void dial_peer(Peer& peer);
  void peer_dialed(RaftId id, std::uint64_t generation, const DialError& error, std::shared_ptr<Link> link);
  void retry_later(Peer& peer);
  void raft_link_ended(RaftId id);
  void unreachable(RaftId id);
  bool send_on(Link& link, const raft::Message& message);

  void begin_call(std::uint32_t id);
  void send_call(std::uint32_t id, const std::shared_ptr<Link>& link);
  void finish_call(std::uint32_t id, Result<std::string> result);
  void call_dialed(const std::string& addr, const DialError& error, std::shared_ptr<Link> link);
  void call_link_ended(const std::string& addr, const std::shared_ptr<Link>& link, const std::string& why);

  const Options options_;
  Metrics& metrics_;
  net::io_context context_;
  Resolver resolver_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  Handlers handlers_;
  std::thread thread_;
  std::atomic<std::uint64_t> cluster_id_{0};
  bool started_ = false, stopped_ = false;
  std::unique_ptr<Timer> sweep_timer_;
  std::set<std::shared_ptr<Link>> accepted_;
  std::map<RaftId, int> incoming_;                 // raft links from each peer
  std::vector<raft::Message> received_;            // of the read under way
  std::map<std::string, Pool> pools_;
  std::map<std::uint32_t, Call> calls_;
  std::uint32_t next_call_ = 0;
  // Shared with the responders, which may outlive everything else.
  const std::shared_ptr<std::atomic<std::size_t>> calls_served_ = std::make_shared<std::atomic<std::size_t>>(0);
  SteadyTime complained_;
  mutable std::mutex mutex_;                       // guards peers_ and stats_
  std::map<RaftId, Peer> peers_;                   // the table's, and those that said hello and aren't in it yet (empty table_addr)
  std::set<RaftId> former_;                        // were in the table, and were removed
  bool members_known_ = false;
  std::map<std::string, PoolStats> stats_;
};

// ---- listening

Result<> TransportImpl::bind() {
  const auto failed = [&](const std::string& why) { return fail(Errc::Io, "failed to listen on " + options_.bind_addr + ": " + why); };
  std::string host, port;
  if (!split(options_.bind_addr, host, port)) return failed("missing port in address");
  error_code error;
  std::vector<Tcp::endpoint> endpoints;
  if (host.empty()) {
    endpoints.emplace_back(Tcp::v6(), static_cast<unsigned short>(std::strtoul(port.c_str(), nullptr, 10)));
  } else {
    for (const auto& found : resolver_.resolve(host, port, net::ip::resolver_base::passive, error)) endpoints.push_back(found.endpoint());
    if (error && is_localhost(host)) {
      endpoints.clear();
      for (const auto& found : resolver_.resolve(kLoopback, port, net::ip::resolver_base::passive, error)) endpoints.push_back(found.endpoint());
    }
    if (error) return failed(reason(error));
  }
  for (const Tcp::endpoint& endpoint : endpoints) {
    auto acceptor = std::make_unique<Acceptor>(context_.get_executor());
    acceptor->open(endpoint.protocol(), error);
    if (error) continue;
    acceptor->set_option(Acceptor::reuse_address(true), error);
    if (endpoint.address().is_v6()) acceptor->set_option(net::ip::v6_only(!host.empty()), error);
    acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(512, error);
    if (error && endpoint.address().is_v6() && endpoints.size() > 1) continue;
    if (error) return failed(reason(error));
    acceptors_.push_back(std::move(acceptor));
  }
  if (acceptors_.empty()) return failed(error ? reason(error) : "no address");
  return {};
}

void TransportImpl::start(Handlers handlers) {
  handlers_ = std::move(handlers);
  started_ = true;
  for (auto& acceptor : acceptors_) accept(*acceptor);
  sweep_timer_ = std::make_unique<Timer>(context_);
  sweep();
  thread_ = std::thread([this] {
    name_this_thread("peer");
    const auto guard = net::make_work_guard(context_);
    context_.run();
  });
}

void TransportImpl::stop() {
  if (std::exchange(stopped_, true)) return;
  if (!started_) return;
  net::post(context_, [this] {
    error_code ignored;
    for (auto& acceptor : acceptors_) acceptor->close(ignored);
    if (sweep_timer_) sweep_timer_->cancel();
    for (const auto& link : accepted_) link->close();
    accepted_.clear();
    for (auto& [addr, pool] : pools_)
      for (const auto& link : pool.links) link->close();
    pools_.clear();
    {
      const std::lock_guard lock(mutex_);
      for (auto& [id, peer] : peers_) {
        if (peer.timer) peer.timer->cancel();
        if (peer.link) peer.link->close();
      }
      peers_.clear();
    }
    std::vector<std::uint32_t> open;
    for (const auto& [id, call] : calls_) open.push_back(id);
    for (const std::uint32_t id : open) finish_call(id, fail(Errc::Closed, "node is stopping"));
    context_.stop();
  });
  if (thread_.joinable()) thread_.join();
}

void TransportImpl::accept(Acceptor& acceptor) {
  acceptor.async_accept(context_, [this, &acceptor](const error_code& error, Socket socket) {
    if (error == net::error::operation_aborted) return;
    if (!error) accepted(std::move(socket));
    if (!error) return accept(acceptor);
    auto timer = std::make_shared<Timer>(context_, Milliseconds(50));      // out of descriptors: not in a hurry
    timer->async_wait([this, &acceptor, timer](const error_code& canceled) {
      if (!canceled && !stopped_) accept(acceptor);
    });
  });
}

void TransportImpl::accepted(Socket&& socket) {
  metrics_.counter("mux", "num_connections_handled").add();
  make_room();
  if (accepted_.size() >= options_.connections_max) {
    metrics_.counter("cluster", "num_conn_rejected").add();
    return;                                        // closed by going out of scope
  }
  auto link = std::make_shared<Link>(*this, std::move(socket));
  if (options_.tls_server) {
    auto session = options_.tls_server->session({});
    if (!session) return;
    link->secure(std::move(session), nullptr);
  }
  accepted_.insert(link);
  std::weak_ptr<Link> weak = link;
  link->on_end = [this, weak](const error_code&, const std::string&) {
    if (auto ended = weak.lock()) accepted_.erase(ended);
  };
  link->on_frame = [this, weak](MessageFrame&& frame) {
    auto here = weak.lock();
    return here && on_first_frame(here, std::move(frame));
  };
  link->start();
}

// Silent strangers go before members: of those that have not said hello the oldest is closed when there are too many.
void TransportImpl::make_room() {
  std::size_t silent = 0;
  std::shared_ptr<Link> oldest;
  for (const auto& link : accepted_) {
    if (link->on_batch_end) continue;
    ++silent;
    if (!oldest || link->born < oldest->born) oldest = link;
  }
  if (!oldest || (silent < options_.greetings_max && accepted_.size() < options_.connections_max)) return;
  metrics_.counter("cluster", "num_conn_rejected").add();
  accepted_.erase(oldest);
  oldest->close();
}

bool TransportImpl::on_first_frame(const std::shared_ptr<Link>& link, MessageFrame&& frame) {
  if (frame.type != FrameType::Hello) {
    metrics_.counter("mux", "num_unregistered_handlers").add();
    complain(link->remote(), "no hello");
    return false;
  }
  const Result<Hello> hello = decode_hello(frame.payload);
  if (!hello) {
    refuse(link, hello.error().text());
    return false;
  }
  link->reader.set_limit(kMessageMax);
  if (hello->channel == Channel::Call) {
    serve_calls(link);
    return true;
  }
  const std::uint64_t cluster = cluster_id_.load();
  // A node that belongs to no cluster yet takes messages of whoever names its raft id: it has asked to be let in.
  if ((cluster != 0 && hello->cluster_id != cluster) || hello->to != options_.self || !hello->from) {
    refuse(link, "another cluster or another member");
    return false;
  }
  serve_raft(link, *hello);
  return true;
}

void TransportImpl::refuse(const std::shared_ptr<Link>& link, const std::string& why) {
  std::string bytes;
  append_frames(bytes, FrameType::Refused, 0, why);
  link->send(std::move(bytes), kMessageMax);
  complain(link->remote(), why);
}

void TransportImpl::complain(const std::string& remote, const std::string& why) {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (now - complained_ < std::chrono::seconds(1)) return;
  complained_ = now;
  log::warn("mux", "connection from " + remote + " refused: " + why);
}

// Also of connections that we opened: the other side's refusal may come after our part of the handshake.
void TransportImpl::handshake_failed(const std::string& remote, const std::string& why) {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (now - complained_ < std::chrono::seconds(1)) return;
  complained_ = now;
  log::warn("mux", "TLS handshake error with " + remote + ": " + why);
}

void TransportImpl::serve_raft(const std::shared_ptr<Link>& link, const Hello& hello) {
  const RaftId from = hello.from;
  ++incoming_[from];
  std::weak_ptr<Link> weak = link;
  link->on_end = [this, weak, from](const error_code&, const std::string&) {
    if (auto ended = weak.lock()) accepted_.erase(ended);
    if (--incoming_[from] == 0) incoming_.erase(from);
    raft_link_ended(from);
  };
  link->next_on_frame = [this, from, remote = link->remote()](MessageFrame&& frame) {
    if (frame.type != FrameType::Raft) return false;
    Result<raft::Message> message = decode_message(frame.payload);
    if (!message || message->from != from) {
      complain(remote, message ? "message of another member" : message.error().text());
      return false;
    }
    received_.push_back(*std::move(message));
    return true;
  };
  link->on_batch_end = [this] {
    if (received_.empty()) return;
    handlers_.on_messages(std::move(received_));
    received_ = {};
  };
  // The peer is alive: if we have no connection to it, now is the time.
  const std::lock_guard lock(mutex_);
  // A node that is being let in knows no members yet, or the founders only, and must be able to answer. So must one whose table
  // is old: who says where it is has moved, or is new, and the entry that says so can't be had without answering.
  if (!hello.from_addr.empty() && !former_.contains(from)) {
    Peer& peer = peers_[from];
    peer.id = from;
    move_to(peer, hello.from_addr);
  }
  if (const auto peer = peers_.find(from); peer != peers_.end()) {
    peer->second.told_dead = false;
    peer->second.retry = kRetryFirst;
    if (!peer->second.link && !peer->second.dialing) dial_peer(peer->second);
  }
}

// Connections that never said hello, and call connections that nobody uses, end. The asking side is the first to end an idle
// one: a request must not meet a connection that is being closed.
void TransportImpl::sweep() {
  const SteadyTime now = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<Link>> silent;
  for (const auto& link : accepted_) {
    if (!link->on_batch_end ? now - link->born > options_.greeting_time : link->may_idle_out && link->serving->load() == 0 && now - link->last_used > kIdleClose)
      silent.push_back(link);
  }
  for (const auto& link : silent) {
    accepted_.erase(link);
    link->close();
  }
  std::set<const Link*> asking;
  for (const auto& [id, call] : calls_) asking.insert(call.link.get());
  for (auto& [addr, pool] : pools_) {
    std::erase_if(pool.links, [&, &addr = addr](const std::shared_ptr<Link>& link) {
      if (asking.contains(link.get()) || now - link->last_used < kIdleCloseAsking) return false;
      link->close();
      const std::lock_guard lock(mutex_);
      --stats_[addr].open;
      return true;
    });
  }
  sweep_timer_->expires_after(std::chrono::seconds(1));
  sweep_timer_->async_wait([this](const error_code& error) {
    if (!error) sweep();
  });
}

// ---- dialling

void TransportImpl::dial(const std::string& addr, Dialed done) {
  std::string host, port;
  if (!split(addr, host, port))
    return net::post(context_, [addr, done = std::move(done)] { done({net::error::invalid_argument, "dial tcp " + addr + ": missing port in address"}, nullptr); });
  if (host.empty()) host = "localhost";
  auto dialled = std::make_shared<Link>(*this, Socket(context_.get_executor()));
  auto timer = std::make_shared<Timer>(context_, options_.connect_timeout);
  auto finished = std::make_shared<bool>(false);
  // The operation under way holds the link, not this.
  const auto finish = [weak = std::weak_ptr<Link>(dialled), timer, finished, done = std::move(done)](const DialError& error) {
    const std::shared_ptr<Link> link = weak.lock();
    if (!link || std::exchange(*finished, true)) return;
    timer->cancel();
    const bool failed = error.code || !error.text.empty();
    if (failed) link->close();
    done(error, failed ? nullptr : link);
  };
  timer->async_wait([finish, addr](const error_code& canceled) {
    if (!canceled) finish({net::error::timed_out, "dial tcp " + addr + ": i/o timeout"});
  });
  const auto connected = [this, link = dialled, addr, host, finish](const error_code& error) {
    if (error) return finish({error, "dial tcp " + addr + ": connect: " + reason(error)});
    if (!options_.tls_client) return finish({});
    auto session = options_.tls_client->session(host);
    if (!session) return finish({net::error::no_memory, "dial tcp " + addr + ": out of memory"});
    link->secure(std::move(session), [finish] { finish({}); });
    link->on_end = [finish](const error_code&, const std::string& why) { finish({{}, why}); };
    link->start();
  };
  const auto connect = [link = dialled, connected](const std::vector<Tcp::endpoint>& endpoints) {
    net::async_connect(link->socket(), endpoints, [connected](const error_code& error, const Tcp::endpoint&) { connected(error); });
  };
  error_code not_numeric;
  const net::ip::address address = net::ip::make_address(host, not_numeric);
  if (!not_numeric) return connect({Tcp::endpoint(address, static_cast<unsigned short>(std::strtoul(port.c_str(), nullptr, 10)))});
  resolver_.async_resolve(host, port, [connect, connected, host, port](const error_code& error, const Resolver::results_type& found) {
    if (error && is_localhost(host))
      return connect({Tcp::endpoint(net::ip::make_address(kLoopback), static_cast<unsigned short>(std::strtoul(port.c_str(), nullptr, 10)))});
    if (error) return connected(error);
    std::vector<Tcp::endpoint> endpoints;
    for (const auto& one : found) endpoints.push_back(one.endpoint());
    connect(endpoints);
  });
}

// ---- raft messages

void TransportImpl::set_peers(std::vector<std::pair<RaftId, std::string>> peers) {
  net::post(context_, [this, peers = std::move(peers)] {
    const std::lock_guard lock(mutex_);
    if (peers.empty() && !members_known_) return;       // belongs to no cluster yet: keeps whom it was let in by
    members_known_ = true;
    std::set<RaftId> wanted;
    for (const auto& [id, addr] : peers) {
      wanted.insert(id);
      former_.erase(id);
      Peer& peer = peers_[id];
      if (std::exchange(peer.table_addr, addr) == addr) continue;
      peer.id = id;
      if (move_to(peer, addr)) dial_peer(peer);
    }
    std::erase_if(peers_, [&](auto& item) {
      const bool guest = item.second.table_addr.empty();
      if (wanted.contains(item.first) || (guest && incoming_.contains(item.first))) return false;
      if (!guest) former_.insert(item.first);
      if (item.second.link) item.second.link->close();
      return true;
    });
  });
}

// True: it is somewhere else than we thought; what we had there is gone.
bool TransportImpl::move_to(Peer& peer, const std::string& addr) {
  if (peer.addr == addr) return false;
  if (peer.link) peer.link->close();
  peer.addr = addr;
  peer.link.reset();
  peer.told_dead = false;
  peer.retry = kRetryFirst;
  ++peer.generation;
  peer.dialing = false;
  return true;
}

void TransportImpl::dial_peer(Peer& peer) {
  peer.dialing = true;
  dial(peer.addr, [this, id = peer.id, generation = peer.generation](const DialError& error, std::shared_ptr<Link> link) {
    peer_dialed(id, generation, error, std::move(link));
  });
}

void TransportImpl::peer_dialed(RaftId id, std::uint64_t generation, const DialError& error, std::shared_ptr<Link> link) {
  bool dead = false;
  {
    const std::lock_guard lock(mutex_);
    const auto found = peers_.find(id);
    if (found == peers_.end() || found->second.generation != generation) {
      if (link) link->close();
      return;
    }
    Peer& peer = found->second;
    peer.dialing = false;
    if (!link) {
      dead = error.code == net::error::connection_refused && !incoming_.contains(id) && !std::exchange(peer.told_dead, true);
      retry_later(peer);
    } else {
      peer.told_dead = false;
      std::string bytes;
      append_frames(bytes, FrameType::Hello, 0, encode(Hello{Channel::Raft, cluster_id_.load(), options_.self, id, options_.advertised_addr}));
      link->on_frame = [](MessageFrame&& frame) { return frame.type != FrameType::Refused; };
      std::weak_ptr<Link> weak = link;
      link->on_end = [this, id, weak, born = std::chrono::steady_clock::now()](const error_code&, const std::string&) {
        {
          const std::lock_guard guard(mutex_);
          const auto here = peers_.find(id);
          if (here == peers_.end() || here->second.link != weak.lock()) return;
          here->second.link.reset();
          // One that was refused or ended at once is not redialled in a hurry.
          if (std::chrono::steady_clock::now() - born > kRetryMax) here->second.retry = kRetryFirst;
          else if (!here->second.dialing) return retry_later(here->second);
        }
        raft_link_ended(id);
      };
      if (!options_.tls_client) link->start();     // else it was for the handshake
      link->send(std::move(bytes), kMessageMax);
      peer.link = std::move(link);
    }
  }
  if (dead) handlers_.on_peer_dead(id);
}

void TransportImpl::retry_later(Peer& peer) {
  if (!peer.timer) peer.timer = std::make_unique<Timer>(context_);
  peer.timer->expires_after(peer.retry);
  peer.retry = std::min(peer.retry * 2, kRetryMax);
  peer.timer->async_wait([this, id = peer.id](const error_code& error) {
    if (error) return;
    const std::lock_guard lock(mutex_);
    const auto found = peers_.find(id);
    if (found != peers_.end() && !found->second.link && !found->second.dialing) dial_peer(found->second);
  });
}

// If that was the last one, a redial tells whether the process is gone.
void TransportImpl::raft_link_ended(RaftId id) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = peers_.find(id);
    if (found == peers_.end() || incoming_.contains(id)) return;
    Peer& peer = found->second;
    if (peer.link) {
      // Our own connection may not have seen its end yet; a new dial asks the port itself.
      peer.link->close();
      peer.link.reset();
    }
    if (peer.table_addr.empty() && members_known_) {
      peers_.erase(found);                         // it says hello again when it has something to say
      return;
    }
    if (!peer.dialing) dial_peer(peer);
  }
  unreachable(id);                                 // what was on its way to it is lost
}

bool TransportImpl::send_on(Link& link, const raft::Message& message) {
  std::string bytes;
  const std::string payload = encode(message);
  bytes.reserve(payload.size() + (payload.size() / kFramePayloadMax + 1) * kFrameHeaderBytes);
  append_frames(bytes, FrameType::Raft, 1, payload);
  return link.send(std::move(bytes), options_.raft_queue_bytes_max);
}

void TransportImpl::send(std::vector<raft::Message>&& messages) {
  std::shared_ptr<Link> link;
  RaftId to;
  for (const raft::Message& message : messages) {
    if (message.to != to || !link) {
      const std::lock_guard lock(mutex_);
      const auto peer = peers_.find(message.to);
      to = message.to;
      link = peer == peers_.end() ? nullptr : peer->second.link;
    }
    if (!link || !send_on(*link, message)) unreachable(message.to);
  }
}

void TransportImpl::unreachable(RaftId id) {
  {
    const std::lock_guard lock(mutex_);
    const auto peer = peers_.find(id);
    if (peer == peers_.end()) return;
    const SteadyTime now = std::chrono::steady_clock::now();
    if (now - peer->second.unreachable_told < Milliseconds(100)) return;
    peer->second.unreachable_told = now;
  }
  net::post(context_, [this, id] {
    if (handlers_.on_unreachable) handlers_.on_unreachable(id);
  });
}

// ---- calls: the asking side

void TransportImpl::call(const std::string& addr, CallType type, std::string payload, SteadyTime deadline,
                         std::function<void(Result<std::string>)> done) {
  net::post(context_, [this, addr, type, payload = std::move(payload), deadline, done = std::move(done)]() mutable {
    if (stopped_) return done(fail(Errc::Closed, "node is stopping"));
    std::uint32_t id = ++next_call_;
    while (id == 0 || calls_.contains(id)) id = ++next_call_;
    Call& call = calls_[id];
    call = Call{.addr = addr, .type = type, .payload = std::move(payload), .deadline = deadline, .done = std::move(done)};
    call.timer = std::make_unique<Timer>(context_, deadline);
    call.timer->async_wait([this, id](const error_code& error) {
      if (!error) finish_call(id, fail(Errc::Timeout, "i/o timeout"));
    });
    begin_call(id);
  });
}

void TransportImpl::begin_call(std::uint32_t id) {
  Call& call = calls_.at(id);
  Pool& pool = pools_[call.addr];
  for (const auto& link : pool.links)
    if (link->queued() < kCallLinkBusy) return send_call(id, link);
  if (static_cast<int>(pool.links.size()) + pool.dialing >= kCallLinksMax && !pool.links.empty()) {
    const auto least = std::ranges::min_element(pool.links, {}, [](const auto& link) { return link->queued(); });
    return send_call(id, *least);
  }
  pool.waiting.push_back(id);
  if (pool.dialing > 0) return;
  ++pool.dialing;
  dial(call.addr, [this, addr = call.addr](const DialError& error, std::shared_ptr<Link> link) { call_dialed(addr, error, std::move(link)); });
}

void TransportImpl::call_dialed(const std::string& addr, const DialError& error, std::shared_ptr<Link> link) {
  Pool& pool = pools_[addr];
  --pool.dialing;
  const std::vector<std::uint32_t> waiting = std::exchange(pool.waiting, {});
  if (!link) {
    for (const std::uint32_t id : waiting) finish_call(id, fail(Errc::Unreachable, error.text));
    return;
  }
  std::weak_ptr<Link> weak = link;
  link->reader.set_limit(kMessageMax);
  link->on_frame = [this](MessageFrame&& frame) {
    if (frame.type != FrameType::Response) return false;
    finish_call(frame.stream, decode_response(frame.payload));
    return true;
  };
  link->on_end = [this, addr, weak](const error_code&, const std::string& why) {
    if (auto ended = weak.lock()) call_link_ended(addr, ended, why);
  };
  if (!options_.tls_client) link->start();         // else it was for the handshake
  std::string hello;
  append_frames(hello, FrameType::Hello, 0, encode(Hello{Channel::Call, 0, options_.self, {}, {}}));
  link->send(std::move(hello), kMessageMax);
  pool.links.push_back(link);
  {
    const std::lock_guard lock(mutex_);
    stats_[addr] = {addr, 0, static_cast<int>(pool.links.size()), 64};
  }
  for (const std::uint32_t id : waiting)
    if (calls_.contains(id)) send_call(id, link);
}

void TransportImpl::send_call(std::uint32_t id, const std::shared_ptr<Link>& link) {
  Call& call = calls_.at(id);
  const auto left = std::chrono::duration_cast<Milliseconds>(call.deadline - std::chrono::steady_clock::now()).count();
  if (left <= 0) return finish_call(id, fail(Errc::Timeout, "i/o timeout"));
  const bool keep = call.type == CallType::NodeMeta;       // may be sent again on a fresh connection
  std::string payload = keep ? call.payload : std::move(call.payload);
  std::string bytes;
  append_frames(bytes, FrameType::Request, id, encode(CallRequest{call.type, static_cast<std::uint64_t>(left), std::move(payload)}));
  call.link = link;
  if (!link->send(std::move(bytes), kMessageMax)) finish_call(id, fail(Errc::Busy, "too much waits for " + call.addr));
}

void TransportImpl::call_link_ended(const std::string& addr, const std::shared_ptr<Link>& link, const std::string& why) {
  std::erase(pools_[addr].links, link);
  {
    const std::lock_guard lock(mutex_);
    stats_[addr] = {addr, 0, static_cast<int>(pools_[addr].links.size()), 64};
  }
  std::vector<std::uint32_t> affected;
  for (const auto& [id, call] : calls_)
    if (call.link == link) affected.push_back(id);
  const std::string text = "read tcp " + link->local() + "->" + link->remote() + ": " + why;
  // A server that refuses our certificate says so after we have sent: nothing of it was looked at.
  const bool refused = !link->heard && why.starts_with("remote error: tls: ");
  for (const std::uint32_t id : affected) {
    Call& call = calls_.at(id);
    if (call.type == CallType::NodeMeta && !refused && !std::exchange(call.retried, true)) {
      metrics_.counter("cluster", "num_client_force_new_conn").add();
      call.link.reset();
      begin_call(id);
    } else {
      finish_call(id, fail(refused ? Errc::Unreachable : Errc::Closed, refused ? why : text));
    }
  }
}

void TransportImpl::finish_call(std::uint32_t id, Result<std::string> result) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;               // too late: timed out or canceled
  auto done = std::move(found->second.done);
  found->second.timer->cancel();
  calls_.erase(found);
  done(std::move(result));
}

void TransportImpl::cancel_calls(const std::string& addr) {
  net::post(context_, [this, addr] {
    std::vector<std::uint32_t> affected;
    for (const auto& [id, call] : calls_)
      if (call.addr == addr && call.type == CallType::Sql) affected.push_back(id);
    for (const std::uint32_t id : affected) finish_call(id, fail(Errc::Canceled, "leadership changed"));
  });
}

std::vector<Transport::PoolStats> TransportImpl::pool_stats() const {
  const std::lock_guard lock(mutex_);
  std::vector<PoolStats> out;
  for (const auto& [addr, stats] : stats_)
    if (stats.open > 0) out.push_back(stats);
  return out;
}

// ---- calls: the answering side

class TransportImpl::CallResponder final : public Responder {
 public:
  CallResponder(std::shared_ptr<std::atomic<std::size_t>> served, const std::shared_ptr<Link>& link, std::uint32_t stream)
      : served_(std::move(served)), serving_(link->serving), link_(link), remote_(link->remote()), stream_(stream) {
    serving_->fetch_add(1);
  }
  ~CallResponder() override {
    if (!answered_) reply(fail(Errc::Internal, "request was dropped"));
  }
  void reply(Result<std::string> result) override {
    if (std::exchange(answered_, true)) return;
    served_->fetch_sub(1);
    serving_->fetch_sub(1);
    const std::shared_ptr<Link> link = link_.lock();
    if (!link) return;
    std::string bytes;
    append_frames(bytes, FrameType::Response, stream_, encode_response(result));
    link->send(std::move(bytes), kMessageMax);
  }
  std::string peer() const override { return remote_; }

 private:
  const std::shared_ptr<std::atomic<std::size_t>> served_;
  const std::shared_ptr<std::atomic<int>> serving_;
  const std::weak_ptr<Link> link_;
  const std::string remote_;
  const std::uint32_t stream_;
  bool answered_ = false;
};

void TransportImpl::serve_calls(const std::shared_ptr<Link>& link) {
  std::weak_ptr<Link> weak = link;
  link->on_batch_end = [] {};                      // also marks it as past its hello
  link->may_idle_out = true;
  link->next_on_frame = [this, weak](MessageFrame&& frame) {
    auto here = weak.lock();
    return here && on_request(here, std::move(frame));
  };
}

bool TransportImpl::on_request(const std::shared_ptr<Link>& link, MessageFrame&& frame) {
  if (frame.type != FrameType::Request) return false;
  Result<CallRequest> request = decode_request(frame.payload);
  if (!request) {
    complain(link->remote(), request.error().text());
    return false;
  }
  const std::size_t served = calls_served_->fetch_add(1);
  auto responder = std::make_shared<CallResponder>(calls_served_, link, frame.stream);
  if (served >= kCallsServedMax) responder->reply(fail(Errc::Busy, "too many requests of peers"));
  else if (request->remaining_ms == 0) responder->reply(fail(Errc::Timeout, "deadline passed before the request arrived"));
  else handlers_.on_call(request->type, std::move(request->payload), std::move(responder));
  return true;
}

}  // namespace

Result<std::unique_ptr<Transport>> Transport::listen(const Options& options, Metrics& metrics) {
  auto transport = std::make_unique<TransportImpl>(options, metrics);
  RQ_CHECK(transport->bind());
  return std::unique_ptr<Transport>(std::move(transport));
}

}  // namespace rq::transport
