// Resolver: names to addresses, asked anew each time, without blocking and without threads.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/address.h"
#include "transport/loop.h"

namespace rq::transport {

class Resolver {
 public:
  using Done = std::function<void(Result<std::vector<Endpoint>>)>;
  virtual ~Resolver() = default;
  // Peer thread. `done` is called once, later, never from inside; at least one address, or Errc::NotFound ("lookup H: no
  // such host") or Errc::Timeout ("lookup H: i/o timeout").
  virtual void resolve(const std::string& host, std::uint16_t port, Done done) = 0;
  virtual void cancel() = 0;                       // forgets all that wait; their `done` is not called
};

// By numbers, "localhost", /etc/hosts and DNS, as /etc/resolv.conf says at that moment.
std::unique_ptr<Resolver> make_resolver(Loop& loop);

}  // namespace rq::transport
