#include "transport/link.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <boost/asio/post.hpp>
#pragma GCC diagnostic pop

#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>

namespace rq::transport {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kKeptBuffer = 256 * 1024;
constexpr std::size_t kHeldMax = 1u << 30;         // of all links: strangers may begin many large messages
constexpr std::size_t kHeldFree = 2 * kFramePayloadMax;

std::string text_of(const Tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(endpoint.port());
}

}  // namespace

std::string reason(const error_code& error) {
  if (error == net::error::connection_refused) return "connection refused";
  if (error == net::error::connection_reset) return "connection reset by peer";
  if (error == net::error::timed_out) return "i/o timeout";
  if (error == net::error::host_unreachable) return "no route to host";
  if (error == net::error::network_unreachable) return "network is unreachable";
  std::string text = error.message();
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

void Link::note_addresses() {
  error_code ignored;
  const Tcp::endpoint remote = socket_.remote_endpoint(ignored);
  if (!ignored) remote_ = text_of(remote);
  const Tcp::endpoint local = socket_.local_endpoint(ignored);
  if (!ignored) local_ = text_of(local);
}

void Link::start() {
  error_code ignored;
  socket_.set_option(Tcp::no_delay(true), ignored);
  socket_.set_option(net::socket_base::keep_alive(true), ignored);
  socket_.non_blocking(true, ignored);
  const unsigned unanswered_ms = 30'000;
  ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms);
  note_addresses();
  in_.resize(kReadBytes);
  {
    const std::lock_guard lock(mutex_);
    if (session_ && !session_->out().empty()) queue(std::exchange(session_->out(), {}), lock);
  }
  read();
}

void Link::secure(std::unique_ptr<tls::Session> session, std::function<void()> established) {
  const std::lock_guard lock(mutex_);
  session_ = std::move(session);
  established_ = std::move(established);
  session_->begin();
}

// What the session makes of bytes of the peer. False: it has ended, `why` says how.
bool Link::decrypt(std::string_view bytes, std::string& plain, std::string& why) {
  std::function<void()> established;
  bool good = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    good = session_->receive(bytes, plain);
    if (session_->established()) {
      established = std::exchange(established_, nullptr);
      if (good && !before_handshake_.empty()) (void)session_->send(std::exchange(before_handshake_, {}));
    }
    if (!session_->out().empty()) queue(std::exchange(session_->out(), {}), lock);
    if (!good) why = session_->error();
  }
  if (good && established) established();
  return good;
}

void Link::read() {
  socket_.async_read_some(net::buffer(in_), [self = shared_from_this()](const error_code& error, std::size_t size) {
    if (error) return self->end(error, error == net::error::eof ? "EOF" : "read: " + reason(error));
    self->last_used = std::chrono::steady_clock::now();
    std::string_view bytes(self->in_.data(), size);
    std::string plain, why;
    bool going_on = true;
    if (self->session_) {
      going_on = self->decrypt(bytes, plain, why);
      if (!going_on && why != "EOF" && !self->heard) self->owner_.handshake_failed(self->remote_, why);
      if (!going_on) return self->end(net::error::operation_aborted, why);
      bytes = plain;
    }
    while (going_on) {
      Result<std::optional<MessageFrame>> frame = self->reader.next(bytes);
      if (!frame) {
        if (self->on_batch_end) self->on_batch_end();
        self->owner_.complain(self->remote_, frame.error().text());
        return self->end(net::error::invalid_argument, frame.error().text());
      }
      if (!*frame) break;
      self->heard = true;
      going_on = self->on_frame && self->on_frame(std::move(**frame));
      if (self->next_on_frame) self->on_frame = std::exchange(self->next_on_frame, nullptr);
    }
    if (self->on_batch_end) self->on_batch_end();
    if (going_on && !self->hold(self->reader.held())) {
      self->owner_.complain(self->remote_, "too many large messages are coming in");
      going_on = false;
    }
    if (!going_on) return self->end(net::error::operation_aborted, "closed");
    self->read();
  });
}

// False: all links together hold too much, and this one not only a little of it.
bool Link::hold(std::size_t bytes) {
  owner_.held += bytes - held_;
  held_ = bytes;
  return owner_.held <= kHeldMax || held_ <= kHeldFree;
}

bool Link::write_some(const std::lock_guard<std::mutex>&) {
  while (out_at_ < out_.size()) {
    const ssize_t sent = ::send(socket_.native_handle(), out_.data() + out_at_, out_.size() - out_at_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK;   // an error shows up at the reader too
    out_at_ += static_cast<std::size_t>(sent);
  }
  out_at_ = 0;
  if (out_.capacity() > kKeptBuffer) std::string().swap(out_);
  else out_.clear();
  return true;
}

bool Link::send(std::string&& bytes, std::size_t limit) {
  const std::lock_guard lock(mutex_);
  if (closed_ || out_.size() - out_at_ + before_handshake_.size() + bytes.size() > limit + kFramePayloadMax) return false;
  if (!session_) {
    queue(std::move(bytes), lock);
  } else if (!session_->established()) {
    before_handshake_ += bytes;
    if (!session_->out().empty()) queue(std::exchange(session_->out(), {}), lock);
  } else {
    if (!session_->send(bytes)) return false;
    queue(std::exchange(session_->out(), {}), lock);
  }
  return true;
}

// Bytes as they go over the wire: at once where nothing waits.
void Link::queue(std::string&& bytes, const std::lock_guard<std::mutex>& lock) {
  const bool nothing_waits = out_.empty();
  if (nothing_waits) out_ = std::move(bytes);
  else out_ += bytes;
  if (nothing_waits) (void)write_some(lock);
  if (out_.empty() || waiting_writable_) return;
  waiting_writable_ = true;
  net::post(owner_.context(), [self = shared_from_this()] { self->wait_writable(); });
}

void Link::wait_writable() {
  socket_.async_wait(Tcp::socket::wait_write, [self = shared_from_this()](const error_code& error) {
    const std::lock_guard lock(self->mutex_);
    self->waiting_writable_ = false;
    if (error || self->closed_ || !self->write_some(lock) || self->out_.empty()) return;
    self->waiting_writable_ = true;
    self->wait_writable();
  });
}

void Link::close() {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    if (session_ && session_->established() && out_.empty()) {
      session_->finish();
      out_ = std::exchange(session_->out(), {});
      (void)write_some(lock);
    }
    established_ = nullptr;
    error_code ignored;
    socket_.shutdown(Tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
  }
  (void)hold(0);
  on_frame = nullptr;
  on_batch_end = nullptr;
  on_end = nullptr;
}

void Link::end(const error_code& error, const std::string& why) {
  auto told = std::move(on_end);
  const auto keep = shared_from_this();
  close();
  if (told) told(error, why);
}

}  // namespace rq::transport
