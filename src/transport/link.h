// Link: one TCP connection between nodes, whoever opened it: frames in and out, inside of TLS where that is on. Private to
// transport/.
//
// Threads: send() and queued() from any; everything else on the thread of the owner's context. The output side has a mutex; a
// TLS session is used with it held, the plain text of one read is handled without it.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#pragma GCC diagnostic pop

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "tls/tls.h"
#include "transport/frames.h"

namespace rq::transport {

namespace net = boost::asio;
using Tcp = net::ip::tcp;
using boost::system::error_code;
using Socket = net::basic_stream_socket<Tcp, net::io_context::executor_type>;

// The words in which Go's net package says it; clients print them.
std::string reason(const error_code& error);

class LinkOwner {
 public:
  virtual net::io_context& context() = 0;
  virtual void complain(const std::string& remote, const std::string& why) = 0;
  virtual void handshake_failed(const std::string& remote, const std::string& why) = 0;
  // Bytes of messages that are not whole yet, of all links.
  std::size_t held = 0;

 protected:
  ~LinkOwner() = default;
};

class Link : public std::enable_shared_from_this<Link> {
 public:
  Link(LinkOwner& owner, Socket&& socket) : owner_(owner), socket_(std::move(socket)) {}

  // Before start(): all that comes and goes is inside of this session. `established`: null, or called once it is.
  void secure(std::unique_ptr<tls::Session> session, std::function<void()> established);
  void start();                                    // begins to read
  // Any thread. Sends at once where nothing waits; false: closed, or more than `limit` bytes wait.
  bool send(std::string&& bytes, std::size_t limit);
  void close();                                    // peer thread; the owner hears nothing of it
  std::size_t queued() const {
    const std::lock_guard lock(mutex_);
    return out_.size() - out_at_ + before_handshake_.size();
  }
  Socket& socket() { return socket_; }
  const std::string& remote() const { return remote_; }
  const std::string& local() const { return local_; }
  // Set by the owner. on_frame: false ends the link. on_end: once, after an error or the end of the stream.
  std::function<bool(MessageFrame&&)> on_frame;
  std::function<bool(MessageFrame&&)> next_on_frame;   // takes on_frame's place when that returns
  std::function<void()> on_batch_end;
  std::function<void(const error_code&, const std::string& why)> on_end;
  FrameReader reader;
  bool heard = false;                              // a whole message came
  bool may_idle_out = false;                       // of calls: ends when nobody uses it
  const std::shared_ptr<std::atomic<int>> serving = std::make_shared<std::atomic<int>>(0);   // requests of it under way here
  SteadyTime last_used = std::chrono::steady_clock::now();
  SteadyTime born = std::chrono::steady_clock::now();

 private:
  void note_addresses();
  void read();
  bool decrypt(std::string_view bytes, std::string& plain, std::string& why);
  void queue(std::string&& bytes, const std::lock_guard<std::mutex>& lock);
  void wait_writable();
  void end(const error_code& error, const std::string& why);
  bool hold(std::size_t bytes);
  bool write_some(const std::lock_guard<std::mutex>&);

  LinkOwner& owner_;
  Socket socket_;
  std::string in_;
  std::size_t held_ = 0;                           // its part of owner_.held
  std::string remote_, local_;
  mutable std::mutex mutex_;                       // guards the output side below, and the closing of the socket
  std::unique_ptr<tls::Session> session_;
  std::function<void()> established_;
  std::string before_handshake_;                   // plain text that waits for the end of the handshake
  std::string out_;
  std::size_t out_at_ = 0;
  bool waiting_writable_ = false;
  bool closed_ = false;
};

}  // namespace rq::transport
