#include "http/server_stream.h"

#include <algorithm>

namespace rq::http {

namespace net = boost::asio;

namespace {
constexpr std::size_t kEncryptedAtOnce = 64 * 1024;
constexpr std::size_t kKept = 16 * 1024;
constexpr std::string_view kPlainOnTls = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

bool looks_like_http(std::string_view bytes) {
  return bytes.size() >= 4 && std::ranges::all_of(bytes.substr(0, 3), [](char c) { return c >= 'A' && c <= 'Z'; });
}
}  // namespace

std::size_t Stream::decrypt(std::string& buffer, std::size_t end, error_code& error) {
  const std::size_t size = socket_.read_some(net::buffer(scratch_), error);
  if (error == net::error::would_block || error == net::error::try_again) error = {};
  if (error || size == 0) return 0;
  const std::string_view bytes(scratch_.data(), size);
  if (!std::exchange(begun_, true) && !tls::is_handshake(bytes) && looks_like_http(bytes)) {
    error_code ignored;
    (void)socket_.write_some(net::buffer(kPlainOnTls), ignored);
    failure_ = "client sent an HTTP request to an HTTPS server";
    error = net::error::connection_aborted;
    return 0;
  }
  buffer.resize(end);
  ended_ = !session_->receive(bytes, buffer);
  if (ended_) failure_ = session_->error();
  wire_ += session_->out();            // small: an empty socket buffer takes it, else it goes with the next bytes
  session_->out().clear();
  error_code ignored;
  (void)send_wire(ignored);
  if (ended_ && buffer.size() == end) error = net::error::eof;
  return buffer.size() - end;
}

// True: all that was encrypted is on its way.
bool Stream::send_wire(error_code& error) {
  error = {};
  while (wire_at_ < wire_.size()) {
    const std::size_t sent = socket_.write_some(net::buffer(wire_.data() + wire_at_, wire_.size() - wire_at_), error);
    if (error) return false;
    wire_at_ += sent;
  }
  wire_at_ = 0;
  if (wire_.capacity() > kKept) std::string().swap(wire_);
  else wire_.clear();
  return true;
}

std::size_t Stream::encrypt(std::string_view bytes, error_code& error) {
  if (accepted_ == 0 && send_wire(error)) {
    bytes = bytes.substr(0, kEncryptedAtOnce);
    if (!session_->send(bytes)) {
      error = net::error::connection_aborted;
      return 0;
    }
    wire_.swap(session_->out());
    session_->out().clear();
    accepted_ = bytes.size();
  }
  if (!error && send_wire(error)) return std::exchange(accepted_, 0);
  if (error == net::error::try_again) error = net::error::would_block;
  return 0;
}

void Stream::finish_sending() {
  error_code ignored;
  if (session_ && session_->established() && wire_.empty()) {
    session_->finish();
    wire_.swap(session_->out());
    (void)send_wire(ignored);
  }
  socket_.shutdown(Tcp::socket::shutdown_send, ignored);
}

void Stream::close() {
  error_code ignored;
  finish_sending();
  socket_.shutdown(Tcp::socket::shutdown_both, ignored);
  socket_.close(ignored);
}

void Stream::reset() {
  error_code ignored;
  socket_.set_option(net::socket_base::linger(true, 0), ignored);
  socket_.close(ignored);              // no shutdown: that would look like an orderly end
}

}  // namespace rq::http
