// Client: requests to a cluster of which several hosts are known. Gives a dead host up, goes on with the next one, follows
// redirects; never sends again what may have been done, unless it only reads. Used by one thread.
#pragma once

#include <string>
#include <vector>

#include "shell/http_client.h"

namespace rq::shell {

class Client {
 public:
  struct Settings {
    std::vector<Endpoint> hosts;                    // at least one; tried in this order, round robin
    std::string prefix = "/";                       // put in front of every target
    std::chrono::nanoseconds timeout{};
    std::function<void(const std::string&)> log;    // lines for stderr
  };
  Client(HttpClient& http, Settings settings);

  enum class Patience { Whole, WhileBytesMove, Endless };

  // Targets have no leading slash ("db/query?q=..."). The error Unreachable: no host took it. Timeout and Closed say in
  // their detail that the request may have been done.
  Result<HttpResponse> send(HttpRequest request, Patience patience = Patience::Whole, const BodySink& sink = {});

  // One host, the target as it is (with the slash); no failover. For what concerns that very node.
  Result<HttpResponse> ask(const Endpoint& host, const std::string& target);

  // A GET at the current host for what is only a help: short patience, no failover, nothing logged.
  Result<HttpResponse> look(const std::string& target);

  const Endpoint& current() const { return settings_.hosts[current_]; }
  // The host of that URL (http://host:port); a URL without scheme gets the current host's.
  Result<Endpoint> endpoint_of(std::string_view url) const;

 private:
  Result<HttpResponse> follow(Endpoint to, HttpRequest request, const Limits& limits, const BodySink& sink);
  Limits limits_for(Patience patience) const;

  HttpClient& http_;
  const Settings settings_;
  std::size_t current_ = 0;
};

// "host:port" with brackets around an IPv6 address allowed; `fallback` when no port is given.
Result<Endpoint> parse_host(std::string_view text, bool tls, std::uint16_t fallback);

// Form encoding as Go's url.QueryEscape: blanks become +.
std::string query_escaped(std::string_view text);

}  // namespace rq::shell
