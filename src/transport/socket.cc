#include "transport/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>

namespace rq::transport {
namespace {

constexpr int kBacklog = 512;
constexpr auto kAcceptPause = std::chrono::milliseconds(50);

void set_option(int fd, int level, int name, int value) { (void)::setsockopt(fd, level, name, &value, sizeof value); }

Endpoint endpoint_of(int fd, int (*ask)(int, sockaddr*, socklen_t*)) {
  Endpoint out;
  out.size = sizeof out.storage;
  if (ask(fd, reinterpret_cast<sockaddr*>(&out.storage), &out.size) != 0) out.size = 0;
  return out;
}

}  // namespace

void Descriptor::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

// ---- socket

Socket::Socket(Loop& loop, Descriptor&& connected) : loop_(loop), fd_(std::move(connected)) {
  set_option(fd_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  // A peer whose machine vanished sends no end: it is asked after five silent seconds.
  set_option(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd_.get(), IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set_option(fd_.get(), IPPROTO_TCP, TCP_KEEPINTVL, 3);
  set_option(fd_.get(), IPPROTO_TCP, TCP_KEEPCNT, 3);
  local_ = text_of(endpoint_of(fd_.get(), ::getsockname));
  remote_ = text_of(endpoint_of(fd_.get(), ::getpeername));
}

void Socket::on_ready(std::function<void()> readable, std::function<void()> writable) {
  watch_ = std::make_unique<Loop::Watch>(loop_, fd_.get(), std::move(readable), std::move(writable));
}

Socket::Moved Socket::read(std::span<char> into) {
  while (true) {
    const ssize_t got = ::recv(fd_.get(), into.data(), into.size(), MSG_DONTWAIT);
    if (got > 0) return {.step = Step::Done, .size = static_cast<std::size_t>(got)};
    if (got == 0) return {.step = Step::End};
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {.step = Step::Again};
    return {.step = Step::Failed, .error = errno};
  }
}

Socket::Moved Socket::write(std::span<const iovec> from) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(from.data());
  message.msg_iovlen = from.size();
  while (true) {
    const ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return {.step = Step::Done, .size = static_cast<std::size_t>(sent)};
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {.step = Step::Again};
    return {.step = Step::Failed, .error = errno};
  }
}

void Socket::finish_sending() { (void)::shutdown(fd_.get(), SHUT_WR); }

void Socket::close() {
  watch_.reset();
  fd_.reset();
}

void Socket::set_patience(std::chrono::milliseconds unacknowledged) {
  set_option(fd_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(unacknowledged.count()));
}

// ---- listener

Result<std::unique_ptr<Listener>> Listener::open(Loop& loop, const Endpoint& endpoint, bool v6_only) {
  Descriptor fd(::socket(endpoint.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fail(Errc::Io, errno_text(errno));
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (endpoint.family() == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, v6_only ? 1 : 0);
  if (::bind(fd.get(), endpoint.raw(), endpoint.size) != 0) return fail(Errc::Io, "bind: " + errno_text(errno));
  if (::listen(fd.get(), kBacklog) != 0) return fail(Errc::Io, "listen: " + errno_text(errno));
  const Endpoint bound = endpoint_of(fd.get(), ::getsockname);
  return std::unique_ptr<Listener>(new Listener(loop, std::move(fd), bound));
}

void Listener::start(std::function<void(Descriptor&&)> accepted) {
  accepted_ = std::move(accepted);
  watch_ = std::make_unique<Loop::Watch>(loop_, fd_.get(), [this] { accept_some(); }, nullptr);
  watch_->wait_readable();
}

void Listener::accept_some() {
  for (int i = 0; i < kBacklog; ++i) {
    const int fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      accepted_(Descriptor(fd));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) break;
    // Out of descriptors or memory: the port would stay readable, so ask again a little later.
    return pause_.after(kAcceptPause, [this] { accept_some(); });
  }
  watch_->wait_readable();
}

void Listener::close() {
  pause_.cancel();
  watch_.reset();
  fd_.reset();
}

}  // namespace rq::transport
