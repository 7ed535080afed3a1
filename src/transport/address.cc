#include "transport/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>

#include <charconv>
#include <cstring>
#include <system_error>

namespace rq::transport {
namespace {

sockaddr_in& v4(Endpoint& endpoint) { return reinterpret_cast<sockaddr_in&>(endpoint.storage); }
sockaddr_in6& v6(Endpoint& endpoint) { return reinterpret_cast<sockaddr_in6&>(endpoint.storage); }
const sockaddr_in& v4(const Endpoint& endpoint) { return reinterpret_cast<const sockaddr_in&>(endpoint.storage); }
const sockaddr_in6& v6(const Endpoint& endpoint) { return reinterpret_cast<const sockaddr_in6&>(endpoint.storage); }

}  // namespace

Result<HostPort> split_host_port(const std::string& addr) {
  const std::size_t colon = addr.rfind(':');
  if (colon == std::string::npos || addr.back() == ']') return fail(Errc::BadRequest, "address " + addr + ": missing port in address");
  HostPort out{.host = addr.substr(0, colon)};
  const char* const end = addr.data() + addr.size();
  const auto [stop, error] = std::from_chars(addr.data() + colon + 1, end, out.port);
  if (error != std::errc() || stop != end) return fail(Errc::BadRequest, "address " + addr + ": invalid port");
  if (out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']') out.host = out.host.substr(1, out.host.size() - 2);
  else if (out.host.find(':') != std::string::npos) return fail(Errc::BadRequest, "address " + addr + ": too many colons in address");
  return out;
}

bool Endpoint::operator==(const Endpoint& other) const { return size == other.size && std::memcmp(&storage, &other.storage, size) == 0; }

std::optional<Endpoint> numeric_endpoint(const std::string& host, std::uint16_t port) {
  Endpoint out = any_endpoint(AF_INET, port);
  if (::inet_pton(AF_INET, host.c_str(), &v4(out).sin_addr) == 1) return out;
  const std::size_t percent = host.find('%');
  out = any_endpoint(AF_INET6, port);
  if (::inet_pton(AF_INET6, host.substr(0, percent).c_str(), &v6(out).sin6_addr) != 1) return std::nullopt;
  if (percent != std::string::npos) v6(out).sin6_scope_id = ::if_nametoindex(host.c_str() + percent + 1);
  return out;
}

Endpoint any_endpoint(int family, std::uint16_t port) {
  Endpoint out;
  out.storage.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET6) {
    out.size = sizeof(sockaddr_in6);
    v6(out).sin6_port = htons(port);
  } else {
    out.size = sizeof(sockaddr_in);
    v4(out).sin_port = htons(port);
  }
  return out;
}

std::uint16_t port_of(const Endpoint& endpoint) { return ntohs(endpoint.family() == AF_INET6 ? v6(endpoint).sin6_port : v4(endpoint).sin_port); }

std::string text_of(const Endpoint& endpoint) {
  char text[INET6_ADDRSTRLEN] = {};
  const std::string port = std::to_string(port_of(endpoint));
  if (endpoint.family() != AF_INET6) {
    ::inet_ntop(AF_INET, &v4(endpoint).sin_addr, text, sizeof text);
    return std::string(text) + ":" + port;
  }
  // A dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d; people don't.
  const in6_addr& address = v6(endpoint).sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    ::inet_ntop(AF_INET, &address.s6_addr[12], text, sizeof text);
    return std::string(text) + ":" + port;
  }
  ::inet_ntop(AF_INET6, &address, text, sizeof text);
  return "[" + std::string(text) + "]:" + port;
}

std::string errno_text(int error) {
  switch (error) {
    case ECONNREFUSED: return "connection refused";
    case ECONNRESET: return "connection reset by peer";
    case ETIMEDOUT: return "i/o timeout";
    case EHOSTUNREACH: return "no route to host";
    case ENETUNREACH: return "network is unreachable";
    case EADDRINUSE: return "address already in use";
    case EPIPE: return "broken pipe";
    default: break;
  }
  std::string text = std::generic_category().message(error);
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

}  // namespace rq::transport
