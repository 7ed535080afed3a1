// HttpClient: one HTTP request and its answer over a kept connection, plain or TLS, blocking, with a deadline. Knows hosts,
// not clusters: whoever calls decides what to try next. Used by one thread. The only unit that knows Beast is http_client.cc.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace rq::shell {

struct Endpoint {
  bool tls = false;
  std::string host;
  std::uint16_t port = 0;
  std::string name() const;      // host:port, an IPv6 address in brackets
  std::string url() const;       // scheme://host:port
  bool operator==(const Endpoint&) const = default;
};

struct TlsOptions {
  bool insecure = false;         // the server's certificate is not verified
  std::string ca_file, cert_file, key_file;
};

// A request body that doesn't fit into memory.
class BodySource {
 public:
  virtual ~BodySource() = default;
  virtual std::uint64_t size() const = 0;
  virtual Result<> rewind() = 0;                                          // so that it can be sent again
  virtual Result<std::size_t> read(char* into, std::size_t size) = 0;     // 0: the end
};

struct HttpRequest {
  std::string method = "GET";
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  BodySource* source = nullptr;     // instead of body
  bool repeatable = false;          // done twice is as good as once; a GET always is
};

struct HttpResponse {
  int status = 0;
  std::string reason;
  std::string version;              // X-Rqlite-Version
  std::string location;
  std::string body;                 // empty when it went into a sink
  std::string status_text() const { return std::to_string(status) + (reason.empty() ? "" : " " + reason); }
};

// Takes the body of an answer with status 200 piece by piece; `total` is 0 when the server didn't say.
using BodySink = std::function<Result<>(std::string_view piece, std::uint64_t total)>;

struct Limits {
  std::optional<std::chrono::nanoseconds> whole;    // from the first byte out to the last one in
  std::optional<std::chrono::nanoseconds> silence;  // without a byte either way
};

class HttpClient {
 public:
  struct Settings {
    TlsOptions tls;
    std::string authorization;           // value of the header; empty: none
    bool interruptible = false;          // SIGINT cancels the exchange (Errc::Canceled) and doesn't end the process
    std::function<std::string(const Endpoint&)> proxy_of;   // URL of the proxy to use, or empty; may be unset
  };
  // Reads the certificates; the error is the one to show.
  static Result<std::unique_ptr<HttpClient>> create(Settings settings);
  ~HttpClient();

  // Errc::Unreachable: the request surely was not sent (name, connection, TLS). Timeout, Closed: it may have been acted on.
  // Canceled: the user pressed Ctrl-C. Io: the source or the sink failed.
  Result<HttpResponse> exchange(const Endpoint& to, const HttpRequest& request, const Limits& limits, const BodySink& sink = {});

 private:
  class Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rq::shell
