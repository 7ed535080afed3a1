// Addresses as people write them ("host:port", "[::1]:4002", ":4002") and as the kernel takes them. Pure.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace rq::transport {

struct HostPort {
  std::string host;                                // without brackets; may be empty
  std::uint16_t port = 0;
};
// Errc::BadRequest, in Go's words: "address A: missing port in address", "address A: invalid port".
Result<HostPort> split_host_port(const std::string& addr);

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t size = 0;
  int family() const { return storage.ss_family; }
  const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&storage); }
  bool operator==(const Endpoint& other) const;
};
// "127.0.0.1", "::1", "fe80::1%eth0"; nullopt: a name.
std::optional<Endpoint> numeric_endpoint(const std::string& host, std::uint16_t port);
Endpoint any_endpoint(int family, std::uint16_t port);
std::string text_of(const Endpoint& endpoint);     // "127.0.0.1:4002", "[::1]:4002"
std::uint16_t port_of(const Endpoint& endpoint);

// errno in the words of Go's net package: clients see them.
std::string errno_text(int error);

}  // namespace rq::transport
