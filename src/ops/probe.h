// Probes of the network for the doctor: blocking, with a deadline each. No TLS.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"

namespace rq::ops {

struct Address {
  std::string host, port;
};
Address split_address(const std::string& addr);        // host:port, [v6]:port; an empty host stays empty

// The IP addresses of a name. Errc::Io with the resolver's reason.
Result<std::vector<std::string>> resolve(const std::string& host);
// Connects and closes again. Errc::Unreachable with the reason, Errc::Timeout.
Result<> reach(const std::string& addr, std::chrono::milliseconds timeout);
// Binds and lets go again. Errc::AlreadyExists: the port is taken; Io: other reasons.
Result<> can_bind(const std::string& addr);

struct HttpAnswer {
  int status = 0;
  std::string date, body;                              // the Date header
};
Result<HttpAnswer> http_get(const std::string& addr, const std::string& path, std::chrono::milliseconds timeout);

}  // namespace rq::ops
