#include "shell/http_client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>

#include "base/go_text.h"
#include "base/localhost.h"

namespace rq::shell {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = net::ip::tcp;
using boost::system::error_code;
using Steady = std::chrono::steady_clock;

constexpr std::size_t kPieceBytes = 64 * 1024;
constexpr std::uint64_t kHeaderBytesMax = 1024 * 1024;

// A connection that is kept for the next request. TLS is a second layer on the same stream.
struct Connection {
  explicit Connection(net::io_context& io) : stream(io) {}
  beast::tcp_stream stream;
  std::unique_ptr<net::ssl::stream<beast::tcp_stream&>> tls;
  beast::flat_buffer buffer;
  bool reused = false;
};

std::string file_problem(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return {};
  return "open " + path + ": " + (errno == ENOENT ? "no such file or directory" : errno == EACCES ? "permission denied" : std::strerror(errno));
}

// The other side's refusal of the connection as such. In TLS 1.3 a server looks at our certificate after we began to send.
bool is_tls_alert(const error_code& ec) {
  if (ec.category() != net::error::get_ssl_category()) return false;
  const int reason = ERR_GET_REASON(static_cast<unsigned long>(ec.value()));
  return reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256;
}

std::string tls_reason(const error_code& ec) {
  const auto code = static_cast<unsigned long>(ec.value());
  switch (ERR_GET_REASON(code)) {
    case SSL_R_WRONG_VERSION_NUMBER: return "TLS: the server doesn't speak HTTPS";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED: return "TLS: the server requires a client certificate";
    default: break;
  }
  const char* text = ERR_reason_error_string(code);
  return std::string("TLS: ") + (text != nullptr ? text : "unknown error");
}

std::string lower_reason(const error_code& ec) {
  if (ec == net::error::connection_refused) return "connection refused";
  if (ec == net::error::host_not_found || ec == net::error::host_not_found_try_again || ec == net::error::no_data) return "no such host";
  if (ec == net::error::connection_reset) return "connection reset by peer";
  if (ec == http::error::end_of_stream || ec == net::error::eof || ec == http::error::partial_message || ec == net::ssl::error::stream_truncated)
    return "the server closed the connection";
  if (ec.category() == net::error::get_ssl_category()) return tls_reason(ec);
  std::string text = ec.message();
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] + 32);
  return text;
}

}  // namespace

std::string Endpoint::name() const {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}
std::string Endpoint::url() const { return (tls ? "https://" : "http://") + name(); }

class HttpClient::Impl {
 public:
  explicit Impl(Settings settings) : settings_(std::move(settings)), tls_(net::ssl::context::tls_client), signals_(io_) {}

  Result<> load_tls();
  Result<HttpResponse> exchange(const Endpoint& to, const HttpRequest& request, const Limits& limits, const BodySink& sink);

 private:
  void load_system_roots();
  struct Proxy {
    Endpoint at;
    std::string authorization;
  };
  using ConnectionPtr = std::unique_ptr<Connection>;

  template <class Start>
  error_code run(Connection& connection, Start start);
  void moved() { last_move_ = Steady::now(); }
  Steady::time_point deadline() const;
  Result<> failed(const error_code& ec, Errc code, const std::string& what) const;

  std::optional<Proxy> proxy_for(const Endpoint& to) const;
  Result<ConnectionPtr> connect(const Endpoint& to, const std::optional<Proxy>& proxy);
  Result<> open_tunnel(Connection& connection, const Endpoint& to, const Proxy& proxy);
  Result<> handshake(Connection& connection, const Endpoint& to);
  static bool is_stale(Connection& connection);

  template <class Stream>
  Result<> send(Connection& connection, Stream& stream, const HttpRequest& request, const Endpoint& to, const std::optional<Proxy>& proxy);
  template <class Stream>
  Result<> send_source(Connection& connection, Stream& stream, http::request<http::buffer_body>& message, BodySource& source);
  template <class Stream>
  Result<HttpResponse> receive(Connection& connection, Stream& stream, const HttpRequest& request, const BodySink& sink, bool& keep);
  template <class Stream>
  Result<HttpResponse> talk(Connection& connection, Stream& stream, const HttpRequest& request, const Endpoint& to, const std::optional<Proxy>& proxy,
                            const BodySink& sink, bool& keep);
  template <class Body>
  void fill(http::request<Body>& message, const HttpRequest& request, const Endpoint& to, const std::optional<Proxy>& proxy) const;

  Settings settings_;
  net::io_context io_;
  net::ssl::context tls_;
  net::signal_set signals_;
  std::map<std::string, ConnectionPtr> idle_;     // by URL of the endpoint
  Steady::time_point begin_, last_move_;
  Limits limits_;
  bool interrupted_ = false;
  bool wants_system_roots_ = false;
};

Result<> HttpClient::Impl::load_tls() {
  const TlsOptions& options = settings_.tls;
  SSL_CTX_set_min_proto_version(tls_.native_handle(), TLS1_2_VERSION);
  for (const std::string* path : {&options.cert_file, &options.key_file, &options.ca_file})
    if (!path->empty())
      if (const std::string problem = file_problem(*path); !problem.empty()) return fail(Errc::Io, problem);
  error_code ec;
  if (options.cert_file.empty() != options.key_file.empty()) return fail(Errc::BadRequest, "a client certificate and its key must be given together");
  if (!options.cert_file.empty()) {
    tls_.use_certificate_chain_file(options.cert_file, ec);
    if (ec) return fail(Errc::Io, "client certificate " + options.cert_file + ": " + lower_reason(ec));
    tls_.use_private_key_file(options.key_file, net::ssl::context::pem, ec);
    if (ec) return fail(Errc::Io, "client key " + options.key_file + ": " + lower_reason(ec));
  }
  tls_.set_verify_mode(options.insecure ? net::ssl::verify_none : net::ssl::verify_peer);
  if (!options.ca_file.empty()) {
    tls_.load_verify_file(options.ca_file, ec);
    if (ec) return fail(Errc::Io, "failed to parse CA certificate(s) in " + options.ca_file);
  } else {
    wants_system_roots_ = !options.insecure;
  }
  return {};
}

// Reading the system's root certificates takes longer than all the rest of a start, so it waits until they are needed.
void HttpClient::Impl::load_system_roots() {
  if (!std::exchange(wants_system_roots_, false)) return;
  error_code ignored;
  tls_.set_default_verify_paths(ignored);
  // A statically linked OpenSSL looks in a place of its own; Debian's bundle is the usual one.
  SSL_CTX_load_verify_locations(tls_.native_handle(), "/etc/ssl/certs/ca-certificates.crt", nullptr);
  ERR_clear_error();
}

Steady::time_point HttpClient::Impl::deadline() const {
  Steady::time_point at = Steady::time_point::max();
  if (limits_.whole) at = begin_ + std::chrono::duration_cast<Steady::duration>(*limits_.whole);
  if (limits_.silence) at = std::min(at, last_move_ + std::chrono::duration_cast<Steady::duration>(*limits_.silence));
  return at;
}

// Starts one asynchronous operation and runs it to its end, to the deadline or to Ctrl-C. Beast's blocking calls know no
// deadline, so this is how we block.
template <class Start>
error_code HttpClient::Impl::run(Connection& connection, Start start) {
  error_code result;
  bool done = false, timed_out = false;
  start([&](const error_code& ec) {
    result = ec;
    done = true;
  });
  io_.restart();
  const auto step = [&] {
    const Steady::time_point until = deadline();
    if (until == Steady::time_point::max()) return io_.run_one();
    return io_.run_one_until(until);
  };
  while (!done && !interrupted_) {
    const std::size_t ran = step();
    if (ran == 0 && !done && Steady::now() >= deadline()) {
      timed_out = true;
      break;
    }
  }
  if (!done) {
    error_code ignored;
    connection.stream.socket().close(ignored);
    while (!done && io_.run_one() > 0) continue;
    return timed_out ? error_code(beast::error::timeout) : error_code(net::error::operation_aborted);
  }
  moved();
  return result;
}

Result<> HttpClient::Impl::failed(const error_code& ec, Errc code, const std::string& what) const {
  if (interrupted_) return fail(Errc::Canceled, "interrupted");
  if (ec == beast::error::timeout) {
    const auto limit = limits_.whole ? limits_.whole : limits_.silence;
    return fail(code == Errc::Unreachable ? code : Errc::Timeout, what + "no answer within " + (limit ? go_duration_text(*limit) : "the time"));
  }
  return fail(code, what + lower_reason(ec));
}

std::optional<HttpClient::Impl::Proxy> HttpClient::Impl::proxy_for(const Endpoint& to) const {
  if (!settings_.proxy_of) return std::nullopt;
  std::string url = settings_.proxy_of(to);
  if (url.empty()) return std::nullopt;
  if (const std::size_t scheme = url.find("://"); scheme != std::string::npos) url.erase(0, scheme + 3);
  if (const std::size_t slash = url.find('/'); slash != std::string::npos) url.resize(slash);
  Proxy proxy;
  if (const std::size_t at = url.rfind('@'); at != std::string::npos) {
    proxy.authorization = "Basic ";
    append_base64(proxy.authorization, url.substr(0, at));
    url.erase(0, at + 1);
  }
  const std::size_t colon = url.rfind(':');
  proxy.at.host = url.substr(0, colon);
  proxy.at.port = colon == std::string::npos ? std::uint16_t{80} : static_cast<std::uint16_t>(std::strtoul(url.c_str() + colon + 1, nullptr, 10));
  return proxy;
}

Result<HttpClient::Impl::ConnectionPtr> HttpClient::Impl::connect(const Endpoint& to, const std::optional<Proxy>& proxy) {
  auto connection = std::make_unique<Connection>(io_);
  const Endpoint& first = proxy ? proxy->at : to;
  const std::string what = first.name() + ": ";
  tcp::resolver resolver(io_);
  tcp::resolver::results_type addresses;
  error_code address_error;
  if (const auto literal = net::ip::make_address(first.host, address_error); !address_error) {
    addresses = tcp::resolver::results_type::create(tcp::endpoint(literal, first.port), first.host, std::to_string(first.port));
  } else {
    const error_code ec = run(*connection, [&](auto done) {
      resolver.async_resolve(first.host, std::to_string(first.port), [&addresses, done](const error_code& e, tcp::resolver::results_type found) {
        addresses = std::move(found);
        done(e);
      });
    });
    if (ec && is_localhost(first.host) && !interrupted_) {
      addresses = tcp::resolver::results_type::create(tcp::endpoint(net::ip::make_address(kLoopback), first.port), first.host, std::to_string(first.port));
    } else if (ec) {
      resolver.cancel();
      RQ_CHECK(failed(ec, Errc::Unreachable, what));
    }
  }
  const error_code ec = run(*connection, [&](auto done) { connection->stream.async_connect(addresses, [done](const error_code& e, const tcp::endpoint&) { done(e); }); });
  if (ec) RQ_CHECK(failed(ec, Errc::Unreachable, what));
  error_code ignored;
  connection->stream.socket().set_option(tcp::no_delay(true), ignored);
  if (to.tls) {
    if (proxy) RQ_CHECK(open_tunnel(*connection, to, *proxy));
    RQ_CHECK(handshake(*connection, to));
  }
  return connection;
}

Result<> HttpClient::Impl::open_tunnel(Connection& connection, const Endpoint& to, const Proxy& proxy) {
  http::request<http::empty_body> request(http::verb::connect, to.name(), 11);
  request.set(http::field::host, to.name());
  if (!proxy.authorization.empty()) request.set(http::field::proxy_authorization, proxy.authorization);
  const std::string what = "proxy " + proxy.at.name() + ": ";
  error_code ec = run(connection, [&](auto done) { http::async_write(connection.stream, request, [done](const error_code& e, std::size_t) { done(e); }); });
  if (ec) RQ_CHECK(failed(ec, Errc::Unreachable, what));
  http::response_parser<http::empty_body> parser;
  parser.skip(true);
  ec = run(connection, [&](auto done) { http::async_read_header(connection.stream, connection.buffer, parser, [done](const error_code& e, std::size_t) { done(e); }); });
  if (ec) RQ_CHECK(failed(ec, Errc::Unreachable, what));
  if (parser.get().result_int() != 200) return fail(Errc::Unreachable, what + std::to_string(parser.get().result_int()) + " " + std::string(parser.get().reason()));
  return {};
}

Result<> HttpClient::Impl::handshake(Connection& connection, const Endpoint& to) {
  load_system_roots();
  connection.tls = std::make_unique<net::ssl::stream<beast::tcp_stream&>>(connection.stream, tls_);
  auto& stream = *connection.tls;
  error_code is_name;
  net::ip::make_address(to.host, is_name);
  SSL* ssl = stream.native_handle();
  if (is_name) SSL_set_tlsext_host_name(ssl, to.host.c_str());
  if (!settings_.tls.insecure) {
    if (is_name) SSL_set1_host(ssl, to.host.c_str()); else X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), to.host.c_str());
  }
  const error_code ec = run(connection, [&](auto done) { stream.async_handshake(net::ssl::stream_base::client, [done](const error_code& e) { done(e); }); });
  if (!ec) return {};
  if (const long verified = SSL_get_verify_result(stream.native_handle()); verified != X509_V_OK)
    return fail(Errc::Unreachable, to.name() + ": the server's certificate is not trusted: " + X509_verify_cert_error_string(verified));
  return failed(ec, Errc::Unreachable, to.name() + ": ");
}

// An idle connection on which something arrived was closed by the server (or spoke out of turn).
bool HttpClient::Impl::is_stale(Connection& connection) {
  error_code ec;
  auto& socket = connection.stream.socket();
  socket.non_blocking(true, ec);
  char byte = 0;
  const ssize_t got = ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

template <class Body>
void HttpClient::Impl::fill(http::request<Body>& message, const HttpRequest& request, const Endpoint& to, const std::optional<Proxy>& proxy) const {
  message.version(11);
  message.method_string(request.method);
  const bool absolute = proxy && !to.tls;
  message.target(absolute ? to.url() + request.target : request.target);
  message.set(http::field::host, to.name());
  message.set(http::field::user_agent, "rqlite");
  if (absolute && !proxy->authorization.empty()) message.set(http::field::proxy_authorization, proxy->authorization);
  if (!settings_.authorization.empty()) message.set(http::field::authorization, settings_.authorization);
  for (const auto& [name, value] : request.headers) message.set(name, value);
}

template <class Stream>
Result<> HttpClient::Impl::send(Connection& connection, Stream& stream, const HttpRequest& request, const Endpoint& to, const std::optional<Proxy>& proxy) {
  if (request.source != nullptr) {
    RQ_CHECK(request.source->rewind());
    http::request<http::buffer_body> message;
    fill(message, request, to, proxy);
    message.content_length(request.source->size());
    return send_source(connection, stream, message, *request.source);
  }
  http::request<http::string_body> message;
  fill(message, request, to, proxy);
  message.body() = request.body;
  if (!request.body.empty() || request.method != "GET") message.content_length(request.body.size());
  http::request_serializer<http::string_body> serializer(message);
  const error_code ec = run(connection, [&](auto done) { http::async_write(stream, serializer, [done](const error_code& e, std::size_t) { done(e); }); });
  if (ec) return failed(ec, Errc::Closed, to.name() + ": ");
  return {};
}

template <class Stream>
Result<> HttpClient::Impl::send_source(Connection& connection, Stream& stream, http::request<http::buffer_body>& message, BodySource& source) {
  http::request_serializer<http::buffer_body> serializer(message);
  message.body().data = nullptr;
  message.body().more = true;
  error_code ec = run(connection, [&](auto done) { http::async_write_header(stream, serializer, [done](const error_code& e, std::size_t) { done(e); }); });
  std::array<char, kPieceBytes> piece{};
  std::uint64_t left = source.size();
  while (!ec && left > 0) {
    RQ_TRY(const std::size_t size, source.read(piece.data(), static_cast<std::size_t>(std::min<std::uint64_t>(left, piece.size()))));
    if (size == 0) return fail(Errc::Io, "the file became shorter while it was sent");
    left -= size;
    message.body().data = piece.data();
    message.body().size = size;
    message.body().more = left > 0;
    ec = run(connection, [&](auto done) { http::async_write(stream, serializer, [done](const error_code& e, std::size_t) { done(e); }); });
    if (ec == http::error::need_buffer) ec = {};
  }
  // A server that refuses answers before it has read all; its answer says more than the broken pipe.
  if (ec && (interrupted_ || ec == beast::error::timeout)) return failed(ec, Errc::Closed, "");
  return {};
}

template <class Stream>
Result<HttpResponse> HttpClient::Impl::receive(Connection& connection, Stream& stream, const HttpRequest& request, const BodySink& sink, bool& keep) {
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  parser.header_limit(static_cast<std::uint32_t>(kHeaderBytesMax));
  if (request.method == "HEAD") parser.skip(true);
  error_code ec = run(connection, [&](auto done) { http::async_read_header(stream, connection.buffer, parser, [done](const error_code& e, std::size_t) { done(e); }); });
  if (ec) RQ_CHECK(failed(ec, is_tls_alert(ec) && !connection.reused ? Errc::Unreachable : Errc::Closed, ""));
  HttpResponse response;
  response.status = static_cast<int>(parser.get().result_int());
  response.reason = std::string(parser.get().reason());
  const auto header = [&](std::string_view name) {
    const auto found = parser.get().find(name);
    return found == parser.get().end() ? std::string() : std::string(found->value());
  };
  response.version = header("X-Rqlite-Version");
  response.location = header("Location");
  const std::uint64_t total = parser.content_length() ? *parser.content_length() : 0;
  std::array<char, kPieceBytes> piece{};
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    ec = run(connection, [&](auto done) { http::async_read_some(stream, connection.buffer, parser, [done](const error_code& e, std::size_t) { done(e); }); });
    if (ec == http::error::need_buffer) ec = {};
    if (ec) RQ_CHECK(failed(ec, Errc::Closed, ""));
    const std::string_view got(piece.data(), piece.size() - parser.get().body().size);
    if (got.empty()) continue;
    if (sink && response.status == 200) {
      RQ_CHECK(sink(got, total));
    } else {
      response.body += got;
    }
  }
  keep = parser.keep_alive();
  return response;
}

template <class Stream>
Result<HttpResponse> HttpClient::Impl::talk(Connection& connection, Stream& stream, const HttpRequest& request, const Endpoint& to,
                                            const std::optional<Proxy>& proxy, const BodySink& sink, bool& keep) {
  if (auto sent = send(connection, stream, request, to, proxy); !sent) return fail(sent.error());
  auto response = receive(connection, stream, request, sink, keep);
  if (!response && response.error().code != Errc::Canceled && response.error().code != Errc::Io)
    return fail(response.error().code, to.name() + ": " + response.error().detail);
  return response;
}

Result<HttpResponse> HttpClient::Impl::exchange(const Endpoint& to, const HttpRequest& request, const Limits& limits, const BodySink& sink) {
  limits_ = limits;
  begin_ = last_move_ = Steady::now();
  interrupted_ = false;
  if (settings_.interruptible) {
    signals_.add(SIGINT);
    signals_.async_wait([this](const error_code& ec, int) { interrupted_ = interrupted_ || !ec; });
  }
  const auto work = [&]() -> Result<HttpResponse> {
    const std::optional<Proxy> proxy = proxy_for(to);
    ConnectionPtr connection;
    if (const auto kept = idle_.find(to.url()); kept != idle_.end()) {
      connection = std::move(kept->second);
      idle_.erase(kept);
      connection->reused = true;
      if (is_stale(*connection)) connection = nullptr;
    }
    if (!connection) {
      RQ_TRY(connection, connect(to, proxy));
    }
    bool keep = false;
    auto response = connection->tls ? talk(*connection, *connection->tls, request, to, proxy, sink, keep)
                                    : talk(*connection, connection->stream, request, to, proxy, sink, keep);
    if (response && keep) idle_[to.url()] = std::move(connection);
    return response;
  };
  auto result = work();
  if (settings_.interruptible) {
    signals_.clear();       // the default comes back: Ctrl-C ends the process while no request runs
    signals_.cancel();
    io_.restart();
    io_.poll();
  }
  return result;
}

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpClient::~HttpClient() = default;

Result<std::unique_ptr<HttpClient>> HttpClient::create(Settings settings) {
  auto impl = std::make_unique<Impl>(std::move(settings));
  RQ_CHECK(impl->load_tls());
  return std::unique_ptr<HttpClient>(new HttpClient(std::move(impl)));
}

Result<HttpResponse> HttpClient::exchange(const Endpoint& to, const HttpRequest& request, const Limits& limits, const BodySink& sink) {
  return impl_->exchange(to, request, limits, sink);
}

}  // namespace rq::shell
