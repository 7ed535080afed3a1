// Names that mean this machine whatever a resolver says or lacks (RFC 6761 section 6.3): a bare system may have no /etc/hosts.
#pragma once

#include <algorithm>
#include <string_view>

namespace rq {

inline constexpr const char* kLoopback = "127.0.0.1";     // what such a name stands for when it can't be resolved

inline bool is_localhost(std::string_view host) {
  constexpr std::string_view kName = "localhost";
  if (host.size() < kName.size()) return false;
  const std::string_view tail = host.substr(host.size() - kName.size());
  const bool named = std::equal(tail.begin(), tail.end(), kName.begin(), [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
  return named && (host.size() == kName.size() || host[host.size() - kName.size() - 1] == '.');
}

}  // namespace rq
