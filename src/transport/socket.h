// Socket: a connected TCP stream that never blocks. The only class that moves bytes of a connection: encryption will be
// another body of the same calls. read() and write() may run at the same time on two threads, close() with neither.
#pragma once

#include <sys/uio.h>

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "transport/address.h"
#include "transport/loop.h"

namespace rq::transport {

// Owns a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_;
};

class Socket {
 public:
  enum class Step { Done, Again, End, Failed };
  struct Moved {
    Step step = Step::Again;
    std::size_t size = 0;
    int error = 0;                                 // Failed: errno
  };

  Socket(Loop& loop, Descriptor&& connected);      // peer thread
  ~Socket() { close(); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Called when wait_*() has come true; set before the first wait.
  void on_ready(std::function<void()> readable, std::function<void()> writable);
  void wait_readable() { watch_->wait_readable(); }
  void wait_writable() { watch_->wait_writable(); }

  Moved read(std::span<char> into);                // End: the other side has finished sending
  Moved write(std::span<const iovec> from);
  void finish_sending();                           // the other side reads an end; reading goes on
  void close();                                    // peer thread; no callback comes any more

  // The connection fails when what was sent stays unacknowledged for so long; a peer that vanished is noticed by probes.
  void set_patience(std::chrono::milliseconds unacknowledged);
  const std::string& local() const { return local_; }
  const std::string& remote() const { return remote_; }

 private:
  Loop& loop_;
  Descriptor fd_;
  std::unique_ptr<Loop::Watch> watch_;
  std::string local_, remote_;
};

// A listening port.
class Listener {
 public:
  // Errc::Io, the reason in Go's words.
  static Result<std::unique_ptr<Listener>> open(Loop& loop, const Endpoint& endpoint, bool v6_only);
  ~Listener() { close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void start(std::function<void(Descriptor&&)> accepted);
  void close();
  const Endpoint& endpoint() const { return endpoint_; }

 private:
  Listener(Loop& loop, Descriptor&& fd, const Endpoint& endpoint) : loop_(loop), fd_(std::move(fd)), endpoint_(endpoint), pause_(loop) {}
  void accept_some();

  Loop& loop_;
  Descriptor fd_;
  Endpoint endpoint_;
  std::unique_ptr<Loop::Watch> watch_;
  Loop::Timer pause_;
  std::function<void(Descriptor&&)> accepted_;
};

}  // namespace rq::transport
