#include "cluster/http_probe.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

namespace rq::cluster {
namespace {

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

bool wait(int fd, short events, std::chrono::steady_clock::time_point deadline) {
  pollfd poller{fd, events, 0};
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return ::poll(&poller, 1, static_cast<int>(std::max<long long>(left.count(), 0))) > 0;
}

bool answers_http(const addrinfo& address, std::chrono::steady_clock::time_point deadline) {
  const Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) return false;
  if (::connect(socket.fd(), address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS) return false;
  if (!wait(socket.fd(), POLLOUT, deadline)) return false;
  static constexpr std::string_view kRequest = "GET /status HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";
  if (::send(socket.fd(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(kRequest.size())) return false;
  if (!wait(socket.fd(), POLLIN, deadline)) return false;
  char answer[5];
  return ::recv(socket.fd(), answer, sizeof answer, 0) == 5 && std::string_view(answer, 5) == "HTTP/";
}

}  // namespace

bool serves_http(const std::string& addr, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  const std::size_t colon = addr.rfind(':');
  if (colon == std::string::npos) return false;
  std::string host = addr.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), addr.substr(colon + 1).c_str(), &hints, &found) != 0) return false;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next)
    if (answers_http(*address, deadline)) return true;
  return false;
}

}  // namespace rq::cluster
