// Server: HTTP/1.x connections on net threads. Knows nothing of paths: every complete request goes to the Service.
//
// Threads: net-0..N-1, each with its own io_context; a connection stays on one. Service::handle() is called there and must
// not block; Exchange::respond() may be called once, from any thread, also inside handle(). Answers leave in the order of
// the requests (pipelining). on_net_thread() and respond() from other threads are collected: a busy net thread is not woken
// for each.
// Bodies of any size: a request's may go to a BodySink piece by piece, an answer's may come from a ByteSource; the other end
// is asked for more only when a piece is gone, so a slow client or disk holds back whoever feeds it. An answer whose source
// fails is cut off by a reset: a client can't take a part for the whole.
// Limits (Limits): a client that sends nothing, half a header or half a body, or doesn't read its answers, is cut off. When
// there are too many connections, or too many in the TLS handshake, the longest idle of them makes room for the new one.
// stop(): no new connections, idle ones are closed, running requests get `drain` to end. May be called twice.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/byte_source.h"
#include "base/result.h"
#include "http/stats.h"
#include "tls/tls.h"

namespace rq::http {

struct Limits {
  std::size_t header_bytes = 1u << 20;
  std::size_t body_bytes = 512u << 20;                      // of bodies without a sink, also of those that are thrown away
  std::size_t collected_bytes = 1u << 30;                   // of large requests that are coming in, over all connections
  std::size_t connections = 10'000;
  std::size_t pipelined = 64;                               // requests of one connection under way
  std::chrono::seconds header_time{30}, body_stall{30}, idle_time{300}, write_stall{60};
  std::chrono::milliseconds drain{3000};
  std::chrono::seconds handshake_time{10};                  // of TLS
  std::size_t handshakes = 512;                             // of TLS, under way on one net thread
};

struct Request {
  std::string method, target, body;
  std::string content_type, content_encoding, authorization;
  bool has_content_length = false;
};

struct Response {
  int status = 200;
  std::string headers;        // complete lines, each ended by CRLF; without length, date and connection
  std::string body;
  std::shared_ptr<ByteSource> more;   // what follows `body`; sent in chunks
};

// Where the body of one request goes. Net thread only; must not block. The exchange may be answered at any time: then the
// rest of the body is thrown away and nothing more is called. Destroyed before end(): the client went away, or that.
class BodySink {
 public:
  virtual ~BodySink() = default;
  // `taken` is called once, from any thread: there is room for the next piece.
  virtual void write(std::string&& piece, std::function<void()> taken) = 0;
  // The body is complete and all of it was taken.
  virtual void end() = 0;
};

class Exchange {
 public:
  virtual ~Exchange() {
    if (stats != nullptr) stats->in_flight.fetch_sub(1, std::memory_order_relaxed);
  }
  virtual void respond(Response&& response) = 0;
  virtual bool client_gone() const = 0;                     // any thread
  // Calls `work` on the net thread after that time (at most 24 days); on the net thread only.
  virtual void after(std::chrono::nanoseconds time, std::function<void()> work) = 0;
  virtual void on_net_thread(std::function<void()> work) = 0;   // any thread
  // Noted by the service: whose statistics the answer belongs to, and since when it is worked on.
  void count_for(EndpointStats& endpoint, std::chrono::steady_clock::time_point now) {
    stats = &endpoint;
    begun = now;
    endpoint.in_flight.fetch_add(1, std::memory_order_relaxed);
  }
  Request request;
  unsigned net_thread = 0;
  EndpointStats* stats = nullptr;
  std::chrono::steady_clock::time_point begun;
};

class Service {
 public:
  virtual ~Service() = default;
  // The head of a request is here. Null: its body is collected for handle(). Else handle() is not called: the sink (or
  // this function, when it refuses) answers. Its `request` has no body yet.
  virtual std::shared_ptr<BodySink> open(const std::shared_ptr<Exchange>& exchange) { return (void)exchange, nullptr; }
  virtual void handle(std::shared_ptr<Exchange> exchange) = 0;
};

class Server {
 public:
  // Errc::Io "failed to listen on ADDR: ...". `addr` is host:port; an empty host means all addresses. With `tls`: HTTPS only.
  static Result<std::unique_ptr<Server>> listen(const std::string& addr, unsigned net_threads, const Limits& limits,
                                                std::shared_ptr<tls::Config> tls = nullptr);
  virtual ~Server() = default;
  virtual void start(Service& service) = 0;
  virtual void stop() = 0;
  virtual unsigned net_threads() const = 0;
  virtual std::size_t connections() const = 0;
  virtual void on_net_thread(unsigned number, std::function<void()> work) = 0;
};

std::string_view reason_of(int status);

}  // namespace rq::http
