// The command line and the environment of the shell (spec shell section 1). Pure: the environment is handed in.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace rq::shell {

struct Options {
  bool help = false;
  bool version = false;
  std::string alternatives;
  std::string scheme = "http";
  std::string host = "127.0.0.1";
  std::uint64_t port = 4001;
  std::string prefix = "/";
  bool insecure = false;
  std::string ca_cert, client_cert, client_key;
  std::string user;                        // "name:password"; the password may hold colons
  std::chrono::nanoseconds http_timeout = std::chrono::seconds(30);
  // ours
  std::vector<std::pair<bool, std::string>> scripts;    // in the order given: {is a file, text or path}
  bool quiet = false;
  bool bail = false;
  std::string mode;
  std::string output;
  std::string consistency;
  bool timer = false;

  bool host_given = false;                 // -H, -p or -s
  std::vector<std::string> ignored;        // words that belong to no flag
};

// The error is for stderr, behind "ERR! ".
Result<Options> parse_options(const std::vector<std::string>& arguments);
std::string usage_text(bool bold);

// RQLITE_HOST: `[scheme:]//host[:port]` into scheme, host and port. The error is for stderr, as it is.
Result<> apply_host_variable(std::string_view value, Options& options);

// The proxy for a host by HTTP_PROXY, HTTPS_PROXY and NO_PROXY (either case) as Go reads them; empty: none.
std::string proxy_url(bool tls, std::string_view host, std::uint16_t port, const std::function<std::string(const char*)>& environment);

}  // namespace rq::shell
