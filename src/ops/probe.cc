#include "ops/probe.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace rq::ops {
namespace {

using Deadline = std::chrono::steady_clock::time_point;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Result<Addresses> look_up(const std::string& host, const std::string& port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int code = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.empty() ? nullptr : port.c_str(), &hints, &list);
  if (code != 0) return fail(Errc::Io, ::gai_strerror(code));
  return Addresses(list);
}

bool wait_for(int fd, short events, Deadline deadline) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return false;
    pollfd poller{fd, events, 0};
    const int ready = ::poll(&poller, 1, static_cast<int>(left));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

Result<Socket> dial(const std::string& addr, Deadline deadline) {
  const Address parts = split_address(addr);
  RQ_TRY(const Addresses list, look_up(parts.host.empty() ? "localhost" : parts.host, parts.port, 0));
  Error last{Errc::Unreachable, "no address"};
  for (const addrinfo* item = list.get(); item != nullptr; item = item->ai_next) {
    Socket socket(::socket(item->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (socket.fd() < 0) continue;
    if (::connect(socket.fd(), item->ai_addr, item->ai_addrlen) == 0) return socket;
    int error = errno;
    if (error == EINPROGRESS) {
      if (!wait_for(socket.fd(), POLLOUT, deadline)) return fail(Errc::Timeout, "no answer within the time");
      socklen_t size = sizeof error;
      ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error == 0) return socket;
    }
    last.detail = std::strerror(error);
  }
  return fail(last);
}

}  // namespace

Address split_address(const std::string& addr) {
  const std::size_t colon = addr.rfind(':');
  if (colon == std::string::npos) return {addr, {}};
  std::string host = addr.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return {host, addr.substr(colon + 1)};
}

Result<std::vector<std::string>> resolve(const std::string& host) {
  RQ_TRY(const Addresses list, look_up(host, {}, 0));
  std::vector<std::string> out;
  for (const addrinfo* item = list.get(); item != nullptr; item = item->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(item->ai_addr, item->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0) out.emplace_back(text);
  }
  return out;
}

Result<> reach(const std::string& addr, std::chrono::milliseconds timeout) {
  RQ_TRY(const Socket socket, dial(addr, std::chrono::steady_clock::now() + timeout));
  return {};
}

Result<> can_bind(const std::string& addr) {
  const Address parts = split_address(addr);
  RQ_TRY(const Addresses list, look_up(parts.host, parts.port, AI_PASSIVE));
  Error last{Errc::Io, "no address"};
  for (const addrinfo* item = list.get(); item != nullptr; item = item->ai_next) {
    const Socket socket(::socket(item->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    if (socket.fd() < 0) continue;
    ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(socket.fd(), item->ai_addr, item->ai_addrlen) == 0 && ::listen(socket.fd(), 1) == 0) return {};
    last = {errno == EADDRINUSE ? Errc::AlreadyExists : Errc::Io, std::strerror(errno)};
    if (last.code == Errc::AlreadyExists) break;
  }
  return fail(last);
}

Result<HttpAnswer> http_get(const std::string& addr, const std::string& path, std::chrono::milliseconds timeout) {
  const Deadline deadline = std::chrono::steady_clock::now() + timeout;
  RQ_TRY(const Socket socket, dial(addr, deadline));
  const std::string request = "GET " + path + " HTTP/1.0\r\nHost: " + addr + "\r\n\r\n";
  if (!wait_for(socket.fd(), POLLOUT, deadline) || ::send(socket.fd(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
    return fail(Errc::Io, "request not sent");
  std::string text;
  char piece[16384];
  for (;;) {
    if (!wait_for(socket.fd(), POLLIN, deadline)) return fail(Errc::Timeout, "no answer within the time");
    const ssize_t size = ::recv(socket.fd(), piece, sizeof piece, 0);
    if (size < 0 && errno == EAGAIN) continue;
    if (size < 0) return fail(Errc::Io, std::strerror(errno));
    if (size == 0 || text.size() > (16u << 20)) break;
    text.append(piece, static_cast<std::size_t>(size));
  }
  const std::size_t head = text.find("\r\n\r\n");
  if (!text.starts_with("HTTP/1.") || head == std::string::npos) return fail(Errc::Io, "the answer is not HTTP");
  HttpAnswer out{.status = std::atoi(text.c_str() + 9), .body = text.substr(head + 4)};
  if (const std::size_t date = text.find("\r\nDate: "); date != std::string::npos && date < head) out.date = text.substr(date + 8, text.find('\r', date + 2) - date - 8);
  return out;
}

}  // namespace rq::ops
