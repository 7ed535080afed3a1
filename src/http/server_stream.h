// Stream: a client's socket, with or without TLS. Private to server.cc. Without TLS every call goes straight to the socket.
//
// One thread. Handlers must keep the stream's owner alive.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#pragma GCC diagnostic pop

#include <memory>
#include <string>
#include <string_view>

#include "tls/tls.h"

namespace rq::http {

class Stream {
 public:
  using Tcp = boost::asio::ip::tcp;
  using Socket = boost::asio::basic_stream_socket<Tcp, boost::asio::io_context::executor_type>;
  using error_code = boost::system::error_code;

  // `session`: null without TLS. `scratch`: of the thread; what comes is decrypted from there, so that idle connections hold
  // no buffers.
  Stream(Socket&& socket, std::unique_ptr<tls::Session> session, std::string& scratch)
      : socket_(std::move(socket)), session_(std::move(session)), scratch_(scratch) {}

  Socket& socket() { return socket_; }
  bool handshaking() const { return session_ && !session_->established(); }
  // Why the session failed.
  const std::string& failure() const { return failure_; }

  // Puts what comes behind buffer[0, end), which must live until then; makes room for `chunk` bytes. handler(error, bytes).
  template <class Handler>
  void async_read(std::string& buffer, std::size_t end, std::size_t chunk, Handler handler) {
    namespace net = boost::asio;
    if (!session_) {
      if (buffer.size() < end + chunk) buffer.resize(end + chunk);
      return socket_.async_read_some(net::buffer(buffer.data() + end, buffer.size() - end), std::move(handler));
    }
    if (ended_) return net::post(socket_.get_executor(), [handler = std::move(handler)]() mutable { handler(net::error::eof, 0); });
    socket_.async_wait(Tcp::socket::wait_read, [this, &buffer, end, chunk, handler = std::move(handler)](error_code error) mutable {
      const std::size_t size = error ? 0 : decrypt(buffer, end, error);
      if (!error && size == 0) return async_read(buffer, end, chunk, std::move(handler));   // a part of a record
      handler(error, size);
    });
  }

  // As the socket's. With TLS a call that would block must be repeated with the same bytes.
  std::size_t write_some(std::string_view bytes, error_code& error) {
    return session_ ? encrypt(bytes, error) : socket_.write_some(boost::asio::buffer(bytes), error);
  }
  template <class Handler>
  void async_write_some(std::string_view bytes, Handler handler) {
    namespace net = boost::asio;
    if (!session_) return socket_.async_write_some(net::buffer(bytes), std::move(handler));
    socket_.async_wait(Tcp::socket::wait_write, [this, bytes, handler = std::move(handler)](error_code error) mutable {
      const std::size_t size = error ? 0 : encrypt(bytes, error);
      if (error == net::error::would_block) return async_write_some(bytes, std::move(handler));
      handler(error, size);
    });
  }

  void finish_sending();
  void close();
  // An end that no client takes for an orderly one.
  void reset();

 private:
  std::size_t decrypt(std::string& buffer, std::size_t end, error_code& error);
  std::size_t encrypt(std::string_view bytes, error_code& error);
  bool send_wire(error_code& error);

  Socket socket_;
  std::unique_ptr<tls::Session> session_;
  std::string& scratch_;
  std::string wire_, failure_;         // wire_[wire_at_, ): encrypted, not sent yet
  std::size_t wire_at_ = 0;
  std::size_t accepted_ = 0;           // bytes of the caller that are in wire_
  bool begun_ = false, ended_ = false;
};

}  // namespace rq::http
