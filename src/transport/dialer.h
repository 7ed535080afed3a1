// Dialer: from "host:port" to a connected socket. Peer thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "transport/resolver.h"
#include "transport/socket.h"

namespace rq::transport {

struct DialError {
  bool refused = false;                            // every address answered, and nobody listens there
  std::string text;                                // "dial tcp 127.0.0.1:4002: connect: connection refused"
};

class Dialer {
 public:
  // Null: failed, see the error.
  using Done = std::function<void(std::unique_ptr<Socket>, const DialError&)>;

  explicit Dialer(Loop& loop);
  ~Dialer();
  // Tries the addresses of the name one after the other, each with a fair part of the time. `done` is called once, later,
  // never from inside.
  void dial(const std::string& addr, std::chrono::milliseconds timeout, Done done);
  void cancel();                                   // forgets all dials; their `done` is not called
  Resolver& resolver() { return *resolver_; }

 private:
  class Dial;
  Loop& loop_;
  std::unique_ptr<Resolver> resolver_;
  std::map<std::uint64_t, std::unique_ptr<Dial>> dials_;
  std::uint64_t last_id_ = 0;
};

}  // namespace rq::transport
