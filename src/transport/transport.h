// Transport: everything between nodes, over one TCP port.
//
// A connection begins with a hello (magic, wire version, kind of channel, cluster id, sender's raft id), then carries
// frames {length, CRC32C, type, stream id, payload}; two kinds of channel: raft (one-way messages, one connection per
// direction and peer) and call (request/response, multiplexed by stream id, any number under way). Limits: hello 4 KiB
// within 5 s; frame payload 1 MiB (longer messages are split over frames), message 512 MiB; connections 512. A bad
// magic, version, length, checksum, or message closes that one connection and is counted and logged (rate-limited);
// it never touches another. Byte format: docs/formats/peer-wire.md. The messages are ours, encoded by protobuf-lite
// (transport/wire.proto, C++); the crate's decoder never sees bytes of the network (design section 6, trap 10).
//
// With TLS (Options::tls_server, tls_client) the same bytes travel inside; the hello then comes after the handshake. Who has
// not said hello within its time is cut off; when too many are on their way there, the oldest goes first, so that silent
// strangers don't keep members out. Call connections that nobody uses end: on the asking side before the answering one.
//
// Threads: all functions may be called from any thread. Handlers are called on the transport's own thread and must not
// block it. Addresses are resolved anew at each dial. stop() ends all work, waits for it, may be called twice.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "base/types.h"
#include "raft/engine.h"
#include "tls/tls.h"

namespace rq::transport {

// Kinds of calls; numbers are for ever.
enum class CallType : std::uint8_t {
  NodeMeta = 1, Sql = 2, RemoveNode = 6, Notify = 7, Join = 8, StepDown = 12, Announce = 14, BackupOpen = 15, BackupRead = 16, BackupClose = 17,
  ReadImage = 20, HoldState = 21, Load = 22, Stage = 23, Skip = 24,
  Proof = 30, ProofOperation = 31,
};

struct Options {
  std::string bind_addr;                       // host:port
  std::string advertised_addr;
  RaftId self;
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(30);
  std::size_t connections_max = 512;
  std::size_t greetings_max = 128;             // connections of which no hello has come yet
  std::chrono::milliseconds greeting_time = std::chrono::seconds(5);   // for hello, and TLS handshake before it
  std::shared_ptr<tls::Config> tls_server;     // null: plain text. Both or none
  std::shared_ptr<tls::Config> tls_client;
  std::size_t raft_queue_bytes_max = 256u << 20; // per peer; beyond it messages are dropped (Raft repeats them)
};

// Answers one call; exactly once, from any thread. Dropping it unanswered closes the stream with Errc::Closed.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void reply(Result<std::string> payload) = 0;   // an Error travels as code and detail
  virtual std::string peer() const = 0;                  // ip:port, for logs
};

class Transport {
 public:
  struct Handlers {
    // Messages that arrived together, of an authenticated member connection.
    std::function<void(std::vector<raft::Message>&&)> on_messages;
    // Every raft connection from this peer has ended and a redial of its address was refused: its process is dead.
    // Called after all frames received before were delivered.
    std::function<void(RaftId)> on_peer_dead;
    // A message to this peer could not be delivered (not connected, queue full), or may be lost: the connections ended.
    std::function<void(RaftId)> on_unreachable;
    std::function<void(CallType, std::string payload, std::shared_ptr<Responder>)> on_call;
  };

  // Binds and listens; Errc::Io "failed to listen on ADDR: ...". No handler is called before start().
  static Result<std::unique_ptr<Transport>> listen(const Options& options, Metrics& metrics);
  virtual ~Transport() = default;

  virtual void start(Handlers handlers) = 0;
  virtual void stop() = 0;

  // Both ends must know the same cluster id, or the hello is refused on raft channels. 0: not known yet (only calls).
  virtual void set_cluster_id(std::uint64_t id) = 0;
  // Whom to dial for a raft id. Replaces the whole table; connections to addresses that are gone are closed. Who is in no table yet, of
  // the same cluster, and has a connection to us, is answered too; who was in one and isn't any more is not.
  virtual void set_peers(std::vector<std::pair<RaftId, std::string>> peers) = 0;
  // Queues and sends; order per peer is kept while a connection lasts. Tries the socket at once on the caller's thread
  // where nothing is queued, so that a write costs no thread hop.
  virtual void send(std::vector<raft::Message>&& messages) = 0;

  // `done` is called exactly once. Errors: Unreachable (not connected; detail like "dial tcp A: connect: connection
  // refused" or "tls: failed to verify certificate: ..."; nothing was carried out), Closed (the connection ended while waiting: unknown outcome; detail like "read tcp
  // A->B: read: connection reset by peer"), Timeout, TooLarge, or what the other side answered.
  virtual void call(const std::string& addr, CallType type, std::string payload, SteadyTime deadline,
                    std::function<void(Result<std::string>)> done) = 0;
  // Ends calls under way to `addr` with Errc::Canceled (their leader is gone).
  virtual void cancel_calls(const std::string& addr) = 0;

  struct PoolStats {
    std::string addr;
    int idle = 0, open = 0, max_open = 0;
  };
  virtual std::vector<PoolStats> pool_stats() const = 0;
};

}  // namespace rq::transport
