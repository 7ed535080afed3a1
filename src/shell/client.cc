#include "shell/client.h"

#include <charconv>

namespace rq::shell {
namespace {

constexpr int kRedirectsMax = 21;

bool is_redirect(int status) { return status == 301 || status == 302 || status == 307 || status == 308; }

}  // namespace

Result<Endpoint> parse_host(std::string_view text, bool tls, std::uint16_t fallback) {
  Endpoint endpoint{tls, {}, fallback};
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return fail(Errc::BadRequest, "missing ']' in address " + std::string(text));
    endpoint.host = text.substr(1, close - 1);
    port = text.substr(close + 1);
  } else {
    const std::size_t colon = text.rfind(':');
    endpoint.host = text.substr(0, colon);
    port = colon == std::string_view::npos ? "" : text.substr(colon);
  }
  if (!port.empty()) {
    const char* end = port.data() + port.size();
    const auto read = std::from_chars(port.data() + 1, end, endpoint.port);
    if (port[0] != ':' || port.size() < 2 || read.ec != std::errc() || read.ptr != end) return fail(Errc::BadRequest, "invalid port in address " + std::string(text));
  }
  if (endpoint.host.empty()) return fail(Errc::BadRequest, "no host in address " + std::string(text));
  return endpoint;
}

std::string query_escaped(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) out += c;
    else if (c == ' ') out += '+';
    else out.append(1, '%').append(1, kDigits[byte >> 4U]).append(1, kDigits[byte & 15U]);
  }
  return out;
}

Client::Client(HttpClient& http, Settings settings) : http_(http), settings_(std::move(settings)) {}

Limits Client::limits_for(Patience patience) const {
  switch (patience) {
    case Patience::Whole: return {settings_.timeout, {}};
    case Patience::WhileBytesMove: return {{}, settings_.timeout};
    case Patience::Endless: return {};
  }
  return {};
}

Result<Endpoint> Client::endpoint_of(std::string_view url) const {
  bool tls = current().tls;
  if (url.starts_with("https://")) {
    tls = true;
    url.remove_prefix(8);
  } else if (url.starts_with("http://")) {
    tls = false;
    url.remove_prefix(7);
  }
  return parse_host(url.substr(0, url.find_first_of("/?#")), tls, tls ? 443 : 80);
}

Result<HttpResponse> Client::follow(Endpoint to, HttpRequest request, const Limits& limits, const BodySink& sink) {
  const Endpoint first = to;
  for (int redirects = 0; redirects <= kRedirectsMax; ++redirects) {
    RQ_TRY(HttpResponse response, http_.exchange(to, request, limits, sink));
    if (!is_redirect(response.status) || response.location.empty()) return response;
    if (response.location.starts_with('/')) {
      request.target = response.location;
      continue;
    }
    if (!response.location.starts_with("http://") && !response.location.starts_with("https://"))
      return fail(Errc::Unreachable, "bad redirect to '" + response.location + "'");
    RQ_TRY(to, endpoint_of(response.location));
    const std::size_t path = response.location.find('/', response.location.find("://") + 3);
    request.target = path == std::string::npos ? "/" : response.location.substr(path);
  }
  settings_.log("too many redirects from host: '" + first.name() + "'");
  return fail(Errc::Unreachable, first.name() + ": too many redirects");
}

Result<HttpResponse> Client::send(HttpRequest request, Patience patience, const BodySink& sink) {
  request.target = settings_.prefix + request.target;
  const bool repeatable = request.repeatable || request.method == "GET";
  std::string causes;
  for (std::size_t tried = 0; tried < settings_.hosts.size(); ++tried) {
    bool delivered = false;
    BodySink watched;
    if (sink) watched = [&](std::string_view piece, std::uint64_t total) { delivered = true; return sink(piece, total); };
    auto response = follow(current(), request, limits_for(patience), watched);
    if (response) {
      if (tried > 0) settings_.log("continuing with host '" + current().name() + "'");
      return response;
    }
    const Error error = response.error();
    if (error.code == Errc::Canceled || error.code == Errc::Io || delivered) return response;
    if (error.code != Errc::Unreachable && !repeatable)
      return fail(error.code, error.detail + " (the request may have been executed, it is not sent again)");
    settings_.log("host '" + current().name() + "' is unavailable, retrying with the next available host");
    causes += (causes.empty() ? "" : "; ") + error.detail;
    current_ = (current_ + 1) % settings_.hosts.size();
  }
  settings_.log("none of the available hosts are responsive");
  return fail(Errc::Unreachable, "no host available to perform the request: " + causes);
}

Result<HttpResponse> Client::ask(const Endpoint& host, const std::string& target) {
  HttpRequest request;
  request.target = target;
  return http_.exchange(host, request, limits_for(Patience::Whole));
}

Result<HttpResponse> Client::look(const std::string& target) {
  HttpRequest request;
  request.target = settings_.prefix + target;
  return http_.exchange(current(), request, {std::chrono::seconds(2), {}});
}

}  // namespace rq::shell
